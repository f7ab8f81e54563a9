"""Choosing the number of experts: what is found, by what, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.experts import LinearExpert, LogisticExpert, PoissonExpert
from skmoe.gates import GaussianGate, SoftmaxGate
from skmoe.model_selection import (
    Dendrogram,
    MixtureOfExpertsSearch,
    select_n_experts,
)
from skmoe.model_selection._criteria import first_within_one_error, slope_criterion
from skmoe.model_selection._request import GivenRows, make_folds
from skmoe.model_selection._sweep import Sweep

QUICK = {"gate": SoftmaxGate(alpha=1e-3), "n_init": 1, "random_state": 0}
SWEPT = ("aic", "bic", "icl")


def regressor(**kwargs):
    return MixtureOfExpertsRegressor(LinearExpert(alpha=0), **(QUICK | kwargs))


def search(method="bic", n_experts=3, estimator=None, **kwargs):
    estimator = regressor() if estimator is None else estimator
    return MixtureOfExpertsSearch(estimator, n_experts, method=method, **kwargs)


@pytest.fixture(scope="module")
def two():
    """Rows of two lines, and which line each follows."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (160, 2))
    k = (X[:, 0] + 0.1 * rng.logistic(size=160) > 0).astype(int)
    y = np.array([-2.0, 2.0])[k] * X[:, 0] + X[:, 1] + 0.3 * rng.standard_normal(160)
    return X, y


# -- what is found -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["cv", "bic", "icl", "slope", "dendrogram"])
def test_two_lines_are_found(two, method):
    size = 5 if method == "slope" else 3
    options = {"method": method, "n_experts": size, "cv": 3, "random_state": 0}
    found = select_n_experts(regressor(), *two, one_standard_error=True, **options)
    assert found.best_n_experts_ == len(found.best_estimator_.experts_) == 2
    assert found.cv_results_["param_n_experts"][found.best_index_] == 2
    assert found.cv_results_["n_experts_left"][found.best_index_] == 2
    assert found.score(*two) > 0.9


def test_one_line_needs_one_expert():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((200, 1))
    y = X[:, 0] + rng.standard_normal(200)
    for method in ("bic", "dendrogram"):
        assert search(method).fit(X, y).best_n_experts_ == 1


def test_classes_and_counts(two):
    X, _ = two
    rng = np.random.default_rng(2)
    sign = np.where(X[:, 0] > 0, 1.0, -1.0)
    up = rng.random(160) < 1 / (1 + np.exp(-4 * sign * X[:, 1]))
    classifier = MixtureOfExpertsClassifier(LogisticExpert(alpha=0.1), **QUICK)
    found = search("dendrogram", estimator=classifier).fit(X, np.where(up, "u", "d"))
    assert is_classifier(found)
    assert found.best_n_experts_ == 2
    assert found.classes_.tolist() == ["d", "u"]
    assert_allclose(found.predict_proba(X).sum(axis=1), 1.0)
    assert_allclose(np.log(found.predict_proba(X)), found.predict_log_proba(X))
    counts = rng.poisson(np.exp(1.5 + sign * X[:, 1]))
    poisson = MixtureOfExpertsRegressor(PoissonExpert(alpha=0), **QUICK)
    assert search("dendrogram", estimator=poisson).fit(X, counts).best_n_experts_ == 2


