"""Coverage, gaps between groups, and lengths of conformal sets, over 200 splits.

    python benchmarks/conformal.py [DIR] [--only regimes concrete] [--fits 10]
        [--draws 20] [--cross 200] [--cross-rows 1199] [--rows 1000] [--jobs 1]
        [--json PATH]

A mixture of four linear experts (one start, k-means) is fitted ``fits`` times to other
rows, and each time calibration and test rows are drawn ``draws`` times: 200 splits.
Simulated rows are new in each split. Of a real table one half is fitted to, and the
other half is dealt out anew to calibration and test: mcycle and concrete, and with
DIR, which holds NAME.npz files with arrays X and y, abalone, boston and power, of which
``rows`` at random are used. The level is 0.9, and the number n of calibration rows such
that 0.9 (n + 1) is an integer: coverage is that share of n + 1 where no scores tie.

Split methods: "residual" is MAPIE's SplitConformalRegressor around the mean of the
mixture, the plain interval with one width; the others are skmoe.conformal's methods,
with weights "uniform" and "gate". The cross-conformal ones fit five mixtures to at most
``cross_rows`` rows in each of ``cross`` splits. They are valid at 0.8, near 0.9 where
the fits of the folds agree, and cover more where they do not: with 199 rows of
"regimes" 0.92 to 0.93, with 599 rows 0.91.

Gap: the largest distance of a group's coverage from 0.9. Groups are the most probable
experts ("experts"; those with a tenth of the rows), and in simulation the regimes that
rows were drawn from ("regimes"), which x does not determine. Coverage of a group is the
mean over all draws of a fit; gaps are means over fits. The half of a real table that is
dealt out is the same in all draws of a fit, so its gaps hold some chance. In
"two-valued" both answers hold at every x, and there is no gap to close.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed
from mapie.regression import SplitConformalRegressor
from sklearn.frozen import FrozenEstimator
from threadpoolctl import threadpool_limits

from skmoe import MixtureOfExpertsRegressor
from skmoe.conformal import CrossConformalMixture, SplitConformalMixture
from skmoe.datasets import load_concrete, load_mcycle, make_regimes, make_two_valued

LEVEL = 0.9
METHODS = ("quantile", "cdf", "highest-density")
WEIGHTS = ("uniform", "gate")
LEAST_SHARE = 0.1  # of a group of experts
SETTINGS = ("fits", "draws", "cross", "cross_rows", "rows")
MEASURED = 20  # rows whose cross-conformal density sets are measured, in four splits
CHUNKS = 16  # of cross-conformal splits, to be run side by side


def mixture():
    """Return the mixture that all methods calibrate."""
    return MixtureOfExpertsRegressor(init="kmeans", random_state=0)


def regimes(n_rows, seed):
    """Draw rows of the office district, with the regime of each."""
    table = make_regimes(n_rows, random_state=seed)
    return table.data, table.target, np.unique(table.regime, return_inverse=True)[1]


def two_valued(n_rows, seed):
    """Draw rows of the elbow, with the branch of each."""
    X, y, truth = make_two_valued(n_rows, random_state=seed, return_truth=True)
    return X, y, truth.expert


SIMULATED = {"regimes": regimes, "two-valued": two_valued}
SHIPPED = {"mcycle": load_mcycle, "concrete": load_concrete}
IN_DIR = ("abalone", "boston", "power")
CROSSED = ("regimes", "mcycle")


def load(name, options):
    """Return X and y of a real table, at most so many rows in random order."""
    if name in SHIPPED:
        X, y = SHIPPED[name](return_X_y=True)
    else:
        with np.load(options.dir / f"{name}.npz", allow_pickle=True) as table:
            X, y = table["X"].astype(float), table["y"].astype(float)
    order = np.random.default_rng(0).permutation(len(y))[: options.rows]
    return X[order], y[order]


def calibration_size(n_rows):
    """Return the largest n of at most so many rows with 0.9 (n + 1) an integer."""
    return (n_rows + 1) // 10 * 10 - 1


def split_draws(name, fit, options):
    """Return training rows, and calibration and test rows of each draw of a fit."""
    draws = []
    if name in SIMULATED:
        draw = SIMULATED[name]
        for i in range(options.draws):
            seed = 1_000 + fit * options.draws + i
            X, y, group = draw(399, seed)
            draws.append(((X[:299], y[:299]), (X[299:], y[299:], group[299:])))
        return draw(500, fit)[:2], draws
    X, y = load(name, options)
    rng = np.random.default_rng(fit)
    order = rng.permutation(len(y))
    train, rest = np.split(order, [len(y) // 2])
    size = calibration_size(6 * rest.size // 10)
    for _ in range(options.draws):
        held, test = np.split(rng.permutation(rest), [size])
        test = test[:100]
        draws.append(((X[held], y[held]), (X[test], y[test], None)))
    return (X[train], y[train]), draws


def sets_of(model, X):
    """Return lengths, and a function that says what is inside."""
    sets = model.predict_interval(X)
    if isinstance(sets, np.ndarray):
        return np.diff(sets)[:, 0], lambda y: (sets[:, 0] <= y) & (y <= sets[:, 1])
    return sets.length(), sets.contains


def residual(fitted, held, X, y):
    """Return hits and lengths of MAPIE's split conformal intervals."""
    plain = SplitConformalRegressor(fitted, confidence_level=LEVEL, prefit=True)
    low, high = plain.conformalize(*held).predict_interval(X)[1][:, :, 0].T
    return (low <= y) & (y <= high), high - low


