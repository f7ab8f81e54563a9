r"""
The same rhythm, two meanings: hidden Markov experts
====================================================

A pump is recorded while it works: vibration and current, every few seconds, in runs of
unequal lengths. A worn bearing shows in the *rhythm* of the runs, not in their levels.
But what rhythm is healthy depends on the pump: a small one that keeps changing between
its states is worn, a large one is worn when it sticks in them.

One hidden Markov model a class sees both rhythms in both classes, and can tell nothing
from them. In a mixture of such experts the gate reads what is known of the pump, its
rated power, and asks the expert that knows what a rhythm means in such a pump.
"""

# %%
# Runs of unequal lengths
# -----------------------
# Three hidden states (idling, pumping, surging) with a level each. The two rhythms have
# the same levels and spend the same time in each state. Below 40 kW the restless one
# is worn, above it the sticky one. The age of the pump is known too, and means nothing.

import matplotlib.pyplot as plt
import numpy as np

from skmoe import MixtureOfExpertsClassifier
from skmoe.experts import HMMExpert
from skmoe.sequence import pad_sequences

LEVELS = np.array([[0.0, 0.0], [1.6, 1.0], [0.2, 2.0]])
STICKY = np.full((3, 3), 0.08) + 0.76 * np.eye(3)
RESTLESS = np.full((3, 3), 0.27) + 0.19 * np.eye(3)
BORDER = 40.0


def record(n_runs, rng):
    """Return what is known of each pump, its run, and whether it was worn."""
    power, age = rng.uniform(5.0, 80.0, n_runs), rng.uniform(0.0, 20.0, n_runs)
    worn, runs = rng.integers(2, size=n_runs), []
    for k in range(n_runs):
        moves = RESTLESS if worn[k] == (power[k] < BORDER) else STICKY
        state, rows = rng.integers(3), []
        for _ in range(rng.integers(10, 41)):
            state = rng.choice(3, p=moves[state])
            rows.append(LEVELS[state] + 0.7 * rng.standard_normal(2))
        runs.append(np.array(rows))
    return np.column_stack([power, age]), runs, worn


rng = np.random.default_rng(0)
pumps, runs, worn = record(400, rng)
new_pumps, new_runs, new_worn = record(1000, rng)
print(len(runs), "runs of", sorted({len(run) for run in runs})[::15], "... steps")

# %%
# One expert alone
# ----------------
# It takes the runs as a list of arrays. Its classes look alike to it.

alone = HMMExpert(n_states=3).fit(runs, worn)
print(f"one hidden Markov model a class: {alone.score(new_runs, new_worn):.1%} right")

# %%
# A mixture, with a gate on the pump
# ----------------------------------
# A mixture wants one table: `pad_sequences` lays out a run in a row, with NaN after its
# end, which the experts skip. Each expert is told its columns; the gate has the others.

N_STEPS = max(map(len, runs))
table = np.column_stack([pumps, pad_sequences(runs, N_STEPS)])
new_table = np.column_stack([new_pumps, pad_sequences(new_runs, N_STEPS)])
steps = list(range(2, table.shape[1]))
mixture = MixtureOfExpertsClassifier(
    [(name, HMMExpert(n_states=3, n_features=2), steps) for name in ("a", "b")],
    gate_features=[0, 1],
    random_state=0,
).fit(table, worn)
print(mixture.summary())

# %%
# For comparison: two experts alone, one on each side of the border, as somebody would
# fit them who knew where it is. They are the best that can be hoped for.

small, new_small = pumps[:, 0] < BORDER, new_pumps[:, 0] < BORDER
told = np.empty((len(new_worn), 2))
for side in (True, False):
    mine, theirs = np.flatnonzero(small == side), np.flatnonzero(new_small == side)
    expert = HMMExpert(n_states=3).fit([runs[i] for i in mine], worn[mine])
    told[theirs] = expert.predict_proba([new_runs[i] for i in theirs])

laws = {
    "one HMM a class": alone.predict_proba(new_runs),
    "mixture of two": mixture.predict_proba(new_table),
    "told the border": told,
}
right, loss = {}, {}
for name, law in laws.items():
    right[name] = np.mean(law.argmax(axis=1) == new_worn)
    loss[name] = -np.log(law[np.arange(len(new_worn)), new_worn]).mean()
    print(f"{name:16s} {right[name]:.1%} right, log loss {loss[name]:.3f} nats")

