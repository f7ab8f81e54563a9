"""What experts with linear predictors know before the responsibilities."""

import numpy as np
from scipy import special

from skmoe.experts._special import gamma_entropy, gamma_surplus

__all__ = ["GammaPseudoRows", "GlmPrior", "ScalePseudoRows"]


class GlmPrior:
    """Anchor, ridge, and prior and range of the shapes.

    The log prior of the coefficients b of a linear predictor is
    ``-ridge |b - anchor|^2 / 2``; of a location it is counted in units of the
    squared scale, ``-ridge |b - anchor|^2 / (2 s2)``, so that it says the same in
    every unit of y.

    Parameters
    ----------
    family : Family
    anchor : array of shape (n_predictors, n_columns)
        Coefficients of one weighted fit of all rows.
    ridge : array of shape (n_predictors, n_columns)
    shapes : array of shape (n_shapes,)
        Where the shapes start: logs of dispersions, degrees of freedom, ...
    bounds : array of shape (2, n_shapes)
        The least and the largest value of each.
    pseudo : GammaPseudoRows, ScalePseudoRows or None
        Rows seen beforehand, which keep the likelihood bounded.
    floor : float
        The least log variance.
    """

    shared = False

    def __init__(self, family, anchor, ridge, shapes, bounds, pseudo, floor):
        self.family = family
        self.anchor, self.ridge, self.shapes = anchor, ridge, shapes
        self.bounds, self.pseudo, self.floor = bounds, pseudo, floor
        self.unit_power = np.asarray(family.unit_power, dtype=float)
        self.global_noise = family.log_noise(anchor[None], shapes[None])

    def at(self, anchor, ridge, shapes):
        """Return the same prior around another anchor."""
        return GlmPrior(
            self.family, anchor, ridge, shapes, self.bounds, self.pseudo, self.floor
        )

    def clipped(self, shapes):
        """Return shapes within their bounds."""
        return np.clip(shapes, self.bounds[0], self.bounds[1])

    def collapsed(self, coef, shapes):
        """Return for each expert whether its variance lies at the floor."""
        noise = self.family.log_noise(coef, shapes)
        if noise is None:
            return np.zeros(len(coef), dtype=bool)
        return noise <= self.floor + np.log(4.0)

    def _ridges(self, shapes):
        """Return second derivatives of the coefficients' prior, by expert."""
        ridge = np.repeat(self.ridge[None], len(shapes), axis=0)
        if self.unit_power.any():
            ridge[:, 0] *= np.exp(-(shapes @ self.unit_power))[:, None]
        return ridge

    def log_density(self, coef, shapes):
        """Return the log prior of all experts, up to a constant."""
        deviation = coef - self.anchor
        value = -0.5 * float((self._ridges(shapes) * deviation * deviation).sum())
        if self.pseudo is not None:
            value += float(self.pseudo.value(self.pseudo.site(coef, shapes)).sum())
        return value

    def gradient(self, coef, shapes):
        """Return its gradient, in the coefficients and in the shapes."""
        deviation = coef - self.anchor
        pull = self._ridges(shapes) * deviation
        quadratic = 0.5 * (pull[:, 0] * deviation[:, 0]).sum(axis=1)
        slope, shape_slope = -pull, quadratic[:, None] * self.unit_power
        if self.pseudo is not None:
            site = self.pseudo.site(slope, shape_slope)
            site += self.pseudo.gradient(self.pseudo.site(coef, shapes))
        return slope, shape_slope

    def information(self, coef, shapes):
        """Return second derivatives, by coefficient and as matrices of shapes.

        Returns
        -------
        ridge : array of shape (n_experts, n_predictors, n_columns)
        shape_information : array of shape (n_experts, n_shapes, n_shapes)
        """
        ridge = self._ridges(shapes)
        deviation = coef[:, 0] - self.anchor[0]
        quadratic = 0.5 * (ridge[:, 0] * deviation * deviation).sum(axis=1)
        outer = np.multiply.outer(self.unit_power, self.unit_power)
        matrices = quadratic[:, None, None] * outer
        if self.pseudo is not None:
            diagonal = np.einsum("kii->ki", matrices)
            site = self.pseudo.site(ridge, diagonal)
            site += self.pseudo.information(self.pseudo.site(coef, shapes))
        return ridge, matrices

    def curvature(self, coef, shapes):
        """Return the exact second derivatives of one expert's log prior.

        Parameters
        ----------
        coef : array of shape (n_predictors, n_columns)
        shapes : array of shape (n_shapes,)

        Returns
        -------
        curvature : array of shape (n_parameters, n_parameters)
            Coefficients predictor by predictor, then shapes.
        """
        ridge = self._ridges(shapes[None])[0]
        pull = ridge[0] * (coef[0] - self.anchor[0])
        n_coef, p = coef.size, coef.shape[1]
        out = np.zeros((n_coef + shapes.size, n_coef + shapes.size))
        out[:n_coef, :n_coef] = -np.diag(ridge.ravel())
        out[:p, n_coef:] = np.outer(pull, self.unit_power)
        out[n_coef:, :p] = out[:p, n_coef:].T
        quadratic = float(pull @ (coef[0] - self.anchor[0]))
        outer = np.outer(self.unit_power, self.unit_power)
        out[n_coef:, n_coef:] = -0.5 * quadratic * outer
        if self.pseudo is not None:
            at = self.pseudo.predictor
            at = n_coef if at is None else at * p
            site = self.pseudo.site(coef[None], shapes[None])
            out[at, at] += float(self.pseudo.curvature(site)[0])
        return out


