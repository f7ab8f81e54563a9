"""Experts that know their derivatives, for information matrices.

Mixins for the native experts: the `Differentiable` protocol of each kind of kernel.
"""

import numpy as np

from skmoe._blocks import Design
from skmoe._multinomial import log_softmax_first
from skmoe._protocols import RowDerivatives
from skmoe._terms import Term, contrast_map, design_map, predictor_map
from skmoe.experts._family_derivatives import family_derivatives
from skmoe.experts._known import split_known

__all__ = ["GaussianDerivatives", "LogitDerivatives", "PredictorDerivatives"]


def _rows(design: Design, features):
    """Return the design of some rows, of shape (n_samples, n_columns)."""
    return design.matrix(features).T


class PredictorDerivatives:
    """Of a `LinearPredictorExpert`, from those of its family."""

    def coefficient_vector(self):
        """Return coefficients, predictor by predictor, then shapes."""
        return self.kernel_.parameters

    def row_derivatives(self, X, y):
        """Return derivatives in linear predictors and shapes; see `RowDerivatives`."""
        kernel, features = self.kernel_, split_known(X, self.known)[0]
        occurs = self.supports(X, y)
        some = slice(None) if occurs.all() else np.flatnonzero(occurs)
        known = split_known(X[some], self.known)[1]
        eta = self._predictors(features[some], known).T
        target = self._target(kernel.family, X[some], y[some])
        found, bent = family_derivatives(kernel.family, eta, target, kernel.shapes[0])
        n_local = len(found)
        gradient = np.zeros((y.size, n_local))
        curvature = np.zeros((y.size, n_local, n_local))
        gradient[some] = np.stack(found, axis=1)
        for (i, j), values in bent.items():
            curvature[some, i, j] = curvature[some, j, i] = values
        design = _rows(self.design_, features)
        return RowDerivatives(design, gradient, curvature, len(eta))

    def penalty_curvature(self):
        """Return second derivatives of the log prior in `parameters`."""
        kernel = self.kernel_
        return kernel.prior.curvature(kernel.coef[0], kernel.shapes[0])

    def coefficient_map(self):
        """Return what the parameters mean to the user."""
        family = self.kernel_.family
        shapes = [
            Term("shape", name=name.removeprefix("log_"), log=True, positive=True)
            for name in family.shape_names
        ]
        return predictor_map(self.design_, family.predictor_names, shapes)


