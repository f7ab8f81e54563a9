"""Checks of what the modules are built with and of the rows that they get."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from torch import Tensor, nn

__all__ = [
    "activation_named",
    "check_rows",
    "image_shape_of",
    "not_negative",
    "one_of",
    "positive",
    "positive_number",
    "positives",
    "rate",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def positive(owner: str, name: str, value: Any) -> int:
    """Return value as an int.

    Raises
    ------
    ValueError
        If it is not an integer of at least 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{owner}: {name} must be an integer >= 1, got {value!r}.")
    return int(value)


def positives(owner: str, name: str, value: Any) -> tuple[int, ...]:
    """Return one integer or several as a tuple of ints.

    Raises
    ------
    ValueError
        If one of them is not an integer of at least 1.
    """
    several = value if isinstance(value, Iterable) else (value,)
    if isinstance(value, str):
        raise ValueError(f"{owner}: {name} must hold integers >= 1, got {value!r}.")
    return tuple(positive(owner, name, one) for one in several)


def positive_number(owner: str, name: str, value: Any) -> float:
    """Return value as a float.

    Raises
    ------
    ValueError
        If it is not a finite number above 0.
    """
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{owner}: {name} must be a number > 0, got {value!r}.")
    return number


def not_negative(owner: str, name: str, value: Any) -> float:
    """Return value as a float.

    Raises
    ------
    ValueError
        If it is not a finite number of at least 0.
    """
    number = _number(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{owner}: {name} must be a number >= 0, got {value!r}.")
    return number


def rate(owner: str, name: str, value: Any) -> float:
    """Return value as a float.

    Raises
    ------
    ValueError
        If it is not a number of at least 0 and below 1.
    """
    number = _number(value)
    if not 0 <= number < 1:
        raise ValueError(f"{owner}: {name} must be a number in [0, 1), got {value!r}.")
    return number


def one_of(owner: str, name: str, value: Any, known: Iterable[Any]) -> Any:
    """Return value.

    Raises
    ------
    ValueError
        If it is not among the known ones.
    """
    known = list(known)
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"{owner}: {name} must be one of {listed}, got {value!r}.")
    return value


def activation_named(owner: str, name: Any) -> nn.Module:
    """Return a new activation: "gelu", "relu", "silu" or "tanh"."""
    return ACTIVATIONS[one_of(owner, "activation", name, ACTIVATIONS)]()


def image_shape_of(owner: str, n_inputs: Any, image_shape: Any) -> tuple[int, int, int]:
    """Return (channels, height, width) of the image that a row holds.

    Parameters
    ----------
    owner : str
        Whose argument it is, for the message.
    n_inputs : int
        Columns of a row.
    image_shape : tuple or None
        (channels, height, width), or (height, width) of one channel, or None:
        a square image of one channel.

    Raises
    ------
    ValueError
        If the shape is none of these, or holds another number of pixels.
    """
    n_inputs = positive(owner, "n_inputs", n_inputs)
    if image_shape is None:
        side = math.isqrt(n_inputs)
        if side * side != n_inputs:
            raise ValueError(
                f"{owner}: {n_inputs} columns are no square image: give "
                "image_shape=(channels, height, width)."
            )
        return 1, side, side
    shape = positives(owner, "image_shape", image_shape)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{owner}: image_shape must be (height, width) or (channels, height, "
            f"width), got {image_shape!r}."
        )
    if math.prod(shape) != n_inputs:
        raise ValueError(
            f"{owner}: image_shape {image_shape!r} has {math.prod(shape)} pixels, but "
            f"rows have {n_inputs} columns: the two must agree."
        )
    channels, height, width = (1, *shape)[-3:]
    return channels, height, width


def check_rows(owner: str, X: Tensor, n_inputs: int) -> None:
    """Raise a ValueError unless X is of shape (n_rows, n_inputs)."""
    if X.ndim != 2 or X.shape[1] != n_inputs:
        raise ValueError(
            f"{owner}: expected rows of shape (n_rows, {n_inputs}), got "
            f"{tuple(X.shape)}: n_inputs must be the number of columns."
        )


def _number(value: Any) -> float:
    """Return value as a float, NaN for what is no number."""
    return float(value) if isinstance(value, Real) else math.nan
