"""
Why this prediction, and what does the gate know?
=================================================

A column acts on the prediction of a mixture in two ways: *within* the experts, as in
any linear model, and *through the gate*, by handing the row to other experts. Age does
both to concrete: it makes a mix stronger, and it decides by which rule the ingredients
count. ``explain`` keeps the two apart, and all of it adds up to the prediction.

Then the gate is asked what it has learned: its probabilities become features of a
linear model that guesses things nobody told it.
"""

# %%
# Fit, and a diagnosis
# --------------------
# Four linear experts predict the strength of concrete (MPa) from seven ingredients
# (kg in a cubic metre) and its age in days. ``diagnose`` says in one paragraph whether
# anything stands out.

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete

X, y = load_concrete(return_X_y=True, as_frame=True)
X.columns = [name.replace("_", " ") for name in X.columns]
X_fit, X_new, y_fit, y_new = train_test_split(X, y, random_state=0)

model = MixtureOfExpertsRegressor(n_experts=4, random_state=0).fit(X_fit, y_fit)
print(textwrap.fill(str(model.diagnose()), 80))
print(f"R2 on new rows {model.score(X_new, y_new):.2f}")

# %%
# Why these rows?
# ---------------
# The baseline is the prediction for the mean mix. From there each column has two
# numbers.

why = model.explain(X_new)
print(why.to_text(n_rows=2))

total = why.baseline + why.contributions.sum(axis=1)
total += why.gate_contributions.sum(axis=1)
print("largest gap to predict:", np.abs(total - model.predict(X_new)).max())

# %%
# The same as a picture, for the weakest and the strongest of the new mixes. Filled
# bars are what a column does within the experts, hatched ones what it does through
# the gate.

IN, GATE = "#0072B2", "#E69F00"


def draw_ways(ax, row):
    """Draw both contributions of each column to the prediction of a row."""
    parts = np.stack([why.contributions[row], why.gate_contributions[row]])
    order = np.argsort(np.abs(parts).sum(axis=0))
    place = np.arange(order.size)
    ax.barh(place + 0.2, parts[0, order], 0.4, color=IN, label="in the experts")
    ax.barh(
        place - 0.2, parts[1, order], 0.4, color=GATE, hatch="//", label="by the gate"
    )
    values = X_new.iloc[row]
    ax.set_yticks(place, [f"{X.columns[j]} = {values.iloc[j]:g}" for j in order])
    ax.axvline(0, color="0.5", lw=0.8)
    first = why.gate_proba[row].argmax()
    ax.set_title(
        f"baseline {why.baseline:.0f}, predicted {why.prediction[row]:.0f} MPa "
        f"({why.gate_proba[row, first]:.0%} {why.expert_names[first]})",
        fontsize=10,
    )
    ax.set_xlabel("contribution (MPa)")
    ax.spines[["top", "right"]].set_visible(False)


fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
draw_ways(axes[0], why.prediction.argmin())
draw_ways(axes[1], why.prediction.argmax())
axes[1].legend(loc="lower right", frameon=False)
plt.show()

# %%
# Over all new rows: cement is a matter of the experts. Age works through the gate
# as much as within them, since young and old concrete follow different rules.

ways = {"in experts": why.contributions, "by the gate": why.gate_contributions}
size = {way: np.abs(parts).mean(axis=0) for way, parts in ways.items()}
print(pd.DataFrame(size, index=X.columns).round(1))

# %%
# What does the gate know?
# ------------------------
# A mixture is a transformer too: ``transform`` returns the gate's probabilities, one
# column for each expert. A linear probe on these four numbers shows what they carry.
# It is asked for facts about a mix, and judged by the area under the ROC curve in
# cross-validation: 1/2 is guessing.

gate = model.set_output(transform="pandas").transform(X)
print(gate.round(2).head(3))

facts = {
    "older than 28 days": X["age"] > 28,
    "stronger than 50 MPa": y > 50,
    "more water than 0.6 cement": X["water"] > 0.6 * X["cement"],
    "with superplasticizer": X["superplasticizer"] > 0,
    "with fly ash": X["fly ash"] > 0,
    "with slag": X["blast furnace slag"] > 0,
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
probe = LogisticRegression(max_iter=1000)
area = {
    fact: cross_val_score(probe, gate, true, cv=folds, scoring="roc_auc").mean()
    for fact, true in facts.items()
}

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.barh(list(area), [value - 0.5 for value in area.values()], left=0.5, color=GATE)
for fact, value in area.items():
    ax.text(value + 0.01, fact, f"{value:.2f}", va="center")
ax.invert_yaxis()
ax.set(xlim=(0.5, 1.08), xlabel="area under the curve of the probe")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The gate sorts mixes by age, and by how strong they will be. It hardly knows what is
# in them: that is the experts' business.
#
# As features beside the columns, the regimes give a linear model what it cannot have
# by itself. The mixture is a step of the Pipeline, fitted anew in each fold.

regimes = MixtureOfExpertsRegressor(n_experts=4, n_init=1, random_state=0)
columns = make_pipeline(StandardScaler(), LinearRegression())
both = make_pipeline(
    StandardScaler(), make_union("passthrough", regimes), LinearRegression()
)
order = np.random.default_rng(0).permutation(len(y))
for name, linear in {"columns alone": columns, "columns and gate": both}.items():
    score = cross_val_score(linear, X.iloc[order], y.iloc[order], cv=5).mean()
    print(f"linear model of {name:17} R2 {score:.2f}")
