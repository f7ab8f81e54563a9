"""From a coded table to the engine's matrix, and which columns each part sees of it.

A part reads a column of the user's table in one of five ways:

========  =====================================================================
"filled"  gaps (NaN) take the column's weighted mean, and a column that had gaps
          in fit brings an indicator of them; a categorical column becomes one
          indicator for each category, gaps being a category of their own where
          fit saw them. For linear predictors, and for estimators without NaN
"means"   as "filled", but numbers bring no indicators: for gates, which would draw
          borders along gaps that mean nothing
"gaps"    as "filled", but numbers keep their NaN: for gates that integrate
          over what is missing
"codes"   numbers with NaN and categories as codes: for estimators that take both
"steps"   as "gaps", also where fit saw nothing but NaN: for padded sequences
========  =====================================================================

A category that fit did not see is treated as a gap; where fit saw no gaps, the
indicators take their means, so that the row gets the mean of the categories' effects.

The *known* quantities of a row (offset, exposure, trials) are columns too. They
come last in what an expert sees, and enter no linear predictor.
"""

import numpy as np
from scipy import sparse

from skmoe._blocks import weighted_means
from skmoe._xp import concatenate, is_foreign, namespace

__all__ = ["ColumnPlan", "check_seen"]


def check_seen(X, names):
    """Raise a ValueError that names a column which is missing in every row.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), dense or CSR
        The training rows; NaN for gaps.
    names : array of str or None
    """
    if sparse.issparse(X):
        return
    for j in np.flatnonzero(np.isnan(X).all(axis=0)):
        name = f"x{j}" if names is None else str(names[j])
        raise ValueError(
            f"column {name!r} of X is missing in every row (of positive weight): "
            "nothing can be learned from it. Drop it."
        )


