"""Down a tree of softmax gates of two: the most probable path of each row.

The gates come stacked, in arrays whose first axis is the nodes of the tree.
"""

import numpy as np
from scipy import sparse

from skmoe._blocks import blocks_of, row_blocks
from skmoe._xp import concatenate, floats, like, namespace, row_dots, take_columns

__all__ = ["descend_gathered", "descend_stacked"]


def descend_stacked(X, columns, plane, child, leaf_levels):
    """Return the node of each row's leaf: one gathered product a level.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), dense or CSR
    columns : sequence of int or None
        The columns that all gates see.
    plane : array of shape (n_nodes, 1 + n_columns)
        Intercept and slopes of the logit of the second child; zero for a leaf.
    child : array of int of shape (n_nodes, 2)
        Zero for a leaf.
    leaf_levels : array of int of shape (n_leaves,)

    Returns
    -------
    node_of : array of int of shape (n_samples,)
    """
    node_of = np.zeros(X.shape[0], dtype=np.intp)
    for rows in row_blocks(X.shape[0]):
        block = X[rows] if columns is None else X[rows][:, columns]
        block = block.toarray() if sparse.issparse(block) else block
        node = node_of[rows]
        for level in range(leaf_levels.max()):
            if level < leaf_levels.min():
                here, part = slice(None), block
            else:  # some rows have arrived
                here = np.flatnonzero(child[node, 0])
                part = block[here]
            at = node[here]
            logit = np.einsum("np,np->n", plane[at, 1:], part) + plane[at, 0]
            node[here] = child[at, (logit > 0.0).astype(np.intp)]
    return node_of


def descend_gathered(X, columns, plane, child, leaf_levels):
    """Return the same for rows of another library than NumPy."""
    # A leaf leads back to itself.
    every = np.arange(child.shape[0])[:, None]
    child = like(X, np.where(child > 0, child, every).astype(np.int64).ravel())
    plane, xp = like(X, plane), namespace(X)
    parts = []
    for rows in blocks_of(X, 4 * plane.shape[1]):
        block = floats(take_columns(X[rows, :], columns))
        node = xp.zeros_like(block[:, 0], dtype=child.dtype)
        for _ in range(leaf_levels.max()):
            at = xp.take(plane, node, axis=0)
            logit = row_dots(at[:, 1:], block) + at[:, 0]
            node = xp.take(child, 2 * node + xp.astype(logit > 0.0, child.dtype))
        parts.append(node)
    return concatenate(parts)
