"""
Experts for patches of an image: who gets a place
=================================================

A vision transformer cuts an image into patches, and in a mixture layer each patch goes
to two experts out of eight. An expert takes as many patches of a batch as its
*capacity* allows. A patch that finds no place passes by the experts, which saves time.
So who should get the places: the patches that come first, or those that the router is
sure of?
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skmoe.nn import SparseViT, auxiliary_loss

torch.set_num_threads(1)  # small products: threads wait for one another
images, labels = load_digits(return_X_y=True)
X = torch.tensor(images / 8.0 - 1.0, dtype=torch.float32)
y = torch.tensor(labels)
train, test = train_test_split(
    torch.arange(len(y)), test_size=0.3, random_state=0, stratify=labels
)

# %%
# Training
# --------
# Digits of 8 by 8 pixels, 16 patches of 2 by 2 each. Two blocks of three hold a
# mixture. Experts have 5 % more places than an even share: few patches are left out
# while all experts are about equally busy, which the losses of the routers see to. They
# are collected by ``auxiliary_loss``.


def fitted(seed, epochs=10):
    """Return a trained model."""
    torch.manual_seed(seed)
    model = SparseViT(64, 10, width=32, depth=3, n_experts=8, sparse_blocks=[0, 1])
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    steps = epochs * len(train[::64])
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    for _ in range(epochs):
        for part in train[torch.randperm(len(train))].split(64):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(X[part]), y[part])
            (loss + auxiliary_loss(model)).backward()
            optimiser.step()
            plan.step()
    return model.eval()


models = [fitted(seed) for seed in (0, 1)]

# %%
# Less capacity at prediction
# ---------------------------
# Nothing is trained again: ``set_capacity`` changes how many patches the experts take.
# At 0.2 an expert takes a fifth of its even share, and four choices of five pass by.

capacities = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]


@torch.no_grad()
def accuracy(model):
    """Return the share of test digits that are told right."""
    return (model(X[test]).argmax(dim=1) == y[test]).double().mean().item()


scores = {
    priority: [
        sum(accuracy(model.set_capacity(factor, priority)) for model in models) / 2
        for factor in capacities
    ]
    for priority in ("gate", "arrival")
}
print("capacity        " + "".join(f"{factor:7.1f}" for factor in capacities))
for priority, row in scores.items():
    print(f"{priority:15s} " + "".join(f"{score:7.3f}" for score in row))

# %%
# Served as they come, the last images of the batch get hardly an expert. Served by the
# largest weight that the router gave (*batch prioritised routing*, Riquelme et al.
# 2021), every image keeps the patches of which the router is most sure.
#
# Below are six images of the end of the batch, at a capacity of 0.3: patches are as
# dark as choices of theirs found a place in the first mixture, of two.

model, priorities = models[0], ("gate", "arrival")
shown = torch.arange(len(test) - 6, len(test))
places = {}


def note_places(router, inputs, plan):
    """Keep how many choices of each patch were served; token 0 is the class."""
    kept = (plan.slot >= 0).sum(dim=1).reshape(len(test), 17)[:, 1:]
    places[router.places.priority] = kept.reshape(-1, 4, 4)


hook = model.mixtures[0].router.register_forward_hook(note_places)
for priority in priorities:
    accuracy(model.set_capacity(0.3, priority))
hook.remove()

fig = plt.figure(figsize=(11, 4.2), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.2])
ax = left.subplots()
for priority, color in zip(priorities, ("#0072B2", "#D55E00"), strict=True):
    ax.plot(capacities, scores[priority], "o-", color=color, label=f"by {priority}")
ax.set(xlabel="capacity at prediction", ylabel="accuracy, mean of two models")
ax.legend(frameon=False)
grid = right.subplots(3, 6)
for column, at in enumerate(shown):
    digit = X[test[at]].reshape(8, 8)
    grid[0, column].imshow(digit, cmap="gray_r")
    for row, priority in enumerate(priorities, start=1):
        grid[row, column].imshow(places[priority][at], cmap="Blues", vmin=0, vmax=2.5)
for axis in grid.flat:
    axis.set(xticks=[], yticks=[])
for axis, name in zip(grid[:, 0], ("image", "by gate", "by arrival"), strict=True):
    axis.set_ylabel(name)
right.suptitle("choices with a place, capacity 0.3")
plt.show()

# %%
# With all places there is nothing to choose between the two. With a fifth of them, by
# arrival more than twice as much accuracy is lost as by gate.
#
# In both cases the images of a batch compete: what is predicted for one depends on the
# others. For predictions that do not, use ``set_capacity(None)``.
