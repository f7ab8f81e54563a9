"""The responses that enough weighted sets hold, for each of some rows."""

import numpy as np

from skmoe.law._intervals import IntervalUnion

__all__ = ["held_by"]

# Weights this close are equal: they are sums of the same numbers in another order.
TIE = 1e-9


def held_by(lower, upper, weight, needed, *, integers=False):
    """Return where the weights of the pieces around a point exceed what is needed.

    Ends are swept in order; closed pieces that touch hold their common end both.

    Parameters
    ----------
    lower, upper : arrays of shape (n_samples, n_pieces)
        Ends of the pieces, NaN for none.
    weight : array of shape (n_samples, n_pieces)
        Non-negative.
    needed : array of shape (n_samples,)
        Where no point has more, the points with the greatest weight are returned.
    integers : bool, default=False
        Whether only integers are meant.

    Returns
    -------
    union : IntervalUnion
    """
    weight = np.where(np.isnan(lower), 0.0, weight)
    position = np.hstack([lower, upper])
    # Stable: at one point all pieces that begin come before those that end there.
    order = np.argsort(position, axis=1, kind="stable")
    position = np.take_along_axis(position, order, axis=1)
    depth = np.take_along_axis(np.hstack([weight, -weight]), order, axis=1)
    depth = np.cumsum(depth, axis=1)
    most = depth.max(axis=1)
    enough = np.minimum(np.maximum(needed, TIE), most - TIE * (1.0 + most))
    inside = depth > enough[:, None]
    before = np.hstack([np.zeros_like(inside[:, :1]), inside[:, :-1]])
    row, begin = np.nonzero(inside & ~before)
    _, end = np.nonzero(~inside & before)
    return IntervalUnion.from_pieces(
        row, position[row, begin], position[row, end], len(lower), integers=integers
    )
