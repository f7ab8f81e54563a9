"""Columns of parts by name: in forests, behind gaps and categories; lost settings."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmoe import HierarchicalMixtureForestRegressor, MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert, PoissonExpert

pytestmark = pytest.mark.filterwarnings("ignore:EM did not converge")


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def test_a_forest_knows_its_columns_by_name(rng):
    frame = pd.DataFrame({"a": rng.normal(size=120), "years": rng.uniform(1, 3, 120)})
    y = rng.poisson(frame["years"] * np.exp(0.3 * frame["a"])).astype(float)
    options = {"n_estimators": 2, "depth": 1, "random_state": 0}
    named = HierarchicalMixtureForestRegressor(
        experts=PoissonExpert(exposure="years"), **options
    ).fit(frame, y)
    placed = HierarchicalMixtureForestRegressor(
        experts=PoissonExpert(exposure=1), **options
    ).fit(frame.to_numpy(), y)
    assert_allclose(named.predict(frame), placed.predict(frame.to_numpy()))


def test_names_of_the_columns_that_a_part_sees(rng):
    frame = pd.DataFrame({"a": rng.normal(size=90), "years": rng.uniform(1, 3, 90)})
    frame.loc[::6, "a"] = np.nan
    frame["kind"] = pd.Categorical(rng.choice(list("uv"), 90))
    y = rng.poisson(frame["years"]).astype(float)
    model = MixtureOfExpertsRegressor(PoissonExpert(exposure="years"), 2).fit(frame, y)
    assert model.part_feature_names() == ["a", "kind=u", "kind=v"]
    expected = ["a", "a is missing", "kind=u", "kind=v", "log years"]
    assert model.part_feature_names(1) == expected
    assert model.part_feature_names("expert0") == expected
    assert model.experts_[0].coef_.size == 4
    with pytest.raises(ValueError, match=r"part must be .* got 'x'"):
        model.part_feature_names("x")


def test_several_outputs_for_experts_of_one(rng):
    X, y = rng.normal(size=(40, 1)), rng.poisson(2.0, size=(40, 2)).astype(float)
    with pytest.raises(ValueError, match=r"one output, got y of shape \(40, 2\)"):
        MixtureOfExpertsRegressor(PoissonExpert(), 2).fit(X, y)
    model = MixtureOfExpertsRegressor(PoissonExpert(), 1).fit(X, y[:, :1])
    assert model.predict(X).shape == (40,)


@pytest.mark.parametrize("lost", [{"shared_dispersion": True}, {"balance": "cap"}])
def test_settings_of_a_nested_mixture_are_not_lost_silently(lost, rng):
    X = rng.normal(size=(40, 1))
    inner = MixtureOfExpertsRegressor(n_experts=2, **lost)
    with pytest.raises(ValueError, match=r"set .* on the outermost mixture"):
        MixtureOfExpertsRegressor([("m", inner), ("l", LinearExpert())]).fit(X, X[:, 0])
