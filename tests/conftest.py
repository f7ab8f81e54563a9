"""What every test shares: array-API dispatch, a screenless backend, fixed seeds."""

import os

# Before SciPy and matplotlib are imported: they read these once.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fixed_global_seed():
    """Pin NumPy's global state, which ``random_state=None`` draws from."""
    state = np.random.get_state()  # noqa: NPY002  it is the state that None means
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture
def rng():
    """Return a generator of its own for the test."""
    return np.random.default_rng(0)
