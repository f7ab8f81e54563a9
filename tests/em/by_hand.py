"""Mixtures of plain maximum likelihood, and parts of EM written by hand."""

import numpy as np
from numpy.testing import assert_allclose
from scipy.stats import norm

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert

N_EXPERTS, PASSES = 2, 30


def plain():
    """A linear expert of plain maximum likelihood."""
    return LinearExpert(alpha=0.0, variance_prior=None)


def mixture(gate, **kwargs):
    """Plain EM from a start that is given."""
    defaults = {"acceleration": None, "max_iter": PASSES, "tol": 0.0}
    return MixtureOfExpertsRegressor(
        kwargs.pop("experts", plain()), N_EXPERTS, gate=gate, **(defaults | kwargs)
    )


def sums_of(values, group, weight):
    """Return weighted sums over the groups, one group after another."""
    return np.array([weight[group == g] @ values[group == g] for g in np.unique(group)])


def hand_experts(X, y, weight):
    """Return weighted least squares and its log densities, an expert a column."""
    Z, out = np.column_stack([np.ones(len(X)), X]), []
    for k in range(weight.shape[1]):
        w = weight[:, k]
        coef = np.linalg.solve(Z.T @ (w[:, None] * Z), Z.T @ (w * y))
        variance = w @ (y - Z @ coef) ** 2 / w.sum()
        out.append(norm.logpdf(y, Z @ coef, np.sqrt(variance)))
    return np.column_stack(out)


def fits_of(model, X, y, weight=None, **beside):
    """Return what two fits must share to be the same."""
    model.fit(X, y, weight, **beside)
    return model.objective_trace_[-1], model.predict(X[:9]), model.gate_proba(X[:9])


def assert_same(one, other, tol=1e-8):
    for mine, theirs in zip(one, other, strict=True):
        assert_allclose(mine, theirs, rtol=tol, atol=tol)
