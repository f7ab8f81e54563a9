"""Rows of which some columns are not observed, and what a Gaussian says of them.

Of a row z, let o be the columns that are observed and m the others. Under a
Gaussian with mean mu and covariance S the observed columns have the marginal
density N(z_o; mu_o, S_oo), and the others, given these,

    E[z_m | z_o] = mu_m + S_mo S_oo^-1 (z_o - mu_o),
    cov[z_m | z_o] = S_mm - S_mo S_oo^-1 S_om

(Ghahramani & Jordan 1994). Both follow from the inverse of S_oo set into zeros, one
for each pattern of missing columns:

    P = [S_oo^-1, 0; 0, 0],   E[z] - mu = S P (z - mu),   cov[z] = S - S P S.

References
----------
Ghahramani, Z. and Jordan, M. I. (1994). Supervised learning from incomplete data
via an EM approach. Advances in Neural Information Processing Systems 6.
"""

import numpy as np

from skmoe._blocks import Design, row_blocks
from skmoe._xp import is_foreign

__all__ = ["PartialRows", "embedded_inverses", "observed_design"]

# Floats in the largest temporary array: one matrix for each row.
CHUNK_FLOATS = 1 << 18


class PartialRows:
    """Rows with missing values, grouped by the pattern of what is observed.

    Parameters
    ----------
    z : array of shape (n_columns, n_rows)
        Standardised columns; NaN where a value is missing.

    Attributes
    ----------
    observed : array of bool of shape (n_columns, n_rows)
    z : array of shape (n_columns, n_rows)
        With zeros for what is missing.
    """

    def __init__(self, z):
        self.observed = ~np.isnan(z)
        self.z = np.where(self.observed, z, 0.0)

    def error(self, mean):
        """Return deviations from a mean of shape (n_columns,), 0 where missing."""
        return np.where(self.observed, self.z - mean[:, None], 0.0)

    def chunks(self):
        """Yield rows in parts, with the patterns that occur in each.

        Yields
        ------
        rows : slice
        patterns : array of bool of shape (n_patterns, n_columns)
        pattern_of : int array of shape (n_rows_of_part,)
        """
        n_columns, n_rows = self.z.shape
        size = max(CHUNK_FLOATS // max(n_columns * n_columns, 1), 16)
        for rows in row_blocks(n_rows, size):
            mask = self.observed[:, rows].T
            packed = np.packbits(mask, axis=1)
            _, first, pattern_of = np.unique(
                packed, axis=0, return_index=True, return_inverse=True
            )
            yield rows, mask[first], pattern_of.reshape(-1)


def embedded_inverses(matrix, patterns):
    """Invert the observed part of a covariance, for each pattern.

    Parameters
    ----------
    matrix : array of shape (n_columns, n_columns)
        Positive definite.
    patterns : array of bool of shape (n_patterns, n_columns)

    Returns
    -------
    inverse : array of shape (n_patterns, n_columns, n_columns)
        Zero in the rows and columns that are not observed.
    log_det : array of shape (n_patterns,)
        Log determinants of the observed parts.
    """
    scale = np.sqrt(matrix.diagonal())
    every = np.arange(scale.size)
    both = patterns[:, :, None] & patterns[:, None, :]
    # On a unit diagonal; what is missing becomes independent of the rest.
    part = np.where(both, matrix / scale[:, None] / scale, 0.0)
    part[:, every, every] = 1.0
    root, log_det = _whiteners(part)
    log_det = log_det + 2.0 * patterns @ np.log(scale)
    inverse = root.swapaxes(1, 2) @ root
    return np.where(both, inverse / scale[:, None] / scale, 0.0), log_det


def _whiteners(matrices):
    """Return W with ``W' W`` the inverse, and log determinants, of correlations."""
    try:
        root = np.linalg.inv(np.linalg.cholesky(matrices))
        return root, -2.0 * np.log(np.diagonal(root, 0, 1, 2)).sum(axis=1)
    except np.linalg.LinAlgError:
        # Columns alike up to rounding, as wild extrapolations of a covariance are.
        eigen, vector = np.linalg.eigh(matrices)
        eigen = np.maximum(eigen, np.finfo(float).eps * matrices.shape[1])
        root = (vector / np.sqrt(eigen)[:, None, :]).swapaxes(1, 2)
        return root, np.log(eigen).sum(axis=1)


def observed_design(X, weight):
    """Return the design of standardised columns, by the values that are observed.

    Rows with gaps are NumPy's; those of other libraries have none.

    Raises
    ------
    ValueError
        If a column has no observed value in a row of positive weight.
    """
    if is_foreign(X):
        return Design(X, weight)
    missing = np.isnan(X)
    if not missing.any():
        return Design(X, weight)
    design = Design(np.where(missing, 0.0, X), weight)
    for j in np.flatnonzero(missing.any(axis=0)):
        rows = ~missing[:, j] & (weight > 0)
        if not rows.any():
            raise ValueError(
                f"GaussianGate: column {j} of the columns that the gate sees is "
                "missing in every row; leave it out (gate_features)."
            )
        column = Design(X[rows, j : j + 1], weight[rows])
        design.center[j] = column.center[0]
        design.inverse_scale[j] = column.inverse_scale[0]
    return design
