"""The state of one neural part: what an M-step replaces, never writes into."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PartState", "build_module", "first_state", "seeded", "structure"]

Tensors = dict[str, Tensor]

_generators = RLock()


@dataclass(frozen=True)
class PartState:
    """Weights, optimiser and generator of one part after an M-step.

    The engine keeps the best pass by a shallow copy of the part, so a state is
    replaced as a whole; its tensors are read only.

    Attributes
    ----------
    params, buffers : dict of str to tensor
        Of the module.
    shape : tensor of shape (n_shapes,)
        The head's own numbers, unconstrained, such as log variances.
    moments : dict of str to (dict of str to tensor)
        What the optimiser remembers of each parameter.
    generator : tensor of uint8
        State of the generator that shuffles the rows.
    lr_scale : float
        What is left of the learning rate after losses that were not finite.
    """

    params: Tensors
    buffers: Tensors
    shape: Tensor
    generator: Tensor
    moments: dict[str, Tensors] = field(default_factory=dict)
    lr_scale: float = 1.0

    def to(self, device: Any) -> "PartState":
        """Return the state on a device; itself where it is there already."""
        if self.shape.device == torch.device(device):
            return self
        moved = {name: part.to(device) for name, part in self.params.items()}
        return replace(
            self,
            params=moved,
            buffers={name: part.to(device) for name, part in self.buffers.items()},
            shape=self.shape.to(device),
            moments={
                name: {key: part.to(device) for key, part in known.items()}
                for name, known in self.moments.items()
            },
        )

    def packed(self) -> "PartState":
        """Return a copy on the CPU that shares no storage with siblings."""

        def own(tensors: Tensors) -> Tensors:
            return {name: part.detach().cpu().clone() for name, part in tensors.items()}

        return replace(
            self,
            params=own(self.params),
            buffers=own(self.buffers),
            shape=self.shape.detach().cpu().clone(),
            moments={name: own(known) for name, known in self.moments.items()},
        )

    def tensors(self) -> Tensors:
        """Return everything as tensors by name, for a file."""
        flat = {f"param.{name}": part for name, part in self.params.items()}
        flat |= {f"buffer.{name}": part for name, part in self.buffers.items()}
        for name, known in self.moments.items():
            flat |= {f"moment.{key}.{name}": part for key, part in known.items()}
        flat |= {"shape": self.shape, "generator": self.generator}
        flat["lr_scale"] = torch.tensor(self.lr_scale, dtype=torch.float64)
        return flat

    def with_tensors(self, flat: Tensors) -> "PartState":
        """Return the state that `tensors` gave, on this one's device.

        Raises
        ------
        KeyError
            If a tensor is missing: the file is of another module.
        """
        device = self.shape.device
        moments: dict[str, Tensors] = {}
        for full, part in flat.items():
            kind, _, rest = full.partition(".")
            if kind == "moment":
                key, _, name = rest.partition(".")
                moments.setdefault(name, {})[key] = part.to(device)
        return replace(
            self,
            params={k: flat[f"param.{k}"].to(device) for k in self.params},
            buffers={k: flat[f"buffer.{k}"].to(device) for k in self.buffers},
            shape=flat["shape"].to(device),
            generator=flat["generator"].cpu(),
            moments=moments,
            lr_scale=float(flat["lr_scale"]),
        )


def first_state(module: nn.Module, shape: Tensor, seed: int) -> PartState:
    """Return the state of a module that has not been trained."""
    return PartState(
        params={k: p.detach().clone() for k, p in module.named_parameters()},
        buffers={k: b.detach().clone() for k, b in module.named_buffers()},
        shape=shape,
        generator=torch.Generator().manual_seed(seed).get_state(),
    )


@contextmanager
def seeded(seed: int, device: Any = "cpu") -> Iterator[None]:
    """Seed torch's global generators, and leave them as they were.

    They belong to all threads, so only one at a time may be in here.
    """
    place = torch.device(device)
    cuda = [place] if place.type == "cuda" else []
    with _generators, torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would seed all devices, of which one is forked.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield


def build_module(
    source: Any, options: dict[str, Any], n_inputs: int, n_outputs: int, seed: int
) -> nn.Module:
    """Return a new module from a class, a factory or an instance.

    Parameters
    ----------
    source : nn.Module class, callable, or nn.Module
        A class or factory gets ``n_inputs`` and ``n_outputs`` if it takes them; an
        instance is copied.
    options : dict
        Further keywords for a class or factory.
    n_inputs, n_outputs : int
    seed : int
        Of the initial weights.

    Raises
    ------
    TypeError
        If the result is no module.
    ValueError
        If options are given for an instance.
    """
    if isinstance(source, nn.Module):
        if options:
            raise ValueError(
                f"module is an instance of {type(source).__name__} and takes no "
                f"arguments any more, got {sorted(options)}; give its class instead."
            )
        return deepcopy(source)
    if not callable(source):
        raise TypeError(
            "module must be an nn.Module, its class, or a function that returns one, "
            f"got {source!r}."
        )
    sizes = _taken(source, {"n_inputs": n_inputs, "n_outputs": n_outputs})
    with seeded(seed):
        module = source(**{**sizes, **options})
    if not isinstance(module, nn.Module):
        name = getattr(source, "__name__", repr(source))
        raise TypeError(f"module {name} must return an nn.Module, got {module!r}.")
    return module


def _taken(source: Callable[..., Any], offered: dict[str, int]) -> dict[str, int]:
    """Return the arguments that a class or factory takes by name."""
    if getattr(source, "__init__", None) is nn.Module.__init__:
        return {}  # a class without arguments of its own
    known = signature(source).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in known.values()):
        return offered
    return {name: value for name, value in offered.items() if name in known}


def structure(module: nn.Module) -> str:
    """Return in words all that tells modules apart except for their weights."""
    parts = []
    for name, part in module.named_modules():
        plain = {
            key: value
            for key, value in vars(part).items()
            if not key.startswith("_") and key != "training"
        }
        shapes = [(k, tuple(p.shape)) for k, p in part.named_parameters(recurse=False)]
        shapes += [(k, tuple(b.shape)) for k, b in part.named_buffers(recurse=False)]
        parts.append(f"{name}: {type(part).__qualname__} {plain!r} {shapes!r}")
    return "\n".join(parts)
