"""Split conformal sets: guarantees, agreement of sets and p-values, bad input."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import (
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe.conformal import SplitConformalMixture
from skmoe.datasets import make_claims, make_two_valued
from skmoe.experts import NegativeBinomialExpert, PointMassExpert, PoissonExpert
from tests._quick import classifier, regressor
from tests.conformal.problems import mixture, two_answers, two_regimes

METHODS = ("quantile", "cdf", "highest-density")
EVERY = [(method, weights) for method in METHODS for weights in ("uniform", "gate")]


@pytest.fixture(scope="module")
def frozen():
    return FrozenEstimator(mixture().fit(*two_regimes(300, seed=1)))


@pytest.fixture(scope="module")
def calibrated(frozen):
    return SplitConformalMixture(frozen).fit(*two_regimes(150, seed=2))


def inside(sets, y):
    if isinstance(sets, np.ndarray):
        return (sets[:, 0] <= y) & (y <= sets[:, 1])
    return sets.contains(y)


@pytest.mark.parametrize(("method", "weights"), EVERY)
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_sets_hold_what_is_not_strange(calibrated, method, weights, level):
    model = clone(calibrated).fit(*two_regimes(150, seed=2))
    model.set_params(method=method, weights=weights)
    X, y = two_regimes(200, seed=3)
    expected = model.p_value(X, y, level=level) > 1.0 - level + 1e-9
    found = inside(model.predict_interval(X, level=level), y)
    np.testing.assert_array_equal(found, expected)
    assert abs(expected.mean() - level) < 0.15


@pytest.mark.parametrize(("method", "weights"), EVERY)
def test_coverage_is_between_its_bounds(frozen, method, weights):
    # 19 rows: at a level of 0.9 no fewer and no more than 18 ranks of 20 are kept.
    hits = []
    model = SplitConformalMixture(frozen, method=method, weights=weights)
    for seed in range(40 if method == "highest-density" else 150):
        X, y = two_regimes(59, seed=100 + seed)
        p_value = model.fit(X[:19], y[:19]).p_value(X[19:], y[19:])
        hits.append(np.mean(p_value > 0.1 + 1e-9))
    error = np.std(hits) / len(hits) ** 0.5
    assert 0.9 - 4.0 * error < np.mean(hits) < 0.95 + 4.0 * error


def test_threshold_is_the_order_statistic(frozen):
    X, y = two_regimes(99, seed=5)
    model = SplitConformalMixture(frozen, level=0.8).fit(X, y)
    law = frozen.predict_distribution(X)
    low, high = law.quantile([0.1, 0.9]).T
    expected = np.sort(np.maximum(low - y, y - high))[79]  # of 99 the 80th
    interval = model.predict_interval(X)
    np.testing.assert_allclose(interval[:, 0], low - expected)
    np.testing.assert_allclose(interval[:, 1], high + expected)


def test_quantile_method_equals_mapie(frozen):
    regression = pytest.importorskip("mapie.regression")

    class Quantile(RegressorMixin):
        def __init__(self, q):
            self.q, self.fitted_ = q, True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return frozen.predict_distribution(X).quantile(self.q)

    (X, y), (X_new, _) = two_regimes(120, seed=5), two_regimes(50, seed=6)
    theirs = regression.ConformalizedQuantileRegressor(
        [Quantile(0.1), Quantile(0.9), Quantile(0.5)], confidence_level=0.8, prefit=True
    ).conformalize(X, y)
    expected = theirs.predict_interval(X_new, symmetric_correction=True)[1][:, :, 0]
    ours = SplitConformalMixture(frozen, level=0.8).fit(X, y)
    np.testing.assert_allclose(ours.predict_interval(X_new), expected, rtol=1e-10)


def test_gate_weights_close_the_gap_between_regimes(frozen):
    model = SplitConformalMixture(frozen).fit(*two_regimes(1500, seed=7))
    X, y = two_regimes(3000, seed=8)
    expert, gaps = frozen.apply(X), []
    for weights in ("uniform", "gate"):
        hit = inside(model.set_params(weights=weights).predict_interval(X), y)
        gaps.append(max(abs(hit[expert == k].mean() - 0.9) for k in (0, 1)))
    assert gaps[0] > 0.06
    assert gaps[1] < 0.03


def test_highest_density_sets_are_shorter_where_there_are_two_answers():
    X, y = make_two_valued(400, random_state=0)
    model = SplitConformalMixture(two_answers(), random_state=0).fit(X, y)
    central = np.diff(model.predict_interval(X[:50])).mean()
    union = model.set_params(method="highest-density").predict_interval(X[:50])
    assert union.length().mean() < 0.5 * central
    assert union.n_pieces.max() == 2


@pytest.mark.parametrize(("method", "weights"), EVERY)
def test_sets_of_counts_are_valid(method, weights):
    claims, new = (make_claims(n, random_state=n) for n in (600, 800))
    experts = [
        ("never", PointMassExpert()),
        ("reports", NegativeBinomialExpert(exposure=3)),
    ]
    model = SplitConformalMixture(
        regressor(experts, init="auto", n_init=2, max_iter=50, tol=1e-4),
        method=method,
        weights=weights,
        calibration_size=0.5,
        level=0.8,
        random_state=0,
    ).fit(claims.data, claims.target)
    sets = model.predict_interval(new.data)
    assert inside(sets, new.target).mean() > 0.76
    ends = sets if isinstance(sets, np.ndarray) else np.hstack([sets.lower, sets.upper])
    ends = ends[np.isfinite(ends)]
    np.testing.assert_array_equal(ends, np.round(ends))
    kept = model.p_value(new.data, new.target) > 0.2 + 1e-9
    assert inside(sets, new.target)[kept].all()


@pytest.mark.parametrize(("method", "weights"), EVERY)
def test_counts_that_tie_everywhere_are_enough_and_no_more(method, weights):
    # One law for all rows: the set must hold 81 of the 100 calibration rows, and
    # would not without one of its ends.
    y = np.random.default_rng(0).poisson(4.0, 100).astype(float)
    X = np.ones((100, 1))
    frozen = FrozenEstimator(regressor(PoissonExpert(), n_experts=1).fit(X, y))
    model = SplitConformalMixture(frozen, method=method, weights=weights, level=0.8)
    sets = model.fit(X, y).predict_interval(X)
    assert inside(sets, y).sum() >= 81
    low, high = sets[0].ravel()
    assert min(np.sum((low < y) & (y <= high)), np.sum((low <= y) & (y < high))) < 81


@pytest.mark.parametrize(
    "estimator",
    [
        HierarchicalMixtureOfExpertsRegressor(depth=1, init="kmeans", max_iter=50),
        HierarchicalMixtureForestRegressor(2, depth=1, max_iter=5, random_state=0),
        make_pipeline(StandardScaler(), regressor()),
    ],
    ids=["tree", "forest", "pipeline"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_trees_forests_and_pipelines(estimator):
    X, y = two_regimes(300)
    model = SplitConformalMixture(estimator, weights="gate", random_state=0).fit(X, y)
    new, y_new = two_regimes(400, seed=9)
    assert abs(inside(model.predict_interval(new), y_new).mean() - 0.9) < 0.09
    np.testing.assert_array_equal(model.predict(new), model.estimator_.predict(new))


def test_calibrating_anew_forgets_the_rows_before(frozen):
    first, second = two_regimes(90, seed=1), two_regimes(120, seed=2)
    model = SplitConformalMixture(frozen).fit(*first)
    assert model.n_calibration_ == 90.0
    expected = clone(model).fit(*second).predict_interval(first[0])
    again = model.calibrate(*second)
    assert again is model
    assert model.n_calibration_ == 120.0
    np.testing.assert_array_equal(model.predict_interval(first[0]), expected)


def test_calibration_rows_are_not_fitted_to():
    X, y = two_regimes(200)
    model = SplitConformalMixture(mixture(), calibration_size=60, random_state=3)
    model.fit(X, y)
    order = np.random.RandomState(3).permutation(200)
    train, held = np.sort(order[60:]), np.sort(order[:60])
    by_hand = mixture().fit(X[train], y[train])
    np.testing.assert_array_equal(model.predict(X), by_hand.predict(X))
    expected = SplitConformalMixture(FrozenEstimator(by_hand)).fit(X[held], y[held])
    found, wanted = (m.predict_interval(X) for m in (model, expected))
    np.testing.assert_array_equal(found, wanted)


def test_weight_of_calibration_rows_is_repetition(frozen):
    X, y = two_regimes(60, seed=4)
    count = np.arange(60) % 4
    row = np.repeat(np.arange(60), count)
    model = SplitConformalMixture(frozen, weights="gate")
    weighted = clone(model).fit(X, y, sample_weight=count.astype(float))
    repeated = clone(model).fit(X[row], y[row])
    assert weighted.n_calibration_ == repeated.n_calibration_ == row.size
    new = two_regimes(40, seed=5)[0]
    np.testing.assert_allclose(
        weighted.predict_interval(new), repeated.predict_interval(new)
    )


def test_rows_are_worked_on_in_blocks(calibrated, monkeypatch):
    X, y = two_regimes(70, seed=11)
    model = clone(calibrated).fit(*two_regimes(150, seed=2))
    for method, weights in EVERY:
        model.set_params(method=method, weights=weights)
        sets, p_value = model.predict_interval(X), model.p_value(X, y)
        monkeypatch.setattr("skmoe.conformal._calibrated.BLOCK_PAIRS", 2500)
        some, p_some = model.predict_interval(X), model.p_value(X, y)
        monkeypatch.undo()
        for end in ("lower", "upper") if method == "highest-density" else ("view",):
            whole = sets.view() if end == "view" else getattr(sets, end)
            parts = some.view() if end == "view" else getattr(some, end)
            np.testing.assert_allclose(parts, whole)
        np.testing.assert_array_equal(p_some, p_value)


def test_frames_names_and_lists():
    X, y = two_regimes(120)
    frame = pd.DataFrame(X, columns=["speed"])
    model = SplitConformalMixture(mixture(), random_state=0).fit(frame, pd.Series(y))
    assert model.feature_names_in_ == ["speed"]
    assert model.n_features_in_ == 1
    plain = SplitConformalMixture(mixture(), random_state=0).fit(X.tolist(), y.tolist())
    assert not hasattr(plain, "feature_names_in_")
    np.testing.assert_array_equal(
        model.predict_interval(frame), plain.predict_interval(X.tolist())
    )


def test_a_search_inside_and_outside(calibrated):
    X, y = two_regimes(120)
    grid = {"estimator__n_experts": [1, 2]}
    outside = GridSearchCV(SplitConformalMixture(mixture(), random_state=0), grid, cv=2)
    assert outside.fit(X, y).best_params_ == {"estimator__n_experts": 2}
    search = GridSearchCV(mixture(), {"n_experts": [1, 2]}, cv=2)
    model = SplitConformalMixture(search, random_state=0).fit(X, y)
    assert model.predict_interval(X).shape == (120, 2)


def test_pickle_keeps_the_calibration(calibrated):
    X = two_regimes(20, seed=3)[0]
    again = pickle.loads(pickle.dumps(calibrated))
    np.testing.assert_array_equal(
        again.predict_interval(X), calibrated.predict_interval(X)
    )


def test_far_from_all_calibration_rows_the_set_is_the_whole_line(frozen):
    X, y = two_regimes(200, seed=2)
    left = X[:, 0] < -0.5
    model = SplitConformalMixture(frozen, weights="gate").fit(X[left], y[left])
    for method in METHODS:
        sets = model.set_params(method=method).predict_interval([[-0.7], [0.9]])
        assert inside(sets, np.array([1e9, 1e9])).tolist() == [False, True]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, np.nan, "high", [0.9]])
def test_level_is_in_0_1(calibrated, level):
    X, y = two_regimes(40)
    with pytest.raises(ValueError, match=r"level must be one number in \(0, 1\)"):
        SplitConformalMixture(mixture(), level=level).fit(X, y)
    with pytest.raises(ValueError, match=r"level must be one number in \(0, 1\)"):
        calibrated.predict_interval(X, level=level)


@pytest.mark.parametrize(("level", "least"), [(0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_calibration_rows(frozen, level, least):
    X, y = two_regimes(least)
    model = SplitConformalMixture(frozen, level=level).fit(X, y)
    assert np.isfinite(model.predict_interval(X)).all()
    message = f"level={level} needs at least {least} calibration rows, got {least - 1}"
    with pytest.raises(ValueError, match=message):
        clone(model).fit(X[1:], y[1:])
    with pytest.raises(ValueError, match=message):
        model.calibrate(X[1:], y[1:])
    with pytest.raises(ValueError, match=f"level=0.999 needs .* got {least}"):
        model.predict_interval(X, level=0.999)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"method": "residual"}, ValueError, "'method' parameter"),
        ({"weights": "distance"}, ValueError, "'weights' parameter"),
        ({"calibration_size": 0.0}, ValueError, "'calibration_size' parameter"),
        ({"calibration_size": 40}, ValueError, "calibration_size=40 of n_samples=40"),
        ({"calibration_size": 0.01}, ValueError, "leaves none to fit to or none"),
        ({"estimator": Ridge()}, TypeError, "must be a mixture regressor.*got Ridge"),
        ({"estimator": classifier()}, TypeError, "For classifiers.*use MAPIE"),
    ],
)
def test_arguments_are_checked(params, error, message):
    X, y = two_regimes(40)
    with pytest.raises(error, match=message):
        SplitConformalMixture(**params).fit(X, y)


def test_several_outputs_are_refused():
    X, y = two_regimes(40)
    with pytest.raises(ValueError, match="y must have one column, got 2 outputs"):
        SplitConformalMixture(mixture()).fit(X, np.column_stack([y, y]))


@pytest.mark.parametrize("method", ["predict", "predict_interval", "p_value"])
def test_not_fitted(method):
    X, y = two_regimes(5)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(SplitConformalMixture(), method)(
            X, *([y] if method == "p_value" else [])
        )
