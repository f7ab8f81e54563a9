"""The library beside Python packages with mixtures of experts, on the same splits.

    python benchmarks/peers.py DIR [--only PEER ...] [--envs FOLDER] [--json PATH]

DIR holds NAME.npz files (arrays X and y) and MANIFEST.csv with the column `task`.
Each peer is installed from the package registry into an environment of its own under
--envs (some pin old versions of NumPy or scikit-learn) and run there by its script in
benchmarks/_peers/, one thread, CPU seconds. All get the same standardised rows and
predict the same held-out ones; a log score is in nats a row of the standardised
response. scikit-learn's estimator checks run in the peer's own environment; a check
that skips itself counts for nobody.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass

import numpy as np
from _report import Targets, print_table, progress, write_json
from accuracy import (
    load_table,
    make_folds,
    mean_and_error,
    read_tables,
    standardise,
)

HERE = pathlib.Path(__file__).resolve().parent
REGRESSION = ("mcycle", "boston", "concrete", "kin8nm", "cpu_small")
CLASSIFICATION = ("vehicle", "vowel", "waveform5000")
# The release whose CPU build is small where the registry offers one.
CONSTRAINTS = "torch==2.13.0\n"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OURS, BASELINE = "skmoe", "linear model"


@dataclass(frozen=True)
class Peer:
    """A package: its runner's name, what to install, and what it fits.

    ``linear_experts`` marks the like of our default, whose accuracy is compared;
    without requirements it runs in this interpreter.
    """

    runner: str
    requirements: tuple = ()
    linear_experts: bool = True


PEERS = {
    OURS: Peer("run_skmoe.py"),
    BASELINE: Peer("run_linear.py"),
    "cgmm": Peer("run_cgmm.py", ("cgmm==0.5.1", "pandas")),
    "smt": Peer("run_smt.py", ("smt==2.15.0",)),
    "gemseo": Peer("run_gemseo.py", ("gemseo==6.3.3", "scikit-learn==1.7.2")),
    "neural-trees": Peer(
        "run_neural_trees.py", ("neural-trees==0.8.0", "pandas"), linear_experts=False
    ),
}


def interpreter(name, folder):
    """Return the Python of a peer's environment, made and filled if need be.

    Raises
    ------
    RuntimeError
        When pip fails, with the end of what it said.
    """
    requirements = PEERS[name].requirements
    if not requirements:
        return pathlib.Path(sys.executable)
    env = folder / name
    binary = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    python, stamp = env / binary, env / "installed.txt"
    wanted = "\n".join([*requirements, CONSTRAINTS])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    progress(f"{name}: installing {' '.join(requirements)} into {env}")
    venv.create(env, clear=True, with_pip=True)
    constraints = env / "constraints.txt"
    constraints.write_text(CONSTRAINTS, encoding="utf-8")
    command = [python, "-m", "pip", "install", "-q", "-c", constraints, *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip install failed: {done.stderr.strip()[-600:]}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def write_splits(options, folder):
    """Write each training and test set to FOLDER/TABLE-FOLD.npz, standardised."""
    tables = read_tables(options.dir, options.tables)
    for name, task in tables.items():
        X, y = load_table(options.dir / f"{name}.npz", options.max_rows, options.seed)
        folds = make_folds(X, y, task, options.folds, options.seed)
        for number, (train, test) in enumerate(folds):
            X_train, X_test = standardise(X[train], X[test])
            y_train, y_test = y[train], y[test]
            if task == "reg":
                y_train, y_test = standardise(y_train, y_test)
            np.savez(
                folder / f"{name}-{number}.npz",
                table=name,
                task=task,
                seed=options.seed,
                X_train=X_train,
                X_test=X_test,
                y_train=y_train,
                y_test=y_test,
            )
    return tables


def environment(name, what):
    """Return the environment variables of a runner: one thread; our own checkout."""
    environ = {**os.environ, **dict.fromkeys(THREADS, "1")}
    if what == "checks":
        environ["SCIPY_ARRAY_API"] = "1"  # else some checks skip themselves
    if not PEERS[name].requirements:
        paths = [str(HERE.parent), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environ


def run_peer(name, what, folder, options):
    """Run one runner; return its records, and a word on how it failed or None."""
    out = folder / f"{name}-{what}.jsonl"
    script = HERE / "_peers" / PEERS[name].runner
    failure = None
    try:
        command = [interpreter(name, options.envs), script, what, folder, out]
        progress(f"{name}: {what}")
        done = subprocess.run(
            command,
            env=environment(name, what),
            capture_output=True,
            text=True,
            check=False,
            timeout=options.timeout,
        )
        if done.returncode != 0:
            failure = done.stderr.strip()[-600:]
    except RuntimeError as error:
        failure = str(error)
    except subprocess.TimeoutExpired:
        failure = f"stopped after {options.timeout} seconds"
    if failure is not None:
        progress(f"{name}: {what} failed: {failure}")
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return [json.loads(line) for line in lines], failure


def table_row(table, name, task, records, n_folds):
    """Return one row: means over the splits that the peer could fit."""
    fitted = [record for record in records if "score" in record]
    row = {"table": table, "package": name}
    row["kind"] = "R2" if task == "reg" else "accuracy"
    if fitted:
        score, error = mean_and_error([record["score"] for record in fitted])
        row.update(score=score, error=error)
        # The median: a package's first fit also pays for its late imports.
        row["seconds"] = float(np.median([record["seconds"] for record in fitted]))
    if fitted and "log_score" in fitted[0]:
        values = [record["log_score"] for record in fitted]
        row["log_score"], row["log_error"] = mean_and_error(values)
    if len(fitted) < n_folds:
        errors = [record["error"] for record in records if "error" in record]
        reason = errors[0][:60] if errors else "cut off"
        row["note"] = f"{len(fitted)} of {n_folds} splits only: {reason}"
    return row


def accuracy_rows(tables, results, n_folds):
    """Return the rows of all tables, each with every package that fits its task."""
    rows = []
    for table, task in tables.items():
        for name, result in results.items():
            records = [r for r in result["splits"] if r.get("table") == table]
            if records:
                rows.append(table_row(table, name, task, records, n_folds))
    return rows


def check_rows(results):
    """Return one row an estimator class: checks passed, and what kept it from all."""
    rows = []
    for name, result in results.items():
        for record in result["checks"]:
            if "task" in record:
                row = {"package": name, "task": record["task"], **record}
                failed = ", ".join(record.get("failed", []))
                row["note"] = record.get("reason", failed)[:100] or None
                total = record["total"]
                row["shown"] = f"{record['passed']} of {total}" if total else "0"
                rows.append(row)
    return rows


def paired_gain(results, name, key):
    """Return the mean of ours minus the peer's over the splits that both could fit."""
    ours, theirs = (
        {r["split"]: r[key] for r in results[package]["splits"] if key in r}
        for package in (OURS, name)
    )
    gains = [ours[split] - theirs[split] for split in ours.keys() & theirs.keys()]
    return float(np.mean(gains)) if gains else None


