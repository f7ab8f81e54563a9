"""Fit mixtures of experts to two real tables: one table of scores, one picture.

    make demo        (or, with skmoe[plot] installed: python examples/demo.py)

On each table three models are scored on held-out folds: one global linear model,
histogram gradient boosting, and a mixture of linear experts. The mixture's number
of experts and their ridge are chosen by cross-validation inside the training rows,
so the held-out rows are never looked at before they are scored. The picture,
out/demo.png, shows a mixture of few experts on all rows of each table.
"""

import os
import sys
import time
from pathlib import Path
from textwrap import fill

# Read once, when scikit-learn is loaded. The fits are small: a second thread costs
# more in waiting than it saves, and on a busy machine many times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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

# More folds where rows are few.
N_FOLDS = {"mcycle": 10, "concrete": 5}
GRID = {"n_experts": [4, 8], "experts__alpha": [0.1, 1.0]}

UNITS = {"mcycle": "g", "concrete": "MPa"}
OUT = Path(__file__).resolve().parents[1] / "out" / "demo.png"

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
INK, GREY, BAND = "#222222", "#6b6b6b", "#e6e6e1"


def folds(n_splits):
    return KFold(n_splits, shuffle=True, random_state=0)


def mixture(n_experts=4, alpha=0.1, n_init=None):
    return MixtureOfExpertsRegressor(
        LinearExpert(alpha=alpha), n_experts=n_experts, n_init=n_init, random_state=0
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
        # Ten starts for each of the many small fits; the pictures get all of them.
        search = GridSearchCV(
            mixture(n_init=10), GRID, scoring=mean_log_score, cv=folds(3), n_jobs=2
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
        "linear model": GaussianAround(LinearRegression()),
        "boosting": GaussianAround(boosting),
        "mixture": ChosenMixture(),
    }


def count(text):
    """Show where the long step is: on a screen in one line that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)


def score_folds(name, X, y):
    """Return RMSE and log score of each fold, ``{model: (n_folds, 2) array}``."""
    scores = {model: [] for model in make_models()}
    splits = list(folds(N_FOLDS[name]).split(X))
    for number, (train, test) in enumerate(splits, start=1):
        count(f"{name}: fold {number} of {len(splits)}")
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
    print("Held-out scores: mean over folds ± its standard error")
    for name, models in scores.items():
        rmse_unit, score_unit = f"RMSE ({UNITS[name]})", "log score (nats per row)"
        print(f"\n{name}: {len(tables[name].target)} rows, {N_FOLDS[name]} folds")
        print(f"{'':20}{rmse_unit:>16}{score_unit:>29}")
        for model, rows in models.items():
            (rmse, score), (rmse_error, score_error) = mean_and_error(rows)
            print(
                f"  {model:18}{rmse:9.2f} ± {rmse_error:4.2f}"
                f"{score:21.3f} ± {score_error:5.3f}"
            )
    print("\nA lower RMSE is better, and a higher log score.")


def in_order(model, X):
    """Return the experts in the order of where on the last column they are used."""
    gate = model.gate_proba(X)
    return np.argsort(gate.T @ X[:, -1] / gate.sum(axis=0))


def draw_experts(ax, model, order, x, rows):
    """Draw each expert's prediction over x, opaque where the gate trusts it."""
    # Few pieces: where translucent ones meet, the overlap shows.
    x, rows = x[::8], rows[::8]
    lines, gate = model.predict_experts(rows), model.gate_proba(rows)
    for color, k in zip(COLORS, order, strict=False):
        points = np.column_stack([x, lines[:, k]])
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        rgba = np.empty((len(pieces), 4))
        rgba[:, :3], rgba[:, 3] = to_rgb(color), gate[1:, k]
        ax.add_collection(LineCollection(pieces, colors=rgba, lw=4.5, zorder=4))


def draw_rows(ax, model, order, x, X, y):
    """Draw the data, each row in the colours of the experts that it follows."""
    resp = model.responsibilities(X, y)[:, order]
    colors = resp @ [to_rgb(color) for color in COLORS[: len(order)]]
    ax.scatter(x, y, c=colors, s=26, ec="white", lw=0.5, zorder=3)


def draw_gate(ax, model, order, x, rows):
    """Draw the gate probabilities as layers that add up to one."""
    gate = model.gate_proba(rows)[:, order]
    ax.stackplot(x, gate.T, colors=COLORS, alpha=0.9, lw=0)
    ax.set(ylim=(0, 1), yticks=(0, 0.5, 1), ylabel="gate probability")


def draw_mcycle(top, bottom, table):
    """Draw the law of the crash data: one column, so all of it can be seen."""
    X, y = table.data, table.target
    model = mixture(n_experts=4, alpha=0.1).fit(X, y)
    order = in_order(model, X)
    x = np.linspace(0.0, 60.0, 801)
    law = model.predict_distribution(x[:, None])
    low, high = law.interval(0.9).T
    top.fill_between(x, low, high, color=BAND, lw=0, label="90 % band of the law")
    draw_rows(top, model, order, X[:, 0], X, y)
    draw_experts(top, model, order, x, x[:, None])
    top.plot(x, law.mean, color=INK, lw=1.6, zorder=5, label="its mean")
    top.set(ylabel="acceleration of the head (g)", xlim=(0, 60), ylim=(-185, 115))
    top.legend(loc="lower right")
    draw_gate(bottom, model, order, x, x[:, None])
    bottom.set(xlabel="time after the impact (ms)")
    return model


def draw_concrete(top, bottom, table):
    """Draw the concrete against its age, and the experts for the median mix."""
    X, y = table.data, table.target
    model = mixture(n_experts=3, alpha=1.0).fit(X, y)
    order = in_order(model, X)
    age = np.geomspace(0.8, 420.0, 801)
    rows = np.tile(np.median(X, axis=0), (age.size, 1))
    rows[:, -1] = age
    # Ages are a handful of numbers: spread the points, so that all can be seen.
    spread = np.exp(np.random.default_rng(0).uniform(-0.13, 0.13, len(y)))
    draw_rows(top, model, order, X[:, -1] * spread, X, y)
    draw_experts(top, model, order, age, rows)
    top.plot([], [], color=GREY, lw=4.5, label="experts, for the median mix")
    top.set(ylabel="compressive strength (MPa)", xlim=(0.8, 420), ylim=(0, 85))
    top.legend(loc="upper left")
    draw_gate(bottom, model, order, age, rows)
    ticks = (1, 3, 7, 14, 28, 56, 90, 180, 365)
    bottom.set(xscale="log", xlabel="age (days)", xticks=ticks, xticklabels=ticks)
    bottom.minorticks_off()
    return model


def caption(models):
    """Return the log scores of one table in a line."""
    scores = [f"{name} {rows[:, 1].mean():.2f}" for name, rows in models.items()]
    return "Held-out nats per row: " + ", ".join(scores).replace("-", "\N{MINUS SIGN}")


def draw(tables, scores):
    """Draw both tables and write the picture; return the mixtures in it."""
    style = {
        "font.size": 13,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "legend.frameon": False,
    }
    titles = {
        "mcycle": "Motorcycle crash: at rest, struck, swinging back, settling",
        "concrete": "Concrete: hardens fast when young, hardly when old",
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            2,
            2,
            figsize=(16, 9),
            sharex="col",
            height_ratios=(3, 1),
            layout="constrained",
        )
        models = {
            "mcycle": draw_mcycle(*axes[:, 0], tables["mcycle"]),
            "concrete": draw_concrete(*axes[:, 1], tables["concrete"]),
        }
        for ax, (name, title) in zip(axes[0], titles.items(), strict=True):
            ax.set_title(title, loc="left", fontsize=16, color=INK, pad=32)
            line = ax.text(
                0,
                1.025,
                caption(scores[name]),
                transform=ax.transAxes,
                color=GREY,
                fontsize=12,
            )
            line.set_in_layout(False)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1, wspace=0.06)
        OUT.parent.mkdir(exist_ok=True)
        figure.savefig(OUT, dpi=100)
    return models


def main():
    """Score, print, draw."""
    started = time.perf_counter()
    tables = {"mcycle": load_mcycle(), "concrete": load_concrete()}
    scores = {
        name: score_folds(name, table.data, table.target)
        for name, table in tables.items()
    }
    count("")
    print_table(scores, tables)
    for name, model in draw(tables, scores).items():
        print(f"\n{fill(f'{name}: {model.diagnose()}', 88)}")
    seconds = time.perf_counter() - started
    print(f"\n{OUT.relative_to(OUT.parents[1])} is drawn. ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
