"""Tell by what a foreign module computes whether it is a perceptron.

Names of classes and attributes say little: a module is told by what it does. A copy
with random weights is run on random rows, and compared with perceptrons of every
activation that `MLPExperts` has.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn.routing._activation import ACTIVATIONS, GATED

__all__ = ["Perceptron", "is_linear", "outputs_of", "perceptron_of", "shape_of"]

# Of float64 on a handful of rows; the two usual forms of GELU differ by 1e-4.
CLOSE = 1e-9


@dataclass(frozen=True)
class Perceptron:
    """A network ``act(x w1 + b1) w2 + b2``, and the modules that hold its weights.

    Attributes
    ----------
    first : tuple of modules
        One linear map, or the two of a gated network.
    second : module
    activation : str
        One of `skmoe.nn.routing._activation.ACTIVATIONS`.
    swapped : bool
        Whether the half that goes through the activation comes last in ``first``.
    dropout, dropout_behind : float
        Share of hidden numbers and of outputs that are dropped in training.
    """

    first: tuple[nn.Module, ...]
    second: nn.Module
    activation: str
    swapped: bool
    dropout: float = 0.0
    dropout_behind: float = 0.0

    def weights(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Return w1, b1, w2 and b2, in the layout of an expert of `MLPExperts`."""
        w1 = torch.cat([_matrix(part) for part in self.first], dim=1)
        biases = [_bias(part) for part in (*self.first, self.second)]
        if all(bias is None for bias in biases):
            return self._ordered(w1), None, _matrix(self.second), None
        filled = [
            _matrix(part).new_zeros(_matrix(part).shape[1]) if bias is None else bias
            for part, bias in zip((*self.first, self.second), biases, strict=True)
        ]
        b1 = self._ordered(torch.cat(filled[:-1]))
        return self._ordered(w1), b1, _matrix(self.second), filled[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the network makes of rows, without dropout."""
        w1, b1, w2, b2 = self.weights()
        h = x @ w1 if b1 is None else x @ w1 + b1
        act = ACTIVATIONS[self.activation]
        if self.activation in GATED:
            gate, value = h.chunk(2, dim=-1)
            h = act(gate) * value
        else:
            h = act(h)
        return h @ w2 if b2 is None else h @ w2 + b2

    def _ordered(self, joined: Tensor) -> Tensor:
        if not self.swapped:
            return joined
        return torch.cat(joined.chunk(2, dim=-1)[::-1], dim=-1)


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a plain linear map, and nothing hangs on it."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    if hooked or len(list(module.buffers())):
        return False
    if type(module) is nn.Linear:
        return True
    # Of GPT-2 in transformers: a linear map with its matrix the other way round.
    weight = getattr(module, "weight", None)
    named = type(module).__name__ == "Conv1D" and not isinstance(module, nn.Conv1d)
    return named and isinstance(weight, Tensor) and weight.ndim == 2


def perceptron_of(network: nn.Module) -> Perceptron | None:
    """Return the perceptron that a network is, or None if it is none that we know.

    Parameters
    ----------
    network : module
        It is not run itself, and not changed.
    """
    linears = [module for module in network.modules() if is_linear(module)]
    held = sum(len(list(part.parameters())) for part in linears)
    if len(linears) not in (2, 3) or held != len(list(network.parameters())):
        return None
    twin = _twin(network)
    calls, x, out = _traced(twin)
    if out is None or not _is_settled(twin, x, out):
        return None
    found = _matching(calls, x, out)
    if found is None:
        return None
    original = dict(zip(twin.modules(), network.modules(), strict=True))
    return Perceptron(
        tuple(original[part] for part in found.first),
        original[found.second],
        found.activation,
        found.swapped,
        found.dropout,
        found.dropout_behind,
    )


def outputs_of(network: nn.Module, n_inputs: int) -> int | None:
    """Return how many numbers a module makes of a row, whatever the other rows are.

    Parameters
    ----------
    network : module
        Run in evaluation, on random rows.
    n_inputs : int
        Numbers of a row.

    Returns
    -------
    n_outputs : int or None
        None where it does not turn rows into rows, one by one.
    """
    modes = [(module, module.training) for module in network.modules()]
    param = next(network.parameters(), torch.zeros(()))
    x = _random((4, n_inputs)).to(param.device, param.dtype)
    close = 1e-3 if param.dtype.itemsize < 4 else 1e-5
    try:
        network.eval()
        with torch.no_grad():
            out, some = network(x), network(x[:2])
        right = isinstance(out, Tensor) and out.ndim == 2 and len(out) == len(x)
        return out.shape[1] if right and _alike(some, out[:2], close) else None
    except Exception:  # whatever a module raises that wants something else
        return None
    finally:
        for module, training in modes:
            module.training = training


def shape_of(linear: nn.Module) -> tuple[int, int]:
    """Return n_inputs and n_outputs of a linear map."""
    n_inputs, n_outputs = _matrix(linear).shape
    return n_inputs, n_outputs


def _matrix(linear: nn.Module) -> Tensor:
    """Return the matrix of a linear map, (n_inputs, n_outputs)."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight.T if isinstance(linear, nn.Linear) else weight


def _bias(linear: nn.Module) -> Tensor | None:
    bias = getattr(linear, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return normal numbers; they do not move torch's global generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _twin(network: nn.Module) -> nn.Module:
    """Return a copy in float64 on the host, with random weights.

    Random, as the weights of a new model may be zero, and tell no activation apart.
    """
    twin = copy.deepcopy(network)
    for seed, linear in enumerate(twin.modules()):
        for name, param in list(linear._parameters.items()):
            if param is not None:
                # Hidden numbers of size 2: where the activations differ.
                scale = 2.0 * min(param.shape) ** -0.5 if param.ndim == 2 else 0.5
                drawn = nn.Parameter(scale * _random(tuple(param.shape), seed))
                setattr(linear, name, drawn)
    return twin.eval()


@torch.no_grad()
def _traced(twin: nn.Module) -> tuple[list[nn.Module], Tensor, Tensor | None]:
    """Return linear maps and dropouts in the order of calls, rows, and the output."""
    calls: list[nn.Module] = []
    linears = [part for part in twin.modules() if is_linear(part)]
    dropouts = [part for part in twin.modules() if isinstance(part, nn.Dropout)]
    hooks = [
        part.register_forward_hook(lambda module, inputs, out: calls.append(module))
        for part in (*linears, *dropouts)
    ]
    x, out = torch.empty(0), None
    # Which map is the first is not known before it has run.
    for width in sorted({shape_of(part)[0] for part in linears}):
        calls.clear()
        x = _random((5, width))
        try:
            out = twin(x)
            break
        except Exception:  # whatever a module raises that wants something else
            continue
    for hook in hooks:
        hook.remove()
    return calls, x, out if isinstance(out, Tensor) else None


def _is_settled(twin: nn.Module, x: Tensor, out: Tensor) -> bool:
    """Return whether only its Dropout modules make training differ."""
    twin.train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        return _alike(twin(x), out)


def _matching(calls: list[nn.Module], x: Tensor, out: Tensor) -> Perceptron | None:
    """Return the perceptron that makes this output of these rows."""
    linears = [part for part in calls if is_linear(part)]
    if len(linears) not in (2, 3) or len(set(linears)) < len(linears):
        return None
    first, second = tuple(linears[:-1]), linears[-1]
    starts, end = calls.index(first[0]), calls.index(second)
    if starts or any(_matrix(part).shape[0] != x.shape[1] for part in first):
        return None
    hidden = sum(_matrix(part).shape[1] for part in first)
    gated = {_matrix(second).shape[0]: False, 2 * _matrix(second).shape[0]: True}
    if hidden not in gated:
        return None
    inner, behind = _dropped(calls[:end]), _dropped(calls[end:])
    for name in ACTIVATIONS:
        for swapped in (False, True):
            if (name in GATED) != gated[hidden] or (swapped and name not in GATED):
                continue
            found = Perceptron(first, second, name, swapped, inner, behind)
            with torch.no_grad():
                if _alike(found(x), out):
                    return found
    return None


def _dropped(modules: Iterable[nn.Module]) -> float:
    """Return the share that dropouts, one behind another, drop."""
    kept = 1.0
    for module in modules:
        if isinstance(module, nn.Dropout):
            kept *= 1.0 - module.p
    return 1.0 - kept


def _alike(found: Any, expected: Tensor, close: float = CLOSE) -> bool:
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    scale = expected.abs().max().clamp(min=1e-30)
    return bool((found - expected).abs().max() <= close * scale)
