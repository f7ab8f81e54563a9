"""Mixtures of experts on top of one another: a row takes a path through them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skmoe.nn._arguments import check_rows, positive, positives
from skmoe.nn.routing._dense_router import DenseRouter
from skmoe.nn.routing._grouped import grouped_linear, in_autocast, places
from skmoe.nn.routing._layer_routers import make_router
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._router import sparse_gates
from skmoe.nn.routing._routing_plan import SoftPlan

__all__ = ["DeepMixture"]


class DeepMixture(nn.Module):
    """Layers of mixtures of experts, and a linear map of what the last one says.

    ``z_l = sum_e g_le(z_(l-1)) f_le(z_(l-1))`` with experts ``f = max(0, z W_e +
    b_e)`` and a gate for each layer: of 4 and 4 experts there are 16 paths, whose
    parts are shared. Eigen, D., Ranzato, M. & Sutskever, I. (2013). Learning factored
    representations in a deep mixture of experts. arXiv 1312.4314, section 3.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of a row, and of what is returned.
    n_experts : int or sequence of int, default=(4, 4)
        Experts of each layer.
    hidden : int or sequence of int, default=64
        Numbers that the experts of a layer return.
    router : str, callable, or sequence of these, default="dense"
        "dense" (the softmax of the paper), "topk", "noisy_topk", "switch",
        "expert_choice" or "soft", or a function of (n_inputs, n_experts) that returns
        a router; a sequence has one for each layer. With the last two the rows of a
        batch depend on one another, with "soft" they even mix.
    gate_hidden : int, None or sequence of these, default=50
        Hidden units in front of the router of a layer (the paper has 50 and 20);
        None: none, the router sees the row itself.
    top_k : int, default=2
        Experts of a row, where the router is "topk", "noisy_topk" or
        "expert_choice".
    margin : float or None, default=None
        With "dense" in all layers: by how many rows an expert's running total of
        weights may exceed the mean before it has to wait; else the first experts that
        learn something get all rows. `lift_margin` ends it, for the last epochs.

    Attributes
    ----------
    layers : list of MoELayer
    head : Linear

    Raises
    ------
    ValueError
        If an argument is out of range, sequences have another length than
        `n_experts`, or rows have another number of columns.

    Examples
    --------
    >>> import torch
    >>> from skmoe.nn import DeepMixture
    >>> model = DeepMixture(20, 3, n_experts=(4, 2), margin=50.0)
    >>> X = torch.randn(100, 20)
    >>> model(X).shape
    torch.Size([100, 3])
    >>> model.path_usage(X).shape
    (4, 2)
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_experts: int | Sequence[int] = (4, 4),
        hidden: int | Sequence[int] = 64,
        router: Any = "dense",
        gate_hidden: int | Sequence[int | None] | None = 50,
        top_k: int = 2,
        margin: float | None = None,
    ) -> None:
        super().__init__()
        name = "DeepMixture"
        self.n_experts = positives(name, "n_experts", n_experts)
        if not self.n_experts:
            raise ValueError(f"{name}: n_experts must have a layer, got {n_experts!r}.")
        depth = len(self.n_experts)
        widths = positives(name, "hidden", _each("hidden", hidden, depth))
        routers = _each("router", router, depth)
        if margin is not None and any(one != "dense" for one in routers):
            raise ValueError(
                f"{name}: a margin of {margin!r} needs router='dense' in all layers, "
                f"got {router!r}: other routers balance by losses."
            )
        gates = _each("gate_hidden", gate_hidden, depth)
        self.n_inputs = width = positive(name, "n_inputs", n_inputs)
        self.layers = nn.ModuleList()
        for size, n_out, chosen, units in zip(
            self.n_experts, widths, routers, gates, strict=True
        ):
            units = None if units is None else positive(name, "gate_hidden", units)
            gate = make_router(
                name, chosen, units or width, size, top_k=top_k, margin=margin
            )
            if units is not None:
                gate = HiddenGate(width, units, gate)
            self.layers.append(MoELayer(RectifiedExperts(size, width, n_out), gate))
            width = n_out
        self.head = nn.Linear(width, positive(name, "n_outputs", n_outputs))

    def forward(self, X: Tensor) -> Tensor:
        """Return raw outputs of shape (n_rows, n_outputs)."""
        check_rows("DeepMixture", X, self.n_inputs)
        for layer in self.layers:
            X = layer(X)
        raw: Tensor = self.head(X)
        return raw

    def lift_margin(self) -> None:
        """Let experts have as many rows as the gates give them, from now on.

        Section 3.3 of the paper: the margin is for the start of the training, until
        all experts have learned something; then the model is tuned without it.
        """
        for module in self.modules():
            if isinstance(module, DenseRouter):
                module.margin = None

    @torch.no_grad()
    def path_usage(self, X: Tensor, labels: Any = None) -> NDArray[np.float64]:
        """Return how much weight the rows give to each path, in evaluation.

        The weight of a path is the product of the gates on it; the weights of a row
        in a layer are taken over their sum, and are zero where it was dropped.

        Parameters
        ----------
        X : tensor of shape (n_rows, n_inputs)
        labels : array or tensor of shape (n_rows,), default=None
            What to tell rows apart by, such as their class.

        Returns
        -------
        usage : array of shape n_experts, such as (4, 4)
            Mean over the rows; it sums to one where no row was dropped. With labels
            of shape ``(n_labels, *n_experts)``: one such table for each, sorted.

        Raises
        ------
        ValueError
            If there are no rows, or not one label for each.
        """
        check_rows("DeepMixture", X, self.n_inputs)
        of_row = None if labels is None else np.asarray(labels)
        if not len(X) or (of_row is not None and of_row.shape != (len(X),)):
            shape = None if of_row is None else of_row.shape
            raise ValueError(
                "DeepMixture.path_usage needs rows and one label for each, got "
                f"{len(X)} rows and labels of shape {shape}."
            )
        usage = self._paths(X).cpu().numpy()
        if of_row is None:
            mean: NDArray[np.float64] = usage.mean(axis=0)
            return mean
        return np.array([usage[of_row == y].mean(axis=0) for y in np.unique(of_row)])

    def _paths(self, X: Tensor) -> Tensor:
        """Return the weights of the paths of each row, (n_rows, *n_experts)."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        paths = X.new_ones(len(X), 1, dtype=torch.float64)
        layer: Any
        for layer in self.layers:
            share = _shares(layer.router(X)).double()
            paths = (paths[:, :, None] * share[:, None, :]).flatten(1)
            X = layer(X)
        for module, training in modes:
            module.training = training
        return paths.reshape(-1, *self.n_experts)


class HiddenGate(nn.Module):
    """A rectified hidden layer in front of a router: equation 2 of the paper.

    Parameters
    ----------
    n_inputs, n_hidden : int
    router : module
        Of rows of n_hidden numbers.
    """

    def __init__(self, n_inputs: int, n_hidden: int, router: nn.Module) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.n_experts = router.n_experts
        self.hidden = nn.Linear(n_inputs, n_hidden)
        self.router = router

    def forward(self, x: Tensor) -> Any:
        """Return the plan of rows of shape (..., n_inputs)."""
        return self.router(self.hidden(x).relu())


class RectifiedExperts(nn.Module):
    """Experts that are one linear map and a rectification.

    Parameters
    ----------
    n_experts, n_inputs, n_outputs : int
    """

    def __init__(self, n_experts: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_experts, self.n_inputs = n_experts, n_inputs
        # The start of He et al. (2015): half of the rectified numbers are zero.
        scale = (2.0 / n_inputs) ** 0.5
        self.weight = nn.Parameter(torch.randn(n_experts, n_inputs, n_outputs) * scale)
        self.bias = nn.Parameter(torch.zeros(n_experts, n_outputs))

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return outputs of rows of shape (n_slots, n_inputs), sorted by expert."""
        rows, weight = in_autocast(rows, self.weight)
        ends = places(rows, offsets, weight)
        return grouped_linear(rows, weight, ends, self.bias).relu()


def _each(
    name: str, value: Any | Sequence[Any] | Callable[[int, int], nn.Module], depth: int
) -> list[Any]:
    """Return one value for each layer.

    Raises
    ------
    ValueError
        If there are more or fewer.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * depth
    if len(value) != depth:
        raise ValueError(
            f"DeepMixture: {name} must have one value for each of the {depth} layers "
            f"of n_experts, got {value!r}."
        )
    return list(value)


def _shares(plan: Any) -> Tensor:
    """Return the weights of experts in each row over their sum, (n_rows, n_experts)."""
    if isinstance(plan, SoftPlan):
        slots = plan.to_rows.flatten(0, 1)
        gates = slots.reshape(len(slots), plan.n_experts, -1).sum(dim=2)
    else:
        plan.weight = plan.weight.masked_fill(plan.slot < 0, 0.0)
        gates = sparse_gates(plan)
    shares: Tensor = gates / gates.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return shares
