"""
A tree that explains what it predicts
=====================================

A decision tree is read from the root to a leaf, and there the story ends: one number
for all rows of the leaf. Boosting predicts far better and tells no story at all. A
hierarchical mixture of experts stands in between. Its splits are soft, so that a row
near a border hears both sides; each may weigh several columns; and in every leaf there
is a small linear model with a noise level of its own.

Here a tree with four leaves predicts how strong concrete is, from seven ingredients
(kg in a cubic metre) and its age in days.
"""

# %%
# Fit
# ---
# ``depth=2`` asks for two levels of gates, so four leaves. A quarter of the rows is
# kept to judge by. Beside the mixture stand a straight line, a decision tree as small,
# one that may grow, and boosting.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

from skmoe import HierarchicalMixtureOfExpertsRegressor
from skmoe.datasets import load_concrete
from skmoe.inspection import TreeDisplay

table = load_concrete()
names = [name.replace("_", " ") for name in table.feature_names]
X, X_new, y, y_new = train_test_split(table.data, table.target, random_state=0)

model = HierarchicalMixtureOfExpertsRegressor(depth=2, random_state=0).fit(X, y)
models = {
    "linear model": LinearRegression(),
    "decision tree, 4 leaves": DecisionTreeRegressor(max_depth=2),
    "decision tree, leaves of 5": DecisionTreeRegressor(min_samples_leaf=5),
    "mixture, 4 leaves": model,
    "histogram boosting": HistGradientBoostingRegressor(random_state=0),
}
for name, other in models.items():
    score = other.fit(X, y).score(X_new, y_new)
    print(f"{name:27} R2 {score:.2f}")

# %%
# The whole model on a page
# -------------------------
# The root is on the left. A box names the columns that its gate weighs most, the
# strongest first: young concrete goes up and old concrete goes down, and cement makes
# a mix count as older than it is. Bands are as wide as the share of the held-out
# rows that they carry, softly split, and as yellow as their strength. On the right
# are the rules: the three terms that matter most in each leaf, and how closely
# the rule is kept (noise, in MPa).

display = TreeDisplay.from_estimator(model, X_new, feature_names=names)
plt.show()

# %%
# Why this mix?
# -------------
# ``explain`` follows rows through the tree. For each it gives the path, the
# probability that each gate gave to it, and what each column contributed by being
# where it is rather than at its mean. What the contributions add to is the baseline:
# what the same leaves, in the same shares, would predict for the mean mix. All of it
# adds up to the prediction, exactly.

why = model.explain(X_new)
total = why.baseline + why.contributions.sum(axis=1) + why.rest
print("largest gap:", np.abs(total - model.predict(X_new)).max())

# %%
# Two mixes: one that the gates are sure about, and the one that they are least
# sure about. For the second the prediction lies between what several leaves say.

rows = [why.leaf_proba.argmax(), why.leaf_proba.argmin()]
for row in rows:
    path = " > ".join(str(node) for node in why.path[row])
    print(
        f"row {row}: nodes {path}, so leaf {why.leaf[row]} with probability "
        f"{why.leaf_proba[row]:.2f}, which says {why.leaf_prediction[row]:.1f} MPa"
    )


def draw_sum(ax, row):
    """Draw how baseline and contributions add up to the prediction of a row."""
    order = np.argsort(np.abs(why.contributions[row]))[::-1]
    parts = why.contributions[row, order]
    stops = why.baseline[row] + np.concatenate([[0.0], parts.cumsum()])
    colors = np.where(parts > 0, "#009E73", "#D55E00")
    ax.barh(range(1, parts.size + 1), parts, left=stops[:-1], color=colors)
    for i, stop in enumerate(stops):  # from the end of a bar to the next one
        ax.plot([stop, stop], [i - 0.4, i + 1.4], color="0.6", lw=0.8)
    ticks = [f"{names[j]} = {X_new[row, j]:g}" for j in order]
    ax.set_yticks(range(parts.size + 2), ["baseline", *ticks, "prediction"])
    ax.plot(stops[0], 0, "o", color="0.3")
    ax.plot(why.prediction[row], parts.size + 1, "D", color="black")
    ax.plot(y_new[row], parts.size + 1, "|", color="black", ms=18, mew=2)
    ax.use_sticky_edges = False  # bars would end at the frame
    ax.autoscale_view()
    ax.invert_yaxis()
    leaf, sure = why.leaf[row], why.leaf_proba[row]
    ax.set(xlabel="strength (MPa)", title=f"row {row}: leaf {leaf}, {sure:.0%} sure")
    ax.spines[["top", "right"]].set_visible(False)


fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for ax, row in zip(axes, rows, strict=True):
    draw_sum(ax, row)
fig.supxlabel("diamond: predicted, bar: measured", fontsize=9, color="0.3")
plt.show()

# %%
# A hard tree, and how far it can be trusted
# ------------------------------------------
# Where a rule must fit on paper, ``to_tree`` sends each row down its most probable
# path alone. How much of the soft tree is lost by that is measured on the rows given:
# ``fidelity_`` is the R2 of the hard predictions for the soft ones, and
# ``path_purity_`` the mean probability of the path taken.

hard = model.to_tree(X_new, y_new)
print(f"fidelity {hard.fidelity_:.2f}, purity of the paths {hard.path_purity_:.2f}")
print(f"R2 of the soft tree {hard.soft_score_:.2f}, of the hard one {hard.score_:.2f}")
print(hard.export_text(names, decimals=2, max_columns=3))

# %%
# So the hard tree is worse than the soft one: that is what soft borders are worth,
# and why a text like this is to be read as a summary of the model, with its fidelity
# beside it, and not as the model itself.
#
# What would more leaves buy? Twice as many rules to read for little more accuracy,
# here as on most small tables; the log score, in nats a row, also says how honest the
# noise of the leaves is.

for depth in (1, 2, 3, 4):
    tree = HierarchicalMixtureOfExpertsRegressor(depth=depth, random_state=0)
    hard = tree.fit(X, y).to_tree(X_new, y_new)
    print(
        f"{hard.n_leaves:3d} leaves: R2 {hard.soft_score_:.2f} soft, "
        f"{hard.score_:.2f} hard, fidelity {hard.fidelity_:.2f}, "
        f"{tree.log_prob(X_new, y_new).mean():.2f} nats a row"
    )
