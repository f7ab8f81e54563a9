"""A gated stack of different strong models beside StackingRegressor.

    python benchmarks/stack.py DIR [--only concrete boston] [--folds 5] [--json PATH]

DIR holds NAME.npz files with arrays X and y. The parts are histogram boosting, a
support vector machine, a Gaussian process and a random forest. StackingRegressor
gives each part one weight everywhere; the gated stack lets a softmax gate choose
the weights row by row. Both learn their weights from out-of-fold predictions of
the same parts on the same folds. R2 of each fold and its mean; threads pinned to one.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from accuracy import load_table, make_folds, mean_and_error, standardise
from sklearn.base import clone
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from threadpoolctl import threadpool_limits

LOSS_ALLOWED = 0.005
# A Gaussian process costs the cube of its rows, so that larger tables are sampled.
GP_ROWS = 1000


def parts(seed):
    """Return the (name, estimator) list that every stack is made of."""
    kernel = ConstantKernel(1.0) * RBF(3.0) + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    return [
        ("boost", HistGradientBoostingRegressor(random_state=seed)),
        ("svr", make_pipeline(StandardScaler(), SVR(C=10.0))),
        ("gp", make_pipeline(StandardScaler(), process)),
        ("forest", RandomForestRegressor(random_state=seed)),
    ]


def gated_stack(seed):
    """Return the mixture that learns its gate on out-of-fold predictions."""
    from skmoe import MixtureOfExpertsRegressor

    return MixtureOfExpertsRegressor(
        experts=parts(seed), algorithm="stack", random_state=seed
    )


def plain_stack(seed):
    """Return scikit-learn's stack of the same parts."""
    return StackingRegressor(parts(seed))


def make_models(seed):
    """Return every model by name, unfitted: the parts and the two stacks."""
    return {
        **dict(parts(seed)),
        "stacking": plain_stack(seed),
        "gated": gated_stack(seed),
    }


def run_fold(X, y, train, test, seed):
    """Return {model: {r2, seconds}} on one fold."""
    # Out-of-fold predictions use unshuffled folds: the rows must be in no order.
    train = np.random.default_rng(seed).permutation(train)
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = standardise(y[train], y[test])
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in make_models(seed).items():
            start = time.process_time()
            fitted = clone(model).fit(X_train, y_train)
            seconds = time.process_time() - start
            r2 = float(r2_score(y_test, fitted.predict(X_test)))
            results[name] = {"r2": r2, "seconds": seconds}
    return results


def run_table(path, options):
    """Return the results of each fold of one table."""
    n_rows = GP_ROWS * options.folds // (options.folds - 1)
    X, y = load_table(path, n_rows, options.seed)
    results = []
    folds = make_folds(X, y, "reg", options.folds, options.seed)
    for number, (train, test) in enumerate(folds, start=1):
        results.append(run_fold(X, y, train, test, options.seed))
        shown = ", ".join(f"{k} {v['r2']:.3f}" for k, v in results[-1].items())
        progress(f"{path.stem} fold {number}: {shown}")
    return results


def table_rows(name, folds):
    """Return one row a model: R2 of each fold, the mean, its error, seconds."""
    rows = []
    for model in folds[0]:
        scores = [fold[model]["r2"] for fold in folds]
        mean, error = mean_and_error(scores)
        seconds, _ = mean_and_error([fold[model]["seconds"] for fold in folds])
        row = {"table": name, "model": model, "mean": mean, "error": error}
        row.update({f"fold {i + 1}": score for i, score in enumerate(scores)})
        rows.append({**row, "seconds": seconds})
    return rows


def check_table(targets, name, folds):
    """Note whether the gated stack is at least as good as StackingRegressor."""
    gain = [fold["gated"]["r2"] - fold["stacking"]["r2"] for fold in folds]
    mean, error = mean_and_error(gain)
    targets.check(
        f"{name}: R2, gated - stacking",
        mean,
        mean >= -max(LOSS_ALLOWED, error),
        f">= -{LOSS_ALLOWED}, or within one standard error ({error:.4f})",
    )


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", default=["concrete", "boston"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run both stacks and their parts; say whether the stated figure is reached."""
    options = parse_options()
    targets, rows = Targets(), []
    for name in options.only:
        folds = run_table(options.dir / f"{name}.npz", options)
        rows += table_rows(name, folds)
        check_table(targets, name, folds)
    folds = [(f"fold {i + 1}",) * 2 + (".3f",) for i in range(options.folds)]
    columns = ["table", "model", *folds, ("mean", "mean", ".3f")]
    columns += [("error", "s.e.", ".3f"), ("seconds", "seconds", ".2f")]
    print_table(rows, columns, "R2 of the stacks and of their parts")
    write_json(options.json, {"rows": rows, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
