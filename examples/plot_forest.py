"""
A forest of mixtures: accuracy first, and a law
===============================================

One tree of experts can be read; a forest of them predicts better. Each tree is fitted
to rows drawn with replacement, and the forest's law is the average of the trees' laws:
still a density for every row, with a mean, quantiles and draws. Rows that a tree has
not seen judge it for nothing, so that score, density and importance of columns need no
rows to be held out.

Boosting is what it has to be measured by. It predicts a number, so it is given a normal
law here: its variance comes from rows left out of five folds.
"""

# %%
# Three models of one column
# --------------------------
# The motorcycle data have one column, so that a law can be seen whole. All three models
# are at their defaults, but for the depth of the trees: with 133 rows, four leaves
# a tree are enough.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict, train_test_split

from skmoe import (
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe.datasets import load_concrete, load_mcycle

folds = KFold(5, shuffle=True, random_state=0)


class NormalBoosting(HistGradientBoostingRegressor):
    """Histogram boosting with normal noise around it."""

    def fit(self, X, y):
        """Fit all rows; the noise comes from rows left out of five folds."""
        plain = HistGradientBoostingRegressor(**self.get_params())
        error = y - cross_val_predict(plain, X, y, cv=folds)
        self.noise_ = np.sqrt(np.mean(error**2))
        return super().fit(X, y)

    def log_prob(self, X, y):
        """Return the log density of each row in nats."""
        return norm.logpdf(y, self.predict(X), self.noise_)


def make_models(depth, n_estimators=10):
    """Return the three models by name, unfitted."""
    return {
        "one tree": HierarchicalMixtureOfExpertsRegressor(depth=depth, random_state=0),
        "forest": HierarchicalMixtureForestRegressor(
            n_estimators, depth=depth, oob_score=True, random_state=0
        ),
        "boosting": NormalBoosting(random_state=0),
    }


X, y = load_mcycle(return_X_y=True)
time = np.linspace(0.0, 60.0, 181)
height = np.linspace(-180.0, 120.0, 201)
cells = np.repeat(time, height.size)[:, None], np.tile(height, time.size)

fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, make_models(depth=2).items(), strict=True):
    log_density = model.fit(X, y).log_prob(*cells)
    # The square root of the density shows the wide humps beside the narrow one.
    root = np.exp(0.5 * log_density).reshape(time.size, height.size).T
    ax.pcolormesh(time, height, root, cmap="Greys", shading="gouraud", vmax=0.35)
    ax.plot(time, model.predict(time[:, None]), color="#0072B2", lw=1.5)
    ax.scatter(X[:, 0], y, s=9, color="#E69F00", ec="white", lw=0.3)
    ax.set(title=name, xlabel="time after the impact (ms)", ylim=(-180, 120))
axes[0].set_ylabel("acceleration of the head (g)")
plt.show()

# %%
# The single tree has four lines, and has to say where one ends and the next begins.
# The trees of the forest put their borders at different times, and by default have
# curves (splines) in their leaves where rows allow it; their average is smooth, in its
# mean and in its density. Boosting has steps for a mean, and the same noise before the
# impact, when the head is at rest, as in the middle of it.
#
# Eight columns
# -------------
# The same three on the strength of concrete, at their defaults; a quarter of the rows
# is held out. Beside the held-out scores stand the forest's own, out of bag: of each
# row, by the trees that have not seen it.

table = load_concrete()
X, X_new, y, y_new = train_test_split(table.data, table.target, random_state=0)
models = make_models(depth=4)
print(f"{'':12}{'R2':>8}{'nats a row':>14}")
for name, model in models.items():
    score = model.fit(X, y).score(X_new, y_new)
    print(f"{name:12}{score:8.3f}{model.log_prob(X_new, y_new).mean():14.2f}")
forest = models["forest"]
print(f"{'out of bag':12}{forest.oob_score_:8.3f}{forest.oob_log_score_:14.2f}")

# %%
# On this table boosting keeps the better R2, and the forest has the better density: it
# knows which of its predictions are good. The standard deviation of its law tells them
# apart. Here rows are put in four groups by it: the errors of a law that is honest are
# about as large as it says, group by group.

mean, std = forest.predict(X_new, return_std=True)
for group in np.array_split(np.argsort(std), 4):
    error = np.sqrt(np.mean((y_new - mean)[group] ** 2))
    print(f"said {np.sqrt(np.mean(std[group] ** 2)):5.1f} MPa, was {error:5.1f} MPa")

# %%
# What the forest looks at
# ------------------------
# ``feature_importances_`` is the log score that shuffling a column costs on the rows
# out of bag, as shares of the whole. It is measured on the law, so a column that only
# moves the noise counts too.

order = np.argsort(forest.feature_importances_)
names = [table.feature_names[j].replace("_", " ") for j in order]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.barh(names, forest.feature_importances_[order], color="#0072B2")
left.set(xlabel="share of the log score", title="Importance of the columns")
left.spines[["top", "right"]].set_visible(False)

law = forest.predict_distribution(X_new)
level = law.cdf(y_new)  # uniform, where the law is right
right.hist(level, bins=10, range=(0, 1), color="#0072B2", ec="white")
right.axhline(level.size / 10, color="0.3", ls="--", lw=1)
right.set(xlabel="F(y) of the held-out rows", ylabel="rows", title="Calibration")
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# More trees
# ----------
# Ten trees are the default. More of them smooth the law a little further, at a cost
# that grows in proportion; beyond some tens nothing is left to gain.

for n_estimators in (1, 3, 10, 30):
    model = HierarchicalMixtureForestRegressor(n_estimators, random_state=0)
    model.fit(X, y)
    print(
        f"{n_estimators:3d} trees: R2 {model.score(X_new, y_new):.3f}, "
        f"{model.log_prob(X_new, y_new).mean():.2f} nats a row"
    )
