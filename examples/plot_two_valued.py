"""
When the mean is wrong: two answers to one question
===================================================

A robot's arm has two links, of 0.5 m and 0.4 m. Its hand is seen at some distance from
the shoulder: how is the elbow bent? There are two answers, elbow up and elbow down, and
a least-squares model gives their mean: a straight arm, whose hand is elsewhere.

Inverse problems are often like this. A mixture of experts keeps both answers, and
``pooling="mode"`` picks one of them.
"""

# %%
# Data with a known truth
# -----------------------
# The generator also returns the law that it drew from, so that the fit can be measured
# against it.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_two_valued
from skmoe.experts import LinearExpert

X, y, truth = make_two_valued(600, random_state=0, return_truth=True)

# %%
# Fit
# ---
# Each branch bends, so it takes more than one line: four experts, two a branch. The
# angles are exact to 0.1 radian while they vary over six, so the prior on the noise
# variance is made weak: worth two rows at 0.2 % of the variance of y.

expert = LinearExpert(alpha=0.1, variance_prior=(2, 0.002))
model = MixtureOfExpertsRegressor(expert, n_experts=4, random_state=0).fit(X, y)

# %%
# The whole law
# -------------
# The density of the fitted law is a map with two ridges. Boosting, which minimises
# squared error, wanders through the empty middle, where no answer lies, and the
# mixture's own mean stays there too.

boosting = HistGradientBoostingRegressor(random_state=0).fit(X, y)
distance = np.linspace(0.25, 0.85, 241)
angle = np.linspace(-3.0, 3.0, 301)
law = model.predict_distribution(np.repeat(distance, angle.size)[:, None])
density = np.exp(law.log_prob(np.tile(angle, distance.size)))
density = density.reshape(distance.size, angle.size).T

grid = distance[:, None]
fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
picture = ax.pcolormesh(distance, angle, density, cmap="Blues", shading="gouraud")
fig.colorbar(picture, label="density (per radian)", pad=0.01)
ax.scatter(X[:, 0], y, s=5, color="0.45", lw=0)
ax.plot(distance, boosting.predict(grid), color="#D55E00", label="boosting")
mean = model.predict_distribution(grid).mean
ax.plot(distance, mean, color="black", ls="--", label="mean of the mixture")
ax.set(xlabel="distance of the hand (m)", ylabel="angle of the elbow (rad)")
ax.set(title="Both answers are in the law; the mean is neither")
fig.legend(frameon=False, loc="outside lower center", ncols=2)
plt.show()

# %%
# One answer, and a right one
# ---------------------------
# The highest point of the density lies on a branch. Which one is a toss-up, since both
# are equally probable, but either puts the hand where it was seen. The error that
# counts is therefore the distance to the *nearer* answer.

X_new, y_new = make_two_valued(2000, random_state=1)
true_angle = truth.angle(X_new)


def miss(prediction):
    """Return the mean distance to the nearer of the two true angles, in radians."""
    up, down = np.abs(prediction - true_angle), np.abs(prediction + true_angle)
    return np.minimum(up, down).mean()


misses = {"boosting": miss(boosting.predict(X_new))}
for pooling in ("mean", "top1", "mode"):
    misses[f"mixture, {pooling}"] = miss(
        model.set_params(pooling=pooling).predict(X_new)
    )
for name, value in misses.items():
    print(f"{name:15} misses by {value:.3f} rad")

# %%
# In space
# --------
# The arm makes the difference plain. For a hand seen at the cross, the mode gives an
# arm that reaches it; the mean gives one that does not.

LINKS = (0.5, 0.4)


def arm(elbow):
    """Return shoulder, elbow and hand, turned so that the arm aims at the cross."""
    hand = np.array([LINKS[0] + LINKS[1] * np.cos(elbow), LINKS[1] * np.sin(elbow)])
    points = np.array([[0.0, 0.0], [LINKS[0], 0.0], hand])
    turn = -np.arctan2(hand[1], hand[0])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ rotation.T


fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
for ax, reach in zip(axes, (0.35, 0.55, 0.75), strict=True):
    law = model.predict_distribution([[reach]])
    for label, elbow, color in (
        ("mode", law.mode[0], "#0072B2"),
        ("mean", law.mean[0], "#D55E00"),
    ):
        ax.plot(*arm(elbow).T, "o-", color=color, lw=4, ms=7, label=label)
    ax.plot(reach, 0.0, "x", color="black", ms=12, mew=3, label="hand seen here")
    ax.set(xlabel="m", title=f"{reach} m away", aspect="equal")
    ax.set(xlim=(-0.1, 1.0), ylim=(-0.5, 0.5))
axes[0].set_ylabel("m")
axes[2].legend(frameon=False, loc="lower left", fontsize=9)
plt.show()

# %%
# Against the truth
# -----------------
# The mean log density of new rows has the truth as its ceiling. What is missing is
# the bend that two straight lines a branch leave out.

found, best = model.log_prob(X_new, y_new), truth.log_prob(X_new, y_new)
print(f"mixture {found.mean():.3f} nats per row, the true law {best.mean():.3f}")
