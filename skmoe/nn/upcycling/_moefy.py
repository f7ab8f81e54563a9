"""Turn the feed-forward layers of a model into mixtures of experts."""

import copy
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skmoe.nn._arguments import one_of, positive, positive_number
from skmoe.nn.routing._activation import activated
from skmoe.nn.routing._dense_router import DenseRouter
from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._grouped import grouped_linear, in_autocast, places
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._noisy_router import NoisyTopKRouter
from skmoe.nn.routing._top_k_router import TopKRouter
from skmoe.nn.upcycling._feed_forward import (
    FeedForward,
    any_module,
    feed_forward_in,
    feed_forward_layers,
)
from skmoe.nn.upcycling._perceptron import Perceptron

__all__ = ["moefy"]

Where = str | Iterable[str] | Callable[[str, nn.Module], bool] | None


def moefy(
    model: nn.Module,
    where: Where = None,
    n_experts: int = 8,
    router: str | Callable[[int, int], nn.Module] = "topk",
    top_k: int = 2,
    noise: float = 0.0,
    *,
    verbose: bool = False,
) -> nn.Module:
    """Turn feed-forward layers into mixtures that start as copies of them.

    Every expert starts with the weights of the layer whose place it takes, and the
    weights of a row's experts sum to one: the output is what it was, up to rounding,
    and what follows is training. Komatsuzaki, A. et al. (2022). Sparse upcycling:
    training mixture-of-experts from dense checkpoints. arXiv 2212.05055, section 3.
    Experts part ways because they see other rows. Add ``auxiliary_loss(model)`` to the
    loss.

    Perceptrons of one hidden layer (GELU, ReLU, SiLU, tanh, SwiGLU, GeGLU) become
    `MLPExperts`, any other module an `ExpertList` of deep copies. Dropout stays where
    it was.

    Parameters
    ----------
    model : module
        Changed in place.
    where : None, str, iterable of str, or callable, default=None
        None: all feed-forward layers that return as many numbers as they get, or if
        there are none of these, all. They are found by what they compute: linear map,
        activation, perhaps dropout, and linear map in a row in a `torch.nn.Sequential`;
        in `torch.nn.TransformerEncoderLayer` and ``DecoderLayer``; in blocks of
        `SmallViT` and `RowTransformer`; modules with two or three linear maps and
        nothing else to learn; and the pair ``intermediate``, ``output.dense`` of
        BERT, and so in most models of transformers.
        "every other": the second of these, the fourth, and so on.
        Names or patterns such as ``"blocks.[24].*"``: these layers, by the name of the
        module that they are or are part of; or where a pattern fits none of these, any
        modules.
        A function of (name, module): any modules for which it is true; what is inside
        of such a module is not asked for.
    n_experts : int, default=8
    router : {"topk", "noisy_topk", "dense"} or callable, default="topk"
        Or a function of (n_inputs, n_experts) that returns a router; then the output
        is unchanged only if its weights sum to one for each row. "switch",
        "expert_choice" and "soft" do not have this and are refused by name.
    top_k : int, default=2
        Experts of a row. With one its weight is always 1, and the router learns from
        its losses alone.
    noise : float, default=0.0
        Standard deviation of what is added to the experts' weights, over that of the
        weight; then the output changes.
    verbose : bool, default=False
        Whether to print what was replaced.

    Returns
    -------
    model : module
        The same object; a new one only where the model itself is the one layer that
        is replaced.

    Raises
    ------
    ValueError
        If nothing is found, a pattern fits nothing, a module that was asked for does
        not turn rows into rows, or an argument is out of range. The model is then as
        it was.

    Notes
    -----
    torch computes `torch.nn.TransformerEncoderLayer` in evaluation by one fused
    kernel, which knows no mixtures: such layers, and nested tensors of an encoder that
    has them, are turned off. Outputs of padded positions, zero with nested tensors,
    are then what they are in training.

    Examples
    --------
    >>> import torch
    >>> from skmoe.nn import moefy
    >>> layer = torch.nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
    >>> model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    >>> X = torch.randn(3, 5, 16)
    >>> before = model(X)
    >>> model = moefy(model, "every other", n_experts=4, verbose=True)
    layers.1: perceptron 16-64-16 relu -> 4 experts; 2,128 -> 8,576 parameters
    >>> torch.allclose(model(X), before, atol=1e-5)
    True
    """
    n_experts = positive("moefy", "n_experts", n_experts)
    if noise:
        noise = positive_number("moefy", "noise", noise)
    chosen = _chosen(model, where)
    layers = [_mixture_of(one, n_experts, router, top_k, noise) for one in chosen]
    for one, layer in zip(chosen, layers, strict=True):
        if verbose:
            print(_told(one, layer, n_experts))
        if one.put is None:
            return layer
        one.put(layer)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            _use_no_nested_tensors(module, {id(layer) for layer in layers})
    return model


