"""
A gated stack: whom to trust, and where
=======================================

A stack combines different strong models. Scikit-learn's ``StackingRegressor`` learns
one weight for each of them, the same for all rows. With ``algorithm="stack"`` a mixture
of experts learns a *gate* instead, so that the weights depend on the row, are never
negative and add up to one: they say whom to trust, and where.

The experts are then not pulled apart by responsibilities. Each is fitted to all rows,
and the gate to out-of-fold predictions, which an expert cannot have learned by heart.
"""

# %%
# Four unlike experts
# -------------------
# The strength of concrete depends on its mix (kg per cubic metre) and its age (days).
# Any estimator can be an expert, and a list names them. Which of two good models is the
# better one at a row is hard to tell from a thousand noisy errors, so the gate is held
# back by a strong ridge: without evidence, weights are the same everywhere. (Without
# ``gate=`` the ridge is chosen by held-out error.)

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
)
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler
from sklearn.svm import SVR

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete
from skmoe.gates import SoftmaxGate

table = load_concrete()
X, y, names = table.data, table.target, table.feature_names

parts = [
    ("splines", make_pipeline(StandardScaler(), SplineTransformer(6), Ridge(0.1))),
    (
        "svm",
        make_pipeline(
            QuantileTransformer(n_quantiles=200), StandardScaler(), SVR(C=100.0)
        ),
    ),
    ("forest", RandomForestRegressor(60, random_state=0)),
    ("boosting", HistGradientBoostingRegressor(random_state=0)),
]
gated = MixtureOfExpertsRegressor(
    parts, algorithm="stack", gate=SoftmaxGate(alpha=10.0), random_state=0
)

# %%
# Scores on held-out rows
# -----------------------
# Both stacks and each part alone, on the same folds. The rows of this table are sorted,
# so all folds are shuffled, those inside ``StackingRegressor`` too.

folds = KFold(3, shuffle=True, random_state=0)
inner = KFold(5, shuffle=True, random_state=0)
stacking = StackingRegressor(parts, cv=inner)
models = {**dict(parts), "StackingRegressor": stacking, "gated stack": gated}

errors = {name: [] for name in models}
log_scores = []
for train, test in folds.split(X):
    for name, model in models.items():
        fitted = clone(model).fit(X[train], y[train])
        error = y[test] - fitted.predict(X[test])
        errors[name].append(np.sqrt(np.mean(error**2)))
        if name == "gated stack":
            log_scores.append(fitted.log_prob(X[test], y[test]).mean())

for name, values in errors.items():
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    print(f"{name:18} RMSE {np.mean(values):.2f} ± {spread:.2f} MPa")
print(f"{'gated stack':18} log score {np.mean(log_scores):.2f} nats per row")

# %%
# Being a mixture, the gated stack also gives a density, and so a log score: each expert
# brings the variance of its own out-of-fold errors.
#
# Who is trusted where
# --------------------
# Now all rows. ``gate_proba`` is the weight of each expert for each row. Sorted into
# groups by age, the rows show where each one earns its trust.

gated.fit(X, y)
gate = gated.gate_proba(X)
age = X[:, names.index("age")]
edges = np.array([1, 5, 10, 20, 40, 80, 400])
groups = np.digitize(age, edges[1:-1])
labels = ["1 to 3", "7", "14", "28", "56", "90 and more"]
shares = np.array([gate[groups == g].mean(axis=0) for g in range(len(labels))])

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
left = np.zeros(len(labels))
for k, name in enumerate(gated.expert_names_):
    ax.barh(labels, shares[:, k], left=left, color=COLORS[k], height=0.8, label=name)
    left += shares[:, k]
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="mean gate probability", ylabel="age (days)")
ax.spines[["top", "right", "left"]].set_visible(False)
fig.legend(frameon=False, loc="outside upper center", ncols=4)
plt.show()

# %%
# What moves the trust
# --------------------
# The gate is a softmax of the columns, so that its coefficients can be read: log odds
# for a change of one standard deviation. Only differences between experts matter; each
# column of the picture is centred.

coef = gated.gate_.coef_ * X.std(axis=0)
size = np.abs(coef).max()

fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
picture = ax.imshow(coef, cmap="PuOr", vmin=-size, vmax=size, aspect="auto")
fig.colorbar(picture, label="log odds", pad=0.02)
shown = [name.replace("_", "\n").replace("plast", "-\nplast") for name in names]
ax.set_xticks(range(len(names)), shown)
ax.set_yticks(range(len(parts)), gated.expert_names_)
ax.set_title("More of a column (dark purple): more trust in the expert")
plt.show()
