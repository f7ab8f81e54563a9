"""
Where the answer lies: intervals of a law with two modes
========================================================

The elbow of a robot's arm may be bent up or down, and only the distance of the hand is
known. What is a 90 % interval for the angle? The central one, from the 5 % to the 95 %
quantile, spans both answers and the empty middle between them. The smallest set that
holds 90 % is a union of two short intervals.

A mixture of experts has the whole law of each row, so both can be had, and scored.
"""

# %%
# Fit
# ---
# The angle is known to 0.1 radian on either branch. Four linear experts make two to a
# branch; the prior on the noise variance is made weak.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_two_valued
from skmoe.experts import LinearExpert
from skmoe.metrics import get_scorer

X, y = make_two_valued(600, random_state=0)
expert = LinearExpert(alpha=0.1, variance_prior=(2, 0.002))
model = MixtureOfExpertsRegressor(expert, n_experts=4, random_state=0).fit(X, y)

# %%
# One row
# -------
# The region of a level is where the density is above a cut, and the cut is chosen so
# that the probability above it is the level.

reach = [[0.55]]
law = model.predict_distribution(reach)
central = law.interval(0.9)
region = law.interval(0.9, method="highest-density")
print("central:        ", np.round(central[0], 2))
print("highest density:", np.round(region[0], 2).tolist())
print(f"length {np.ptp(central[0]):.2f} rad against {region.length()[0]:.2f} rad")

angle = np.linspace(-3.2, 3.2, 801)
many = model.predict_distribution(np.repeat(reach, angle.size, axis=0))
density = np.exp(many.log_prob(angle))
cut = np.exp(model.predict_distribution(reach).log_prob(region[0][:1, 0])[0])

BLUE, LIGHT, ORANGE, GREY = "#0072B2", "#8FC1E0", "#D55E00", "0.6"
fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
ax.plot(angle, density, color=GREY)
for lower, upper in region[0]:
    inside = (angle >= lower) & (angle <= upper)
    ax.fill_between(angle[inside], density[inside], color=BLUE, alpha=0.6, lw=0)
ax.axhline(cut, color=BLUE, ls=":", lw=1.2)
ax.annotate("cut", (2.7, cut), (0, 3), textcoords="offset points", color=BLUE)
ax.plot(central[0], [-0.2, -0.2], "|-", color=ORANGE, lw=3, ms=12, mew=2)
ax.text(0.0, -0.26, "central 90 %", ha="center", va="top", color=ORANGE)
ax.set(xlabel="angle of the elbow (rad)", ylabel="density (per rad)", ylim=(-0.5, None))
ax.set(title="A hand 0.55 m away: two answers, and 90 % of the law in two intervals")
plt.show()

# %%
# All distances
# -------------
# The central interval covers the empty middle everywhere. The pieces of the regions
# follow the branches; nobody said that there are two.

distance = np.linspace(0.2, 0.88, 300)
grid = distance[:, None]
central = model.predict_interval(grid, 0.9)
region = model.predict_interval(grid, 0.9, method="highest-density")

fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
axes[0].fill_between(distance, *central.T, color=ORANGE, alpha=0.45, lw=0)
for piece in range(region.lower.shape[1]):
    lower, upper = region.lower[:, piece], region.upper[:, piece]
    axes[1].vlines(distance, lower, upper, color=LIGHT, lw=2.5)
for ax, name in zip(axes, ("central", "highest density"), strict=True):
    ax.scatter(X[:, 0], y, s=5, color="0.25", lw=0, zorder=3)
    ax.set(xlabel="distance of the hand (m)", title=f"90 % of the law: {name}")
axes[0].set_ylabel("angle of the elbow (rad)")
plt.show()

# %%
# Do they hold what they say?
# ---------------------------
# On new rows both cover about as many responses as they promise; the regions are a
# fraction as long.

X_new, y_new = make_two_valued(2000, random_state=1)
print("level   central: inside, length    highest density: inside, length")
for level in (0.5, 0.8, 0.95):
    central = model.predict_interval(X_new, level)
    region = model.predict_interval(X_new, level, method="highest-density")
    inside = (central[:, 0] <= y_new) & (y_new <= central[:, 1])
    print(
        f"{level:5.2f} {inside.mean():16.3f} {np.ptp(central, axis=1).mean():8.2f} "
        f"{region.contains(y_new).mean():22.3f} {region.length().mean():8.2f}"
    )

# %%
# The density level of a response is the probability of what is denser than it. If the
# law is right it is uniform on [0, 1], whatever the shape of the law.

level = model.predict_distribution(X_new).density_level(y_new)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.hist(level, bins=20, range=(0, 1), density=True, color=BLUE, alpha=0.6)
ax.axhline(1.0, color=GREY, ls="--")
ax.set(xlabel="density level of new responses", ylabel="share, uniform = 1")
plt.show()

# %%
# Scores
# ------
# Proper scores compare whole laws. One expert, a single line with one noise level, is
# right about the mean and wrong about everything else.

one = MixtureOfExpertsRegressor(n_experts=1).fit(X, y)
print(f"{'score':20} {'one line':>10} {'mixture':>10}")
for name in ("log_score", "neg_crps", "neg_interval_score"):
    scorer = get_scorer(name)
    values = [scorer(estimator, X_new, y_new) for estimator in (one, model)]
    print(f"{name:20} {values[0]:10.3f} {values[1]:10.3f}")
