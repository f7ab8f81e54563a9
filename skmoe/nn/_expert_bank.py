"""A bank of experts and the gates that mix them, as few matrix products."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._architectures import Level
from skmoe.nn._arguments import activation_named
from skmoe.nn._noise import Dropout, GateDropout

__all__ = ["BatchedLinear", "BatchedMLP", "ExpertBank"]


class BatchedLinear(nn.Module):
    """Linear maps side by side, each of rows of its own.

    Parameters
    ----------
    n_maps, n_inputs, n_outputs : int
    """

    def __init__(self, n_maps: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        bound = n_inputs**-0.5
        weight = torch.empty(n_maps, n_inputs, n_outputs).uniform_(-bound, bound)
        bias = torch.empty(n_maps, 1, n_outputs).uniform_(-bound, bound)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, X: Tensor) -> Tensor:
        """Turn (n_maps, n_rows, n_inputs) into (n_maps, n_rows, n_outputs)."""
        return torch.baddbmm(self.bias, X, self.weight)


class _Activation(nn.Module):
    """Normalisation where it is asked for, activation, dropout."""

    def __init__(self, width: int, activation: str, dropout: float, norm: bool) -> None:
        super().__init__()
        # Each expert is put on one scale, so that a gate cannot come to rely on the
        # one that is loudest: Wang, X. et al. (2024). HoME. arXiv 2408.05430,
        # section 3.1; they use batch normalisation, which makes rows depend on
        # the others of their batch.
        self.norm = (
            nn.LayerNorm(width, elementwise_affine=False) if norm else nn.Identity()
        )
        self.activation = activation_named("MMoENetwork", activation)
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.activation(self.norm(values)))
        return out


class BatchedMLP(nn.Module):
    """Perceptrons side by side, each of rows of its own.

    Parameters
    ----------
    n_maps, n_inputs : int
    widths : sequence of int
        Of the hidden layers.
    activation : str
    dropout : float
    norm : bool
        Whether layers are normalised in front of their activation.
    """

    def __init__(
        self,
        n_maps: int,
        n_inputs: int,
        widths: Sequence[int],
        activation: str,
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(BatchedLinear(n_maps, n_inputs, width))
            layers.append(_Activation(width, activation, dropout, norm))
            n_inputs = width
        self.body, self.width = nn.Sequential(*layers), n_inputs

    def forward(self, X: Tensor) -> Tensor:
        """Turn (n_maps, n_rows, n_inputs) into (n_maps, n_rows, width)."""
        out: Tensor = self.body(X)
        return out


class ExpertBank(nn.Module):
    """Experts, and gates that average their outputs.

    For gate g, ``z_g = sum_k softmax_k(x_g' W_g + b_g) f_k(x_k)``: Ma, J. et al.
    (2018). Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts. KDD, equations 6 and 7. Where all experts and gates see the
    same rows, the first layers of the experts and the gates are one matrix product.

    Parameters
    ----------
    n_inputs : int
    level : Level
        Which experts there are, what each sees, and which gates may use them. A gate
        with one expert passes it on. With several streams gate g sees stream g.
    activation : str
    dropout, gate_dropout : float
    norm : bool
    """

    open_to: Tensor

    def __init__(
        self,
        n_inputs: int,
        level: Level,
        *,
        activation: str,
        dropout: float,
        gate_dropout: float,
        norm: bool,
    ) -> None:
        super().__init__()
        open_to, hidden = level.open_to, level.hidden
        self.n_gates, self.n_experts = open_to.shape
        self.one_stream = level.n_streams == 1
        self.streams = list(level.expert_stream)
        self.register_buffer("open_to", open_to, persistent=False)
        self.all_open = bool(open_to.all())
        # Nothing to weigh: each gate passes on its one expert.
        self.fixed = bool((open_to.sum(dim=1) == 1).all())
        self.first_width = hidden[0]
        n_gate_outputs = 0 if self.fixed else self.n_gates * self.n_experts
        width = self.n_experts * hidden[0]
        if self.one_stream:
            self.joint = nn.Linear(n_inputs, width + n_gate_outputs)
        else:
            self.experts = BatchedLinear(self.n_experts, n_inputs, hidden[0])
            if not self.fixed:
                self.gates = BatchedLinear(self.n_gates, n_inputs, self.n_experts)
        # A ReLU is taken together with the split into experts and gates.
        self.cut_off = self.one_stream and activation == "relu" and not norm
        self.act = _Activation(hidden[0], activation, dropout, norm)
        self.deeper = BatchedMLP(
            self.n_experts, hidden[0], hidden[1:], activation, dropout, norm
        )
        self.gate_dropout = GateDropout(gate_dropout)
        self.width = self.deeper.width

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what each gate makes of the experts, and its weights.

        Parameters
        ----------
        X : tensor of shape (n_rows, n_streams, n_inputs)

        Returns
        -------
        pooled : tensor of shape (n_rows, n_gates, width)
        weight : tensor of shape (n_rows, n_gates, n_experts), or None
            None where each gate has one expert.
        """
        outputs, logits = self._one(X[:, 0]) if self.one_stream else self._several(X)
        outputs = self.act.dropout(outputs) if self.cut_off else self.act(outputs)
        if len(self.deeper.body):
            outputs = self.deeper(outputs.transpose(0, 1)).transpose(0, 1)
        if logits is None:
            chosen = self.open_to.to(torch.int8).argmax(dim=1)
            return outputs[:, chosen], None
        if not self.all_open:
            logits = logits.masked_fill(~self.open_to, -torch.inf)
        weight = _softmax(self.gate_dropout(logits))
        return torch.bmm(weight, outputs), weight

    def _one(self, X: Tensor) -> tuple[Tensor, Tensor | None]:
        width = self.n_experts * self.first_width
        parts = _Split.apply(  # type: ignore[no-untyped-call]
            self.joint(X), width, self.cut_off
        )
        outputs = parts[0].unflatten(1, (self.n_experts, self.first_width))
        if self.fixed:
            return outputs, None
        return outputs, parts[1].unflatten(1, (self.n_gates, self.n_experts))

    def _several(self, X: Tensor) -> tuple[Tensor, Tensor | None]:
        streams = X.transpose(0, 1)
        outputs = self.experts(streams[self.streams]).transpose(0, 1)
        if self.fixed:
            return outputs, None
        return outputs, self.gates(streams[: self.n_gates]).transpose(0, 1)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax over experts of logits (n_rows, n_gates, n_experts).

    Taken along the first axis of a copy: over a short last one it is ten times
    slower on a CPU.
    """
    return logits.permute(2, 0, 1).contiguous().softmax(dim=0).permute(1, 2, 0)


class _Split(torch.autograd.Function):
    """The first columns, cut off at zero if asked to, and the others.

    Their gradients are written side by side: that of two slices would be the sum of
    two matrices filled with zeros, and that of a ReLU behind one a pass of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, both: Tensor, width: int, cut_off: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.width, ctx.cut_off = width, cut_off
        first = both[:, :width].relu() if cut_off else both[:, :width]
        if cut_off:
            ctx.save_for_backward(first)
        return first, both[:, width:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        first, second = grads
        n_rows, width = len(first), ctx.width
        both = first.new_empty(n_rows, width + second.shape[1])
        if ctx.cut_off:
            torch.ops.aten.threshold_backward.grad_input(
                first, ctx.saved_tensors[0], 0.0, grad_input=both[:, :width]
            )
        else:
            both[:, :width] = first
        both[:, width:] = second
        return both, None, None
