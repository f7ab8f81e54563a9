"""Fast feedforward layers on a CPU: accuracy in the papers' layout, and speed.

    python benchmarks/fast_feedforward.py [DIR] [--only speed|table_1|table_2] [--quick]
        [--runs 5] [--epochs 300] [--jobs -1] [--threads 1 2] [--json PATH]

Accuracy: tables 1 and 2 of Belcak & Wattenhofer (2023). Their USPS, MNIST and CIFAR10
are not at hand: the images here are scikit-learn's digits (1,797 of 8 x 8 pixels) or,
with DIR, DIR/optdigits.npz (5,620 of the same kind, from UCI). 64 % of the rows train,
16 % choose the epoch, 20 % test. "memorises" is the best accuracy on the training rows
of any epoch, "generalises" the accuracy on the test rows at the epoch that is best on
the validation rows; both are the best of all runs, as in the paper, and all of hard
choices.

- table 1: one hidden layer of a width (dense), and trees of the same width with leaves
  of 8, 4, 2 and 1; SGD with rate 0.2, batches of 256, h = 3.
- table 2: dense; noisy top-2 mixtures of experts of width 16 with importance and load
  loss of weight 0.1; trees with leaves of 32. Both of the latter evaluate 32 hidden
  units a row. Adam with rate 1e-3, batches of 256. In the paper the mixture is far
  behind the tree: here it is that of Shazeer et al. (2017) to the letter.

Speed: evaluation against the dense layer of the width, 768 columns, leaves of 32.
"""

import argparse
import os
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from _report import Targets, print_table, progress, write_json
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skmoe.nn import MLPExperts, MoELayer, NoisyTopKRouter, auxiliary_loss
from skmoe.nn._fast_feedforward import FastFeedforward

BATCH, EVALUATE_EVERY = 256, 5
LEAVES, TABLE_2_LEAF, EXPERT_WIDTH, TOP_K = (8, 4, 2, 1), 32, 16, 2
SPEED_COLUMNS, SPEED_WIDTH, SPEED_LEAF, WANTED = 768, 16384, 32, 20.0


def images(directory):
    """Return the name of the data, and three pairs of images and labels."""
    if directory is None:
        X, y = load_digits(return_X_y=True)
        name = "scikit-learn's digits"
    else:
        stored = np.load(directory / "optdigits.npz")
        X, y, name = stored["X"], stored["y"], "optdigits"
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0)
    train, valid = train_test_split(rest, test_size=0.2, random_state=0)
    X = torch.as_tensor(X / 16.0, dtype=torch.float32)
    y = torch.as_tensor(y)
    return f"{name}, {len(y):,} rows", [(X[i], y[i]) for i in (train, valid, test)]


