"""
Gross errors: normal noise, heavy tails, an expert for noise
============================================================

The crash of a motorcycle again, but now the instrument fails in one reading out of
five and reports any number at all. Four lines with normal noise can draw the curve of
the true readings; can they still do it when they are not told which these are?
"""

# %%
# Three models
# ------------
# All have four linear experts and a softmax gate. They differ in what an error is to
# them:
#
# - with normal noise a row far away pulls with its square: an expert has to follow
#   it;
# - Student's t has heavy tails: any rule may be far off now and then. The degrees of
#   freedom are learned;
# - a uniform expert says that some rows follow no rule. It has a gate of its own,
#   since
#   errors have nothing to do with the phase of the crash: a mixture inside a mixture.

import warnings

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_mcycle
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.experts import LinearExpert, RobustLinearExpert, UniformExpert
from skmoe.gates import ConstantGate

X, y = load_mcycle(return_X_y=True)
lines = MixtureOfExpertsRegressor(LinearExpert(alpha=0.1), random_state=0)
tails = MixtureOfExpertsRegressor(RobustLinearExpert(alpha=0.1), random_state=0)
guarded = MixtureOfExpertsRegressor(
    [("error", UniformExpert(-300, 300)), ("crash", lines)],
    gate=ConstantGate(),
    random_state=0,
)
models = {"normal noise": lines, "Student's t": tails, "expert for errors": guarded}


def spoil(y, share, seed):
    """Replace a share of the readings by any number within 300 g."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(y.size) < share
    return np.where(wrong, rng.uniform(-300.0, 300.0, y.size), y), wrong


def predict_clean(model, X):
    """Predict a reading without error: of the lines alone."""
    lines = [not name.startswith("error") for name in model.expert_names_]
    gate = model.gate_proba(X)[:, lines]
    return (gate * model.predict_experts(X)[:, lines]).sum(axis=1) / gate.sum(axis=1)


# %%
# One spoiled crash
# -----------------
# The dashed curve is what four lines make of the true readings. The responsibility of
# the error expert is the probability that a reading is wrong; here its size is the
# ring around a point.

spoiled, wrong = spoil(y, 0.2, seed=3)
time = np.linspace(2.4, 57.6, 221)[:, None]
target = lines.fit(X, y).predict(time)

fig, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(X, spoiled)
    ax.scatter(X[~wrong, 0], spoiled[~wrong], s=12, color="0.6", label="reading")
    ax.scatter(X[wrong, 0], spoiled[wrong], s=18, color="#D55E00", marker="x")
    ax.plot(time, target, color="black", ls="--", lw=1.2, label="from true readings")
    ax.plot(time, predict_clean(model, time), color="#0072B2", lw=2.2, label=name)
    ax.set(title=name, xlabel="time after the impact (ms)", ylim=(-310, 310))
error = guarded.responsibilities(X, spoiled)[:, 0]
axes[2].scatter(X[:, 0], spoiled, s=110 * error, fc="none", ec="#D55E00", lw=0.8)
axes[0].set_ylabel("acceleration of the head (g)")
axes[0].legend(loc="upper right")
plt.show()

found, suspected = error[wrong] > 0.5, error[~wrong] > 0.5
print(f"{found.sum()} of {wrong.sum()} errors found, {suspected.sum()} false alarms")
print(f"share of errors: {guarded.gate_proba(X)[0, 0]:.2f}")
print("degrees of freedom:", [round(float(e.dispersion[1]), 1) for e in tails.experts_])

# %%
# Errors that are not found lie where readings may be anyway: within the band that the
# lines leave for noise they do no harm either.
#
# More of them
# ------------
# How far is the curve from that of the true readings, on average over the crash? Each
# point is the mean of three draws of the errors. Where there are none, the expert for
# them loses its rows, of which a warning would tell.

shares = (0.0, 0.15, 0.3)
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for (name, model), color in zip(
    models.items(), ("#999999", "#E69F00", "#0072B2"), strict=True
):
    far = np.zeros((len(shares), 3))
    for i, share in enumerate(shares):
        for seed in range(3 if share else 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CollapsedExpertWarning)
                model.fit(X, spoil(y, share, seed)[0])
            gap = predict_clean(model, time) - target
            far[i, seed] = np.sqrt(np.mean(gap**2))
    mean = far.mean(axis=1)
    mean[0] = far[0, 0]  # without errors there is nothing to draw
    ax.plot(shares, mean, "o-", color=color, label=name)
    print(f"{name:18s}", *(f"{value:5.1f}" for value in mean))
ax.set(xlabel="share of wrong readings", ylabel="distance from the clean curve (g)")
ax.set(ylim=(0, None), title="What errors cost")
ax.legend(frameon=False)
plt.show()

# %%
# Heavy tails cost one parameter an expert and save most of the curve. The expert for
# errors does a little better, because that is how these errors came about; and it
# says which readings they are.
