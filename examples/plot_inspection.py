"""
Looking into a mixture: who answers where, how surely, and how it was found
===========================================================================

A fitted mixture holds more than predictions: which rows follow which rule, what
decides that, how well the rules are told apart, and whether the search can be trusted.
Each has a picture here. All of them work alike: ``from_estimator`` draws, ``frame()``
gives the numbers behind the picture, and an expert has the same colour everywhere.

The table is simulated, so that we know what is to be seen: the electric load of an
office district, which follows one of four regimes (heating, mild, cooling, closed).
"""

# %%
# Fit
# ---
# The regimes are kept out of the fit, of course.

import matplotlib.pyplot as plt
import pandas as pd

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_regimes
from skmoe.experts import LinearExpert
from skmoe.inspection import (
    ExpertUsageDisplay,
    GateProfileDisplay,
    GateRegionDisplay,
    ObjectiveTraceDisplay,
    ResponsibilityDisplay,
)

table = make_regimes(1500, random_state=0)
X = pd.DataFrame(table.data, columns=table.feature_names)
y = pd.Series(table.target, name="load")
model = MixtureOfExpertsRegressor(LinearExpert(alpha=0.1), n_experts=4, random_state=0)
model.fit(X, y)

# %%
# Where each expert is trusted
# ----------------------------
# Two columns at a time can be seen at once; the others are held at their medians, so
# this is a working day. A place has the colour of its most probable expert, paler where
# the gate is undecided, and a line runs where two experts are equally probable. Each
# point is a row, in the colour of the expert that answers for it *now that its load is
# known*: blue points in other regions are days off, which no place in this picture
# stands for.

GateRegionDisplay.from_estimator(model, X, y, features=("temperature", "daylight"))
plt.show()

# %%
# One column at a time
# --------------------
# Thin lines move single rows along the column, all else as it is; thick lines are their
# mean, the partial dependence. For temperature there are two bundles, working days and
# days off, and their mean describes neither: where thin lines part, another column has
# its say. A column with two values, or with categories, has bars; the lines on them
# hold the middle 80 % of the rows.

fig, axes = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
profile = GateProfileDisplay.from_estimator(model, X, "temperature", ax=axes[0])
GateProfileDisplay.from_estimator(model, X, "working_day", ax=axes[1])
plt.show()

# %%
# The numbers behind it, every fortieth of them:

print(profile.frame().iloc[::40, :5].round(2).to_string(index=False))

# %%
# Who does how much
# -----------------
# The gate's share is what an expert is expected to do, the responsibility what it did.
# The effective number of experts is that of equal shares with the same entropy. The
# second number is for a single row: a gate that is nearly always sure needs little more
# than one expert for it.

ExpertUsageDisplay.from_estimator(model, X, y)
plt.show()

# %%
# How well they are told apart
# ----------------------------
# Each row is a thin column, filled with the experts that answer for it: rows are sorted
# by their expert, and by how sure it is. Blocks of one colour are rules that are kept
# apart; slanted ends are rows that two rules explain equally well. The table below
# counts the same: ``ratio`` is the share of its own rows among those that an expert has
# any part in.

display = ResponsibilityDisplay.from_estimator(model, X, y)
plt.show()
print(display.separation().round(2).to_string(index=False))

# %%
# Do these rules have anything to do with the regimes that the rows were drawn from?

winner = display.frame()["expert"]
print(pd.crosstab(table.regime, winner))

# %%
# Can the search be trusted?
# --------------------------
# The likelihood of a mixture has many maxima. Many starts race a little, the better
# ones go on, and the thick line has won. How often its maximum was reached says how far
# it can be believed to be the highest.

traces = ObjectiveTraceDisplay.from_estimator(model)
plt.show()
print(traces.maxima().round(1).head().to_string(index=False))

# %%
# One expert too many
# -------------------
# What would a fifth expert do? Next to nothing: it has two rows in a hundred, the
# effective number hardly rises, and most of its rows it shares with another.

more = MixtureOfExpertsRegressor(LinearExpert(alpha=0.1), n_experts=5, random_state=0)
more.fit(X, y)
fig, axes = plt.subplots(
    2, 1, figsize=(7, 6), height_ratios=(3, 2.4), layout="constrained"
)
ExpertUsageDisplay.from_estimator(more, X, y, ax=axes[0])
ResponsibilityDisplay.from_estimator(more, X, y, ax=axes[1])
plt.show()
