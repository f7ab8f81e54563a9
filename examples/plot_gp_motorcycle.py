r"""
One Gaussian process or several: the motorcycle crash
=====================================================

A Gaussian process draws any smooth curve, and says how far it may be trusted. But it
has *one* length scale and *one* noise level, and the crash of a motorcycle has
several of each: the head is at rest, is thrown about within milliseconds, and settles
slowly. One process has to settle for a compromise: a band of equal width everywhere.

In a mixture each process has its own kernel and noise, and the gate says which of
them holds at what time.
"""

# %%
# Fit
# ---
# :class:`~skmoe.experts.GaussianProcessExpert` takes weights exactly: a row that an
# expert is responsible for by a share q has the noise of 1/q rows. Kernels and noise
# levels are refitted every few passes of EM. By default the noise has a prior worth
# five rows at 5 % of the variance of y; where the head is at rest the noise is far
# below that, so the prior is made weaker here.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import KFold

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_mcycle
from skmoe.experts import GaussianProcessExpert

X, y = load_mcycle(return_X_y=True)


def processes(n_experts):
    return MixtureOfExpertsRegressor(
        GaussianProcessExpert(variance_prior=(2.0, 0.01)),
        n_experts=n_experts,
        random_state=0,
    )


one, four = processes(1).fit(X, y), processes(4).fit(X, y)
gate = four.gate_proba(X)
for k in np.argsort(gate.T @ X[:, 0] / gate.sum(axis=0)):
    expert = four.experts_[k]
    print(f"noise {np.sqrt(expert.noise_):5.1f} g, kernel {expert.kernel_}")
print(f"alone: noise {np.sqrt(one.experts_[0].noise_):.1f} g")

# %%
# Bands
# -----
# Both bands are to hold nine readings in ten. Before the impact the single process
# allows for 40 g either way, where nothing moves at all.

time = np.linspace(0.0, 60.0, 241)[:, None]
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
fig, axes = plt.subplots(
    2, 2, figsize=(11, 6), height_ratios=(4, 1), sharex=True, layout="constrained"
)
for (ax, below), (name, model) in zip(
    axes.T, (("one process", one), ("four processes and a gate", four)), strict=True
):
    law = model.predict_distribution(time)
    low, high = law.quantile([0.05, 0.95]).T
    ax.fill_between(time[:, 0], low, high, color="0.85", label="90 % of the law")
    ax.plot(time, law.mean, color="black", lw=1.8, label="mean")
    ax.scatter(X[:, 0], y, s=13, color="#E69F00", ec="white", lw=0.4, zorder=3)
    law = model.predict_distribution(X)
    inside = np.mean((law.cdf(y) > 0.05) & (law.cdf(y) < 0.95))
    early = X[:, 0] < 14.0
    width = np.diff(law.quantile([0.05, 0.95]))[:, 0]
    print(f"{name}: {inside:.0%} inside, {width[early].mean():.0f} g wide before 14 ms")
    share = model.gate_proba(time)
    order = np.argsort(share.T @ time[:, 0] / share.sum(axis=0))
    below.stackplot(time[:, 0], share[:, order].T, colors=COLORS, lw=0)
    ax.set(title=name, ylim=(-170, 120))
    below.set(xlim=(0, 60), ylim=(0, 1), xlabel="time after the impact (ms)")
axes[0, 0].set_ylabel("acceleration of the head (g)")
axes[1, 0].set_ylabel("gate")
axes[0, 0].legend(frameon=False, loc="lower right")
plt.show()

# %%
# Is it better?
# -------------
# By the density of readings that were left out, in nats a row. Each further process
# has to pay for itself here: there is no training error to be had.

scale = np.log(y.std())
for n_experts in (1, 2, 4):
    nats = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        model = processes(n_experts).fit(X[train], y[train])
        nats.extend(model.log_prob(X[test], y[test]) + scale)
    print(f"{n_experts} of them: {-np.mean(nats):.3f} nats a row, lower is better")

# %%
# Why they do not cheat
# ---------------------
# A Gaussian process passes close to any row that it was fitted to. If EM asked it how
# well it explains its own rows, the first process to get hold of a row would keep it.
# The responsibilities of training rows therefore come from the *leave-one-out*
# density, which a Gaussian process knows in closed form. ``objective_trace_`` is that
# of rows left out, so it need not climb in each pass; the fit keeps its best one.

print(four.n_iter_, "passes, best objective", four.objective_trace_.max().round(2))
