"""Damped Newton steps of an expert whose numerics are those of a kernel."""

import numpy as np

from skmoe._blocks import half_products, row_blocks

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
        half_grams = np.zeros((p * (p + 1) // 2, kernel.n_gram_rows))
        score = np.zeros((p, kernel.n_score_rows))
        kernel.reset()
        value = 0.0
        for block in row_blocks(features.shape[0]):
            design = self.design_.block(features, block)
            log_prob = kernel.log_prob(design, rows[..., block])
            value += float(log_prob[0] @ weight[block])
            gram_rows = np.empty((kernel.n_gram_rows, design.shape[1]))
            score_rows = np.empty((kernel.n_score_rows, design.shape[1]))
            kernel.fill(gram_rows, score_rows, weight[None, block], weight[block])
            half_grams += half_products(design) @ gram_rows.T
            score += design @ score_rows.T
        kernel.take(half_grams, score, weight.sum())
        return value

    def _log_lik(self, features, rows, weight):
        """Return the weighted log-likelihood at the kernel's parameters."""
        value = 0.0
        for block in row_blocks(features.shape[0]):
            design = self.design_.block(features, block)
            log_prob = self.kernel_.log_prob(design, rows[..., block])
            value += float(log_prob[0] @ weight[block])
        return value