class ScalePseudoRows:
    """Rows of a known residual: an inverse-gamma prior on a scale.

    With l the logarithm of a variance (or of another power of the scale), the log
    prior is ``-factor * rows * (l - reference + size exp(-l))``.

    Parameters
    ----------
    rows : float
        How many rows it is worth.
    size : float
        Their squared (or absolute) residual.
    factor : float
        1/2 for the logarithm of a variance, 1 for that of a Laplace scale.
    reference : float
        The log scale that counts as zero: it makes the prior free of units.
    predictor : int or None
        The linear predictor whose intercept is the log scale; None where it is
        the first shape.
    """

    def __init__(self, rows, size, factor, reference, predictor=None):
        self.rows, self.size = rows, size
        self.factor, self.reference = factor, reference
        self.predictor = predictor

    def site(self, coef, shapes):
        """Return the log scales of the experts, as a view."""
        if self.predictor is None:
            return shapes[:, 0]
        return coef[:, self.predictor, 0]

    def value(self, log_scale):
        """Return the log prior of each expert."""
        relative = log_scale - self.reference + self.size * np.exp(-log_scale)
        return -self.factor * self.rows * relative

    def gradient(self, log_scale):
        """Return its derivative."""
        return self.factor * self.rows * (self.size * np.exp(-log_scale) - 1.0)

    def curvature(self, log_scale):
        """Return its second derivative."""
        return -self.factor * self.rows * self.size * np.exp(-log_scale)

    def information(self, log_scale):
        """Return its curvature; no less than what is expected of such rows."""
        curvature = np.maximum(self.size * np.exp(-log_scale), 1.0)
        return self.factor * self.rows * curvature


class GammaPseudoRows:
    """Rows of a known half deviance: the conjugate prior of a Gamma's shape a.

    The log prior is ``rows * (a log a - a - lgamma(a) - a * half_deviance)``.

    Parameters
    ----------
    rows : float
    half_deviance : float
        ``y / mean - 1 - log(y / mean)`` of each of them.
    """

    predictor = None

    def __init__(self, rows, half_deviance):
        self.rows, self.half_deviance = rows, half_deviance

    def site(self, coef, shapes):
        """Return the logarithms of the experts' shapes, as a view."""
        return shapes[:, 0]

    def value(self, log_shape):
        """Return the log prior of each expert."""
        shape = np.exp(log_shape)
        return self.rows * (gamma_entropy(shape) - shape * self.half_deviance)

    def gradient(self, log_shape):
        """Return its derivative."""
        shape = np.exp(log_shape)
        surplus = shape * (np.log(shape) - special.psi(shape))
        return self.rows * (surplus - shape * self.half_deviance)

    def curvature(self, log_shape):
        """Return its second derivative."""
        return self.gradient(log_shape) - self.information(log_shape)

    def information(self, log_shape):
        """Return what is expected of its curvature."""
        return self.rows * gamma_surplus(np.exp(log_shape))
