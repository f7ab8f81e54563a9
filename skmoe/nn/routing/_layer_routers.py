"""Routers of hidden layers by name, whose places are shares of the choices."""

from collections.abc import Callable
from typing import Any

from torch import nn

from skmoe.nn._arguments import one_of
from skmoe.nn.routing._expert_choice import ExpertChoiceRouter
from skmoe.nn.routing._named_routers import KINDS
from skmoe.nn.routing._router import checked_capacity, checked_top_k

__all__ = ["NAMES", "make_router", "set_places"]

NAMES = ("topk", "noisy_topk", "switch", "expert_choice", "soft", "dense")


def make_router(
    owner: str,
    router: str | Callable[[int, int], nn.Module],
    n_inputs: int,
    n_experts: int,
    *,
    top_k: int = 2,
    capacity_factor: float | None = None,
    priority: str = "arrival",
    margin: float | None = None,
) -> nn.Module:
    """Return a new router.

    Parameters
    ----------
    owner : str
        Whose arguments these are, for messages.
    router : str or callable
        One of `NAMES`, or a function of (n_inputs, n_experts) that returns a router.
    n_inputs, n_experts : int
    top_k : int
        Experts of a row; of "switch" one, of "expert_choice" the mean.
    capacity_factor : float or None
        Places of an expert over an even share of ``top_k`` choices a row.
    priority : {"arrival", "gate"}
        Who is served first, for "topk", "noisy_topk" and "switch".
    margin : float or None
        Of "dense".

    Raises
    ------
    ValueError
        If the name is not known, a module is given, or an argument is out of range.
    """
    if isinstance(router, nn.Module):
        raise ValueError(
            f"{owner}: each layer needs a router of its own: give router a name or a "
            "function of (n_inputs, n_experts), such as a router's class, got the "
            f"module {type(router).__name__}."
        )
    if callable(router):
        return router(n_inputs, n_experts)
    one_of(owner, "router", router, NAMES)
    places: dict[str, Any] = {"capacity_factor": capacity_factor, "priority": priority}
    chosen: dict[str, dict[str, Any]] = {
        # A single weight that is divided by itself is 1, and has no gradient.
        "topk": {"top_k": top_k, "renormalize": top_k != 1, **places},
        "noisy_topk": {"top_k": top_k, **places},
        "switch": places,
        "dense": {"margin": margin},
    }
    options = chosen.get(router, {})
    if router == "expert_choice":
        mean = _mean_experts(owner, capacity_factor, top_k, n_experts)
        options = {"capacity_factor": mean}
    return KINDS[router](n_inputs, n_experts, **options)


def set_places(
    owner: str,
    router: nn.Module,
    factor: float | None,
    top_k: int,
    priority: str | None = None,
) -> None:
    """Change how many choices of a batch the experts of a router take.

    Parameters
    ----------
    owner : str
        Whose argument it is, for messages.
    router : module
    factor : float or None
        Places of an expert over an even share of the choices; None for no limit.
    top_k : int
        Choices of a row, where the router does not know.
    priority : {"arrival", "gate"} or None
        Who is served first; None to leave it.

    Raises
    ------
    ValueError
        If the factor is out of range, or the router has no such places.
    """
    if isinstance(router, ExpertChoiceRouter):
        n_experts = router.n_experts
        router.capacity_factor = _mean_experts(owner, factor, top_k, n_experts)
        return
    places = getattr(router, "places", None)
    if places is None:
        raise ValueError(
            f"{owner}: a {type(router).__name__} has no capacity that could be set: "
            'build the model with router="topk", "noisy_topk", "switch" or '
            '"expert_choice".'
        )
    factor = checked_capacity(owner, factor, places.n_experts)
    if priority is not None:
        known = ("arrival", "gate")
        places.priority = one_of(owner, "priority", priority, known)
    places.factor = factor


def _mean_experts(
    owner: str, factor: float | None, top_k: int, n_experts: int
) -> float:
    """Return the mean number of experts of a row, at most all."""
    top_k = checked_top_k(owner, top_k, n_experts)
    if factor is None:
        return float(top_k)
    checked = checked_capacity(owner, factor, n_experts)
    assert checked is not None
    return min(checked * top_k, float(n_experts))
