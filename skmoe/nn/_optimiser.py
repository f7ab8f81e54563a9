"""One torch optimiser for a stack of parts, with a memory of each part."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from skmoe.nn._stack import Stack

__all__ = ["Optimiser", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How parts are trained.

    Attributes
    ----------
    n_epochs : int
    batch_size : int
    optimizer : class
        Of `torch.optim`; it must work number by number.
    options : dict
        Its further arguments, the learning rate included.
    max_norm : float or None
        Largest norm of the gradient of each part's module.
    validation : float or None
        Share of the rows that is held out to stop early.
    patience : int
        Epochs without a better held-out loss before the M-step ends.
    bfloat16 : bool
    """

    n_epochs: int
    batch_size: int
    optimizer: Any
    options: dict[str, Any] = field(default_factory=dict)
    max_norm: float | None = None
    validation: float | None = None
    patience: int = 5
    bfloat16: bool = False


class Optimiser:
    """A torch optimiser on a stack, with the moments of its parts.

    Parameters
    ----------
    stack : Stack
    settings : Settings
    shapes : bool
        Whether the heads' numbers are trained too, not updated in closed form. They
        neither decay nor count in the norm of a gradient, which is that of the module.
    """

    def __init__(self, stack: Stack, settings: Settings, shapes: bool = False) -> None:
        self.stack, self.max_norm = stack, settings.max_norm
        self.params, self.names = list(stack.trained), list(stack.names)
        groups: list[dict[str, Any]] = [{"params": list(stack.trained)}]
        if shapes and stack.shape.shape[1]:
            self.params.append(stack.shape.requires_grad_())
            self.names.append("")  # no parameter of a module has this name
            groups.append({"params": self.params[-1:], "weight_decay": 0.0})
        options = dict(settings.options)
        options["lr"] = options["lr"] * min(s.lr_scale for s in stack.states)
        fusable = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
        if settings.optimizer in fusable and "foreach" not in options:
            # One kernel in place of a dozen for each tensor.
            options.setdefault("fused", True)
        if not _decays(settings.optimizer):
            options.pop("weight_decay", None)
        self.torch = settings.optimizer(groups, **options)
        for name, param in zip(self.names, self.params, strict=True):
            known = [state.moments.get(name, {}) for state in stack.states]
            if all(known):
                self.torch.state[param] = _joined(known, param)

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Take a step with given gradients, clipped for each part by itself."""
        if self.max_norm is not None:
            own = len(self.stack.trained)
            shrink = (self.max_norm / self.norms(gradients[:own])).clamp_max(1.0)
            clipped = [
                part * shrink.to(part.dtype).reshape(-1, *[1] * (part.ndim - 1))
                for part in gradients[:own]
            ]
            gradients = [*clipped, *gradients[own:]]
        for param, gradient in zip(self.params, gradients, strict=True):
            # Fused kernels read memory in a row; gradients of vmap may be transposed.
            param.grad = gradient.contiguous()
        self.torch.step()

    @staticmethod
    def norms(gradients: Sequence[Tensor]) -> Tensor:
        """Return the norm of each part's gradient, (K,)."""
        squares = [part.flatten(1).float().square().sum(dim=1) for part in gradients]
        return torch.stack(squares).sum(dim=0).sqrt()

    def moments(self) -> list[dict[str, Any]]:
        """Return what is remembered of each part's parameters."""
        size = self.stack.size
        split: list[dict[str, Any]] = [{} for _ in range(size)]
        for name, param in zip(self.names, self.params, strict=True):
            for key, part in self.torch.state[param].items():
                if not isinstance(part, Tensor):
                    continue
                whole = part.shape == param.shape
                for k in range(size):
                    split[k].setdefault(name, {})[key] = part[k] if whole else part
        return split


def _decays(optimizer: Any) -> bool:
    """Return whether an optimiser takes a weight decay."""
    known = signature(optimizer).parameters
    free = any(p.kind is Parameter.VAR_KEYWORD for p in known.values())
    return free or "weight_decay" in known


def _joined(known: list[dict[str, Tensor]], param: Tensor) -> dict[str, Tensor]:
    """Return the state of one stacked parameter."""
    shape = param.shape[1:]
    return {
        key: torch.stack([own[key] for own in known])
        if known[0][key].shape == shape and key != "step"
        else known[0][key].clone()
        for key in known[0]
    }
