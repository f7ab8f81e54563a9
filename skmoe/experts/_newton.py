"""Damped Newton steps of an expert whose numerics are those of a kernel."""

import numpy as np

from skmoe._blocks import blocks_of, half_products
from skmoe._xp import empty, to_numpy, total, zeros

__all__ = ["NewtonSteps"]

# A step that promises less than this, relative to the objective, is rounding.
LEAST_PROMISE = 1e-16


class NewtonSteps:
    """Climb ``sum(weight * log_prob) + penalty`` with the steps of ``kernel_``.

    A mixin. It asks for ``design_``, ``kernel_``, ``max_iter`` and ``tol``, and for
    ``features(X)`` and ``kernel_rows(X, y)``: the columns of the design and what the
    kernel gets as y.
    """

    def fit_alone(self, X, y, weight):
        """Step until a step gains less than tol, or max_iter times; count them."""
        features, rows = self.features(X), self.kernel_rows(X, y)
        last, n_steps = -np.inf, 0
        while n_steps < self.max_iter:
            value = self._newton_step(features, rows, weight)
            n_steps += 1
            if value - last < self.tol * (1.0 + abs(value)):
                break
            last = value
        return n_steps

    def _newton_step(self, features, rows, weight):
        """Step with an Armijo search; return the objective it started from."""
        kernel = self.kernel_
        start = self._accumulate(features, rows, weight) + kernel.penalty
        kernel.propose()
        slope = float(kernel.gradient @ kernel.direction.ravel())
        fraction = 1.0
        for _ in range(12):
            if not fraction * slope > LEAST_PROMISE * (1.0 + abs(start)):
                break
            kernel.move(fraction)
            value = self._log_lik(features, rows, weight) + kernel.penalty
            if value >= start + 1e-4 * fraction * slope:
                return start
            fraction *= 0.5
        kernel.move(0.0)
        return start

    def _accumulate(self, features, rows, weight):
        """Sum gradient and grams over all rows; return the log-likelihood."""
        kernel, p = self.kernel_, self.design_.n_columns
        half_grams = zeros(weight, (p * (p + 1) // 2, kernel.n_gram_rows))
        score = zeros(weight, (p, kernel.n_score_rows))
        kernel.reset()
        value = 0.0
        for block in self._blocks(features):
            design, some = self.design_.block(features, block), weight[block]
            log_prob = kernel.log_prob(design, rows[..., block])
            value = value + log_prob[0, :] @ some
            gram_rows = empty(weight, (kernel.n_gram_rows, design.shape[1]))
            score_rows = empty(weight, (kernel.n_score_rows, design.shape[1]))
            kernel.fill(gram_rows, score_rows, some[None, :], some)
            half_grams += half_products(design) @ gram_rows.T
            score += design @ score_rows.T
        kernel.take(to_numpy(half_grams), to_numpy(score), total(weight))
        return float(value)

    def _log_lik(self, features, rows, weight):
        """Return the weighted log-likelihood at the kernel's parameters."""
        value = 0.0
        for block in self._blocks(features):
            design = self.design_.block(features, block)
            log_prob = self.kernel_.log_prob(design, rows[..., block])
            value = value + log_prob[0, :] @ weight[block]
        return float(value)

    def _blocks(self, features):
        """Yield slices of rows; a pass makes about so many numbers of each row."""
        kernel, p = self.kernel_, self.design_.n_columns
        width = p * (p + 3) // 2 + kernel.n_gram_rows + 5 * kernel.n_score_rows
        return blocks_of(features, width)
