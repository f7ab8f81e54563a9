"""
Sixteen paths from eight experts
================================

Two mixture layers on top of one another, four experts in each: a row can take
4 x 4 = 16 paths, with parts that are shared. Does the first layer learn other things
than the second? Eigen, Ranzato & Sutskever (2013) drew digits at shifted places and
looked at who is used when. The same here, with the digits of 8 by 8 pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from skmoe.nn import DeepMixture

torch.set_num_threads(1)  # small products: threads wait for one another
images, labels = load_digits(return_X_y=True)
SIDE = 14
PLACES = [(top, left) for top in (0, 3, 6) for left in (0, 3, 6)]


def shifted(images, places):
    """Return images of 14 by 14 pixels with the digit of each at its place."""
    canvas = np.zeros((len(images), SIDE, SIDE), dtype=np.float32)
    for image, frame, place in zip(images, canvas, places, strict=True):
        top, left = PLACES[place]
        frame[top : top + 8, left : left + 8] = image.reshape(8, 8) / 8.0
    return torch.from_numpy(canvas).flatten(1)


rng = np.random.default_rng(0)
train, test, y_train, y_test = train_test_split(
    images, labels, test_size=0.3, random_state=0, stratify=labels
)
y = torch.tensor(y_train)
place_test = rng.integers(9, size=len(test))
X_test = shifted(test, place_test)

# %%
# Training with a margin
# ----------------------
# Whichever expert is a little better at first gets more rows, learns more, and soon has
# all of them. So the paper holds experts back: while the sum of an expert's weights is
# more than a margin ahead of the mean, it has to wait, and others learn. In the last
# epochs the margin is lifted. Beside it a model that never had one.


def fitted(margin, epochs=40):
    """Return a trained model."""
    torch.manual_seed(0)
    model = DeepMixture(SIDE**2, 10, n_experts=(4, 4), hidden=(48, 32), margin=margin)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    draws = np.random.default_rng(1)
    for epoch in range(epochs):
        if epoch == epochs * 3 // 4:
            model.lift_margin()
            optimiser.param_groups[0]["lr"] = 1e-3
        X = shifted(train, draws.integers(9, size=len(train)))
        for part in torch.randperm(len(X)).split(64):
            optimiser.zero_grad()
            functional.cross_entropy(model(X[part]), y[part]).backward()
            optimiser.step()
    return model.eval()


models = {"with a margin": fitted(margin=30.0), "without": fitted(margin=None)}

# %%
# The table of paths
# ------------------
# ``path_usage`` gives the mean weight of each path: the gate of the first layer times
# the gate of the second.

for name, model in models.items():
    with torch.no_grad():
        right = (model(X_test).argmax(dim=1).numpy() == y_test).mean()
    usage = model.path_usage(X_test)
    entropy = -(usage * np.log(np.maximum(usage, 1e-12))).sum()
    print(f"{name}: accuracy {right:.3f}, {np.exp(entropy):.1f} paths in use")
    print(np.array2string(usage, precision=3, suppress_small=True))

# %%
# What each layer tells apart
# ---------------------------
# The usage by place and by digit, and how much a layer's experts know of each: the
# mutual information between the expert of a row and its place or digit.


def information(usage):
    """Return nats that the expert tells about the label, labels being equally many."""
    joint = usage / usage.sum()
    apart = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
    return (joint * np.log(np.maximum(joint, 1e-12) / np.maximum(apart, 1e-12))).sum()


model = models["with a margin"]
by_place = model.path_usage(X_test, place_test)
by_digit = model.path_usage(X_test, y_test)
print(f"{'nats about the':15s} place  digit")
for layer in (1, 2):
    told = [information(usage.sum(axis=3 - layer)) for usage in (by_place, by_digit)]
    print(f"{f'layer {layer}':15s} {told[0]:5.2f}  {told[1]:5.2f}")

fig, axes = plt.subplots(
    2, 2, figsize=(10, 6.5), layout="constrained", height_ratios=[1, 1.6]
)
for ax, (name, one) in zip(axes[0], models.items(), strict=True):
    usage = one.path_usage(X_test)
    shown = ax.imshow(usage, cmap="Blues", vmin=0, vmax=0.25)
    ax.set(title=f"16 paths, {name}", xlabel="expert of layer 2", ylabel="of layer 1")
    ax.set(xticks=range(4), yticks=range(4))
    fig.colorbar(shown, ax=ax, label="mean weight")
tables = {"digit": by_digit, "place": by_place}
for ax, (name, usage) in zip(axes[1], tables.items(), strict=True):
    flat = usage.reshape(len(usage), 16)
    ax.imshow(flat, cmap="Blues", vmin=0, vmax=0.4, aspect="auto")
    paths = [f"{first}{second}" for first in range(4) for second in range(4)]
    ax.set(title=f"paths by {name}", xlabel="path: expert of layer 1, of layer 2")
    ax.set(xticks=range(16), yticks=range(len(usage)), ylabel=name)
    ax.set_xticklabels(paths)
plt.show()

# %%
# As in the paper the model has found two factors by itself: the first layer mostly
# tells *where* the digit is, the second *what* it is, and a path is a pair of both.
# Without the margin one expert of the second layer was never used.
#
# Other routers make the same paths sparse: with ``router="topk"``, a row takes at most
# two experts in each layer, and the others are not evaluated.
