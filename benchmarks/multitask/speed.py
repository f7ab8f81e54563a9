"""CPU time of training a row: MMoE of skmoe, deepctr-torch and torch-rechub.

    python benchmarks/multitask/speed.py DIR [--rounds 3] [--rows 32768]
        [--batch 1024 256] [--json PATH]

DIR holds the Census-Income data, as `census.py` says. The same architecture for all:
vectors of 8, 8 experts of 32, a linear gate a task, towers of 16, two tasks, numbers
standardised and without bins, Adam; one thread. An epoch is what a fit of three epochs
takes more than one of one, so that encoding and setting up count for nobody; "whole
fit" is the fit of three, all included, over its three epochs (the peers are handed
coded numbers, ours the data frame). Ours averages its weights besides, which is its
default. All contenders take turns in one process; medians of the rounds.

pip install deepctr-torch==0.3.0 torch-rechub==0.9.0 requests; what is not installed is
listed as such, and its figure counts as missed.
"""

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _data import load_census, to_codes
from _peers import PACKAGES, DeepCTRMMoE, RechubMMoE, one_thread
from _report import Targets, print_table, progress, write_json

from skmoe.multitask import MMoEClassifier

RATE = 3e-3
EPOCHS = (1, 3)
PEERS = {"deepctr-torch": DeepCTRMMoE, "torch-rechub": RechubMMoE}
# Ours takes at most this part of a peer's time, at the first batch size.
WANTED = {"deepctr-torch": 1 / 3, "torch-rechub": 1 / 5}
COLUMNS = [
    ("batch", "batch", "d"),
    "model",
    ("us_per_row", "us a row and epoch", ".1f"),
    ("low", "least", ".1f"),
    ("high", "most", ".1f"),
    ("ratio", "over skmoe", ".2f"),
    ("whole_us", "whole fit", ".1f"),
]


def ours(part, coded, batch, n_epochs):
    """Fit the network of skmoe."""
    del coded
    model = MMoEClassifier(
        n_experts=8,
        expert_hidden=(32,),
        tower_hidden=(16,),
        embedding_size=8,
        numeric_encoding="standard",
        learning_rate=RATE,
        batch_size=batch,
        max_epochs=n_epochs,
        early_stopping=False,
        random_state=0,
    )
    model.fit(part.X, part.y)


def peer(kind):
    """Return a function that fits the network of a package."""

    def fit(part, coded, batch, n_epochs):
        del part
        rows, sizes = coded
        options = {"learning_rate": RATE, "batch_size": batch, "seed": 0}
        kind(sizes, rows.numbers.shape[1], **options).train(rows, n_epochs)

    return fit


def cpu_seconds(fit, *arguments):
    begin = time.process_time()
    fit(*arguments)
    return time.process_time() - begin


def measure(part, batch, rounds):
    """Return microseconds a row of all contenders: {name: (epochs, whole fits)}."""
    coded, sizes = to_codes(part)
    fits = {"skmoe": ours} | {
        name: peer(kind) for name, kind in PEERS.items() if PACKAGES[name]
    }
    few = part.head(2 * batch)
    for fit in fits.values():  # imports, and the first call of everything
        fit(few, (to_codes(few)[0][0], sizes), batch, 1)
    found = {name: ([], []) for name in fits}
    for i in range(rounds):
        for name, fit in fits.items():
            short, long = (
                cpu_seconds(fit, part, (coded[0], sizes), batch, n) for n in EPOCHS
            )
            micro = 1e6 / len(part.y)
            found[name][0].append(micro * (long - short) / (EPOCHS[1] - EPOCHS[0]))
            found[name][1].append(micro * long / EPOCHS[1])
            progress(f"batch {batch}, round {i + 1}, {name}: {found[name][0][-1]:.1f}")
    return found


def table_rows(found, batch):
    """Return a row for each contender."""
    own = np.median(found["skmoe"][0])
    rows = []
    for name in ["skmoe", *PEERS]:
        row = {"batch": batch, "model": name}
        rows.append(row)
        if name not in found:
            row["model"] += " (not installed)"
            continue
        epochs, whole = found[name]
        row["us_per_row"] = float(np.median(epochs))
        row["low"], row["high"] = min(epochs), max(epochs)
        row["ratio"] = row["us_per_row"] / own
        row["whole_us"] = float(np.median(whole))
    return rows


def check(targets, rows):
    """Note the stated figures, at one batch size."""
    for (name, most), row in zip(WANTED.items(), rows[1:], strict=True):
        value = 1 / row["ratio"] if "ratio" in row else float("nan")
        figure = f"skmoe over {name}, batch {row['batch']}"
        targets.check(figure, value, value <= most, f"<= {most:.3f}")


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32_768)
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 256])
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


def main():
    """Time all contenders at each batch size; print the table and the figures."""
    options = parse_options()
    part = load_census(options.dir, 1).train.head(options.rows)
    rows, rounds, targets = [], {}, Targets()
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in options.batch:
            rounds[batch] = measure(part, batch, options.rounds)
            rows += table_rows(rounds[batch], batch)
    print_table(rows, COLUMNS, f"CPU time of training, {options.rows:,} rows")
    check(targets, rows[: 1 + len(PEERS)])
    payload = {"rows": rows, "rounds": rounds, "targets": targets.rows}
    write_json(options.json, payload)
    targets.exit()


if __name__ == "__main__":
    main()
