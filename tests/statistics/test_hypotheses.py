"""Wald and likelihood-ratio tests of a column in the gate or in experts."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from skmoe import HierarchicalMixtureOfExpertsRegressor
from skmoe.exceptions import UnidentifiedWarning
from skmoe.experts import PoissonExpert
from skmoe.gates import ConstantGate, GaussianGate
from skmoe.statistics import HypothesisTest, likelihood_ratio_test, wald_test
from tests.statistics.problems import ML, lines, mixture, with_sex


@pytest.fixture(scope="module")
def fitted():
    X, y = lines()
    return mixture().fit(X, y), X, y


def test_of_one_expert_is_that_of_least_squares():
    X, y = lines()
    model = mixture(n_experts=1).fit(X, y)
    rss = np.sum((y - LinearRegression().fit(X, y).predict(X)) ** 2)
    less = X[["age"]]
    more = np.sum((y - LinearRegression().fit(less, y).predict(less)) ** 2)
    result = likelihood_ratio_test(model, X, y, "dose", "expert0")
    assert result.statistic == pytest.approx(len(y) * np.log(more / rss), rel=1e-6)
    assert result.df == 1
    assert result.p_value == pytest.approx(stats.chi2.sf(result.statistic, 1))
    frame = model.summary().to_frame().set_index("term")
    wald = wald_test(model, "dose", "expert0")
    assert wald.statistic == pytest.approx(frame.z["dose"] ** 2)


@pytest.mark.parametrize("part", ["gate", "experts", "expert0", "expert1"])
@pytest.mark.parametrize("column", ["age", "dose"])
def test_both_tests_say_the_same(fitted, part, column):
    model, X, y = fitted
    wald = wald_test(model, column, part)
    ratio = likelihood_ratio_test(model, X, y, column, part)
    assert wald.df == ratio.df == (2 if part == "experts" else 1)
    assert (wald.p_value < 1e-4) == (ratio.p_value < 1e-4)
    if ratio.p_value > 0.01:
        assert wald.statistic == pytest.approx(ratio.statistic, rel=0.1, abs=0.05)
    assert "has no effect in" in str(wald)
    assert f"chi2({wald.df})" in str(ratio)


def test_gate_without_columns_is_constant(fitted):
    model, X, y = fitted
    result = likelihood_ratio_test(model, X, y, ["age", "dose"])
    alone = mixture(
        gate=ConstantGate(), init=np.asarray(model.responsibilities(X, y))
    ).fit(X, y)
    expected = 2 * (model.log_likelihood(X, y) - alone.log_likelihood(X, y))
    assert result.statistic == pytest.approx(expected, rel=1e-4)


def test_category_has_a_degree_of_freedom_for_each_but_one():
    X, y = lines()
    model = mixture().fit(with_sex(X), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnidentifiedWarning)
        assert wald_test(model, "sex", "gate").df == 2
        assert wald_test(model, "sex", "experts").df == 4
        # The indicators are one column more than there are contrasts of them.
        assert wald_test(model, "sex=m", "gate").df == 1


def test_columns_may_be_numbered():
    X, y = lines(names=None)
    model = mixture().fit(X, y)
    by_name = likelihood_ratio_test(model, X, y, "x1", "gate")
    by_number = likelihood_ratio_test(model, X, y, 1, "gate")
    assert by_name.statistic == pytest.approx(by_number.statistic)
    assert wald_test(model, "x1").statistic > 0


def test_weights_and_offsets_go_along():
    X, y = lines()
    X = X / [10.0, 1.0]
    counts = np.random.default_rng(0).poisson(np.exp(0.5 * y.clip(-3, 3)))
    weight = np.random.default_rng(1).integers(1, 3, len(y)).astype(float)
    offset = np.full(len(y), 0.3)
    model = mixture(PoissonExpert(alpha=0), init="kmeans")
    model.fit(X, counts, sample_weight=weight, offset=offset)
    result = likelihood_ratio_test(
        model, X, counts, "dose", "experts", sample_weight=weight, offset=offset
    )
    assert result.statistic >= 0
    assert result.df == 2


def test_units_of_the_columns_do_not_matter(fitted):
    model, X, y = fitted
    other = mixture(init=np.asarray(model.responsibilities(X, y)))
    other.fit(X * [1e6, 1e-6], y)
    found = wald_test(other, ["age", "dose"], "experts")
    expected = wald_test(model, ["age", "dose"], "experts")
    assert found.df == expected.df == 4
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-3)


def test_robust_covariance_goes_into_wald(fitted):
    model = fitted[0]
    plain = wald_test(model, "age", "expert0")
    robust = wald_test(model, "age", "expert0", covariance="sandwich")
    assert plain.statistic != robust.statistic


def test_trees_have_wald_alone():
    X, y = lines()
    model = HierarchicalMixtureOfExpertsRegressor(random_state=0, init="kmeans")
    model.fit(X, y)
    assert wald_test(model, "age", "gate").df == len(model.tree_.inner)
    with pytest.raises(ValueError, match=r"needs a flat mixture.*use wald_test"):
        likelihood_ratio_test(model, X, y, "age")


def test_several_columns_at_once(fitted):
    model, X, y = fitted
    wald = wald_test(model, ["age", "dose"], "expert0")
    assert wald.df == 2
    assert wald.statistic > wald_test(model, "age", "expert0").statistic
    with pytest.raises(ValueError, match="'expert0' has none left: use wald_test"):
        likelihood_ratio_test(model, X, y, ["age", "dose"], "expert0")


def test_unknown_columns_and_parts(fitted):
    model, X, y = fitted
    with pytest.raises(ValueError, match=r"no coefficient of column 'weight'.*age"):
        wald_test(model, "weight")
    with pytest.raises(ValueError, match="the parts are"):
        wald_test(model, "age", "expert7")
    with pytest.raises(ValueError, match=r'part must be "gate", "experts" or'):
        likelihood_ratio_test(model, X, y, "age", "expert7")
    with pytest.raises(ValueError, match="weight"):
        likelihood_ratio_test(model, X, y, "weight")


def test_part_that_does_not_see_the_column():
    X, y = lines()
    model = mixture([("a", ML, ["age"]), ("b", ML)], gate_features=["age"]).fit(X, y)
    with pytest.raises(ValueError, match="'a' does not see column 'dose'"):
        likelihood_ratio_test(model, X, y, "dose", "a")
    with pytest.raises(ValueError, match="'gate' does not see column 'dose'"):
        likelihood_ratio_test(model, X, y, "dose")


def test_no_standard_error_no_wald():
    X, y = lines()
    model = mixture(gate=GaussianGate(covariance="tied")).fit(X, y)
    with pytest.raises(ValueError, match="has no standard error"):
        wald_test(model, "age")


def test_a_fit_below_its_maximum_is_found_out():
    X, y = lines()
    model = mixture(init="random", n_init=1, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        model.set_params(max_iter=1000)
        with pytest.raises(ValueError, match="is not at its best maximum"):
            likelihood_ratio_test(model, X, y, "dose", "expert0")


def test_results_compare_and_print():
    result = HypothesisTest.chi2("Wald", "x has no effect in gate", 3.84146, 1)
    assert result.p_value == pytest.approx(0.05, abs=1e-5)
    assert str(result) == (
        "Wald test that x has no effect in gate: chi2(1) = 3.841, p = 0.050"
    )
    assert str(HypothesisTest.chi2("Wald", "h", 99.0, 1)).endswith("p < 0.001")


def test_frames_with_offsets_keep_their_columns():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"z": rng.normal(size=300), "w": rng.normal(size=300)})
    X["hours"] = rng.uniform(1.0, 3.0, 300)
    label = rng.random(300) < 0.5
    counts = rng.poisson(X.hours * np.exp(np.where(label, 1.5, -0.5) + 0.3 * X.z))
    model = mixture(PoissonExpert(alpha=0, exposure="hours"), init=label.astype(int))
    model.fit(X, counts)
    result = likelihood_ratio_test(model, X, counts, "w", "experts")
    assert result.df == 2
    assert result.p_value > 1e-3
