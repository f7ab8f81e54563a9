"""How often each way of choosing finds the true number of experts, and its time.

    python benchmarks/selection.py [--seeds 30] [--rows 300 1000] [--largest 6]
                                   [--cv-seeds 10] [--jobs 1] [--json PATH]

Rows are drawn from mixtures of K = 1, ..., 4 experts whose true law is known. Two
columns, standard normal; a softmax of the first one cuts it into K parts of equal
probability; the experts differ in level and in both slopes:

- "well": Gaussian, noise 0.5 (the mean's own spread is 2), sharp borders;
- "moderate": Gaussian, noise 1, borders so soft that neighbours overlap widely;
- "poisson": counts, log rates that differ as much.

Experts are fitted by maximum likelihood (alpha=0; the Gaussian ones keep the default
prior of the variance, without which the likelihood is unbounded), the gate with a
ridge of 0.001, and the numbers 1, ..., `--largest` are open. One sweep serves "bic",
"icl", "aic" and "slope": its CPU seconds are theirs. "cv" is run on the design
"moderate" with the fewest rows only, on `--cv-seeds` seeds: it takes six sweeps.

The dendrogram's settings (starts of its first fit, passes on each level, BIC along the
path as the criterion) were chosen on seeds from 1000 on; those below are from 0 on.
"""

import argparse
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed
from scipy.stats import norm
from threadpoolctl import threadpool_limits

