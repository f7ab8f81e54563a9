"""
Regimes in time: the sun rises and falls
========================================

Which regime holds now, how sure is that, which comes next, and what does each of them
predict? A Markov mixture of experts answers all four. The series is that of the yearly
sunspot numbers; the model sees the three years before, is told of two regimes, and not
what they are.
"""

# %%
# Fit
# ---
# The square root evens out the noise of a count. Each expert is a linear
# autoregression; the gate of a year depends on the same three lags *and* on the
# expert of the year before. The years up to 1980 are for learning; rows that come
# after them go on from the regimes at the end of the fit, ``final_state_proba_``.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import load_sunspots
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate
from skmoe.inspection import RegimeDisplay
from skmoe.sequence import MarkovMixtureOfExpertsRegressor, one_step_log_score

N_LAGS = 3
sun = load_sunspots(N_LAGS)
X, y, years = np.sqrt(sun.data), np.sqrt(sun.target), sun.years
old, new = years <= 1980, years > 1980

settings = {
    "experts": LinearExpert(alpha=0.1),
    "gate": SoftmaxGate(alpha=1.0),
    "random_state": 0,
}
model = MarkovMixtureOfExpertsRegressor(**settings, n_init=4)
model.fit(X[old], y[old])
now = model.final_state_proba_[-1]
print(model.summary())

# %%
# A stay in one of them lasts four years, one in the other nearly seven. Those are the
# lengths of the rise and of the fall of a solar cycle, which nobody told the model.

rise = int(np.argmax(model.predict_experts(X[old]).mean(axis=0)))
fall = 1 - rise
for name, k in (("rise", rise), ("fall", fall)):
    print(f"{name}: {model.dwell_times()[k]:.1f} years in a stay")

# %%
# The picture
# -----------
# Points have the colour of their regime, the band is the law of each year *before* it
# was seen. Below are the probabilities of the regimes, given all years that are drawn
# and those before them (``previous``).

begin = model.filter(X[years <= 1900], y[years <= 1900])[-1]
late = years > 1900
display = RegimeDisplay.from_estimator(
    model, X[late], y[late], times=years[late], previous=begin
)
display.ax_.set_ylabel("square root of sunspots")
plt.show()

# %%
# Now, next, and what each predicts
# ---------------------------------
# ``filter`` knows the responses up to a year, and no later ones. From it the gates lead
# to the law of the next year. The years 1981 to 2008 were not in the fit.

ahead = model.gate_proba(X[new], y[new], previous=now)  # before the year is seen
proba = model.filter(X[new], y[new], previous=now)  # and after
expert = model.predict_experts(X[new])
print("year  seen  P(rise) before, after   rise says  fall says")
for t in range(0, new.sum(), 3):
    print(
        f"{years[new][t]}  {y[new][t]:4.1f} {ahead[t, rise]:12.2f} "
        f"{proba[t, rise]:8.2f} {expert[t, rise]:11.1f} {expert[t, fall]:10.1f}"
    )
change = model.transition_proba(X[new][-1:])[0]
print(f"into the last year: rise to fall {change[rise, fall]:.2f}, ", end="")
print(f"fall to rise {change[fall, rise]:.2f}")

# %%
# Does the past of the regime help? By the log density of the new years, each given
# those before it, in nats a year:

markov = one_step_log_score(model, X[new], y[new], previous=now)
one = MixtureOfExpertsRegressor(settings["experts"], n_experts=1).fit(X[old], y[old])
flat = MixtureOfExpertsRegressor(**settings).fit(X[old], y[old])
print(f"one autoregression  {one.log_prob(X[new], y[new]).mean():.3f}")
print(f"flat mixture        {flat.log_prob(X[new], y[new]).mean():.3f}")
print(f"Markov mixture      {markov:.3f}")

# %%
# A fan of forecasts
# ------------------
# Beyond the next year the lags are themselves unknown. ``feedback`` builds the rows of
# a step from the path so far, and each path draws its regimes and its responses.
# Single paths look like cycles; their quantiles widen until the phase is lost.

last = y[old][-N_LAGS:]


def lags(_, so_far):
    """Return the latest values of each path, newest first."""
    known = np.tile(last, (len(so_far), 1))
    return np.column_stack([known, so_far])[:, : -N_LAGS - 1 : -1]


steps = int(new.sum())
forecast = model.forecast(n_steps=steps, feedback=lags, n_paths=2000, random_state=0)

fig, (ax, below) = plt.subplots(
    2, 1, figsize=(8, 5), sharex=True, height_ratios=[3, 1], layout="constrained"
)
shown = years >= 1950
ax.plot(years[shown], sun.target[shown], color="black", lw=1.2, label="seen")
for level, shade in ((0.9, 0.2), (0.5, 0.4)):
    low, high = np.maximum(forecast.interval(level), 0.0).T ** 2
    ax.fill_between(
        years[new], low, high, color="#0072B2", alpha=shade, lw=0, label=f"{level:.0%}"
    )
for path in np.maximum(forecast.paths[:3], 0.0) ** 2:
    ax.plot(years[new], path, color="#D55E00", lw=0.7)
ax.plot([], [], color="#D55E00", lw=0.7, label="three paths")
ax.axvline(1980.5, ymax=0.86, color="0.5", lw=0.8, ls="--")
ax.set(ylabel="sunspots", ylim=(-5, 235))
ax.legend(loc="upper left", ncols=4, frameon=False)
below.plot(years[new], forecast.state_proba[:, rise], color="#0072B2")
below.set(ylim=(0, 1), ylabel="P(rise)", xlabel="year")
plt.show()

# %%
# The first years are narrow, the cycle to come can still be told from its trough, the
# one after that hardly; in the end the forecast is the long-run law.

low, high = forecast.interval(0.9).T
inside = np.mean((low <= y[new]) & (y[new] <= high))
print(f"{inside:.0%} of the new years lie in the 90 % band")
