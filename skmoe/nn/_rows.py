"""Rows on the device that trains: moved, standardised and coded once."""

from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

from skmoe._xp import is_foreign, like, namespace, to_numpy
from skmoe.nn._heads import LEAST_SPREAD
from skmoe.nn._state import structure

__all__ = [
    "ColumnScale",
    "Rows",
    "as_tensor",
    "check_matrix",
    "check_response",
    "check_rows",
    "place_of",
    "returned",
    "shared_rows",
]

# Rows that are converted at once.
BLOCK = 65_536


def place_of(device: Any, X: Any, owner: str, *, strict: bool = True) -> torch.device:
    """Return the device to work on.

    Parameters
    ----------
    device : None, "auto", str or torch.device
        None: where X is if it is a tensor, else the CPU. "auto": CUDA if there is.
    X : array
    owner : str
        Whose argument it is.
    strict : bool
        False to work on the CPU where the device asked for does not exist: a model
        fitted on a GPU predicts anywhere.

    Raises
    ------
    ValueError
        If the device is unknown, or there is no such device here.
    """
    here = X.device if isinstance(X, Tensor) else torch.device("cpu")
    if device is None:
        return here
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{owner}: device must be None, 'auto' or a device of torch such as 'cpu' "
            f"or 'cuda', got {device!r}."
        ) from error
    if place.type != "cuda":
        return place
    number = torch.cuda.current_device() if torch.cuda.is_available() else 0
    place = torch.device("cuda", number if place.index is None else place.index)
    if place.index >= torch.cuda.device_count():
        if not strict:
            return torch.device("cpu")
        raise ValueError(
            f"{owner}: device={device!r}, but torch finds "
            f"{torch.cuda.device_count()} CUDA devices here; use device='cpu', or "
            "'auto' for CUDA where there is one."
        )
    return place


def check_rows(X: Any, owner: str, **others: Any) -> None:
    """Raise a ValueError if tensors are on two devices, or X holds integers."""
    if not isinstance(X, Tensor):
        return
    if not X.is_floating_point():
        raise ValueError(
            f"{owner}: X is a tensor of {X.dtype}; convert it to floating point "
            "numbers, X.float()."
        )
    for name, other in others.items():
        if isinstance(other, Tensor) and other.device != X.device:
            raise ValueError(
                f"{owner}: X is on {X.device}, but {name} on {other.device}; move "
                "them to one device."
            )


def check_matrix(X: Any, owner: str, n_features: int | None = None) -> None:
    """Raise a ValueError unless rows that a user gives to a part can be worked on.

    Parameters
    ----------
    X : array of another library than NumPy
    owner : str
        The class of the part.
    n_features : int or None
        That of fit; None in fit.
    """
    check_rows(X, owner)
    shape = tuple(X.shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"{owner}: Expected 2D array of at least one row and column, got X of "
            f"shape {shape}. Reshape it to (n_samples, n_features)."
        )
    if n_features is not None and shape[1] != n_features:
        raise ValueError(
            f"X has {shape[1]} features, but {owner} is expecting {n_features} "
            "features as input."
        )
    xp = namespace(X)
    if bool(xp.any(xp.isinf(X))):
        raise ValueError(f"{owner}: X contains infinity; clip or drop such rows.")


def check_response(X: Any, y: Any, owner: str) -> None:
    """Raise a ValueError unless there is one finite response for each row of X."""
    check_rows(X, owner, y=y)
    if tuple(y.shape[:1]) != tuple(X.shape[:1]):
        raise ValueError(
            f"{owner}: X has {X.shape[0]} rows and y is of shape {tuple(y.shape)}; "
            "give one response for each row."
        )
    xp = namespace(y)
    numbers = is_foreign(y) or y.dtype.kind in "fc"
    if numbers and not bool(xp.all(xp.isfinite(y))):
        raise ValueError(f"{owner}: y contains NaN or infinity; drop such rows.")


def as_tensor(array: Any, device: torch.device, dtype: Any = None) -> Tensor:
    """Return an array as a tensor on a device, copied only where it must be."""
    if not isinstance(array, Tensor):
        array = np.asarray(to_numpy(array))
        # torch warns of memory that must not be written to.
        writeable = array.flags.writeable and min(array.strides, default=1) >= 0
        array = torch.from_numpy(array if writeable else array.copy())
    moved: Tensor = array.detach().to(device=device, dtype=dtype)
    return moved


def returned(X: Any, result: Tensor) -> Any:
    """Return a result in the kind of X, where X is."""
    if isinstance(X, Tensor):
        return result.to(X.device)
    host = result.cpu().numpy()
    return like(X, host) if is_foreign(X) else host


