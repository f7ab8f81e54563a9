"""Laws of many families for tests: our parts beside SciPy's frozen distributions.

A builder returns ``((params, dispersion, family), laws)``, with a law for each of
`N_ROWS` rows; tables of builders are named.
"""

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from skmoe.likelihoods import (
    Binomial,
    Gamma,
    Gaussian,
    Laplace,
    NegativeBinomial,
    PointMass,
    Poisson,
    RowGaussian,
    StudentT,
    Uniform,
)

N_ROWS = 12


def make_gate(rng, n_experts, n_rows=N_ROWS):
    logit = 1.5 * rng.normal(size=(n_rows, n_experts))
    return np.exp(logit - logsumexp(logit, axis=1, keepdims=True))


def normal(rng, variance):
    mean = 2 * rng.normal(size=N_ROWS)
    laws = [stats.norm(m, np.sqrt(variance)) for m in mean]
    return (mean, variance, Gaussian()), laws


def row_normal(rng):
    params = np.column_stack([rng.normal(size=N_ROWS), rng.gamma(1.0, size=N_ROWS)])
    return (params, None, RowGaussian()), [stats.norm(m, v**0.5) for m, v in params]


def student(rng, square, df):
    mean = rng.normal(size=N_ROWS)
    laws = [stats.t(df, m, np.sqrt(square)) for m in mean]
    return (mean, np.array([square, df]), StudentT()), laws


def laplace(rng, scale):
    mean = rng.normal(size=N_ROWS)
    return (mean, scale, Laplace()), [stats.laplace(m, scale) for m in mean]


def uniform(rng):
    low = rng.normal(size=N_ROWS)
    params = np.column_stack([low, low + rng.gamma(2.0, size=N_ROWS)])
    return (params, None, Uniform()), [stats.uniform(a, b - a) for a, b in params]


def gamma(rng, dispersion):
    mean = np.exp(rng.normal(size=N_ROWS))
    laws = [stats.gamma(1 / dispersion, scale=m * dispersion) for m in mean]
    return (mean, dispersion, Gamma()), laws


def poisson(rng, size=1.0):
    mean = size * np.exp(rng.normal(size=N_ROWS))
    return (mean, None, Poisson()), [stats.poisson(m) for m in mean]


def negative_binomial(rng, theta):
    mean = np.exp(1 + rng.normal(size=N_ROWS))
    laws = [stats.nbinom(theta, theta / (theta + m)) for m in mean]
    return (mean, theta, NegativeBinomial()), laws


def binomial(rng):
    params = np.column_stack([rng.random(N_ROWS), rng.integers(1, 30, N_ROWS) * 1.0])
    return (params, None, Binomial()), [stats.binom(n, p) for p, n in params]


def point(value):
    values = np.broadcast_to(np.asarray(value, dtype=float), (N_ROWS,))
    laws = [stats.rv_discrete(values=([v], [1.0])) for v in values]
    return (values, None, PointMass()), laws


SMOOTH = {
    "normal": lambda r: [normal(r, 0.2), normal(r, 1.0), normal(r, 4.0)],
    "normal, narrow ones": lambda r: [normal(r, 1e-8), normal(r, 1e-4), normal(r, 1.0)],
    "rows": lambda r: [row_normal(r), row_normal(r)],
    "heavy tails": lambda r: [student(r, 0.1, 1.2), normal(r, 0.5), laplace(r, 0.3)],
    "noise": lambda r: [uniform(r), normal(r, 0.01), uniform(r)],
    "positive": lambda r: [gamma(r, 0.05), gamma(r, 0.7), gamma(r, 3.0)],
    "unlike": lambda r: [
        gamma(r, 0.4),
        normal(r, 1.0),
        uniform(r),
        student(r, 1.0, 4.0),
    ],
}
COUNTS = {
    "poisson": lambda r: [poisson(r), poisson(r, 30.0)],
    "zero-inflated": lambda r: [point(0.0), poisson(r, 4.0)],
    "zero- and one-inflated": lambda r: [
        point(1.0),
        negative_binomial(r, 0.5),
        point(0),
    ],
    "trials": lambda r: [binomial(r), binomial(r), poisson(r)],
}
MIXED = {
    "zero-adjusted": lambda r: [point(0.0), gamma(r, 0.5), gamma(r, 0.1)],
    "atoms and densities": lambda r: [normal(r, 1.0), point(0.25), uniform(r)],
    "counts and densities": lambda r: [normal(r, 4.0), poisson(r, 3.0), point(1.5)],
}
ALL = {**SMOOTH, **COUNTS, **MIXED}


def scipy_cdf(gate, laws, i, y):
    """Return P(Y <= y) of a row, by SciPy; a point mass is a step by hand."""
    total = 0.0
    for k, each in enumerate(laws):
        law = each[i]
        if isinstance(law, stats.rv_discrete):
            total += gate[i, k] * (y >= law.xk[0])
        else:
            total += gate[i, k] * law.cdf(y)
    return total


def build(name, rng):
    """Return gate, our parts and SciPy's laws of a table's entry."""
    both = ALL[name](rng)
    parts, laws = [part for part, _ in both], [laws for _, laws in both]
    return make_gate(rng, len(parts)), parts, laws
