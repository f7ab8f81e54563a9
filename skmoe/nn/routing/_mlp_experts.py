"""Experts that are perceptrons of one shape, as grouped matrix products."""

import math

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import one_of, positive
from skmoe.nn.routing._activation import ACTIVATIONS, GATED, activated
from skmoe.nn.routing._fused_mlp import ACTIVATIONS as FUSED
from skmoe.nn.routing._fused_mlp import fused_mlp, worth_fusing
from skmoe.nn.routing._grouped import (
    check_linear,
    grouped_hidden,
    grouped_linear,
    in_autocast,
    places,
    with_kernels,
)
from skmoe.nn.routing._routing_plan import RoutingPlan

__all__ = ["MLPExperts"]


class MLPExperts(nn.Module):
    """Perceptrons of one hidden layer, each of the rows that a router sends it.

    Expert e turns a row x into ``act(x w1[e] + b1[e]) w2[e] + b2[e]``. In bfloat16 on a
    recent GPU all experts are one matrix product a layer and nothing waits for the
    host; elsewhere there is one product for each expert. Float32 that torch may round
    to tf32 is like bfloat16 but for the gradients of weights.

    Parameters
    ----------
    n_experts, n_inputs, n_hidden : int
    n_outputs : int, default=None
        None: as many as inputs.
    activation : {"gelu", "relu", "silu", "tanh", "swiglu", "geglu"}
        The gated ones ("swiglu", "geglu") have two maps to the hidden layer, and
        multiply the activation of the first by the second.
    bias : bool

    Attributes
    ----------
    w1 : parameter of shape (n_experts, n_inputs, n_hidden, or twice where gated)
    b1 : parameter of shape (n_experts, n_hidden, or twice where gated), or None
    w2 : parameter of shape (n_experts, n_hidden, n_outputs)
    b2 : parameter of shape (n_experts, n_outputs), or None

    Raises
    ------
    ValueError
        If a number is no integer of at least 1, or the activation is not known.
    """

    def __init__(
        self,
        n_experts: int,
        n_inputs: int,
        n_hidden: int,
        n_outputs: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        n_outputs = n_inputs if n_outputs is None else n_outputs
        self.n_experts = positive("MLPExperts", "n_experts", n_experts)
        self.n_inputs = positive("MLPExperts", "n_inputs", n_inputs)
        self.n_hidden = positive("MLPExperts", "n_hidden", n_hidden)
        self.n_outputs = positive("MLPExperts", "n_outputs", n_outputs)
        self.activation = one_of("MLPExperts", "activation", activation, ACTIVATIONS)
        first = self.n_hidden * (2 if activation in GATED else 1)
        self.w1 = nn.Parameter(torch.empty(self.n_experts, self.n_inputs, first))
        self.w2 = nn.Parameter(
            torch.empty(self.n_experts, self.n_hidden, self.n_outputs)
        )
        self.b1 = self.b2 = None
        if bias:
            self.b1 = nn.Parameter(torch.empty(self.n_experts, first))
            self.b2 = nn.Parameter(torch.empty(self.n_experts, self.n_outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, from the law that `torch.nn.Linear` draws from."""
        for weight, bias in ((self.w1, self.b1), (self.w2, self.b2)):
            bound = 1.0 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound)

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return what each row's expert makes of it.

        Parameters
        ----------
        rows : tensor of shape (n_slots, n_inputs)
            Sorted by expert.
        offsets : tensor of int32 of shape (n_experts,)
            Where each expert's rows end.

        Returns
        -------
        out : tensor of shape (n_slots, n_outputs)
            In autocast's type under `torch.autocast`. Rows behind the last offset are
            not read, and what is there in `out` means nothing.

        Raises
        ------
        ValueError
            If shapes or types do not fit.
        """
        if rows.ndim != 2 or rows.shape[1] != self.n_inputs:
            raise ValueError(
                f"MLPExperts: expected rows of shape (n_slots, {self.n_inputs}), got "
                f"{tuple(rows.shape)}: n_inputs must be the width of the rows."
            )
        rows, w1, w2 = in_autocast(rows, self.w1, self.w2)
        ends = places(rows, offsets, w1, w2)
        return grouped_linear(self._hidden(rows, w1, offsets, ends), w2, ends, self.b2)

    def _hidden(
        self, rows: Tensor, w1: Tensor, offsets: Tensor, ends: Tensor
    ) -> Tensor:
        kernels = with_kernels(rows)
        if kernels and not torch.is_grad_enabled() and self.activation not in GATED:
            check_linear(rows, w1, ends, self.b1)
            h: Tensor = grouped_hidden(rows, w1, self.b1, ends, self.activation)
            return h
        # A kernel adds the bias where it reads the rows for the activation.
        h = grouped_linear(rows, w1, ends, None if kernels else self.b1)
        return activated(h, self.b1 if kernels else None, offsets, self.activation)

    def fuses(self, x: Tensor, plan: RoutingPlan) -> bool:
        """Tell whether `fused` is faster than rows that are put in order first.

        So it is for narrow float32 experts on a GPU. `fused` passes by `forward` and
        hooks, such as those of ``fully_shard``.
        """
        if type(self).forward is not MLPExperts.forward:
            return False
        if self._forward_pre_hooks or self._forward_hooks or self._backward_hooks:
            return False
        shape = self.n_inputs, self.n_hidden, self.n_outputs, self.n_experts
        return (
            with_kernels(x)
            and x.shape[-1] == self.n_inputs
            and x.dtype == self.w1.dtype
            and not torch.is_autocast_enabled("cuda")
            and self.activation in FUSED
            and plan.source.shape[0] == plan.index.numel()
            and worth_fusing(*shape, x.dtype, torch.is_grad_enabled())
        )

    def fused(self, x: Tensor, plan: RoutingPlan) -> Tensor:
        """Return the outputs of a plan, of shape (n_rows, n_outputs), in one operation.

        Parameters
        ----------
        x : tensor of shape (..., n_inputs)
        plan : RoutingPlan
        """
        rows, k = x.reshape(-1, self.n_inputs), plan.index.shape[1]
        weights = self.w1, self.b1, self.w2, self.b2
        out: Tensor = fused_mlp(
            rows,
            plan.source,
            k,
            plan.offsets,
            *weights,
            self.activation,
            plan.may_drop,
        )
        weight = plan.weight.to(out.dtype)
        if k == 1:
            return out[:, 0] * weight
        return (out * weight[:, :, None]).sum(dim=1)

    def extra_repr(self) -> str:
        """Say what the experts are."""
        return (
            f"n_experts={self.n_experts}, n_inputs={self.n_inputs}, "
            f"n_hidden={self.n_hidden}, n_outputs={self.n_outputs}, "
            f"activation={self.activation!r}, bias={self.b1 is not None}"
        )
