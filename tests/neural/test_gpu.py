"""The estimators on a CUDA device: run with ``-m gpu``."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.multitask._small import raw
from tests.neural._small import ROUTERS, classifier, leaf_classifier, regressor, rows

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_predictions_are_those_of_the_cpu(router, precision):
    X, y = rows()
    model = regressor(router=router, precision=precision, device="cuda").fit(X, y)
    there = raw(model, X)
    here = raw(pickle.loads(pickle.dumps(model)).set_params(device="cpu"), X)
    # Where two experts tie, rounding decides which one a row goes to.
    near = np.isclose(here, there, atol=1e-4).mean()
    assert near > 0.98


def test_learns_there_as_here():
    X, y = rows(2000)
    options = {"max_epochs": 30, "learning_rate": 0.02, "device": "cuda"}
    for make in (classifier, leaf_classifier):
        model = make(**options).fit(X[:1000], y[:1000])
        assert model.score(X[1000:], y[1000:]) > 0.85


def test_leaves_are_those_of_the_cpu():
    X, y = rows()
    model = leaf_classifier(device="cuda", precision="float64").fit(X, y)
    copy = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    assert_array_equal(model.apply(X), copy.apply(X))
    assert_allclose(raw(model, X), raw(copy, X), atol=1e-10)
