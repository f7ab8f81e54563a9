"""Held-out accuracy and log score on real tables, beside a linear model and boosting.

    python benchmarks/accuracy.py DIR [--only NAME ...] [--estimator flat]
                                      [--n-experts K] [--folds 5] [--json PATH]

DIR holds NAME.npz files (arrays X and y) and MANIFEST.csv, whose column `task`
says reg or clf. Rows are standardised inside each fold, and so is the response of
a regression table: log scores are nats a row of the standardised response. All
models see the same folds; seconds are CPU seconds of one fit on one thread. Each
figure is a mean over folds with its standard error.
"""

import argparse
import csv
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

PROBABILITY_FLOOR = float(np.finfo(float).eps)  # as in scikit-learn's log_loss
VARIANCE_FLOOR = 1e-12
R2_LOSS_ALLOWED = 0.1
MODELS = ("linear", "boosting", "mixture")


class Timed:
    """A model whose `fit` notes the CPU seconds that it took."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        """Fit the model."""
        start = time.process_time()
        self.model.fit(X, y)
        self.seconds_ = time.process_time() - start
        return self

    def predict(self, X):
        """Return the point prediction or the predicted classes."""
        return self.model.predict(X)

    def log_prob(self, X, y):
        """Return the model's own log density of each row, in nats."""
        return self.model.log_prob(X, y)


class GaussianResidual(Timed):
    """A point predictor with one Gaussian residual variance.

    The variance is the mean squared training residual (maximum likelihood), or
    that of out-of-fold residuals for a model that nearly interpolates its rows.
    """

    def __init__(self, model, out_of_fold=False):
        super().__init__(model)
        self.out_of_fold = out_of_fold

    def fit(self, X, y):
        """Fit the model; the out-of-fold refits are not part of `seconds_`."""
        super().fit(X, y)
        if self.out_of_fold:
            folds = KFold(5, shuffle=True, random_state=0)
            fitted = cross_val_predict(self.model, X, y, cv=folds)
        else:
            fitted = self.model.predict(X)
        self.variance_ = max(float(np.mean((y - fitted) ** 2)), VARIANCE_FLOOR)
        return self

    def log_prob(self, X, y):
        """Return the log density of each row, in nats."""
        squared = (y - self.predict(X)) ** 2 / self.variance_
        return -0.5 * (np.log(2.0 * np.pi * self.variance_) + squared)


class ClassProbabilities(Timed):
    """A classifier with the log probability of the observed class."""

    def log_prob(self, X, y):
        """Return the log probability of each row's class, in nats."""
        proba = self.model.predict_proba(X)
        column = np.searchsorted(self.model.classes_, y)
        chosen = proba[np.arange(len(y)), column]
        return np.log(np.clip(chosen, PROBABILITY_FLOOR, None))


def flat_mixture(task, n_experts, seed):
    """Return the flat mixture of linear experts at its default settings."""
    from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

    cls = MixtureOfExpertsRegressor if task == "reg" else MixtureOfExpertsClassifier
    size = {} if n_experts is None else {"n_experts": n_experts}
    return cls(random_state=seed, **size)


ESTIMATORS = {"flat": flat_mixture}


def make_models(task, options):
    """Return the three models of a table by name, unfitted."""
    seed = options.seed
    if task == "reg":
        boosting = HistGradientBoostingRegressor(random_state=seed)
        models = {
            "linear": GaussianResidual(Ridge(alpha=1e-6)),
            "boosting": GaussianResidual(boosting, out_of_fold=True),
        }
    else:
        boosting = HistGradientBoostingClassifier(random_state=seed)
        models = {
            "linear": ClassProbabilities(LogisticRegression(max_iter=2000)),
            "boosting": ClassProbabilities(boosting),
        }
    make_mixture = ESTIMATORS[options.estimator]
    models["mixture"] = Timed(make_mixture(task, options.n_experts, seed))
    return models


def read_tables(folder, only):
    """Return {name: task} of the tables asked for, in the manifest's order."""
    manifest = folder / "MANIFEST.csv"
    if not manifest.is_file():
        raise SystemExit(f"no file {manifest}: give the folder of the tables as DIR")
    with open(manifest, encoding="utf-8", newline="") as stream:
        tasks = {row["name"]: row["task"] for row in csv.DictReader(stream)}
    unknown = sorted(set(only or []) - set(tasks))
    if unknown:
        raise SystemExit(
            f"unknown table: {', '.join(unknown)}; choose from {', '.join(tasks)}"
        )
    return {name: task for name, task in tasks.items() if not only or name in only}


def load_table(path, max_rows, seed):
    """Return X and y, a random sample of `max_rows` rows if there are more."""
    with np.load(path) as arrays:
        X, y = arrays["X"], arrays["y"]
    if max_rows is not None and len(y) > max_rows:
        rows = np.random.default_rng(seed).permutation(len(y))[:max_rows]
        X, y = X[rows], y[rows]
    return X, y


def make_folds(X, y, task, n_folds, seed):
    """Return the list of (train, test) row numbers; classes are stratified."""
    kind = KFold if task == "reg" else StratifiedKFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(X, y))


