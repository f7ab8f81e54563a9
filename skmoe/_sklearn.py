"""The only door to private names of scikit-learn."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import check_same_namespace
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
)
from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
from sklearn.utils.metadata_routing import _raise_for_params as raise_for_params
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition
from sklearn.utils.parallel import _get_threadpool_controller
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

__all__ = [
    "BaseComposition",
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "VisualBlock",
    "check_feature_names_in",
    "check_same_namespace",
    "check_sample_weight",
    "few_threads",
    "fit_context",
    "one_openmp_thread",
    "raise_for_params",
    "safe_indexing",
]

# From so many rows on estimators may use all threads of OpenMP.
OPENMP_ROWS = 10_000


def check_sample_weight(sample_weight, X):
    """Return validated weights of shape (n_samples,), ones for None.

    Raises
    ------
    ValueError
        If a weight is negative, not finite, or all are zero.
    """
    return _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=True
    )


def check_feature_names_in(estimator, names):
    """Raise a ValueError if names are not those of the columns seen in fit.

    Parameters
    ----------
    estimator : fitted estimator
    names : array-like of str of shape (n_features,), or None
    """
    _check_feature_names_in(estimator, names, generate_names=False)


def few_threads(n_samples: int) -> AbstractContextManager[Any]:
    """Return a context for a fit: one BLAS thread, and one of OpenMP on few rows.

    EM's matrix products are thousands of small ones: a second thread costs more
    in waking up than it saves (measured: 20 times slower on two busy cores). The
    same holds for estimators that are refitted to few rows in each pass
    (histogram boosting of 330 rows: 40 times slower on two busy cores).
    """
    limits = {"blas": 1}
    if n_samples < OPENMP_ROWS:
        limits["openmp"] = 1
    return _get_threadpool_controller().limit(limits=limits)


def one_openmp_thread() -> AbstractContextManager[Any]:
    """Return a context in which OpenMP uses one thread, for clustering few rows."""
    return _get_threadpool_controller().limit(limits=1, user_api="openmp")
