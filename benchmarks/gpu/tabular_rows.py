"""Mixture layers on many narrow rows: fused kernels beside the forms of eager torch.

    python benchmarks/gpu/tabular_rows.py [--n 1000000] [--quick] [--json PATH]

Rows of 20 or 200 columns, 4 to 64 experts of two layers (32 or 256 hidden units, GELU,
8 outputs), top-1, float32. Times are those of the whole layer: logits of a linear
router, choice and weight, sort, experts, weighted output; a step is the forward pass
and the gradients of rows, router and experts. Ours: `routed`, `sorted_slots` and
`fused_mlp` of `skmoe.nn`. Eager torch: a loop over experts; products over the split of
the sorted rows; `grouped_mm` over them; one batched product over padded rows (the
largest load is the capacity). Their router takes the largest of the softmax by ``max``,
and sorts bytes: the fast forms. Each time is the median over calls in a row, by events
of the device.

"ieee" rounds products as float32, "tf32" as torch does where it is allowed to.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.nn.kernels._route_kernel import routed
from skmoe.nn.routing._fused_mlp import fused_mlp, worth_fusing
from skmoe.nn.routing._slots import sorted_slots

N_OUTPUTS = 8
CASES = [(d, h, e) for d in (20, 200) for h in (32, 256) for e in (4, 16, 64)]
STATED = (20, 32, 64)
FORWARD_MS, STEP_MS = 1.0, 4.15
COLUMNS = [
    ("d", "columns", "d"),
    ("hidden", "hidden", "d"),
    ("experts", "experts", "d"),
    ("products", "products", ""),
    ("forward_ms", "forward ms", ".2f"),
    ("eager_forward_ms", "eager ms", ".2f"),
    ("eager_forward", "form", ""),
    ("forward_times", "times", ".1f"),
    ("step_ms", "step ms", ".2f"),
    ("eager_step_ms", "eager ms", ".2f"),
    ("eager_step", "form", ""),
    ("step_times", "times", ".1f"),
    ("fixed_rows_ms", "no row gradient", ".2f"),
    ("peak_gb", "step GB", ".2f"),
    ("eager_gb", "eager GB", ".2f"),
    ("error", "error", ".0e"),
    ("worth", "fused in training", ""),
]


def ours(x, router, w1, b1, w2, b2):
    weight, index, _, _ = routed(x @ router, 1, "softmax")
    slots = sorted_slots(index, len(w1))
    rest = w1, b1, w2, b2, "gelu", False
    out = fused_mlp(x, slots.source, 1, slots.offsets, *rest)
    return out[:, 0] * weight


def eager_routes(x, router):
    weight, index = (x @ router).softmax(1).max(1)
    return weight, index


def sorted_rows(index, n_experts):
    """Return the experts of the sorted rows, their order, and its inverse."""
    experts, order = index.to(torch.uint8).sort(stable=True)
    back = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device)
    )
    each = torch.arange(n_experts, device=order.device)
    ends = torch.searchsorted(experts.long(), each, right=True)
    return experts.long(), order, back, ends


def loop(x, router, w1, b1, w2, b2):
    weight, index = eager_routes(x, router)
    out = x.new_zeros(len(x), w2.shape[2])
    parts = zip(w1.unbind(0), b1.unbind(0), w2.unbind(0), b2.unbind(0), strict=True)
    for e, (u, c, v, d) in enumerate(parts):
        rows = (index == e).nonzero()[:, 0]
        part = functional.gelu(torch.addmm(c, x[rows], u))
        out = out.index_copy(0, rows, torch.addmm(d, part, v))
    return out * weight[:, None]


def split(x, router, w1, b1, w2, b2):
    weight, index = eager_routes(x, router)
    _, order, back, ends = sorted_rows(index, len(w1))
    sizes = ends.diff(prepend=ends.new_zeros(1)).tolist()
    parts = zip(
        x[order].split(sizes), w1.unbind(0), b1.unbind(0), w2.unbind(0), b2.unbind(0),
        strict=True,
    )  # fmt: skip
    out = [
        torch.addmm(d, functional.gelu(torch.addmm(c, rows, u)), v)
        for rows, u, c, v, d in parts
    ]
    return torch.cat(out)[back] * weight[:, None]


def grouped(x, router, w1, b1, w2, b2):
    weight, index = eager_routes(x, router)
    experts, order, back, ends = sorted_rows(index, len(w1))
    ends = ends.int()
    part = functional.grouped_mm(x[order], w1, offs=ends) + b1[experts]
    out = functional.grouped_mm(functional.gelu(part), w2, offs=ends) + b2[experts]
    return out[back] * weight[:, None]


def padded(x, router, w1, b1, w2, b2):
    weight, index = eager_routes(x, router)
    experts, order, _, ends = sorted_rows(index, len(w1))
    begin = ends - ends.diff(prepend=ends.new_zeros(1))
    room = int((ends - begin).max())
    rank = torch.arange(len(x), device=x.device) - begin[experts]
    place = torch.empty_like(order).scatter_(0, order, experts * room + rank)
    rows = x.new_zeros(len(w1) * room, x.shape[1]).index_copy(0, place, x)
    rows = rows.view(len(w1), room, -1)
    part = functional.gelu(torch.baddbmm(b1[:, None], rows, w1))
    out = torch.baddbmm(b2[:, None], part, w2).flatten(0, 1)
    return out[place] * weight[:, None]


EAGER = {"loop": loop, "split": split, "grouped_mm": grouped, "padded": padded}


def drawn(n, d, hidden, n_experts):
    """Return rows, and the weights of a router and of experts."""
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, device="cuda")

    return [
        normal(n, d),
        normal(d, n_experts, scale=d**-0.5),
        normal(n_experts, d, hidden, scale=d**-0.5),
        normal(n_experts, hidden, scale=0.1),
        normal(n_experts, hidden, N_OUTPUTS, scale=hidden**-0.5),
        normal(n_experts, N_OUTPUTS, scale=0.1),
    ]


def milliseconds(function, repeats):
    """Return the median time of a call on the device, and the largest memory in GB."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        function()
        mark.record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in pairwise(marks)]
    return float(np.median(times)), torch.cuda.max_memory_allocated() / 1e9


