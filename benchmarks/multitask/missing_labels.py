"""Labels of one task missing: joint training beside a network for that task alone.

    python benchmarks/multitask/missing_labels.py DIR [--seeds 5] [--rows 0]
        [--shares 0 0.3 0.6 0.9] [--workers 1] [--plot PATH] [--json PATH]

DIR holds the Census-Income data, as `census.py` says. A share of the labels of income
is taken out of the training rows at random, for each seed anew; "never married" is
known for all. Test AUC of income, of

- joint: MMoE on all rows and both tasks, with NaN where a label is missing;
- alone: the same network with the one task, on the rows that have the label;
- boosting: histogram boosting on the same rows as alone.

Networks have the sizes of `census.py`. For each the
epoch with the best validation AUC of its tasks is kept (validation rows have all
labels); how long it may train, and go on without a better one, is set in steps and the
same for all. Differences are paired over seeds: their mean,
standard error, and p-value of the paired t-test. There is no figure to reach. `--rows`
takes the first rows of the training part alone.
"""

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _data import Part, load_census
from _peers import boosting, one_thread
from _report import print_table, progress, write_json
from census import SIZES
from joblib import Parallel, delayed
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score

from skmoe.multitask import MMoEClassifier

MODELS = ("joint", "alone", "boosting")
# Steps of training at most, and without a better score: 20 and 3 epochs of all rows.
STEPS, PATIENCE = 4_000, 600


def fit_network(train, valid, seed):
    """Fit the network; return the probability of income of rows, and the epochs."""
    batches = -(-len(train.y) // SIZES["batch_size"])
    options = SIZES | {"n_iter_no_change": max(1, round(PATIENCE / batches))}
    options |= {"max_epochs": round(STEPS / batches), "random_state": seed}
    model = MMoEClassifier(**options)
    y, y_val = (
        part.y if part.y.shape[1] > 1 else part.y[:, 0] for part in (train, valid)
    )
    model.fit(train.X, y, X_val=valid.X, y_val=y_val)

    def proba(X):
        each = model.predict_proba(X)
        first = each[0] if isinstance(each, list) else each
        return first[:, 1]

    return proba, model.n_iter_


def fit_model(name, data, train, known, seed):
    """Return the same for one of the models, given which rows have the label."""
    if name == "joint":
        y = train.y.astype(float)
        y[~known, 0] = np.nan
        return fit_network(Part(train.X, y), data.valid, seed)
    labelled = Part(train.X[known], train.y[known, :1])
    valid = Part(data.valid.X, data.valid.y[:, :1])
    if name == "alone":
        return fit_network(labelled, valid, seed)
    proba, n_rounds = boosting(labelled, valid, seed)
    return lambda X: proba(X)[0], n_rounds[0]


def run(folder, n_rows, share, seed, name):
    """Return what one model comes to with one draw of missing labels."""
    data = load_census(folder, 1)
    train = data.train.head(n_rows or len(data.train.y))
    known = np.random.default_rng(seed).random(len(train.y)) >= share
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.process_time()
        proba, epochs = fit_model(name, data, train, known, seed)
        seconds = time.process_time() - begin
        area = roc_auc_score(data.test.y[:, 0], proba(data.test.X))
    return {
        "share": share,
        "seed": seed,
        "model": name,
        "auc": float(area),
        "labels": int(known.sum()),
        "seconds": seconds,
        "epochs": epochs,
    }


def share_rows(results, shares):
    """Return a row for each share: means over seeds and paired differences."""
    rows = []
    for share in shares:
        found = [r for r in results if r["share"] == share]
        auc = {
            name: np.array([r["auc"] for r in found if r["model"] == name])
            for name in MODELS
        }
        row = {"share": share, "labels": float(np.mean([r["labels"] for r in found]))}
        for name, values in auc.items():
            row[name] = values.mean()
            row[f"{name}_sd"] = values.std(ddof=1)
            seconds = [r["seconds"] for r in found if r["model"] == name]
            row[f"{name}_seconds"] = np.mean(seconds)
        gain = auc["joint"] - auc["alone"]
        row["gain"] = gain.mean()
        row["error"] = gain.std(ddof=1) / len(gain) ** 0.5
        row["p_value"] = float(ttest_rel(auc["joint"], auc["alone"]).pvalue)
        rows.append(row)
    return rows


def draw(rows, path):
    """Draw AUC against the share of missing labels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    shares = [100 * row["share"] for row in rows]
    for name in MODELS:
        means = [row[name] for row in rows]
        spread = [row[f"{name}_sd"] for row in rows]
        axes.errorbar(shares, means, yerr=spread, marker="o", capsize=3, label=name)
    axes.set_xlabel("labels of income missing, %")
    axes.set_ylabel("test AUC of income, mean and sd over seeds")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


COLUMNS = [
    ("share", "missing", ".0%"),
    ("labels", "labels", ".0f"),
    *[(name, name, ".4f") for name in MODELS],
    ("joint_sd", "joint sd", ".4f"),
    ("alone_sd", "alone sd", ".4f"),
    ("gain", "joint - alone", "+.4f"),
    ("error", "standard error", ".4f"),
    ("p_value", "p-value", ".3f"),
    *[(f"{name}_seconds", f"{name} CPU s", ".0f") for name in MODELS],
]


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="0: all")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.3, 0.6, 0.9])
    parser.add_argument("--workers", type=int, default=1, help="fits at a time")
    parser.add_argument("--plot", type=pathlib.Path, metavar="PATH")
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: differences need a standard error")
    return options


def main():
    """Run all fits; print the table and draw the curve."""
    options = parse_options()
    jobs = [
        (str(options.dir), options.rows, share, seed, name)
        for seed in range(options.seeds)
        for share in options.shares
        for name in MODELS
    ]
    results = []
    parallel = Parallel(n_jobs=options.workers, return_as="generator")
    for result in parallel(delayed(run)(*job) for job in jobs):
        results.append(result)
        progress(
            f"{result['share']:.0%} missing, seed {result['seed']}, {result['model']}: "
            f"{result['auc']:.4f}; {result['seconds']:.0f} s, {result['epochs']} epochs"
        )
    rows = share_rows(results, options.shares)
    title = f"Census-Income, test AUC of income, {options.seeds} seeds"
    print_table(rows, COLUMNS, title)
    if options.plot:
        draw(rows, options.plot)
    write_json(options.json, {"rows": rows, "results": results})


if __name__ == "__main__":
    main()
