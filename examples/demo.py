"""Fit mixtures of experts to two real tables: one table of scores, one picture.

    make demo        (or, with skmoe[plot] installed: python examples/demo.py)

On each table three models are scored on held-out folds: one global linear model,
histogram gradient boosting, and a mixture of linear experts. The mixture's number
of experts and their ridge are chosen by cross-validation inside the training rows,
so the held-out rows are never looked at before they are scored. The picture,
out/demo.png, shows a mixture of four experts on all rows of each table.
"""

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete, load_mcycle
from skmoe.experts import LinearExpert

N_FOLDS = 10
GRID = {"n_experts": [2, 4, 8], "experts__alpha": [0.1, 1.0]}

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
INK, GREY = "#222222", "#8a8a8a"


def load_tables():
    """Return the two tables as ``{name: (X, y)}``."""
    concrete, strength = load_concrete(return_X_y=True)
    # Concrete hardens with the logarithm of its age; all three models get it so.
    concrete[:, -1] = np.log(concrete[:, -1])
    tables = {"mcycle": load_mcycle(return_X_y=True), "concrete": (concrete, strength)}
    return tables


def folds(n_splits):
    return KFold(n_splits, shuffle=True, random_state=0)


def mixture(n_experts=4, alpha=0.1):
    return MixtureOfExpertsRegressor(
        LinearExpert(alpha=alpha), n_experts=n_experts, random_state=0
    )


def mean_log_score(model, X, y):
    return model.log_prob(X, y).mean()


class GaussianAround:
    """A point predictor with normal noise, its variance from out-of-fold errors."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit the estimator to all rows, the variance to rows that it never saw."""
        error = y - cross_val_predict(self.estimator, X, y, cv=folds(5))
        self.variance = np.mean(error**2)
        self.fitted = clone(self.estimator).fit(X, y)
        return self

    def predict(self, X):
        return self.fitted.predict(X)

    def log_prob(self, X, y):
        error = y - self.predict(X)
        log_scale = np.log(2 * np.pi * self.variance)
        return -0.5 * (log_scale + error**2 / self.variance)


class ChosenMixture:
    """The mixture of the grid that scores best in folds of the training rows."""

    def fit(self, X, y):
        search = GridSearchCV(
            mixture(), GRID, scoring=mean_log_score, cv=folds(3), n_jobs=2
        )
        self.best = search.fit(X, y).best_estimator_
        return self

    def predict(self, X):
        return self.best.predict(X)

    def log_prob(self, X, y):
        return self.best.log_prob(X, y)


def make_models():
    """Return the unfitted models by name."""
    boosting = HistGradientBoostingRegressor(random_state=0)
    return {
        "one linear model": GaussianAround(LinearRegression()),
        "gradient boosting": GaussianAround(boosting),
        "mixture of experts": ChosenMixture(),
    }


def count(text, end=""):
    """Show where the long step is, in one line that is written over."""
    print(f"\r\033[K{text}", end=end, file=sys.stderr, flush=True)


def score_folds(name, X, y):
    """Return RMSE and log score of each fold, ``{model: (n_folds, 2) array}``."""
    scores = {model: [] for model in make_models()}
    for number, (train, test) in enumerate(folds(N_FOLDS).split(X), start=1):
        count(f"{name}: fold {number} of {N_FOLDS}")
        for model, unfitted in make_models().items():
            fitted = unfitted.fit(X[train], y[train])
            rmse = np.sqrt(np.mean((y[test] - fitted.predict(X[test])) ** 2))
            scores[model].append((rmse, mean_log_score(fitted, X[test], y[test])))
    return {model: np.array(rows) for model, rows in scores.items()}


def mean_and_error(values):
    """Return the mean over folds and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def print_table(scores, tables):
    """Print one line a model: RMSE and log score, each with its standard error."""
    print(f"\nHeld-out scores, mean over {N_FOLDS} folds and its standard error\n")
    print(f"{'':20}{'RMSE':>16}{'log score':>20}")
    for name, models in scores.items():
        X, _ = tables[name]
        unit = {"mcycle": "g", "concrete": "MPa"}[name]
        title = f"{name} ({X.shape[0]} rows)"
        print(f"{title:20}{unit:>14}{'nats per row':>23}")
        for model, rows in models.items():
            (rmse, score), (rmse_error, score_error) = mean_and_error(rows)
            print(
                f"  {model:18}{rmse:9.2f} ± {rmse_error:4.2f}"
                f"{score:13.3f} ± {score_error:5.3f}"
            )
    print("\nLower RMSE and higher log score are better.")


def quantile(law, level):
    """Return the quantile of each row of a predictive law, by bisection of its cdf."""
    std = np.sqrt(law.variance)
    low, high = law.mean - 12 * std, law.mean + 12 * std
    for _ in range(50):
        middle = (low + high) / 2
        below = law.cdf(middle) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def by_position(model, X, values):
    """Return the experts in the order of the values where their gate is open."""
    gate = model.gate_proba(X)
    return np.argsort(gate.T @ values / gate.sum(axis=0))


def draw_law(ax, model, X, y):
    """Draw data, band, mean, and the experts' lines, opaque where they are trusted."""
    order = by_position(model, X, X[:, 0])
    x = np.linspace(X.min() - 1.5, X.max() + 1.5, 600)[:, None]
    law = model.predict_distribution(x)
    band = quantile(law, 0.05), quantile(law, 0.95)
    ax.fill_between(x[:, 0], *band, color="#e9e9e4", lw=0, label="90 % band of the law")
    lines = model.predict_experts(x)
    gate = model.gate_proba(x)
    for color, k in zip(COLORS, order, strict=True):
        points = np.column_stack([x[:, 0], lines[:, k]])
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        rgba = np.column_stack([np.tile(to_rgb(color), (len(pieces), 1)), gate[1:, k]])
        ax.add_collection(LineCollection(pieces, colors=rgba, lw=4, capstyle="round"))
    ax.plot(x, law.mean, color=INK, lw=1.4, label="mean of the law")
    resp = model.responsibilities(X, y)[:, order]
    ax.scatter(
        X[:, 0], y, c=resp @ [to_rgb(c) for c in COLORS], s=34, ec="white", lw=0.6, zorder=3
    )
    ax.set(xlim=(x.min(), x.max()), ylabel="head acceleration (g)")
    ax.tick_params(labelbottom=False)
    ax.legend(loc="lower right")


def draw_gate(ax, model, X):
    """Draw the gate probabilities as a stack that fills the panel."""
    x = np.linspace(X.min() - 1.5, X.max() + 1.5, 600)[:, None]
    gate = model.gate_proba(x)[:, by_position(model, X, X[:, 0])]
    ax.stackplot(x[:, 0], gate.T, colors=COLORS, alpha=0.85, lw=0)
    ax.set(
        xlim=(x.min(), x.max()),
        ylim=(0, 1),
        yticks=(0, 0.5, 1),
        xlabel="time after impact (ms)",
        ylabel="gate probability",
    )


def main():
    """Score, print, draw."""
    started = time.perf_counter()
    tables = load_tables()
    scores = {name: score_folds(name, X, y) for name, (X, y) in tables.items()}
    count("", end="\r")
    print_table(scores, tables)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
