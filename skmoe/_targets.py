"""What a mixture does with its target: numbers, or classes."""

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skmoe._foreign_rows import beside, check_length, codes_of, response_beside
from skmoe._gaps import gaps
from skmoe._xp import is_foreign, like, namespace, to_numpy

__all__ = ["ClassificationTarget", "RegressionTarget"]


class RegressionTarget:
    """Responses that are numbers."""

    def _foreign_target(self, X, y):
        """Return responses beside rows that stay where they are."""
        return response_beside(X, y)

    def _learn_target(self, y, labelled=None):
        """Learn the shape of a response; fill the places of missing ones."""
        self._response_shape = tuple(y.shape[1:])
        if labelled is not None:
            y = y.copy()
            y[~labelled] = y[labelled].mean(axis=0)
        return y

    def _split_labelled(self, y):
        """Return responses as floats, and which rows have one; None if all do."""
        y = self._as_numbers(y)
        missing = np.isnan(y)
        if self.unlabelled is not None:
            missing |= y == self.unlabelled
        missing = missing.reshape(len(y), -1).any(axis=1)
        if not missing.any():
            return self._check_target(y), None
        y = y.copy()
        y[missing] = 0.0
        return self._check_target(y), ~missing

    def _target_kind(self):
        return self._response_shape

    def _check_target(self, y):
        """Return y as finite floats."""
        y = self._as_numbers(y)
        if not np.isfinite(y).all():
            raise ValueError(
                "Input y contains NaN or infinity: first in row "
                f"{int(np.argwhere(~np.isfinite(y))[0][0])}."
            )
        return y

    @staticmethod
    def _as_numbers(y):
        try:
            return np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"y must be numeric for a regressor: {error}") from error

    def _encode_foreign(self, X, y):
        """Return responses beside rows that stay where they are, as in fit."""
        return self._encode_target(self._foreign_target(X, y))

    def _encode_target(self, y):
        """Return responses of the shape that was seen in fit."""
        if tuple(y.shape[1:]) != self._response_shape:
            wanted = ", ".join(["n_samples", *map(str, self._response_shape)])
            raise ValueError(
                f"y must be of shape ({wanted}) as in fit, got {tuple(y.shape)}."
            )
        return y


class ClassificationTarget:
    """Responses that are classes, worked on as codes."""

    def _check_target(self, y):
        """Return y as one column of labels."""
        y = column_or_1d(y, warn=True)
        missing = gaps(y)
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            raise ValueError(f"Input y contains NaN: first in row {row}.")
        check_classification_targets(y)
        return y

    def _split_labelled(self, y):
        """Return labels, and which rows have one; None if all do."""
        y = column_or_1d(y, warn=True)
        missing = gaps(y)
        if self.unlabelled is not None:
            missing |= y == self.unlabelled
        if not missing.any():
            return self._check_target(y), None
        known = y[~missing]
        if known.size == 0:
            return y, ~missing
        if known.dtype.kind == "O" and not isinstance(known[0], str):
            known = np.array(known.tolist())  # numbers beside None
        y = np.full(y.size, known[0], dtype=known.dtype)
        y[~missing] = self._check_target(known)
        return y, ~missing

    def _foreign_target(self, X, y):
        """Return labels beside rows that stay where they are; text stays NumPy's."""
        y = beside(X, y if is_foreign(y) else np.asarray(y), "y")
        check_length(X, y)
        if not is_foreign(y):
            return self._check_target(y)
        if len(y.shape) == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if len(y.shape) != 1:
            raise ValueError(
                "y should be a 1d array, got an array of shape "
                f"{tuple(y.shape)} instead: give one label for each row."
            )
        labels = to_numpy(namespace(y).unique_values(y))
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            raise ValueError("Input y contains NaN.")
        check_classification_targets(labels)
        return y

    def _encode_foreign(self, X, y):
        """Return codes beside rows that stay where they are.

        Raises
        ------
        ValueError
            If a label was not seen in fit.
        """
        y = self._foreign_target(X, y)
        if not is_foreign(y):
            return like(X, self._encode_target(y).astype(np.int64))
        unknown = np.setdiff1d(to_numpy(namespace(y).unique_values(y)), self.classes_)
        if unknown.size:
            raise ValueError(
                f"y holds labels that were not seen in fit: {unknown}; "
                f"known classes are {self.classes_}."
            )
        return codes_of(y, self.classes_)

    def _learn_target(self, y, labelled=None):
        """Learn the classes of the rows of positive weight; return codes."""
        if is_foreign(y):
            self.classes_ = to_numpy(namespace(y).unique_values(y))
            self._check_several()
            return codes_of(y, self.classes_)
        some = y if labelled is None else y[labelled]
        self.classes_, codes = np.unique(some, return_inverse=True)
        if labelled is not None:
            codes, known = np.zeros(y.size, dtype=np.intp), codes
            codes[labelled] = known
        self._check_several()
        return codes

    def _check_several(self):
        if self.classes_.size < 2:
            raise ValueError(
                "y must hold at least two classes, got one class: "
                f"{self.classes_.tolist()[0]!r}."
            )

    def _target_kind(self):
        return tuple(self.classes_.tolist())

    def _encode_target(self, y):
        """Return codes of labels that were seen in fit."""
        codes = np.searchsorted(self.classes_, y).clip(max=self.classes_.size - 1)
        unknown = np.asarray(self.classes_[codes] != y)
        if unknown.any():
            raise ValueError(
                f"y holds labels that were not seen in fit: {np.unique(y[unknown])}; "
                f"known classes are {self.classes_}."
            )
        return codes