# %%
# What the gate has found
# -----------------------
# Left: a run of each rhythm. Middle: the gate against the rated power, for ages from 0
# to 20 years, with the border that it was not told. Right: new pumps.

fig = plt.figure(figsize=(11.5, 4.0), layout="constrained")
left, middle, last = fig.subfigures(1, 3, width_ratios=(1.15, 1.1, 1.0))
BLUE, ORANGE = "#3f90da", "#e76300"

restless = np.where(new_small, new_worn == 1, new_worn == 0)
long = np.array([len(run) for run in new_runs]) > 36
for ax, rhythm, name in zip(
    left.subplots(2, 1, sharex=True), (False, True), ("sticky", "restless"), strict=True
):
    run = new_runs[np.flatnonzero(long & (restless == rhythm))[0]]
    for column, (label, color) in enumerate(
        (("vibration", "0.15"), ("current", "0.6"))
    ):
        ax.plot(run[:, column], color=color, lw=1.4, marker=".", ms=4, label=label)
    ax.set_title(
        f"{name}: worn in a {'small' if rhythm else 'large'} pump", fontsize=10
    )
    ax.set_ylim(-2.2, 5.2)
ax.set_xlabel("step of a run")
ax.legend(frameon=False, ncols=2, fontsize=8, loc="upper right")

ax = middle.subplots()
power = np.linspace(5.0, 80.0, 200)
nothing = np.full((200, len(steps)), np.nan)  # the gate does not read the run
first = mixture.gate_proba(new_table)[new_small].mean(axis=0).argmax()
for age, color in ((0.0, "#9ec8ec"), (10.0, BLUE), (20.0, "#1d5f9e")):
    share = mixture.gate_proba(np.column_stack([power, np.full(200, age), nothing]))
    ax.plot(power, share[:, first], color=color, lw=2, label=f"{age:.0f} years old")
ax.axvline(BORDER, color="0.4", lw=1, ls="--")
ax.set(xlabel="rated power (kW)", ylim=(-0.02, 1.02), xlim=(5, 80))
ax.set_title("gate: share of the first expert", fontsize=10)
ax.legend(frameon=False, fontsize=8)

top, bottom = last.subplots(2, 1)
for ax, value, title in (
    (top, right, "new pumps: share told right"),
    (bottom, loss, "new pumps: log loss (nats)"),
):
    colors = ["0.7", ORANGE, "0.85"]
    bars = ax.barh(list(value), list(value.values()), color=colors, height=0.65)
    ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    ax.set_title(title, fontsize=10, loc="left")
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * max(value.values()))
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The models themselves
# ---------------------
# They are hmmlearn's. The two experts have the same levels, and turn the rhythms round:
# what stays in its states is healthy for one and worn for the other.

for name, expert in zip(mixture.expert_names_, mixture.experts_, strict=True):
    for state, model in zip(("healthy", "worn"), expert.models_, strict=True):
        stays = model.transmat_.diagonal().mean()
        print(f"expert {name}, {state:7s}: stays in its state with {stays:.2f}")

# %%
# Sure, but not too sure
# ----------------------
# The density of a long run is a product of many terms, and any flaw of the model is
# raised to their number. The ratio of the classes' densities is therefore divided by a
# temperature that held-out runs ask for. Above, the model is true and little is needed.
# If each reading had been written down four times, all ratios would be far too large.

fourfold = [np.repeat(run, 4, axis=0) for run in runs if len(run) < 30]
rhythm = (worn == small)[[len(run) < 30 for run in runs]]  # 1: restless
for calibration in ("temperature", None):
    model = HMMExpert(n_states=3, calibration=calibration).fit(
        fourfold[:150], rhythm[:150]
    )
    law = model.predict_proba(fourfold[150:])
    nats = -np.log(law[np.arange(len(law)), rhythm[150:].astype(int)]).mean()
    print(f"calibration={calibration!r}: log loss {nats:.3f} nats")
