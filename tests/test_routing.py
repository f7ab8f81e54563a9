"""Metadata on its way to the experts."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from skmoe import MixtureOfExpertsRegressor
from skmoe.em._fit import fit_node
from skmoe.experts import EstimatorExpert, LinearExpert

QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0}


class Curious(Ridge):
    """Remember the metadata that fit was given."""

    seen: list

    def fit(self, X, y, sample_weight=None, batch=None, mode=None):
        Curious.seen.append((np.array(X), batch, mode))
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.fixture(autouse=True)
def routing():
    Curious.seen = []
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(60, 2))
    return X, np.abs(X[:, 0]) + 0.2 * rng.normal(size=60), np.arange(60)


def curious():
    return Curious().set_fit_request(batch=True, mode=True)


def assert_rows_match(X):
    """Check that each fit saw the metadata of just its own rows."""
    assert Curious.seen
    for part, batch, mode in Curious.seen:
        assert mode == "fast"
        assert_array_equal(part, X[batch])


@pytest.mark.parametrize("wrapped", [False, True])
def test_metadata_reach_a_single_expert(rows, wrapped):
    X, y, batch = rows
    expert = EstimatorExpert(curious()) if wrapped else curious()
    model = MixtureOfExpertsRegressor(expert, **QUICK)
    model.fit(X, y, batch=batch, mode="fast")
    assert_rows_match(X)


def test_metadata_follow_the_rows_of_positive_weight(rows):
    X, y, batch = rows
    weight = (np.arange(60) % 3).astype(float)
    model = MixtureOfExpertsRegressor(curious(), **QUICK)
    model.fit(X, y, sample_weight=weight, batch=batch, mode="fast")
    assert_rows_match(X)
    assert all((weight[seen] > 0).all() for _, seen, _ in Curious.seen)


def test_each_named_expert_gets_its_own(rows):
    X, y, batch = rows
    model = MixtureOfExpertsRegressor(
        [
            ("asks", curious()),
            ("asks not", Ridge()),
            ("own", LinearExpert()),
            ("other", Curious(alpha=9.0).set_fit_request(batch="shard", mode=False)),
        ],
        tol=1e-3,
    )
    model.fit(X, y, batch=batch, mode="fast", shard=-batch)
    assert {mode for *_, mode in Curious.seen} == {"fast", None}
    for part, seen, mode in Curious.seen:
        assert_array_equal(part, X[seen if mode else -seen])


def test_metadata_reach_experts_made_later(rows, monkeypatch):
    """Where an expert dies the engine asks for new parts: these need them too."""
    X, y, batch = rows
    asked = []

    def fit_and_ask(*args):
        options = args[5]
        asked.extend(options.fresh(3).experts)
        return fit_node(*args)

    monkeypatch.setattr("skmoe._em_shell.fit_node", fit_and_ask)
    model = MixtureOfExpertsRegressor(curious(), **(QUICK | {"n_experts": 3}))
    model.fit(X, y, batch=batch, mode="fast")
    assert [name for name, _ in asked] == ["expert0", "expert1", "expert2"]
    for _, expert in asked:
        assert expert.fit_params_["mode"] == "fast"
        assert_array_equal(expert.fit_params_["batch"], batch)


def test_what_nobody_asked_for_is_refused(rows):
    X, y, batch = rows
    model = MixtureOfExpertsRegressor(curious(), **QUICK)
    with pytest.raises(UnsetMetadataPassedError, match="batch"):
        MixtureOfExpertsRegressor(Curious(), **QUICK).fit(X, y, batch=batch)
    with pytest.raises(TypeError, match=r"unexpected argument.*nothing"):
        model.fit(X, y, nothing=1)
    with (
        config_context(enable_metadata_routing=False),
        pytest.raises(ValueError, match="enable_metadata_routing=True"),
    ):
        model.fit(X, y, batch=batch)


def test_weights_need_no_request_of_the_experts(rows):
    X, y, batch = rows
    weight = 1.0 + batch % 2
    routed = MixtureOfExpertsRegressor(curious(), **QUICK)
    routed.fit(X, y, sample_weight=weight, batch=batch, mode="fast")
    plain = MixtureOfExpertsRegressor(Ridge(), **QUICK)
    plain.fit(X, y, sample_weight=weight)
    assert_array_equal(routed.predict(X), plain.predict(X))


def test_through_pipeline_and_search(rows):
    X, y, batch = rows
    model = MixtureOfExpertsRegressor(curious(), **QUICK)
    model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipe = make_pipeline(model)
    search = GridSearchCV(
        pipe, {"mixtureofexpertsregressor__top_k": [None, 1]}, cv=KFold(2)
    )
    search.fit(X, y, sample_weight=np.ones(60), batch=batch, mode="fast")
    assert_rows_match(X)


def test_router_lists_the_experts():
    model = MixtureOfExpertsRegressor([("a", curious()), ("b", LinearExpert())])
    routing = model.get_metadata_routing()
    assert routing.consumes("fit", {"batch", "mode", "other"}) == {"batch", "mode"}
    assert (
        MixtureOfExpertsRegressor().get_metadata_routing().consumes("fit", {"batch"})
        == set()
    )
