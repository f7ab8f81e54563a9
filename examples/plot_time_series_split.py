"""
Cross-validation for time: why shuffled folds lie
=================================================

A model of regimes is asked about rows that come later. Folds that are shuffled ask
something else: what happened between two rows that are known. Where regimes last, the
second question is easy, and a model that can answer nothing else wins. Here it does,
on simulated data, and later rows find it out.
"""

# %%
# Three rules that take turns
# ---------------------------
# Each row follows one of three lines, and the line stays for 100 rows on average. The
# table has the input of the lines, and the time.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    TimeSeriesSplit,
    cross_val_score,
)

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert
from skmoe.gates import ConstantGate
from skmoe.metrics import get_scorer
from skmoe.sequence import MarkovMixtureOfExpertsRegressor, one_step_log_score

rng = np.random.default_rng(1)
n_rows, stay = 600, 100
states = np.zeros(n_rows, dtype=int)
for t in range(1, n_rows):
    moves = rng.uniform() < 1.0 / stay
    states[t] = (states[t - 1] + moves * rng.integers(1, 3)) % 3
x = rng.uniform(-1.0, 1.0, n_rows)
level, slope = np.array([0.0, 1.0, 1.5]), np.array([1.5, -1.0, 0.5])
y = level[states] + slope[states] * x + 0.3 * rng.standard_normal(n_rows)
X = np.column_stack([x, np.arange(n_rows) / 100.0])  # the input, the time

# %%
# Three kinds of model
# --------------------
# - ``clock``: a mixture whose gate sees the time. It can learn *when* each rule held;
# - ``flat``: a mixture whose gate sees the input, and no time at all;
# - ``Markov``: a gate that sees the expert of the row before.
#
# All have linear experts on the input. ``ConstantGate(alpha=1)`` counts one move of
# each kind in addition to those that were seen: a move that the training rows happen to
# lack is still possible, and later rows may hold one.


def mixture(n_experts, gate_features):
    experts = [(f"rule {k}", LinearExpert(), [0]) for k in range(n_experts)]
    return MixtureOfExpertsRegressor(
        experts, gate_features=gate_features, n_init=2, tol=1e-5, random_state=0
    )


def markov(n_experts):
    return MarkovMixtureOfExpertsRegressor(
        n_experts=n_experts,
        gate=ConstantGate(alpha=1),
        expert_features=[0],
        continues=True,  # rows to be scored go on from the end of the fit
        n_init=2,
        tol=1e-5,
        random_state=0,
    )


by_row = get_scorer("log_score")
models = {f"clock, {k} experts": (mixture(k, [1]), by_row) for k in (3, 5)}
models["flat, 3 experts"] = (mixture(3, [0]), by_row)
models |= {f"Markov, {k} experts": (markov(k), one_step_log_score) for k in (2, 3)}

# %%
# Two ways to ask
# ---------------
# The score is the log density of the rows left out, in nats a row. For the Markov
# mixture it is that of each row given those *before* it.

ways = {
    "shuffled": KFold(5, shuffle=True, random_state=0),
    "later": TimeSeriesSplit(4, test_size=75),
}
scores = {
    name: [cross_val_score(m, X, y, cv=cv, scoring=s).mean() for cv in ways.values()]
    for name, (m, s) in models.items()
}
print(f"{'':20} {'shuffled':>9} {'later':>9}")
for name, (shuffled, later) in scores.items():
    print(f"{name:20} {shuffled:9.2f} {later:9.2f}")

# %%
# With shuffled folds the clock wins: the rows around a row that was left out are in the
# fit, and tell which rule held. Of later rows it knows nothing, and speaks with
# confidence. The order of the models turns round.
#
# Shuffled folds do the Markov mixture an injustice, too: with holes in the sequence,
# rows that were apart seem to follow each other.

fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
colors = ["#D55E00", "#D55E00", "0.5", "#0072B2", "#0072B2"]
for ax, way, values in zip(axes, ways, np.array(list(scores.values())).T, strict=True):
    ax.hlines(list(scores), -6.0, values, color=colors, lw=1.5)
    ax.scatter(values, list(scores), c=colors, s=45)
    ax.set(title=f"{way} rows", xlabel="log density (nats a row)", xlim=(-6.0, 0.0))
axes[0].invert_yaxis()
plt.show()

# %%
# No leak
# -------
# What is predicted for a row must not change when it, or rows after it, do. The fit is
# of rows before the fold; ``predict(X, y)`` uses the responses before each row. So
# write nonsense over the last 40 responses: what was said of the rows up to the first
# of them stays the same to the last digit.

train, test = list(ways["later"].split(X))[-1]
model = markov(3).fit(X[train], y[train])
said = model.predict(X[test], y[test])
nonsense = y[test].copy()
nonsense[-40:] = rng.normal(50.0, 10.0, 40)
change = np.abs(model.predict(X[test], nonsense) - said)
print(
    f"change up to that row {change[:-39].max():.1f}, after it {change[-39:].max():.1f}"
)
assert change[:-39].max() == 0.0

# %%
# ``smooth`` and ``decode`` do look ahead: they are for reading a series, not for
# scores.
#
# The number of experts
# ---------------------
# By the log score on later rows, with any search of scikit-learn:

search = GridSearchCV(
    markov(1), {"n_experts": [1, 2, 3, 4]}, scoring=one_step_log_score, cv=ways["later"]
)
search.fit(X, y)
print("experts:", search.best_params_["n_experts"])
best = search.best_estimator_
print("stays, in rows:", best.dwell_times().round(0))
print("of the next row:", best.gate_proba(X[-1:]).round(2))
