"""Census-Income: areas under the ROC curve of two tasks, beside peers and boosting.

    python benchmarks/multitask/census.py DIR [--group 1|2|both] [--seeds 5]
        [--quick] [--peers] [--only NAME ...] [--workers 1] [--json PATH] [--resume]

DIR holds census-income.data.gz and census-income.test.gz; `_data.py` says what the
protocol of Ma et al. (2018) makes of them. Group 1: income over 50,000 dollars; group
2: education of at least an associate degree; both with "never married". Every network
has vectors of 8, 8 experts of 32 (where tasks have one network, it is as wide as all of
them), towers of 16, batches of 1024. Of each fit the epoch with the best mean
validation AUC is kept, and the test half is read once. Nothing was tuned on the test
half.

- MMoE, shared bottom, CGC, single: skmoe, numbers standardised and in quantile bins;
  the defaults but for what tells the best epoch;
- MMoE without bins: numbers standardised only;
- MMoE, 8 members: an ensemble within the network, 8 times as long in training;
- boosting, LightGBM, logistic: one model a task; logistic regression on one-hot
  columns;
- deepctr-torch, torch-rechub: their MMOE at the same sizes with Adam, at the better of
  the rates 1e-3 and 5e-3 on the validation half, trained epoch by epoch from here so
  that both keep the best epoch.

pip install deepctr-torch==0.3.0 torch-rechub==0.9.0 lightgbm==4.7.0 requests; what is
not installed is listed as such. The table holds means over seeds with the least and the
most; CPU seconds of a fit on one thread, its encoding and validation included; and
epochs, or rounds of each task. `--quick` is one seed of 4 epochs, without peers unless
`--peers`. `--resume` takes over what PATH holds already.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _data import TASKS, areas, load_census, to_codes
from _peers import (
    PACKAGES,
    DeepCTRMMoE,
    RechubMMoE,
    boosting,
    lightgbm,
    logistic,
    one_thread,
    train_to_best,
)
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed

from skmoe.multitask import MMoEClassifier

BATCH = 1024
MAX_EPOCHS, QUICK_EPOCHS, PATIENCE = 20, 4, 3
SIZES = {
    "n_experts": 8,
    "expert_hidden": (32,),
    "tower_hidden": (16,),
    "embedding_size": 8,
    "batch_size": BATCH,
    "monitor": "auc",
    "n_iter_no_change": PATIENCE,
}
OURS = {
    "MMoE": {},
    "MMoE without bins": {"numeric_encoding": "standard"},
    "MMoE, 8 members": {"n_members": 8},
    "shared bottom": {"architecture": "shared_bottom"},
    "CGC": {"architecture": "cgc"},
    "single": {"architecture": "single"},
}
# Not random, given rows that tell when to stop: one seed is enough.
SINGLE_MODELS = {"boosting": boosting, "LightGBM": lightgbm, "logistic": logistic}
NETWORKS = {"deepctr-torch": DeepCTRMMoE, "torch-rechub": RechubMMoE}
NAMES = [*OURS, *SINGLE_MODELS, *NETWORKS]
# Least mean test AUC: (model, task of group 1, figure).
WANTED = [
    ("MMoE", 0, 0.948),
    ("MMoE", 0, 0.952),
    ("MMoE", 1, 0.994),
    ("MMoE without bins", 0, 0.944),
    ("MMoE without bins", 1, 0.994),
]
# The best run of the paper's MMoE for education (table 2).
PAPER_EDUCATION = 0.886


def fit_ours(name, data, seed, max_epochs):
    """Return the probabilities of the test rows, and the epochs of the fit."""
    options = SIZES | {"max_epochs": max_epochs, "random_state": seed} | OURS[name]
    model = MMoEClassifier(**options)
    model.fit(data.train.X, data.train.y, X_val=data.valid.X, y_val=data.valid.y)
    return lambda: [p[:, 1] for p in model.predict_proba(data.test.X)], model.n_iter_


def fit_peer(name, data, seed, max_epochs):
    """Return the same of another package's network."""
    (train, valid, test), sizes = to_codes(data.train, data.valid, data.test)
    kind = NETWORKS[name]
    options = {"learning_rate": kind.learning_rate, "batch_size": BATCH, "seed": seed}
    peer = kind(sizes, train.numbers.shape[1], **options)
    n_epochs = train_to_best(peer, train, valid, max_epochs, PATIENCE)
    return lambda: peer.proba(test), n_epochs


def fit_single(name, data, seed, max_epochs):
    """Return the same of one model a task."""
    del max_epochs
    proba, n_rounds = SINGLE_MODELS[name](data.train, data.valid, seed)
    return lambda: proba(data.test.X), " + ".join(map(str, n_rounds))


