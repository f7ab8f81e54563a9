"""The generated tables of claims and visits against their stated laws."""

import numpy as np
import pytest
from scipy import stats

from skmoe.datasets import make_claims, make_visits

MAKERS = [make_claims, make_visits]


@pytest.mark.parametrize("make", MAKERS)
def test_seed_fixes_the_rows(make):
    table, again = make(50, random_state=3), make(50, random_state=3)
    np.testing.assert_array_equal(table.data, again.data)
    np.testing.assert_array_equal(table.target, again.target)
    assert not np.array_equal(table.target, make(50, random_state=4).target)
    X, y = make(50, random_state=np.random.RandomState(3), return_X_y=True)
    np.testing.assert_array_equal(table.data, X)
    np.testing.assert_array_equal(table.target, y)


@pytest.mark.parametrize("make", MAKERS)
def test_table_is_described(make):
    table = make(20, random_state=0)
    assert table.data.shape == (table.target.size, len(table.feature_names))
    for name in (*table.feature_names, *table.target_names):
        assert f"\n{name} " in table.DESCR


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_bad_size_is_refused(make, size):
    with pytest.raises(ValueError, match="n_s"):
        make(size)


@pytest.mark.parametrize("theta", [0.0, -1.0])
def test_bad_theta_is_refused(theta):
    with pytest.raises(ValueError, match="theta"):
        make_claims(10, theta=theta)


# -- claims ---------------------------------------------------------------------------


def test_claims_follow_the_formula():
    table = make_claims(300, theta=1.7, random_state=0)
    X, y, truth = table.data, table.target, table.truth
    age, power, bonus, years = X.T
    silent = 1.0 / (1.0 + np.exp(2.5 - 0.35 * bonus))
    mean = years * np.exp(-0.5 - 0.025 * age + 0.012 * power)
    np.testing.assert_allclose(truth.silent_proba(X), silent)
    np.testing.assert_allclose(years * truth.rate(X), mean)
    count = stats.nbinom(1.7, 1.7 / (1.7 + mean))
    expected = (1.0 - silent) * count.pmf(y) + silent * (y == 0)
    np.testing.assert_allclose(truth.log_prob(X, y), np.log(expected))
    np.testing.assert_allclose(truth.mean(X), (1.0 - silent) * count.mean())


def test_claims_are_a_law():
    table = make_claims(20, random_state=0)
    X = table.data
    counts = np.arange(400.0)
    proba = [np.exp(table.truth.log_prob(X, np.full(20, c))) for c in counts]
    np.testing.assert_allclose(np.sum(proba, axis=0), 1.0, rtol=1e-9)


def test_claims_are_drawn_from_their_law():
    table = make_claims(40000, random_state=1)
    X, y, truth = table.data, table.target, table.truth
    assert (y == np.floor(y)).all()
    assert y.min() == 0.0
    assert not y[truth.expert == 0].any()
    # Each statistic within four standard errors of what the law says.
    for value in (y, (y == 0).astype(float), (y == 1).astype(float)):
        if value is y:
            expected = truth.mean(X)
        else:
            count = 0.0 if value[y == 0].all() else 1.0
            expected = np.exp(truth.log_prob(X, np.full(y.size, count)))
        error = value - expected
        for column in (np.ones(y.size), X[:, 0], X[:, 2], X[:, 3]):
            score = error * column
            assert abs(score.mean()) < 4.0 * score.std() / np.sqrt(y.size)
    low, high = [18.0, 40.0, 0.0, 0.2], [70.0, 115.0, 10.0, 4.0]
    for j in range(4):
        uniform = stats.uniform(low[j], high[j] - low[j])
        assert stats.kstest(X[:, j], uniform.cdf).pvalue > 1e-3


# -- visits ---------------------------------------------------------------------------


def test_visits_come_by_patient_and_in_order():
    table = make_visits(60, random_state=0)
    months, severity, treatment = table.data.T
    for patient in range(60):
        own = table.groups == patient
        assert 3 <= own.sum() <= 8
        assert np.ptp(np.flatnonzero(own)) == own.sum() - 1
        assert months[own][0] == 0.0
        assert (np.diff(months[own]) > 0.0).all()
        for constant in (severity, treatment, table.truth.expert):
            assert np.unique(constant[own]).size == 1
        assert np.unique(table.course[own]).size == 1
    assert months.max() <= 24.0
    assert set(np.unique(treatment)) == {0.0, 1.0}
    names = np.array(table.course_names)
    np.testing.assert_array_equal(names[table.truth.expert], table.course)


def test_visits_are_drawn_from_their_law():
    table = make_visits(6000, random_state=2)
    X, y, truth = table.data, table.target, table.truth
    first = np.unique(table.groups, return_index=True)[1]
    proba = truth.gate_proba(X[first])
    for k in range(3):
        error = (truth.expert[first] == k) - proba[:, k]
        for column in (np.ones(first.size), X[first, 1], X[first, 2]):
            score = error * column
            assert abs(score.mean()) < 4.0 * score.std() / np.sqrt(first.size)
        own = truth.expert == k
        noise = (y - truth.expert_mean(X)[:, k])[own] / truth.noise[k]
        assert stats.kstest(noise, stats.norm.cdf).pvalue > 1e-3
    # The gate does not look at the months, and all courses begin alike.
    assert not truth.gate_coef[:, 0].any()
    assert np.ptp(truth.intercept) == 0.0


def test_courses_differ_as_they_are_called():
    truth = make_visits(5, random_state=0).truth
    recovers, stays, worsens = truth.coef[:, 0]
    assert recovers < stays == 0.0 < worsens
    treated = truth.gate_proba(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert treated[1, 0] > treated[0, 0]
    severe = truth.gate_proba(np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]))
    assert severe[1, 2] > severe[0, 2]
