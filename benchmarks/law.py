"""The predictive law: speed of quantiles, exactness of regions, CRPS and calibration.

    python benchmarks/law.py [--n 100000] [--k 8] [--json PATH]

For mixtures of several families with random means and gates: CPU seconds of all
quantiles of a grid of 9 levels (n rows, k experts; the least of three runs) and the
largest error of their cdf; then, on 5,000 of the rows, CPU seconds of highest-density
regions of level 0.9, of density levels and of CRPS, with the error of the coverage of
continuous laws and the share of responses drawn from the law that lie inside. CRPS of
normal mixtures is compared with quadrature. Stated: 9 quantiles in under 2 s for
100,000 rows and 8 experts, of all laws but Poisson's; coverage within 1e-6; 5,000
density levels in under 5 s.
"""

# Threads are pinned before NumPy starts them.
from em_speed import cpu  # isort: skip

import argparse
from pathlib import Path

import numpy as np
from _report import Targets, print_table, progress, write_json
from scipy.special import logsumexp

from skmoe.distribution import MixtureDistribution
from skmoe.law._crps import _integral
from skmoe.law._quantiles import Parts
from skmoe.likelihoods import (
    Gamma,
    Gaussian,
    Laplace,
    PointMass,
    Poisson,
    StudentT,
    Uniform,
)

LEVELS = np.linspace(0.1, 0.9, 9)
N_RUNS = 3
# The cdf of a count is another one for each row, and no table serves them all.
NOT_STATED = "Poisson"
SOME_ROWS = 5000
LEVEL = 0.9
MOST_SECONDS, MOST_ERROR, MOST_LEVEL_SECONDS = 2.0, 1e-6, 5.0


def place(rng, n):
    return 2.0 * rng.standard_normal(n)


def positive(rng, n):
    return np.exp(rng.standard_normal(n))


CASES = {
    "normal": lambda r, n, k: [
        (place(r, n), r.gamma(1.0), Gaussian()) for _ in range(k)
    ],
    "normal, variances 1e-4 to 10": lambda r, n, k: [
        (place(r, n), v, Gaussian()) for v in np.logspace(-4, 1, k)
    ],
    "Laplace": lambda r, n, k: [
        (place(r, n), r.gamma(1.0), Laplace()) for _ in range(k)
    ],
    "Student t, df 5": lambda r, n, k: [
        (place(r, n), np.array([r.gamma(1.0), 5.0]), StudentT()) for _ in range(k)
    ],
    "Gamma": lambda r, n, k: [
        (positive(r, n), r.gamma(1.0), Gamma()) for _ in range(k)
    ],
    "Poisson": lambda r, n, k: [
        (3 * positive(r, n), None, Poisson()) for _ in range(k)
    ],
    "normal and noise": lambda r, n, k: [
        (np.tile([-8.0, 8.0], (n, 1)), None, Uniform()),
        *((place(r, n), r.gamma(1.0), Gaussian()) for _ in range(k - 1)),
    ],
    "zero and Gamma": lambda r, n, k: [
        (np.zeros(n), None, PointMass()),
        *((positive(r, n), r.gamma(1.0), Gamma()) for _ in range(k - 1)),
    ],
}


def make_law(case, n, k):
    """Return the law of n rows and k experts, with random gates."""
    rng = np.random.default_rng(0)
    logit = 2.0 * rng.standard_normal((n, k))
    log_gate = logit - logsumexp(logit, axis=1, keepdims=True)
    return MixtureDistribution(log_gate, *map(list, zip(*case(rng, n, k), strict=True)))


def first_rows(law, n):
    """Return the law of the first rows."""
    params = [p[:n] for p in law.params]
    return MixtureDistribution(
        law.log_gate[:n], params, law.dispersions, law.likelihoods
    )


def measure(name, n, k):
    """Return one row of the table."""
    progress(name)
    law = make_law(CASES[name], n, k)
    row = {"law": name}
    runs = [cpu(lambda: law.quantile(LEVELS)) for _ in range(N_RUNS)]
    row["quantile_s"], table = min(seconds for seconds, _ in runs), runs[0][1]
    some = first_rows(law, SOME_ROWS)
    smooth = not any(family.discrete for family in law.likelihoods)
    if smooth:
        error = [
            some.cdf(y) - q for q, y in zip(LEVELS, table[:SOME_ROWS].T, strict=True)
        ]
        row["cdf_error"] = np.abs(error).max()
    row["region_s"], region = cpu(
        lambda: some.interval(LEVEL, method="highest-density")
    )
    if smooth:
        row["coverage_error"] = np.abs(coverage(some, region) - LEVEL).max()
    draws = some.sample(20, random_state=1)
    row["inside"] = np.mean([region.contains(y) for y in draws])
    central = some.interval(LEVEL)
    row["length"] = region.length().mean() / np.ptp(central, axis=1).mean()
    row["pieces"] = region.n_pieces.mean()
    row["level_s"], _ = cpu(lambda: some.density_level(draws[0]))
    row["crps_s"], _ = cpu(lambda: some.crps(draws[0]))
    return row


def coverage(law, region):
    """Return the probability of each row's region, of a continuous law."""
    total = np.zeros(len(law))
    for lower, upper in zip(region.lower.T, region.upper.T, strict=True):
        ends = [np.where(np.isnan(end), law.mean, end) for end in (lower, upper)]
        total += law.cdf(ends[1]) - law.cdf(ends[0])
    return total


def crps_difference(n, k):
    """Return the largest relative difference of the closed form and quadrature."""
    law = make_law(CASES["normal"], n, k)
    y = law.sample(1, random_state=0)[0]
    part = Parts(law.gate, list(law._parts()))
    return np.abs(_integral(part, y) / law.crps(y) - 1.0).max()


def main():
    """Measure all laws; print the table and the stated figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(name, options.n, options.k) for name in CASES]
    targets = Targets()
    seconds = max(row["quantile_s"] for row in rows if row["law"] != NOT_STATED)
    wanted = f"< 2 s, all laws but {NOT_STATED}"
    targets.check("9 quantiles, s", seconds, seconds < MOST_SECONDS, wanted)
    errors = [row["coverage_error"] for row in rows if "coverage_error" in row]
    targets.check("coverage", max(errors), max(errors) < MOST_ERROR, "< 1e-6")
    seconds = max(row["level_s"] for row in rows)
    title = "density levels, s"
    targets.check(title, seconds, seconds < MOST_LEVEL_SECONDS, "< 5 s, all laws")
    difference = crps_difference(500, options.k)
    targets.check("CRPS, two ways", difference, difference < MOST_ERROR, "< 1e-6")
    columns = [
        "law",
        ("quantile_s", "9 quantiles s", ".2f"),
        ("cdf_error", "cdf error", ".0e"),
        ("region_s", "regions s", ".2f"),
        ("coverage_error", "coverage error", ".0e"),
        ("inside", "inside", ".3f"),
        ("pieces", "pieces", ".2f"),
        ("length", "length / central", ".2f"),
        ("level_s", "levels s", ".2f"),
        ("crps_s", "CRPS s", ".2f"),
    ]
    title = (
        f"quantiles of {options.n} rows, {options.k} experts; else {SOME_ROWS} rows, "
        f"level {LEVEL}; CPU seconds, one thread"
    )
    print_table(rows, columns, title)
    write_json(options.json, {"rows": rows, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
