"""Values of X missing completely at random: scores as their share grows.

    python benchmarks/missing.py DIR [--only concrete pima]
        [--folds 5] [--max-rows 2000] [--jobs 1] [--json PATH]

DIR holds NAME.npz files (arrays X and y) and MANIFEST.csv, whose column `task` says
reg or clf. The same share of values is taken out of training and test rows, each value
with the same probability. Columns, and the response of a regression, are standardised
with what the training rows show. R2 or accuracy, and the log score in nats a row (of
the standardised response) where a model has one. All models see the same rows:

- "mixture": the default mixture, which takes NaN: a gap takes its column's mean, and an
  indicator says so to the experts;
- "gaussian_gate": the same experts under a Gaussian gate, which integrates gaps out;
- "simple" and "iterative": the default mixture behind `SimpleImputer` and
  `IterativeImputer`; "simple_gaussian": the one with a Gaussian gate behind the former;
- "boosting": histogram boosting, which sends gaps down a branch of their own.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from accuracy import load_table, make_folds, read_tables, standardise
from joblib import Parallel, delayed
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.gates import GaussianGate

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
# Gaps as the mixture takes them, and the same mixture behind SimpleImputer.
PAIRS = {"mixture": "simple", "gaussian_gate": "simple_gaussian"}
TABLES = ["concrete", "pima"]


def make_models(task, seed):
    """Return {name: unfitted model}."""
    regression = task == "reg"
    kind = MixtureOfExpertsRegressor if regression else MixtureOfExpertsClassifier
    boosting = (
        HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    )
    mixture = kind(random_state=seed)
    gaussian = kind(gate=GaussianGate(), random_state=seed)
    return {
        "mixture": mixture,
        "gaussian_gate": gaussian,
        "simple": make_pipeline(SimpleImputer(), mixture),
        "simple_gaussian": make_pipeline(SimpleImputer(), gaussian),
        "iterative": make_pipeline(IterativeImputer(random_state=seed), mixture),
        "boosting": boosting(random_state=seed),
    }


def standardised(train, test):
    """Return both with the means and deviations of what the training rows show."""
    centre, scale = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    return (train - centre) / scale, (test - centre) / scale


def log_score(model, X, y):
    """Return the mean log density or probability of y, or None without one."""
    if isinstance(model, Pipeline):
        X, model = model[:-1].transform(X), model[-1]
    if hasattr(model, "log_prob"):
        return float(np.mean(model.log_prob(X, y)))
    if not hasattr(model, "predict_proba"):
        return None
    proba = model.predict_proba(X)[
        np.arange(len(y)), np.searchsorted(model.classes_, y)
    ]
    return float(np.mean(np.log(np.maximum(proba, 1e-300))))


def run_fold(path, task, fold, share, options):
    """Return {model: {score, log_score, seconds}} on one fold."""
    X, y = load_table(path, options.max_rows, options.seed)
    train, test = make_folds(X, y, task, options.folds, options.seed)[fold]
    rng = np.random.default_rng([options.seed, round(100 * share)])
    X = np.where(rng.random(X.shape) < share, np.nan, X)
    X_train, X_test = standardised(X[train], X[test])
    y_train, y_test = y[train], y[test]
    if task == "reg":
        y_train, y_test = standardise(y_train, y_test)
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in make_models(task, options.seed).items():
            begin = time.process_time()
            model.fit(X_train, y_train)
            seconds = time.process_time() - begin
            results[name] = {
                "score": float(model.score(X_test, y_test)),
                "log_score": log_score(model, X_test, y_test),
                "seconds": seconds,
            }
    return results


def run_table(path, task, options, parallel):
    """Return {share: list of results over the folds}."""
    found = {}
    for share in SHARES:
        folds = parallel(
            delayed(run_fold)(path, task, fold, share, options)
            for fold in range(options.folds)
        )
        found[share] = folds
        means = {k: np.mean([f[k]["score"] for f in folds]) for k in folds[0]}
        shown = ", ".join(f"{k} {v:.3f}" for k, v in means.items())
        progress(f"{path.stem}, {share:.0%}: {shown}")
    return found


def table_rows(name, task, found):
    """Return a row for each share: means over folds, and their standard errors."""
    rows = []
    for share, folds in found.items():
        kind = "R2" if task == "reg" else "accuracy"
        row = {"table": name, "kind": kind, "share": share}
        for model in folds[0]:
            for key in ("score", "log_score", "seconds"):
                values = [fold[model][key] for fold in folds]
                if None in values:
                    continue
                row[f"{model}_{key}"] = float(np.mean(values))
                error = float(np.std(values, ddof=1) / len(values) ** 0.5)
                row[f"{model}_{key}_error"] = error
        rows.append(row)
    return rows


def check(targets, results):
    """Note whether native gaps are worth it beside the same mixture of filled columns.

    Judged by paired log scores over all folds with gaps, at two standard errors.
    """
    for name, found in results.items():
        for ours, filled in PAIRS.items():
            pairs = [
                fold[ours]["log_score"] - fold[filled]["log_score"]
                for share, folds in found.items()
                for fold in folds
                if share
            ]
            gain = float(np.mean(pairs))
            error = float(np.std(pairs, ddof=1) / len(pairs) ** 0.5)
            wanted = f">= -2 standard errors = {-2.0 * error:.3f}"
            title = f"{name}: log score, {ours} - {filled}, with gaps"
            targets.check(title, gain, gain >= -2.0 * error, wanted)


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", default=TABLES)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the tables; print scores by share, and the stated figures."""
    options = parse_options()
    targets, rows, results = Targets(), [], {}
    with Parallel(n_jobs=options.jobs) as parallel:
        for name, task in read_tables(options.dir, options.only).items():
            path = options.dir / f"{name}.npz"
            results[name] = run_table(path, task, options, parallel)
            rows += table_rows(name, task, results[name])
    check(targets, results)
    models = list(make_models("reg", 0))
    titles = {
        "score": "R2 or accuracy",
        "log_score": "log score, nats a row",
        "seconds": "CPU seconds of a fit",
    }
    for key, title in titles.items():
        columns = ["table", "kind", ("share", "missing", ".0%")]
        columns += [(f"{model}_{key}", model, ".3f") for model in models]
        print_table(rows, columns, title)
    settings = {"folds": options.folds, "max_rows": options.max_rows}
    payload = {"settings": settings, "rows": rows, "results": results}
    write_json(options.json, {**payload, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
