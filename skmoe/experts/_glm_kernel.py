"""Numerics of experts with linear predictors: one Fisher step in each pass."""

import copy

import numpy as np

from skmoe._blocks import solve_psd_stack, unpack_grams
from skmoe._xp import add, like, namespace, to_numpy

__all__ = ["GlmKernel"]

MAX_SHAPE_STEP = 2.0
# Below so much of the noise of one global fit, 50 times less in deviation.
SPURIOUS = float(np.log(4e-4))


class GlmKernel:
    """K experts with linear predictors on blocks of one standardised design.

    With linear predictors ``eta_l = b_l' z`` and shapes s (logs of dispersions),
    a family gives the log density, its scores and positive information weights.
    One pass sums ``c_l = sum q dlog p/d eta_l z`` and ``G_l = sum q i_l z z'``
    under responsibilities times weights q; then

        step in b_l   (G_l + ridge)^-1 (c_l - ridge (b_l - anchor))
        step in s     I_s^-1 dQ/ds

    is one step of Fisher scoring: in the families here predictors and shapes are
    orthogonal, so that the information has no other blocks (Cox & Reid 1987). At
    the current point the gradient is that of the observed likelihood: scoring
    converges like Newton's method where EM on hidden scales would crawl.

    Parameters
    ----------
    n_experts : int
    prior : GlmPrior

    References
    ----------
    Lange, K. L., Little, R. J. A. and Taylor, J. M. G. (1989). Robust statistical
    modeling using the t distribution. JASA 84.
    """

    exact_m_step = grams_of_mass = False

    def __init__(self, n_experts, prior):
        self.prior, self.family = prior, prior.family
        self.n_experts = n_experts
        self.coef = np.repeat(prior.anchor[None], n_experts, axis=0)
        self.shapes = np.repeat(prior.shapes[None], n_experts, axis=0)

    @property
    def has_gradient(self):
        """Whether the density is smooth."""
        return self.family.smooth

    @property
    def n_gram_rows(self):
        """Weight columns whose grams a pass must sum."""
        return self.coef.shape[1] * self.n_experts

    @property
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return self.coef.shape[1] * self.n_experts

    def reset(self):
        """Start a pass."""
        self.mass = np.zeros(self.n_experts)
        self.sums = np.zeros((self.n_experts, self.family.n_sums))

    def log_prob(self, design, y):
        """Return log densities of a block, of shape (n_experts, n_rows).

        Parameters
        ----------
        design : array of shape (n_columns, n_rows)
        y : array of shape (n_target_rows, n_rows)
            What the family makes of the responses; an offset of the first linear
            predictor may follow as one more row.
        """
        k, n_predictors, p = self.coef.shape
        stacked = self.coef.transpose(1, 0, 2).reshape(n_predictors * k, p)
        eta = like(design, stacked) @ design
        eta = namespace(eta).reshape(eta, (n_predictors, k, design.shape[1]))
        if y.shape[0] > self.family.n_target_rows:
            eta[0, ...] += y[-1, :]
        self._target = y
        log_prob, self._work = self.family.density(eta, y, self.shapes)
        return log_prob

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_prob` saw last."""
        xp, n_predictors = namespace(weighted_resp), self.coef.shape[1]
        shape = (n_predictors, self.n_experts, gram_rows.shape[1])
        self.mass = add(self.mass, xp.sum(weighted_resp, axis=1))
        sums = self.family.fill(
            self._work,
            self._target,
            self.shapes,
            weighted_resp,
            xp.reshape(gram_rows, shape),
            xp.reshape(score_rows, shape),
        )
        if sums is not None:
            self.sums = add(self.sums, sums)

    def take(self, half_grams, score, total_weight):
        """Receive the sums of one pass over all rows."""
        k, n_predictors, p = self.coef.shape
        prior = self.prior
        grams = unpack_grams(half_grams, p).reshape(n_predictors, k, p, p)
        score = score.T.reshape(n_predictors, k, p)
        self.mass, self.sums = to_numpy(self.mass), to_numpy(self.sums)
        slope, shape_slope = prior.gradient(self.coef, self.shapes)
        ridge, information = prior.information(self.coef, self.shapes)
        self._slope = score.transpose(1, 0, 2) + slope
        self._grams = grams.transpose(1, 0, 2, 3) + ridge[..., None] * np.eye(p)
        if self.shapes.shape[1]:
            terms = self.family.shape_terms(self.sums, self.mass, self.shapes)
            shape_slope = shape_slope + terms[0]
            information = information + terms[1]
        if prior.shared:
            shape_slope = shape_slope.sum(axis=0, keepdims=True)
            information = information.sum(axis=0, keepdims=True)
        # At a bound a shape cannot follow a gradient that points outwards.
        shapes = self._free_shapes()
        low, high = prior.bounds
        outward = (shapes <= low) & (shape_slope < 0.0)
        outward |= (shapes >= high) & (shape_slope > 0.0)
        self._shape_slope = np.where(outward, 0.0, shape_slope)
        self._information = information

    @property
    def gradient(self):
        """Gradient of log-likelihood plus penalty in ``parameters``."""
        return np.concatenate([self._slope.ravel(), self._shape_slope.ravel()])

    @property
    def penalty(self):
        """Log prior density of coefficients and shapes, up to a constant."""
        return self.prior.log_density(self.coef, self.shapes)

    def precondition(self, vector):
        """Apply the inverse of the complete-data information."""
        k, n_predictors, p = self.coef.shape
        slope = vector[: self.coef.size].reshape(k * n_predictors, p, 1)
        step = solve_psd_stack(self._grams.reshape(-1, p, p), slope)
        if not self.shapes.shape[1]:
            return step.ravel()
        right = vector[self.coef.size :].reshape(*self._free_shapes().shape, 1)
        shape_step = solve_psd_stack(self._information, right)
        return np.concatenate([step.ravel(), shape_step.ravel()])

    def limited(self, direction):
        """Return a direction along which no expert goes further than sense.

        Of an expert that would change a predictor or a log shape by more than a
        step may, the whole part is shortened.
        """
        step = direction[: self.coef.size].reshape(self.coef.shape)
        shapes = direction[self.coef.size :].reshape(self._free_shapes().shape)
        with np.errstate(over="ignore"):  # an infinite size shrinks it to nothing
            size = np.sqrt((step * step).sum(axis=2)) / self.family.max_step
        excess = np.maximum(size.max(axis=1), 1.0)
        own = np.abs(shapes).max(axis=1, initial=0.0) / MAX_SHAPE_STEP
        if len(own) == len(excess):
            excess = own = np.maximum(excess, own)
        step = step / excess[:, None, None]
        shapes = shapes / np.maximum(own, 1.0)[:, None]
        return np.concatenate([step.ravel(), shapes.ravel()])

    def _free_shapes(self):
        """Return the shapes of each expert, or those of all if tied."""
        return self.shapes[:1] if self.prior.shared else self.shapes

    def propose(self):
        """Compute the step of this pass for every expert."""
        self._from = self.coef, self.shapes
        self.direction = self.limited(self.precondition(self.gradient))

    def move(self, fraction):
        """Go this fraction of the proposed step from where it started."""
        coef, shapes = self._from
        step = fraction * self.direction
        self.coef = coef + step[: coef.size].reshape(coef.shape)
        if shapes.shape[1]:
            change = step[coef.size :].reshape(self._free_shapes().shape)
            self.shapes = self.prior.clipped(shapes + change)

    def degenerate(self, row):
        """Return whether an expert has no rows, or a spurious fit to a few.

        As in `LinearKernel`: without a prior on the scale, a handful of rows that
        an expert fits exactly is a maximum that says nothing about the rest.

        Parameters
        ----------
        row : float
            One row's worth of weight.
        """
        prior, p = self.prior, self.coef.shape[2]
        dead = (self.mass < row) | prior.collapsed(self.coef, self.shapes)
        noise = self.family.log_noise(self.coef, self.shapes)
        if noise is not None and prior.pseudo is None:
            few = self.mass < max(0.1 * self.mass.sum(), 3.0 * (p + 1) * row)
            tiny = noise - prior.global_noise < SPURIOUS
            dead |= (self.mass < (p + 1) * row) | (few & tiny)
        return bool(dead.any())

    def restrict(self, index):
        """Return a kernel of some experts, to work on rows that reach only them."""
        part = copy.copy(self)
        part.n_experts = len(index)
        part.coef, part.shapes = self.coef[index], self.shapes[index]
        return part

    def absorb(self, part, index):
        """Add what the fills of a kernel of some experts have summed."""
        self.mass[index] += part.mass
        self.sums[index] += part.sums

    def rows_of(self, index):
        """Return which gram rows and score rows belong to some experts."""
        rows = np.arange(self.n_gram_rows).reshape(-1, self.n_experts)
        return rows[:, index].ravel(), rows[:, index].ravel()

    def split(self):
        """Return one kernel for each expert, with its own parameters."""
        parts = []
        for k in range(self.n_experts):
            part = GlmKernel(1, self.prior)
            part.coef = self.coef[k : k + 1].copy()
            part.shapes = self.shapes[k : k + 1].copy()
            part.mass = self.mass[k : k + 1].copy()
            parts.append(part)
        return parts

    @property
    def parameters(self):
        """Coefficients, then the shapes of each expert, or of all if tied."""
        return np.concatenate([self.coef.ravel(), self._free_shapes().ravel()])

    @parameters.setter
    def parameters(self, value):
        size = self.coef.size
        self.coef = np.array(value[:size]).reshape(self.coef.shape)
        if self.shapes.shape[1]:
            shapes = np.array(value[size:]).reshape(self._free_shapes().shape)
            shapes = self.prior.clipped(shapes)
            self.shapes = np.array(np.broadcast_to(shapes, self.shapes.shape))
