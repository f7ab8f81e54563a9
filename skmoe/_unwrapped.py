"""What does the work inside of a pipeline, a search or a frozen estimator."""

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

__all__ = ["transformed_by", "unwrapped"]


def unwrapped(estimator):
    """Return the transformers in front of a fitted estimator, and itself.

    Parameters
    ----------
    estimator : fitted estimator
        Alone, at the end of pipelines, or the best one of searches, in any order.

    Returns
    -------
    before : list of transformers
    last : estimator
    """
    before, last = [], estimator
    while True:
        if isinstance(last, FrozenEstimator):
            last = last.estimator
        elif hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        elif isinstance(last, Pipeline) and last.steps:
            *steps, (_, end) = last.steps
            before += [step for _, step in steps if step not in (None, "passthrough")]
            last = end
        else:
            return before, last


def transformed_by(before, X):
    """Return rows as they come out of some transformers."""
    for step in before:
        X = step.transform(X)
    return X
