"""The classic experiments on hierarchical mixtures of experts, and what a tree saves.

    python benchmarks/hierarchy.py [--only robot spirals speed top1] [--seed 0]
        [--repeats 3] [--json PATH]

robot: forward dynamics of a four-joint arm (Jordan & Jacobs 1994), 16 leaves in a
binary tree, relative error on 5,000 test rows beside other models and the figures of
the paper. spirals: two spirals with 256 leaves, fitted in full and with path pruning
(Waterhouse & Robinson 1996). speed: seconds a pass with 64 leaves beside the flat
mixture with 64 experts. top1: prediction along the most probable path beside the
mean over 256 leaves. Seconds are CPU seconds on one thread.
"""

import argparse
import importlib
from pathlib import Path

import numpy as np
from _report import Targets, print_table, progress, write_json
from em_speed import cpu, quiet_fit
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from skmoe.datasets import (
    make_mixture_regression,
    make_robot_arm,
    make_two_spirals,
)
from skmoe.experts import LogisticExpert
from skmoe.gates import SoftmaxGate

TRAINING_ROWS, TEST_ROWS = 15_000, 5_000
PASSES = 35
# Relative error and passes over the rows as printed in Jordan & Jacobs (1994),
# tables 1 and 2: batch algorithms, HME fitted by its algorithm 1.
PAPER = {
    "linear model": (0.31, 1),
    "CART": (0.17, None),
    "CART with linear leaves": (0.13, None),
    "MARS": (0.16, None),
    "backprop, 60 hidden": (0.09, 5_500),
    "hierarchy, 35 passes": (0.10, 35),
}
LEAF_SIZES = (1, 2, 3, 5, 10, 20, 50)


# -- the robot arm ---------------------------------------------------------------------


def robot_rows(seed):
    """Return training and test rows, columns standardised with the training rows."""
    X, y = make_robot_arm(TRAINING_ROWS + TEST_ROWS, random_state=seed, return_X_y=True)
    parts = []
    for values in (X, y):
        scaler = StandardScaler().fit(values[:TRAINING_ROWS])
        parts += np.split(scaler.transform(values), [TRAINING_ROWS])
    return parts


def relative_error(y, predicted):
    """Return squared error over that of predicting the mean, for each output."""
    return ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)


def mars():
    """Return MARS models, one an output, or None if the package is not installed.

    ``pip install py-earth2``; its module is called ``pyearth``, a name that an
    unrelated package of the registry has too.
    """
    try:
        earth = importlib.import_module("pyearth").Earth
    except (ImportError, AttributeError):
        return None
    return MultiOutputRegressor(earth(max_degree=3, max_terms=100, use_fast=True))


def robot_models(seed):
    """Return the models of the robot arm by name; None: not run here."""
    hold_out = ShuffleSplit(1, test_size=0.2, random_state=seed)
    trees = GridSearchCV(
        DecisionTreeRegressor(random_state=seed),
        {"min_samples_leaf": LEAF_SIZES},
        cv=hold_out,
    )
    one_start = {"n_init": 1, "random_state": seed}
    # What the choice of the start took counts as passes too.
    accelerated = {"max_iter": PASSES - 7, **one_start}
    plain = {"max_iter": PASSES, "acceleration": None, **one_start}
    hierarchy = HierarchicalMixtureOfExpertsRegressor
    return {
        "linear model": LinearRegression(),
        "CART": MultiOutputRegressor(trees),
        "CART with linear leaves": None,
        "MARS": mars(),
        "histogram boosting": MultiOutputRegressor(
            HistGradientBoostingRegressor(random_state=seed)
        ),
        "backprop, 60 hidden": MLPRegressor(
            hidden_layer_sizes=(60,), max_iter=500, random_state=seed
        ),
        "flat mixture, 35 passes": MixtureOfExpertsRegressor(
            n_experts=16, **accelerated
        ),
        "hierarchy, 35 passes": hierarchy(depth=4, branching=2, **accelerated),
        "hierarchy, 35 plain EM": hierarchy(depth=4, branching=2, **plain),
        "hierarchy, defaults": hierarchy(depth=4, branching=2, random_state=seed),
    }


def robot_row(name, model, rows):
    """Fit one model; return its row of the table."""
    paper_error, paper_passes = PAPER.get(name, (None, None))
    row = {"model": name, "paper": paper_error, "paper_passes": paper_passes}
    if model is None:
        return row
    progress(f"robot: {name}")
    X_train, X_test, y_train, y_test = rows
    row["seconds"], model = cpu(lambda: quiet_fit(model, X_train, y_train))
    errors = relative_error(y_test, model.predict(X_test))
    row |= {f"error_{i + 1}": error for i, error in enumerate(errors)}
    return row | {"error": errors.mean(), "passes": getattr(model, "n_iter_", None)}