def check_targets(checks, results):
    """Return the stated figures: all checks pass; no like peer predicts better."""
    targets = Targets()
    if OURS not in results:
        return targets
    for task in ("reg", "clf"):
        mine = [c for c in checks if c["package"] == OURS and c["task"] == task]
        passed, total = (mine[0]["passed"], mine[0]["total"]) if mine else (0, 0)
        ok = total > 0 and passed == total and not mine[0].get("skipped")
        targets.check(f"{OURS} {task}: checks passed", passed, ok, f"all of {total}")
    for name in results:
        if name == OURS or not PEERS[name].linear_experts:
            continue
        for key, label in (("score", "score"), ("log_score", "log score")):
            gain = paired_gain(results, name, key)
            if gain is not None:
                title = f"{label}, {OURS} - {name}, mean over paired splits"
                targets.check(title, gain, gain >= 0.0, ">= 0")
    return targets


COLUMNS = [
    "table",
    "package",
    ("kind", "score", ""),
    ("score", "mean", ".3f"),
    ("error", "s.e.", ".3f"),
    ("log_score", "log score", ".3f"),
    ("log_error", "s.e.", ".3f"),
    ("seconds", "fit CPU s", ".3f"),
    "note",
]


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    tables = [*REGRESSION, *CLASSIFICATION]
    parser.add_argument("--tables", nargs="+", default=tables, metavar="NAME")
    envs = pathlib.Path.home() / ".cache" / "skmoe-peers"
    parser.add_argument("--envs", type=pathlib.Path, default=envs)
    parser.add_argument("--max-rows", type=int, default=1500)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=900, help="seconds a runner")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Run every peer, print accuracy and checks, and say which figures are missed."""
    options = parse_options()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tables = write_splits(options, folder)
        for peer in options.only:
            splits, failure = run_peer(peer, "splits", folder, options)
            checks, check_failure = [], None
            if peer != BASELINE:  # its checks are scikit-learn's own affair
                checks, check_failure = run_peer(peer, "checks", folder, options)
            results[peer] = {"splits": splits, "checks": checks}
            results[peer]["failure"] = failure or check_failure
    rows, checks = accuracy_rows(tables, results, options.folds), check_rows(results)
    print_table(
        rows, COLUMNS, f"{options.folds} folds, {options.max_rows} rows at most"
    )
    shown = ["package", "task", ("shown", "checks passed", ""), "note"]
    print_table(checks, shown, "scikit-learn's estimator checks")
    for peer, result in results.items():
        if result["failure"]:
            print(f"{peer} failed: {result['failure']}")
    targets = check_targets(checks, results)
    settings = {"rows": options.max_rows, "folds": options.folds, "seed": options.seed}
    write_json(
        options.json,
        {
            "settings": settings,
            "accuracy": rows,
            "checks": checks,
            "packages": results,
            "targets": targets.rows,
        },
    )
    targets.exit()


if __name__ == "__main__":
    main()
