"""Evaluation of fast feedforward layers on a GPU, beside dense layers of their width.

    python benchmarks/gpu/fast_feedforward.py [--widths 256 1024 4096 16384]
        [--batches 1 64 1024 8192] [--dtypes float32 bfloat16] [--json PATH]

768 columns in and out, leaves of 32, weights as they are drawn; the dense layer is
``Linear(768, width), ReLU, Linear(width, 768)``. Each call is timed twice: replayed as
a CUDA graph (what the device needs) and launched from Python (what a program sees).
float32 is that of IEEE, in the dense layer's products too. Before it is timed, the
evaluation is compared with the hard training forward, bit for bit, and with the leaf
that float64 chooses.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.nn._fast_feedforward import FastFeedforward
from skmoe.nn._tree_walk import Tree, gathered_leaves

COLUMNS_IN, LEAF = 768, 32
REPEATS, CALLS = 7, 20
WANTED = 20.0
COLUMNS = [
    ("dtype", "dtype", ""),
    ("width", "width", "d"),
    ("batch", "batch", "d"),
    ("dense_us", "dense us", ".1f"),
    ("ours_us", "tree us", ".1f"),
    ("ratio", "times", ".2f"),
    ("dense_eager_us", "dense eager us", ".1f"),
    ("ours_eager_us", "tree eager us", ".1f"),
    ("ratio_eager", "times eager", ".2f"),
    ("equal", "= hard training", ""),
    ("same_leaf", "leaf of float64", ".4f"),
]


def microseconds(function):
    """Return the median microseconds of a call, of several rows of calls."""
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(CALLS):
            function()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * begin.elapsed_time(end) / CALLS)
    return float(np.median(times))


def both_ways(module, x):
    """Return microseconds of a replayed graph and of calls from Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    graph.replay()
    return microseconds(graph.replay), microseconds(lambda: module(x))


def layers(width, dtype):
    torch.manual_seed(0)
    depth = (width // LEAF).bit_length() - 1
    tree = FastFeedforward(COLUMNS_IN, COLUMNS_IN, depth=depth, leaf_width=LEAF)
    dense = nn.Sequential(
        nn.Linear(COLUMNS_IN, width), nn.ReLU(), nn.Linear(width, COLUMNS_IN)
    )
    return tree.to("cuda", dtype).eval(), dense.to("cuda", dtype).eval()


def checked(layer, x):
    """Return whether evaluation is hard training, and the share of float64's leaves."""
    with torch.enable_grad():
        hard = layer.forward_hard(x)
    few = x[:512].double()
    names = ("node_weight", "node_bias", "w1", "b1", "w2", "b2")
    tree = Tree(*(getattr(layer, name).double() for name in names))
    _, leaf = gathered_leaves(few, tree, layer.activation)
    same = (layer.leaf_of(x)[:512] == leaf).double().mean().item()
    return torch.equal(layer(x), hard), same


def measured(width, batches, dtype):
    layer, dense = layers(width, dtype)
    for batch in batches:
        x = torch.randn(batch, COLUMNS_IN, device="cuda", dtype=dtype)
        equal, same = checked(layer, x)
        ours, ours_eager = both_ways(layer, x)
        theirs, theirs_eager = both_ways(dense, x)
        yield {
            "dtype": str(dtype).removeprefix("torch."),
            "width": width,
            "batch": batch,
            "dense_us": theirs,
            "ours_us": ours,
            "ratio": theirs / ours,
            "dense_eager_us": theirs_eager,
            "ours_eager_us": ours_eager,
            "ratio_eager": theirs_eager / ours_eager,
            "equal": "yes" if equal else "NO",
            "same_leaf": same,
        }


def judged(table):
    targets = Targets()
    equal = all(row["equal"] == "yes" for row in table)
    targets.check("evaluation = hard training", int(equal), equal, "bit for bit")
    rows = [row for row in table if row["dtype"] == "float32"]
    for row in rows:
        if (row["width"], row["batch"]) == (16384, 8192):
            ratio, name = row["ratio"], "times dense, width 16384, batch 8192"
            targets.check(name, ratio, ratio >= WANTED, f"at least {WANTED:g}")
    wide = [r["ratio"] for r in rows if r["width"] >= 1024 and r["batch"] >= 64]
    if wide:
        name = "times dense, least from width 1024 and batch 64"
        targets.check(name, min(wide), min(wide) >= 1.0, "at least 1")
    return targets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    widths, batches = [256, 1024, 4096, 16384], [1, 64, 1024, 8192]
    parser.add_argument("--widths", type=int, nargs="+", default=widths)
    parser.add_argument("--batches", type=int, nargs="+", default=batches)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    table = []
    with torch.no_grad():
        for dtype in options.dtypes:
            for width in options.widths:
                progress(f"{dtype}, width {width}")
                table += measured(width, options.batches, getattr(torch, dtype))
    device = torch.cuda.get_device_name()
    print_table(table, COLUMNS, f"768 -> 768, leaves of {LEAF}, {device}")
    targets = judged(table)
    payload = {"device": device, "rows": table, "figures": targets.rows}
    write_json(options.json, payload)
    targets.exit()


if __name__ == "__main__":
    main()
