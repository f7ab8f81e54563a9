"""A mixture layer with its experts shared out among GPUs, beside one with all of them.

    python benchmarks/gpu/expert_parallel.py [--tokens 32768] [--experts 8 64]
        [--parts N ...] [--repeats 20] [--json PATH]

A process for each GPU of the machine, at least two, with rows of its own; width 1,024,
4,096 hidden units, the two best of 8 or 64 experts for each row, bfloat16, router and
its loss included, forward and backward. "Alone", every GPU has all experts and nothing
travels; the rate of the shared layer is told as a share of that. Medians over calls in
a row, by events of the slowest GPU. The outputs of both layers are compared. `--parts`
tries other numbers of parts in which the experts are exchanged than the default.
"""

import argparse
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.nn.parallel._expert_parallel import ExpertParallel
from skmoe.nn.parallel._expert_shards import shard_experts
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._routed_module import auxiliary_loss
from skmoe.nn.routing._top_k_router import TopKRouter

WIDTH, HIDDEN, TOP_K = 1024, 4096, 2
WANTED = 0.80
COLUMNS = [
    ("n_experts", "experts", "d"),
    ("n_parts", "parts", "d"),
    ("alone_forward", "alone fwd ms", ".2f"),
    ("shared_forward", "shared fwd ms", ".2f"),
    ("alone", "alone f+b ms", ".2f"),
    ("shared", "shared f+b ms", ".2f"),
    ("forward_ratio", "rate fwd", ".3f"),
    ("ratio", "rate f+b", ".3f"),
    ("difference", "max difference", ".2g"),
    ("loss_difference", "of loss", ".2g"),
]


def made(n_experts):
    """Return a layer that is the same on all GPUs."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        experts = MLPExperts(n_experts, WIDTH, HIDDEN, bias=False)
        return MoELayer(experts, TopKRouter(WIDTH, n_experts, TOP_K)).bfloat16()


def milliseconds(function, repeats, warm=5):
    """Return the median time of calls in a row, on the slowest GPU."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(warm + repeats + 1)]
    distributed.barrier()
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in pairwise(events[warm:])]
    median = torch.tensor(times, device="cuda").median()
    distributed.all_reduce(median, op=distributed.ReduceOp.MAX)
    return median.item()


def measured(layer, x, grad, repeats):
    """Return milliseconds of the forward pass and of both, and the outputs."""

    def both():
        y = layer(x)
        torch.autograd.backward([y, auxiliary_loss(layer)], [grad, None])
        x.grad = None
        for param in layer.parameters():
            param.grad = None

    def forward():
        with torch.no_grad():
            return layer(x)

    times = milliseconds(forward, repeats), milliseconds(both, repeats)
    return *times, forward(), auxiliary_loss(layer).item()


def rows_of(n_experts, options):
    """Return the rows of the table for a number of experts."""
    generator = torch.Generator("cuda").manual_seed(1 + distributed.get_rank())
    shape = options.tokens, WIDTH
    x = torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator)
    grad = torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator)
    x.requires_grad_()
    alone_forward, alone, wanted, loss = measured(
        made(n_experts), x, grad, options.repeats
    )
    table = []
    for n_parts in options.parts:
        layer = shard_experts(made(n_experts), n_parts=n_parts)
        assert isinstance(layer.experts, ExpertParallel)
        shared_forward, shared, got, global_loss = measured(
            layer, x, grad, options.repeats
        )
        table.append(
            {
                "n_experts": n_experts,
                "n_parts": len(layer.experts.parts),
                "alone_forward": alone_forward,
                "shared_forward": shared_forward,
                "alone": alone,
                "shared": shared,
                "forward_ratio": alone_forward / shared_forward,
                "ratio": alone / shared,
                "difference": (got - wanted).abs().max().item(),
                "loss_difference": abs(global_loss - loss),
            }
        )
    return table


def worker(rank, n_processes, folder, options):
    torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=n_processes,
        device_id=torch.device("cuda", rank),
    )
    table = [row for n in options.experts for row in rows_of(n, options)]
    if rank == 0:
        torch.save(table, f"{folder}/table.pt")
    distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--parts", type=int, nargs="+", default=[None])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    n_processes = torch.cuda.device_count()
    if n_processes < 2:
        sys.exit(f"at least 2 GPUs are needed, got {n_processes}")
    with tempfile.TemporaryDirectory() as folder:
        progress(f"{n_processes} processes")
        torch.multiprocessing.spawn(worker, (n_processes, folder, options), n_processes)
        table = torch.load(f"{folder}/table.pt")
    device = torch.cuda.get_device_name()
    title = f"{options.tokens:,} tokens a GPU, {n_processes} x {device}"
    print_table(table, COLUMNS, title)
    write_json(options.json, {"device": device, "n": n_processes, "rows": table})
    targets = Targets()
    for row in table:
        name = f"{row['n_experts']} experts in {row['n_parts']} parts: rate alone"
        wanted = f"at least {WANTED:g}"
        targets.check(name, row["ratio"], row["ratio"] >= WANTED, wanted)
    targets.exit()


if __name__ == "__main__":
    main()
