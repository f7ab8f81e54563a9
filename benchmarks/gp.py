"""Mixtures of Gaussian processes on the motorcycle data: held-out log density.

    python benchmarks/gp.py [--seeds 10] [--folds 5] [--only NAME ...] [--json PATH]

Head acceleration after an impact (Silverman 1985, shipped with the package): 133
rows, flat and quiet at first, then violent and noisy. A Gaussian process with one
noise for all rows must choose between them; a mixture need not. Every model gets its
default settings, save for what its name says, and y in units of the training rows'
deviation. Columns: negative log density of the held-out rows (nats a row), its
standard error over the seeds of the shuffled folds, and seconds a fit.

The stated figure is that of the mixture with all defaults.
"""

import argparse
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from _scores import mean_and_error
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

WANTED = 0.61
DEFAULT = "mixture of GPs"


class PlainProcess(BaseEstimator):
    """scikit-learn's Gaussian process with white noise, on a standardised column."""

    def fit(self, X, y):
        """Fit kernel and noise by the marginal likelihood."""
        self.mean_, self.scale_ = X.mean(axis=0), X.std(axis=0)
        kernel = ConstantKernel() * RBF() + WhiteKernel()
        self.process_ = GaussianProcessRegressor(
            kernel, n_restarts_optimizer=2, random_state=0
        ).fit((X - self.mean_) / self.scale_, y)
        return self

    def log_prob(self, X, y):
        """Return the log density of each row in nats."""
        X = (X - self.mean_) / self.scale_
        mean, deviation = self.process_.predict(X, return_std=True)
        return stats.norm(mean, deviation).logpdf(y)


def make_models(seed):
    """Return the unfitted models by name."""
    from skmoe import MixtureOfExpertsRegressor as Mixture
    from skmoe.experts import GaussianProcessExpert, HeteroscedasticExpert

    process, common = GaussianProcessExpert(), {"random_state": seed}
    return {
        "one GP (scikit-learn)": PlainProcess(),
        "one GP": process,
        DEFAULT: Mixture(process, **common),
        f"{DEFAULT}, K=2": Mixture(process, n_experts=2, **common),
        f"{DEFAULT}, K=3": Mixture(process, n_experts=3, **common),
        f"{DEFAULT}, K=6": Mixture(process, n_experts=6, **common),
        f"{DEFAULT}, segments": Mixture(process, init="segments", **common),
        "linear mixture": Mixture(**common),
        "heteroscedastic mixture": Mixture(HeteroscedasticExpert(), **common),
    }


def load_rows():
    """Return X of shape (133, 1) and y."""
    from skmoe.datasets import load_mcycle

    X, y = load_mcycle(return_X_y=True)
    return np.asarray(X, dtype=float).reshape(len(y), -1), np.asarray(y, dtype=float)


def run_seed(X, y, seed, options):
    """Return {model: (mean negative log density, seconds a fit)} of one seed."""
    losses, seconds = {}, {}
    folds = KFold(options.folds, shuffle=True, random_state=seed)
    for train, test in folds.split(X):
        centre, unit = y[train].mean(), y[train].std()
        target = (y - centre) / unit
        for name, model in make_models(seed).items():
            if options.only and name not in options.only:
                continue
            start = time.perf_counter()
            model.fit(X[train], target[train])
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            losses.setdefault(name, []).append(-model.log_prob(X[test], target[test]))
    return {
        name: (float(np.concatenate(each).mean()), float(np.mean(seconds[name])))
        for name, each in losses.items()
    }


def table_rows(results):
    """Return one row a model: mean over the seeds, its error, seconds."""
    rows = []
    for name in results[0]:
        losses = [result[name][0] for result in results]
        mean, error = mean_and_error(losses)
        seconds = float(np.mean([result[name][1] for result in results]))
        row = {"model": name, "nlpd": mean, "error": error, "seconds": seconds}
        rows.append({**row, "seeds": losses})
    return rows


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run all models; say whether the stated figure is reached."""
    options = parse_options()
    X, y = load_rows()
    results = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(options.seeds):
            results.append(run_seed(X, y, seed, options))
            shown = ", ".join(f"{k} {v[0]:.3f}" for k, v in results[-1].items())
            progress(f"seed {seed}: {shown}")
    rows = table_rows(results)
    columns = ["model", ("nlpd", "NLPD", ".3f"), ("error", "s.e.", ".3f")]
    columns += [("seconds", "seconds", ".2f")]
    title = f"motorcycle data, {options.folds} folds, {options.seeds} seeds"
    print_table(rows, columns, f"{title}: nats a row, lower is better")
    targets = Targets()
    for row in rows:
        if row["model"] == DEFAULT:
            ok = row["nlpd"] <= WANTED
            targets.check(f"NLPD, {DEFAULT}", row["nlpd"], ok, f"<= {WANTED}")
    settings = {"seeds": options.seeds, "folds": options.folds}
    write_json(
        options.json, {"settings": settings, "rows": rows, "targets": targets.rows}
    )
    targets.exit()


if __name__ == "__main__":
    main()
