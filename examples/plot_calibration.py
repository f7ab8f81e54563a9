"""
Is the law right? Bands, calibration, coverage
==============================================

A mixture answers with a law: a density for each row. A law can be wrong in ways that no
R2 shows. It may be too narrow, so that responses keep falling outside; too wide, so
that its intervals are of no use; or right on average, and wrong for one kind of row.
Three displays look for that.
"""

# %%
# What the law says
# -----------------
# First a law that no single number describes. A hand is seen at some distance from
# the shoulder: is the elbow up or down? Both are equally probable, so the mean is a
# straight arm, which reaches none of these points. Bands between quantiles fill the
# hole between the branches; highest-density regions are the smallest that hold their
# share, and come in pieces.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete, make_two_valued
from skmoe.experts import LinearExpert
from skmoe.inspection import (
    CalibrationDisplay,
    CoverageDisplay,
    PredictiveBandDisplay,
)

X, y = make_two_valued(300, random_state=0)
arm = MixtureOfExpertsRegressor(LinearExpert(alpha=0.1), n_experts=4, random_state=0)
arm.fit(X, y)

fig, axes = plt.subplots(3, 1, figsize=(7, 9), sharex=True, layout="constrained")
for ax, kind in zip(axes, ("central", "highest-density", "density"), strict=True):
    PredictiveBandDisplay.from_estimator(
        arm, X, y, kind=kind, feature_names=["distance (m)"], s=8, ax=ax
    )
    ax.set(title=kind, ylabel="elbow (rad)")
plt.show()

# %%
# Along one column of many
# ------------------------
# The strength of concrete depends on seven ingredients and on age. With the other
# columns held at their medians, the band along the age is that of one mix: most points
# lie outside, for they are other mixes. Averaged over mixes it is the law of a mix that
# is not known: what the points should fill.

X, y = load_concrete(return_X_y=True, as_frame=True)
X, X_new, y, y_new = train_test_split(X, y, random_state=0, test_size=0.4)
model = MixtureOfExpertsRegressor(n_experts=4, random_state=0).fit(X, y)

fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, others in zip(axes, ("median", "average"), strict=True):
    PredictiveBandDisplay.from_estimator(
        model, X_new, y_new, "age", others=others, ax=ax, s=8
    )
    ax.set_title(f"other columns: {others}")
plt.show()

# %%
# Calibration
# -----------
# The probability integral transform of a row is the probability that its law gives to
# smaller responses. If the laws are right it is uniform. A single linear model has one
# noise for all mixes, the mixture one for each regime. Both are judged by rows that
# they have not seen: on those of the fit, laws look better than they are.

single = MixtureOfExpertsRegressor(n_experts=1).fit(X, y)
fits = {"one linear model": single, "four experts": model}
fig, axes = plt.subplots(2, 2, figsize=(11, 6), layout="constrained")
for column, (name, fitted) in zip(axes.T, fits.items(), strict=True):
    for ax, kind in zip(column, ("histogram", "difference"), strict=True):
        CalibrationDisplay.from_estimator(fitted, X_new, y_new, kind=kind, ax=ax)
    column[0].set_title(name)
plt.show()

# %%
# Coverage, and who pays for it
# -----------------------------
# The same in the words of intervals: what share of the new rows lies within the
# interval of a level? Drawn apart by the expert that the gate thinks most probable, it
# shows whether one regime's intervals are too narrow while another's make up for it.

regime = np.array(model.expert_names_)[model.apply(X_new)]  # the same for both fits
tables = {}
fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for ax, (name, fitted) in zip(axes, fits.items(), strict=True):
    display = CoverageDisplay.from_estimator(fitted, X_new, y_new, by=regime, ax=ax)
    ax.set_title(name)
    tables[name] = display.frame([0.9]).set_index("group")["coverage"]
plt.show()

# %%
# In numbers, for intervals of 90 %. Where a regime has few rows, chance has its say:
# ``frame()`` has the number of rows and a standard error beside each share.

print(pd.DataFrame(tables).round(2))
print(display.frame([0.9]).round(3).to_string(index=False))

# %%
# What can be done about laws that are wrong? More rows, fewer experts, or experts with
# another family of noise; and, where intervals must hold what they promise, conformal
# prediction on rows that were kept back.
