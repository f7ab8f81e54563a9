"""Log-likelihoods beside those of a global search and of R's packages.

    python benchmarks/reference.py DIR [--only ID ...] [--seeds 10] [--json PATH]

DIR holds ``reference.json`` and the tables it names. Every case of a family that
is built is fitted by plain maximum likelihood (no ridge, no prior) from the
default starts, once for each seed. Columns: the reference's log-likelihood, ours
(the worst seed), the difference, how many seeds reach it, how many of the runs
that were taken to convergence ended at the best, starts, seconds of a fit.
Exits non-zero if a seed ends more than 1e-3 nats (0.05 where the gate separates)
below the reference.
"""

import argparse
import csv
import json
import time
import warnings
from pathlib import Path

import numpy as np
from _report import Targets, print_table, progress, write_json

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.experts import (
    BinomialExpert,
    LinearExpert,
    LogisticExpert,
    PoissonExpert,
    RobustLinearExpert,
)
from skmoe.gates import ConstantGate, SoftmaxGate

COLUMNS = [
    ("id", "case", ""),
    ("k", "K", "d"),
    ("theirs", "reference", ".4f"),
    ("ours", "ours (worst)", ".4f"),
    ("difference", "difference", "+.5f"),
    ("reached", "seeds", ""),
    ("best_runs", "runs at best", ""),
    ("starts", "starts", "d"),
    ("seconds", "seconds", ".2f"),
]


def read_table(path):
    """Return the columns of a CSV table as float arrays, by name."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    table = {}
    for name in rows[0]:
        try:
            table[name] = np.array([float(row[name]) for row in rows])
        except ValueError:
            continue
    return table


EXPERTS = {
    "gaussian": lambda: LinearExpert(alpha=0, variance_prior=None),
    "student": lambda: RobustLinearExpert(alpha=0, variance_prior=None),
    "poisson": lambda: PoissonExpert(alpha=0),
    "binomial": lambda: LogisticExpert(alpha=0),
    "trials": lambda: BinomialExpert(alpha=0),
}


def kind_of(case):
    """Return which expert a case asks for."""
    return "trials" if case["trials"] else case["family"]


def why_not(case):
    """Return why a case cannot be fitted, or None."""
    known = kind_of(case) in EXPERTS
    return None if known else f"family not built yet: {kind_of(case)}"


def design(case, table):
    """Return X and the positions of the expert's and the gate's columns."""
    names = [c for c in case["expert_design"] if c != "1"]
    names += [c for c in case["gate_design"] if c not in names and c != "1"]
    X = np.column_stack([table[name] for name in names])
    expert = [names.index(c) for c in case["expert_design"] if c != "1"]
    gate = [names.index(c) for c in case["gate_design"] if c != "1"]
    return X, expert, gate


def estimator(case, n_columns, expert, gate, seed):
    """Return the mixture of a case: plain maximum likelihood, default starts."""
    part = EXPERTS[kind_of(case)]()
    classes = isinstance(part, LogisticExpert)
    kind = MixtureOfExpertsClassifier if classes else MixtureOfExpertsRegressor
    experts, size = part, case["K"]
    if len(expert) < n_columns:
        experts = [(f"expert{k}", part, expert) for k in range(size)]
    return kind(
        experts,
        size,
        gate=SoftmaxGate(alpha=0) if gate else ConstantGate(),
        gate_features=gate or None,
        shared_dispersion=bool(case["shared_sigma"]),
        random_state=seed,
    )


def run_case(case, folder, seeds):
    """Fit one case for all seeds; return its row of the table."""
    table = read_table(folder / case["data"])
    X, expert, gate = design(case, table)
    y = table[case["response"]]
    beside = {
        name: table[case[key]]
        for name, key in (
            ("offset", "offset"),
            ("trials", "trials"),
            ("groups", "group"),
        )
        if case[key]
    }
    slack = 0.05 if case["gate_separated"] else 1e-3
    found, seconds, reports = [], [], []
    for seed in range(seeds):
        model = estimator(case, X.shape[1], expert, gate, seed)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y, **beside)
        seconds.append(time.perf_counter() - begin)
        found.append(model.log_likelihood(X, y, **beside))
        reports.append(model.search_)
    reached = sum(value >= case["loglik"] - slack for value in found)
    finished = sum(sum(report.finished) for report in reports)
    best = sum(report.n_reached_best for report in reports)
    return {
        "id": case["id"],
        "k": case["K"],
        "theirs": case["loglik"],
        "ours": min(found),
        "all": found,
        "difference": min(found) - case["loglik"],
        "tolerance": slack,
        "reached": f"{reached}/{seeds}",
        "ok": reached == seeds,
        "best_runs": f"{best}/{finished}",
        "starts": len(reports[0].names),
        "winners": sorted({report.names[0] for report in reports}),
        "seconds": float(np.median(seconds)),
    }


def main():
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = json.loads((options.folder / "reference.json").read_text())["cases"]
    rows, left, targets = [], [], Targets()
    for case in cases:
        if options.only and case["id"] not in options.only:
            continue
        reason = why_not(case)
        if reason:
            left.append({"id": case["id"], "why": reason})
            continue
        progress(case["id"])
        row = run_case(case, options.folder, options.seeds)
        rows.append(row)
        wanted = f"every seed >= reference - {row['tolerance']:g} nats"
        targets.check(row["id"], row["difference"], row["ok"], wanted)
    print_table(rows, COLUMNS, "Log-likelihood (nats) beside the reference")
    if left:
        print_table(left, [("id", "case", ""), ("why", "not run", "")])
    write_json(options.json, {"cases": rows, "not_run": left})
    targets.exit()


if __name__ == "__main__":
    main()
