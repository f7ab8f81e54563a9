"""Load of 64 experts on a table: routers and losses, Shazeer's ablation, 20 seeds.

    python benchmarks/sparse_balance.py DIR [--table letter] [--epochs 12]
        [--seeds 20] [--quick] [--workers 2] [--json PATH]

DIR/TABLE.npz holds X and y, classes; three quarters of the rows are trained on.
All fits are `SparseMixtureOfExpertsClassifier` with 64 experts, two of them a row, for
the given number of epochs, without rows held out; what is not said is the default.

- Routers and losses: log loss and accuracy of the other rows; of the choices in
  prediction on the training rows, the coefficient of variation of the load, largest
  over mean load, the effective number of experts (exp of the entropy of their weights)
  and dead ones (less than a hundredth of an even share).
- The ablation of Shazeer et al. (2017), table 6: weights of the losses of importance
  and load, in batches of 1024; importance and load are those of training, with noise,
  and beside them the load of prediction. The default has a loss on choices without
  noise ("clean") besides.
- The default over seeds; and the default with a z-loss in bfloat16 beside float32.

Exits non-zero if an expert of the default is dead in one seed, the load does not
collapse without losses, its largest over mean is not below 1.2 with them, or bfloat16
is more than 0.01 nats from float32. `--quick` is 3 epochs and 2 seeds, without
verdicts.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
import torch
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed
from sklearn.metrics import log_loss

from skmoe.exceptions import CollapsedExpertWarning
from skmoe.neural import SparseMixtureOfExpertsClassifier

ROUTERS = {
    "noisy top-k (default)": {},
    "noisy top-k, importance + load": {
        "router_losses": {"importance": 0.1, "load": 0.1}
    },
    "noisy top-k, no loss": {"router_losses": {}},
    "top-k, switch 0.01 (its default)": {"router": "topk"},
    "top-k, switch 1": {"router": "topk", "router_losses": {"switch": 1.0}},
    "top-k, deviation 1": {"router": "topk", "router_losses": {"deviation": 1.0}},
    "top-k, bias 0.001": {"router": "topk", "router_losses": {}, "bias_rate": 0.001},
    "top-k, no loss": {"router": "topk", "router_losses": {}},
    "switch, capacity 1.25": {"router": "switch", "capacity_factor": 1.25},
    "switch, capacity 1.25, loss 1": {
        "router": "switch",
        "capacity_factor": 1.25,
        "router_losses": {"switch": 1.0},
    },
    "expert choice": {"router": "expert_choice"},
    "dense": {"router": "dense"},
    "hash": {"router": "hash"},
    "random": {"router": "random"},
}
# Weights of importance and load.
ABLATION = [(0, 0), (0.2, 0), (0, 0.2), (0.1, 0.1), (0.01, 0.01), (1, 1)]
LEAST_COLLAPSE, MOST_EVEN, MOST_OFF = 2.0, 1.2, 1e-2


def load_rows(folder, table):
    """Return X and y to train on, and of the other rows."""
    with np.load(pathlib.Path(folder) / f"{table}.npz") as held:
        X, y = held["X"], held["y"]
    order = np.random.default_rng(0).permutation(len(X))
    cut = len(X) * 3 // 4
    return X[order[:cut]], y[order[:cut]], X[order[cut:]], y[order[cut:]]


def fit(name, options, rows, epochs, seed=0):
    """Return what a fit comes to."""
    torch.set_num_threads(1)
    X, y, X_test, y_test = rows
    options = {"max_epochs": epochs, "early_stopping": False} | options
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedExpertWarning)
        model = SparseMixtureOfExpertsClassifier(random_state=seed, **options)
        model.fit(X, y)
    seconds = time.process_time() - start
    usage = model.expert_usage(X)
    proba = model.predict_proba(X_test)
    progress(f"{name}, seed {seed}: {seconds:.1f} s")
    return {
        "name": name,
        "seed": seed,
        "log_loss": log_loss(y_test, proba, labels=model.classes_),
        "accuracy": float(np.mean(model.classes_[proba.argmax(axis=1)] == y_test)),
        "cv_load": usage.cv_load,
        "max_over_mean": usage.max_over_mean,
        "n_effective": usage.n_effective,
        "n_dead": len(usage.dead),
        "seconds": seconds,
        **with_noise(model, X),
    }


@torch.no_grad()
def with_noise(model, X):
    """Return the spread of importance and load in training, where there is noise."""
    if model.router != "noisy_topk":
        return {}
    numbers, codes, fitted = model._encoded(X)
    empty = np.empty((len(numbers), 0))
    data = fitted.data(numbers, codes, empty, empty)
    fitted.network.router.train()
    fitted.network.training = True
    torch.manual_seed(0)
    weight, chosen = (
        sum(part[i].sum(dim=0).double() for part in routed(fitted.network, data))
        for i in (0, 1)
    )
    fitted.network.eval()
    return {
        "noisy_cv_importance": float(weight.std(correction=0) / weight.mean()),
        "noisy_cv_load": float(chosen.std(correction=0) / chosen.mean()),
        "noisy_max_over_mean": float(chosen.max() / chosen.mean()),
    }


def routed(network, data):
    """Yield weights and choices of all rows, block by block."""
    for part in data.blocks(8192):
        yield network.routing(part.numbers, part.codes)


def jobs(epochs, seeds):
    """Return (group, name, options, seed) of all fits."""
    found = [("routers", name, options, 0) for name, options in ROUTERS.items()]
    for importance, load in ABLATION:
        losses = {"importance": importance, "load": load}
        name = f"{importance:g}, {load:g}"
        options = {"router_losses": losses, "batch_size": 1024}
        found.append(("ablation", name, options, 0))
    found += [("seeds", "default", {}, seed) for seed in range(1, seeds)]
    losses = {"importance": 0.1, "load": 0.1, "clean": 0.3, "z": 1e-3}
    for precision in ("float32", "bfloat16"):
        options = {"router_losses": losses, "precision": precision}
        found.append(("precision", precision, options, 0))
    return found


def report(groups, quick):
    """Print the tables; return the stated figures."""
    scores = [("log_loss", "log loss", ".4f"), ("accuracy", "accuracy", ".4f")]
    spread = [
        ("cv_load", "CV load", ".3f"),
        ("max_over_mean", "max/mean", ".2f"),
        ("n_effective", "effective", ".1f"),
        ("n_dead", "dead", "d"),
    ]
    noisy = [
        ("noisy_cv_importance", "CV importance", ".3f"),
        ("noisy_cv_load", "CV load", ".3f"),
        ("noisy_max_over_mean", "max/mean", ".2f"),
    ]
    after = [
        ("max_over_mean", "max/mean, prediction", ".2f"),
        ("n_dead", "dead, prediction", "d"),
    ]
    seconds = [("seconds", "CPU s", ".1f")]
    name = ("name", "router, losses", "")
    print_table(groups["routers"], [name, *scores, *spread, *seconds], "routers")
    name = ("name", "importance, load", "")
    columns = [name, *scores[:1], *noisy, *after]
    print_table(groups["ablation"], columns, "ablation of Shazeer et al. (2017)")
    groups["seeds"] = [groups["routers"][0], *groups["seeds"]]
    columns = [("seed", "seed", "d"), *scores, *spread]
    print_table(groups["seeds"], columns, "the default, seed by seed")
    name = ("name", "precision", "")
    print_table(groups["precision"], [name, *scores, *spread], "default with z-loss")
    return None if quick else verdicts(groups)


def verdicts(groups):
    """Return the stated figures."""
    targets = Targets()
    dead = sum(row["n_dead"] for row in groups["seeds"])
    n_seeds = len(groups["seeds"])
    targets.check(f"dead experts of the default, {n_seeds} seeds", dead, dead == 0, "0")
    none, *others = groups["ablation"]
    value = none["noisy_max_over_mean"]
    wanted = f"> {LEAST_COLLAPSE}: it collapses"
    targets.check("max/mean, no loss", value, value > LEAST_COLLAPSE, wanted)
    for row in others:
        if row["name"] in ("0, 0.2", "0.1, 0.1", "1, 1"):
            value = row["noisy_max_over_mean"]
            label = f"max/mean, losses {row['name']}"
            targets.check(label, value, value < MOST_EVEN, f"< {MOST_EVEN}")
    fine, coarse = groups["precision"]
    off = abs(coarse["log_loss"] - fine["log_loss"])
    label = "bfloat16 from float32, nats a row"
    targets.check(label, off, off <= MOST_OFF, f"<= {MOST_OFF}")
    return targets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--table", default="letter")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", metavar="PATH")
    args = parser.parse_args()
    epochs, seeds = (3, 2) if args.quick else (args.epochs, args.seeds)
    rows = load_rows(args.folder, args.table)
    todo = jobs(epochs, seeds)
    found = Parallel(args.workers)(
        delayed(fit)(name, options, rows, epochs, seed)
        for _, name, options, seed in todo
    )
    groups = {}
    for (group, *_), row in zip(todo, found, strict=True):
        groups.setdefault(group, []).append(row)
    print(f"{args.table}: {len(rows[0])} rows to train on, {epochs} epochs")
    targets = report(groups, args.quick)
    payload = {"table": args.table, "epochs": epochs, "groups": groups}
    payload["figures"] = targets.rows if targets else []
    write_json(args.json, payload)
    if targets:
        targets.exit()


if __name__ == "__main__":
    main()
