"""Switching regressions beside statsmodels' `MarkovRegression`, on its own examples.

    python benchmarks/sequence/statsmodels_switching.py [--starts 20] [--json PATH]

The federal funds rate and the returns are in the tests of statsmodels (0.14 or later),
and are read from there: constant regimes; the rate of the quarter before as input;
output gap and inflation besides, with two regimes and three; returns with a variance of
each regime. statsmodels searches from `--starts` random starts (`search_reps`), ours
takes as many (`n_init`); both maximise the likelihood, ours without priors. Where that
search ends differs from run to run, even at one seed: the best of `RUNS` is taken, and
the median of their seconds.

statsmodels starts the chain from the steady law of its transition matrix, ours from a
free law, which is a little likelier. So the log-likelihood is printed twice:
as fitted, and at the same transitions and experts with the steady law before the first
row. The stated figure is for the first: at least that of statsmodels less 1e-3.
Seconds are CPU seconds of the fit.
"""

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression
from statsmodels.tsa.regime_switching.tests import test_markov_regression as examples

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.experts import LinearExpert
from skmoe.gates import ConstantGate
from skmoe.sequence import MarkovMixtureOfExpertsRegressor

SLACK = 1e-3
RUNS = 5


def cases():
    """List (name, y, inputs or None, regimes, whether each has its variance)."""
    names = ("fedfunds", "ogap", "inf", "areturns")
    rate, gap, inflation, returns = (
        np.asarray(getattr(examples, name), dtype=float) for name in names
    )
    three = np.column_stack([rate[3:-1], gap[4:], inflation[4:]])
    return [
        ("rate, constant", rate, None, 2, False),
        ("rate, its lag", rate[1:], rate[:-1, None], 2, False),
        ("rate, lag, gap, inflation", rate[4:], three, 2, False),
        ("the same, three regimes", rate[4:], three, 3, False),
        ("returns, lag, variances", returns[1:], returns[:-1, None], 2, True),
    ]


def theirs(y, inputs, n_regimes, variances, starts, seed):
    """Fit statsmodels' model; return its log-likelihood."""
    model = MarkovRegression(y, n_regimes, exog=inputs, switching_variance=variances)
    np.random.seed(seed)  # noqa: NPY002 - its search draws from the global generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(search_reps=starts, disp=False).llf


def ours(y, inputs, n_regimes, variances, starts):
    """Fit ours; return its log-likelihood as fitted, and from the steady law."""
    X = np.zeros((len(y), 1)) if inputs is None else inputs
    model = MarkovMixtureOfExpertsRegressor(
        LinearExpert(alpha=0, variance_prior=None),
        n_experts=n_regimes,
        gate=ConstantGate(),
        initial_gate=ConstantGate(),
        expert_features=[] if inputs is None else None,
        shared_dispersion=not variances,
        n_init=starts,
        random_state=0,
    ).fit(X, y)
    step = model.transition_proba(X)[0]
    values, vectors = np.linalg.eig(step.T)
    steady = np.real(vectors[:, np.argmax(values.real)])
    steady = np.abs(steady) / np.abs(steady).sum()
    from_steady = model.log_prob(X, y, previous=steady[None]).sum()
    return model.log_likelihood(X, y), from_steady


def cpu(function, *arguments):
    """Return the CPU seconds of a call, and its result."""
    begin = time.process_time()
    result = function(*arguments)
    return time.process_time() - begin, result


def run(name, y, inputs, n_regimes, variances, starts):
    """Fit both to one case; return a row of the table."""
    progress(name)
    case = (y, inputs, n_regimes, variances, starts)
    their_runs = [cpu(theirs, *case, seed) for seed in range(RUNS)]
    their_log_lik = max(log_lik for _, log_lik in their_runs)
    our_seconds, (log_lik, from_steady) = cpu(ours, *case)
    return {
        "case": name,
        "rows": len(y),
        "regimes": n_regimes,
        "theirs": their_log_lik,
        "ours": log_lik,
        "from_steady": from_steady,
        "gain": log_lik - their_log_lik,
        "their_seconds": float(np.median([seconds for seconds, _ in their_runs])),
        "our_seconds": our_seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    rows = [run(*case, options.starts) for case in cases()]
    columns = [
        "case",
        ("rows", "rows", "d"),
        ("regimes", "regimes", "d"),
        ("theirs", "statsmodels", ".4f"),
        ("ours", "ours", ".4f"),
        ("from_steady", "ours, steady start", ".4f"),
        ("their_seconds", "statsmodels s", ".2f"),
        ("our_seconds", "ours s", ".2f"),
    ]
    print_table(rows, columns, "Log-likelihood of switching regressions (nats)")
    targets = Targets()
    for row in rows:
        gain = row["gain"]
        targets.check(row["case"], gain, gain >= -SLACK, ">= statsmodels - 1e-3")
    write_json(options.json, {"starts": options.starts, "rows": rows})
    targets.exit()


if __name__ == "__main__":
    main()
