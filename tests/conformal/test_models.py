"""The mixture inside of a model, and the rows that are given to it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.exceptions import DataConversionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import HierarchicalMixtureForestRegressor
from skmoe.conformal._models import check_mixture, checked_rows, fitted, law_of
from tests._quick import classifier, regressor
from tests.conformal.problems import mixture, two_regimes
from tests.sequence.regimes import regressor as in_time

X, Y = two_regimes(80)


@pytest.mark.parametrize(
    "model",
    [
        regressor(),
        HierarchicalMixtureForestRegressor(),
        make_pipeline(StandardScaler(), regressor()),
        FrozenEstimator(make_pipeline(regressor())),
        GridSearchCV(make_pipeline(regressor()), {}),
    ],
)
def test_mixtures_are_let_in(model):
    check_mixture(model)


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        classifier(),
        make_pipeline(StandardScaler(), RandomForestRegressor()),
        GridSearchCV(Ridge(), {}),
        FrozenEstimator(LogisticRegression()),
    ],
)
def test_others_are_not(model):
    with pytest.raises(TypeError, match=r"must be a mixture regressor .*MAPIE"):
        check_mixture(model)


def test_rows_in_time_are_not_exchangeable():
    message = "MarkovMixtureOfExpertsRegressor takes rows as they follow .* one step"
    with pytest.raises(TypeError, match=message):
        check_mixture(make_pipeline(StandardScaler(), in_time()))
    check_mixture(in_time(order=0))


def test_a_bag_of_mixtures_has_no_law():
    bag = BaggingRegressor(regressor(), n_estimators=2, random_state=0).fit(X, Y)
    with pytest.raises(TypeError, match=r"got BaggingRegressor.*MAPIE"):
        law_of(bag, X)


@pytest.mark.parametrize(
    "wrap",
    [
        FrozenEstimator,
        lambda model: Pipeline([("only", model)]),
        lambda model: FrozenEstimator(Pipeline([("only", model)])),
    ],
    ids=["frozen", "pipeline", "frozen-pipeline"],
)
def test_law_is_that_of_the_mixture_inside(wrap):
    model = regressor().fit(X, Y)
    expected = model.predict_distribution(X).mean
    np.testing.assert_array_equal(law_of(wrap(model), X).mean, expected)


def test_law_is_seen_through_the_steps_before():
    model = make_pipeline(StandardScaler(), regressor()).fit(X, Y)
    np.testing.assert_allclose(law_of(model, X).mean, model.predict(X))
    search = GridSearchCV(model, {"mixtureofexpertsregressor__n_experts": [1, 2]}, cv=2)
    search.fit(X, Y)
    np.testing.assert_allclose(law_of(search, X).mean, search.predict(X))


def test_weights_go_to_the_last_step():
    weight = np.arange(80.0) % 3 + 1.0
    alone = fitted(mixture(), X, Y, weight)
    behind = fitted(make_pipeline(mixture()), X, Y, weight)
    np.testing.assert_array_equal(alone.predict(X), behind.predict(X))
    assert not np.array_equal(alone.predict(X), fitted(mixture(), X, Y).predict(X))


def test_model_is_cloned_and_frozen_one_is_not():
    model = mixture()
    assert fitted(model, X, Y) is not model
    frozen = FrozenEstimator(fitted(model, X, Y))
    assert fitted(frozen, X[:0], Y[:0]) is frozen


def test_rows_without_weight_are_dropped():
    weight = np.ones(80)
    weight[::2] = 0.0
    some, y, kept = checked_rows(X, Y, weight)
    np.testing.assert_array_equal(some, X[1::2])
    np.testing.assert_array_equal(y, Y[1::2])
    np.testing.assert_array_equal(kept, 1.0)
    some, *_ = checked_rows(sparse.csr_array(X), Y, weight)
    np.testing.assert_array_equal(some.toarray(), X[1::2])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones((80, 2)), "y must have one column, got 2 outputs.*a model for each"),
        (np.where(np.arange(80) == 7, np.nan, 1.0), "NaN or infinity: first in row 7"),
        (np.ones(79), "inconsistent numbers of samples"),
    ],
)
def test_responses_are_checked(y, message):
    with pytest.raises(ValueError, match=message):
        checked_rows(X, y, None)


def test_a_column_of_responses_is_one_with_a_warning():
    with pytest.warns(DataConversionWarning):
        _, y, _ = checked_rows(X, Y[:, None], None)
    np.testing.assert_array_equal(y, Y)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="Negative values"):
        checked_rows(X, Y, -np.ones(80))
