"""
A table as it comes: gaps and categories
========================================

The load of an office district by temperature, wind, daylight and the kind of day. The
kind of day is a word, instruments fail, and nobody wants to fill a table before every
fit. Here the table goes in as it is, and the law says what a missing reading costs.
"""

# %%
# Fit
# ---
# A categorical column of a data frame becomes one indicator for each category, for
# gate and experts alike. A gap (NaN) in a column of numbers takes the mean of the
# column, and an indicator tells the experts that it was a gap. So every row can be
# used, in ``fit`` and in ``predict``.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_regimes
from skmoe.gates import GaussianGate

table = make_regimes(2000, random_state=0)
whole = pd.DataFrame(table.data, columns=table.feature_names)
y = table.target
day = np.where(whole.pop("working_day") > 0, "working day", "day off")
X = whole.assign(day=pd.Categorical(day))


def with_gaps(X, share, seed):
    """Return the table with a share of all entries missing, at random."""
    rng = np.random.default_rng(seed)
    return X.mask(rng.random(X.shape) < share)


holed = with_gaps(X, 0.15, seed=0)
print(holed.head(4).round(1).to_string())
model = MixtureOfExpertsRegressor(random_state=0).fit(holed, y)
print(
    f"R2 {model.score(holed, y):.3f}, {model.log_prob(holed, y).mean():.3f} nats a row"
)

# %%
# What a reading is worth
# -----------------------
# A chilly working day in November, as four tables may tell it. Without the thermometer
# the law is wider; without the calendar it has two humps, a working day and a day
# off. Nothing is imputed there: the gate weighs the regimes by what is left.

case = pd.DataFrame(
    {"temperature": [5.0], "wind": [4.0], "daylight": [9.0], "day": ["working day"]}
)
tables = {
    "all known": case,
    "no temperature": case.assign(temperature=np.nan),
    "no kind of day": case.assign(day=None),
    "an unknown word": case.assign(day="bank holiday"),
}
load = np.linspace(10.0, 80.0, 401)
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
styles = ["-", "-", "-", ":"]
for (name, one), style in zip(tables.items(), styles, strict=True):
    law = model.predict_distribution(one.loc[[0] * load.size])
    ax.plot(load, np.exp(law.log_prob(load)), style, lw=2, label=name)
ax.set(xlabel="load (MW)", ylabel="density", ylim=(0, None))
ax.set(title="The law of one day, by what is known of it")
ax.legend(frameon=False)
plt.show()

# %%
# A category that ``fit`` has not seen is read as a gap, not as an error: a law that
# is broad is the honest answer to a word that says nothing.
#
# How much is lost
# ----------------
# Trained on holed rows, judged by other holed rows. ``GaussianGate`` models where
# each regime lives and integrates over what is missing; it needs no fill for the
# gate. Filling by the column's mean is what one does otherwise. Boosting has no law,
# and is judged by R2 alone.

num = whole.assign(day=(X["day"] == "working day").astype(float))
shares = (0.0, 0.1, 0.2, 0.35, 0.5)
models = {
    "as it comes": (clone(model), X),
    "GaussianGate": (
        MixtureOfExpertsRegressor(gate=GaussianGate(), random_state=0),
        num,
    ),
    "means filled in": (make_pipeline(SimpleImputer(), clone(model)), num),
    "boosting": (HistGradientBoostingRegressor(random_state=0), X),
}
train, test = np.arange(1000), np.arange(1000, 2000)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
colors = ["#0072B2", "#009E73", "#E69F00", "#999999"]
for color, (name, (fitted, frame)) in zip(colors, models.items(), strict=True):
    scores, nats = [], []
    for share in shares:
        rows = with_gaps(frame, share, seed=1)
        fitted.fit(rows.iloc[train], y[train])
        scores.append(fitted.score(rows.iloc[test], y[test]))
        last, new = fitted, rows.iloc[test]
        if name == "means filled in":
            last, new = fitted[-1], fitted[0].transform(new)
        if hasattr(last, "log_prob"):
            nats.append(last.log_prob(new, y[test]).mean())
    left.plot(shares, scores, "o-", color=color, label=name)
    if nats:
        right.plot(shares, nats, "o-", color=color, label=name)
    print(f"{name:16s} R2", *(f"{score:.3f}" for score in scores))
left.set(xlabel="share of missing entries", ylabel="R2 of new rows")
right.set(xlabel="share of missing entries", ylabel="log density of new rows (nats)")
left.legend(frameon=False)
plt.show()
