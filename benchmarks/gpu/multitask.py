"""Training of MMoE on a GPU: rows a second, over a floor, and beside deepctr-torch.

    python benchmarks/gpu/multitask.py [--n 10000000] [--batch 1024 8192 65536]
        [--peer-rows 300000] [--json PATH]

Two binary tasks, 40 columns of categories (from 10 to 100,000 of them, 420,000 in
all), 8 experts of 32 numbers, towers of 16, vectors of 8; AdamW, with the averaged
weights and the penalty on vectors that are our defaults; float32 throughout, matrix
products included. Ours: `MMoEClassifier`'s model on codes that are made already,
one whole epoch behind one of warming up. The floor of a step is the larger of two times
at rates measured in the same run: the products' operations (forward and both
gradients), and the bytes that must move: codes, vectors and their gradients, and the
optimiser's pass over all weights (weight, two moments, gradient: seven streams).
deepctr-torch trains the same architecture by its own ``fit`` on fewer rows, an epoch
behind one of warming up; it is left out where it is not installed (pip install
deepctr-torch==0.3.0 requests).
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _device import rates, synchronised
from _report import Targets, print_table, progress, write_json

from skmoe.nn._task_fit import TaskSettings
from skmoe.nn._task_model import TaskModel, TaskPlan

N_COLUMNS, N_EXPERTS, WIDTH, TOWER, SIZE, N_TASKS = 40, 8, 32, 16, 8, 2
WANTED = 10.0
COLUMNS = [
    ("batch", "batch", "d"),
    ("rows_per_s", "rows/s", ".3g"),
    ("step_ms", "step ms", ".3f"),
    ("floor_ms", "floor ms", ".3f"),
    ("over_floor", "over floor", ".1f"),
    ("peer_rows_per_s", "deepctr-torch rows/s", ".3g"),
    ("ratio", "times", ".1f"),
    ("peak_gb", "peak GB", ".2f"),
]


def made(n):
    """Return codes of columns, how many each has, and labels."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 100_000, N_COLUMNS).astype(int)
    codes = np.empty((n, N_COLUMNS), dtype=np.int32)
    logit = np.zeros(n)
    for j, size in enumerate(sizes):
        # Squared: some categories are common, most are rare.
        codes[:, j] = rng.random(n) ** 2 * size
        logit += rng.normal(size=size)[codes[:, j]] / np.sqrt(N_COLUMNS)
    labels = np.empty((n, N_TASKS), dtype=np.float32)
    for t in range(N_TASKS):
        labels[:, t] = rng.random(n) < 1.0 / (1.0 + np.exp(-logit + 1.0 + t))
    return codes, sizes, labels


def model_for(sizes, batch):
    plan = TaskPlan(
        rows={
            "n_numbers": 0,
            "n_columns": N_COLUMNS,
            "n_codes": int(sizes.sum()) + 1,
            "size": SIZE,
        },
        network={
            "n_experts": N_EXPERTS,
            "expert_hidden": (WIDTH,),
            "tower_hidden": (TOWER,),
        },
        losses={},
        kinds=("binary",) * N_TASKS,
        n_outputs=(1,) * N_TASKS,
        start=np.zeros(N_TASKS),
        task_weights=np.ones(N_TASKS),
        mean_weight=np.ones(N_TASKS),
    )
    settings = TaskSettings(
        batch, 5e-3, 0.0, patience=100, embedding_penalty=6e-6, decay=0.998
    )
    return TaskModel(plan, settings, torch.device("cuda"), "float32", 0)


def model_and_rows(codes, sizes, labels, batch):
    """Return a model and all rows on its device."""
    model = model_for(sizes, batch)
    first = np.cumsum(sizes) - sizes + 1
    numbers = np.empty((len(codes), 0), dtype=np.float32)
    absolute = (codes + first).astype(np.int32)
    data = model.data(numbers, absolute, labels, np.ones_like(labels))
    return model, data


