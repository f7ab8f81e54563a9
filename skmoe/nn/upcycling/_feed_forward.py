"""Where a model has feed-forward layers, and how another layer takes their place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from skmoe.nn._attention import Block
from skmoe.nn.routing._routed_module import RoutedModule
from skmoe.nn.upcycling._perceptron import (
    Perceptron,
    is_linear,
    outputs_of,
    perceptron_of,
    shape_of,
)

__all__ = ["FeedForward", "any_module", "feed_forward_in", "feed_forward_layers"]

TorchLayer = nn.TransformerEncoderLayer | nn.TransformerDecoderLayer


@dataclass
class FeedForward:
    """A part of a model that another layer can take the place of.

    Attributes
    ----------
    name : str
        Of the module that it is, or is part of; "" for the model itself.
    network : module
        Computes what the part computes, with the same parameters.
    put : callable
        Puts a layer in its place. The model itself cannot be put in a place: then
        it is None.
    n_inputs, n_outputs : int
    perceptron : Perceptron or None
        What the network is, where it is one that `MLPExperts` can be.
    """

    name: str
    network: nn.Module
    put: Callable[[nn.Module], None] | None
    n_inputs: int
    n_outputs: int
    perceptron: Perceptron | None = None


def feed_forward_layers(model: nn.Module) -> list[FeedForward]:
    """Return all feed-forward layers of a model that can be recognised.

    Parameters
    ----------
    model : module
    """
    found: list[FeedForward] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, RoutedModule):  # a mixture, perhaps of such layers
            inside.update(module.modules())
        if module in inside:
            continue
        here = feed_forward_in(model, name, module)
        found += here
        for layer in here:
            inside.update(layer.network.modules())
    return found


def feed_forward_in(
    model: nn.Module, name: str, module: nn.Module
) -> list[FeedForward]:
    """Return the feed-forward layers that a module is, or holds as its own.

    Parameters
    ----------
    model : module
    name : str
        Of the module in the model.
    module : module
    """
    if isinstance(module, Block):
        return _of_block(name, module)
    if isinstance(module, TorchLayer):
        return _of_torch_layer(name, module)
    if isinstance(module, nn.Sequential):
        if type(module).forward is nn.Sequential.forward:
            return list(_of_sequence(name, module))
        return []
    return _of_pair(name, module) or _whole(model, name, module)


def any_module(model: nn.Module, name: str, module: nn.Module) -> FeedForward:
    """Return a module, whatever it is, as something that copies of it can replace.

    Raises
    ------
    ValueError
        If it does not turn rows into rows.
    """
    n_inputs = width_of(module)
    n_outputs = None if n_inputs is None else outputs_of(module, n_inputs)
    if n_inputs is None or n_outputs is None:
        width = "n_inputs, told by a linear layer" if n_inputs is None else n_inputs
        raise ValueError(
            f"moefy: {name or 'the model'} ({type(module).__name__}) cannot be an "
            f"expert: it must turn a tensor of shape (n_rows, {width}) into (n_rows, "
            "n_outputs), each row by itself. Choose other modules by `where`."
        )
    put = _put_module(model, module)
    return FeedForward(name, module, put, n_inputs, n_outputs)


def width_of(module: nn.Module) -> int | None:
    """Return how many numbers the rows have that a module takes, if that is told."""
    for part in module.modules():
        if is_linear(part):
            return shape_of(part)[0]
        for told in ("in_features", "n_inputs"):
            if isinstance(getattr(part, told, None), int):
                return int(getattr(part, told))
        if isinstance(part, nn.LayerNorm):
            return part.normalized_shape[-1]
    return None


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        return self.function(x)


def _of_block(name: str, block: Block) -> list[FeedForward]:
    if block.widen is None or block.narrow is None:
        return []
    network = nn.Sequential(block.widen, nn.GELU(), block.narrow)
    return _checked(name, network, block.mix)


def _of_torch_layer(name: str, layer: Any) -> list[FeedForward]:
    """Return the two maps of torch's own transformer layer.

    Its ``_ff_block`` is ``linear2(dropout(activation(linear1(x))))``: the mixture is
    the last of them, and the others let rows pass.
    """
    kind: Any = nn.TransformerEncoderLayer
    if not isinstance(layer, kind):
        kind = nn.TransformerDecoderLayer
    if type(layer)._ff_block is not kind._ff_block:
        return []

    def put(mixture: nn.Module) -> None:
        layer.linear1, layer.dropout = nn.Identity(), nn.Identity()
        layer.activation, layer.linear2 = nn.Identity(), mixture
        # In evaluation the layer hands its weights to one fused kernel, unless the
        # activation is one that the kernel does not have.
        layer.activation_relu_or_gelu = 0

    act = layer.activation
    act = act if isinstance(act, nn.Module) else Applied(act)
    network = nn.Sequential(layer.linear1, act, layer.dropout, layer.linear2)
    return _checked(name, network, put)


def _of_sequence(name: str, sequence: nn.Sequential) -> Iterator[FeedForward]:
    """Yield linear map, activation, perhaps dropout, and linear map in a row."""
    items = list(sequence._modules.items())
    at = 0
    while at + 2 < len(items):
        size = 4 if isinstance(items[at + 2][1], nn.Dropout) else 3
        run = items[at : at + size]
        keys, parts = [key for key, _ in run], [part for _, part in run]
        if len(run) == size and _is_run([part for part in parts if part is not None]):
            put = _put_in_sequence(sequence, keys)
            network = nn.Sequential(*(part for part in parts if part is not None))
            yield from _checked(name, network, put)
            at += size
        else:
            at += 1


def _is_run(parts: list[nn.Module]) -> bool:
    first, act, last = parts[0], parts[1], parts[-1]
    if not (is_linear(first) and is_linear(last)):
        return False
    if isinstance(act, nn.Dropout | nn.Identity) or is_linear(act):
        return False
    return shape_of(first)[1] == shape_of(last)[0] and not list(act.buffers())


def _put_in_sequence(
    sequence: nn.Sequential, keys: list[str]
) -> Callable[[nn.Module], None]:
    """Return a function that puts a layer first, and lets rows pass behind it.

    So that the modules behind keep their names, and their entries in state dicts.
    """

    def put(mixture: nn.Module) -> None:
        for key in keys:
            setattr(sequence, key, mixture if key == keys[0] else nn.Identity())

    return put


def _of_pair(name: str, module: Any) -> list[FeedForward]:
    """Return ``output.dense(intermediate(x))``, as layers of BERT have it."""
    inner, outer = (getattr(module, part, None) for part in ("intermediate", "output"))
    last = getattr(outer, "dense", None)
    if not isinstance(inner, nn.Module) or not isinstance(last, nn.Module):
        return []
    maps = [part for part in inner.modules() if is_linear(part)]
    if len(maps) != 1 or not is_linear(last):
        return []
    if shape_of(maps[0])[1] != shape_of(last)[0]:
        return []

    def put(mixture: nn.Module) -> None:
        module.intermediate, module.output.dense = nn.Identity(), mixture

    return _checked(name, nn.Sequential(inner, last), put)


def _whole(model: nn.Module, name: str, module: nn.Module) -> list[FeedForward]:
    """Return the module itself if two or three linear maps are all that it has."""
    maps = [part for part in module.modules() if is_linear(part)]
    held = sum(len(list(part.parameters())) for part in maps)
    if len(maps) not in (2, 3) or held != len(list(module.parameters())):
        return []
    if any(isinstance(part, nn.Sequential) for part in module.modules()):
        return []
    return _checked(name, module, _put_module(model, module))


def _put_module(
    model: nn.Module, module: nn.Module
) -> Callable[[nn.Module], None] | None:
    """Return a function that puts a layer wherever a model holds a module."""
    if module is model:
        return None

    def put(mixture: nn.Module) -> None:
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):
                if child is module:
                    setattr(parent, key, mixture)

    return put


def _checked(
    name: str, network: nn.Module, put: Callable[[nn.Module], None] | None
) -> list[FeedForward]:
    """Return the layer if it turns rows into rows."""
    known = perceptron_of(network)
    if known is not None:
        ends = shape_of(known.first[0])[0], shape_of(known.second)[1]
        return [FeedForward(name, network, put, *ends, known)]
    n_inputs = width_of(network) or 0
    n_outputs = outputs_of(network, n_inputs)
    if n_outputs is None:
        return []
    return [FeedForward(name, network, put, n_inputs, n_outputs)]
