"""Tasks one behind another: the chains, and the estimators that follow them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from skmoe.multitask._chains import parents_of
from tests.multitask._small import (
    assert_same_state,
    classifier,
    mixed,
    regressor,
    state,
)

NAMES = ["click", "cart", "buy", "watch"]


@pytest.mark.parametrize(
    ("chain", "parents"),
    [
        ("click -> cart -> buy", [-1, 0, 1, -1]),
        ("click->buy", [-1, -1, 0, -1]),
        (["click", "cart", "buy"], [-1, 0, 1, -1]),
        (("buy", "click"), [2, -1, -1, -1]),
        (["click -> cart", "click -> buy"], [-1, 0, 0, -1]),
        ([["click", "cart"], ("cart", "buy")], [-1, 0, 1, -1]),
        (["click -> cart", ["cart", "buy"]], [-1, 0, 1, -1]),
        (None, [-1, 0, 1, -1]),
    ],
)
def test_ways_to_write_a_chain(chain, parents):
    assert parents_of(chain, NAMES, ["watch"]) == parents


@pytest.mark.parametrize(
    ("chain", "match"),
    [
        ("click -> order", r"chain names \['order'\], which are not among the tasks"),
        ("", r"chain names \[''\]"),
        (["click"], r"at least two tasks, got \['click'\]"),
        ("click -> watch", r"binary tasks only, and \['watch'\] are not"),
        (["click -> buy", "cart -> buy"], "two tasks, 'click' and 'cart', in front of"),
        ("click -> buy -> click", "runs in a circle"),
        ("click -> click", "runs in a circle, click <- click"),
        (["click -> cart", "cart -> buy", "buy -> click"], "runs in a circle"),
    ],
)
def test_wrong_chains_are_explained(chain, match):
    with pytest.raises(ValueError, match=match):
        parents_of(chain, NAMES, ["watch"])


@pytest.mark.parametrize("excluded", [NAMES, NAMES[1:]])
def test_no_chain_without_two_tasks(excluded):
    assert parents_of(None, NAMES, excluded) == [-1] * 4


@pytest.fixture
def funnel(rng):
    """Return X and clicks, carts and purchases, each only behind the one before."""
    X = rng.normal(size=(600, 3))
    click = X[:, 0] > -0.5
    cart = click & (X[:, 1] > -0.3)
    return X, {"click": click, "cart": cart, "buy": cart & (X[:, 2] > 0)}


@pytest.mark.parametrize("architecture", ["aitm", "esmm"])
def test_a_funnel_is_learned(funnel, architecture):
    X, y = funnel
    model = mixed(
        architecture=architecture,
        chain="click -> cart -> buy",
        learning_rate=0.02,
        max_epochs=15,
    ).fit(X, y)
    proba = model.predict_proba(X)
    for name, labels in y.items():
        assert roc_auc_score(labels, proba[name][:, 1]) > 0.9
    others = classifier(architecture=architecture, learning_rate=0.02, max_epochs=15)
    others.fit(X, np.column_stack(list(y.values())))
    # The default is the order of the columns.
    assert_same_state(state(others), state(model))


def test_probabilities_fall_along_the_chain(funnel):
    X, y = funnel
    far = 10.0 * np.random.default_rng(1).normal(size=(500, 3))
    for chain in ("click -> cart -> buy", ["click -> cart", "click -> buy"]):
        model = mixed(architecture="esmm", chain=chain).fit(X, y)
        proba = model.predict_proba(far)
        click, cart, buy = (proba[name][:, 1] for name in ("click", "cart", "buy"))
        assert (cart <= click).all()
        assert (buy <= (cart if "cart -> buy" in str(chain) else click)).all()
        assert_allclose(proba["buy"].sum(axis=1), 1.0)


@pytest.mark.parametrize("beside", [False, True])
def test_penalty_makes_excess_over_the_task_in_front_rare(rng, beside):
    X = rng.normal(size=(300, 3))
    # Labels that break the order: only the penalty can keep it.
    y = {"click": X[:, 0] > 1, "buy": X[:, 0] > -1}
    if beside:
        y = {"segment": np.digitize(X[:, 1], [-1, 1]), **y}

    def excess(penalty):
        model = mixed(
            architecture="aitm",
            chain="click -> buy",
            chain_penalty=penalty,
            max_epochs=10,
            learning_rate=0.02,
        )
        proba = model.fit(X, y).predict_proba(X)
        return np.maximum(proba["buy"] - proba["click"], 0)[:, 1].mean()

    assert excess(20.0) < 0.5 * excess(0.0)


@pytest.mark.parametrize("architecture", ["aitm", "esmm"])
def test_other_tasks_may_stand_beside_the_chain(funnel, architecture):
    X, y = funnel
    y = {"watch": X[:, 0], "segment": np.digitize(X[:, 1], [-1, 1]), **y}
    model = mixed(architecture=architecture, learning_rate=0.02, max_epochs=15)
    model.fit(X, y)
    assert model._fitted.parents == [-1, -1, -1, 2, 3]
    assert model.task_scores(X, y)["watch"] > 0.5
    assert set(model.predict_proba(X)) == set(y) - {"watch"}


@pytest.mark.parametrize("architecture", ["aitm", "esmm"])
def test_a_chain_needs_two_binary_tasks(funnel, architecture):
    X, y = funnel
    match = f"'{architecture}' needs a chain of at least two binary tasks"
    with pytest.raises(ValueError, match=match):
        regressor(architecture=architecture).fit(X, X[:, :2])
    with pytest.raises(ValueError, match=match):
        classifier(architecture=architecture).fit(X, y["click"])
    with pytest.raises(ValueError, match=match):
        mixed(architecture=architecture, chain=[]).fit(X, y)


def test_a_chain_needs_an_architecture_that_follows_it(funnel):
    with pytest.raises(ValueError, match="is for architecture='aitm' or 'esmm'"):
        mixed(chain="click -> buy").fit(*funnel)


def test_a_circle_is_found_in_fit(funnel):
    model = mixed(architecture="aitm", chain="click -> buy -> click")
    with pytest.raises(ValueError, match="runs in a circle"):
        model.fit(*funnel)
    assert not hasattr(model, "n_features_in_")
