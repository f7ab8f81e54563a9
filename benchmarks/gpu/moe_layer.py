"""A mixture layer beside a dense feed-forward layer of equal active operations.

    python benchmarks/gpu/moe_layer.py [--n 65536] [--quick] [--json PATH]

Rows of 1,024 numbers, 8 or 64 experts of 4,096 hidden units with GELU, top-1 or top-2.
The dense layer is ``Linear, GELU, Linear`` with 4,096 k hidden units: each row meets as
many weights. Ours is the whole layer: `TopKRouter` with its default loss, `MLPExperts`
with biases, `MoELayer`. A step is the forward pass in training mode and all gradients,
those of the rows and of the loss of the router included; "forward" is without
gradients. Times are medians over calls in a row, by events of the device.

bf16: weights and rows in bfloat16. tf32: float32, products as torch does them where it
is allowed to round; fp32: IEEE products.

Peers, where they are installed: moe-ops 0.1.0 (pip install moe-ops; bfloat16 alone;
linear map and its router kernel, no loss, no bias), and the block of Mixtral in
transformers (SwiGLU experts, no bias; its operations a second are compared, as a gated
layer has other widths) with its implementations "grouped_mm" and "eager".
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.nn import MLPExperts, MoELayer, TopKRouter, auxiliary_loss

D, HIDDEN = 1024, 4096
CASES = [(experts, k) for k in (1, 2) for experts in (8, 64)]
# Wanted share of the dense layer's speed: forward, step.
PARTS = ("forward", "step")
WANTED = {"bf16": (0.80, 0.85), "tf32": (0.75, 0.75), "fp32": (0.90, 0.90)}
COLUMNS = [
    ("precision", "precision", ""),
    ("experts", "experts", "d"),
    ("k", "k", "d"),
    ("layer", "layer", ""),
    ("forward_ms", "forward ms", ".3f"),
    ("step_ms", "step ms", ".3f"),
    ("forward_tflops", "TFLOP/s", ".0f"),
    ("step_tflops", "TFLOP/s", ".0f"),
    ("forward_share", "forward / dense", ".1%"),
    ("step_share", "step / dense", ".1%"),
    ("peak_gb", "step GB", ".2f"),
]


class MoEOps(nn.Module):
    """The layer as the README of moe-ops builds it."""

    def __init__(self, n_experts, k):
        super().__init__()
        self.k, self.n_experts = k, n_experts
        self.router = nn.Linear(D, n_experts, bias=False)
        self.up = nn.Parameter(torch.randn(n_experts, HIDDEN, D) / D**0.5)
        self.down = nn.Parameter(torch.randn(n_experts, D, HIDDEN) / HIDDEN**0.5)

    def forward(self, x):
        import moe_ops

        weight, index = moe_ops.fused_topk_softmax(self.router(x), K=self.k)
        rows, places, ends = moe_ops.permute(x, index.to(torch.int32), E=self.n_experts)
        h = functional.gelu(moe_ops.grouped_gemm(rows, self.up, ends, trans_b=True))
        out = moe_ops.grouped_gemm(h, self.down, ends, trans_b=True)
        return moe_ops.unpermute(
            out, places, weight, num_tokens=len(x), num_topK=self.k
        )


class Mixtral(nn.Module):
    """Mixtral's block, of about as many operations as ours."""

    # Three maps in place of two, and a multiple of 128.
    hidden = 2688

    def __init__(self, n_experts, k, implementation):
        super().__init__()
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        config = MixtralConfig(
            hidden_size=D,
            intermediate_size=self.hidden,
            num_local_experts=n_experts,
            num_experts_per_tok=k,
        )
        config._experts_implementation = implementation
        self.block = MixtralSparseMoeBlock(config)
        for weight in self.block.parameters():
            nn.init.normal_(weight, std=0.02)

    def forward(self, x):
        out = self.block(x[None])
        return (out[0] if isinstance(out, tuple) else out).reshape(x.shape)


def dense(n_experts, k):
    return nn.Sequential(nn.Linear(D, HIDDEN * k), nn.GELU(), nn.Linear(HIDDEN * k, D))


