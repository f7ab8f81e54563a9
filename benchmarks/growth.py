"""Grown trees beside fixed trees of the same size: held-out log score on tables.

    python benchmarks/growth.py DIR [--only NAME ...] [--leaves 8] [--folds 5]
                                    [--max-rows 5000] [--json PATH]

DIR holds NAME.npz files and MANIFEST.csv as for accuracy.py. On every fold three
trees of `--leaves` leaves are fitted with the same experts: a complete one, with
its default starts, and one grown by each rule (`grow_until="max_leaves"`); a fourth
is grown until BIC says stop. Classification experts have alpha=1, so that no ridge
is searched. Differences of log score (nats a row, standardised response) are paired
by fold, with their standard errors.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _report import Targets, print_table, progress, write_json
from _scores import mean_and_error
from accuracy import load_table, make_folds, read_tables, standardise
from threadpoolctl import threadpool_limits

GROWN = ("posterior", "fritsch", "bic")


def make_trees(task, leaves, seed):
    """Return the unfitted trees by name."""
    import skmoe
    from skmoe.experts import LinearExpert, LogisticExpert

    kind = "Regressor" if task == "reg" else "Classifier"
    cls = getattr(skmoe, f"HierarchicalMixtureOfExperts{kind}")
    expert = LinearExpert() if task == "reg" else LogisticExpert(alpha=1.0)
    depth = int(np.log2(leaves))
    common = {"random_state": seed, "max_iter": 200}
    grow = {"grow_until": "max_leaves", "max_leaves": leaves, **common}
    return {
        "fixed": cls(expert, depth=depth, **common),
        "posterior": cls(expert, grow="posterior", **grow),
        "fritsch": cls(expert, grow="fritsch", **grow),
        "bic": cls(expert, grow="posterior", **(grow | {"grow_until": "bic"})),
    }


def run_fold(path, task, fold, options):
    """Fit all trees on one fold; return {tree: (log score, leaves, seconds)}."""
    X, y = load_table(path, options.max_rows, options.seed)
    train, test = make_folds(X, y, task, options.folds, options.seed)[fold]
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = y[train], y[test]
    if task == "reg":
        y_train, y_test = standardise(y_train, y_test)
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, tree in make_trees(task, options.leaves, options.seed).items():
            start = time.process_time()
            tree.fit(X_train, y_train)
            seconds = time.process_time() - start
            score = float(np.mean(tree.log_prob(X_test, y_test)))
            results[name] = (score, tree.tree_.n_leaves, seconds)
    return results


def summarise(name, task, folds):
    """Return one table row: scores, and differences from the fixed tree."""
    row = {"table": name, "task": task}
    fixed = [fold["fixed"][0] for fold in folds]
    row["fixed"] = float(np.mean(fixed))
    row["fixed_seconds"] = float(np.mean([fold["fixed"][2] for fold in folds]))
    for tree in GROWN:
        gain = [fold[tree][0] - base for fold, base in zip(folds, fixed, strict=True)]
        row[tree], row[f"{tree}_error"] = mean_and_error(gain)
        row[f"{tree}_leaves"] = float(np.mean([fold[tree][1] for fold in folds]))
        row[f"{tree}_seconds"] = float(np.mean([fold[tree][2] for fold in folds]))
    return row


def shown(row):
    """Return a copy for printing: differences with their errors."""
    out = dict(row)
    for tree in GROWN:
        out[tree] = f"{row[tree]:+.3f} ({row[f'{tree}_error']:.3f})"
    return out


COLUMNS = [
    "table",
    ("fixed", "fixed: log score", ".3f"),
    ("posterior", "posterior - fixed", ""),
    ("fritsch", "fritsch - fixed", ""),
    ("bic", "bic - fixed", ""),
    ("bic_leaves", "bic: leaves", ".1f"),
    ("fixed_seconds", "s: fixed", ".2f"),
    ("posterior_seconds", "posterior", ".2f"),
    ("fritsch_seconds", "fritsch", ".2f"),
]


def check_targets(rows):
    """Return the stated figures: no grown tree worse than the fixed one."""
    targets = Targets()
    for row in rows:
        for tree in ("posterior", "fritsch"):
            ok = row[tree] >= -2.0 * row[f"{tree}_error"]
            wanted = f">= -2 standard errors = {-2.0 * row[f'{tree}_error']:.3f}"
            targets.check(f"{row['table']}: {tree} - fixed", row[tree], ok, wanted)
    return targets


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--leaves", type=int, default=8, help="a power of two")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-rows", type=int, default=5000)
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run the tables, print them, write JSON, and say which figures are missed."""
    options = parse_options()
    rows = []
    for name, task in read_tables(options.dir, options.only).items():
        path = options.dir / f"{name}.npz"
        folds = [run_fold(path, task, k, options) for k in range(options.folds)]
        rows.append(summarise(name, task, folds))
        progress(f"{name}: " + ", ".join(f"{t} {rows[-1][t]:+.3f}" for t in GROWN))
    title = f"{options.leaves} leaves; log score in nats a row (standard error)"
    print_table([shown(row) for row in rows], COLUMNS, title)
    targets = check_targets(rows)
    settings = {k: v for k, v in vars(options).items() if k not in ("dir", "json")}
    write_json(
        options.json, {"settings": settings, "rows": rows, "targets": targets.rows}
    )
    targets.exit()


if __name__ == "__main__":
    main()