class ColumnScale:
    """Standardise columns by weighted mean and deviation, in float64.

    Parameters
    ----------
    X : array of shape (n_rows, n_columns)
    weight : tensor of shape (n_rows,), float64
        On the device where the sums are taken.
    codes : tuple of int
        Columns that stay as they are, such as codes of categories.
    active : bool
        False to leave all columns as they are.
    """

    def __init__(
        self, X: Any, weight: Tensor, codes: tuple[int, ...], active: bool
    ) -> None:
        n_columns = X.shape[1]
        self.center = torch.zeros(n_columns, dtype=torch.float64)
        self.scale = torch.ones(n_columns, dtype=torch.float64)
        if not active:
            return
        share, device = weight / weight.sum(), weight.device
        center = torch.zeros(n_columns, dtype=torch.float64, device=device)
        square, size = torch.zeros_like(center), torch.zeros_like(center)
        for rows, block in _blocks(X, device):
            center += share[rows] @ block
        for rows, block in _blocks(X, device):
            square += share[rows] @ (block - center).square()
            size = torch.maximum(size, block.abs().amax(dim=0))
        # A constant column stays as it is but for its mean.
        spread = square.sqrt()
        scale = torch.where(spread > LEAST_SPREAD * size, spread, 1.0)
        center[list(codes)], scale[list(codes)] = 0.0, 1.0
        self.center, self.scale = center.cpu(), scale.cpu()

    def apply(self, X: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return standardised rows on a device."""
        center, scale = self.center.to(device), self.scale.to(device)
        out = torch.empty(tuple(X.shape), dtype=dtype, device=device)
        for rows, block in _blocks(X, device):
            out[rows] = ((block - center) / scale).to(dtype)
        return out


def _blocks(X: Any, device: torch.device) -> Any:
    """Yield slices and the rows of X that they mean, as float64 on the device."""
    for start in range(0, X.shape[0], BLOCK):
        rows = slice(start, min(start + BLOCK, X.shape[0]))
        yield rows, as_tensor(X[rows, ...], device, torch.float64)


class Rows:
    """Training rows of parts that see the same columns.

    Parameters
    ----------
    X : array of shape (n_rows, n_columns)
    weight : array of shape (n_rows,)
    settings : tuple (device, dtype, codes, active)
        See `ColumnScale`.
    scale : ColumnScale, default=None
        That of other rows, to be used again.

    Attributes
    ----------
    columns : tensor of shape (n_rows, n_columns)
        Standardised.
    scale : ColumnScale
    """

    def __init__(
        self,
        X: Any,
        weight: Any,
        settings: tuple[Any, ...],
        scale: ColumnScale | None = None,
    ) -> None:
        self.X, self.weight, self.settings = X, weight, settings
        self.device, self.dtype, codes, active = settings
        if scale is None:
            mass = as_tensor(weight, self.device, torch.float64)
            scale = ColumnScale(X, mass, codes, active)
        self.scale = scale
        self.columns = scale.apply(X, self.device, self.dtype)
        self._coded: tuple[Any, Any, Tensor] | None = None
        self._taught: dict[str, dict[str, Tensor]] = {}

    def teach(self, module: nn.Module) -> None:
        """Let a module that wants to see all rows take from them what it does.

        Modules of skmoe and one structure learn the same buffers, which are kept. What
        others do with the rows is theirs.
        """
        learn: Any = getattr(module, "learn", None)
        if learn is None:
            return
        weight = as_tensor(self.weight, self.device, self.dtype)
        homes = {type(part).__module__ for part in module.modules()}
        if not all(home.startswith(("skmoe.nn.", "torch.nn.")) for home in homes):
            learn(self.columns, weight)
            return
        key = structure(module)
        if key in self._taught:
            for name, buffer in module.named_buffers():
                buffer.copy_(self._taught[key][name])
            return
        learn(self.columns, weight)
        known = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self._taught[key] = known

    def refuse_gaps(self, owner: str) -> None:
        """Raise a ValueError if a number is missing; codes may be, see the module."""
        holes = torch.isnan(self.columns).any(dim=0).tolist()
        gaps = [j for j, hole in enumerate(holes) if hole and j not in self.settings[2]]
        if gaps:
            raise ValueError(
                f"{owner}: columns {gaps} of numbers have gaps (NaN), which a network "
                "cannot read; impute them, or leave module__categories unset, so that "
                "gaps are filled and marked."
            )

    def coded(self, y: Any, head: Any) -> Tensor:
        """Return coded responses; those of the last y are kept."""
        known = self._coded
        if known is not None and known[0] is y and known[1] == head.key:
            return known[2]
        coded: Tensor = as_tensor(y, self.device)
        if coded.is_floating_point():
            coded = coded.double()
        coded = head.code(coded)
        if coded.is_floating_point():
            coded = coded.to(self.dtype)
        self._coded = (y, head.key, coded)
        return coded


# The last training rows, as long as a part uses them: K experts that are prepared on
# the same arrays share one copy.
_last: Any = None


def shared_rows(X: Any, weight: Any, settings: tuple[Any, ...]) -> Rows:
    """Return training rows, those made last where the arrays are the same objects."""
    global _last
    known: Rows | None = None if _last is None else _last()
    if (
        known is not None
        and known.X is X
        and known.weight is weight
        and known.settings == settings
    ):
        return known
    rows = Rows(X, weight, settings)
    _last = ref(rows)
    return rows
