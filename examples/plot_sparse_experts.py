"""
Many experts, two of them a row
===============================

Who earns more than 50,000 dollars a year? A sparse mixture sends each person to two of
32 small experts. It computes what one expert in sixteen would, and yet its experts
part the people among themselves: by age, by work, by schooling, without being told to.
"""

# %%
# The data: 20,000 answers to a census, with numbers and categories. They go in as they
# are.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skmoe.datasets import load_census_income
from skmoe.neural import SparseMixtureOfExpertsClassifier

X, y = load_census_income(return_X_y=True)
y = y.iloc[:, 0].to_numpy()
train, test = slice(0, 12_000), slice(12_000, None)

# %%
# One fit. The router draws noise in training, and three losses (of importance, of load,
# and of the choices without noise) keep it from sending everybody to the same few.
model = SparseMixtureOfExpertsClassifier(
    n_experts=32, top_k=2, expert_hidden=16, max_epochs=6, random_state=0
).fit(X[train], y[train])
proba = model.predict_proba(X[test])[:, 1]
print(f"area under the ROC curve on new people: {roc_auc_score(y[test], proba):.3f}")

# %%
# What is paid for: of all parameters a row reads a part, and of all operations as well.
size = model.flops_
print(f"parameters: a row reads {size.active_parameters:,} of {size.parameters:,}")
print(f"operations: {size.active_operations:,} of {size.operations:,}")
usage = model.expert_usage(X[test])
print(f"effective number of experts: {usage.n_effective:.1f}, dead: {len(usage.dead)}")

# %%
# Who goes where. For each expert, the people of whom it is the first choice: how far
# their mean age, weeks of work and so on lie from everybody's, in standard deviations.
first = model.apply(X[test])
columns = ["age", "weeks_worked", "wage_per_hour", "capital_gains", "dividends"]
people = X[test][columns].to_numpy(dtype=float)
people = np.column_stack([people, proba])
standard = (people - people.mean(axis=0)) / people.std(axis=0)
busy = np.argsort(-np.bincount(first, minlength=32))[:16]
busy = busy[np.argsort([standard[first == e, 0].mean() for e in busy])]
means = np.array([standard[first == e].mean(axis=0) for e in busy])

# %%
# Left: no expert is idle, as the losses of the router ask. Right: the
# sixteen most frequent first choices, from the youngest people to the oldest. Nobody
# told the router that children, workers and pensioners are different matters.
fig, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.6), width_ratios=(1, 1.25), layout="constrained"
)
order = np.argsort(-usage.load)
left.bar(np.arange(32), usage.load[order], color="0.7", width=0.8)
left.axhline(1 / 32, color="C3", lw=1.5, label="even share")
left.set(xlabel="experts, by load", ylabel="share of the choices", ylim=(0, None))
left.legend(frameon=False)
left.set_title("How 8,000 new people are shared out")
image = right.imshow(means.T, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
right.set_yticks(range(len(columns) + 1), [*columns, "P(income > 50,000)"])
right.set_xticks(range(16), busy)
right.set_xlabel("expert")
right.set_title("Who they are, in standard deviations from the mean")
fig.colorbar(image, ax=right)
plt.show()

# %%
# The price of sparsity is paid in training, by all rows that each expert does not see.
# What it buys is capacity: with 32 experts of 16 units the network has as many hidden
# units as a dense one of 512, and evaluates 32 of them.
