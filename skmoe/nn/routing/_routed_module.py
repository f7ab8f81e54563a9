"""What modules that route keep of their last call, and the sum of their losses."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["RoutedModule", "auxiliary_loss", "forget", "refuse_forward_mode"]


class RoutedModule(nn.Module):
    """A module that keeps the losses and statistics of its last call on itself.

    Attributes
    ----------
    losses : dict of str to tensor
        What the last call wants added to the loss, each times its weight; empty in
        evaluation. They hold on to the graph of the call until the next one.
    statistics : dict of str to tensor
    """

    losses: dict[str, Tensor]
    statistics: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.losses, self.statistics = {}, {}

    def keep(self, losses: dict[str, Tensor], statistics: dict[str, Tensor]) -> None:
        """Keep what a call made; an exported program has nowhere to."""
        if not torch.compiler.is_exporting():
            self.losses, self.statistics = losses, statistics

    def __getstate__(self) -> dict[str, Any]:
        """Return a state without the last call, whose graph cannot be copied."""
        return {**vars(self), "losses": {}, "statistics": {}}


def refuse_forward_mode(owner: str) -> None:
    """Raise a NotImplementedError under forward-mode differentiation.

    Operations without a rule for it would silently have a derivative of zero.
    """
    if forward_ad._current_level >= 0:
        raise NotImplementedError(
            f"{owner} has no forward-mode derivatives (torch.func.jvp, jacfwd): use "
            "those of reverse mode, such as torch.func.vjp, grad or jacrev."
        )


def forget(model: nn.Module) -> None:
    """Drop what the modules of a model keep of their last call."""
    for module in model.modules():
        if isinstance(module, RoutedModule):
            module.losses, module.statistics = {}, {}


def auxiliary_loss(model: nn.Module) -> Tensor:
    """Return the sum of the losses that the layers of a model kept in their last call.

    Parameters
    ----------
    model : module
        With any number of layers that route, at any depth.

    Returns
    -------
    loss : tensor of shape ()
        0 in evaluation, and where no layer has losses.
    """
    param = next(model.parameters(), None)
    total = torch.zeros((), device=None if param is None else param.device)
    for module in model.modules():
        if isinstance(module, RoutedModule):
            for loss in module.losses.values():
                total = total + loss.to(total.device)
    return total
