"""A mixture-of-experts layer: the routing is an argument."""

from collections.abc import Iterable

from torch import Tensor, nn

from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._routed_module import RoutedModule, refuse_forward_mode
from skmoe.nn.routing._routing_plan import RoutingPlan, SoftPlan

__all__ = ["MoELayer", "pooled"]


class MoELayer(RoutedModule):
    """Send rows to experts as a router says, and pool what they make of them.

    Parameters
    ----------
    experts : module or iterable of modules
        A module with ``n_experts`` that turns sorted rows and offsets into outputs,
        such as `MLPExperts`, or modules that turn (n, n_inputs) into (n, n_outputs).
    router : module
        Turns x into a plan: `TopKRouter`, `SwitchRouter`, `SoftRouter`, ...

    Raises
    ------
    ValueError
        If router and experts differ in number of experts or of inputs, experts in
        the shape of their outputs, or experts are a single plain module.

    Examples
    --------
    >>> import torch
    >>> from skmoe.nn import MLPExperts, MoELayer, TopKRouter, auxiliary_loss
    >>> layer = MoELayer(MLPExperts(8, 32, 64), TopKRouter(32, 8, top_k=2))
    >>> y = layer(torch.randn(4, 100, 32))
    >>> y.shape
    torch.Size([4, 100, 32])
    >>> loss = y.square().mean() + auxiliary_loss(layer)
    >>> int(layer.statistics["load"].sum())
    800
    """

    def __init__(
        self, experts: nn.Module | Iterable[nn.Module], router: nn.Module
    ) -> None:
        super().__init__()
        if not hasattr(experts, "n_experts"):
            if not isinstance(experts, Iterable):
                raise ValueError(
                    "experts must be several modules, or one that has n_experts and "
                    f"turns sorted rows and offsets into outputs, got a "
                    f"{type(experts).__name__}: give a list of modules."
                )
            experts = ExpertList(experts)
        if not isinstance(router, nn.Module):
            raise ValueError(
                f"router must be a module that makes a plan of rows, got {router!r}: "
                "give a router, such as TopKRouter(n_inputs, n_experts)."
            )
        self.experts: nn.Module = experts  # type: ignore[assignment]
        self.router = router
        for name, what in (("n_experts", "experts"), ("n_inputs", "columns of a row")):
            ours, theirs = getattr(experts, name, None), getattr(router, name, None)
            if None not in (ours, theirs) and ours != theirs:
                raise ValueError(
                    f"router and experts must agree on {name}: the router has "
                    f"{theirs} {what}, the experts have {ours}."
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs of shape (..., n_outputs).

        Rows whose choices were all dropped get zeros: a residual connection round the
        layer passes them on.

        Parameters
        ----------
        x : tensor of shape (..., n_inputs)
        """
        refuse_forward_mode("MoELayer")
        plan = self.router(x)
        rows = pooled(self.experts, x, plan)
        self.keep(plan.losses, plan.statistics)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


def pooled(experts: nn.Module, x: Tensor, plan: RoutingPlan | SoftPlan) -> Tensor:
    """Return what a plan makes of rows, of shape (n_rows, n_outputs).

    Parameters
    ----------
    experts : module
    x : tensor of shape (..., n_inputs)
    plan : RoutingPlan or SoftPlan
    """
    if (
        isinstance(experts, MLPExperts)
        and isinstance(plan, RoutingPlan)
        and experts.fuses(x, plan)
    ):
        return experts.fused(x, plan)
    return plan.combine(experts(plan.dispatch(x), plan.offsets))
