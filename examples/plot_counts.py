"""
Too many zeros: counts with an exposure
=======================================

A table of car insurance: what is known of the driver, for how many years the policy
has run, and how many claims were reported. Two thirds of the rows say zero. Some of
these drivers had luck; others never report a small damage, because the premium would
rise. For the rate of claims the difference matters.

A mixture has an expert for each: a point mass at zero, and a count. The gate says
who is likely to be silent.
"""

# %%
# The law
# -------
# With :math:`t` years and :math:`s(x)` the gate's probability of a silent driver,
#
# .. math::
#
#    P(y \mid x) = s(x)\, [y = 0]
#       + (1 - s(x))\; \mathrm{NB}(y;\; t\, e^{b_0 + b'x},\; \theta) ,
#
# the zero-inflated negative binomial. Years are an *exposure*: twice the years, twice
# the expected claims. They have no coefficient: the expert is told which column holds
# them, and the gate does not see that column.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_claims
from skmoe.experts import NegativeBinomialExpert, PointMassExpert, PoissonExpert

table = make_claims(3000, random_state=0)
X = pd.DataFrame(table.data, columns=table.feature_names)
y = table.target
new = make_claims(3000, random_state=1)
X_new = pd.DataFrame(new.data, columns=new.feature_names)

poisson = PoissonExpert(exposure="years")
binomial = NegativeBinomialExpert(exposure="years")
models = {
    "Poisson": MixtureOfExpertsRegressor(poisson, n_experts=1),
    "negative binomial": MixtureOfExpertsRegressor(binomial, n_experts=1),
    "with silent drivers": MixtureOfExpertsRegressor(
        [("silent", PointMassExpert()), ("reports", binomial)]
    ),
}
for name, model in models.items():
    model.fit(X, y)
    nats = model.log_prob(X_new, new.target).mean()
    print(f"{name:20s} {nats:.4f} nats a new row, BIC {model.bic(X, y):.0f}")
truth = new.truth.log_prob(new.data, new.target).mean()
print(f"{'the law itself':20s} {truth:.4f}")

# %%
# What it found
# -------------
# The data are simulated, so the answers are known: size 2, a rate that falls by 0.025
# for each year of age and rises by 0.012 with each kilowatt, and log odds of silence
# that rise by 0.35 with each year of bonus.

model = models["with silent drivers"]
reports = model.experts_[1]
silence = model.gate_.coef_[0] - model.gate_.coef_[1]
names = model.feature_names_in_[:3]
print("log rate:", dict(zip(names, reports.coef_.round(3).tolist(), strict=True)))
print("size:", round(reports.dispersion, 2))
print("log odds of silence:", dict(zip(names, silence.round(3).tolist(), strict=True)))

# %%
# Law against data
# ----------------
# A hanging rootogram compares all counts at once: each bar is as long as the root of
# how often the count was seen, and hangs from the root of how often the law expects
# it. A bar that misses the axis shows a count that comes too seldom or too often.
# Roots, because they vary about alike whether a count is common or rare. The plain
# negative binomial looks nearly right here, and still has the wrong reason for its
# zeros: on the right, the probability of none in one year against the bonus.

counts = np.arange(11)
seen = np.array([(new.target == count).sum() for count in counts])
fig, axes = plt.subplots(
    1, 4, figsize=(12, 3.8), width_ratios=(1, 1, 1, 1.3), layout="constrained"
)
colors = ["#999999", "#E69F00", "#0072B2"]
for ax, color, (name, fitted) in zip(axes, colors, models.items(), strict=False):
    law = fitted.predict_distribution(X_new)
    hope = [np.exp(law.log_prob(np.full(len(law), c))).sum() for c in counts]
    ax.bar(counts, np.sqrt(seen), 0.8, np.sqrt(hope) - np.sqrt(seen), color=color)
    ax.plot(counts, np.sqrt(hope), "o-", color="black", ms=3, lw=1)
    ax.axhline(0.0, color="black", lw=0.8)
    ax.set(title=name, xlabel="claims", ylim=(-6, 48))
axes[0].set_ylabel("root of the number of drivers")

bonus = np.linspace(0.0, 10.0, 51)
driver = pd.DataFrame({"age": 44.0, "power": 77.0, "bonus": bonus, "years": 1.0})
none = np.zeros(bonus.size)
ax = axes[-1]
for color, (name, fitted) in zip(colors, models.items(), strict=True):
    ax.plot(bonus, np.exp(fitted.log_prob(driver, none)), color=color, lw=2, label=name)
true = np.exp(new.truth.log_prob(driver.to_numpy(), none))
ax.plot(bonus, true, color="black", ls="--", label="truth")
ax.set(title="No claim in one year", xlabel="years of bonus", ylabel="probability")
ax.legend(frameon=False)
plt.show()

# %%
# One driver
# ----------
# ``predict`` is the expected number of *reported* claims, and the law says the rest.
# The gate tells apart a driver who has no damages from one who keeps them to himself,
# and once the number is seen, the responsibilities do so better: after four years
# without a claim the same bonus makes silence likelier than after one.

driver = X.iloc[[0, 0]].assign(age=30.0, power=100.0, bonus=6.0, years=[1.0, 4.0])
law = model.predict_distribution(driver)
print("expected reports:", law.mean.round(2))
print("P(none):", law.cdf(np.zeros(2)).round(2), "95 % quantile:", law.quantile(0.95))
print("silent, from the columns:", model.gate_proba(driver)[:, 0].round(2))
silent = model.responsibilities(driver, np.zeros(2))[:, 0]
print("silent, none reported:   ", silent.round(2))
