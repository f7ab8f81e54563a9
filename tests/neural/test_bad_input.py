"""What cannot be fitted: said clearly, and nothing is lost by it."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from tests.multitask._small import raw
from tests.neural._small import classifier, leaf_classifier, regressor, rows

X, Y = rows()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top_k": 5}, "top_k must be an integer from 1 to n_experts=4, got 5"),
        ({"top_k": 0}, "'top_k' parameter"),
        ({"router": "soft"}, "'router' parameter"),
        ({"capacity_factor": 0.1}, r"capacity_factor must be at least 1 / n_experts"),
        ({"router": "expert_choice", "capacity_factor": 5.0}, "at most n_experts=4"),
        ({"router_losses": {"clear": 1.0}}, "'clear'"),
        ({"router_losses": {"load": -1.0}}, "the loss 'load' must be a number >= 0"),
        ({"router_losses": {"clean": np.nan}}, "loss 'clean' must be a number >= 0"),
        ({"router": "topk", "router_losses": {"clean": 1.0}}, "'clean'"),
        (
            {"router": "dense", "capacity_factor": 1.0},
            r"router='dense' takes no capacity_factor, got capacity_factor=1\.0: leave "
            r"it at None, or choose one of the routers \['noisy_topk', 'topk'",
        ),
        ({"router": "hash", "router_losses": {}}, "'hash' takes no router_losses"),
        ({"router": "noisy_topk", "bias_rate": 0.1}, "takes no bias_rate"),
        ({"router": "expert_choice", "overflow": "next"}, "takes no overflow"),
        ({"router": "expert_choice", "router_losses": {"switch": 0.1}}, "got 'switch'"),
        ({"expert_hidden": 0}, "'expert_hidden' parameter"),
        ({"stem_hidden": (8, -1)}, "stem_hidden must be an integer >= 1, got -1"),
    ],
)
def test_arguments_that_do_not_fit_leave_the_estimator_as_it_was(options, match):
    model = classifier().fit(X, Y)
    before, given = raw(model, X), model.get_params()
    with pytest.raises(ValueError, match=match):
        model.set_params(**options).fit(X, Y)
    assert_array_equal(raw(model.set_params(**given), X), before)
    with pytest.raises(ValueError, match=match):
        classifier(**options).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"depth": -1}, "'depth' parameter"),
        ({"leaf_width": 0}, "'leaf_width' parameter"),
        ({"hardening": -0.1}, "'hardening' parameter"),
        ({"region_leak": 1.0}, "'region_leak' parameter"),
    ],
)
def test_trees_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        leaf_classifier(**options).fit(X, Y)


@pytest.mark.parametrize("make", [classifier, leaf_classifier])
def test_nothing_is_said_before_fit(make):
    for name in ("predict", "gate_weights", "apply", "expert_usage"):
        with pytest.raises(NotFittedError):
            getattr(make(), name)(X)
    with pytest.raises(NotFittedError):
        make().flops_  # noqa: B018


@pytest.mark.parametrize("make", [classifier, leaf_classifier])
def test_classes_that_come_late(make):
    model = make().partial_fit(X, Y, classes=[0, 1])
    before = raw(model.partial_fit(X, Y, classes=[1, 0]), X)
    match = r"task 'y' holds \[2\], which the first call .* are \[0, 1\]\. Give all"
    with pytest.raises(ValueError, match=match):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert_array_equal(raw(model, X), before)


def test_late_classes_of_several_tasks():
    y = np.column_stack([Y, Y])
    model = classifier().partial_fit(X, y)
    model.partial_fit(X, y, classes=[[0, 1], [0, 1]])
    with pytest.raises(ValueError, match=r"holds \[5\]"):
        model.partial_fit(X, y, classes=[[0, 1], [0, 5]])


def test_a_training_that_diverges():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        regressor(learning_rate=1e30, precision="float32", max_epochs=20).fit(
            X, X[:, 0]
        )


@pytest.mark.parametrize("n_samples", [1, 65])
def test_experts_that_would_choose_from_one_row(n_samples):
    # A last batch of one row: it chooses for itself.
    y = np.arange(n_samples) * 1.0
    model = regressor(router="expert_choice").fit(X[:n_samples], y)
    assert model.predict(X).shape == (200,)


def test_torch_is_not_imported_before_a_fit():
    code = "import sys, skmoe.neural as n; n.FastFeedforwardRegressor(); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
