"""
One curve, four rules: the motorcycle crash
===========================================

A dummy on a motorcycle hits a wall; an instrument measures how its head is
accelerated. For some milliseconds nothing happens, then the head is struck, swings
back and settles. No straight line describes that, and neither does one noise level:
before the impact the head hardly moves, later it may be anywhere within 50 g.

A mixture of linear experts describes each phase by a line with a noise of its own, and
a *gate* says from the time which line holds.
"""

# %%
# Fit
# ---
# Four experts are asked for. Their ridge (``alpha``) pulls each line towards one fit
# of all rows, in units of rows; lines as different as these want little of it.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_mcycle
from skmoe.experts import LinearExpert

X, y = load_mcycle(return_X_y=True)
model = MixtureOfExpertsRegressor(LinearExpert(alpha=0.1), n_experts=4, random_state=0)
model.fit(X, y)

# %%
# Experts have no order of their own, so they are listed by when they are used: the
# mean time of the rows, weighted by the gate.

gate = model.gate_proba(X)
order = np.argsort(gate.T @ X[:, 0] / gate.sum(axis=0))
for k in order:
    expert = model.experts_[k]
    print(
        f"{gate[:, k].sum():5.1f} rows  slope {expert.coef_[0]:6.2f} g/ms  "
        f"noise {np.sqrt(expert.dispersion):5.1f} g"
    )

# %%
# The law
# -------
# The model is not a curve but a law: for each time a density over accelerations, the
# gate-weighted sum of the experts' normal densities. Here it is as a map. Around 14 ms
# and again around 33 ms two rules compete, and the density has two ridges.

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
time = np.linspace(0.0, 60.0, 241)
height = np.linspace(-180.0, 120.0, 301)
law = model.predict_distribution(np.repeat(time, height.size)[:, None])
density = np.exp(law.log_prob(np.tile(height, time.size)))
density = density.reshape(time.size, height.size).T

fig, (top, bottom) = plt.subplots(
    2, 1, figsize=(8, 6.5), height_ratios=(3, 1), sharex=True, layout="constrained"
)
# The square root of the density shows the wide humps beside the narrow one.
top.pcolormesh(time, height, np.sqrt(density), cmap="Greys", shading="gouraud")
top.scatter(X[:, 0], y, s=14, color="#E69F00", ec="white", lw=0.4)
top.set(ylabel="acceleration of the head (g)", title="The law: density of y at each x")
shares = model.gate_proba(time[:, None])[:, order]
bottom.stackplot(time, shares.T, colors=COLORS, lw=0)
bottom.set(
    xlabel="time after the impact (ms)",
    ylabel="gate",
    ylim=(0, 1),
    xlim=(0, 60),
    title="The gate: who is trusted when",
)
plt.show()

# %%
# One number of the law
# ---------------------
# ``pooling`` says which number ``predict`` makes of the law. Each is an attribute of
# the law, so that one fit gives all three:
#
# - ``"mean"``, the gate-weighted mean, has the least squared error and is smooth;
# - ``"top1"`` follows the most probable expert, so it is one rule at a time and jumps;
# - ``"mode"`` is the highest point of the density. It prefers experts with little
#   noise: their humps are narrow and tall.

law = model.predict_distribution(time[:, None])
lines = model.predict_experts(time[:, None])

fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
ax.scatter(X[:, 0], y, s=14, color="0.75")
for color, k in zip(COLORS, order, strict=True):
    trusted = model.gate_proba(time[:, None])[:, k] > 0.05
    ax.plot(time[trusted], lines[trusted, k], color=color, lw=6, alpha=0.35)
ax.plot(time, law.mean, color="black", lw=1.6, label="mean")
ax.plot(time, law.top1, color="black", lw=1.2, ls="--", label="top1")
ax.plot(time, law.mode, color="black", lw=2.0, ls=":", label="mode")
ax.set(xlabel="time after the impact (ms)", ylabel="acceleration of the head (g)")
ax.set(xlim=(0, 60), ylim=(-150, 100), title="Experts (wide lines) and three poolings")
ax.legend(frameon=False, loc="lower right")
plt.show()

# %%
# How far to trust it
# -------------------
# ``return_std`` gives the standard deviation of the law. It holds the noise within
# each expert and the disagreement between them, so it is widest where the head
# is on its way: there a millisecond more or less makes all the difference.

mean, std = model.predict([[5.0], [20.0], [30.0], [50.0]], return_std=True)
for x, m, s in zip((5, 20, 30, 50), mean, std, strict=True):
    print(f"{x:3d} ms: {m:7.1f} ± {s:4.1f} g")
