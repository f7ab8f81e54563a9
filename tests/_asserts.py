"""Asserts that many tests share: what must hold for any part or estimator."""

import numpy as np
from scipy import integrate

__all__ = [
    "assert_climbs",
    "assert_gradient",
    "assert_integrates_to_one",
    "assert_order_of_rows_is_nothing",
    "assert_same_density",
    "assert_symmetric_psd",
    "assert_weight_is_repetition",
    "assert_zero_weight_is_removal",
]


def assert_climbs(trace, tol=1e-8):
    """Check that no value falls by more than ``tol`` of its own size.

    Written as the least difference, which NaN fails too: a largest difference
    would pass for a trace that only falls.
    """
    trace = np.asarray(trace, dtype=float)
    assert np.isfinite(trace).all(), trace
    if trace.size > 1:
        scale = 1.0 + np.abs(trace).max()
        assert np.diff(trace).min() >= -tol * scale, np.diff(trace)


def assert_integrates_to_one(density, low, high, points=None, rtol=1e-7):
    """Check that a density of one number integrates to 1 over an interval."""
    total = integrate.quad(density, low, high, points=points, limit=400)[0]
    np.testing.assert_allclose(total, 1.0, rtol=rtol)


def assert_gradient(value, gradient, point, rng, *, n_directions=6, rtol=2e-6):
    """Compare a gradient with central differences along random directions.

    Parameters
    ----------
    value : callable
        The function, of one vector.
    gradient : array of shape (n_parameters,)
        Its claimed gradient at ``point``.
    """
    point = np.array(point, dtype=float)
    size = 1.0 + np.abs(gradient).max()
    directions = rng.standard_normal((n_directions, point.size))
    for direction in directions:
        direction /= np.linalg.norm(direction)
        # Richardson's combination: the error is of fourth order in the step.
        slope = [
            (value(point + h * direction) - value(point - h * direction)) / (2.0 * h)
            for h in (1e-3, 5e-4)
        ]
        found = (4.0 * slope[1] - slope[0]) / 3.0
        assert abs(found - gradient @ direction) <= rtol * size


def assert_symmetric_psd(apply, size, rtol=1e-8):
    """Check that a linear map of vectors is symmetric and positive semidefinite."""
    matrix = np.column_stack([apply(column) for column in np.eye(size)])
    scale = np.abs(matrix).max()
    assert scale > 0.0
    np.testing.assert_allclose(matrix, matrix.T, atol=rtol * scale)
    assert np.linalg.eigvalsh(0.5 * (matrix + matrix.T)).min() >= -rtol * scale
    # It is a map of vectors only if it is linear.
    vector = np.linspace(-1.0, 2.0, size)
    np.testing.assert_allclose(apply(vector), matrix @ vector, atol=rtol * size * scale)


def assert_weight_is_repetition(fit, X, y, count, atol=1e-9):
    """Check that a row of weight w counts as w rows.

    Parameters
    ----------
    fit : callable
        ``fit(X, y, weight)`` returns numbers that must not depend on the choice.
    count : int array of shape (n_samples,)
    """
    count = np.asarray(count)
    weighted = fit(X, y, count.astype(float))
    repeated = fit(
        np.repeat(X, count, axis=0),
        np.repeat(y, count, axis=0),
        np.ones(count.sum()),
    )
    _assert_all_close(weighted, repeated, atol)


def assert_zero_weight_is_removal(fit, X, y, weight, atol=1e-9):
    """Check that rows of weight zero might as well not be there."""
    kept = weight > 0
    assert 0 < kept.sum() < kept.size
    _assert_all_close(fit(X, y, weight), fit(X[kept], y[kept], weight[kept]), atol)


def assert_order_of_rows_is_nothing(fit, X, y, weight, rng, atol=1e-9):
    """Check that a permutation of the rows changes nothing."""
    order = rng.permutation(X.shape[0])
    _assert_all_close(fit(X, y, weight), fit(X[order], y[order], weight[order]), atol)


def assert_same_density(log_prob, expected, rtol=1e-10, atol=1e-10):
    """Compare log densities (nats) with those of another source."""
    log_prob, expected = np.asarray(log_prob), np.asarray(expected)
    assert log_prob.shape == expected.shape
    np.testing.assert_allclose(log_prob, expected, rtol=rtol, atol=atol)


def _assert_all_close(one, other, atol):
    one = one if isinstance(one, tuple) else (one,)
    other = other if isinstance(other, tuple) else (other,)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=atol, atol=atol)