def ours(n_experts, k):
    router = TopKRouter(D, n_experts, k, renormalize=k > 1)
    return MoELayer(MLPExperts(n_experts, D, HIDDEN), router)


def milliseconds(function, repeats, warm=3):
    """Return the median time between events round each of several calls in a row."""
    for _ in range(warm):
        function()
    events = [
        [torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)
    ]
    torch.cuda.synchronize()
    for begin, end in events:
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events]))


def measured(layer, x, grad, operations, repeats):
    """Return times of a layer, operations a second, and peak memory of a step."""
    rows = x.clone().requires_grad_()

    def forward():
        with torch.no_grad():
            layer(x)

    def step():
        layer.zero_grad(set_to_none=True)
        rows.grad = None
        out = layer(rows)
        loss = auxiliary_loss(layer)
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            torch.autograd.backward([out, loss], [grad, None])
        else:
            out.backward(grad)

    layer.eval()
    forward_ms = milliseconds(forward, repeats)
    layer.train()
    torch.cuda.reset_peak_memory_stats()
    step_ms = milliseconds(step, repeats)
    return {
        "forward_ms": forward_ms,
        "step_ms": step_ms,
        "forward_tflops": operations / forward_ms / 1e9,
        "step_tflops": 3 * operations / step_ms / 1e9,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def layers(precision, n_experts, k, n):
    """Yield names, builders, and operations of a forward pass over n rows."""
    operations = 4 * n * k * D * HIDDEN
    yield "dense", lambda: dense(n_experts, k), operations
    yield "skmoe", lambda: ours(n_experts, k), operations
    if precision == "bf16":
        yield "moe-ops", lambda: MoEOps(n_experts, k), operations
    if precision == "bf16" or k == 2:
        gated = 6 * n * k * D * Mixtral.hidden
        for kind in ("grouped_mm", "eager"):
            name = f"Mixtral {kind}"
            yield name, lambda kind=kind: Mixtral(n_experts, k, kind), gated


def case(precision, n_experts, k, options):
    """Return the rows of the table for one case."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    x = torch.randn(options.n, D, device="cuda", dtype=dtype)
    grad, table = torch.randn_like(x), []
    repeats = {"bf16": 20, "tf32": 10, "fp32": 4}[precision]
    for name, build, operations in layers(precision, n_experts, k, options.n):
        if options.quick and name not in ("dense", "skmoe"):
            continue
        row = {"precision": precision, "experts": n_experts, "k": k, "layer": name}
        try:
            layer = build().to("cuda", dtype)
            row |= measured(layer, x, grad, operations, repeats)
        except (ImportError, RuntimeError, AttributeError, TypeError) as error:
            if name in ("dense", "skmoe"):
                raise
            progress(f"{name} is left out: {error!r:.200}")
            continue
        first = table[0] if table else row
        for part in PARTS:
            rate = f"{part}_tflops"
            row[f"{part}_share"] = row[rate] / first[rate]
        table.append(row)
        del layer
        torch.cuda.empty_cache()
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=65536)
    parser.add_argument("--precision", nargs="+", default=list(WANTED))
    parser.add_argument("--quick", action="store_true", help="without peers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device, table, targets = torch.cuda.get_device_name(), [], Targets()
    for precision in options.precision:
        for n_experts, k in CASES:
            progress(f"{precision}, {n_experts} experts, k={k}")
            rows = case(precision, n_experts, k, options)
            table += rows
            name = f"{precision}, {n_experts} experts, k={k}"
            for part, wanted in zip(PARTS, WANTED[precision], strict=True):
                share = rows[1][f"{part}_share"]
                ok = share >= wanted
                targets.check(
                    f"{part} / dense, {name}", share, ok, f"at least {wanted:.0%}"
                )
            # After each case: a run that is cut off keeps what it has.
            print_table(rows, COLUMNS, f"{name}, {options.n:,} rows, {device}")
            write_json(options.json, {"device": device, "rows": table})
    targets.exit()


if __name__ == "__main__":
    main()