class DroppingExperts(MLPExperts):
    """Perceptrons with dropout of their hidden numbers while they train.

    Parameters
    ----------
    dropout : float
    arguments :
        Of `MLPExperts`.
    """

    def __init__(self, dropout: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.dropout = dropout

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return what each row's expert makes of it."""
        if not self.training:
            return super().forward(rows, offsets)
        rows, w1, w2 = in_autocast(rows, self.w1, self.w2)
        ends = places(rows, offsets)
        h = grouped_linear(rows, w1, ends, self.b1)
        h = activated(h, None, offsets, self.activation)
        h = functional.dropout(h, self.dropout)
        return grouped_linear(h, w2, ends, self.b2)


def _chosen(model: nn.Module, where: Where) -> list[FeedForward]:
    """Return the layers to replace.

    Raises
    ------
    ValueError
        If there is none.
    """
    if callable(where):
        chosen = _by_function(model, where)
    else:
        found = feed_forward_layers(model)
        even = [one for one in found if one.n_inputs == one.n_outputs] or found
        if where is None:
            chosen = even
        elif isinstance(where, str) and where == "every other":
            chosen = even[1::2]
        else:
            patterns = [where] if isinstance(where, str) else list(where)
            chosen = _by_patterns(model, found, patterns)
    if not chosen:
        raise ValueError(
            f"moefy: no layer to replace for where={where!r}. {_candidates(model)}"
        )
    return chosen


def _by_function(
    model: nn.Module, where: Callable[[str, nn.Module], bool]
) -> list[FeedForward]:
    chosen: list[FeedForward] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and where(name, module):
            known = feed_forward_in(model, name, module)
            chosen += known or [any_module(model, name, module)]
            inside.update(module.modules())
    return chosen


def _by_patterns(
    model: nn.Module, found: list[FeedForward], patterns: list[str]
) -> list[FeedForward]:
    """Return the layers whose names fit a pattern, each once, in the model's order.

    Raises
    ------
    ValueError
        If a pattern fits no module.
    """
    chosen, others = [], set[str]()
    for pattern in patterns:
        names = [one.name for one in found if fnmatchcase(one.name, pattern)]
        if not names:
            every = [name for name, _ in model.named_modules() if name]
            others.update(name for name in every if fnmatchcase(name, pattern))
            if not any(fnmatchcase(name, pattern) for name in every):
                raise ValueError(
                    f"moefy: no module has a name that fits {pattern!r}. "
                    f"{_candidates(model)}"
                )
    chosen = [one for one in found if any(fnmatchcase(one.name, to) for to in patterns)]
    if others:
        chosen += _by_function(model, lambda name, module: name in others)
    return chosen


def _candidates(model: nn.Module) -> str:
    """Return a sentence about what might be replaced."""
    names = [repr(one.name) for one in feed_forward_layers(model)]
    if names:
        return f"Feed-forward layers of the model are: {', '.join(names)}."
    kinds = [f"{name!r} ({type(m).__name__})" for name, m in model.named_modules()]
    return (
        "The model has no feed-forward layer that is recognised; name modules that "
        f"turn rows into rows, of these: {', '.join(kinds[1:21]) or 'none'}."
    )


def _mixture_of(
    one: FeedForward,
    n_experts: int,
    router: str | Callable[[int, int], nn.Module],
    top_k: int,
    noise: float,
) -> nn.Module:
    """Return the mixture that takes the place of a layer."""
    chosen = _router(router, one.n_inputs, n_experts, top_k)
    known, behind = one.perceptron, 0.0
    experts: nn.Module
    if known is None:
        experts = ExpertList(copy.deepcopy(one.network) for _ in range(n_experts))
    else:
        experts, behind = _experts_of(known, n_experts), known.dropout_behind
    for weight in experts.parameters():
        # A weight of one number has no spread, and a bias may be all zeros.
        if noise and weight.numel() > n_experts and weight.is_floating_point():
            with torch.no_grad():
                weight.add_(torch.randn_like(weight), alpha=noise * float(weight.std()))
    layer: nn.Module = MoELayer(experts, chosen)
    param = next(one.network.parameters(), None)
    if param is not None:
        # A router in bfloat16 could not tell experts apart.
        wide = torch.promote_types(param.dtype, torch.float32)
        chosen.to(param.device, wide)
    if behind:
        layer = nn.Sequential(layer, nn.Dropout(behind))
    *_, part = one.network.modules()  # the network itself may be made for the purpose
    return layer.train(part.training)


def _router(
    router: str | Callable[[int, int], nn.Module],
    n_inputs: int,
    n_experts: int,
    top_k: int,
) -> nn.Module:
    """Return a router whose weights sum to one.

    Raises
    ------
    ValueError
        If it is not known to do so.
    """
    if callable(router) and not isinstance(router, nn.Module):
        return router(n_inputs, n_experts)
    if router in ("switch", "expert_choice", "soft"):
        raise ValueError(
            f"moefy: with router={router!r} the weights of a row's experts do not sum "
            "to one, or rows may have none, so that the output of the model would "
            "change: use 'topk' (with top_k=1 in place of 'switch'), 'noisy_topk' or "
            "'dense', or give a function of (n_inputs, n_experts) if it may."
        )
    one_of("moefy", "router", router, ("topk", "noisy_topk", "dense"))
    if router == "dense":
        return DenseRouter(n_inputs, n_experts)
    kind = TopKRouter if router == "topk" else NoisyTopKRouter
    return kind(n_inputs, n_experts, top_k)


def _experts_of(known: Perceptron, n_experts: int) -> MLPExperts:
    """Return experts with the weights of a perceptron each."""
    w1, b1, w2, b2 = known.weights()
    kind = partial(DroppingExperts, known.dropout) if known.dropout else MLPExperts
    experts: MLPExperts = kind(
        n_experts,
        len(w1),
        len(w2),
        w2.shape[1],
        activation=known.activation,
        bias=b1 is not None,
    )
    learns = any(
        param.requires_grad
        for part in (*known.first, known.second)
        for param in part.parameters()
    )
    for name, weight in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)):
        if weight is not None:
            copies = weight.detach().expand(n_experts, *weight.shape).clone()
            setattr(experts, name, nn.Parameter(copies, requires_grad=learns))
    return experts


def _use_no_nested_tensors(encoder: nn.TransformerEncoder, mixed: set[int]) -> None:
    """Turn off what a mixture in one of the layers cannot take."""
    if any(id(module) in mixed for module in encoder.modules()):
        encoder.use_nested_tensor = False


def _told(one: FeedForward, layer: nn.Module, n_experts: int) -> str:
    """Return a line about what is replaced by what."""
    known, name = one.perceptron, one.name or "the model"
    what = f"{type(one.network).__name__} {one.n_inputs}-{one.n_outputs}"
    if known is not None:
        w1, _, w2, _ = known.weights()
        what = f"perceptron {len(w1)}-{len(w2)}-{w2.shape[1]} {known.activation}"
    before = sum(param.numel() for param in one.network.parameters())
    after = sum(param.numel() for param in layer.parameters())
    return f"{name}: {what} -> {n_experts} experts; {before:,} -> {after:,} parameters"