def run_split(name, options):
    """Return {method: {measure: list over fits}} of the split methods."""
    found = {}
    for fit in range(options.fits):
        train, draws = split_draws(name, fit, options)
        frozen = FrozenEstimator(mixture().fit(*train))
        model = SplitConformalMixture(frozen, level=LEVEL)
        hits, lengths, experts, truth = {}, {}, [], []
        for held, (X, y, group) in draws:
            experts.append(frozen.apply(X))
            truth.append(group)
            outcome = {"residual": residual(frozen.estimator, held, X, y)}
            model.fit(*held)
            for method in METHODS:
                for weights in WEIGHTS:
                    model.set_params(method=method, weights=weights)
                    length, inside = sets_of(model, X)
                    outcome[label(method, weights)] = inside(y), length
            for key, (hit, length) in outcome.items():
                hits.setdefault(key, []).append(hit)
                lengths.setdefault(key, []).append(length)
        for key in hits:
            hit, length = np.concatenate(hits[key]), np.concatenate(lengths[key])
            measures = found.setdefault(key, {})
            bounded = np.isfinite(length)
            for measure, value in {
                "coverage": [one.mean() for one in hits[key]],
                "experts": [gap(hit, np.concatenate(experts))],
                "regimes": [gap(hit, np.concatenate(truth))]
                if name in SIMULATED
                else [],
                "length": [length[bounded].mean()],
                "unbounded": [1.0 - bounded.mean()],
            }.items():
                measures.setdefault(measure, []).extend(value)
    return found


def label(method, weights):
    """Return the name of a method in the tables."""
    return method if weights == "uniform" else f"{method}, gate"


def gap(hit, group):
    """Return the largest distance of a group's coverage from the level."""
    sizes = np.bincount(group)
    large = np.flatnonzero(sizes >= LEAST_SHARE * group.size)
    return float(max(abs(hit[group == k].mean() - LEVEL) for k in large))


