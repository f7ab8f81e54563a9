"""The array namespace: what leaves its library, and what comes back to it."""

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from skmoe._xp import is_foreign, like, to_numpy


def foreign():
    """Yield arrays of other libraries that hold 0, 1, 2."""
    values = [0.0, 1.0, 2.0]
    yield "torch", torch.tensor(values)
    yield "gradients", torch.tensor(values, requires_grad=True)
    yield "strided", torch.tensor([0.0, 9.0, 1.0, 9.0, 2.0])[::2]
    for device in array_api_strict.__array_namespace_info__().devices():
        array = array_api_strict.asarray(values, device=device)
        yield f"strict on {device}", array


FOREIGN = dict(foreign())
OWN = {
    "numpy": np.arange(3.0),
    "list": [0, 1, 2],
    "frame": pd.DataFrame({"a": [0, 1, 2]}),
    "sparse": sparse.csr_array(np.eye(3)),
    "none": None,
    "words": "abc",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_arrays_become_numpy(name):
    array = FOREIGN[name]
    assert is_foreign(array)
    found = to_numpy(array)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, [0.0, 1.0, 2.0])


@pytest.mark.parametrize("name", OWN)
def test_all_else_is_left_alone(name):
    assert not is_foreign(OWN[name])
    assert to_numpy(OWN[name]) is OWN[name]
    result = np.ones(2)
    assert like(OWN[name], result) is result


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    "result",
    [np.arange(6.0).reshape(2, 3).T, np.arange(3), np.broadcast_to(1.5, (2, 2))],
    ids=["transposed", "whole", "broadcast"],
)
def test_results_follow_x(name, result):
    array = FOREIGN[name]
    found = like(array, result)
    assert type(found) is type(array)
    assert found.device == array.device
    narrow = any(word in name for word in ("no_float64", "no_x64"))
    bits = 4 if (narrow and result.dtype.kind == "f") or "no_x64" in name else 8
    assert to_numpy(found).itemsize == bits
    np.testing.assert_array_equal(to_numpy(found), result)
