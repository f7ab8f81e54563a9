"""Columns put through a transformer before an expert or a gate sees them.

What `ExpandedExpert` and `ExpandedGate` share: a transformer is fitted once, with
row weights wherever a part of it takes them, and its output is checked.
"""

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_array, has_fit_parameter

__all__ = [
    "check_transformer",
    "fitted_transformer",
    "is_prefit",
    "set_seeds",
    "split_last",
    "takes_gaps",
    "transformed",
]


def takes_gaps(transformer, last_takes):
    """Return whether each step takes NaN, up to one that fills the gaps.

    Parameters
    ----------
    transformer : estimator
    last_takes : bool
        Whether what comes after the transformer takes NaN.
    """
    composed = isinstance(transformer, Pipeline)
    steps = [s for _, s in transformer.steps] if composed else [transformer]
    for step in steps:
        if step in (None, "passthrough"):
            continue
        if not get_tags(step).input_tags.allow_nan:
            return False
        if isinstance(step, SimpleImputer | KNNImputer):
            return True
    return bool(last_takes)


def check_transformer(given, owner):
    """Raise a TypeError unless this is an instance that can transform.

    Parameters
    ----------
    given : object
    owner : str
        Whose transformer it is, for the message.
    """
    methods = ("get_params", "fit", "transform")
    if isinstance(given, type) or not all(hasattr(given, m) for m in methods):
        raise TypeError(
            f"{owner}: transformer must be an instance with fit and "
            f"transform, such as SplineTransformer(), got {given!r}."
        )


def split_last(pipeline):
    """Return the transformer in front of a pipeline's last step, and that step.

    Returns
    -------
    front : transformer or None
        A single step by itself, several as a Pipeline, None where there is none.
    last : estimator
    """
    *front, (_, last) = pipeline.steps
    if not front:
        return None, last
    alone = len(front) == 1 and hasattr(front[0][1], "transform")
    return (front[0][1] if alone else pipeline[:-1]), last


def fitted_transformer(transformer, X, y, weight):
    """Return a clone, fitted with row weights where some part takes them.

    Its seeds are fixed: clones in a mixture must expand alike, whichever of them
    is prepared.

    Parameters
    ----------
    transformer : transformer
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,), or None
    weight : array of shape (n_samples,)
    """
    transformer = clone(transformer)
    set_seeds(transformer, np.random.RandomState(0))
    if not _fitted_with_weights(transformer, X, y, weight):
        transformer.fit(X, y)
    return transformer


def transformed(transformer, X, owner, *, allow_nan=False):
    """Return what a fitted transformer makes of X.

    Parameters
    ----------
    transformer : fitted transformer
    X : array, sparse array or data frame of shape (n_samples, n_features)
    owner : str
        Whose transformer it is, for the messages.
    allow_nan : bool, default=False

    Returns
    -------
    expanded : float64 array or CSR array of shape (n_samples, n_columns)

    Raises
    ------
    ValueError
        If rows are lost, or values are infinite or (unless allowed) NaN.
    """
    name = type(transformer).__name__
    out = check_array(
        transformer.transform(X),
        accept_sparse="csr",
        dtype=np.float64,
        ensure_all_finite=False,
    )
    if out.shape[0] != X.shape[0]:
        raise ValueError(
            f"{owner}: {name} returned {out.shape[0]} rows for "
            f"{X.shape[0]}; use a transformer that keeps every row."
        )
    values = out.data if sparse.issparse(out) else out
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{owner}: {name} returned {int(bad.sum())} values that are "
            f"{'' if allow_nan else 'NaN or '}infinite; impute or clip them, or use "
            "another transformer."
        )
    return sparse.csr_array(out) if sparse.issparse(out) else out


def is_prefit(estimator):
    """Return whether no part of an estimator would ever be refitted."""
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps]
        return all(s in (None, "passthrough") or is_prefit(s) for s in steps)
    return isinstance(estimator, FrozenEstimator)


def set_seeds(estimator, rng):
    """Give every nested ``random_state`` that is None a seed, in place.

    So each M-step is the same function of the weights.

    Parameters
    ----------
    estimator : estimator
    rng : numpy.random.RandomState
    """
    params = estimator.get_params(deep=True)
    frozen = [f"{k}__" for k, v in params.items() if isinstance(v, FrozenEstimator)]
    seeds = {
        key: int(rng.randint(np.iinfo(np.int32).max))
        for key in sorted(params)
        if params[key] is None
        and (key == "random_state" or key.endswith("__random_state"))
        and not key.startswith(tuple(frozen))
    }
    if seeds and not is_prefit(estimator):
        estimator.set_params(**seeds)


def _fitted_with_weights(transformer, X, y, weight):
    """Fit a transformer with row weights; return False where no part takes them."""
    try:
        with config_context(enable_metadata_routing=True):
            _request_weights(transformer)
            routing = get_routing_for_object(transformer)
            takes = bool(routing.consumes("fit", ["sample_weight"]))
            if takes:
                transformer.fit(X, y, sample_weight=weight)
            return takes
    except (NotImplementedError, UnsetMetadataPassedError):
        # A part that cannot route at all, or that would pass the weights on to a
        # scorer that was not told what to do with them.
        return False


def _request_weights(transformer):
    """Request row weights wherever a part takes them; an explicit refusal stands."""
    params = transformer.get_params(deep=True)
    frozen = [f"{k}__" for k, v in params.items() if isinstance(v, FrozenEstimator)]
    for key, part in {"": transformer, **params}.items():
        if key.startswith(tuple(frozen)) or isinstance(part, type | FrozenEstimator):
            continue
        takes = has_fit_parameter(part, "sample_weight")
        if takes and hasattr(part, "set_fit_request"):
            request = getattr(part.get_metadata_routing(), "fit", None)
            if getattr(request, "requests", {}).get("sample_weight") is not False:
                part.set_fit_request(sample_weight=True)
