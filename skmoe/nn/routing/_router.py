"""What routers share: arguments, logits in full precision, choices, places, losses."""

import math
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import not_negative, one_of, positive
from skmoe.nn.parallel._exchange import summed
from skmoe.nn.routing._overflow import to_next_expert
from skmoe.nn.routing._router_losses import FORMULAS
from skmoe.nn.routing._routing_plan import RoutingPlan
from skmoe.nn.routing._wide_product import wide_product

__all__ = [
    "Places",
    "Router",
    "checked_capacity",
    "checked_top_k",
    "flat_rows",
    "runs_again",
    "sparse_gates",
]


class Router(nn.Module):
    """A linear map from rows to logits of experts, in float32 at least.

    A subclass turns logits into a plan in ``forward``. Rows may have any leading
    shape.

    Parameters
    ----------
    n_inputs, n_experts : int
    losses : mapping of str to float or None
        Losses that travel with the plan, and their weights: see the subclass.
    known : collection of str
        Losses that the subclass can make.
    """

    # What to draw from; None: torch's global generator, the only one that
    # `torch.compile` can trace.
    generator: torch.Generator | None = None
    # Processes whose rows count as one batch for losses and running totals; a mesh,
    # which is given by `shard_experts`. None: this one alone.
    mesh: Any = None

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        losses: Mapping[str, float] | None,
        known: Any = tuple(FORMULAS),
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.n_inputs = positive(name, "n_inputs", n_inputs)
        self.n_experts = positive(name, "n_experts", n_experts)
        self.loss_weights = _loss_weights(name, losses, known)
        # Small, so that no expert is preferred before something is learned: Fedus
        # et al. (2021), section 2.4, scale the usual start down by ten.
        weight = torch.randn(n_experts, n_inputs) * math.sqrt(0.1 / n_inputs)
        self.weight = nn.Parameter(weight)

    def rows(self, x: Tensor) -> Tensor:
        """Return rows of shape (n_rows, n_inputs).

        Raises
        ------
        ValueError
            If x has another number of columns.
        """
        return flat_rows(type(self).__name__, x, self.n_inputs)

    def logits(self, rows: Tensor) -> Tensor:
        """Return logits of shape (n_rows, n_experts), in float32 or float64.

        In bfloat16 the logits of two experts often tie, and training may diverge:
        Fedus et al. (2021), section 2.4; so autocast does not reach them either.
        """
        return wide_product(rows, self.weight)

    def losses(
        self,
        plan: RoutingPlan,
        gates: Tensor | None = None,
        probabilities: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what is added to the loss, while the router trains.

        Parameters
        ----------
        plan : RoutingPlan
            With its logits.
        gates : tensor of shape (n_rows, n_experts) or None
            What the experts' outputs are multiplied by; None to take them from the
            plan.
        probabilities : tensor of shape (n_rows, n_experts) or None
            None for the softmax of the plan's logits. Or one row, their mean.
        logits : tensor of shape (n_rows, n_experts) or None
            None for those of the plan.
        """
        if not (self.training and (plan.n_rows or self.mesh is not None)):
            return {}
        logits = plan.logits if logits is None else logits
        assert logits is not None
        if probabilities is None:
            probabilities = logits.softmax(dim=1)
        if gates is None and "importance" in self.loss_weights:
            gates = sparse_gates(plan)
        gates = probabilities if gates is None else gates
        batch = gates, probabilities, logits, plan.load
        weights = {n: w for n, w in self.loss_weights.items() if n in FORMULAS}
        if weights and self.mesh is not None:
            batch = batch_of_processes(weights, *batch[:3], plan, self.mesh)
        return {name: w * FORMULAS[name](*batch) for name, w in weights.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Router":
        """Move or convert all tensors, but keep running sums in float32 at least.

        In bfloat16 small steps would be lost.
        """
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self.named_buffers(recurse=False):
            wide = torch.promote_types(buffer.dtype, torch.float32)
            if buffer.dtype != wide:  # the digits that were lost are still there
                setattr(self, name, before[name].to(buffer.device, wide))
        return self

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        text = f"n_inputs={self.n_inputs}, n_experts={self.n_experts}"
        return f"{text}, losses={self.loss_weights}" if self.loss_weights else text


def flat_rows(owner: str, x: Tensor, n_inputs: int) -> Tensor:
    """Return rows of shape (n_rows, n_inputs), whatever the leading shape of x.

    Raises
    ------
    ValueError
        If there is none, or x has another number of columns.
    """
    if x.ndim < 2 or x.shape[-1] != n_inputs:
        raise ValueError(
            f"{owner} routes rows of {n_inputs} numbers, got a tensor of shape "
            f"{tuple(x.shape)}: n_inputs must be the length of its last axis."
        )
    return x.reshape(-1, n_inputs)


def batch_of_processes(
    names: Collection[str],
    gates: Tensor,
    probabilities: Tensor,
    logits: Tensor,
    plan: RoutingPlan,
    mesh: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return one row that has the losses of the rows of all processes of a mesh.

    `FORMULAS` take sums of gates and load, and means of probabilities and of squares
    of the logits' logsumexp; what the named ones do not take is left as it is.
    """
    sums = [probabilities.sum(dim=0), plan.load]
    if "importance" in names:
        sums.append(gates.sum(dim=0))
    if "z" in names:
        sums.append(logits.logsumexp(dim=1).square().sum()[None])
    flat = torch.cat([each.to(logits.dtype) for each in sums])
    totals = list(torch.split(summed(flat, mesh), [len(each) for each in sums]))
    load = totals[1]
    n_rows = (load.sum() / plan.index.shape[1]).clamp(min=1)
    if "z" in names:
        # The logsumexp of a single logit is that logit.
        logits = (totals.pop() / n_rows).clamp(min=1e-30).sqrt()[None]
    if "importance" in names:
        gates = totals.pop()[None]
    return gates, totals[0][None] / n_rows, logits, load


def sparse_gates(plan: RoutingPlan) -> Tensor:
    """Return what outputs are multiplied by, (n_rows, n_experts), 0 if not chosen."""
    zeros = plan.weight.new_zeros(plan.n_rows, plan.n_experts)
    return zeros.scatter(1, plan.index, plan.weight)


def runs_again() -> bool:
    """Tell whether this is a pass that `torch.utils.checkpoint` repeats.

    It does so inside of the backward pass. Such a pass must route rows as the first one
    did, and count no batch twice.
    """
    # The graph that autograd is at work on, if any; `checkpoint` itself asks for it.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class Places:
    """How many rows an expert takes, who goes first, and where the others go.

    Parameters
    ----------
    owner : str
        Whose arguments they are, for messages.
    n_experts, top_k : int
    capacity_factor : float or None
        Places of an expert over the choices that it would get if all got alike;
        None: as many as are wanted.
    overflow : {"drop", "next"}
        What becomes of a choice without a place: nothing, or the row's next best
        expert that has one.
    priority : {"arrival", "gate"}
        Rows are served as they come, or the surest ones first.
    """

    def __init__(
        self,
        owner: str,
        n_experts: int,
        top_k: int,
        capacity_factor: float | None,
        overflow: str = "drop",
        priority: str = "arrival",
    ) -> None:
        self.n_experts, self.top_k = n_experts, checked_top_k(owner, top_k, n_experts)
        self.factor = checked_capacity(owner, capacity_factor, n_experts)
        self.overflow = one_of(owner, "overflow", overflow, ("drop", "next"))
        self.priority = one_of(owner, "priority", priority, ("arrival", "gate"))

    def capacity(self, n_rows: int) -> int | None:
        """Return how many choices an expert takes of a batch."""
        if self.factor is None:
            return None
        even = n_rows * self.top_k / self.n_experts
        return max(1, math.ceil(self.factor * even - 1e-9))

    @property
    def serves_as_they_come(self) -> bool:
        """Whether places need no order of the rows, and move no choice."""
        return self.factor is None or (
            self.priority == "arrival" and self.overflow == "drop"
        )

    def order(self, gates: Callable[[], Tensor]) -> Tensor | None:
        """Return the order in which rows are served, by their largest gate.

        Riquelme, C. et al. (2021). Scaling vision with sparse mixture of experts.
        NeurIPS, section 4 (batch prioritised routing).

        Parameters
        ----------
        gates : callable
            Returns gates of shape (n_rows, any); called where they are needed.
        """
        if self.factor is None or self.priority == "arrival":
            return None
        best = gates().detach().amax(dim=1)
        return best.sort(descending=True, stable=True).indices

    def moved(
        self, index: Tensor, scores: Tensor, order: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return choices in which those without a place go to the next best expert.

        Parameters
        ----------
        index : tensor of int64 of shape (n_rows, k)
        scores : tensor of shape (n_rows, n_experts)
            Larger is better.
        order : tensor of shape (n_rows,) or None

        Returns
        -------
        index : tensor of int64 of shape (n_rows, k)
        load : tensor of int32 of shape (n_experts,) or None
            Choices of each expert before, by which experts are balanced; None if no
            choice may move.
        """
        if self.factor is None or self.overflow == "drop":
            return index, None
        capacity = self.capacity(index.shape[0])
        assert capacity is not None
        moved: tuple[Tensor, Tensor]
        moved = to_next_expert(index, scores.detach(), capacity, order)
        return moved


def checked_top_k(owner: str, top_k: Any, n_experts: int) -> int:
    """Return top_k.

    Raises
    ------
    ValueError
        If it is no integer from 1 to n_experts.
    """
    if (
        not isinstance(top_k, Integral)
        or isinstance(top_k, bool)
        or not 1 <= int(top_k) <= n_experts
    ):
        raise ValueError(
            f"{owner}: top_k must be an integer from 1 to n_experts={n_experts}, got "
            f"{top_k!r}."
        )
    return int(top_k)


def checked_capacity(owner: str, factor: Any, n_experts: int) -> float | None:
    """Return a capacity factor.

    Raises
    ------
    ValueError
        If it is no finite number of at least ``1 / n_experts``.
    """
    if factor is None:
        return None
    number = float(factor) if isinstance(factor, Real) else math.nan
    if not 1 / n_experts <= number < math.inf:
        raise ValueError(
            f"{owner}: capacity_factor must be at least 1 / n_experts = "
            f"{1 / n_experts:.4g}, or None for as many places as are wanted, got "
            f"{factor!r}: with less all experts together would take fewer choices "
            "than one expert's even share."
        )
    return number


def _loss_weights(
    owner: str, losses: Mapping[str, float] | None, known: Any
) -> dict[str, float]:
    """Return the weights of losses, without those of weight 0.

    Raises
    ------
    ValueError
        If it is no mapping, or one is not known or no finite number of at least 0.
    """
    if not isinstance(losses, Mapping | None):
        raise ValueError(
            f"{owner}: losses must map names to weights, such as {{'z': 0.001}}, got "
            f"{losses!r}."
        )
    weights = {}
    for name, weight in (losses or {}).items():
        one_of(owner, "losses", name, known)
        number = not_negative(owner, f"the weight of the loss {name!r}", weight)
        if number:
            weights[name] = number
    return weights