class GaussianDerivatives:
    """Of a `LinearExpert`: means, and entries of the covariance.

    With ``u = P (y - m)``, P the precision and E the symmetric matrix that an entry
    of the covariance S stands for,

        dlog p/dm = u,   dlog p/dS[E] = (u' E u - tr(P E)) / 2,
        d2/dm dm' = -P,   d2/dm dS[E] = -P E u,
        d2/dS[E]dS[F] = tr(P E P F) / 2 - u' E P F u .
    """

    def coefficient_vector(self):
        """Return coefficients, output by output, then entries of the covariance."""
        variance = self.kernel_.variance[0]
        if variance.ndim == 2:
            variance = variance[np.triu_indices(len(variance))]
        return np.concatenate([self.kernel_.coef[0].ravel(), variance])

    def _entries(self):
        """Return the symmetric matrices E of the free entries of the covariance."""
        n_outputs = self.kernel_.coef.shape[1]
        diagonal = self.kernel_.variance.ndim == 2
        entries = []
        for a in range(n_outputs):
            for b in range(a, a + 1 if diagonal else n_outputs):
                entry = np.zeros((n_outputs, n_outputs))
                entry[a, b] = entry[b, a] = 1.0
                entries.append(entry)
        return np.stack(entries)

    def _precision(self):
        variance = self.kernel_.variance[0]
        return np.linalg.inv(np.diag(variance) if variance.ndim == 1 else variance)

    def row_derivatives(self, X, y):
        """Return derivatives in means and covariances; see `RowDerivatives`."""
        precision, entries = self._precision(), self._entries()
        error = (y - self.predict_params(X)).reshape(len(y), -1)
        pull = error @ precision
        bent = np.einsum("eij,nj->nei", entries, pull)  # E u
        n_outputs, n_local = pull.shape[1], pull.shape[1] + len(entries)
        gradient = np.empty((len(y), n_local))
        gradient[:, :n_outputs] = pull
        trace = np.einsum("ij,eji->e", precision, entries)
        gradient[:, n_outputs:] = 0.5 * (np.einsum("nei,ni->ne", bent, pull) - trace)
        curvature = np.empty((len(y), n_local, n_local))
        curvature[:, :n_outputs, :n_outputs] = -precision
        cross = -bent @ precision
        curvature[:, n_outputs:, :n_outputs] = cross
        curvature[:, :n_outputs, n_outputs:] = cross.transpose(0, 2, 1)
        both = np.einsum("eij,fji->ef", precision @ entries, precision @ entries)
        spread = 0.5 * both - bent @ precision @ bent.transpose(0, 2, 1)
        curvature[:, n_outputs:, n_outputs:] = spread
        design = _rows(self.design_, X)
        return RowDerivatives(design, gradient, curvature, n_outputs)

    def penalty_curvature(self):
        """Return second derivatives of the log prior: coefficients, then covariance."""
        kernel, prior = self.kernel_, self.kernel_.prior
        precision, entries = self._precision(), self._entries()
        deviation = kernel.coef[0] - prior.anchor
        scatter = (deviation * prior.ridge) @ deviation.T
        scatter = scatter + prior.rows * np.diag(prior.scale)
        n_coef = deviation.size
        out = np.empty((n_coef + len(entries), n_coef + len(entries)))
        out[:n_coef, :n_coef] = -np.kron(precision, np.diag(prior.ridge))
        bent = precision @ entries @ precision
        cross = (bent @ (deviation * prior.ridge)).reshape(len(entries), n_coef)
        out[n_coef:, :n_coef], out[:n_coef, n_coef:] = cross, cross.T
        both = np.einsum("eij,fji->ef", bent, entries)
        spread = np.einsum("eij,fjk,ki->ef", bent, entries @ precision, scatter)
        spread = 0.5 * (spread + spread.T)
        out[n_coef:, n_coef:] = 0.5 * prior.rows * both - spread
        return out

    def coefficient_map(self):
        """Return what coefficients and covariance mean to the user."""
        several = not self.single_output_
        names = [""] * self.kernel_.coef.shape[1]
        shapes = []
        for entry in self._entries():
            a, b = np.flatnonzero(entry.any(axis=0))[[0, -1]]
            name = "variance" if a == b else f"covariance with output {b}"
            output = int(a) if several else -1
            shapes.append(Term("shape", -1, output, name, positive=bool(a == b)))
        return predictor_map(self.design_, names, shapes, outputs=several)


class LogitDerivatives:
    """Of a `LogisticExpert`: the logits of all classes."""

    def coefficient_vector(self):
        """Return the coefficients, class by class."""
        return self.kernel_.parameters

    def row_derivatives(self, X, y):
        """Return derivatives in the logits; see `RowDerivatives`."""
        logit = self.design_.linear_map(self.kernel_.coef[0], X)
        proba = log_softmax_first(logit.T)[1].T
        gradient = -proba
        gradient[np.arange(len(y)), y] += 1.0
        curvature = proba[:, :, None] * proba[:, None, :]
        each = np.arange(proba.shape[1])
        curvature[:, each, each] -= proba
        design = _rows(self.design_, X)
        return RowDerivatives(design, gradient, curvature, proba.shape[1])

    def penalty_curvature(self):
        """Return second derivatives of the log prior in `parameters`."""
        kernel = self.kernel_
        return np.kron(np.eye(kernel.coef.shape[1]), -np.diag(kernel.ridge))

    def coefficient_map(self):
        """Return what the parameters mean: log odds against the first class."""
        return contrast_map(*design_map(self.design_), self.kernel_.coef.shape[1])
