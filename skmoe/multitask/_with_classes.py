"""What estimators of tasks with classes have besides."""

from typing import ClassVar

from skmoe._sklearn import StrOptions, fit_context
from skmoe.multitask._estimator import FROM_ZERO, BaseMultiTask

__all__ = ["WithClasses"]


class WithClasses(BaseMultiTask):
    """A multi-task estimator with weights of classes and chains of tasks."""

    _parameter_constraints: ClassVar = BaseMultiTask._parameter_constraints | {
        "chain": [None, str, list, tuple],
        "chain_penalty": [FROM_ZERO],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, *, classes=None):
        """Train for one epoch on further rows, such as those of a new day.

        Categories that are new get vectors of their own, and those that do not occur
        keep theirs: ``embedding_penalty`` is of the first rows alone. Bins and scales
        of numbers stay theirs.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``
        classes : array-like, list or dict of array-like, default=None
            Labels that may come up later, of the one task, of each, or by name; for
            the first call alone.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            As in ``fit``, or if a label was not known from the first call.
        """
        return self._guarded(lambda: self._partial_fit(X, y, sample_weight, classes))
