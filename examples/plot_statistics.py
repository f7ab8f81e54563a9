"""
Which columns matter, where, and how sure is that?
===================================================

The strength of concrete depends on its recipe and on its age, but not by one rule. A
mixture of two lines finds two; this page asks what each of them says, with what
standard errors, and what moves a batch from one rule to the other.
"""

# %%
# Two lines and a gate
# --------------------
# Statistics are those of maximum likelihood, so the priors are off: ``alpha=0`` on
# experts and gate, no ``variance_prior``. Columns are standardised first, so that
# coefficients compare: each says what one standard deviation of its column does.
# Strength grows with the logarithm of the age.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate
from skmoe.statistics import likelihood_ratio_test, wald_test

X, y = load_concrete(as_frame=True, return_X_y=True)
X = X.assign(age=np.log(X["age"])).rename(columns={"age": "log age"})
X = (X - X.mean()) / X.std()

model = MixtureOfExpertsRegressor(
    LinearExpert(alpha=0, variance_prior=None),
    n_experts=2,
    gate=SoftmaxGate(alpha=0),
    random_state=0,
).fit(X, y)
summary = model.summary()
print(summary)

# %%
# How sure? Three answers
# -----------------------
# The observed information takes the model at its word. The sandwich does not: it
# holds, too, where the noise is not normal or not even. The bootstrap refits the
# mixture to resampled rows, and asks for no formula. Where the three agree, there is
# little to argue about; where the first one is narrower, the model claims too much.

summaries = {
    "observed information": summary,
    "sandwich": model.summary(covariance="sandwich"),
    "bootstrap": model.summary(covariance="bootstrap", n_bootstrap=100, random_state=0),
}

frames = {name: some.to_frame() for name, some in summaries.items()}
frame = frames["observed information"]
parts = ["expert0", "expert1", "gate"]
titles = {
    "expert0": f"expert0: {summary.experts[0].share:.0%} of the batches\n(MPa)",
    "expert1": f"expert1: {summary.experts[1].share:.0%} of the batches\n(MPa)",
    "gate": "gate: log odds\nof expert1 (nats)",
}

figure, axes = plt.subplots(1, 3, figsize=(10, 5), sharey=True, layout="constrained")
colors = ["tab:blue", "tab:orange", "tab:green"]
for ax, part in zip(axes, parts, strict=True):
    slopes = (frame.part == part) & (frame.kind == "slope")
    place = np.arange(slopes.sum())[::-1]
    for shift, color, (name, some) in zip(
        (0.22, 0.0, -0.22), colors, frames.items(), strict=True
    ):
        own = some[slopes]
        ax.hlines(place + shift, own.lower, own.upper, color=color, label=name)
        ax.plot(own.estimate, place + shift, "o", color=color, markersize=4)
    ax.axvline(0.0, color="gray", linewidth=0.8)
    ax.set_title(titles[part], fontsize=10)
    ax.set_yticks(place, frame.term[slopes])
axes[0].set_ylabel("one standard deviation of")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

# %%
# Does a column matter?
# ---------------------
# A column has a coefficient in each expert and one in the gate. A test can ask for
# either, or for all experts at once. Wald's test needs nothing but the fit; the
# likelihood ratio fits the mixture once more without the column.

print(f"{'column':<20}{'gate: Wald':>14}{'ratio':>10}{'experts: Wald':>16}")
for column in X:
    in_gate, in_experts = (wald_test(model, column, p) for p in ("gate", "experts"))
    ratio = likelihood_ratio_test(model, X, y, column)
    print(
        f"{column:<20}{in_gate.p_value:>14.2g}{ratio.p_value:>10.2g}"
        f"{in_experts.p_value:>16.2g}"
    )

plt.show()
