"""The hidden Markov model with normal states beside hmmlearn's `GaussianHMM`.

    python benchmarks/sequence/hmmlearn_speed.py [--rows 100000] [--states 4]
        [--repeats 5] [--json PATH]

pip install hmmlearn. Constant experts with a variance each, a constant transition
matrix, no priors in either. One thread, CPU seconds, medians of runs in turn.

First the log-likelihood of one set of parameters in both. Then whole fits from the same
start (responsibilities: ours takes them, hmmlearn the parameters that the same M-step
makes of them), both until a pass gains less than `TOTAL_GAIN` nats, hmmlearn's default:
many sequences, few, a single one. hmmlearn has two ways to add up paths, its default
"log" and the faster "scaling"; ours accelerates EM by default, so a pass alone is timed
too. The stated figure is for the default of both, beside "scaling" it is printed. Last,
seconds of a plain pass of ours as rows grow.
"""

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np
from hmmlearn.hmm import GaussianHMM
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.experts import LinearExpert
from skmoe.gates import ConstantGate
from skmoe.sequence import MarkovMixtureOfExpertsRegressor

TOTAL_GAIN = 1e-2
WAYS = ("log", "scaling")


def simulate(n_sequences, length, n_states, seed=0):
    """Draw sequences of a sticky chain, and a start: blurred quantile classes."""
    rng = np.random.default_rng(seed)
    stay = np.where(np.eye(n_states, dtype=bool), 0.9, 0.1 / (n_states - 1))
    above = stay.cumsum(axis=1)[:, :-1]
    draw = rng.uniform(size=(length, n_sequences, 1))
    state = np.empty((n_sequences, length), dtype=int)
    state[:, 0] = rng.integers(n_states, size=n_sequences)
    for t in range(1, length):
        state[:, t] = (draw[t] >= above[state[:, t - 1]]).sum(axis=1)
    state = state.ravel()
    noise = np.linspace(0.6, 1.2, n_states)[state]
    y = 1.5 * state + noise * rng.standard_normal(state.size)
    edges = np.quantile(y, np.arange(1, n_states) / n_states)
    resp = rng.dirichlet(np.ones(n_states), size=y.size)
    resp = 0.5 * resp + 0.5 * np.eye(n_states)[np.searchsorted(edges, y)]
    return y, np.full(n_sequences, length), resp


def ours(resp, **changes):
    """Return the model by plain maximum likelihood, from responsibilities."""
    settings = {
        "experts": LinearExpert(alpha=0, variance_prior=None),
        "n_experts": resp.shape[1],
        "gate": ConstantGate(),
        "initial_gate": ConstantGate(),
        "expert_features": [],
        "init": resp,
        "tol": TOTAL_GAIN / len(resp),
    }
    return MarkovMixtureOfExpertsRegressor(**{**settings, **changes})


def theirs(y, lengths, resp, way, **changes):
    """Return hmmlearn's model, at what the M-step makes of responsibilities."""
    settings = {"tol": TOTAL_GAIN, "n_iter": 1000, **changes}
    model = GaussianHMM(
        resp.shape[1],
        covariance_type="diag",
        min_covar=0.0,
        covars_prior=0.0,
        covars_weight=0.0,
        init_params="",
        implementation=way,
        **settings,
    )
    starts = np.cumsum(lengths) - lengths
    follow = np.setdiff1d(np.arange(len(y)), starts)
    pairs = resp[follow - 1].T @ resp[follow]
    mass = resp.sum(axis=0)
    means = resp.T @ y / mass
    model.startprob_ = resp[starts].mean(axis=0)
    model.transmat_ = pairs / pairs.sum(axis=1, keepdims=True)
    model.means_ = means[:, None]
    model.covars_ = (((y[:, None] - means) ** 2 * resp).sum(axis=0) / mass)[:, None]
    return model


