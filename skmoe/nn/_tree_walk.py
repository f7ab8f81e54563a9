"""One leaf a row: the walk down a tree of linear splits, and the MLP of its leaf.

An operation of its own ("skmoe::fast_feedforward"): which leaves are read depends on
the data, so `torch.compile` cannot look inside. Called without gradients it is a plain
function. On a CUDA device with Triton the kernels of
`skmoe.nn.kernels._tree_walk_kernel` do the work, without a word to the host.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from skmoe._blocks import runs_triton

__all__ = ["ACTIVATIONS", "Tree", "gathered_leaves", "hard_leaves"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}
# Levels whose splits are scored all at once by a matrix product. Below them the
# vectors of the splits that the rows stand at are gathered: a product would score
# twice as many splits a level, a gather as many as before.
LEVELS_AT_ONCE = 7
# With so many leaves a row, rows hardly share a leaf: sorting them gains nothing.
ROWS_SHARE = 4
# Rows of a gather: their vectors stay in the cache.
ROWS_AT_ONCE = 256


class Tree(NamedTuple):
    """The weights of the splits and of the leaves.

    Attributes
    ----------
    node_weight, node_bias : tensors of shape (n_leaves - 1, n_inputs), (n_leaves - 1,)
    w1, b1 : tensors of shape (n_leaves, width, n_inputs), (n_leaves, width)
    w2, b2 : tensors of shape (n_leaves, width, n_outputs), (n_leaves, n_outputs)
    """

    node_weight: Tensor
    node_bias: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor


def hard_leaves(x: Tensor, tree: Tree, activation: str) -> tuple[Tensor, Tensor]:
    """Return what the leaf of each row makes of it, and the leaf.

    A row goes right where its score ``node_weight @ x + node_bias`` is above 0. The
    children of split i are 2 i + 1 and 2 i + 2. Gradients flow through the leaves.

    Parameters
    ----------
    x : tensor of shape (n_rows, n_inputs)
    tree : Tree
    activation : str
        A key of `ACTIVATIONS`.

    Returns
    -------
    out : tensor of shape (n_rows, n_outputs)
    leaf : tensor of int64 of shape (n_rows,)
    """
    parts = (x, *tree)
    wants_gradient = torch.is_grad_enabled() and any(p.requires_grad for p in parts)
    if torch.compiler.is_compiling() or wants_gradient:
        out, leaf = _operation(*parts, activation)
        return out, leaf
    # Past the operation's door: its overhead is that of several small products.
    return _forward(x, tree, activation)


def gathered_leaves(x: Tensor, tree: Tree, activation: str) -> tuple[Tensor, Tensor]:
    """Return the same by operations that any exported program knows.

    Weights of leaves are copied for each row, so it is slow for many rows.
    """
    node_weight, node_bias, w1, b1, w2, b2 = tree
    n_nodes = node_weight.shape[0]
    node = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    for _ in range(n_nodes.bit_length()):
        node = 2 * node + 1 + _goes_right(x, node_weight[node], node_bias[node])
    leaf = node - n_nodes
    hidden = torch.einsum("nd,nhd->nh", x, w1[leaf]) + b1[leaf]
    out = torch.einsum("nh,nho->no", ACTIVATIONS[activation](hidden), w2[leaf])
    return out + b2[leaf], leaf


def _goes_right(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    score: Tensor = torch.linalg.vecdot(x, weight) + bias
    return (score > 0).long()


@torch.library.custom_op("skmoe::fast_feedforward", mutates_args=())
def _operation(
    x: Tensor,
    node_weight: Tensor,
    node_bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor]:
    return _forward(x, Tree(node_weight, node_bias, w1, b1, w2, b2), activation)


@_operation.register_fake
def _operation_shape(
    x: Tensor,
    node_weight: Tensor,
    node_bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor]:
    out = x.new_empty(x.shape[0], w2.shape[2])
    return out, x.new_empty(x.shape[0], dtype=torch.int64)


def _forward(x: Tensor, tree: Tree, activation: str) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    if x.shape[0] and x.dtype != torch.float64 and runs_triton(x):
        from skmoe.nn.kernels._tree_walk_kernel import hard_leaves_on_cuda

        return hard_leaves_on_cuda(x, tree, activation)
    if x.device.type == "cpu" and x.shape[0] <= max(len(tree.w1) // ROWS_SHARE, 1):
        return _few_rows(x, tree, activation)
    leaf = _walk(x, tree.node_weight, tree.node_bias)
    groups = _Groups(leaf)
    hidden = groups.linear(x[groups.order], tree.w1.mT, tree.b1)
    out = x.new_empty(x.shape[0], tree.w2.shape[2])
    out[groups.order] = groups.linear(ACTIVATIONS[activation](hidden), tree.w2, tree.b2)
    return out, leaf


def _few_rows(x: Tensor, tree: Tree, activation: str) -> tuple[Tensor, Tensor]:
    """Return the same for rows that hardly share a leaf: every call of torch counts."""
    node_weight, node_bias, w1, b1, w2, b2 = tree
    if x.shape[0] == 1:
        leaf = _descent(x[0], node_weight, node_bias)
    else:
        leaf = _walk(x, node_weight, node_bias)
    hidden = b1[leaf]
    for into, row, number in zip(hidden, x, leaf.tolist(), strict=True):
        into.addmv_(w1[number], row)
    # A row's hidden units weigh rows of the second layer's one long table: a sum that
    # torch forms without a copy of them, and on all threads.
    width = w1.shape[1]
    units = width * leaf[:, None] + torch.arange(width)
    weights = ACTIVATIONS[activation](hidden)
    table = w2.flatten(0, 1)
    out = functional.embedding_bag(units, table, mode="sum", per_sample_weights=weights)
    return out.add_(b2[leaf]), leaf


def _descent(row: Tensor, node_weight: Tensor, node_bias: Tensor) -> Tensor:
    """Return the leaf of a single row, of shape (1,)."""
    n_nodes, node = node_weight.shape[0], 0
    while node < n_nodes:
        score = torch.dot(node_weight[node], row).item() + node_bias[node].item()
        node = 2 * node + 1 + (score > 0)
    return torch.tensor([node - n_nodes])


class _Groups:
    """Rows sorted by leaf, so that those of a leaf are a slice; empty leaves are none.

    Parameters
    ----------
    leaf : tensor of int64 of shape (n_rows,)
    """

    def __init__(self, leaf: Tensor) -> None:
        self.leaf, self.order = leaf.sort(stable=True)
        present, counts = torch.unique_consecutive(self.leaf, return_counts=True)
        self.present: list[int] = present.tolist()
        self.sizes: list[int] = counts.tolist()

    def slices(self, *sorted_rows: Tensor) -> Iterator[tuple[Any, ...]]:
        """Yield (leaf, slice of each tensor) for each leaf that has rows."""
        parts = [torch.split(rows, self.sizes) for rows in sorted_rows]
        yield from zip(self.present, *parts, strict=True)

    def linear(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return ``rows @ weight[leaf] + bias[leaf]`` of sorted rows."""
        out = bias[self.leaf]
        for number, part, into in self.slices(rows, out):
            into.addmm_(part, weight[number])
        return out


