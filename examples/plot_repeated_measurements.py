r"""
Repeated measurements: one course for each patient
==================================================

Two hundred patients come back three to eight times within two years. Each recovers,
stays as he is or gets worse, and keeps to that; nobody has noted which. All start
alike, so that one visit says little. What tells the courses apart is the *sequence*
of visits.

Rows of one patient are a group: they share one expert. With ``groups`` the mixture
multiplies the densities of all rows of a group before it asks which expert made them,

.. math::

   r_{gk} \;\propto\; g_k(x_g) \prod_{i \in g} p_k(y_i \mid x_i) .
"""

# %%
# Fit
# ---
# The experts are lines in time and severity. The gate sees severity and treatment:
# what is known of a patient before the second visit.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_visits
from skmoe.experts import LinearExpert

table = make_visits(200, random_state=0)
X = pd.DataFrame(table.data, columns=table.feature_names)
y, patient = table.target, table.groups
model = MixtureOfExpertsRegressor(
    LinearExpert(alpha=0.1),
    n_experts=3,
    gate_features=["severity", "treatment"],
    random_state=0,
)
model.fit(X, y, groups=patient)

order = np.argsort([expert.coef_[0] for expert in model.experts_])
for k, name in zip(order, table.course_names, strict=True):
    slope, noise = model.experts_[k].coef_[0], model.experts_[k].dispersion ** 0.5
    print(f"{name:8s} {slope:6.2f} g/l a month, noise {noise:.2f} g/l")

# %%
# Whose course is which
# ---------------------
# The same model fitted to the rows as if each were a patient of its own finds nearly
# the same lines, but a row alone can hardly say which of them it belongs to, and rows
# of one patient may disagree. Since these patients are simulated, we know.

single = clone(model).fit(X, y)
true = np.searchsorted(table.course_names, table.course)
slopes = [expert.coef_[0] for expert in single.experts_]
by_patient = model.responsibilities(X, y, groups=patient)[:, order]
by_row = single.responsibilities(X, y)[:, np.argsort(slopes)]
for name, resp in (("each row for itself", by_row), ("with groups", by_patient)):
    print(f"{name:20s} right in {np.mean(resp.argmax(axis=1) == true):.1%} of the rows")

COLORS = np.array([[0, 158, 115], [150, 150, 150], [213, 94, 0]]) / 255.0
fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
for ax, resp in zip(axes, (by_row, by_patient), strict=True):
    for one in range(0, 200, 2):
        own = np.flatnonzero(patient == one)
        ax.plot(X["months"].iloc[own], y[own], color="0.85", lw=0.7, zorder=1)
    shown = patient % 2 == 0
    ax.scatter(X["months"][shown], y[shown], s=13, color=(resp @ COLORS)[shown])
    ax.set(xlabel="months since the first visit", xlim=(-0.5, 24.5))
axes[0].set(title="Each row for itself", ylabel="marker (g/l)")
axes[1].set(title="With groups: one colour for each patient")
plt.show()

# %%
# What an early visit is worth
# ----------------------------
# New patients: the visits of the first eight months are in, the later ones are to be
# forecast. Before any visit counts, the gate weighs the three courses by severity and
# treatment. After the early visits their responsibilities do.

new = make_visits(400, random_state=1)
early = new.data[:, 0] <= 8.0
late = ~early  # each patient came at month 0, so all have early visits
X_new = pd.DataFrame(new.data, columns=new.feature_names)
resp = model.responsibilities(X_new[early], new.target[early], groups=new.groups[early])
of_patient = resp[np.unique(new.groups[early], return_index=True)[1]]
courses = model.predict_experts(X_new[late])
forecast = (of_patient[new.groups[late]] * courses).sum(axis=1)


def error(forecast):
    """Root mean squared error over the late visits, in grams per litre."""
    return np.sqrt(np.mean((new.target[late] - forecast) ** 2))


print(f"from severity and treatment: {error(model.predict(X_new[late])):.2f} g/l")
print(f"and from the early visits:   {error(forecast):.2f} g/l")

months = np.linspace(0.0, 24.0, 49)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
counts = np.bincount(new.groups[early])
for ax, course in zip(axes, table.course_names, strict=True):
    # The first patient of this course with at least three early visits.
    one = new.groups[(new.course == course) & (counts[new.groups] >= 3)][0]
    own = new.groups == one
    grid = X_new[own].iloc[[0] * months.size].assign(months=months)
    lines = model.predict_experts(grid)
    for k, weight in enumerate(of_patient[one]):
        ax.plot(months, lines[:, k], color="#0072B2", lw=1 + 5 * weight, alpha=0.25)
    ax.plot(months, model.predict(grid), color="black", ls="--", label="before")
    ax.plot(months, lines @ of_patient[one], color="#0072B2", lw=2, label="after")
    for rows, fill in ((own & early, "black"), (own & late, "white")):
        ax.scatter(new.data[rows, 0], new.target[rows], c=fill, ec="black", zorder=3)
    ax.axvline(8.0, color="0.7", lw=0.8)
    ax.set(title=f"a patient who {course}", xlabel="months")
axes[0].set_ylabel("marker (g/l)")
axes[0].legend(frameon=False, loc="lower left")
plt.show()

# %%
# Choosing the number of courses
# ------------------------------
# ``bic`` counts patients instead of rows when it is told of the groups. ``log_prob``
# is that of a row alone; of a patient it is ``log_likelihood`` with ``groups``.

for n_experts in (1, 2, 3, 4):
    fit = MixtureOfExpertsRegressor(
        LinearExpert(alpha=0.1),
        n_experts=n_experts,
        gate_features=["severity", "treatment"],
        random_state=0,
    ).fit(X, y, groups=patient)
    print(n_experts, "courses: BIC", round(fit.bic(X, y, groups=patient), 1))
