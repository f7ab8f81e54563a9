"""Mixtures of counts and of successes beside a plain NumPy EM, one pinned thread.

    python benchmarks/glm_speed.py --plain PATH [--simulate PATH] [--n 10000] [--d 10]
        [--k 4] [--repeats 5] [--json PATH]

PATH is ``plain_em.py``: a NumPy EM with one warm Newton step of the experts and two of
the gate in each pass. ``simulate.py`` (by default the file beside it) makes the data.
Both start from the same responsibilities. Reported for Poisson and for binomial experts
with one trial: CPU time of a plain pass (no acceleration), and of a whole fit to a
log-likelihood within 1e-6 relative of plain_em's end; medians of runs in turn, and of
their ratios.
"""

import argparse
from pathlib import Path

# Imported first: it pins the threads before NumPy starts them.
from em_speed import RELATIVE, TOLERANCE, cpu, load, mixture, quiet_fit  # isort: skip

import numpy as np
from _report import Targets, print_table, progress, write_json

from skmoe.experts import BinomialExpert, PoissonExpert

EXPERTS = {
    "poisson": PoissonExpert(alpha=0),
    "binomial": BinomialExpert(alpha=0),
}
TIMES_LESS = 3.0
PASSES = 20


def pass_seconds(X, y, resp, expert):
    """Return the CPU seconds of one plain pass: two fits that differ by some."""
    one, _ = cpu(lambda: quiet_fit(mixture(resp, experts=expert, max_iter=1), X, y))
    longer = {"max_iter": 1 + PASSES, "acceleration": None, "tol": 0}
    many, model = cpu(lambda: quiet_fit(mixture(resp, experts=expert, **longer), X, y))
    assert model.n_iter_ >= PASSES, "EM stopped before the passes to be timed"
    return (many - one) / (model.n_iter_ - 1)


def passes_to(level, X, y, resp, expert):
    """Return how many passes our fit takes to a level, or None if it ends below."""
    trace = mixture(resp, experts=expert).fit(X, y).objective_trace_
    return int(np.argmax(trace >= level)) + 1 if trace[-1] >= level else None


def beside_plain(kind, plain, simulate, options):
    """Time passes and whole fits in turn; return one row."""
    X, y, _, resp = simulate.simulate(kind, options.n, options.d, options.k)
    expert = EXPERTS[kind]
    runs = {"plain": [], "plain_pass": [], "ours": [], "ours_pass": []}
    for repeat in range(options.repeats):
        progress(f"{kind}: run {repeat + 1} of {options.repeats}")
        seconds, (target, passes, trace) = cpu(
            lambda: plain.em(X, y, resp.copy(), kind, TOLERANCE)
        )
        runs["plain"].append(seconds)
        runs["plain_pass"].append(seconds / passes)
        level = max(trace) - RELATIVE * abs(max(trace))
        if repeat == 0:
            needed = passes_to(level, X, y, resp, expert)
        runs["ours_pass"].append(pass_seconds(X, y, resp, expert))
        if needed is not None:
            few = mixture(resp, experts=expert, max_iter=needed)
            seconds, model = cpu(lambda few=few: quiet_fit(few, X, y))
            runs["ours"].append(seconds)
    row = {"kind": kind, "n": options.n, "d": options.d, "k": options.k}
    row |= {name: float(np.median(found)) for name, found in runs.items() if found}
    ratio = np.divide(runs["plain_pass"], runs["ours_pass"])
    row["pass_ratio"] = float(np.median(ratio))
    if needed is not None:
        row["fit_ratio"] = float(np.median(np.divide(runs["plain"], runs["ours"])))
        row["reached"] = float(model.objective_trace_[-1])
    row |= {"plain_passes": passes, "our_passes": needed, "log_likelihood": target}
    return row | {"runs": runs}


def main():
    """Run both families; print the table and the stated figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plain", type=Path, required=True)
    parser.add_argument("--simulate", type=Path)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=10)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plain = load(options.plain)
    simulate = load(options.simulate or options.plain.with_name("simulate.py"))
    targets = Targets()
    rows = [beside_plain(kind, plain, simulate, options) for kind in EXPERTS]
    for row in rows:
        ratio, wanted = row["pass_ratio"], f">= {TIMES_LESS:g} times"
        targets.check(f"{row['kind']}: a pass", ratio, ratio >= TIMES_LESS, wanted)
        reached = row["our_passes"] is not None
        title = f"{row['kind']}: plain_em's log-likelihood, within 1e-6"
        targets.check(title, row.get("reached"), reached, "reached")
    columns = [
        "kind",
        ("n", "n", "d"),
        ("plain_pass", "plain s/pass", ".4f"),
        ("ours_pass", "ours s/pass", ".4f"),
        ("pass_ratio", "times faster", ".2f"),
        ("plain", "plain fit s", ".3f"),
        ("plain_passes", "passes", "d"),
        ("ours", "our fit s", ".3f"),
        ("our_passes", "passes", "d"),
        ("fit_ratio", "times faster", ".2f"),
        ("log_likelihood", "plain's log-lik.", ".2f"),
        ("reached", "ours", ".2f"),
    ]
    print_table(rows, columns, "CPU time beside plain_em.py, one thread (medians)")
    write_json(options.json, {"rows": rows, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
