"""
A net of skorch beside boosted trees
====================================

Any net of skorch is an expert, as any estimator of scikit-learn is. Here a small one
stands beside boosted trees: each is good where the other is not, and the gate says
whom to trust where.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from skorch import NeuralNetRegressor
from torch import nn

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import EstimatorExpert

# %%
# Rows
# ----
# On the left of the field runs a wave, askew to the columns; on the right lie plates
# with edges along the columns. Trees cut along columns: plates are easy for them, and
# a wave takes many cuts. For a net it is the other way round.


def field(X):
    """Return the height of the field without noise."""
    wave = 1.2 * np.sin(4.0 * (X[:, 0] - X[:, 1]))
    plates = np.array([[-1.0, 1.0, -0.3], [0.6, -1.2, 1.2]])
    column = (X[:, 0] > 1.0).astype(int)
    row = np.digitize(X[:, 1], [-0.8, 0.5])
    return np.where(X[:, 0] < 0.0, wave, plates[column, row])


def draw(n_rows, seed):
    """Return places and noisy heights."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2.0, 2.0, (n_rows, 2))
    return X, field(X) + 0.2 * rng.standard_normal(n_rows)


X, y = draw(1500, seed=0)
X_new, y_new = draw(5000, seed=1)

# %%
# The mixture
# -----------
# A module of torch as anybody might have it, and skorch's estimator of it. The adapter
# hands it float32 and a column of responses, seeds it, and leaves torch's generator
# alone. skorch takes no ``sample_weight``: its net learns from rows that are drawn by
# their weights, or with ``weights="hard"`` from those that are mostly its own.
#
# ``algorithm="stack"`` fits both to all rows, and the gate to what each predicts for
# rows that it has not seen. Trees that have seen a row would be trusted too much.


class Waves(nn.Module):
    """A layer of sines, then one of tanh."""

    def __init__(self, width=32):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.rest = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, X):
        return self.rest(torch.sin(3.0 * self.first(X)))


net = NeuralNetRegressor(
    Waves,
    max_epochs=30,
    batch_size=128,
    optimizer=torch.optim.Adam,
    lr=0.01,
    train_split=None,
    verbose=0,
)
trees = HistGradientBoostingRegressor(random_state=0)
model = MixtureOfExpertsRegressor(
    [("net", EstimatorExpert(net, weights="hard")), ("trees", trees)],
    algorithm="stack",
    random_state=0,
).fit(X, y)

# %%
# Who is good where
# -----------------
# The experts of a stack have seen all rows, so each is what it would be by itself.

left = X_new[:, 0] < 0.0
predicted = dict(zip(model.expert_names_, model.predict_experts(X_new).T, strict=True))
predicted["mixture"] = model.predict(X_new)
errors = {
    name: [np.sqrt(np.mean((p - y_new)[side] ** 2)) for side in (left, ~left)]
    for name, p in predicted.items()
}
print("root mean squared error on 5,000 new rows (the noise is 0.2)")
print("            wave  plates     R2")
for name, (wave, plates) in errors.items():
    r2 = 1.0 - np.mean((predicted[name] - y_new) ** 2) / y_new.var()
    print(f"{name:10s} {wave:5.3f}   {plates:5.3f}  {r2:5.3f}")
trust = model.gate_proba(X_new)[:, 0]
print(f"trust in the net: {trust[left].mean():.2f} and {trust[~left].mean():.2f}")

# %%
# On either side the mixture is nearly as good as the better one, and as a whole it is
# better than both. The gate was not told of the border: it found it by their errors.

side = np.linspace(-2.0, 2.0, 161)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
by_net, by_trees = model.predict_experts(grid).T
heights = {
    "the truth": field(grid),
    "net": by_net,
    "trees": by_trees,
    "mixture": model.predict(grid),
}


def draw_field(ax, title, values, **style):
    """Show values of all places of the grid."""
    image = values.reshape(side.size, side.size)
    ax.set(title=title, aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    return ax.pcolormesh(side, side, image, rasterized=True, **style)


fig, axes = plt.subplots(2, 3, figsize=(11, 6.8), layout="constrained")
for ax, (name, height) in zip(axes.flat, heights.items(), strict=False):
    picture = draw_field(ax, name, height, cmap="RdBu_r", vmin=-1.6, vmax=1.6)
fig.colorbar(picture, ax=axes[0, :], label="height")
gate = model.gate_proba(grid)[:, 0]
draw_field(axes[1, 1], "trust in the net", gate, cmap="PRGn_r", vmin=0, vmax=1)
lines = axes[1, 1].contour(
    side, side, gate.reshape(side.size, side.size), [0.25, 0.5, 0.75], colors="black"
)
axes[1, 1].clabel(lines)

bars = axes[1, 2]
colors = ("#7B3294", "#008837", "black")
for k, (name, error) in enumerate(errors.items()):
    bars.bar(np.arange(2) + 0.27 * (k - 1), error, 0.25, color=colors[k], label=name)
bars.axhline(0.2, color="#E69F00", ls=":", lw=2, label="noise")
bars.set(title="error on new rows", xticks=[0, 1], xticklabels=["wave", "plates"])
bars.set(ylim=(0, 0.5), ylabel="root mean squared error")
bars.legend(loc="upper center", ncols=2, frameon=False, fontsize="small")
plt.show()