def robot(options, targets):
    """Run the forward dynamics of the arm; return the rows."""
    data = robot_rows(options.seed)
    rows = [
        robot_row(name, model, data)
        for name, model in robot_models(options.seed).items()
    ]
    columns = [
        "model",
        ("error", "relative error", ".3f"),
        *[(f"error_{i}", f"joint {i}", ".3f") for i in range(1, 5)],
        ("passes", "passes", "d"),
        ("seconds", "CPU s", ".1f"),
        ("paper", "paper", ".2f"),
        ("paper_passes", "passes there", "d"),
    ]
    title = f"Robot arm: {TRAINING_ROWS:,} training and {TEST_ROWS:,} test rows"
    print_table(rows, columns, title)
    by_name = {row["model"]: row for row in rows}
    ours, cart = by_name["hierarchy, 35 passes"], by_name["CART"]["error"]
    ok = ours["error"] <= 0.10 and ours["passes"] <= PASSES
    targets.check("robot", ours["error"], ok, f"<= 0.10 within {PASSES} passes")
    ok = ours["error"] < cart
    targets.check("robot beside CART", ours["error"] / cart, ok, "< 1 of its error")
    return rows


# -- two spirals -----------------------------------------------------------------------

SPIRALS_COLUMNS = [
    ("path_tol", "path_tol", "g"),
    ("seconds", "fit CPU s", ".2f"),
    ("passes", "passes", "d"),
    ("skipped", "skipped share", ".3f"),
    ("accuracy", "accuracy", ".4f"),
]


def spirals(options, targets, n_samples=60_000):
    """Fit 256 leaves to the spirals in full and with path pruning; return the rows."""
    draw = {"noise": 0.1, "return_X_y": True}
    X, y = make_two_spirals(n_samples, random_state=options.seed, **draw)
    X_new, y_new = make_two_spirals(5_000, random_state=options.seed + 1, **draw)
    rows = []
    for path_tol in (0.0, 1e-3):
        progress(f"spirals: path_tol = {path_tol:g}")
        # Nearly plain maximum likelihood of the gates, as in 1996: 256 leaves then
        # have borders as sharp as the rows allow.
        model = HierarchicalMixtureOfExpertsClassifier(
            LogisticExpert(alpha=1.0),
            depth=8,
            branching=2,
            gate=SoftmaxGate(alpha=1e-3),
            path_tol=path_tol,
            n_init=1,
            max_iter=PASSES,
            random_state=options.seed,
        )
        seconds, model = cpu(lambda model=model: quiet_fit(model, X, y))
        rows.append(
            {
                "path_tol": path_tol,
                "seconds": seconds,
                "passes": model.n_iter_,
                "skipped": model.skipped_share_,
                "accuracy": model.score(X_new, y_new),
            }
        )
    title = f"Two spirals: {n_samples:,} rows, noise 0.1, 256 leaves"
    print_table(rows, SPIRALS_COLUMNS, title)
    full, pruned = rows
    ratio = full["seconds"] / pruned["seconds"]
    targets.check("path pruning", ratio, ratio >= 10, ">= 10 times faster fit")
    lost = full["accuracy"] - pruned["accuracy"]
    targets.check("accuracy lost by it", lost, abs(lost) <= 0.005, "within 0.005")
    return rows


# -- time a pass -----------------------------------------------------------------------


def halved(X, depth):
    """Return labels of equal groups: halve by the median of one column after another.

    Numbered as the leaves of a binary tree, so that flat mixture and hierarchy
    start from the same groups.
    """
    labels = np.zeros(X.shape[0], dtype=int)
    for level in range(depth):
        column = X[:, level % X.shape[1]]
        above = np.zeros_like(labels)
        for group in range(2**level):
            inside = labels == group
            above[inside] = column[inside] > np.median(column[inside])
        labels = 2 * labels + above
    return labels


def one_pass(make, X, y):
    """Return the CPU seconds of a plain pass, from two fits that differ by ten.

    And the objective that the longer one reached, in nats a row: a cheaper pass may
    gain less.
    """
    plain = {"n_init": 1, "tol": 0, "acceleration": None}
    few_seconds, few = cpu(lambda: quiet_fit(make(max_iter=2, **plain), X, y))
    many_seconds, many = cpu(lambda: quiet_fit(make(max_iter=12, **plain), X, y))
    seconds = (many_seconds - few_seconds) / (many.n_iter_ - few.n_iter_)
    return seconds, float(many.objective_trace_[-1]) / X.shape[0]