def floor_of(model, batch, flops, nbytes):
    """Return the seconds that a step takes at least."""
    width = N_COLUMNS * SIZE
    products = width * (N_EXPERTS * WIDTH + N_TASKS * N_EXPERTS)
    products += N_TASKS * (N_EXPERTS * WIDTH + WIDTH * TOWER + TOWER)
    operations = 3 * 2 * batch * products
    weights = sum(param.numel() for param in model.network.parameters())
    moved = batch * (4 * N_COLUMNS + 3 * 4 * width) + 7 * 4 * weights
    return max(operations / flops, moved / nbytes)


def ours(codes, sizes, labels, batch, flops, nbytes):
    model, data = model_and_rows(codes, sizes, labels, batch)
    torch.cuda.reset_peak_memory_stats()
    seconds = synchronised(lambda: model.train(data, None, 1), 1, warm=1)
    step = seconds / -(-len(codes) // batch)
    floor = floor_of(model, batch, flops, nbytes)
    return {
        "batch": batch,
        "rows_per_s": len(codes) / seconds,
        "step_ms": 1e3 * step,
        "floor_ms": 1e3 * floor,
        "over_floor": step / floor,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "loss": model.trainer.run(data, None, 1)[-1].train_loss,
    }


def peer(codes, sizes, labels, batch):
    """Return the rows that deepctr-torch trains on in a second; None without it."""
    try:
        from deepctr_torch.inputs import SparseFeat
        from deepctr_torch.models.multitask.mmoe import MMOE
    except ImportError as error:
        progress(f"deepctr-torch is left out: {error}")
        return None
    columns = [
        SparseFeat(f"c{j}", int(size), embedding_dim=SIZE)
        for j, size in enumerate(sizes)
    ]
    model = MMOE(
        columns,
        num_experts=N_EXPERTS,
        expert_dnn_hidden_units=(WIDTH,),
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=(TOWER,),
        task_types=["binary"] * N_TASKS,
        task_names=["first", "second"],
        device="cuda:0",
    )
    model.compile("adam", ["binary_crossentropy"] * N_TASKS)
    rows = {f"c{j}": codes[:, j] for j in range(N_COLUMNS)}
    options = {"batch_size": batch, "epochs": 1, "verbose": 0}
    few = {name: column[: 8 * batch] for name, column in rows.items()}
    model.fit(few, labels[: 8 * batch], **options)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    model.fit(rows, labels, **options)
    torch.cuda.synchronize()
    return len(codes) / (time.perf_counter() - begin)


def profiled(codes, sizes, labels, batch):
    """Print what a step consists of, launched kernel by kernel."""
    model, data = model_and_rows(codes, sizes, labels, batch)
    model.train(data, None, 1)
    with torch.profiler.profile() as profile:
        model.train(data, None, 1)
    averages = profile.key_averages()
    print(averages.table(sort_by="self_device_time_total", row_limit=25))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 8192, 65536])
    parser.add_argument("--peer-rows", type=int, default=300_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    flops, nbytes = rates(torch.float32)
    progress(f"{flops / 1e12:.1f} TFLOP/s in float32, {nbytes / 1e12:.2f} TB/s")
    codes, sizes, labels = made(options.n)
    if options.profile:
        for batch in options.batch:
            profiled(codes[: 20 * batch], sizes, labels[: 20 * batch], batch)
    table, targets = [], Targets()
    few = slice(0, options.peer_rows)
    for batch in options.batch:
        progress(f"batch {batch}")
        row = ours(codes, sizes, labels, batch, flops, nbytes)
        theirs = peer(codes[few], sizes, labels[few], batch)
        if theirs is not None:
            row["peer_rows_per_s"] = theirs
            row["ratio"] = row["rows_per_s"] / theirs
            name = f"times deepctr-torch, batch {batch}"
            wanted = f"at least {WANTED:g}"
            targets.check(name, row["ratio"], row["ratio"] >= WANTED, wanted)
        table.append(row)
    title = f"MMoE, n={options.n:,}, {torch.cuda.get_device_name()}"
    print_table(table, COLUMNS, title)
    device = torch.cuda.get_device_name()
    rates_seen = {"flops": flops, "bytes": nbytes, "device": device}
    write_json(options.json, {"rates": rates_seen, "rows": table})
    targets.exit()


if __name__ == "__main__":
    main()