def model_of(kind, width, leaf, n_inputs, n_classes):
    if kind == "dense":
        first, second = nn.Linear(n_inputs, width), nn.Linear(width, n_classes)
        return nn.Sequential(first, nn.ReLU(), second)
    if kind == "moe":
        n_experts = width // EXPERT_WIDTH
        experts = MLPExperts(n_experts, n_inputs, EXPERT_WIDTH, n_classes, "relu")
        return MoELayer(experts, NoisyTopKRouter(n_inputs, n_experts, TOP_K))
    depth = (width // leaf).bit_length() - 1
    return FastFeedforward(n_inputs, n_classes, depth=depth, leaf_width=leaf)


def accuracies(model, parts):
    model.eval()
    with torch.no_grad():
        found = [(model(X).argmax(1) == y).float().mean().item() for X, y in parts]
    model.train()
    return found


def trained(kind, width, leaf, optimiser, parts, epochs, seed):
    """Train one model; return its two accuracies in per cent."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    X, y = parts[0]
    model = model_of(kind, width, leaf, X.shape[1], int(y.max()) + 1)
    make, rate = {"sgd": (torch.optim.SGD, 0.2), "adam": (torch.optim.Adam, 1e-3)}[
        optimiser
    ]
    step = make(model.parameters(), lr=rate)
    seen = []
    for epoch in range(epochs):
        for rows in torch.randperm(len(y)).split(BATCH):
            step.zero_grad()
            loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
            (loss + auxiliary_loss(model)).backward()
            step.step()
        if (epoch + 1) % EVALUATE_EVERY == 0:
            seen.append(accuracies(model, parts))
    train, valid, test = 100 * np.array(seen).T
    return train.max(), test[valid.argmax()]


def table_of(cases, optimiser, parts, options):
    """Return a row for each (kind, width, leaf): the best of all runs."""
    jobs = [(case, seed) for case in cases for seed in range(options.runs)]
    begin = time.perf_counter()
    pool = joblib.Parallel(n_jobs=options.jobs)
    call = joblib.delayed(trained)
    found = pool(
        call(*case, optimiser, parts, options.epochs, seed) for case, seed in jobs
    )
    progress(f"{len(jobs)} runs in {time.perf_counter() - begin:.0f} s")
    scores = np.array(found).reshape(len(cases), options.runs, 2)
    return [
        {
            "kind": kind,
            "width": width,
            "leaf": leaf,
            "memorises": score[:, 0].max(),
            "generalises": score[:, 1].max(),
            "mean_memorises": score[:, 0].mean(),
            "mean_generalises": score[:, 1].mean(),
        }
        for (kind, width, leaf), score in zip(cases, scores, strict=True)
    ]


def in_layout(rows, widths, title):
    """Print rows in the layout of the paper: one line a model, a pair a width."""
    lines = {}
    for row in rows:
        name = row["kind"] if row["leaf"] is None else f"tree, leaf {row['leaf']}"
        pair = f"{row['memorises']:.1f} / {row['generalises']:.1f}"
        lines.setdefault(name, {"model": name})[row["width"]] = pair
    columns = ["model", *((width, f"w={width}", "") for width in widths)]
    print_table(list(lines.values()), columns, title)


def table_1(options, targets):
    """Dense layers, and trees of the same width, over sizes of leaves."""
    name, parts = images(options.directory)
    widths = [16, 64] if options.quick else [16, 32, 64, 128]
    cases = [("dense", w, None) for w in widths]
    cases += [("tree", w, leaf) for leaf in LEAVES for w in widths]
    rows = table_of(cases, "sgd", parts, options)
    in_layout(rows, widths, f"table 1 on {name}: {title_of(options)}, SGD")
    by_leaf = [mean_of(rows, "tree", leaf=leaf) for leaf in LEAVES]
    falls = float(np.diff(by_leaf).max())
    what = "generalises: largest gain by halving a leaf"
    targets.check(what, falls, falls < 0, "below 0")
    loss = mean_of(rows, "dense") - by_leaf[0]
    targets.check("generalises: dense less leaf 8", loss, loss >= 0, "at least 0")
    return {"data": name, "rows": rows}


def table_2(options, targets):
    """Dense layers, and mixtures and trees that evaluate as many hidden units a row."""
    name, parts = images(options.directory)
    widths = [64] if options.quick else [64, 128, 256, 512]
    cases = [(kind, w, None) for kind in ("dense", "moe") for w in widths]
    cases += [("tree", w, TABLE_2_LEAF) for w in widths]
    rows = table_of(cases, "adam", parts, options)
    in_layout(rows, widths, f"table 2 on {name}: {title_of(options)}, Adam")
    for what in ("memorises", "generalises"):
        gains = [
            mean_of(rows, "moe", width=w, what=what)
            - mean_of(rows, "tree", width=w, what=what)
            for w in widths
        ]
        listed = ", ".join(f"{gain:+.1f}" for gain in gains)
        print(f"mixture less tree, {what}, points at widths {widths}: {listed}")
        # Table 2 of the paper: -28 to -34 in memorising, -6 to -17 in generalising.
        worst, wanted = min(gains), -5.0
        said = f"above {wanted:g}"
        targets.check(f"{what}: mixture less tree", worst, worst > wanted, said)
    return {"data": name, "rows": rows}


def title_of(options):
    runs, epochs = options.runs, options.epochs
    return f"memorises / generalises, best of {runs}, {epochs} epochs"


def mean_of(rows, kind, what="generalises", **where):
    """Return the mean over the rows of a kind, in per cent."""
    fits = [r for r in rows if r["kind"] == kind]
    fits = [r for r in fits if all(r[k] == value for k, value in where.items())]
    return float(np.mean([r[what] for r in fits]))


def milliseconds(function, repeats):
    """Return the shortest of several calls: other work on the machine only adds."""
    times = []
    for _ in range(repeats + 2):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times[2:])


def speed(options, targets):
    """Print evaluation times beside those of the dense layer."""
    torch.manual_seed(0)
    depth = (SPEED_WIDTH // SPEED_LEAF).bit_length() - 1
    d = SPEED_COLUMNS
    tree = FastFeedforward(d, d, depth=depth, leaf_width=SPEED_LEAF).eval()
    layers = nn.Linear(d, SPEED_WIDTH), nn.ReLU(), nn.Linear(SPEED_WIDTH, d)
    dense = nn.Sequential(*layers)
    table = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for batch in (1, 64, 1024):
            x = torch.randn(batch, d)
            with torch.no_grad():
                ours = milliseconds(lambda x=x: tree(x), 100)
                theirs = milliseconds(lambda x=x: dense(x), 3 if batch > 64 else 20)
            row = {"threads": threads, "batch": batch, "dense_ms": theirs}
            table.append({**row, "ours_ms": ours, "ratio": theirs / ours})
            if batch <= 64:
                name = f"times dense, batch {batch}, threads {threads}"
                ok = theirs / ours >= WANTED
                targets.check(name, theirs / ours, ok, f"at least {WANTED:g}")
    columns = [
        "threads",
        "batch",
        ("dense_ms", "dense ms", ".3f"),
        ("ours_ms", "tree ms", ".3f"),
        ("ratio", "times", ".1f"),
    ]
    title = f"evaluation on a CPU, {d} columns, width {SPEED_WIDTH}, leaf {SPEED_LEAF}"
    print_table(table, columns, f"{title}, {os.cpu_count()} cores")
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--only", choices=["speed", "table_1", "table_2"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.runs = options.runs or (2 if options.quick else 5)
    options.epochs = options.epochs or (60 if options.quick else 300)
    targets, payload = Targets(), {}
    for part in (speed, table_1, table_2):
        if options.only in (None, part.__name__):
            payload[part.__name__] = part(options, targets)
    write_json(options.json, {**payload, "figures": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