def cross_rows(name, split, options):
    """Return rows to fit to and rows to test on, of a small table."""
    if name in SIMULATED:
        n_rows = options.cross_rows
        X, y, _ = SIMULATED[name](n_rows + 50, 100_000 + split)
        return (X[:n_rows], y[:n_rows]), (X[n_rows:], y[n_rows:])
    X, y = load(name, options)
    order = np.random.default_rng([1, split]).permutation(len(y))
    n_rows = min(calibration_size(8 * len(y) // 10), options.cross_rows)
    train, test = np.split(order, [n_rows])
    test = test[:50]
    return (X[train], y[train]), (X[test], y[test])


def run_cross(name, options, chunk):
    """Return {method: {measure: list over splits}} of the cross-conformal methods."""
    found = {}
    for split in range(chunk, options.cross, CHUNKS):
        train, (X, y) = cross_rows(name, split, options)
        model = CrossConformalMixture(mixture(), level=LEVEL, random_state=split)
        model.fit(*train)
        for method in METHODS:
            for weights in WEIGHTS:
                model.set_params(method=method, weights=weights)
                measures = found.setdefault(f"cross {label(method, weights)}", {})
                if method != "highest-density":
                    length, inside = sets_of(model, X)
                    hit = inside(y)
                else:
                    # What a set holds its p-values say, without the set.
                    hit = model.p_value(X, y) > 1.0 - LEVEL + 1e-9
                    some = X[: MEASURED if split < 4 else 0]
                    length = sets_of(model, some)[0] if len(some) else np.empty(0)
                bounded = np.isfinite(length)
                measures.setdefault("coverage", []).append(hit.mean())
                measures.setdefault("length", []).extend(length[bounded])
                measures.setdefault("unbounded", []).extend(~bounded)
    return found


def run_part(name, chunk, options):
    """Return what one part of a table gives: a chunk of cross splits, or the rest."""
    begin = time.process_time()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if chunk is None:
            found = run_split(name, options)
        else:
            found = run_cross(name, options, chunk)
    part = "splits" if chunk is None else f"cross {chunk}"
    progress(f"{name}, {part}: {time.process_time() - begin:.0f} s of CPU")
    return name, found


def table_rows(parts):
    """Return a row of means for each table and method."""
    together = {}
    for name, found in parts:
        for method, measures in found.items():
            for measure, values in measures.items():
                kept = together.setdefault((name, method), {})
                kept.setdefault(measure, []).extend(values)
    rows = []
    for (name, method), measures in together.items():
        cover = np.array(measures["coverage"])
        row = {"table": name, "method": method, "splits": cover.size}
        row |= {key: float(np.mean(v)) for key, v in measures.items() if len(v)}
        row["error"] = float(cover.std(ddof=1) / cover.size**0.5)
        rows.append(row)
    return rows


def check(targets, rows):
    """Note the stated figures of one table."""
    by_method = {row["method"]: row for row in rows}
    for method, row in by_method.items():
        title = f"{row['table']}, {method}: coverage"
        value, lowest = row["coverage"], LEVEL - 0.01
        if method.startswith("cross") and row["table"] not in SIMULATED:
            targets.check(title, value, value >= lowest, ">= 0.89")
        else:
            targets.check(title, value, abs(value - LEVEL) <= 0.01, "0.90 +- 0.01")
    gate = by_method["quantile, gate"]
    for kind in () if gate["table"] == "two-valued" else ("experts", "regimes"):
        for other in ("residual", "quantile"):
            if kind in gate:
                title = f"{gate['table']}, gap of {kind}: quantile, gate - {other}"
                less = gate[kind] - by_method[other][kind]
                targets.check(title, less, less < 0.0, "< 0")
    if gate["table"] == "two-valued":
        for weights in WEIGHTS:
            dense, central = (
                label(m, weights) for m in ("highest-density", "quantile")
            )
            ratio = by_method[dense]["length"] / by_method[central]["length"]
            title = f"two-valued, length: {dense} / {central}"
            targets.check(title, ratio, ratio < 0.5, "< 0.5")


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", nargs="?", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--draws", type=int, default=20, help="splits of a fit")
    parser.add_argument("--cross", type=int, default=200, help="cross-conformal splits")
    parser.add_argument("--cross-rows", type=int, default=1199, help="of a split")
    parser.add_argument("--rows", type=int, default=1000, help="of a table, at most")
    parser.add_argument("--jobs", type=int, default=1, help="parts at a time")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the tables; print coverage, gaps, lengths, and the stated figures."""
    options = parse_options()
    names = [*SIMULATED, *SHIPPED, *(IN_DIR if options.dir else ())]
    names = options.only or names
    parts = [(name, None) for name in names]
    if options.cross:
        parts += [(name, i) for name in names if name in CROSSED for i in range(CHUNKS)]
    with Parallel(n_jobs=options.jobs) as parallel:
        found = parallel(delayed(run_part)(*part, options) for part in parts)
    rows, targets = table_rows(found), Targets()
    for name in names:
        check(targets, [row for row in rows if row["table"] == name])
    columns = [
        "table",
        "method",
        "splits",
        ("coverage", "coverage", ".4f"),
        ("error", "s.e.", ".4f"),
        ("experts", "gap, experts", ".3f"),
        ("regimes", "gap, regimes", ".3f"),
        ("length", "length", ".4g"),
        ("unbounded", "unbounded", ".4f"),
    ]
    print_table(rows, columns, "Conformal sets at 0.9: coverage, gaps, mean length")
    settings = {k: getattr(options, k) for k in SETTINGS}
    write_json(
        options.json, {"settings": settings, "rows": rows, "targets": targets.rows}
    )
    targets.exit()


if __name__ == "__main__":
    main()
