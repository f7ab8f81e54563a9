"""The fitted model that a picture is of."""

from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from skmoe._unwrapped import transformed_by, unwrapped
from skmoe._wording import target_labels
from skmoe._xp import to_numpy

__all__ = ["Subject"]


class Subject:
    """A fitted mixture, alone or at the end of a pipeline, asked in the user's columns.

    Parameters
    ----------
    estimator : mixture, Pipeline that ends in one, or search over one of these
    display : str
        Name of the display, for messages.
    needs : str, default="gate_proba"
        The method without which there is no picture.

    Attributes
    ----------
    mixture : fitted mixture
    before : list of transformers
        The steps of the pipeline in front of it.
    """

    def __init__(self, estimator, display, needs="gate_proba"):
        self.before, self.mixture = unwrapped(estimator)
        if hasattr(self.mixture, needs):
            check_is_fitted(self.mixture)
            return
        hint = ""
        if hasattr(self.mixture, "predict_distribution"):
            hint = " A forest has a gate in each tree: draw one of its estimators_."
        raise TypeError(
            f"{display} draws mixtures of experts, such as MixtureOfExpertsRegressor, "
            f"alone or at the end of a Pipeline, got {estimator!r}.{hint}"
        )

    def rows(self, X):
        """Return rows as the mixture takes them."""
        return transformed_by(self.before, X)

    def gate(self, X, **beside):
        """Return gate probabilities of shape (n_samples, n_experts).

        Only a gate that knows the rows before asks what is said beside them.
        """
        told = beside if self.in_time else {}
        return to_numpy(self.mixture.gate_proba(self.rows(X), **told))

    def law(self, X):
        """Return the predictive law of each row."""
        return self.mixture.predict_distribution(self.rows(X))

    def responsibilities(self, X, y, **beside):
        """Return responsibilities of shape (n_samples, n_experts)."""
        return to_numpy(self.mixture.responsibilities(self.rows(X), y, **beside))

    def class_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        return to_numpy(self.mixture.predict_proba(self.rows(X)))

    @property
    def in_time(self):
        """Whether rows follow each other."""
        return getattr(self.mixture, "_in_time", False)

    @property
    def classifies(self):
        """Whether the responses are classes."""
        return is_classifier(self.mixture)

    @property
    def expert_names(self):
        """Names of the experts."""
        return list(self.mixture.expert_names_)

    def check_numbers(self, display, instead):
        """Check that the responses are numbers.

        Raises
        ------
        TypeError
            If they are classes.
        """
        if self.classifies:
            raise TypeError(
                f"{display} draws the law of a number, and "
                f"{type(self.mixture).__name__} predicts classes: {instead}."
            )

    def check_single_rows(self, display):
        """Check that the law of a row does not depend on the rows before it.

        Raises
        ------
        TypeError
            If it does: made up rows follow no others.
        """
        if self.in_time and self.mixture.order:
            raise TypeError(
                f"{display} draws made up rows, each by itself, and in a "
                f"{type(self.mixture).__name__} rows follow each other: RegimeDisplay "
                "draws it in time."
            )

    def output_name(self, y, target):
        """Return the name of an output: that of a data frame's column, or y, y0, ..."""
        if hasattr(y, "columns"):
            return str(y.columns[target])
        name = getattr(y, "name", None)
        return target_labels(self.mixture)[target] if name is None else str(name)