def run(folder, group, name, seed, max_epochs):
    """Fit one model; return what it comes to on the test rows."""
    data = load_census(folder, group)
    kinds = [(OURS, fit_ours), (NETWORKS, fit_peer), (SINGLE_MODELS, fit_single)]
    fit = next(function for names, function in kinds if name in names)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.process_time()
        proba, epochs = fit(name, data, seed, max_epochs)
        seconds = time.process_time() - begin
        area = areas(data.test.y, proba())
    return {
        "group": group,
        "model": name,
        "seed": seed,
        "max_epochs": max_epochs,
        "auc": area,
        "seconds": seconds,
        "epochs": epochs,
    }


def key(result):
    """Return what tells one fit from another."""
    return tuple(result[k] for k in ("group", "model", "seed", "max_epochs"))


def jobs_of(options):
    """Return (group, model, seed, max_epochs) of all fits; first seeds come first."""
    max_epochs = QUICK_EPOCHS if options.quick else MAX_EPOCHS
    jobs = []
    for seed in range(1 if options.quick else options.seeds):
        for group in options.groups:
            for name in options.only:
                if seed and name in SINGLE_MODELS:
                    continue
                if PACKAGES.get(name, True):
                    jobs.append((group, name, seed, max_epochs))
    return jobs


def run_all(options):
    """Run the fits that are not known yet; write the JSON after each.

    Returns
    -------
    results : list of dict
        Of the fits that were asked for.
    kept : list of dict
        Those and what else is in the file.
    """
    known = {}
    if options.resume and options.json and options.json.exists():
        held = json.loads(options.json.read_text(encoding="utf-8"))
        known = {key(result): result for result in held["results"]}
    jobs = jobs_of(options)
    todo = [job for job in jobs if job not in known]
    parallel = Parallel(n_jobs=options.workers, return_as="generator_unordered")
    for result in parallel(delayed(run)(str(options.dir), *job) for job in todo):
        known[key(result)] = result
        shown = ", ".join(f"{area:.4f}" for area in result["auc"])
        progress(
            f"group {result['group']}, {result['model']}, seed {result['seed']}: "
            f"{shown}; {result['seconds']:.0f} s, {result['epochs']} epochs"
        )
        write_json(options.json, {"results": list(known.values())})
    return [known[job] for job in jobs], list(known.values())


def table_rows(results, group, names):
    """Return a row for each model: means over seeds, and their range."""
    rows = []
    for name in names:
        row = {"model": name}
        rows.append(row)
        found = [r for r in results if (r["group"], r["model"]) == (group, name)]
        if not found:
            row["epochs"] = "not installed"
            continue
        auc = np.array([result["auc"] for result in found])
        for t in range(auc.shape[1]):
            low, high = auc[:, t].min(), auc[:, t].max()
            row[f"auc{t}"] = float(auc[:, t].mean())
            row[f"range{t}"] = f"{low:.4f}-{high:.4f}" if len(auc) > 1 else None
        row["seeds"] = len(found)
        row["seconds"] = float(np.mean([result["seconds"] for result in found]))
        epochs = [result["epochs"] for result in found]
        row["epochs"] = epochs[0] if name in SINGLE_MODELS else f"{np.mean(epochs):.1f}"
    return rows


def check(targets, rows, group):
    """Note the stated figures of a group."""
    means = {row["model"]: row for row in rows if "auc0" in row}
    wanted = WANTED if group == 1 else [("MMoE", 0, PAPER_EDUCATION)]
    for name, task, least in wanted:
        if name in means:
            value = means[name][f"auc{task}"]
            figure = f"{name}: {TASKS[group][task]} (group {group})"
            targets.check(figure, value, value >= least, f">= {least}")


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--group", choices=["1", "2", "both"], default="1")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true", help="also with --quick")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME")
    parser.add_argument("--workers", type=int, default=1, help="fits at a time")
    parser.add_argument("--json", type=pathlib.Path, metavar="PATH")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    options.groups = [1, 2] if options.group == "both" else [int(options.group)]
    if options.only is None:
        left_out = PACKAGES if options.quick and not options.peers else {}
        options.only = [name for name in NAMES if name not in left_out]
    return options


def main():
    """Run the fits; print a table for each group, and the stated figures."""
    options = parse_options()
    (results, kept), targets, tables = run_all(options), Targets(), {}
    for group in options.groups:
        rows = tables[group] = table_rows(results, group, options.only)
        columns = ["model", ("seeds", "seeds", "d")]
        for t, task in enumerate(TASKS[group]):
            columns += [(f"auc{t}", f"AUC {task}", ".4f"), (f"range{t}", "range", "")]
        columns += [("seconds", "CPU s", ".0f"), ("epochs", "epochs or rounds", "")]
        print_table(rows, columns, f"Census-Income, group {group}: test AUC")
        check(targets, rows, group)
    payload = {"tables": tables, "targets": targets.rows, "results": kept}
    write_json(options.json, payload)
    targets.exit()


if __name__ == "__main__":
    main()
