"""Sums over all paths of a hidden Markov chain, without a loop over its rows.

All sequences of a table are one chain: at the first row of each, the state is drawn
anew, whatever it was. Row t then stands for a matrix

    M_t(i, j) = a_ij(t) p_j(y_t),

and filtering and smoothing are the products of these from the left and from the right.
The chain is cut into blocks of equal length that are walked side by side, one array
operation a step for all of them: once from every state that a block could begin in,
which gives the product of its matrices; then, for the chain of the blocks, the same
again, one level higher; and last from the states that each block does begin in. That is
the scan of Blelloch, G. E. (1990), *Prefix sums and their applications*, here with
matrices as in Sarkka, S. and Garcia-Fernandez, A. F. (2021), *Temporal parallelization
of Bayesian smoothers*, IEEE Trans. Automat. Contr. 66.

An `Algebra` says what sum and product are: `SCALED` works with probabilities that are
normalised in each row, `LOGS` with their logarithms, `BEST` with maxima (Viterbi).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BEST", "LOGS", "SCALED", "Algebra", "Sweep", "log_sum", "sweep"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

# Chains up to this length are walked row by row.
SHORT = 24


class Algebra(NamedTuple):
    """What adds up paths, and what follows a path.

    States are the axis before the last of a vector, blocks the last one.

    Attributes
    ----------
    zero, one : float
        No path, and what leaves a path as it is.
    forward : callable
        ``forward(f, a)`` is f of shape (..., K, B) times a of shape (K, K, B or 1).
    backward : callable
        ``backward(a, g)`` is a times g.
    times : callable
        The product of two numbers.
    normalised : callable
        ``normalised(f)`` returns f over its sum, and the sum.
    """

    zero: float
    one: float
    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array], Array]
    times: Callable[..., Array]
    normalised: Callable[[Array], tuple[Array, Array]]


def _scaled_forward(f: Array, a: Array) -> Array:
    if a.shape[-1] == 1:
        return np.asarray(np.matmul(a[..., 0].T, f))
    return np.asarray(np.einsum("...ib,ijb->...jb", f, a))


def _scaled_backward(a: Array, g: Array) -> Array:
    if a.shape[-1] == 1:
        return np.asarray(np.matmul(a[..., 0], g))
    return np.asarray(np.einsum("ijb,jb->ib", a, g))


def _over_sum(f: Array) -> tuple[Array, Array]:
    total = f.sum(axis=-2)
    f /= total[..., None, :]
    return f, total


def log_sum(terms: Array, axis: int) -> Array:
    """Return the logarithm of a sum of exponentials; -inf where all terms are."""
    peak = terms.max(axis=axis, keepdims=True)
    peak[~np.isfinite(peak)] = 0.0
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(terms - peak).sum(axis=axis))
    return np.asarray(total + peak.squeeze(axis))


def _log_forward(add: Any) -> Callable[[Array, Array], Array]:
    return lambda f, a: add(f[..., :, None, :] + a, axis=-3)


def _log_backward(add: Any) -> Callable[[Array, Array], Array]:
    return lambda a, g: add(a + g, axis=-2)


def _less_sum(f: Array) -> tuple[Array, Array]:
    total = log_sum(f, axis=-2)
    # A path that is not possible at all stays so.
    return f - np.where(np.isfinite(total), total, 0.0)[..., None, :], total


def _less_best(f: Array) -> tuple[Array, Array]:
    best = f.max(axis=-2)
    return f - np.where(np.isfinite(best), best, 0.0)[..., None, :], best


SCALED = Algebra(0.0, 1.0, _scaled_forward, _scaled_backward, np.multiply, _over_sum)
LOGS = Algebra(
    -np.inf, 0.0, _log_forward(log_sum), _log_backward(log_sum), np.add, _less_sum
)
BEST = Algebra(
    -np.inf, 0.0, _log_forward(np.max), _log_backward(np.max), np.add, _less_best
)


class Sweep(NamedTuple):
    """Vectors at each row of a chain.

    Attributes
    ----------
    forward : array of shape (n_states, n_rows)
        Paths that end here, normalised: the filtered law of the state.
    total : array of shape (n_rows,)
        What it was normalised by.
    backward : array of shape (n_states, n_rows)
        Paths that go on from here, normalised.
    """

    forward: Array
    total: Array
    backward: Array


def sweep(
    algebra: Algebra,
    initial: Array,
    transition: Array,
    density: Array | None,
    starts: Ints,
) -> Sweep:
    """Add up the paths to each row and from each row.

    Parameters
    ----------
    algebra : Algebra
        Of which all numbers are.
    initial : array of shape (n_states, n_sequences)
        The law of the state at the first row of each sequence.
    transition : array of shape (n_states, n_states, n_rows or 1)
        From the state of the row before to that of a row; not read where a sequence
        starts.
    density : array of shape (n_states, n_rows), or None
        Of each row's response; None where the transitions have it already.
    starts : array of int of shape (n_sequences,)
        First rows of the sequences; the first of them is 0.
    """
    n_states = initial.shape[0]
    n_rows = transition.shape[-1] if density is None else density.shape[1]
    length = n_rows if n_rows <= SHORT else max(4, int(0.35 * n_rows**0.5))
    walk = _Walk(algebra, initial, transition, density, starts, n_rows, length)
    if walk.n_blocks == 1:
        first = np.full((n_states, 1), algebra.one)
        return walk.rows(first, first)
    product, scale = walk.products()
    if algebra is SCALED:
        matrix = np.exp(scale - scale.max(axis=0))[:, None, :] * product
    else:
        matrix = scale[:, None, :] + product
    # The first block begins with a sequence: it forgets where it came from.
    outer = sweep(algebra, matrix[0, :, :1], matrix, None, np.zeros(1, dtype=np.intp))
    before = np.roll(outer.forward, 1, axis=1)
    return walk.rows(before, outer.backward)


class _Walk:
    """A chain cut into blocks, to be walked side by side.

    Its arrays have the step within a block first and the blocks last. Behind the last
    row nothing is seen any more, and nothing changes.
    """

    def __init__(
        self,
        algebra: Algebra,
        initial: Array,
        transition: Array,
        density: Array | None,
        starts: Ints,
        n_rows: int,
        length: int,
    ) -> None:
        self.algebra, self.n_rows, self.length = algebra, n_rows, length
        self.n_blocks = -(-n_rows // length)
        self.n_states = initial.shape[0]
        self.constant = transition.shape[-1] == 1 and n_rows > 1
        self.transition = transition[None] if self.constant else self._steps(transition)
        self.density = None if density is None else self._steps(density)
        order = np.argsort(starts % length, kind="stable")
        cuts = np.searchsorted((starts % length)[order], np.arange(length + 1))
        block = starts[order] // length
        initial = initial[:, order]
        self.drawn = [
            (block[low:high], initial[:, low:high]) if high > low else None
            for low, high in pairwise(cuts)
        ]

    def _steps(self, rows: Array) -> Array:
        """Return an array (..., n_rows) as (length, ..., n_blocks)."""
        missing = self.n_blocks * self.length - self.n_rows
        if missing:
            tail = np.full((*rows.shape[:-1], missing), self.algebra.one)
            if rows.ndim == 3:
                tail[~np.eye(self.n_states, dtype=bool)] = self.algebra.zero
            rows = np.concatenate([rows, tail], axis=-1)
        shaped = rows.reshape(*rows.shape[:-1], self.n_blocks, self.length)
        return np.ascontiguousarray(np.moveaxis(shaped, -1, 0))

    def _rows(self, steps: Array) -> Array:
        """Return an array (length, ..., n_blocks) as (..., n_rows)."""
        rows = np.moveaxis(steps, 0, -1)
        return rows.reshape(*rows.shape[:-2], -1)[..., : self.n_rows]

    def _transition(self, step: int) -> Array:
        found: Array = self.transition[0 if self.constant else step]
        return found

    def _forward(self, f: Array, step: int) -> tuple[Array, Array]:
        """Return normalised vectors one step on, and their sums."""
        f = self.algebra.forward(f, self._transition(step))
        if (drawn := self.drawn[step]) is not None:
            f[..., drawn[0]] = drawn[1]
        if self.density is not None:
            f = self.algebra.times(f, self.density[step])
        return self.algebra.normalised(f)

    def products(self) -> tuple[Array, Array]:
        """Return the product of each block's matrices, rows normalised.

        Returns
        -------
        product : array of shape (n_states, n_states, n_blocks)
        scale : array of shape (n_states, n_blocks)
            Logarithms of what its rows were divided by.
        """
        f = np.full((self.n_states, self.n_states, self.n_blocks), self.algebra.zero)
        f[np.eye(self.n_states, dtype=bool)] = self.algebra.one
        totals = np.empty((self.length, self.n_states, self.n_blocks))
        for step in range(self.length):
            f, totals[step] = self._forward(f, step)
        logs = np.log(totals) if self.algebra is SCALED else totals
        return f, logs.sum(axis=0)

    def rows(self, before: Array, after: Array) -> Sweep:
        """Return the vectors of all rows, from those between the blocks.

        Parameters
        ----------
        before, after : arrays of shape (n_states, n_blocks)
            Forward vectors before the first row of each block, backward vectors at
            its last row.
        """
        shape = (self.length, self.n_states, self.n_blocks)
        forward, backward = np.empty(shape), np.empty(shape)
        total = np.empty((self.length, self.n_blocks))
        f, g = before, after
        for step in range(self.length):
            f, total[step] = self._forward(f, step)
            forward[step] = f
        for step in range(self.length - 1, -1, -1):
            backward[step] = g
            if step:
                g = self._backward(g, step)
        return Sweep(self._rows(forward), self._rows(total), self._rows(backward))

    def _backward(self, g: Array, step: int) -> Array:
        """Return normalised vectors one step back."""
        if self.density is not None:
            g = self.algebra.times(g, self.density[step])
        g = self.algebra.backward(self._transition(step), g)
        if (drawn := self.drawn[step]) is not None:
            g[..., drawn[0]] = self.algebra.one
        return self.algebra.normalised(g)[0]
