"""EM passes and whole fits beside a plain NumPy EM, one pinned thread.

    python benchmarks/em_speed.py --plain PATH [--n 100000] [--d 10] [--k 4]
        [--repeats 5] [--growth] [--memory] [--json PATH]

PATH is ``plain_em.py``: a plain NumPy EM with a warm-started Newton gate. Its
``simulate.py`` lies beside it and makes the data. Both start from the same
responsibilities and stop by themselves. Reported: CPU time of a pass and of a
whole fit to a log-likelihood within 1e-6 relative of plain_em's end, as medians
of runs in turn, and their ratios; a default fit with all its starts at n = 1,000;
with --growth the time of a pass from 1e3 to 2e6 rows; with --memory the peak at
2,000,000 rows beside three times X plus four arrays of n * K floats.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from _report import Targets, print_table, progress, write_json

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate

RELATIVE = 1e-6
TOLERANCE = 1e-8


def load(path):
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mixture(resp, **changes):
    """Return plain maximum likelihood from given responsibilities."""
    settings = {
        "experts": LinearExpert(alpha=0, variance_prior=None),
        "n_experts": resp.shape[1],
        "gate": SoftmaxGate(alpha=0),
        "init": resp,
        "tol": TOLERANCE,
    }
    return MixtureOfExpertsRegressor(**{**settings, **changes})


def cpu(function):
    """Return the CPU seconds of a call, and its result."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def beside_plain(plain, simulate, options):
    """Time passes and whole fits in turn; return one row."""
    X, y, _, resp = simulate.simulate("gaussian", options.n, options.d, options.k)
    rows = {"plain": [], "plain_pass": [], "ours": [], "ours_pass": []}
    for repeat in range(options.repeats):
        progress(f"n = {options.n}: run {repeat + 1} of {options.repeats}")
        seconds, (target, passes, _) = cpu(
            lambda: plain.em(X, y, resp.copy(), "gaussian", TOLERANCE)
        )
        rows["plain"].append(seconds)
        rows["plain_pass"].append(seconds / passes)
        level = target - RELATIVE * abs(target)
        # The fit itself does not know the level; how many passes it needs is
        # read off its trace, and a fit of that length is timed.
        if repeat == 0:
            trace = mixture(resp).fit(X, y).objective_trace_
            needed = int(np.argmax(trace >= level)) + 1
        few = mixture(resp, max_iter=needed)
        seconds, model = cpu(lambda few=few: quiet_fit(few, X, y))
        assert model.objective_trace_[-1] >= level
        rows["ours"].append(seconds)
        rows["ours_pass"].append(pass_seconds(X, y, resp, 10))
    median = {name: float(np.median(values)) for name, values in rows.items()}
    ratios = {
        "fit_ratio": float(np.median(np.divide(rows["plain"], rows["ours"]))),
        "pass_ratio": float(
            np.median(np.divide(rows["plain_pass"], rows["ours_pass"]))
        ),
    }
    return {
        "n": options.n,
        "d": options.d,
        "k": options.k,
        **median,
        **ratios,
        "plain_passes": passes,
        "our_passes": needed,
        "log_likelihood": target,
        "runs": rows,
    }