def quiet_cpu(function):
    """Return the CPU seconds of a call that may stop at max_iter, and its result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.process_time()
        result = function()
        return time.process_time() - begin, result


def at_same_parameters(y, lengths, resp):
    """Return log-likelihoods at parameters half way through a fit."""
    X = np.zeros((len(y), 1))
    model = ours(resp, max_iter=5, acceleration=None)
    _, model = quiet_cpu(lambda: model.fit(X, y, lengths=lengths))
    peer = theirs(y, lengths, resp, "log")
    first = np.cumsum(lengths)[:1] - lengths[:1]
    peer.transmat_ = model.transition_proba(X[:1])[0]
    peer.startprob_ = model.gate_proba(X[first])[0]
    peer.means_ = model.predict_experts(X[:1]).reshape(-1, 1)
    peer.covars_ = np.array([[e.dispersion] for e in model.experts_]).reshape(-1, 1)
    our_level = model.log_likelihood(X, y, lengths=lengths)
    return {
        "ours": our_level,
        "hmmlearn": peer.score(y[:, None], lengths),
        "difference": our_level - peer.score(y[:, None], lengths),
    }


def pass_seconds(y, lengths, resp, passes=10):
    """Return CPU seconds of one plain pass: two fits that differ by some."""
    X, seconds = np.zeros((len(y), 1)), []
    for count in (2, 2 + passes):
        model = ours(resp, max_iter=count, acceleration=None, tol=0)
        seconds.append(quiet_cpu(lambda m=model: m.fit(X, y, lengths=lengths))[0])
    return (seconds[1] - seconds[0]) / passes


def whole_fits(n_sequences, length, n_states, repeats):
    """Fit in turn, ours and both ways of theirs; return a row."""
    y, lengths, resp = simulate(n_sequences, length, n_states)
    X = np.zeros((len(y), 1))
    seconds = {name: [] for name in ("ours", "pass", *WAYS)}
    for repeat in range(repeats):
        progress(f"{n_sequences} x {length}: run {repeat + 1} of {repeats}")
        taken, model = quiet_cpu(lambda: ours(resp).fit(X, y, lengths=lengths))
        seconds["ours"].append(taken)
        seconds["pass"].append(pass_seconds(y, lengths, resp))
        for way in WAYS:
            peer = theirs(y, lengths, resp, way)
            taken, _ = quiet_cpu(lambda m=peer: m.fit(y[:, None], lengths))
            seconds[way].append(taken)
    median = {name: float(np.median(taken)) for name, taken in seconds.items()}
    passes = len(peer.monitor_.history)
    return {
        "sequences": n_sequences,
        "length": length,
        **median,
        "our_passes": model.n_iter_,
        "passes": passes,
        "pass_log": median["log"] / passes,
        "pass_scaling": median["scaling"] / passes,
        "ratio": float(np.median(np.divide(seconds["log"], seconds["ours"]))),
        "ratio_scaling": float(
            np.median(np.divide(seconds["scaling"], seconds["ours"]))
        ),
        "gain": model.log_likelihood(X, y, lengths=lengths) - peer.monitor_.history[-1],
        "runs": seconds,
    }


def growth(n_states, sizes=(10_000, 30_000, 100_000, 300_000)):
    """Time a plain pass of ours as rows grow."""
    rows = []
    for n_rows in sizes:
        progress(f"growth: {n_rows} rows")
        case = simulate(n_rows // 500, 500, n_states)
        seconds = float(np.median([pass_seconds(*case) for _ in range(3)]))
        rows.append({"n": n_rows, "pass": seconds, "per_row": seconds / n_rows * 1e9})
    return rows


FIT_COLUMNS = [
    ("sequences", "sequences", "d"),
    ("length", "length", "d"),
    ("log", "hmmlearn s", ".2f"),
    ("scaling", "scaling s", ".2f"),
    ("passes", "passes", "d"),
    ("ours", "ours s", ".2f"),
    ("our_passes", "passes", "d"),
    ("ratio", "times faster", ".1f"),
    ("ratio_scaling", "than scaling", ".1f"),
    ("gain", "nats above", ".2g"),
    ("pass_log", "hmmlearn s/pass", ".4f"),
    ("pass_scaling", "scaling s/pass", ".4f"),
    ("pass", "ours s/pass", ".4f"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--states", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    threadpool_limits(1)
    targets = Targets()
    same = at_same_parameters(*simulate(20, 500, options.states))
    print_table([same], [(key, key, ".9g") for key in same], "Same parameters (nats)")
    gap = abs(same["difference"])
    targets.check("same likelihood", gap, gap <= 1e-6, "<= 1e-6 nats")
    shapes = [(options.rows // size, size) for size in (500, 5000, options.rows)]
    fits = [whole_fits(*shape, options.states, options.repeats) for shape in shapes]
    title = f"{options.rows} rows, {options.states} states: whole fits, same start"
    print_table(fits, FIT_COLUMNS, title)
    for row in fits:
        name = f"{row['sequences']} x {row['length']}"
        targets.check(
            f"fit {name}", row["ratio"], row["ratio"] >= 3, ">= 3 times faster"
        )
        # Both stop short of the maximum by about what a pass still gains.
        ok = row["gain"] >= -10 * TOTAL_GAIN
        targets.check(f"level {name}", row["gain"], ok, ">= hmmlearn's - 0.1 nats")
    grown = growth(options.states)
    columns = [("n", "n", "d"), ("pass", "s/pass", ".4f"), ("per_row", "ns/row", ".0f")]
    print_table(grown, columns, "Growth with rows, sequences of 500, ours")
    spread = grown[-1]["per_row"] / grown[0]["per_row"]
    targets.check(
        "growth", spread, spread <= 1.3, "ns/row at most 1.3 times, 30 x rows"
    )
    write_json(options.json, {"same": same, "fits": fits, "growth": grown})
    targets.exit()


if __name__ == "__main__":
    main()