def _walk(x: Tensor, node_weight: Tensor, node_bias: Tensor) -> Tensor:
    """Return the leaf of each row."""
    n_nodes = node_weight.shape[0]
    n_scored = min(2**LEVELS_AT_ONCE - 1, n_nodes)
    scores = torch.addmm(node_bias[:n_scored], x, node_weight[:n_scored].T)
    node = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    for _ in range(n_scored.bit_length()):
        right = scores.gather(1, node[:, None]) > 0
        node = 2 * node + 1 + right[:, 0]
    n_left = n_nodes.bit_length() - n_scored.bit_length()
    if n_left:
        # Views of a part of the rows: the loop writes into them.
        for rows, at in zip(
            *(torch.split(p, ROWS_AT_ONCE) for p in (x, node)), strict=True
        ):
            for _ in range(n_left):
                right = _goes_right(rows, node_weight[at], node_bias[at])
                at.mul_(2).add_(1).add_(right)
    return node - n_nodes


@torch.library.custom_op("skmoe::fast_feedforward_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    leaf: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, w1, b1, w2 and b2, leaf by leaf."""
    groups = _Groups(leaf)
    x, grad = x[groups.order], grad[groups.order]
    raw = groups.linear(x, w1.mT, b1)
    hidden = ACTIVATIONS[activation](raw)
    grad_hidden = groups.linear(grad, w2.mT, torch.zeros_like(b1))
    below = _SLOPES[activation](grad_hidden, raw)
    sorted_x, grad_x = torch.zeros_like(x), torch.empty_like(x)
    grad_w1, grad_b1, grad_w2 = (torch.zeros_like(part) for part in (w1, b1, w2))
    grad_b2 = w2.new_zeros(w2.shape[0], w2.shape[2])
    for number, *parts in groups.slices(x, hidden, below, grad, sorted_x):
        part, unit, under, above, into = parts
        torch.mm(under, w1[number], out=into)
        grad_w1[number] = under.T @ part
        grad_b1[number] = under.sum(0)
        grad_w2[number] = unit.T @ above
        grad_b2[number] = above.sum(0)
    grad_x[groups.order] = sorted_x
    return grad_x, grad_w1, grad_b1, grad_w2, grad_b2


@_backward.register_fake
def _backward_shape(
    grad: Tensor,
    x: Tensor,
    leaf: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_b2 = w2.new_empty(w2.shape[0], w2.shape[2])
    empty = [torch.empty_like(part) for part in (x, w1, b1, w2)]
    return empty[0], empty[1], empty[2], empty[3], grad_b2


# Of a custom operation the inside is beyond autograd: slopes are asked for by name.
_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": lambda grad, raw: torch.ops.aten.gelu_backward(grad, raw),
    "relu": lambda grad, raw: torch.ops.aten.threshold_backward(grad, raw, 0),
    "silu": lambda grad, raw: torch.ops.aten.silu_backward(grad, raw),
    "tanh": lambda grad, raw: grad * (1.0 - raw.tanh() ** 2),
}


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, _, w1, b1, w2, _, activation = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, output[1], w1, b1, w2)
    ctx.activation = activation


def _gradients(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    found = _backward(grad.contiguous(), *ctx.saved_tensors, ctx.activation)
    grad_x, grad_w1, grad_b1, grad_w2, grad_b2 = found
    return grad_x, None, None, grad_w1, grad_b1, grad_w2, grad_b2, None


_operation.register_autograd(_gradients, setup_context=_keep)