def standardise(train, test):
    """Return both with the mean and standard deviation of the training rows."""
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    return (train - centre) / scale, (test - centre) / scale


def run_fold(path, task, fold, options):
    """Fit every model on one fold; return {model: {score, log_score, seconds}}."""
    X, y = load_table(path, options.max_rows, options.seed)
    train, test = make_folds(X, y, task, options.folds, options.seed)[fold]
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = y[train], y[test]
    if task == "reg":
        y_train, y_test = standardise(y_train, y_test)
    score = r2_score if task == "reg" else accuracy_score
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in make_models(task, options).items():
            model.fit(X_train, y_train)
            results[name] = {
                "score": float(score(y_test, model.predict(X_test))),
                "log_score": float(np.mean(model.log_prob(X_test, y_test))),
                "seconds": model.seconds_,
            }
    progress(
        f"{path.stem} fold {fold + 1}: "
        + ", ".join(f"{k} {v['log_score']:.3f}" for k, v in results.items())
    )
    return results


def mean_and_error(values):
    """Return the mean over folds and its standard error."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def judge(difference, error):
    """Return better, worse or equal at two standard errors."""
    if abs(difference) <= 2.0 * error:
        return "equal"
    return "better" if difference > 0.0 else "worse"


def summarise(name, task, shape, folds):
    """Return one table row, all numbers, from the results of its folds."""
    row = {"table": name, "n": shape[0], "d": shape[1]}
    row["kind"] = "R2" if task == "reg" else "accuracy"
    for model in MODELS:
        for key in ("score", "log_score"):
            values = [fold[model][key] for fold in folds]
            row[f"{model}_{key}"], row[f"{model}_{key}_error"] = mean_and_error(values)
        seconds = [fold[model]["seconds"] for fold in folds]
        row[f"{model}_seconds"] = float(np.mean(seconds))
    gain = [f["mixture"]["log_score"] - f["linear"]["log_score"] for f in folds]
    row["gain"], row["gain_error"] = mean_and_error(gain)
    row["verdict"] = judge(row["gain"], row["gain_error"])
    row["worst"] = min(f["mixture"]["score"] - f["linear"]["score"] for f in folds)
    row["folds"] = folds
    return row


def with_errors(row):
    """Return a copy of the row for printing: each mean with its standard error."""
    shown = dict(row)
    for key in row:
        if f"{key}_error" in row:
            sign = "+" if key == "gain" else ""
            error = row[f"{key}_error"]
            shown[key] = f"{row[key]:{sign}.3f} ({error:.3f})"
    return shown


COLUMNS = [
    "table",
    "n",
    "d",
    ("kind", "score", ""),
    ("linear_score", "linear", ""),
    ("boosting_score", "boosting", ""),
    ("mixture_score", "mixture", ""),
    ("linear_log_score", "log: linear", ""),
    ("boosting_log_score", "boosting", ""),
    ("mixture_log_score", "mixture", ""),
    ("linear_seconds", "s: linear", ".3f"),
    ("boosting_seconds", "boosting", ".2f"),
    ("mixture_seconds", "mixture", ".2f"),
    ("gain", "log: mix - lin", ""),
    "verdict",
    ("worst", "worst fold", "+.3f"),
]


def check_targets(rows):
    """Return the stated figures: no table lost, no fold far below the linear model."""
    targets = Targets()
    for row in rows:
        name = f"{row['table']}: log score, mixture - linear"
        lost = row["verdict"] == "worse"
        wanted = f">= -2 standard errors = {-2.0 * row['gain_error']:.3f}"
        targets.check(name, row["gain"], not lost, wanted)
        if row["kind"] == "R2":
            name = f"{row['table']}: worst fold, R2 - linear R2"
            ok = row["worst"] >= -R2_LOSS_ALLOWED
            targets.check(name, row["worst"], ok, f">= -{R2_LOSS_ALLOWED}")
    return targets


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--estimator", choices=sorted(ESTIMATORS), default="flat")
    parser.add_argument("--n-experts", type=int, help="default: the estimator's own")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-rows", type=int, help="default: every row")
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the tables, print them, write JSON, and say which figures are missed."""
    options = parse_options()
    tables = read_tables(options.dir, options.only)
    rows = []
    with Parallel(n_jobs=options.jobs) as parallel:
        for name, task in tables.items():
            path = options.dir / f"{name}.npz"
            folds = parallel(
                delayed(run_fold)(path, task, fold, options)
                for fold in range(options.folds)
            )
            X, _ = load_table(path, options.max_rows, options.seed)
            rows.append(summarise(name, task, X.shape, folds))
    title = "means over folds (standard error); log score in nats a row"
    print_table([with_errors(row) for row in rows], COLUMNS, title)
    targets = check_targets(rows)
    settings = {key: value for key, value in vars(options).items() if key != "dir"}
    write_json(
        options.json, {"settings": settings, "rows": rows, "targets": targets.rows}
    )
    targets.exit()


if __name__ == "__main__":
    main()
