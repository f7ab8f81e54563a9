"""From information matrices to covariances, and which numbers they say nothing of."""

import numpy as np

__all__ = ["COVARIANCES", "covariance_of", "jacobian_of"]

COVARIANCES = ("observed", "opg", "sandwich", "bootstrap")
# Of a matrix scaled to a unit diagonal: below, an eigenvalue is rounding.
NULL_EIGENVALUE = 1e-9
# Less than so much of one row's worth: scores of a gate that has run to infinity.
NO_ROW = 1e-7
# A coefficient that moves so far along a direction of which the rows say nothing.
NULL_SHARE = 1e-4


def jacobian_of(blocks, found):
    """Return derivatives of the printed coefficients in the free parameters.

    Parameters
    ----------
    blocks : list of CoefficientBlock
    found : Information

    Returns
    -------
    jacobian : array of shape (n_coefficients, n_free)
        Rows of NaN for parts that are held fixed.
    """
    known = {block.expert: block for block in found.blocks}
    rows = [np.zeros((0, found.free.shape[1]))]
    for block in blocks:
        own = known.get(block.place)
        if own is None:
            rows.append(np.full((len(block.values), found.free.shape[1]), np.nan))
            continue
        logs = np.array([one.log for one in block.coefficients], dtype=bool)
        scale = np.where(logs, block.values, 1.0)
        linear = block.contrast @ own.map.matrix @ found.free[own.where]
        rows.append(scale[:, None] * linear)
    return np.concatenate(rows)


def covariance_of(found, jacobian, kind):
    """Return the covariance of coefficients, and which of them are identified.

    The information is inverted where it says something. A coefficient that changes
    along a direction of which the rows say nothing has no variance; those that do not
    are told as if it were known.

    Parameters
    ----------
    found : Information
    jacobian : array of shape (n_coefficients, n_free)
    kind : {"observed", "opg", "sandwich"}
        Inverse of the observed information; of the outer product of the scores; or
        the outer product between two inverses of the observed one, which holds for
        a misspecified model too (Huber 1967; White 1982). With priors their
        curvature is part of the information.

    Returns
    -------
    covariance : array of shape (n_coefficients, n_coefficients)
        NaN in rows and columns of coefficients that have no variance.
    identified : array of bool of shape (n_coefficients,)
        Coefficients of parts that are held fixed count as identified.
    """
    prior = found.penalised - found.observed
    bread = found.outer + prior if kind == "opg" else found.penalised
    inverse, null, scale = _inverse(bread, _least(found))
    middle = inverse @ found.outer @ inverse if kind == "sandwich" else inverse
    fixed = np.isnan(jacobian).any(axis=1)
    own = np.where(fixed[:, None], 0.0, jacobian)
    covariance = own @ middle @ own.T
    size = np.linalg.norm(own * scale, axis=1)
    lost = np.linalg.norm(own @ null, axis=1) > NULL_SHARE * size
    # A coefficient of a constant column does not move at all.
    lost |= (size == 0.0) & ~fixed
    nothing = lost | fixed
    covariance[nothing] = covariance[:, nothing] = np.nan
    return covariance, ~lost


def _least(found):
    """Return the least information about each free parameter that counts as some.

    Scores of a gate are nats, whatever the units of the columns; coefficients of
    experts have units.
    """
    least = np.zeros(found.free.shape[1])
    for block in found.blocks:
        if block.expert < 0:
            least[np.abs(found.free[block.where]).sum(axis=0) > 0.0] = NO_ROW
    return least


def _inverse(matrix, least):
    """Return the inverse where a matrix is positive, and what is left out.

    Returns
    -------
    inverse : array of shape (n, n)
    null : array of shape (n, n_null)
        Directions of which nothing is told.
    scale : array of shape (n,)
        A unit for each coordinate.
    """
    diagonal = np.diagonal(matrix)
    told = diagonal > least
    scale = 1.0 / np.sqrt(np.where(told, diagonal, 1.0))
    scaled = np.where(np.outer(told, told), matrix * np.outer(scale, scale), 0.0)
    value, vector = np.linalg.eigh(scaled)
    keep = value > NULL_EIGENVALUE
    directions = scale[:, None] * vector
    basis = directions[:, keep]
    return basis / value[keep] @ basis.T, directions[:, ~keep], scale
