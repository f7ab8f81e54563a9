"""The state of one neural part: what an M-step replaces, never writes into."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from inspect import Parameter, signature
from threading import RLock
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

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
    trained : bool
        Whether there has been an M-step.
    """

    params: Tensors
    buffers: Tensors
    shape: Tensor
    generator: Tensor
    moments: dict[str, Tensors] = field(default_factory=dict)
    lr_scale: float = 1.0
    trained: bool = False

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
        flat["trained"] = torch.tensor(self.trained)
        return flat

    def with_tensors(self, flat: Tensors) -> "PartState":
        """Return the state that `tensors` gave, on this one's device.

        Raises
        ------
        ValueError
            If they are those of another module.
        """
        wanted = _shapes(replace(self, moments={}).tensors())
        got = _shapes({k: v for k, v in flat.items() if not k.startswith("moment.")})
        if wanted != got:
            other = sorted(k for k, _ in wanted.items() ^ got.items())
            raise ValueError(
                "the checkpoint belongs to another fit: its module has other tensors "
                f"{sorted(set(other))}. Give another path, or remove the file."
            )
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
            trained=bool(flat["trained"]),
        )


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(part.shape) for name, part in tensors.items()}


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
        If options are given for an instance, or the module has nothing to train.
    """
    if isinstance(source, nn.Module):
        if options:
            raise ValueError(
                f"module is an instance of {type(source).__name__} and takes no "
                f"arguments any more, got {sorted(options)}; give its class instead."
            )
        return _trainable(deepcopy(source))
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
    return _trainable(module)


def _trainable(module: nn.Module) -> nn.Module:
    """Return a module; raise a ValueError if its weights cannot be trained."""
    name = type(module).__name__
    lazy = [k for k, p in module.named_parameters() if is_lazy(p)]
    lazy += [k for k, b in module.named_buffers() if is_lazy(b)]
    if lazy:
        raise ValueError(
            f"the module {name} has lazy layers, whose {lazy} have no size yet; give "
            "the sizes of all layers: a class gets n_inputs and n_outputs if it takes "
            "them."
        )
    if not any(p.requires_grad for p in module.parameters()):
        raise ValueError(
            f"the module {name} has no parameter to train; leave requires_grad of at "
            "least one of its parameters True."
        )
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
        own = {k: v for k, v in vars(part).items() if k not in _OF_ALL_MODULES}
        weights = part.named_parameters(recurse=False)
        shapes: list[Any] = [(k, tuple(p.shape), p.requires_grad) for k, p in weights]
        shapes += [(k, tuple(b.shape)) for k, b in part.named_buffers(recurse=False)]
        kind = type(part)
        place = f"{kind.__module__}.{kind.__qualname__}"
        parts.append(f"{name}: {place} {_words(own)} {shapes!r}")
    return "\n".join(parts)


# Attributes that each module has; hooks and the mode tell nothing apart.
_OF_ALL_MODULES = frozenset(vars(nn.Module()))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def _words(value: Any, above: tuple[int, ...] = ()) -> str:
    """Return a value in words that are the same in each copy: without addresses."""
    if isinstance(value, nn.Parameter):
        return f"Parameter {tuple(value.shape)}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest = sha256(value.tobytes()).hexdigest()
        return f"array {value.dtype} {value.shape} {digest}"
    if isinstance(value, Tensor) and value.layout == torch.strided:
        flat = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        return f"tensor {value.dtype} {tuple(value.shape)} {_words(flat)}"
    parts = _parts(value)
    if parts is None:
        return _ADDRESS.sub("", repr(value))
    if id(value) in above:
        return "..."
    above = (*above, id(value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return f"{kind}({', '.join(_words(part, above) for part in parts)})"


def _parts(value: Any) -> Any:
    """Return what a value consists of; None where its repr says all."""
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)  # their order differs between processes
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        code, cells = value.__code__, value.__closure__ or ()
        names = [value.__module__, value.__qualname__, code.co_names]
        body = [code.co_firstlineno, code.co_code, code.co_consts]
        known = [value.__defaults__, value.__kwdefaults__]
        return [*names, *body, *known, *map(_content, cells)]
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:
        return [getattr(value, "__dict__", {})]
    return None


def _content(cell: CellType) -> Any:
    """Return what a variable of a closure holds; an empty one holds nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
