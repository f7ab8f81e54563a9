"""
How many rules? One fit and a tree of merges
============================================

The table below follows three rules, one after the other. Nobody tells the mixture. One
way to find out is to fit it with one, two, three, ... experts and to compare. Another
one needs a single fit: give it experts to spare, then merge those that say the same,
and look at what each merge costs.
"""

# %%
# Eight experts for three rules
# -----------------------------
# The search fits eight experts and merges the closest pair, again and again, down to
# one. On the way BIC is least with three, which are then fitted to convergence.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_piecewise_linear
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate
from skmoe.inspection import DendrogramDisplay
from skmoe.model_selection import select_n_experts

X, y, truth = make_piecewise_linear(
    400, n_pieces=3, noise=0.4, random_state=2, return_truth=True
)
# Close to maximum likelihood, which BIC is made for.
mixture = MixtureOfExpertsRegressor(
    LinearExpert(alpha=0), gate=SoftmaxGate(alpha=1e-3), random_state=0
)
merged = select_n_experts(mixture, X, y, method="dendrogram", n_experts=8)
tree = merged.dendrogram_
print(merged.best_n_experts_, "experts")
print(tree.to_frame().round(1).to_string(index=False))

# %%
# The tree
# --------
# A height is what a merge costs in log-likelihood, in nats. Superfluous experts merge
# for next to nothing, at the bottom; where the rules themselves are merged the cost
# leaps. The dashed line cuts the tree where BIC is least: what hangs together below it
# is one rule.

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
DendrogramDisplay.from_estimator(merged, ax=left)
right.plot(
    tree.n_experts, tree.criterion, "o-", color="#0072B2", label="along the path"
)
right.set(xlabel="experts", ylabel="BIC", title="What is minimised")

# %%
# Beside the sweep
# ----------------
# A sweep fits every size by itself, with starts from its neighbours beside its own. Its
# likelihoods are a little higher where there are experts to spare, since each is
# searched for; the answer is the same.

swept = select_n_experts(mixture, X, y, method="bic", n_experts=8)
table = swept.to_frame()
right.plot(table.index, table["bic"], "s--", color="#D55E00", label="sweep")
right.legend(frameon=False)
plt.show()
print(table[["log_likelihood", "n_parameters", "bic"]].round(1))
print(f"sweep {swept.refit_time_:.1f} s, dendrogram {merged.refit_time_:.1f} s")

# %%
# What was found
# --------------
# The labels say which of the eight experts became which of the three. Their lines, each
# where it is trusted, are the rules that the rows were drawn from.

print("eight experts became:", tree.labels())
grid = np.linspace(0, 3, 301)[:, None]
best = merged.best_estimator_
lines, gate = best.predict_experts(grid), best.gate_proba(grid)

fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.scatter(X[:, 0], y, s=8, color="0.7")
for k, color in zip(range(3), ("#0072B2", "#D55E00", "#009E73"), strict=True):
    trusted = np.where(gate[:, k] > 0.5, lines[:, k], np.nan)
    ax.plot(grid[:, 0], trusted, color=color, lw=2.5)
ax.plot(grid[:, 0], truth.mean(grid), color="black", lw=0.8, ls=":", label="truth")
ax.set(xlabel="x", ylabel="y", title="The three rules")
ax.legend(frameon=False)
plt.show()
