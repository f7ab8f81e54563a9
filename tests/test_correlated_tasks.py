"""Two tasks of a set correlation, against their stated law."""

import numpy as np
import pytest
from scipy import stats

from skmoe.datasets import make_correlated_tasks


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.5, 0.9, 1.0])
def test_cosine_of_the_directions_is_the_correlation(correlation):
    _, _, truth = make_correlated_tasks(
        5, correlation=correlation, scale=0.7, random_state=1, return_truth=True
    )
    gram = truth.coef @ truth.coef.T
    wanted = 0.49 * np.array([[1.0, correlation], [correlation, 1.0]])
    np.testing.assert_allclose(gram, wanted, atol=1e-12)


def test_rows_follow_the_formula_of_the_paper():
    X, y, truth = make_correlated_tasks(
        20_000, 7, 0.3, n_sines=3, noise=0.2, random_state=0, return_truth=True
    )
    assert X.shape == (20_000, 7)
    assert y.shape == (20_000, 2)
    z = X @ truth.coef.T
    mean = z.copy()
    for a, b in zip(truth.frequency, truth.phase, strict=True):
        mean += np.sin(a * z + b)
    np.testing.assert_allclose(truth.mean(X), mean, atol=1e-12)
    residual = y - mean
    np.testing.assert_allclose(residual.std(axis=0), 0.2, rtol=0.02)
    assert abs(np.corrcoef(residual.T)[0, 1]) < 0.03
    assert stats.kstest(residual.ravel() / 0.2, "norm").pvalue > 1e-3
    density = stats.norm.logpdf(y, mean, 0.2).sum(axis=1)
    np.testing.assert_allclose(truth.log_prob(X, y), density, atol=1e-12)


def test_equal_directions_give_equal_means_and_correlation_rises():
    measured = []
    for correlation in (0.0, 0.5, 0.9, 1.0):
        X, _, truth = make_correlated_tasks(
            4000, correlation=correlation, random_state=3, return_truth=True
        )
        measured.append(np.corrcoef(truth.mean(X).T)[0, 1])
    assert np.diff(measured).min() > 0
    assert measured[-1] == pytest.approx(1.0)
    assert abs(measured[0]) < 0.06


def test_seed_fixes_the_rows():
    X, y = make_correlated_tasks(30, random_state=5)
    again, y_again = make_correlated_tasks(30, random_state=5)
    other, _ = make_correlated_tasks(30, random_state=6)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, y_again)
    assert X.shape == (30, 100)
    assert not np.array_equal(X, other)


def test_law_does_not_depend_on_the_number_of_rows():
    short, long = (
        make_correlated_tasks(n, random_state=2, return_truth=True)[2] for n in (3, 90)
    )
    np.testing.assert_array_equal(short.coef, long.coef)
    np.testing.assert_array_equal(short.phase, long.phase)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"n_samples": 0}, "n_samples must be an integer >= 1, got 0"),
        ({"n_features": 1}, "n_features must be an integer >= 2, got 1"),
        ({"correlation": 1.2}, "correlation must be a number from -1 to 1, got 1.2"),
        ({"correlation": np.nan}, "correlation must be a number from -1 to 1"),
        ({"n_sines": 0}, "n_sines must be an integer >= 1, got 0"),
        ({"scale": 0.0}, "scale must be a positive number, got 0.0"),
        ({"noise": -1.0}, "noise must be a positive number, got -1.0"),
    ],
)
def test_bad_arguments_are_named(argument, match):
    with pytest.raises(ValueError, match=match):
        make_correlated_tasks(**argument)
