"""Input-output hidden Markov models beside IOHMM and dynamax.

    python benchmarks/sequence/peers.py [--iohmm-python PATH] [--dynamax-python PATH]
        [--rows 10000] [--passes 10] [--json PATH]

The peers run in interpreters of their own, by `_iohmm_peer.py` and `_dynamax_peer.py`.
IOHMM 0.0.7 installs by `pip install IOHMM` on any Python, but its gates pass
`multi_class` to scikit-learn, which 1.9 no longer takes: use Python 3.8, where pip
finds versions of its time by itself (pandas 2.0.3, scikit-learn 1.3.2).
For dynamax: Python 3.11, `pip install dynamax "jax[cpu]"` (1.0.3, JAX 0.10.2). What is
not given is listed as such, and its figures count as missed.

Switching regressions of 3 experts on 2 inputs. For IOHMM transitions depend on the
inputs, by a softmax for each expert before; dynamax's `LinearRegressionHMM` has
constant transitions only. Parameters are ours after a short fit; the peers are set to
them, and say the log-likelihood there: initial law, transitions, normal experts, all of
it. Then a pass, E-step and M-step of all parts, from there: one thread, medians; CPU
seconds, of dynamax wall seconds once it is compiled (in float64, as ours). IOHMM solves
each gate to convergence by L-BFGS, ours takes one safe Newton step (generalised EM), so
the log-likelihood after those passes is printed too.

What they have that skmoe has not: IOHMM has several responses at once, each of a family
of its own with inputs of its own (ours: several normal outputs, one family), and models
as JSON files. dynamax has fits by stochastic gradient descent, draws of whole state
paths given the data, fixed-lag smoothing, priors on transitions with a "stickiness",
any JAX density as emissions, and accelerators; beside HMMs it has linear and nonlinear
Gaussian state spaces.

What skmoe has that they have not: IOHMM has no constant transitions (a column of zeros
does for them), Viterbi paths, filtered laws, laws one step ahead, forecasts, missing
responses, sample weights, restarts, acceleration, or experts other than its linear
models. dynamax has no inputs in its ready-made transitions (a subclass may write them),
no experts that are not written in JAX, restarts, known states, missing responses, or
sequences of unequal length in one batch. Neither has scikit-learn's interface.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.experts import LinearExpert
from skmoe.gates import ConstantGate, SoftmaxGate
from skmoe.sequence import MarkovMixtureOfExpertsRegressor

HERE = pathlib.Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
XLA = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
ENVIRONMENT = {"XLA_FLAGS": XLA, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
N_EXPERTS, N_FEATURES = 3, 2
FORMS = [(20, True), (1, True), (20, False), (1, False)]


def simulate(n_sequences, length, seed=0):
    """Draw switching regressions whose transitions depend on the inputs."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_sequences, length, N_FEATURES))
    slopes = 1.5 * rng.standard_normal((N_EXPERTS, N_EXPERTS, N_FEATURES))
    logit = np.einsum("std,ijd->stij", X, slopes) + 2.0 * np.eye(N_EXPERTS)
    noisy = logit + rng.gumbel(size=logit.shape)
    state = np.zeros((n_sequences, length), dtype=int)
    for t in range(1, length):
        before = state[:, t - 1]
        state[:, t] = noisy[np.arange(n_sequences), t, before].argmax(axis=1)
    coef = 2.0 * rng.standard_normal((N_EXPERTS, N_FEATURES))
    X, state = X.reshape(-1, N_FEATURES), state.ravel()
    mean = (X * coef[state]).sum(axis=1) + 2.0 * state
    y = mean + 0.5 * rng.standard_normal(len(X))
    resp = 0.6 * np.eye(N_EXPERTS)[state] + 0.4 / N_EXPERTS
    return X, y, np.full(n_sequences, length), resp


def quiet_fit(data, gate, passes, **changes):
    """Fit a plain model for a number of passes; return it and its CPU seconds."""
    X, y, lengths, resp = data
    model = MarkovMixtureOfExpertsRegressor(
        LinearExpert(alpha=0, variance_prior=None),
        initial_gate=ConstantGate(),
        n_experts=N_EXPERTS,
        gate=gate,
        init=resp,
        max_iter=passes,
        acceleration=None,
        tol=0,
        **changes,
    )
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y, lengths=lengths)
    return model, time.process_time() - begin


