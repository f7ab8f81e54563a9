"""What estimators of classes, and of numbers, answer: mixins over a raw output."""

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import fit_context
from skmoe.multitask._labels import decode, probabilities, split_raw
from skmoe.multitask._skill import mean_score
from skmoe.multitask._targets import assemble, row_weights
from skmoe.multitask._training import targets_of

__all__ = ["AnswersClasses", "AnswersNumbers", "LearnsClasses"]


class LearnsClasses:
    """Training on further rows with labels that may come up later."""

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
            Labels that may come up later, of the one task, of each, or by name; the
            first call takes all there will be.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            As in ``fit``, or if a label was not known from the first call.
        """
        fitted = getattr(self, "_fitted", None)
        if fitted is not None and classes is not None:
            _check_known(classes, fitted)
        return self._guarded(lambda: self._partial_fit(X, y, sample_weight, classes))


def _check_known(classes, fitted):
    """Raise a ValueError if classes hold labels that the first call did not."""
    names = [task.name for task in fitted.tasks]
    if not isinstance(classes, dict):
        classes = dict(
            zip(names, [classes] if fitted.single else classes, strict=False)
        )
    for task in fitted.tasks:
        if task.classes is None or task.name not in classes:
            continue
        known = task.classes.tolist()
        new = [c for c in np.asarray(classes[task.name]).tolist() if c not in known]
        if new:
            raise ValueError(
                f"classes of task {task.name!r} holds {new}, which the first call of "
                f"fit or partial_fit did not have: its classes are {known}. Give all "
                "classes in the first call, or fit anew."
            )


class _Answers:
    """What predictions and scores of both kinds have in common."""

    def _decoded(self, X):
        """Return predictions of all tasks in the form of y."""
        raw = self._raw(X)
        fitted = self._fitted
        names = [task.name for task in fitted.tasks]
        return assemble(decode(fitted.tasks, raw), names, single=fitted.single)

    def _mean_score(self, X, y, sample_weight, score):
        """Return the mean over the tasks of a score of their labelled rows."""
        check_is_fitted(self, "_fitted")
        raw = self._raw(X)
        tasks = self._fitted.tasks
        targets = targets_of(self, raw, y, tasks)
        weight = row_weights(targets, sample_weight)
        parts = zip(decode(tasks, raw), targets.values, weight.T, strict=True)
        each = [
            score(wanted[w > 0], got[w > 0], sample_weight=w[w > 0])
            for got, wanted, w in parts
            if w.any()
        ]
        return mean_score(each)


class AnswersClasses(ClassifierMixin, _Answers, LearnsClasses):
    """Predictions of tasks with classes."""

    def _kinds(self):
        return "classification"

    def _attributes(self, fitted, epochs):
        classes = [task.classes for task in fitted.tasks]
        return super()._attributes(fitted, epochs) | {
            "classes_": classes[0] if fitted.single else classes
        }

    def predict(self, X):
        """Return the most probable label of each task.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_tasks)
            Of objects, where the labels of tasks differ in type.
        """
        return self._decoded(X)

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes), or list of them
            A list for several tasks, as scikit-learn's scorers take it.
        """
        raw = self._raw(X)
        fitted = self._fitted
        parts = split_raw(fitted.tasks, raw)
        proba = list(map(probabilities, fitted.tasks, parts))
        return proba[0] if fitted.single else proba

    def score(self, X, y, sample_weight=None):
        """Return the accuracy, averaged over the tasks; labels may be missing.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        score : float
        """
        return self._mean_score(X, y, sample_weight, _share_right)

    def __sklearn_tags__(self):
        """Return the tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class AnswersNumbers(RegressorMixin, _Answers):
    """Predictions of tasks with numbers."""

    def _kinds(self):
        return "regression"

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch on further rows, such as those of a new day.

        Categories that are new get vectors of their own, and those that do not occur
        keep theirs: ``embedding_penalty`` is of the first rows alone. Bins and scales
        of numbers stay theirs.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            As in ``fit``.
        """
        return self._guarded(lambda: self._partial_fit(X, y, sample_weight))

    def predict(self, X):
        """Return the mean of each task.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_tasks)
            In the units of the tasks.
        """
        return self._decoded(X)

    def score(self, X, y, sample_weight=None):
        """Return R squared, averaged over the tasks; labels may be missing.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        score : float
        """
        return self._mean_score(X, y, sample_weight, r2_score)


def _share_right(wanted, got, sample_weight):
    """Return the accuracy, of labels of any type."""
    return np.average(got == wanted, weights=sample_weight)
