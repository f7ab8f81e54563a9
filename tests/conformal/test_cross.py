"""Cross-conformal sets: agreement with p-values, the guarantee, bad input."""

import copy

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, ShuffleSplit

from skmoe.conformal import CrossConformalMixture, SplitConformalMixture
from skmoe.datasets import make_claims, make_two_valued
from skmoe.experts import PoissonExpert
from tests._quick import regressor
from tests.conformal.problems import mixture, two_answers, two_regimes
from tests.conformal.test_split import EVERY, inside


@pytest.fixture(scope="module")
def crossed_once():
    X, y = two_regimes(60)
    return CrossConformalMixture(mixture(), cv=3, random_state=0).fit(X, y)


@pytest.fixture
def crossed(crossed_once):
    return copy.copy(crossed_once)


@pytest.mark.parametrize(("method", "weights"), EVERY)
def test_sets_hold_what_is_not_strange(crossed, method, weights):
    crossed.set_params(method=method, weights=weights)
    X, y = two_regimes(80, seed=3)
    for level in (0.6, 0.9):
        kept = crossed.p_value(X, y, level=level) > 1.0 - level + 1e-9
        found = inside(crossed.predict_interval(X, level=level), y)
        assert found[kept].all()  # beside the set: gaps that an interval closes
        assert found.mean() - kept.mean() < 0.05
        assert abs(kept.mean() - level) < 0.2


def test_p_value_counts_each_row_under_the_model_that_has_not_seen_it(crossed):
    crossed.set_params(method="cdf", weights="uniform")
    X, y = two_regimes(60)
    new, y_new = two_regimes(25, seed=4)
    folds = KFold(3, shuffle=True, random_state=np.random.RandomState(0)).split(X)
    count = np.zeros(25)
    for (train, test), model in zip(folds, crossed.estimators_, strict=True):
        np.testing.assert_array_equal(
            mixture().fit(X[train], y[train]).predict(X), model.predict(X)
        )
        own = np.abs(model.predict_distribution(X[test]).cdf(y[test]) - 0.5)
        other = np.abs(model.predict_distribution(new).cdf(y_new) - 0.5)
        count += (own >= other[:, None]).sum(axis=1)
    found = crossed.p_value(new, y_new)
    np.testing.assert_allclose(found, (1.0 + count) / 61.0)


def test_ends_are_those_of_cv_plus(crossed):
    # Barber et al. (2021), equation 1.6, with conformalised quantiles.
    crossed.set_params(method="quantile", weights="uniform")
    new = two_regimes(30, seed=4)[0]
    low, high = [], []
    for fold, model in zip(crossed._folds, crossed.estimators_, strict=True):
        q_low, q_high = fold.law.quantile([0.05, 0.95]).T
        score = np.maximum(q_low - fold.y, fold.y - q_high)
        ends = model.predict_distribution(new).quantile([0.05, 0.95])
        low.append(ends[:, :1] - score)
        high.append(ends[:, 1:] + score)
    rank = int(np.floor(0.1 * 61))
    expected = np.column_stack(
        [
            np.sort(np.hstack(low), axis=1)[:, rank - 1],
            np.sort(np.hstack(high), axis=1)[:, -rank],
        ]
    )
    np.testing.assert_allclose(crossed.predict_interval(new, level=0.9), expected)


def test_coverage_keeps_the_guarantee_and_is_near_the_level():
    hits = []
    for seed in range(20):
        X, y = two_regimes(240, seed=seed)
        model = CrossConformalMixture(mixture(), cv=4, level=0.8, random_state=seed)
        model.fit(X[:40], y[:40])
        hits.append(inside(model.predict_interval(X[40:]), y[40:]).mean())
    error = np.std(hits) / len(hits) ** 0.5
    assert np.mean(hits) > 2 * 0.8 - 1 - 2 * 0.8 * 3 / 44
    assert abs(np.mean(hits) - 0.8) < 0.03 + 4.0 * error


def test_highest_density_sets_of_two_answers_have_two_pieces():
    X, y = make_two_valued(120, random_state=0)
    model = CrossConformalMixture(
        two_answers(), method="highest-density", cv=2, random_state=0
    ).fit(X, y)
    new, y_new = make_two_valued(40, random_state=1)
    union = model.predict_interval(new)
    assert union.n_pieces.max() == 2
    assert abs(union.contains(y_new).mean() - 0.9) < 0.11


def test_sets_of_highest_density_are_little_larger_than_their_p_values_say(
    crossed, monkeypatch
):
    crossed.set_params(method="highest-density", weights="uniform")
    X = two_regimes(10, seed=6)[0]
    coarse = crossed.predict_interval(X).length()
    monkeypatch.setattr("skmoe.conformal._calibrated.FINENESS", 1.0 + 1e-9)
    exact = crossed.predict_interval(X).length()
    assert (coarse >= exact - 1e-9).all()
    assert coarse.mean() < 1.05 * exact.mean()