def test_refitted_estimators_and_generative_gates(two):
    for estimator in (
        MixtureOfExpertsRegressor(LinearRegression(), **QUICK),
        regressor(gate=GaussianGate()),
    ):
        for method in ("bic", "dendrogram"):
            assert search(method, estimator=estimator).fit(*two).best_n_experts_ == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_likelihood_rises_with_the_number_of_experts():
    """Nested models of maximum likelihood; three passes each alone do not manage it."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((200, 1))
        k = rng.integers(3, size=200)
        y = rng.poisson(np.exp(1.5 + np.array([0.8, 0.0, -0.8])[k] * X[:, 0]))
        estimator = MixtureOfExpertsRegressor(
            PoissonExpert(alpha=0),
            gate=SoftmaxGate(alpha=0),
            init="random",
            n_init=1,
            max_iter=3,
            random_state=0,
        )
        alone = [
            clone(estimator).set_params(n_experts=size).fit(X, y).log_likelihood(X, y)
            for size in range(1, 6)
        ]
        assert np.diff(alone).min() < -1.0
        short = search(n_experts=5, estimator=estimator).fit(X, y).cv_results_
        assert np.diff(short["log_likelihood"]).min() > -0.2
        assert (short["log_likelihood"] >= np.array(alone) - 1e-3).all()
        estimator.set_params(max_iter=1000)
        table = search(n_experts=5, estimator=estimator).fit(X, y).cv_results_
        assert np.diff(table["log_likelihood"]).min() > -1e-3


def test_sizes_may_have_gaps(two):
    table = search(n_experts=[4, 2, 2]).fit(*two).cv_results_
    assert table["param_n_experts"].tolist() == [2, 4]
    merged = search("dendrogram", n_experts=[2, 4]).fit(*two)
    assert merged.cv_results_["param_n_experts"].tolist() == [2, 4]
    assert merged.dendrogram_.n_experts.tolist() == [4, 3, 2, 1]


# -- by what -----------------------------------------------------------------------


@pytest.mark.parametrize("method", SWEPT)
def test_criteria_are_those_of_the_mixture(two, method):
    weight = np.random.default_rng(0).uniform(0.5, 2, 160)
    found = search(method).fit(*two, sample_weight=weight)
    best, place = found.best_estimator_, found.best_index_
    for name in SWEPT:
        stated = found.cv_results_[name][place]
        assert_allclose(stated, getattr(best, name)(*two, weight), rtol=1e-9)
    log_lik = best.log_likelihood(*two, weight)
    assert_allclose(found.cv_results_["log_likelihood"][place], log_lik, rtol=1e-9)
    assert found.cv_results_["n_parameters"][place] == best.n_parameters_
    assert_array_equal(found.cv_results_["criterion"], found.cv_results_[method])
    assert found.cv_results_["rank_test_score"][place] == 1


def test_cross_validation_is_the_held_out_log_score(two):
    X, y = two
    folds = list(KFold(4).split(X))
    found = search("cv", n_experts=2, cv=folds).fit(X, y)
    single = clone(found.estimator).set_params(n_experts=1)
    by_hand = [
        single.fit(X[train], y[train]).log_prob(X[test], y[test]).mean()
        for train, test in folds
    ]
    table = found.cv_results_
    assert_allclose([table[f"split{i}_test_score"][0] for i in range(4)], by_hand)
    assert_allclose(table["mean_test_score"][0], np.mean(by_hand))
    assert_allclose(table["std_test_score"][0], np.std(by_hand))
    assert found.n_splits_ == 4
    assert found.best_score_ == table["mean_test_score"].max()
    assert_array_equal(table["criterion"], -table["mean_test_score"])


def test_one_standard_error_takes_the_smallest_that_is_as_good():
    mean, std = np.array([1.0, 1.9, 2.0, 1.95]), np.array([0.1, 0.1, 0.4, 0.1])
    assert first_within_one_error(mean, std, 5) == 1  # 2.0 - 0.4 / sqrt(4) = 1.8
    assert first_within_one_error(mean, std / 10, 5) == 2
    rng = np.random.default_rng(1)
    X = rng.standard_normal((90, 1))
    y = rng.standard_normal(90)
    found = search("cv", one_standard_error=True, random_state=0).fit(X, y)
    assert found.best_n_experts_ == 1


def test_slope_is_that_of_the_large_models():
    size = 5.0 * np.arange(1, 9)
    bias = np.array([200.0, 90.0, 0, 0, 0, 0, 0, 0])
    criterion, slope = slope_criterion(0.7 * size - bias, size)
    assert_allclose(slope, 0.7)
    assert criterion.argmin() == 2
    assert_allclose(criterion, 0.7 * size + bias)


def test_slope_resists_one_fit_that_stuck():
    size = 5.0 * np.arange(1, 11)
    log_lik = 0.6 * size - np.where(size < 15, 100.0, 0.0)
    log_lik[7] -= 8.0
    criterion, slope = slope_criterion(log_lik, size)
    assert_allclose(slope, 0.6, rtol=0.1)
    assert criterion.argmin() == 2


def test_slope_of_models_that_gain_nothing_is_zero():
    criterion, slope = slope_criterion(-np.arange(6.0), np.arange(6.0))
    assert slope == 0.0
    assert criterion.argmin() == 0
    assert slope_criterion(np.zeros(5), np.full(5, 3.0))[1] == 0.0


# -- the dendrogram ----------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(two):
    return search("dendrogram", n_experts=5).fit(*two)


def test_dendrogram_is_a_linkage(merged):
    tree = merged.dendrogram_
    assert is_valid_linkage(tree.linkage, throw=True)
    assert tree.linkage[-1, 3] == 5
    assert (np.diff(tree.linkage[:, 2]) >= 0).all()
    assert (tree.linkage[:, 2] >= tree.heights).all()
    assert tree.n_experts.tolist() == [5, 4, 3, 2, 1]
    assert_allclose(tree.shares.sum(), 1.0)
    # Three to spare, then the two that differ.
    assert tree.heights[-1] > 10 * tree.heights[:-1].max()


def test_dendrogram_states_its_criterion(merged, two):
    tree = merged.dendrogram_
    bic = tree.n_parameters * np.log(160) - 2 * tree.log_likelihood
    assert_allclose(tree.criterion, bic)
    assert tree.n_experts[tree.criterion.argmin()] == tree.best_n_experts == 2
    single = regressor(n_experts=1).fit(*two)
    assert_allclose(tree.log_likelihood[-1], single.log_likelihood(*two))
    place = merged.best_index_
    assert merged.best_estimator_.bic(*two) <= merged.cv_results_["bic"][place] + 1e-3


def test_labels_follow_the_merges():
    linkage = np.array([[1, 3, 0.1, 2], [0, 4, 0.2, 3], [2, 5, 9.0, 4]], dtype=float)
    levels = np.zeros(4)
    tree = Dendrogram(
        linkage, levels[1:], np.arange(4, 0, -1), levels, levels, levels, 2, levels
    )
    assert tree.labels(4).tolist() == [0, 1, 2, 3]
    assert tree.labels(3).tolist() == [0, 1, 2, 1]
    assert tree.labels().tolist() == [0, 0, 1, 0]
    assert tree.labels(1).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"one of 1, ..., 4, the number of leaves"):
        tree.labels(5)


def test_dendrogram_frame(merged):
    frame = merged.dendrogram_.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["n_experts"].tolist() == [5, 4, 3, 2, 1]
    assert np.isnan(frame["height"][0])
    assert_array_equal(frame["height"][1:], merged.dendrogram_.heights)


# -- rows: weights, groups, offsets ------------------------------------------------


@pytest.mark.parametrize("method", ["bic", "dendrogram"])
def test_weight_two_is_the_row_twice(two, method):
    X, y = two
    weight = np.where(np.arange(160) % 3 == 0, 2, 1)
    times = np.repeat(np.arange(160), weight)
    weighted = search(method).fit(X, y, sample_weight=weight)
    repeated = search(method).fit(X[times], y[times])
    for name in ("log_likelihood", "bic", "icl"):
        assert_allclose(
            weighted.cv_results_[name], repeated.cv_results_[name], rtol=1e-4
        )
    assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-3)


@pytest.mark.parametrize("method", ["bic", "cv", "dendrogram"])
def test_weight_zero_is_no_row(two, method):
    X, y = two
    weight = np.repeat([1.0, 0.0], [120, 40])
    spoilt = np.where(weight > 0, y, 1e3)
    options = {"method": method, "n_experts": 2, "cv": 3, "random_state": 0}
    weighted = search(**options).fit(X, spoilt, sample_weight=weight)
    fewer = search(**options).fit(X[:120], y[:120])
    assert_allclose(weighted.predict(X), fewer.predict(X), atol=1e-6)
    assert_allclose(
        weighted.cv_results_["criterion"], fewer.cv_results_["criterion"], rtol=1e-6
    )


def test_groups_share_experts_and_folds(two):
    X, y = two
    groups = np.arange(160) // 4
    rows = GivenRows(X, y, None, {"groups": groups}, {})
    for train, test in make_folds(4, regressor(), rows, np.random.RandomState(0)):
        assert not set(groups[train]) & set(groups[test])
    found = search("cv", n_experts=2, cv=3, random_state=0).fit(X, y, groups=groups)
    best = found.best_estimator_
    place = found.best_index_
    assert_allclose(found.cv_results_["bic"][place], best.bic(X, y, groups=groups))
    log_score = GivenRows(X, y, None, {"groups": groups}, {}).log_score(best)
    assert_allclose(log_score, best.log_likelihood(X, y, groups=groups) / 40)


def test_offsets_are_handed_on(two):
    X, _ = two
    rng = np.random.default_rng(3)
    offset = rng.uniform(0, 2, 160)
    y = rng.poisson(np.exp(offset + 0.5 * X[:, 0]))
    estimator = MixtureOfExpertsRegressor(PoissonExpert(alpha=0), **QUICK)
    found = search("cv", 2, estimator, cv=3, random_state=0).fit(X, y, offset=offset)
    assert found.best_n_experts_ == 1
    assert found.predict(X, offset=offset).shape == (160,)
    law = found.predict_distribution(X, offset=offset)
    assert_allclose(found.log_prob(X, y, offset=offset), law.log_prob(y))


def test_rows_without_a_response_are_not_scored(two):
    X, y = two
    some = np.where(np.arange(160) % 8 == 0, np.nan, y)
    estimator = regressor(gate=GaussianGate())
    found = search("cv", 2, estimator, cv=3, random_state=0).fit(X, some)
    assert found.best_n_experts_ == 2
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    log_score = GivenRows(X, some, None, {}, {}).log_score(found.best_estimator_)
    seen = ~np.isnan(some)
    assert_allclose(log_score, found.log_prob(X[seen], y[seen]).mean())


# -- as an estimator ---------------------------------------------------------------


def test_the_mixture_is_left_alone_and_what_comes_back_is_like_it(two):
    estimator = regressor()
    before = estimator.get_params()
    found = select_n_experts(estimator, *two, method="bic", n_experts=3)
    assert estimator.get_params() == before
    assert not hasattr(estimator, "node_")
    best = found.best_estimator_
    for name in ("init", "n_init", "max_iter", "tol", "random_state"):
        assert getattr(best, name) == before[name]
    assert best.n_experts == found.best_n_experts_
    assert best._training_rows.weight.size == 160
    merged = search("dendrogram").fit(*two).best_estimator_
    assert (merged.init, merged.n_init, merged.tol) == ("auto", 1, before["tol"])


def test_delegation(two):
    X, y = two
    found = search("dendrogram").fit(X, y)
    best = found.best_estimator_
    assert is_regressor(found)
    assert_array_equal(found.predict(X), best.predict(X))
    mean, std = found.predict(X, return_std=True)
    assert_array_equal(std, best.predict(X, return_std=True)[1])
    assert_array_equal(mean, found.predict_distribution(X).mean)
    assert_array_equal(found.gate_proba(X), best.gate_proba(X))
    assert_array_equal(found.apply(X), best.apply(X))
    assert_array_equal(found.log_prob(X, y), best.log_prob(X, y))
    weight = np.arange(160)
    assert found.score(X, y, weight) == best.score(X, y, weight)
    assert found.n_features_in_ == 2
    assert not hasattr(found, "predict_proba")
    with pytest.raises(Exception, match="not fitted"):
        search().predict(X)


def test_in_pipelines_and_cross_validation(two):
    X, y = two
    frame = pd.DataFrame(X, columns=["left", "right"])
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), search())
    model.fit(frame, y)
    assert model[-1].feature_names_in_.tolist() == ["left", "right"]
    assert cross_val_score(search("dendrogram"), X, y, cv=2).min() > 0.8
    assert clone(model[-1]).get_params()["estimator__experts__alpha"] == 0


def test_jobs_change_nothing(two):
    options = {"method": "cv", "cv": 2, "random_state": 0, "n_experts": 2}
    alone = search(**options).fit(*two)
    shared = search(**options, n_jobs=2).fit(*two)
    for name in ("criterion", "bic"):
        assert_allclose(alone.cv_results_[name], shared.cv_results_[name], rtol=1e-9)
    # The rows come back, for summary() and its kin.
    assert shared.best_estimator_._training_rows is not None


def test_seeds_make_it_repeatable(two):
    estimator = regressor(random_state=None, init="random")
    options = {"method": "cv", "cv": 2, "n_experts": 2, "estimator": estimator}
    first = search(**options, random_state=3).fit(*two)
    second = search(**options, random_state=3).fit(*two)
    other = search(**options, random_state=4).fit(*two)
    score = first.cv_results_["mean_test_score"]
    assert_array_equal(score, second.cv_results_["mean_test_score"])
    assert (score != other.cv_results_["mean_test_score"]).any()


def test_table_and_printing(two, capsys):
    found = search(verbose=1).fit(*two)
    frame = found.to_frame()
    assert frame.index.tolist() == [1, 2, 3]
    assert frame.loc[2, "bic"] == frame["bic"].min()
    assert {"fit_time", "n_parameters", "log_likelihood"} <= set(frame)
    assert (frame["fit_time"] > 0).all()
    assert "n_parameters" in capsys.readouterr().out


def test_refitting_forgets_what_belongs_to_another_method(two):
    found = search("dendrogram").fit(*two)
    assert hasattr(found, "dendrogram_")
    found.set_params(method="bic").fit(*two)
    assert not hasattr(found, "dendrogram_")
    assert pickle.loads(pickle.dumps(found)).best_n_experts_ == 2


def test_a_fit_that_lost_experts_counts_for_what_is_left(two):
    """The row of what was asked for says so, and the place of what is left gets it."""
    X, y = two
    sweep = Sweep(regressor(), GivenRows(X, y, None, {}, {}), [1, 2, 3])
    larger = sweep.models[3]
    better = clone(sweep.models[2]).fit(X, y)
    better.objective_trace_ = better.objective_trace_ + 1e6
    sweep._keep(3, better, 0.0)
    assert sweep.models[2] is sweep.models[3] is better
    sweep._keep(2, larger, 0.0)
    assert sweep.models[2] is better


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        search(
            method,
            2,
            MixtureOfExpertsRegressor(init="kmeans", max_iter=20, random_state=0),
        )
        for method in ("bic", "dendrogram")
    ]
    + [
        search(
            "bic",
            2,
            MixtureOfExpertsClassifier(
                LogisticExpert(alpha=1), init="kmeans", max_iter=20, random_state=0
            ),
        )
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# -- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_experts", "error", "match"),
    [
        ([], ValueError, "is empty: there is nothing to choose from"),
        (range(3, 3), ValueError, r"range\(3, 3\) is empty"),
        (0, ValueError, "n_experts must be at least 1, got 0"),
        ([0, 1, 2], ValueError, "n_experts must be at least 1, got 0"),
        ([1, 2.5], TypeError, "a range of integers, got 2.5"),
        (2.5, TypeError, "a range of integers, got 2.5"),
        (True, TypeError, "a range of integers, got True"),
        ("many", TypeError, "a range of integers, got 'm'"),
        ([1, 500], ValueError, "n_samples=160 .* than the largest n_experts=500"),
    ],
)
@pytest.mark.parametrize("method", ["bic", "dendrogram"])
def test_sizes_that_cannot_be(two, n_experts, error, match, method):
    with pytest.raises(error, match=match):
        search(method, n_experts=n_experts).fit(*two)


@pytest.mark.parametrize(
    ("estimator", "error", "match"),
    [
        (
            HierarchicalMixtureOfExpertsRegressor(),
            TypeError,
            "has no parameter n_experts.*grow='posterior'",
        ),
        (LinearRegression(), TypeError, "has no parameter n_experts.*flat mixture"),
        (
            make_pipeline(StandardScaler(), regressor()),
            TypeError,
            "Put the search in the Pipeline",
        ),
        (
            MixtureOfExpertsRegressor([("a", LinearExpert()), ("b", LinearExpert())]),
            ValueError,
            "experts is a list of 2, which fixes their number",
        ),
        (
            MixtureOfExpertsRegressor(HierarchicalMixtureOfExpertsRegressor()),
            ValueError,
            "experts is itself a mixture",
        ),
        (regressor(init=np.zeros(160, int)), ValueError, "init is an array"),
        (regressor(algorithm="stack"), ValueError, "algorithm='stack' fits every"),
    ],
)
def test_estimators_that_cannot_be(two, estimator, error, match):
    with pytest.raises(error, match=match):
        search(estimator=estimator).fit(*two)


def test_other_bad_arguments(two):
    with pytest.raises(ValueError, match=r"'method' parameter of Mixture.*'best'"):
        search("best").fit(*two)
    with pytest.raises(ValueError, match=r"at least 5 numbers of experts, got \[1, 2"):
        search("slope", n_experts=2).fit(*two)
    with pytest.raises(ValueError, match=r"cv=200 folds need at least as many rows"):
        search("cv", cv=200).fit(*two)
    with pytest.raises(ValueError, match=r"at least as many groups, got 2"):
        search("cv", 2, cv=3).fit(*two, groups=np.arange(160) % 2)


def test_a_choice_that_did_not_converge_says_so(two):
    with pytest.warns(ConvergenceWarning, match="chosen mixture of 2 experts did not"):
        search(n_experts=[2], estimator=regressor(max_iter=1)).fit(*two)


def test_a_choice_of_collapsed_experts_says_so():
    X = np.linspace(-1, 1, 40)[:, None]
    y = np.abs(X[:, 0])
    exact = MixtureOfExpertsRegressor(
        LinearExpert(alpha=0, variance_prior=None), n_init=1, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="a variance fell to its floor"):
        search(n_experts=[2], estimator=exact).fit(X, y)
