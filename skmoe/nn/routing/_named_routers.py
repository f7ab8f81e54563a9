"""Routers by name, as estimators ask for them."""

from typing import Any

import torch
from torch import nn

from skmoe.nn._arguments import one_of
from skmoe.nn.routing._dense_router import DenseRouter
from skmoe.nn.routing._expert_choice import ExpertChoiceRouter
from skmoe.nn.routing._fixed_routers import HashRouter, RandomRouter
from skmoe.nn.routing._noisy_router import NoisyTopKRouter
from skmoe.nn.routing._router import checked_top_k
from skmoe.nn.routing._soft_router import SoftRouter
from skmoe.nn.routing._top_k_router import SwitchRouter, TopKRouter

__all__ = ["KINDS", "ROUTERS", "EvenRouter", "new_router"]

PLACES = ("router_losses", "capacity_factor", "overflow", "priority")
# That no expert is dead in prediction, where there is no noise.
STEADY = {"importance": 0.1, "load": 0.1, "clean": 0.3}
DEFAULTS: dict[str, Any] = {
    "router_losses": None,
    "capacity_factor": None,
    "overflow": "drop",
    "priority": "arrival",
    "bias_rate": 0.0,
}


class EvenRouter(DenseRouter):
    """Send each row to all experts, which count alike."""

    def __init__(self, n_inputs: int, n_experts: int) -> None:
        super().__init__(n_inputs, n_experts)
        del self.weight
        self.register_buffer("weight", torch.zeros(n_experts, n_inputs))


KINDS: dict[str, type[nn.Module]] = {
    "noisy_topk": NoisyTopKRouter,
    "topk": TopKRouter,
    "switch": SwitchRouter,
    "expert_choice": ExpertChoiceRouter,
    "soft": SoftRouter,
    "dense": DenseRouter,
    "hash": HashRouter,
    "random": RandomRouter,
}
# Those of estimators, each with what it may be given: with "soft" a row would depend
# on the others in prediction.
ROUTERS: dict[str, tuple[str, ...]] = {
    "noisy_topk": ("top_k", *PLACES),
    "topk": ("top_k", *PLACES, "bias_rate"),
    "switch": (*PLACES, "bias_rate"),
    "expert_choice": ("router_losses", "capacity_factor"),
    "dense": ("router_losses",),
    "hash": ("top_k",),
    "random": ("top_k",),
}


def new_router(
    name: str, n_inputs: int, n_experts: int, top_k: int = 2, **given: Any
) -> Any:
    """Return a router with ``top_k``, the experts of a row in prediction.

    Parameters
    ----------
    name : str
        One of `ROUTERS`.
    n_inputs, n_experts : int
    top_k : int
        Not for "switch", which has one expert a row, and "dense", which has all.
    router_losses : dict or None
        None for those of the router itself, and "clean" with "noisy_topk".
    capacity_factor : float or None
        None: no limit; for "expert_choice" `top_k`.
    overflow, priority, bias_rate :
        As for `TopKRouter`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the router does not take it.
    """
    one_of("router", "router", name, ROUTERS)
    checked_top_k(f"router={name!r}", top_k, n_experts)
    taken = ROUTERS[name]
    for option, value in given.items():
        if option not in taken and value != DEFAULTS[option]:
            takers = [other for other, takes in ROUTERS.items() if option in takes]
            raise ValueError(
                f"router={name!r} takes no {option}, got {option}={value!r}: leave it "
                f"at {DEFAULTS[option]!r}, or choose one of the routers {takers}."
            )
    options = {option: value for option, value in given.items() if option in taken}
    if "router_losses" in options:
        options["losses"] = options.pop("router_losses")
        if options["losses"] is None and name == "noisy_topk":
            options["losses"] = STEADY
    if "top_k" in taken:
        options["top_k"] = top_k
    if name == "expert_choice":
        options["eval_top_k"] = top_k
        if options.get("capacity_factor") is None:
            options["capacity_factor"] = float(top_k)
    if name == "topk":
        # A single weight that is divided by itself is 1, and has no gradient.
        options["renormalize"] = top_k != 1
    router = KINDS[name](n_inputs, n_experts, **options)
    if name == "expert_choice":
        router.top_k = top_k  # type: ignore[assignment]
    return router