def test_counts_come_back_as_integers():
    claims = make_claims(90, random_state=0)
    model = CrossConformalMixture(
        regressor(PoissonExpert(exposure=3), n_experts=1),
        method="highest-density",
        cv=3,
        level=0.8,
        random_state=0,
    ).fit(claims.data, claims.target)
    union = model.predict_interval(claims.data)
    ends = np.hstack([union.lower, union.upper])
    np.testing.assert_array_equal(np.round(ends), ends)
    assert union.integers
    assert union.contains(claims.target).mean() >= 0.8


def test_as_many_folds_as_rows_is_jackknife_plus():
    X, y = two_regimes(24)
    by_number, by_splitter = (
        CrossConformalMixture(regressor(n_experts=1), cv=cv, random_state=0).fit(X, y)
        for cv in (24, LeaveOneOut())
    )
    assert len(by_number.estimators_) == 24
    np.testing.assert_allclose(
        by_number.predict_interval(X), by_splitter.predict_interval(X)
    )


def test_folds_may_be_given_and_keep_groups_together():
    X, y = two_regimes(60)
    groups = np.arange(60) // 6
    folds = list(GroupKFold(3).split(X, y, groups))
    model = CrossConformalMixture(mixture(), cv=folds).fit(X, y)
    for (_, test), fold in zip(folds, model._folds, strict=True):
        np.testing.assert_array_equal(fold.y, y[test])


def test_prediction_is_the_mean_of_the_folds(crossed):
    X = two_regimes(9, seed=3)[0]
    each = [model.predict(X) for model in crossed.estimators_]
    np.testing.assert_allclose(crossed.predict(X), np.mean(each, axis=0))
    assert crossed.n_features_in_ == 1
    assert crossed.n_calibration_ == 60.0


def test_parallel_fits_change_nothing(crossed):
    X, y = two_regimes(60)
    again = clone(crossed).set_params(n_jobs=2)
    with joblib.parallel_config("threading"):
        again.fit(X, y)
    np.testing.assert_array_equal(
        again.predict_interval(X), crossed.predict_interval(X)
    )


def test_weights_of_rows_count_in_fit_and_calibration(crossed):
    X, y = two_regimes(60)
    weight = np.arange(60) % 3.0
    kept = weight > 0
    model = clone(crossed)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    dropped = clone(model).fit(X[kept], y[kept], sample_weight=weight[kept])
    assert weighted.n_calibration_ == weight.sum()
    np.testing.assert_array_equal(
        weighted.predict_interval(X), dropped.predict_interval(X)
    )


def test_gate_of_each_fold_is_its_own(crossed):
    X = two_regimes(60)[0]
    crossed.set_params(method="quantile", weights="gate")
    local = crossed.predict_interval(X)
    uniform = crossed.set_params(weights="uniform").predict_interval(X)
    right = X[:, 0] > 0.3
    assert np.diff(local[right]).mean() > np.diff(uniform[right]).mean()


@pytest.mark.parametrize("cv", [ShuffleSplit(3, random_state=0), [([0, 1], [2, 3])]])
def test_each_row_is_tested_once(cv):
    X, y = two_regimes(30)
    with pytest.raises(ValueError, match="cv must test each of the 30 rows once"):
        CrossConformalMixture(mixture(), cv=cv).fit(X, y)


def test_frozen_estimators_are_refused():
    X, y = two_regimes(30)
    frozen = FrozenEstimator(mixture().fit(X, y))
    with pytest.raises(ValueError, match=r"FrozenEstimator: .* SplitConformalM"):
        CrossConformalMixture(frozen).fit(X, y)


def test_too_few_rows_for_the_level():
    X, y = two_regimes(18)
    with pytest.raises(ValueError, match=r"level=0.95 needs at least 19 .* got 18"):
        CrossConformalMixture(mixture(), level=0.95).fit(X, y)


def test_one_fold_of_calibration_is_the_split(crossed):
    X, y = two_regimes(80)
    train, held = np.arange(50), np.arange(50, 80)
    model = mixture().fit(X[train], y[train])
    split = SplitConformalMixture(FrozenEstimator(model)).fit(X[held], y[held])
    # Two folds of which one model and its rows are the same twice over.
    twice = CrossConformalMixture(mixture(), cv=2).fit(X, y)
    twice._folds, twice.n_calibration_ = [*split._folds, *split._folds], 61.0
    halves = SplitConformalMixture(FrozenEstimator(model)).fit(
        np.vstack([X[held]] * 2), np.tile(y[held], 2)
    )
    np.testing.assert_allclose(twice.predict_interval(X), halves.predict_interval(X))
