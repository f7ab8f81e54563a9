"""Array libraries that rows may come from, and the guards that they stay there."""

from contextlib import contextmanager

import array_api_strict
import numpy as np
import torch

from skmoe._xp import namespace, to_numpy

__all__ = ["LIBRARIES", "assert_same", "no_long_trips", "small_blocks"]

ELSEWHERE = array_api_strict.Device("device1")
LIBRARIES = {
    "torch": torch.asarray,
    "strict": array_api_strict.asarray,
    # NumPy cannot convert these: a way through it that nobody meant is an error.
    "elsewhere": lambda array: array_api_strict.asarray(array, device=ELSEWHERE),
}
if torch.cuda.is_available():
    LIBRARIES["cuda"] = lambda array: torch.asarray(array, device="cuda")


def assert_same(found, expected, to, tol=1e-10):
    """Check where an array lies, its type and what it holds.

    Parameters
    ----------
    found : array
    expected : NumPy array
    to : callable
        What brings a NumPy array to the library, one of `LIBRARIES`.
    tol : float
        Relative and absolute.
    """
    model = to(np.zeros(2))
    assert type(found) is type(model)
    assert found.device == model.device
    if expected.dtype.kind == "f":
        assert found.dtype == namespace(model).float64
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(to_numpy(found), expected, rtol=tol, atol=tol)


@contextmanager
def no_long_trips(monkeypatch, n_rows):
    """Fail where an array as long as the rows goes through NumPy, either way.

    Only arrays of `ELSEWHERE` are watched: these have a single way each.
    """
    home, away = np.from_dlpack, array_api_strict.asarray

    def from_dlpack(array):
        assert max(array.shape, default=0) < n_rows, f"{array.shape} went to NumPy"
        return home(array)

    def asarray(array, **keywords):
        shape = array.shape if isinstance(array, np.ndarray) else ()
        assert max(shape, default=0) < n_rows, f"{shape} came from NumPy"
        return away(array, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(np, "from_dlpack", from_dlpack)
        patch.setattr(array_api_strict, "asarray", asarray)
        yield


def small_blocks(monkeypatch):
    """Let rows of other libraries come in the smallest blocks: of 256."""
    monkeypatch.setattr("skmoe._xp.DEVICE_NUMBERS", 8)
