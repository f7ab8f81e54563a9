"""
The same mixture, where the rows are
====================================

A table of a million rows as a torch tensor of float32, fitted where it lies: on a GPU
if there is one, here most likely on the CPU. The model is the one that NumPy rows give;
only the rows stay in torch.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import torch

from skmoe import MixtureOfExpertsRegressor

# %%
# Rows
# ----
#
# Three machines share a sensor: which one is running shows in the temperature ``t``,
# and each has a law of its own for the power ``p``. The other column is noise.

device = "cuda" if torch.cuda.is_available() else "cpu"
generator = torch.Generator(device).manual_seed(0)


def draw(n_rows):
    """Return columns and power of so many rows, in float32."""
    X = torch.randn(n_rows, 2, device=device, generator=generator)
    X[:, 0] = 60 * torch.rand(n_rows, device=device, generator=generator)
    edges = torch.tensor([18.0, 40.0], device=device)
    noise = torch.randn(n_rows, device=device, generator=generator)
    blur = torch.randn(n_rows, device=device, generator=generator)
    machine = torch.bucketize(X[:, 0] + blur, edges)
    slope = torch.tensor([0.9, -0.5, 0.15], device=device)[machine]
    level = torch.tensor([2.0, 35.0, 3.0], device=device)[machine]
    spread = torch.tensor([1.0, 2.5, 0.6], device=device)[machine]
    return X, level + slope * X[:, 0] + spread * noise


X, y = draw(1_000_000)
print(f"{X.shape[0]:,} rows of {X.dtype} on {X.device}: {X.nbytes / 1e6:.0f} MB")

# %%
# The fit
# -------
#
# Nothing else changes. Starts are raced on a sample of 20,000 rows; the winner goes on
# with all of them.

begin = time.perf_counter()
model = MixtureOfExpertsRegressor(n_experts=3, n_init=3, random_state=0).fit(X, y)
seconds = time.perf_counter() - begin
print(f"{seconds:.1f} s, {model.n_iter_} passes over all rows")
print(f"predictions are {type(model.predict(X[:2])).__name__}s: {model.predict(X[:2])}")

# %%
# The parameters are small and lie in NumPy, whatever the rows are. So the model goes
# anywhere: here a NumPy table is predicted by the model of the tensors.

for expert in model.experts_:
    print(
        f"{expert.intercept_:6.2f} {expert.coef_[0]:+.3f} t {expert.coef_[1]:+.3f} x1, "
        f"noise {expert.dispersion**0.5:.2f}"
    )
table = X[:1000].double().cpu().numpy()
gap = np.abs(model.predict(table) - model.predict(X[:1000]).cpu().numpy())
print(f"largest difference to the tensor's predictions: {gap.max():.1e}")

# %%
# A picture
# ---------
#
# Above, a few thousand of the rows on the density that the model gives them; below, who
# is trusted where.

grid = torch.zeros(400, 2, device=device)
grid[:, 0] = torch.linspace(0, 60, 400, device=device)
levels = torch.linspace(0, 35, 300, device=device)
log_density = torch.stack([model.log_prob(grid, v.expand(400)) for v in levels])
gate = model.gate_proba(grid).cpu()
t = grid[:, 0].cpu()

figure, (above, below) = plt.subplots(
    2, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 1], layout="constrained"
)
above.pcolormesh(
    t, levels.cpu(), log_density.exp().cpu(), cmap="Blues", vmax=0.4, shading="auto"
)
above.plot(X[:3000, 0].cpu(), y[:3000].cpu(), "k.", markersize=1, alpha=0.4)
above.set(ylabel="power p", ylim=(0, 35))
above.set_title(
    f"{X.shape[0]:,} rows of float32 on {X.device.type}: {model.n_iter_} passes, "
    f"{seconds:.1f} s"
)
for k in range(3):
    below.plot(t, gate[:, k], label=f"expert {k}")
below.set(xlabel="temperature t", ylabel="gate", ylim=(-0.02, 1.02))
below.legend(loc="center right")
plt.show()