def pass_models(labels, depth):
    """Return makers of the models that are timed, which all start from the labels."""

    def flat(**settings):
        return MixtureOfExpertsRegressor(n_experts=2**depth, init=labels, **settings)

    def tree(**settings):
        return HierarchicalMixtureOfExpertsRegressor(
            depth=depth, branching=2, init=labels, **settings
        )

    # At this size the flat default is a bound step, cheaper than Newton's and worth
    # less; the gates of a tree are small enough for Newton's.
    return {
        "flat, Newton gate": lambda **s: flat(gate=SoftmaxGate(solver="newton"), **s),
        "flat": flat,
        "hierarchy": tree,
        "hierarchy, path_tol=1e-4": lambda **s: tree(path_tol=1e-4, **s),
    }


def speed(options, targets, n_samples=100_000, depth=6):
    """Time a pass of 64 leaves beside one of 64 flat experts; return the rows."""
    X, y = make_mixture_regression(
        n_samples, 10, n_experts=2**depth, random_state=options.seed
    )
    makers = pass_models(halved(X, depth), depth)
    runs = {name: [] for name in makers}
    reached = {}
    for repeat in range(options.repeats):
        for name, make in makers.items():
            progress(f"speed: {name}, run {repeat + 1} of {options.repeats}")
            seconds, reached[name] = one_pass(make, X, y)
            runs[name].append(seconds)
    median = {name: float(np.median(values)) for name, values in runs.items()}
    baseline = median["flat, Newton gate"]
    rows = [
        {
            "model": name,
            "pass": seconds,
            "ratio": baseline / seconds,
            "objective": reached[name],
            "runs": runs[name],
        }
        for name, seconds in median.items()
    ]
    columns = [
        "model",
        ("pass", "s/pass", ".3f"),
        ("ratio", "times faster", ".2f"),
        ("objective", "nats/row after 12", ".4f"),
    ]
    title = f"A pass: n = {n_samples:,}, 10 columns, {2**depth} leaves (medians)"
    print_table(rows, columns, title)
    ratio = baseline / median["hierarchy"]
    targets.check("pass", ratio, ratio >= 3, ">= 3 times the flat Newton's speed")
    return rows


# -- prediction along one path ---------------------------------------------------------


def top1(options, targets, n_samples=100_000, depth=8):
    """Time prediction by one leaf and by all of 256; return the rows."""
    X, y = make_mixture_regression(
        20_000 + n_samples, 10, n_experts=64, random_state=options.seed
    )
    X_new, y_new = X[20_000:], y[20_000:]
    X, y = X[:20_000], y[:20_000]
    progress("top1: fit")
    model = HierarchicalMixtureOfExpertsRegressor(
        depth=depth, branching=2, init=halved(X, depth), n_init=1, max_iter=5
    )
    quiet_fit(model, X, y)
    runs = {"mean": [], "top1": []}
    rows = {}
    for _ in range(options.repeats):
        for pooling, seconds in runs.items():
            model.set_params(pooling=pooling)
            taken, predicted = cpu(lambda: model.predict(X_new))
            seconds.append(taken)
            rmse = np.sqrt(np.mean((predicted - y_new) ** 2))
            rows[pooling] = {"pooling": pooling, "rmse": rmse}
    for pooling, seconds in runs.items():
        rows[pooling] |= {"seconds": float(np.median(seconds)), "runs": seconds}
    columns = [
        "pooling",
        ("seconds", "predict CPU s", ".4f"),
        ("rmse", "RMSE", ".3f"),
    ]
    title = f"Prediction: {n_samples:,} rows, {2**depth} leaves (medians)"
    print_table(list(rows.values()), columns, title)
    ratio = rows["mean"]["seconds"] / rows["top1"]["seconds"]
    targets.check("top1", ratio, ratio >= 10, ">= 10 times faster than mean")
    return list(rows.values())


EXPERIMENTS = {"robot": robot, "spirals": spirals, "speed": speed, "top1": top1}


def main():
    """Run what is asked for; print tables and stated figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    targets, payload = Targets(), {"seed": options.seed}
    with threadpool_limits(1):
        for name in options.only:
            payload[name] = EXPERIMENTS[name](options, targets)
    write_json(options.json, payload | {"figures": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