def parameters(model, X, lengths):
    """Read the parameters off a fitted model."""
    # Means and logits are linear in the inputs: rows of a unit matrix tell the slopes.
    points = np.vstack([np.zeros(N_FEATURES), np.eye(N_FEATURES)])
    mean = model.predict_experts(points)
    log_step = np.log(model.transition_proba(points))
    return {
        "intercept": mean[0],
        "coef": (mean[1:] - mean[0]).T,
        "variance": np.array([expert.dispersion for expert in model.experts_]),
        "initial": model.gate_proba(X[:1])[0],
        "gate_intercept": log_step[0],
        "gate_coef": np.moveaxis(log_step[1:] - log_step[0], 0, -1),
        "transition": np.exp(log_step[0]),
        "lengths": lengths,
    }


def ask(interpreter, script, data, passes):
    """Run a peer's script; return what it says, or None without an interpreter."""
    if interpreter is None:
        return None
    environment = os.environ | ENVIRONMENT | dict.fromkeys(THREADS, "1")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "data.npz"
        np.savez(path, **data)
        done = subprocess.run(
            [interpreter, "-W", "ignore", HERE / script, path, str(passes)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    return json.loads(done.stdout)


def our_pass(data, gate, passes):
    """Return CPU seconds of a plain pass: two fits that differ by some, medians."""
    seconds = []
    for _ in range(3):
        _, few = quiet_fit(data, gate, 2)
        _, many = quiet_fit(data, gate, 2 + passes)
        seconds.append((many - few) / passes)
    return float(np.median(seconds))


def compare(name, interpreter, data, with_inputs, passes):
    """Compare one peer on one set of sequences; return a row."""
    X, y, lengths, _ = data
    progress(f"{name}: {len(lengths)} sequences of {lengths[0]} rows")
    gate = SoftmaxGate(alpha=0) if with_inputs else ConstantGate()
    model, _ = quiet_fit(data, gate, 3)
    level = model.log_likelihood(X, y, lengths=lengths)
    told = {"X": X, "y": y, **parameters(model, X, lengths)}
    script = "_iohmm_peer.py" if name == "IOHMM" else "_dynamax_peer.py"
    answer = ask(interpreter, script, told, passes)
    after, _ = quiet_fit(data, gate, 3 + passes)
    row = {
        "peer": name,
        "sequences": len(lengths),
        "length": int(lengths[0]),
        "ours": level,
        "ours_after": after.log_likelihood(X, y, lengths=lengths),
        "our_pass": our_pass(data, gate, passes),
    }
    if answer is not None:
        row["theirs"] = answer["log_likelihood"]
        row["difference"] = level - answer["log_likelihood"]
        row["their_pass"] = float(np.median(answer["seconds"]))
        row["theirs_after"] = answer["log_likelihood_after"]
        row["ratio"] = row["their_pass"] / row["our_pass"]
    return row


def judge(targets, rows):
    """Check the stated figures; a peer that is not there misses them."""
    for row in rows:
        name = f"{row['peer']}, {row['sequences']} x {row['length']}"
        gap = abs(row.get("difference", np.inf))
        targets.check(f"{name}: likelihood", gap, gap <= 1e-6, "<= 1e-6 nats")
        if row["peer"] == "IOHMM":
            ratio = row.get("ratio", 0.0)
            targets.check(f"{name}: pass", ratio, ratio >= 10, ">= 10 times faster")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iohmm-python")
    parser.add_argument("--dynamax-python")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    threadpool_limits(1)
    rows = []
    for n_sequences, with_inputs in FORMS:
        data = simulate(n_sequences, options.rows // n_sequences)
        name = "IOHMM" if with_inputs else "dynamax"
        interpreter = vars(options)[f"{name.lower()}_python"]
        rows.append(compare(name, interpreter, data, with_inputs, options.passes))
    columns = [
        "peer",
        ("sequences", "sequences", "d"),
        ("length", "length", "d"),
        ("ours", "ours", ".7f"),
        ("theirs", "theirs", ".7f"),
        ("difference", "difference", ".1e"),
        ("our_pass", "ours s/pass", ".4f"),
        ("their_pass", "theirs s/pass", ".4f"),
        ("ratio", "times faster", ".2f"),
        ("ours_after", "ours after", ".2f"),
        ("theirs_after", "theirs after", ".2f"),
    ]
    title = f"{options.rows} rows, {N_EXPERTS} experts: same parameters (nats), a pass"
    print_table(rows, columns, title)
    targets = Targets()
    judge(targets, rows)
    write_json(options.json, {"passes": options.passes, "rows": rows})
    targets.exit()


if __name__ == "__main__":
    main()
