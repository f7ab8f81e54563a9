"""The prior of experts with linear predictors, by differences and by hand."""

import numpy as np
import pytest
from scipy import special, stats

from skmoe.experts._glm_prior import GammaPseudoRows, GlmPrior, ScalePseudoRows
from skmoe.experts._real_families import (
    GammaFamily,
    HeteroscedasticFamily,
    LaplaceFamily,
    StudentFamily,
)
from tests._asserts import assert_gradient

K, P = 2, 3
# name: (family, rows seen beforehand)
PRIORS = {
    "student": (StudentFamily(), ScalePseudoRows(4.0, 0.7, 0.5, 0.2)),
    "student of fixed df": (StudentFamily(3.0), None),
    "laplace": (LaplaceFamily(), ScalePseudoRows(4.0, 0.7, 1.0, 0.2)),
    "gamma": (GammaFamily(), GammaPseudoRows(4.0, 0.2)),
    "heteroscedastic": (
        HeteroscedasticFamily(),
        ScalePseudoRows(4.0, 0.7, 0.5, 0.2, 1),
    ),
}


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def prior_at(name, rng):
    """Return a prior, and coefficients and shapes of K experts."""
    family, pseudo = PRIORS[name]
    n_shapes, shape = len(family.shape_names), (family.n_predictors, P)
    anchor, ridge = rng.normal(size=shape), rng.uniform(0.5, 2.0, size=shape)
    shapes = np.full(n_shapes, 0.3)
    bounds = np.stack([np.full(n_shapes, -5.0), np.full(n_shapes, 5.0)])
    prior = GlmPrior(family, anchor, ridge, shapes, bounds, pseudo, -3.0)
    return prior, rng.normal(size=(K, *shape)), 0.4 * rng.normal(size=(K, n_shapes))


@pytest.mark.parametrize("name", PRIORS)
def test_gradient(name, rng):
    prior, coef, shapes = prior_at(name, rng)

    def split(vector):
        return vector[: coef.size].reshape(coef.shape), vector[coef.size :].reshape(
            shapes.shape
        )

    slope, shape_slope = prior.gradient(coef, shapes)
    gradient = np.concatenate([slope.ravel(), shape_slope.ravel()])
    point = np.concatenate([coef.ravel(), shapes.ravel()])
    assert_gradient(lambda v: prior.log_density(*split(v)), gradient, point, rng)


@pytest.mark.parametrize("name", ["student", "student of fixed df", "laplace"])
def test_information_of_ridge_and_scale(name, rng):
    """Second derivatives, one coefficient or shape at a time, by differences."""
    prior, coef, shapes = prior_at(name, rng)
    if prior.pseudo is not None:
        # Where the pseudo-rows are as expected, curvature is what is expected.
        shapes[:, 0] = np.log(0.7) - 1e-3
    ridge, information = prior.information(coef, shapes)
    assert ridge.shape == coef.shape
    h = 1e-4
    for k in range(K):
        for array, found, at in (
            (coef, ridge[k, 0, 1], (k, 0, 1)),
            (shapes, information[k, 0, 0], (k, 0)),
        ):
            values = []
            for shift in (-h, 0.0, h):
                array[at] += shift
                values.append(prior.log_density(coef, shapes))
                array[at] -= shift
            curvature = (2.0 * values[1] - values[0] - values[2]) / h**2
            assert found == pytest.approx(curvature, rel=2e-3)


@pytest.mark.parametrize("name", PRIORS)
def test_information_is_positive(name, rng):
    prior, coef, shapes = prior_at(name, rng)
    for shift in (-3.0, 0.0, 3.0):
        ridge, information = prior.information(coef + shift, shapes + shift)
        assert (ridge > 0.0).all()
        assert np.linalg.eigvalsh(information).min(initial=0.0) >= 0.0


def test_scale_prior_is_an_inverse_gamma():
    """In the log variance: scipy's density, its Jacobian and constants apart."""
    rows, size = 6.0, 0.7
    prior = ScalePseudoRows(rows, size, 0.5, 0.0)
    law = stats.invgamma(0.5 * rows, scale=0.5 * rows * size)
    log_variance = np.linspace(-2.0, 2.0, 9)
    expected = law.logpdf(np.exp(log_variance)) + log_variance
    difference = prior.value(log_variance) - expected
    np.testing.assert_allclose(difference, difference[0], rtol=1e-10)


def test_gamma_prior_is_rows_of_the_likelihood():
    """Rows y and means m of that half deviance have this likelihood of the shape."""
    m = 2.0
    y = 3.1
    half = y / m - 1.0 - np.log(y / m)
    prior = GammaPseudoRows(5.0, half)
    log_shape = np.linspace(-2.0, 5.0, 9)
    shape = np.exp(log_shape)
    expected = 5.0 * stats.gamma(shape, scale=m / shape).logpdf(y)
    difference = prior.value(log_shape) - expected
    np.testing.assert_allclose(difference, difference[0], rtol=1e-9)
    top = prior.gradient(log_shape) / 5.0
    np.testing.assert_allclose(
        top, shape * (np.log(shape) - special.psi(shape) - half), rtol=1e-9, atol=1e-12
    )


def test_ridge_of_a_location_is_in_units_of_the_noise(rng):
    prior, coef, _ = prior_at("student of fixed df", rng)
    one = prior.log_density(coef, np.zeros((K, 1)))
    other = prior.log_density(coef, np.full((K, 1), np.log(4.0)))
    assert other == pytest.approx(one / 4.0)


def test_collapse_and_bounds(rng):
    prior, coef, shapes = prior_at("student", rng)
    shapes[:, 0] = [-3.0, 0.0]  # the floor, and far above it
    np.testing.assert_array_equal(prior.collapsed(coef, shapes), [True, False])
    np.testing.assert_array_equal(prior.clipped(shapes * 100.0).min(), -5.0)
    moved = prior.at(prior.anchor + 1.0, prior.ridge, prior.shapes)
    np.testing.assert_array_equal(moved.anchor, prior.anchor + 1.0)
    assert moved.pseudo is prior.pseudo
    assert moved.floor == prior.floor
