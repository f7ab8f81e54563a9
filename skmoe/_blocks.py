"""Row blocks, standardised designs and weighted grams: one pass over the rows.

Everything here is *feature-first*: a design block has shape
(n_columns, n_rows). Sums and maxima over experts then run along contiguous
rows, which NumPy does several times faster than reductions over a short last
axis, and weighted grams become one matrix product (see `half_products`).

Rows may be arrays of any library; see `skmoe._xp`. Blocks are float64 whatever X is:
sums over many rows need it, and it costs little on the chips that people fit on.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import numpy as np
from scipy import linalg, sparse

from skmoe._xp import (
    block_numbers,
    empty,
    empty_rows,
    floats,
    free_bytes,
    is_foreign,
    is_on_cuda,
    like,
    namespace,
    taken,
    to_numpy,
    total,
)

__all__ = [
    "BLOCK_ROWS",
    "Design",
    "FormedRows",
    "blocks_of",
    "half_products",
    "row_blocks",
    "runs_triton",
    "solve_psd",
    "unpack_grams",
    "weighted_grams",
    "weighted_means",
]

# Large enough to hide the cost of a NumPy call, small enough that a block of
# half products (66 rows for 10 columns) stays in the second-level cache.
BLOCK_ROWS = 4096
# Systems so wide are solved one by one: each fills the processor.
WIDE = 40
# A design may take so much of the memory that is free on a device.
SHARE_OF_FREE = 0.5


def row_blocks(n_rows: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Yield consecutive slices that cover ``range(n_rows)``."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def blocks_of(X, width: int = 0) -> Iterator[slice]:
    """Yield slices that cover the rows of an array, as many as its device likes.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    width : int
        Numbers that the work on a row makes; 0 for about four times X's columns.
    """
    size = BLOCK_ROWS
    if is_foreign(X):
        size = max(block_numbers(X) // (width or 4 * X.shape[1]), 256)
    return row_blocks(X.shape[0], size)


class Design:
    """Standardised columns of X behind a leading column of ones.

    Scales are weighted standard deviations, so the design of weighted rows is
    that of repeated rows. A column that does not vary becomes zero: its
    coefficient stays where its penalty leaves it.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), dense or CSR
    weight : array of shape (n_samples,)
    intercept : bool
        Whether to lead with ones and centre the columns. Sparse columns are
        scaled but not centred.
    """

    def __init__(self, X, weight, *, intercept=True):
        self.intercept = intercept
        self.sparse = sparse.issparse(X)
        mean, deviation, size = _column_moments(X, weight)
        varies = deviation > 1e-13 * size
        self.center = mean if intercept and not self.sparse else np.zeros_like(mean)
        spread = deviation if intercept else np.sqrt(deviation**2 + mean**2)
        if not intercept:
            varies = spread > 0
        self.inverse_scale = np.zeros_like(spread)
        self.inverse_scale[varies] = 1.0 / spread[varies]

    @property
    def n_columns(self) -> int:
        """Columns of the design, with the intercept."""
        return self.center.size + int(self.intercept)

    @property
    def penalised(self):
        """One for each column that a ridge acts on, zero for the intercept."""
        mask = np.ones(self.n_columns)
        mask[: int(self.intercept)] = 0.0
        return mask

    def block(self, X, rows: slice):
        """Return the design of some rows, of shape (n_columns, n_rows)."""
        part = X[rows, ...] if is_foreign(X) else X[rows]
        if self.sparse:
            part = part.toarray()
        out = empty_rows(part, (self.n_columns, part.shape[0]))
        first = int(self.intercept)
        out[:first, :] = 1.0
        body = out[first:, :]
        center = like(part, self.center[:, None])
        if is_foreign(part):
            body[...] = floats(part).T - center
        else:
            np.subtract(part.T, center, out=body)
        body *= like(part, self.inverse_scale[:, None])
        return out

    def matrix(self, X):
        """Return the whole design, of shape (n_columns, n_samples)."""
        out = empty_rows(X, (self.n_columns, X.shape[0]))
        for rows in blocks_of(X):
            out[:, rows] = self.block(X, rows)
        return out

    def of(self, X):
        """Return the whole design, or what forms its blocks where memory is short."""
        if 8.0 * self.n_columns * X.shape[0] > SHARE_OF_FREE * free_bytes(X):
            return FormedRows(self, X)
        return self.matrix(X)

    def linear_map(self, coef, X):
        """Return ``design(X).T @ coef.T``, of shape (n_samples, n_rows_of_coef).

        The coefficients are carried to the scale of X, so nothing is copied.
        """
        slope, intercept = self.to_columns(coef)
        return floats(X) @ like(X, slope.T) + like(X, intercept)

    def to_columns(self, coef):
        """Carry coefficients (..., n_columns) to the user's columns.

        Returns
        -------
        slope : array of shape (..., n_features)
        intercept : array of shape (...)
        """
        first = int(self.intercept)
        slope = coef[..., first:] * self.inverse_scale
        shift = slope @ self.center
        intercept = coef[..., 0] - shift if self.intercept else -shift
        return slope, intercept


class FormedRows:
    """A design whose blocks are formed anew each time they are asked for.

    It stands for an array of shape (n_columns, n_samples) that its device cannot hold
    beside X: a pass then takes longer, and no more memory than its blocks.

    Parameters
    ----------
    design : Design
    X : array of shape (n_samples, n_features)
    """

    def __init__(self, design, X):
        self.design, self.X = design, X

    @property
    def shape(self):
        """Columns of the design, and rows."""
        return self.design.n_columns, self.X.shape[0]

    def __getitem__(self, key):
        return self.design.block(self.X, key[1])

    def taken(self, rows):
        """Return the design of some rows, in the memory of the host."""
        return self.design.matrix(taken(self.X, rows, axis=0))


def _column_moments(X, weight):
    """Return weighted mean, standard deviation and largest size of each column."""
    if sparse.issparse(X):
        return _sparse_moments(X, weight)
    xp, mass = namespace(X), total(weight)
    square = size = 0.0
    center = weighted_means(X, weight)
    mean = like(X, center)
    for rows in blocks_of(X):
        part = floats(X[rows, ...])
        error = part - mean
        square = square + weight[rows] @ (error * error)
        size = np.maximum(size, to_numpy(xp.max(xp.abs(part), axis=0)))
    return center, np.sqrt(to_numpy(square) / mass), size


def weighted_means(X, weight):
    """Return the weighted mean of each column of a dense X, in NumPy."""
    if not is_foreign(X):
        return weight @ X / weight.sum()
    sums = 0.0
    for rows in blocks_of(X):
        sums = sums + weight[rows] @ floats(X[rows, ...])
    return to_numpy(sums) / total(weight)


def _sparse_moments(X, weight):
    """Return the same for CSR input, in two passes over what is stored."""
    mass = weight.sum()
    row_of = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    stored_weight, n_columns = weight[row_of], X.shape[1]

    def column_sums(values):
        return np.bincount(X.indices, weights=values, minlength=n_columns)

    mean = column_sums(stored_weight * X.data) / mass
    error = X.data - mean[X.indices]
    square = column_sums(stored_weight * error * error)
    # The zeros that are not stored lie at distance |mean|.
    zeros = np.maximum(mass - column_sums(stored_weight), 0.0)
    zeros[zeros < 1e-12 * mass] = 0.0
    square += zeros * mean * mean
    size = np.zeros(n_columns)
    np.maximum.at(size, X.indices, np.abs(X.data))
    return mean, np.sqrt(square / mass), size


def half_products(design, out=None):
    """Return the products of all column pairs i <= j of a design block.

    With weight columns W of shape (n_weights, n_rows), ``half @ W.T`` holds the
    weighted gram of every weight column: each product is formed once, and all
    grams are one matrix product.

    Returns
    -------
    half : array of shape (n_columns * (n_columns + 1) / 2, n_rows)
    """
    p, rows = design.shape
    if out is None:
        out = empty(design, (p * (p + 1) // 2, rows))
    start = 0
    for j in range(p):
        some = slice(start, start + p - j)
        if isinstance(out, np.ndarray):
            np.multiply(design[j], design[j:], out=out[some])
        else:
            out[some, :] = design[j, :] * design[j:, :]
        start += p - j
    return out


def weighted_grams(design, weights, half=None):
    """Return the packed weighted grams of a design block.

    Parameters
    ----------
    design : array of shape (n_columns, n_rows)
    weights : array of shape (n_weights, n_rows)
    half : array, default=None
        Where `half_products` may write.

    Returns
    -------
    grams : array of shape (n_columns * (n_columns + 1) / 2, n_weights)
    """
    if half is None and runs_triton(design):
        from skmoe._gram_kernel import weighted_grams_on_cuda

        return weighted_grams_on_cuda(design, weights)
    return half_products(design, half) @ weights.T


def runs_triton(array):
    """Return whether an array is where kernels of Triton can work on it."""
    return is_on_cuda(array) and _has_triton()


@cache
def _has_triton():
    """Return whether Triton is installed; asked in every pass, looked up once."""
    return find_spec("triton") is not None


def unpack_grams(half, n_columns):
    """Turn columns of `half_products` sums into symmetric matrices.

    Parameters
    ----------
    half : array of shape (n_columns * (n_columns + 1) / 2, n_weights)

    Returns
    -------
    grams : array of shape (n_weights, n_columns, n_columns)
    """
    index = np.zeros((n_columns, n_columns), dtype=np.intp)
    upper = np.triu_indices(n_columns)
    index[upper] = np.arange(half.shape[0])
    index.T[upper] = index[upper]
    return half.T[:, index]


def solve_psd(matrix, right):
    """Solve a symmetric positive semidefinite system, least norm if singular.

    The matrix is scaled to a unit diagonal first. Directions without
    information (constant or duplicated columns, experts without rows) get
    zero rather than the quotient of two rounding errors.
    """
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 0.0))
    inverse = np.zeros_like(scale)
    # Columns may differ by any scale, but below this a quotient overflows.
    known = scale > 1e-100
    np.divide(1.0, scale, out=inverse, where=known)
    scaled = matrix * inverse[:, None] * inverse
    rhs = right * (inverse[:, None] if right.ndim == 2 else inverse)
    factor, info = linalg.lapack.dpotrf(scaled, lower=1, clean=0)
    if info == 0 and np.diagonal(factor).min(initial=1.0) > 1e-5:
        solution, _ = linalg.lapack.dpotrs(factor, rhs, lower=1)
    else:
        value, vector = linalg.eigh(scaled)
        keep = value > 1e-10 * max(float(value[-1]), 1e-300)
        basis = vector[:, keep]
        projected = basis.T @ rhs
        reciprocal = 1.0 / value[keep]
        projected *= reciprocal[:, None] if right.ndim == 2 else reciprocal
        solution = basis @ projected
    return solution * (inverse[:, None] if right.ndim == 2 else inverse)


def solve_psd_stack(matrices, right):
    """Solve many symmetric positive semidefinite systems as one batch.

    As `solve_psd`, which takes over for the matrices that have no safe factor.

    Parameters
    ----------
    matrices : array of shape (n_systems, n_columns, n_columns)
    right : array of shape (n_systems, n_columns, n_right)

    Returns
    -------
    solution : array of shape (n_systems, n_columns, n_right)
    """
    if matrices.shape[1] > WIDE:
        pairs = zip(matrices, right, strict=True)
        return np.stack([solve_psd(matrix, some) for matrix, some in pairs])
    scale = np.sqrt(np.maximum(np.diagonal(matrices, axis1=1, axis2=2), 0.0))
    safe = (scale > 1e-100).all(axis=1)
    inverse = 1.0 / np.where(scale > 1e-100, scale, 1.0)
    scaled = matrices * inverse[:, :, None] * inverse[:, None, :]
    rhs = right * inverse[:, :, None]
    try:
        pivots = np.diagonal(np.linalg.cholesky(scaled[safe]), axis1=1, axis2=2)
        safe[safe] = pivots.min(axis=1, initial=1.0) > 1e-5
    except np.linalg.LinAlgError:
        # One of them has no factor: NumPy does not say which.
        safe[:] = False
    solution = np.empty_like(rhs)
    solution[safe] = np.linalg.solve(scaled[safe], rhs[safe]) * inverse[safe, :, None]
    for k in np.flatnonzero(~safe):
        solution[k] = solve_psd(matrices[k], right[k])
    return solution