def forward_of(layer, args):
    def forward():
        with torch.no_grad():
            return layer(*args)

    return forward


def step_of(layer, args, fixed_rows=False):
    grad = torch.randn(len(args[0]), N_OUTPUTS, device="cuda")
    leaves = [part.detach().requires_grad_() for part in args]
    leaves[0].requires_grad_(not fixed_rows)
    wanted = leaves[1:] if fixed_rows else leaves
    return lambda: torch.autograd.grad(layer(*leaves), wanted, grad)


def largest_error(x, router, *weights):
    """Return how far the experts' outputs and gradients are from those in float64."""
    x = x[:20_000]
    index = (x @ router).argmax(1)[:, None]
    slots = sorted_slots(index, len(weights[0]))
    grad = torch.randn(len(x), 1, N_OUTPUTS, device="cuda", dtype=torch.float64)

    def parts(dtype):
        leaves = [part.to(dtype).requires_grad_() for part in (x, *weights)]
        rest = slots.offsets, *leaves[1:], "gelu", False
        out = fused_mlp(leaves[0], slots.source, 1, *rest)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))]

    pairs = zip(parts(torch.float32), parts(torch.float64), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def measured(n, d, hidden, n_experts, products, repeats):
    args = drawn(n, d, hidden, n_experts)
    row = {"d": d, "hidden": hidden, "experts": n_experts, "products": products}
    row["worth"] = worth_fusing(d, hidden, N_OUTPUTS, n_experts, torch.float32)
    row["forward_ms"], _ = milliseconds(forward_of(ours, args), repeats)
    row["step_ms"], row["peak_gb"] = milliseconds(step_of(ours, args), repeats)
    fixed = step_of(ours, args, fixed_rows=True)
    row["fixed_rows_ms"], _ = milliseconds(fixed, repeats)
    row["error"] = largest_error(*args)
    forms, steps = {}, {}
    for name, layer in EAGER.items():
        forms[name], _ = milliseconds(forward_of(layer, args), repeats // 2)
        steps[name] = milliseconds(step_of(layer, args), repeats // 2)
    best = min(forms, key=forms.get)
    best_step = min(steps, key=steps.get)
    row |= {"eager_forward": best, "eager_forward_ms": forms[best]}
    row |= {"eager_step": best_step, "eager_step_ms": steps[best_step][0]}
    row["eager_gb"] = steps[best_step][1]
    row["forward_times"] = forms[best] / row["forward_ms"]
    row["step_times"] = row["eager_step_ms"] / row["step_ms"]
    row["all_eager_forward_ms"] = forms
    row["all_eager_step_ms"] = {name: time for name, (time, _) in steps.items()}
    return row


def checked(row, targets):
    """Hold a row to what is stated for it."""
    case = row["d"], row["hidden"], row["experts"]
    name = "{} columns, {} hidden, {} experts".format(*case)
    if case == STATED and row["products"] == "ieee":
        time = row["forward_ms"]
        wanted = f"at most {FORWARD_MS:g} ms"
        targets.check(f"forward, {name}", time, time <= FORWARD_MS, wanted)
        time, wanted = row["step_ms"], f"at most {STEP_MS:g} ms"
        targets.check(f"step, {name}", time, time <= STEP_MS, wanted)
    for what in ("forward", "step") if row["worth"] else ("forward",):
        times = row[f"{what}_times"]
        label = f"{what}, times eager, {name}, {row['products']}"
        targets.check(label, times, times >= 1.0, "at least 1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="the stated case alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table, targets = [], Targets()
    for case in [STATED] if options.quick else CASES:
        for products in ("ieee", "tf32"):
            progress(f"{case} {products}")
            torch.backends.cuda.matmul.fp32_precision = products
            row = measured(options.n, *case, products, options.repeats)
            checked(row, targets)
            table.append(row)
    device = torch.cuda.get_device_name()
    print_table(table, COLUMNS, f"top-1 layers, {options.n:,} rows, {device}")
    write_json(options.json, {"device": device, "n": options.n, "rows": table})
    targets.exit()


if __name__ == "__main__":
    main()