def quiet_fit(model, X, y):
    """Fit without the warning that max_iter was reached on purpose."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def pass_seconds(X, y, resp, passes):
    """Return the CPU seconds of one plain pass: two fits that differ by some."""
    one, _ = cpu(lambda: quiet_fit(mixture(resp, max_iter=1), X, y))
    longer = {"max_iter": 1 + passes, "acceleration": None, "tol": 0}
    many, _ = cpu(lambda: quiet_fit(mixture(resp, **longer), X, y))
    return (many - one) / passes


def default_fit(plain, simulate, repeats):
    """Time a default fit with all its starts beside one plain_em run."""
    X, y, _, resp = simulate.simulate("gaussian", 1000, 10, 4)
    ratios, ours = [], []
    for seed in range(repeats):
        one, _ = cpu(lambda: plain.em(X, y, resp.copy(), "gaussian", TOLERANCE))
        mine, model = cpu(
            lambda seed=seed: MixtureOfExpertsRegressor(random_state=seed).fit(X, y)
        )
        ratios.append(mine / one)
        ours.append(mine)
    return {
        "n": 1000,
        "starts": len(model.search_.names),
        "seconds": float(np.median(ours)),
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
    }


def growth(simulate, d, k, sizes=(1_000, 10_000, 100_000, 1_000_000, 2_000_000)):
    """Time a pass over ever more rows."""
    rows = []
    for n in sizes:
        progress(f"growth: n = {n}")
        X, y, _, resp = simulate.simulate("gaussian", n, d, k)
        passes = 40 if n < 50_000 else 6
        seconds = [pass_seconds(X, y, resp, passes) for _ in range(3)]
        pass_time = float(np.median(seconds))
        rows.append({"n": n, "pass": pass_time, "per_row": pass_time / n * 1e9})
    return rows


MEMORY_SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
import numpy as np
from skmoe import MixtureOfExpertsRegressor
n, d, k = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.standard_normal((n, d))
y = X[:, 0] * np.sign(X[:, 1]) + 0.3 * rng.standard_normal(n)
# Not getrusage: a child inherits the peak of the process that started it.
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) * 1024
before = peak()
MixtureOfExpertsRegressor(n_experts=k, random_state=0).fit(X, y)
after = peak()
print(json.dumps([before, after, X.nbytes]))
"""


def memory(n, d, k):
    """Measure the peak of a default fit, in a process of its own."""
    progress(f"memory: n = {n}")
    arguments = [json.dumps([n, d, k]), json.dumps(sys.path)]
    output = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, after, size = json.loads(output)
    return {
        "n": n,
        "peak_mb": after / 1e6,
        "grown_mb": (after - before) / 1e6,
        "allowed_mb": (3 * size + 4 * n * k * 8) / 1e6,
    }


def main():
    """Run what is asked for; print tables and stated figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plain", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=10)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plain = load(options.plain)
    simulate = load(options.plain.with_name("simulate.py"))
    targets, payload = Targets(), {}
    row = beside_plain(plain, simulate, options)
    payload["beside_plain"] = row
    columns = [
        ("n", "n", "d"),
        ("plain_pass", "plain s/pass", ".4f"),
        ("ours_pass", "ours s/pass", ".4f"),
        ("pass_ratio", "times faster", ".2f"),
        ("plain", "plain fit s", ".3f"),
        ("plain_passes", "passes", "d"),
        ("ours", "our fit s", ".3f"),
        ("our_passes", "passes", "d"),
        ("fit_ratio", "times faster", ".2f"),
    ]
    print_table([row], columns, "CPU time beside plain_em.py, one thread (medians)")
    targets.check("pass", row["pass_ratio"], row["pass_ratio"] >= 3.5, ">= 3.5 times")
    targets.check("fit", row["fit_ratio"], row["fit_ratio"] >= 6.0, ">= 6 times")
    small = default_fit(plain, simulate, options.repeats)
    payload["default_fit"] = small
    title = "Default fit with all its starts, in plain_em.py runs"
    columns = [
        ("n", "n", "d"),
        "starts",
        ("seconds", "CPU s", ".3f"),
        ("ratio", "runs", ".1f"),
    ]
    print_table([small], columns, title)
    targets.check("default fit", small["ratio"], small["ratio"] <= 10, "<= 10 runs")
    if options.growth:
        rows = growth(simulate, options.d, options.k)
        payload["growth"] = rows
        columns = [
            ("n", "n", "d"),
            ("pass", "s/pass", ".5f"),
            ("per_row", "ns/row", ".0f"),
        ]
        print_table(rows, columns, "Growth with n")
        large = [r["per_row"] for r in rows if r["n"] >= 10_000]
        spread = max(large) / min(large)
        targets.check("growth", spread, spread <= 1.5, "ns/row within 1.5 from 1e4 on")
    if options.memory:
        row = memory(2_000_000, options.d, options.k)
        payload["memory"] = row
        columns = [(key, key, ".0f") for key in row]
        print_table([row], columns, "Peak memory of a default fit (whole process)")
        ok = row["peak_mb"] <= row["allowed_mb"]
        targets.check("memory", row["peak_mb"], ok, "<= 3 X + 4 n K floats, in MB")
    write_json(options.json, payload)
    targets.exit()


if __name__ == "__main__":
    main()
