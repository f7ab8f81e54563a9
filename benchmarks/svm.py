"""A gated mixture of support vector machines beside one, on the same rows.

    python benchmarks/svm.py DIR [--classes 1 2] [--splits 10] [--n-jobs 2]
        [--json PATH]

DIR holds covtype10k.npz (arrays X and y). Two-class problems: one class of the table
(counted from 0) against the rest. The recipe follows Collobert, R., Bengio, S. and
Bengio, Y. (2002). A parallel mixture of SVMs for very large scale problems. Neural
Computation 14: the rows are cut into parts with a cap on their size, each part trains a
machine of its own, all of them side by side, and a gate learns on all rows whom to
trust where. Each machine standardises the columns within its part.

One SVM is run at scikit-learn's defaults, and with C and gamma chosen by 3-fold
cross-validation within the training rows; the mixture with one setting throughout, and
with C and the number of parts chosen the same way. Each of them is one fit in the
seconds, the search is not. Test error and seconds are medians over the splits of a
10-fold cross-validation; one thread a fit, and --n-jobs threads for the machines of a
mixture.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from accuracy import standardise
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from skmoe import MixtureOfExpertsClassifier
from skmoe.gates import GaussianGate

TIMES_LESS = 5.0
CAPACITY = 2.0
SVM_GRID = {"C": [1.0, 10.0, 100.0], "gamma": [0.03, 0.1, 0.3]}
MIXTURE_GRID = {"experts__svc__C": [1.0, 10.0, 100.0], "n_experts": [16, 24, 32]}


def capped_clusters(X, y, n_experts, random_state):
    """Return labels of k-means clusters, none of more than its share of the rows.

    A row whose cluster is full goes to the nearest one with room.
    """
    clusters = KMeans(n_experts, n_init=1, random_state=random_state)
    distance = clusters.fit_transform(X)
    room = np.full(n_experts, int(CAPACITY * len(X) / n_experts) + 1)
    labels = np.full(len(X), -1)
    while (labels < 0).any():
        rows = np.flatnonzero(labels < 0)
        nearest = distance[rows].argmin(axis=1)
        for k in np.unique(nearest):
            own = rows[nearest == k]
            own = own[np.argsort(distance[own, k])][: room[k]]
            labels[own] = k
            room[k] -= own.size
            if room[k] == 0:
                distance[:, k] = np.inf
    return labels


def mixture(n_jobs, **changes):
    """Return the recipe: parts, machines side by side, a gate on all rows.

    Its one pass fits machines and gate to the parts. Further passes would assign the
    rows anew by how well the machines do on rows that they were trained on.
    """
    settings = {
        "experts": make_pipeline(StandardScaler(), SVC(C=10.0)),
        "n_experts": 24,
        "gate": GaussianGate(covariance="diag"),
        "algorithm": "cem",
        "balance": "cap",
        "capacity": CAPACITY,
        "init": capped_clusters,
        "max_iter": 1,
        "top_k": 1,
        "n_jobs": n_jobs,
        "random_state": 0,
    }
    return MixtureOfExpertsClassifier(**{**settings, **changes})


def searched(model, grid, X, y):
    """Return the model with the settings that 3-fold cross-validation chooses."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, cv=folds, refit=False).fit(X, y)
    return clone(model).set_params(**search.best_params_), search.best_params_


def make_models(X, y, n_jobs):
    """Return {name: (model, what a search chose)}."""
    single = searched(SVC(), SVM_GRID, X, y)
    parts, chosen = searched(mixture(None), MIXTURE_GRID, X, y)
    return {
        "SVM": (SVC(), {}),
        "SVM, tuned": single,
        "mixture": (mixture(n_jobs), {}),
        "mixture, tuned": (parts.set_params(n_jobs=n_jobs), chosen),
        "mixture, 3 passes": (mixture(n_jobs, max_iter=3), {}),
    }


