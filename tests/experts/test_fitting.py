"""What an inner fit predicts, and when it does."""

import copy
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skmoe.experts import EstimatorExpert
from skmoe.experts._fitting import Predicted
from skmoe.experts._heads import ConstantModel, GaussianHead
from skmoe.experts._weights import plan_weights


class Counted(RegressorMixin, BaseEstimator):
    """A linear regression that notes how many rows each prediction asks for."""

    asked: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        self.linear_ = LinearRegression().fit(X, y, sample_weight)
        return self

    def predict(self, X):
        self.asked.append(len(X))
        return self.linear_.predict(X)


@pytest.fixture
def asked():
    Counted.asked = []
    return Counted.asked


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X, (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def own_rows(n_rows, share=0.3):
    """Return weights that are one for some rows and zero for the rest."""
    return (np.random.default_rng(0).uniform(size=n_rows) < share).astype(float)


def prepared(estimator, X, y, weight, **settings):
    """Return an expert after one M-step."""
    expert = EstimatorExpert(estimator, **settings)
    expert.prepare(X, y, np.ones(len(y)), 2 if y.dtype.kind == "i" else None)
    expert.m_step(X, y, weight)
    return expert


# -- predictions wait until they are asked for ------------------------------------


def test_an_m_step_predicts_the_rows_that_have_weight(diabetes, asked):
    X, y = diabetes
    weight = own_rows(len(y))
    prepared(Counted(), X, y, weight)
    assert asked == [weight.sum()]


def test_no_row_is_predicted_twice(diabetes, asked):
    X, y = diabetes
    weight = own_rows(len(y))
    expert = prepared(Counted(), X, y, weight)
    some = own_rows(len(y), 0.6) > 0
    expert.log_prob_rows(X, y, some)
    assert asked[1:] == [np.sum(some & (weight == 0))]
    expert.log_prob_rows(X, y, some)
    expert.log_prob(X, y)
    expert.predict_params(X)
    assert sum(asked) == len(y)


def test_every_row_is_predicted_in_one_call_where_all_have_weight(diabetes, asked):
    X, y = diabetes
    expert = prepared(Counted(), X, y, 0.1 + own_rows(len(y)))
    expert.log_prob(X, y)
    assert asked == [len(y)]


def test_finish_predicts_nothing_for_a_model_without_coefficients(diabetes, asked):
    X, y = diabetes
    expert = prepared(Counted(), X, y, own_rows(len(y)))
    before = list(asked)
    expert.finish()
    assert asked == before
    assert expert.linear_inner_ is None


def test_finish_finds_the_linear_form_of_a_model_of_few_rows(diabetes):
    X, y = diabetes
    expert = prepared(LinearRegression(), X, y, own_rows(len(y)))
    expert.finish()
    assert expert.linear_inner_ is not None


def test_without_any_weight_a_constant_takes_over(diabetes):
    X, y = diabetes
    expert = prepared(Counted(), X, y, np.zeros(len(y)))
    assert expert.estimator_ is None
    assert_allclose(expert.predict_params(X), y.mean(), atol=1e-12)


# -- and they are the same ---------------------------------------------------------


def test_the_variance_is_that_of_the_rows_with_weight(diabetes):
    X, y = diabetes
    mine = own_rows(len(y)) > 0
    expert = prepared(Counted(), X, y, mine.astype(float), variance_prior=None)
    line = LinearRegression().fit(X[mine], y[mine])
    error = y[mine] - line.predict(X[mine])
    assert_allclose(expert.dispersion, np.mean(error**2), rtol=1e-10)


@pytest.mark.parametrize("cross_fit", [False, 3])
def test_densities_of_some_rows_are_those_of_all(cancer, cross_fit):
    X, y = cancer
    model = make_pipeline(StandardScaler(), SVC())
    weight = own_rows(len(y))
    expert = prepared(model, X, y, weight, cross_fit=cross_fit)
    again = prepared(model, X, y, weight, cross_fit=cross_fit)
    some = own_rows(len(y), 0.5) > 0
    assert_allclose(
        expert.log_prob_rows(X, y, some), again.log_prob(X, y)[some], rtol=1e-9
    )


def test_rows_of_other_data_are_predicted_afresh(cancer):
    X, y = cancer
    expert = prepared(SVC(), X, y, own_rows(len(y)))
    some = own_rows(len(y), 0.5) > 0
    other = X + 0.1
    found = expert.log_prob_rows(other, y, some)
    assert_allclose(found, expert.log_prob(other, y)[some], rtol=1e-9)
    assert not np.allclose(found, expert.log_prob_rows(X, y, some))


def test_margins_are_calibrated_on_the_rows_with_weight(cancer):
    X, y = cancer
    mine = own_rows(len(y)) > 0
    expert = prepared(SVC(), X, y, mine.astype(float))
    alone = EstimatorExpert(SVC())
    alone.prepare(X[mine], y[mine], np.ones(mine.sum()), 2)
    # The prior of the smoothing is the frequency in all rows.
    alone._head.prior = expert._head.prior
    alone.m_step(X[mine], y[mine], np.ones(mine.sum()))
    assert_allclose(expert.predict_params(X), alone.predict_params(X), rtol=1e-6)


# -- what a kept state knows -------------------------------------------------------


def test_a_kept_state_predicts_as_it_did_when_it_was_kept(cancer):
    X, y = cancer
    expert = prepared(SVC(), X, y, own_rows(len(y)))
    kept, expected = copy.copy(expert), copy.deepcopy(expert).predict_params(X.copy())
    # One class alone: a constant, which gives probabilities in place of margins.
    expert.m_step(X, y, (y == 1).astype(float))
    assert isinstance(expert._inner.model, ConstantModel)
    assert_array_equal(kept.predict_params(X), expected)


def test_a_warm_start_takes_down_what_the_model_says_now(diabetes):
    X, y = diabetes
    model = SGDRegressor(warm_start=True, max_iter=3, tol=None, random_state=0)
    expert = prepared(model, X, y, own_rows(len(y)))
    kept = copy.copy(expert)
    expected = expert.estimator_.predict(X)
    expert.m_step(X, y, 1.0 - own_rows(len(y)))
    assert not np.allclose(expert.estimator_.predict(X), expected)
    assert_array_equal(kept.predict_params(X), expected)


def test_predicted_in_parts_is_predicted_at_once(diabetes):
    X, y = diabetes
    model = LinearRegression().fit(X, y)
    head = GaussianHead(None, y, np.ones(len(y)))
    parts = Predicted(head, model, X)
    first = np.arange(len(y)) < 100
    assert_allclose(parts.rows(first), model.predict(X[:100]), rtol=1e-12)
    assert_allclose(parts.all, model.predict(X), rtol=1e-12)
    assert_allclose(parts.rows(~first), model.predict(X[100:]), rtol=1e-12)


# -- weights -----------------------------------------------------------------------


def test_a_plan_lists_no_routes_where_it_needs_none(monkeypatch):
    def fail(self):
        raise AssertionError("asked for routes")

    monkeypatch.setattr(Pipeline, "get_metadata_routing", fail)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert plan_weights(model).kind == "soft"