TRUE_SIZES = (1, 2, 3, 4)
SWEPT = ("bic", "icl", "aic", "slope")
SHARPNESS = {"well": 8.0, "moderate": 3.0, "poisson": 6.0}
NOISE = {"well": 0.5, "moderate": 1.0}
SLOPES = np.array([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
LEVELS = np.array([1.0, -1.0, -1.0, 1.0])
LOG_SLOPES = np.array([[0.6, 0.4], [-0.6, 0.4], [0.6, -0.4], [-0.6, -0.4]])
LOG_LEVELS = np.array([1.0, 2.5, 0.5, 2.0])


def draw(design, n_rows, n_experts, seed):
    """Draw rows of a design; return X and y."""
    rng = np.random.default_rng([seed, n_experts])
    X = rng.standard_normal((n_rows, 2))
    slope = SHARPNESS[design] * (np.arange(n_experts) - (n_experts - 1) / 2)
    # Neighbours are equally probable at the quantiles of the column.
    borders = norm.ppf(np.arange(1, n_experts) / n_experts)
    level = -SHARPNESS[design] * np.concatenate([[0.0], np.cumsum(borders)])
    logit = X[:, :1] * slope + level
    k = (logit + rng.gumbel(size=logit.shape)).argmax(axis=1)
    if design == "poisson":
        log_rate = (X * LOG_SLOPES[k]).sum(axis=1) + LOG_LEVELS[k]
        return X, rng.poisson(np.exp(log_rate)).astype(float)
    mean = (X * SLOPES[k]).sum(axis=1) + LEVELS[k]
    return X, mean + NOISE[design] * rng.standard_normal(n_rows)


def choices(design, n_rows, n_experts, seed, largest, cross_validate):
    """Return the number chosen, and the CPU seconds, of each method."""
    from skmoe import MixtureOfExpertsRegressor
    from skmoe.experts import LinearExpert, PoissonExpert
    from skmoe.gates import SoftmaxGate
    from skmoe.model_selection import select_n_experts
    from skmoe.model_selection._criteria import slope_criterion

    X, y = draw(design, n_rows, n_experts, seed)
    expert = PoissonExpert(alpha=0) if design == "poisson" else LinearExpert(alpha=0)
    mixture = MixtureOfExpertsRegressor(
        expert, gate=SoftmaxGate(alpha=1e-3), random_state=seed
    )
    found = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        methods = ["bic", "dendrogram"] + ["cv"] * cross_validate
        for method in methods:
            begin = time.process_time()
            search = select_n_experts(
                mixture, X, y, method=method, n_experts=largest, random_state=seed
            )
            seconds = time.process_time() - begin
            found[method] = (search.best_n_experts_, seconds)
            if method == "bic":
                table = search.cv_results_
                criteria = {name: table[name] for name in ("aic", "icl")}
                criteria["slope"] = slope_criterion(
                    table["log_likelihood"], table["n_parameters"]
                )[0]
                for name, criterion in criteria.items():
                    found[name] = (1 + int(np.argmin(criterion)), seconds)
    return found


def run(options):
    """Return one dictionary for each data set."""
    jobs = [
        (design, n_rows, size, seed)
        for seed in range(options.seeds)
        for n_rows in options.rows
        for design in SHARPNESS
        for size in TRUE_SIZES
    ]

    def one(design, n_rows, size, seed):
        crossed = design == "moderate" and n_rows == min(options.rows)
        crossed = crossed and seed < options.cv_seeds
        found = choices(design, n_rows, size, seed, options.largest, crossed)
        progress(f"seed {seed}, {n_rows} rows, {design}, K = {size}: {found}")
        return {
            "design": design,
            "rows": n_rows,
            "true": size,
            "seed": seed,
            **{method: chosen for method, (chosen, _) in found.items()},
            **{f"{method}_seconds": seconds for method, (_, seconds) in found.items()},
        }

    return Parallel(n_jobs=options.jobs)(delayed(one)(*job) for job in jobs)


def summarise(runs):
    """Return a row for each design, number of rows and true number."""
    rows = []
    for key in dict.fromkeys((r["design"], r["rows"], r["true"]) for r in runs):
        cell = [r for r in runs if (r["design"], r["rows"], r["true"]) == key]
        rows.append(dict(zip(("design", "rows", "true"), key, strict=True)))
        rows[-1]["seeds"] = len(cell)
        for method in (*SWEPT, "cv", "dendrogram"):
            rows[-1] |= hits(cell, method)
    return sorted(rows, key=lambda row: (row["design"], row["rows"], row["true"]))


def hits(runs, method):
    """Return the share of hits of one method, in per cent, and its CPU seconds."""
    some = [r for r in runs if method in r]
    if not some:
        return {}
    return {
        method: 100.0 * float(np.mean([r[method] == r["true"] for r in some])),
        f"{method}_seconds": float(np.mean([r[f"{method}_seconds"] for r in some])),
    }


def check_targets(runs):
    """Return the stated figures of the dendrogram beside the best sweep."""
    overall = {method: hits(runs, method) for method in (*SWEPT, "dendrogram")}
    best = max(SWEPT, key=lambda method: overall[method][method])
    rate, sweep = overall["dendrogram"]["dendrogram"], overall[best][best]
    seconds = overall["dendrogram"]["dendrogram_seconds"]
    ratio = seconds / overall[best][f"{best}_seconds"]
    targets = Targets()
    name = f"hits of the dendrogram, per cent ({best}: {sweep:.1f})"
    targets.check(name, rate, rate >= sweep - 3.0, "within 3 points of the best sweep")
    targets.check("its CPU time, share of a sweep's", ratio, ratio < 0.25, "< 0.25")
    return targets


COLUMNS = [
    "design",
    "rows",
    ("true", "true K", ""),
    "seeds",
    *[(method, method, ".0f") for method in (*SWEPT, "cv", "dendrogram")],
    ("bic_seconds", "s: sweep", ".2f"),
    ("cv_seconds", "cv", ".2f"),
    ("dendrogram_seconds", "dendrogram", ".2f"),
]


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--rows", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--largest", type=int, default=6)
    parser.add_argument("--cv-seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the simulation, print the table, and say which figures are missed."""
    options = parse_options()
    runs = run(options)
    rows = summarise(runs)
    total = {"design": "all", "seeds": len(runs)}
    for method in (*SWEPT, "dendrogram"):
        total |= hits(runs, method)
    title = "How often the true number of experts is found, per cent; CPU seconds"
    print_table([*rows, total], COLUMNS, title)
    targets = check_targets(runs)
    settings = {k: v for k, v in vars(options).items() if k != "json"}
    payload = {"settings": settings, "rows": [*rows, total], "runs": runs}
    write_json(options.json, payload | {"targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