def measure(model, X_train, y_train, X_test, y_test):
    """Fit and predict once; return error and seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(X_train, y_train)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    begin = time.process_time()
    error = float(np.mean(model.predict(X_test) != y_test))
    return {
        "error": error,
        "wall": wall,
        "cpu": cpu,
        "predict": time.process_time() - begin,
    }


def run_class(X, y, label, options):
    """Return {model: list of results} over the splits of one problem."""
    target = (y == label).astype(int)
    folds = StratifiedKFold(10, shuffle=True, random_state=0).split(X, target)
    results = {}
    for split, (train, test) in zip(range(options.splits), folds, strict=False):
        X_train, X_test = standardise(X[train], X[test])
        data = X_train, target[train], X_test, target[test]
        models = make_models(*data[:2], options.n_jobs)
        for name, (model, chosen) in models.items():
            found = {**measure(model, *data), "chosen": chosen}
            results.setdefault(name, []).append(found)
        errors = ", ".join(f"{k} {v[-1]['error']:.3f}" for k, v in results.items())
        progress(f"class {label}, split {split + 1}: {errors}")
    return results


def summarise(label, results):
    """Return a row of medians for each model, ratios to both single machines."""
    rows = []
    for name, found in results.items():
        row = {"class": label, "model": name}
        for key in ("error", "wall", "cpu", "predict"):
            row[key] = float(np.median([one[key] for one in found]))
        row["mean_error"] = float(np.mean([one["error"] for one in found]))
        rows.append(row)
    for row in rows:
        for column, single in (("default", rows[0]), ("tuned", rows[1])):
            row[f"wall_{column}"] = single["wall"] / row["wall"]
            row[f"cpu_{column}"] = single["cpu"] / row["cpu"]
    return rows


def check(targets, rows):
    """Note the figures: each mixture beside the single machine of its kind."""
    named = {row["model"]: row for row in rows}
    for kind, suffix in (("default", ""), ("tuned", ", tuned")):
        single, ours = named[f"SVM{suffix}"], named[f"mixture{suffix}"]
        title = f"class {ours['class']}, {kind}: "
        lower = ours["mean_error"] - single["mean_error"]
        targets.check(title + "error, mixture - one SVM", lower, lower < 0, "< 0")
        for clock in ("wall", "cpu"):
            ratio = ours[f"{clock}_{kind}"]
            ok, wanted = ratio >= TIMES_LESS, f">= {TIMES_LESS:g} times"
            targets.check(f"{title}{clock} of a fit, times less", ratio, ok, wanted)


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--splits", type=int, default=10, choices=range(1, 11))
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


COLUMNS = [
    "class",
    "model",
    ("error", "median error", ".4f"),
    ("mean_error", "mean error", ".4f"),
    ("wall", "fit, wall s", ".3f"),
    ("cpu", "CPU s", ".3f"),
    ("wall_default", "wall: x less than SVM", ".1f"),
    ("wall_tuned", "than tuned", ".1f"),
    ("cpu_default", "CPU: x less than SVM", ".1f"),
    ("cpu_tuned", "than tuned", ".1f"),
    ("predict", "predict, CPU s", ".3f"),
]


def main():
    """Run the problems, print them, say which figures are missed."""
    options = parse_options()
    with np.load(options.dir / "covtype10k.npz") as arrays:
        X, y = arrays["X"], arrays["y"]
    targets, rows, results = Targets(), [], {}
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        few = X[:500], y[:500] > 2, X[:9], y[:9] > 2
        measure(SVC(), *few)  # the first call of each is slower
        measure(mixture(options.n_jobs, n_experts=2), *few)
        for label in options.classes:
            results[label] = run_class(X, y, label, options)
            rows += summarise(label, results[label])
            check(targets, rows[-len(results[label]) :])
    title = f"{len(y)} rows, one class against the rest, {options.splits} splits"
    print_table(rows, COLUMNS, f"{title} (medians; means of the error too)")
    payload = {"rows": rows, "targets": targets.rows, "results": results}
    settings = {"n_jobs": options.n_jobs, "splits": options.splits}
    write_json(options.json, {"settings": settings, **payload})
    targets.exit()


if __name__ == "__main__":
    main()
