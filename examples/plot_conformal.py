"""
A band that keeps its promise: conformal calibration
====================================================

A mixture says how far it may be trusted: its 90 % interval should hold nine responses
in ten. It does if the model is right, and no model is. Rows that the fit has not seen
can correct it, with a guarantee that does not depend on the model. What a mixture adds
is its gate: it says which rows are of one regime, so that each regime can be corrected
by its own.
"""

# %%
# A model that is wrong
# ---------------------
# A machine is measured in three ranges of speed, far less exactly in the middle one.
# The mixture below has one noise level for all experts: wrong in each.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.conformal import SplitConformalMixture
from skmoe.datasets import make_piecewise_linear, make_two_valued

noise = [0.2, 1.5, 0.5]
X, y = make_piecewise_linear(6000, n_pieces=3, noise=noise, random_state=1)
X_new, y_new, X, y = X[1200:], y[1200:], X[:1200], y[:1200]
mixture = MixtureOfExpertsRegressor(
    n_experts=3, init="kmeans", shared_dispersion=True, random_state=0
)

# %%
# Half of the rows calibrate
# --------------------------
# The same fit serves all kinds of sets, so `weights` may be changed after it. "uniform"
# moves all borders by one length. "gate" compares a row with calibration rows whose
# gate probabilities are like its own.

model = SplitConformalMixture(mixture, calibration_size=0.5, random_state=0).fit(X, y)
line = np.linspace(0.0, 3.0, 401)[:, None]
law = model.estimator_.predict_distribution
bands = {"law": law(line).interval(0.9)}
held = {"law": law(X_new).interval(0.9)}
for weights in ("uniform", "gate"):
    model.set_params(weights=weights)
    bands[weights] = model.predict_interval(line)
    held[weights] = model.predict_interval(X_new)
held = {
    name: (ends[:, 0] <= y_new) & (y_new <= ends[:, 1]) for name, ends in held.items()
}

colors = {"law": "#999999", "uniform": "#D55E00", "gate": "#0072B2"}
names = {
    "law": "interval of the law",
    "uniform": "calibrated",
    "gate": "calibrated by regime",
}
fig, (top, low) = plt.subplots(
    2, 1, figsize=(8, 6.5), sharex=True, layout="constrained", height_ratios=[3, 2]
)
top.scatter(X_new[:800, 0], y_new[:800], s=4, color="#888888", lw=0, zorder=0)
for name in ("uniform", "gate"):
    top.plot(line, bands[name], color=colors[name], lw=1.8)
top.set(ylabel="response", title="One width for all, and a width for each regime")
bins = np.linspace(0.0, 3.0, 16)
place = np.digitize(X_new[:, 0], bins) - 1
for name, hit in held.items():
    share = [hit[place == k].mean() for k in range(15)]
    low.stairs(
        share, bins, color=colors[name], lw=1.8, label=names[name], baseline=None
    )
low.axhline(0.9, color="#888888", lw=1, ls=":")
low.set(xlabel="speed", ylabel="share held", ylim=(0.5, 1.02))
fig.legend(frameon=False, loc="outside lower center", ncols=3)
plt.show()

# %%
# Overall, each calibrated band holds its nine in ten. By regime only one of them does:
# the other buys its average with 100 % where the machine is quiet.

expert = model.estimator_.apply(X_new)
for name, hit in held.items():
    by_expert = [f"{hit[expert == k].mean():.2f}" for k in np.unique(expert)]
    width = np.mean(bands[name][:, 1] - bands[name][:, 0])
    print(f"{name:8} {hit.mean():.3f}, by expert {by_expert}, mean width {width:.2f}")

# %%
# Sets in two pieces
# ------------------
# Where a question has two answers (see the example of the robot's arm), an interval
# that holds both holds all that lies between. A highest-density set does not.

X, y = make_two_valued(800, random_state=0)
mixture = MixtureOfExpertsRegressor(init="kmeans", random_state=0)
model = SplitConformalMixture(mixture, random_state=0).fit(X, y)
line = np.linspace(0.26, 0.84, 151)[:, None]
interval = model.predict_interval(line)
union = model.set_params(method="highest-density").predict_interval(line)

fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
ax.fill_between(line[:, 0], *interval.T, color=colors["uniform"], alpha=0.25, lw=0)
for row, x in enumerate(line[:, 0]):
    for piece in union[row]:
        ax.plot([x, x], piece, color=colors["gate"], lw=4, solid_capstyle="butt")
ax.scatter(X[:, 0], y, s=4, color="white", edgecolor="black", lw=0.3, zorder=3)
ax.plot([], [], color=colors["uniform"], alpha=0.25, lw=8, label="interval")
ax.plot([], [], color=colors["gate"], lw=8, label="highest-density set")
ax.set(xlabel="distance of the hand (m)", ylabel="angle of the elbow (rad)")
ax.set_title("Both hold 90 % of new rows")
fig.legend(frameon=False, loc="outside lower center", ncols=2)
plt.show()

# %%
# The guarantee is the same, the length is not.

X_new, y_new = make_two_valued(4000, random_state=1)
union = model.predict_interval(X_new)
low, high = model.set_params(method="quantile").predict_interval(X_new).T
print(f"interval {np.mean((low <= y_new) & (y_new <= high)):.3f}", end=", ")
print(f"length {np.mean(high - low):.2f} rad")
print(f"union    {union.contains(y_new).mean():.3f}", end=", ")
print(f"length {union.length().mean():.2f} rad, {union.n_pieces.mean():.1f} pieces")
