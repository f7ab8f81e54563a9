"""What tells one fit from another: a hash of settings and data."""

import hashlib
import re
from functools import partial
from typing import Any

import numpy as np

from skmoe._xp import is_foreign, to_numpy

__all__ = ["fingerprint"]

SAMPLED = 4096
# Settings that may change between a fit and the one that goes on with it.
FREE = ("checkpoint", "max_iter", "n_jobs", "verbose", "warm_start")
ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


def fingerprint(model: Any, *arrays: Any) -> str:
    """Return a hash of a model's settings, and of shapes and some rows of arrays."""
    digest = hashlib.sha256()
    for name, value in sorted(model.get_params(deep=True).items()):
        if name not in FREE and not name.endswith("random_state"):
            digest.update(f"{name}={_word(value)};".encode())
    for array in arrays:
        step = max(1, array.shape[0] // SAMPLED)
        some = np.ascontiguousarray(to_numpy(array[::step, ...]))
        digest.update(f"{tuple(array.shape)} {is_foreign(array)}".encode())
        digest.update(some.tobytes())
    return digest.hexdigest()


def _word(value: Any) -> str:
    """Return a value in words that are the same in each process."""
    if isinstance(value, partial):
        return f"partial{_word([value.func, value.args, value.keywords])}"
    if isinstance(value, type) or callable(value):
        kind = value if hasattr(value, "__qualname__") else type(value)
        known = "" if kind is value else _module_word(value)
        return f"{kind.__module__}.{kind.__qualname__}{known}"
    if hasattr(value, "get_params"):
        return f"{type(value).__qualname__}{_word(value.get_params(deep=False))}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_word(item) for item in value)}]"
    if isinstance(value, dict):
        names = sorted(value.keys() - {"random_state"}, key=str)
        return _word([[name, value[name]] for name in names])
    return ADDRESS.sub("", repr(value))


def _module_word(value: Any) -> str:
    """Return structure and a hash of the weights of a module, in words."""
    import torch

    if not isinstance(value, torch.nn.Module):
        return ""
    from skmoe.nn._state import structure

    digest = hashlib.sha256(structure(value).encode())
    for tensor in [*value.parameters(), *value.buffers()]:
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(whole.view(torch.uint8).numpy().tobytes())
    return f" {digest.hexdigest()}"
