"""Outliers in the training responses: error on clean rows, as their share grows.

    python benchmarks/robustness.py DIR [--only concrete abalone] [--folds 5]
        [--max-rows 2000] [--jobs 1] [--json PATH]

DIR holds NAME.npz files with arrays X and y. In each fold a share of the training
responses is spoiled, in one of two ways: "outliers" moves them by 5 to 15 standard
deviations, up or down; "permuted" deals them out anew among the chosen rows. The test
rows stay clean. Columns and responses are standardised with the clean training rows, so
RMSE is in standard deviations of the clean response. All models see the same rows.

Mixtures of four linear experts: with normal, Laplace and Student t noise; with t noise
of one scale for all ("student_tied", `shared_dispersion=True`); and with a further
expert for noise, uniform over the range of y and with a constant share of its own,
beside a mixture of normal ("noise") or t experts ("noise_student").

The law of the last two says how y is distributed, outliers included, so its mean is
drawn towards the middle of the range of y. What is wanted of a clean row is the mean of
the experts that are no noise, by their gate shares; the mean of the law
("noise_mean") is printed beside it. The mode of the law would leave noise out as well,
but it follows one expert where several answer, and that costs accuracy on clean data.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from accuracy import load_table, make_folds, standardise
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import HuberRegressor
from threadpoolctl import threadpool_limits

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import RobustLinearExpert, UniformExpert
from skmoe.gates import ConstantGate

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
KINDS = ("outliers", "permuted")
JUDGED = 0.2  # the share at which the figures are stated


def make_models(seed):
    """Return {name: unfitted model}."""
    mixture = MixtureOfExpertsRegressor
    robust, noise = RobustLinearExpert(), [("noise", UniformExpert())]
    settings = {"gate": ConstantGate(), "random_state": seed}
    return {
        "gaussian": mixture(random_state=seed),
        "laplace": mixture(RobustLinearExpert(noise="laplace"), random_state=seed),
        "student": mixture(robust, random_state=seed),
        "student_tied": mixture(robust, shared_dispersion=True, random_state=seed),
        "noise": mixture([*noise, ("rest", mixture())], **settings),
        "noise_student": mixture([*noise, ("rest", mixture(robust))], **settings),
        "huber": HuberRegressor(max_iter=1000),
        "boosting": HistGradientBoostingRegressor(random_state=seed),
        "boosting_abs": HistGradientBoostingRegressor(
            loss="absolute_error", random_state=seed
        ),
    }


def without_noise(model, X):
    """Return the mean of the experts that are no noise, by their gate shares."""
    share, mean = model.gate_proba(X)[:, 1:], model.predict_experts(X)[:, 1:]
    return (share * mean).sum(axis=1) / share.sum(axis=1)


def spoil(y, kind, share, rng):
    """Return responses of which a share is spoiled."""
    y = y.copy()
    rows = rng.permutation(y.size)[: round(share * y.size)]
    if kind == "permuted":
        y[rows] = y[rng.permutation(rows)]
    else:
        size = rng.uniform(5.0, 15.0, rows.size) * y.std()
        y[rows] += rng.choice([-1.0, 1.0], rows.size) * size
    return y


def rmse(predicted, y):
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((predicted - y) ** 2)))


def run_fold(path, fold, kind, share, options):
    """Return {model: {rmse, seconds}} on one fold with spoiled training rows."""
    X, y = load_table(path, options.max_rows, options.seed)
    train, test = make_folds(X, y, "reg", options.folds, options.seed)[fold]
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = standardise(y[train], y[test])
    rng = np.random.default_rng([options.seed, fold, round(100 * share)])
    y_train = spoil(y_train, kind, share, rng)
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in make_models(options.seed).items():
            begin = time.process_time()
            model.fit(X_train, y_train)
            seconds = time.process_time() - begin
            found = {"rmse": rmse(model.predict(X_test), y_test), "seconds": seconds}
            if name.startswith("noise"):
                results[f"{name}_mean"] = found
                clean = rmse(without_noise(model, X_test), y_test)
                known = float(model.gate_proba(X_test)[:, 0].mean())
                found = {"rmse": clean, "seconds": seconds, "noise_share": known}
            results[name] = found
    return results


def run_table(path, options, parallel):
    """Return {kind: {share: list of results over the folds}}."""
    cases = [
        (kind, share)
        for kind in KINDS
        for share in SHARES
        if share or kind == KINDS[0]  # nothing spoiled is the same twice
    ]
    found = {kind: {} for kind in KINDS}
    for kind, share in cases:
        folds = parallel(
            delayed(run_fold)(path, fold, kind, share, options)
            for fold in range(options.folds)
        )
        found[kind][share] = folds
        means = {k: np.mean([f[k]["rmse"] for f in folds]) for k in folds[0]}
        shown = ", ".join(f"{k} {v:.3f}" for k, v in means.items())
        progress(f"{path.stem}, {kind}, {share:.0%}: {shown}")
    found[KINDS[1]] = {0.0: found[KINDS[0]][0.0], **found[KINDS[1]]}
    return found


def table_rows(name, found):
    """Return a row for each kind and share: mean RMSE of each model, its error."""
    rows = []
    for kind, shares in found.items():
        for share, folds in shares.items():
            row = {"table": name, "kind": kind, "share": share}
            for model in folds[0]:
                values = [fold[model]["rmse"] for fold in folds]
                row[model] = float(np.mean(values))
                row[f"{model}_error"] = float(
                    np.std(values, ddof=1) / len(values) ** 0.5
                )
                row[f"{model}_seconds"] = float(
                    np.mean([fold[model]["seconds"] for fold in folds])
                )
            row["noise_share"] = float(
                np.mean([fold["noise_student"]["noise_share"] for fold in folds])
            )
            rows.append(row)
    return rows


def check(targets, rows):
    """Note whether robust experts beat normal ones and boosting on spoiled rows."""
    for row in rows:
        if row["share"] != JUDGED or row["kind"] != "outliers":
            continue
        for model in ("student_tied", "noise_student"):
            for other in ("gaussian", "boosting"):
                title = f"{row['table']}, {JUDGED:.0%} outliers: {model} - {other}"
                gap = row[model] - row[other]
                targets.check(title, gap, gap < 0.0, "RMSE < 0")


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", default=["concrete", "abalone"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the tables; print RMSE by kind and share, and the stated figures."""
    options = parse_options()
    targets, rows, results = Targets(), [], {}
    with Parallel(n_jobs=options.jobs) as parallel:
        for name in options.only:
            path = options.dir / f"{name}.npz"
            results[name] = run_table(path, options, parallel)
            rows += table_rows(name, results[name])
    check(targets, rows)
    models = [*make_models(0), "noise_mean"]
    columns = ["table", ("share", "spoiled", ".0%"), *[(m, m, ".3f") for m in models]]
    columns.append(("noise_share", "its share", ".3f"))
    for kind in KINDS:
        shown = [row for row in rows if row["kind"] == kind]
        print_table(shown, columns, f"RMSE on clean rows, {kind}")
    settings = {"folds": options.folds, "max_rows": options.max_rows}
    payload = {"settings": settings, "rows": rows, "results": results}
    write_json(options.json, {**payload, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