class ColumnPlan:
    """What the columns of the engine's matrix are made of.

    Parts ask for columns while they are made; after `close` the matrix is laid out
    and the same questions get the same answers.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), dense or CSR
        The training rows; NaN for gaps, codes for categories.
    weight : array of shape (n_samples,)
    categories : dict of int to list of str
        Names of the categories of each categorical column.
    names : array of str or None
        Of the user's columns.
    offered : sequence of str
        Known quantities that come as arrays beside X.
    """

    def __init__(self, X, weight, categories, names, offered=()):
        self.n_features = X.shape[1]
        self.categories = categories
        self.names = names
        self.offered = tuple(offered)
        self.sparse = sparse.issparse(X)
        gaps = np.zeros(self.n_features, dtype=bool)
        self.fill = np.zeros(self.n_features)
        if not self.sparse:
            gaps = np.isnan(X).any(axis=0)
        # Missing in every row, as it may happen in a bag of rows: a constant then.
        self.empty = gaps & np.isnan(X).all(axis=0) if gaps.any() else gaps
        for j in np.flatnonzero(gaps & ~self.empty):
            seen = ~np.isnan(X[:, j])
            self.fill[j] = weight[seen] @ X[seen, j] / weight[seen].sum()
        # How much of the weight each category has.
        self.share = {
            j: [
                float(weight @ (X[:, j] == c)) / weight.sum()
                for c in range(len(names_))
            ]
            for j, names_ in categories.items()
        }
        self.has_gaps = gaps
        self.complete = not gaps.any() and not categories
        self._training_moments = X, weight
        self.columns, self.known = [], []
        self.center = None  # mean row of the training rows' matrix
        self._place = {}
        self.closed = False

    @classmethod
    def of_foreign(cls, X, weight):
        """Return the plan of a complete matrix of another library than NumPy."""
        plan = cls(np.zeros((1, X.shape[1])), np.ones(1), {}, None)
        plan._training_moments = weighted_means(X, weight)[None], np.ones(1)
        return plan

    def name_of(self, j):
        """Return the name of one of the user's columns."""
        return f"x{j}" if self.names is None else str(self.names[j])

    # -- which columns a part sees -------------------------------------------------

    def seen(self, columns, way, known=()):
        """Return the positions in the engine's matrix of what a part sees.

        Parameters
        ----------
        columns : list of int or None
            The user's columns; None for all.
        way : {"filled", "means", "gaps", "codes", "steps"}
        known : sequence
            Known quantities: ``("value", j)``, ``("log", j)`` of a column j, or
            ``("given", name)`` for an array given beside X. They come last.

        Returns
        -------
        positions : list of int, or None for the whole matrix
        """
        every = range(self.n_features)
        if not self.closed:  # in the order of the user's table
            for atom in self._wanted(every, way):
                self._position(atom)
        wanted = self._wanted(every if columns is None else columns, way)
        positions = [self._position(atom) for atom in (*wanted, *known)]
        self.known += [atom for atom in known if atom not in self.known]
        whole = self.closed and positions == list(range(len(self.columns)))
        return None if whole else positions

    def _wanted(self, columns, way):
        """Return the engine's columns that some columns become, numbers first.

        Where no category stands before a number, its position in what a part sees
        is then that in the user's table: a ColumnTransformer may go by positions.
        """
        atoms = [atom for j in columns for atom in self._atoms(j, way)]
        return sorted(atoms, key=lambda atom: atom[0] in ("missing", "category"))

    def _atoms(self, j, way):
        """Yield the engine's columns that one of the user's columns becomes."""
        # In a complete table estimators share their columns with linear parts.
        if self.sparse or (way == "codes" and self.complete):
            yield ("filled", j)
        elif j in self.categories and way != "codes":
            for code in range(len(self.categories[j])):
                yield ("category", j, code)
            if self.has_gaps[j]:
                yield ("missing", j)
        elif way in ("filled", "means") or (self.empty[j] and way != "steps"):
            yield ("filled", j)
            if self.has_gaps[j] and way != "means":
                yield ("missing", j)
        else:
            yield ("value", j)

    def _position(self, atom):
        if atom not in self._place:
            if self.closed:
                raise RuntimeError(f"column {atom!r} was not asked for before")
            self._place[atom] = len(self.columns)
            self.columns.append(atom)
        return self._place[atom]

    def close(self):
        """Lay out the matrix: no other columns can be asked for from now on."""
        self.closed = True
        X, weight = self._training_moments
        del self._training_moments
        if not self.sparse:
            # For rows to come whose gaps are in columns that were complete in fit.
            complete = np.flatnonzero(~self.has_gaps)
            self.fill[complete] = weight @ X[:, complete] / weight.sum()

    def whole(self, positions):
        """Return None for positions that are the whole matrix, in order."""
        if positions is not None and positions == list(range(len(self.columns))):
            return None
        return positions

    # -- the matrix ----------------------------------------------------------------

    def matrix(self, X, given):
        """Return the engine's matrix of some rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Coded as in fit.
        given : dict of str to array of shape (n_samples,)
            Known quantities given beside X.

        Returns
        -------
        matrix : array of shape (n_samples, n_engine_columns)
            X itself where nothing has to be added.
        """
        same = [("filled", j) for j in range(self.n_features)]
        if self.sparse or (
            self.columns == same and (is_foreign(X) or not np.isnan(X).any())
        ):
            return X
        if self.columns == [("value", j) for j in range(self.n_features)]:
            return X
        if is_foreign(X):
            return self._foreign_matrix(X)
        out = np.empty((X.shape[0], len(self.columns)))
        for k, atom in enumerate(self.columns):
            out[:, k] = self._column(atom, X, given)
        return out

    def _foreign_matrix(self, X):
        """Return the same for a complete matrix of another library."""
        columns = []
        for kind, j in self.columns:
            column = X[:, j : j + 1]
            columns.append(namespace(X).log(column) if kind == "log" else column)
        return concatenate(columns, axis=1)

    def _column(self, atom, X, given):
        kind, which = atom[:2]
        if kind == "given":
            return given[which]
        value = X[:, which]
        if kind == "filled" and self.empty[which]:
            return np.zeros_like(value)
        if kind == "filled":
            return np.where(np.isnan(value), self.fill[which], value)
        if kind == "missing":
            return np.isnan(value)
        if kind == "category":
            if self.has_gaps[which]:
                return value == atom[2]
            share = self.share[which][atom[2]]
            return np.where(np.isnan(value), share, value == atom[2])
        if kind == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(value)  # what is not positive is refused later
        return value

    @property
    def given(self):
        """Names of the known quantities that come as arrays beside X."""
        return [which for kind, which in self.known if kind == "given"]

    @property
    def is_plain(self):
        """Whether the engine's matrix is the user's table."""
        return len(self.columns) == self.n_features and all(
            atom[1] == j and atom[0] in ("filled", "value")
            for j, atom in enumerate(self.columns)
        )

    @property
    def layout(self):
        """The number of columns, or their names where it is not the user's table."""
        return self.n_features if self.is_plain else tuple(self.engine_names())

    def engine_names(self, names=None):
        """Return a name for each column of the engine's matrix.

        Parameters
        ----------
        names : sequence of str of shape (n_features,), default=None
            Of the user's columns; None: as in fit.
        """
        return [self._engine_name(atom, names) for atom in self.columns]

    def _engine_name(self, atom, names):
        kind, which = atom[:2]
        if kind == "given":
            return which
        name = self.name_of(which) if names is None else names[which]
        if kind == "missing":
            return f"{name} is missing"
        if kind == "category":
            return f"{name}={self.categories[which][atom[2]]}"
        return f"log {name}" if kind == "log" else name
