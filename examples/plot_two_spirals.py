"""
Two spirals: a deep tree at the price of a shallow one
======================================================

Two spirals, one inside the other: Lang and Witbrock's test of 1988. No few straight
borders will do, so a tree of soft splits needs many leaves. With 256 of them nearly
all of the work is wasted: a row in one corner of the plane has nothing to do with
the leaves of another. *Path pruning* leaves that work out. Waterhouse and Robinson
(1996) used these very spirals to show it.
"""

# %%
# Fit in full, and along the paths that rows take
# -----------------------------------------------
# ``path_tol=1e-3`` drops, for each row, the subtrees that it reaches with a
# probability below one in a thousand; its most probable path always stays. Paths are
# chosen anew every few passes, and in between EM is exact for what they leave. The
# gates get nearly no ridge, so that their borders can be as sharp as the rows allow.
#
# Two things are as they need not be elsewhere. The deep fits are cut off after 20
# passes, which is enough here. And ``prune=False`` keeps all 256 leaves: those that
# are left without rows would else be taken out, and EM go on with the smaller tree.

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skmoe import HierarchicalMixtureOfExpertsClassifier
from skmoe.datasets import make_two_spirals
from skmoe.experts import LogisticExpert
from skmoe.gates import SoftmaxGate

warnings.simplefilter("ignore", ConvergenceWarning)

X, y = make_two_spirals(6000, noise=0.1, random_state=0, return_X_y=True)
X_new, y_new = make_two_spirals(2000, noise=0.1, random_state=1, return_X_y=True)


def fit(name, **parameters):
    """Fit a tree and print what it took and what it is worth."""
    model = HierarchicalMixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0),
        gate=SoftmaxGate(alpha=1e-3),
        random_state=0,
        **parameters,
    )
    started = time.process_time()
    model.fit(X, y)
    seconds = time.process_time() - started
    print(
        f"{name:22} {model.tree_.n_leaves:4d} leaves {seconds:6.1f} s  "
        f"skipped {model.skipped_share_:4.0%}  "
        f"accuracy {model.score(X_new, y_new):.3f}  "
        f"log score {model.log_prob(X_new, y_new).mean():.3f}"
    )
    return model


deep = {"depth": 8, "prune": False, "n_init": 1, "max_iter": 20}
full = fit("depth 8, in full", **deep)
paths = fit("depth 8, path_tol=1e-3", path_tol=1e-3, **deep)

# %%
# As good a tree in a fraction of the time. ``skipped_share_`` says how many of all
# pairs of a row and a leaf were not computed in the last pass. The more rows and
# leaves there are, the more is saved.
#
# A tree that grows
# -----------------
# Are so many leaves needed? A tree of fixed depth halves every branch, also those
# that have nothing left to tell apart. With ``grow`` a tree starts as a single leaf
# and splits one leaf at a time, the one where that gains most, and so puts its leaves
# where they are of use. Here are 32 leaves of fixed shape, and 24 grown ones.

fixed = fit("depth 5", depth=5, prune=False, n_init=1)
grown = fit("grown", grow="posterior", grow_until="max_leaves", max_leaves=24)
for step in grown.growth_[::4]:
    print(f"{step.n_leaves:4d} leaves: {step.log_likelihood:10.1f} nats")

# %%
# What the trees have learned
# ---------------------------
# Colours are the probability of a class, white where the tree cannot tell; dots are
# rows, those of class 1 black. Grey lines are borders between leaves: there the most
# probable path changes. The fixed tree leaves parts of the arms undecided; the grown
# one follows them all with fewer leaves; the deep one has leaves to spare.

side = np.linspace(-7.0, 7.0, 281)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
shape = (side.size, side.size)

fig, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained", sharey=True)
for ax, model in zip(axes, (fixed, grown, paths), strict=True):
    proba = model.predict_proba(grid)[:, 1].reshape(shape)
    image = ax.pcolormesh(
        side, side, proba, cmap="RdBu_r", vmin=-0.3, vmax=1.3, rasterized=True
    )
    leaf = model.apply(grid).reshape(shape)
    border = np.zeros(shape)
    border[:, 1:] += leaf[:, 1:] != leaf[:, :-1]
    border[1:] += leaf[1:] != leaf[:-1]
    ax.contour(side, side, border > 0, levels=[0.5], colors="0.35", linewidths=0.4)
    ax.scatter(*X[:1500].T, c=1 - y[:1500], cmap="gray", s=2, lw=0)
    score = model.score(X_new, y_new)
    ax.set_title(f"{model.tree_.n_leaves} leaves, accuracy {score:.3f}", fontsize=11)
    ax.set(aspect="equal", xticks=[], yticks=[])
for ax, name in zip(axes, ("fixed shape", "grown", "depth 8"), strict=True):
    ax.set_xlabel(name)
bar = fig.colorbar(image, ax=axes, label="probability of class 1", shrink=0.8)
bar.ax.set_ylim(0, 1)
plt.show()

# %%
# Predict along one path
# ----------------------
# ``pooling="top1"`` asks only the leaf at the end of the most probable path. Its cost
# grows with the depth of the tree, and no longer with the number of leaves. ``apply``
# and ``decision_path`` cost as little.

rows = np.tile(X_new, (20, 1))
for pooling in ("mean", "top1"):
    full.set_params(pooling=pooling)
    started = time.process_time()
    predicted = full.predict(rows)
    seconds = time.process_time() - started
    right = (predicted == np.tile(y_new, 20)).mean()
    print(f"{pooling}: {seconds:.3f} s for {len(rows):,} rows, accuracy {right:.3f}")
