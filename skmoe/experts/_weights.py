"""How an estimator is fitted to weighted rows.

Most estimators take ``sample_weight``; composites hand it on under other names; a
Gaussian process takes the weight as noise; the rest see a weighted draw of rows.
"""

from dataclasses import dataclass
from inspect import Parameter, signature

import numpy as np
from sklearn import config_context, get_config
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter
from sklearn.utils.validation import has_fit_parameter

from skmoe._expansion import is_prefit, set_seeds
from skmoe.experts._rows import systematic_rows, take_rows

__all__ = [
    "WeightPlan",
    "choose_rows",
    "fit_rows",
    "gp_noise_is_own",
    "innermost",
    "is_prefit",
    "plan_weights",
    "set_seeds",
]

# Lighter rows, relative to the heaviest, cost time and change nothing; libsvm
# also stumbles over weights that vanish.
ROW_FLOOR = 1e-8
FEW_ROWS = 5
# A resampled fit sees at least so many rows (with repetitions), so that five
# neighbours or ten-row leaves exist for an expert that is dying.
MIN_DRAWN = 30
GP_DEFAULT_ALPHA = 1e-10

# These hand a keyword ``sample_weight`` of fit on to each inner estimator.
FORWARDERS = (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
# Bagging draws its bags with the weights where the inner estimator takes none.
SELF_RELIANT = (BaggingClassifier, BaggingRegressor)


@dataclass(frozen=True)
class WeightPlan:
    """How the weights reach an estimator.

    Attributes
    ----------
    kind : {"soft", "routed", "alpha", "rows", "prefit"}
        As keywords of ``fit``; by metadata routing; as ``noise / weight`` of a
        Gaussian process; as a weighted draw of rows; or not at all, since the
        estimator is frozen.
    names : tuple of str
        Keywords of ``fit`` for "soft", the parameter for "alpha".
    """

    kind: str
    names: tuple = ()


def plan_weights(estimator, weights="auto"):
    """Decide how an estimator is to get its weights.

    Parameters
    ----------
    estimator : estimator
    weights : {"auto", "hard", "resample"}
        "resample" asks for a draw of rows even where weights are possible.

    Returns
    -------
    plan : WeightPlan
    """
    if is_prefit(estimator):
        return WeightPlan("prefit")
    if weights == "resample":
        return WeightPlan("rows")
    gp_path = _gp_path(estimator)
    if gp_path is not None:
        return WeightPlan("alpha", (f"{gp_path}alpha",))
    names = _weight_names(estimator)
    if names:
        routable = get_config()["enable_metadata_routing"]
    else:
        routable = _can_be_routed(estimator)
    # Asked last: listing the routes of a pipeline takes longer than a small fit.
    if routable and _is_router(estimator):
        return WeightPlan("routed")
    return WeightPlan("soft", names) if names else WeightPlan("rows")


def innermost(model):
    """Return the predictor at the heart of a fitted composite.

    Parameters
    ----------
    model : fitted estimator

    Returns
    -------
    part : fitted estimator
        Behind pipelines, parameter searches, target transformers and frozen
        wrappers.
    """
    while True:
        if isinstance(model, Pipeline):
            model = model.steps[-1][1]
        elif isinstance(model, FrozenEstimator):
            model = model.estimator
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "regressor_"):
            model = model.regressor_
        else:
            return model


def _gp_path(estimator):
    """Return the parameter prefix of a Gaussian process at the end, or None."""
    if isinstance(estimator, GaussianProcessRegressor):
        return ""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = _gp_path(last)
        return None if inner is None else f"{name}__{inner}"
    return None


def _weight_names(estimator):
    """Return the keywords of fit that carry row weights, or () if none do."""
    if isinstance(estimator, FrozenEstimator):
        return ("sample_weight",)
    if isinstance(estimator, Pipeline):
        return _pipeline_names(estimator)
    if isinstance(estimator, TransformedTargetRegressor):
        inner = estimator.regressor
        return ("sample_weight",) if inner is None else _weight_names(inner)
    if hasattr(estimator, "refit") and hasattr(estimator, "estimator"):
        return _weight_names(estimator.estimator)  # a parameter search
    if not (
        isinstance(estimator, FORWARDERS)
        or has_fit_parameter(estimator, "sample_weight")
    ):
        return ()
    capable = isinstance(estimator, SELF_RELIANT) or all(
        _weight_names(child) == ("sample_weight",) for child in _children(estimator)
    )
    return ("sample_weight",) if capable else ()


def _pipeline_names(pipeline):
    """Name the weights of the last step and of each transformer that takes them.

    A scaler must see the weights too: otherwise a row of weight two would not
    be worth two rows.
    """
    *before, (last_name, last) = pipeline.steps
    last_names = () if last in (None, "passthrough") else _weight_names(last)
    if not last_names:
        return ()
    names = [
        f"{name}__sample_weight"
        for name, step in before
        if step not in (None, "passthrough")
        and has_fit_parameter(step, "sample_weight")
        and _accepts(getattr(step, "fit_transform", step.fit), "sample_weight")
    ]
    return (*names, *(f"{last_name}__{name}" for name in last_names))


def _accepts(method, name):
    parameters = signature(method).parameters
    return name in parameters or _forwards(method)


def _forwards(method):
    kinds = {p.kind for p in signature(method).parameters.values()}
    return Parameter.VAR_KEYWORD in kinds


def _children(estimator):
    """List the predictors that an estimator takes as constructor arguments."""
    found = []
    for value in estimator.get_params(deep=False).values():
        members = value if isinstance(value, list) else [value]
        for member in members:
            named = isinstance(member, tuple) and len(member) > 1
            child = member[1] if named else member
            if hasattr(child, "fit") and hasattr(child, "predict"):
                found.append(child)
    return [child for child in found if not isinstance(child, type)]


def _is_router(estimator):
    try:
        return isinstance(estimator.get_metadata_routing(), MetadataRouter)
    except (AttributeError, NotImplementedError):
        return False


def _can_be_routed(estimator):
    children = _children(estimator)
    return (
        not isinstance(estimator, Pipeline)
        and _forwards(estimator.fit)
        and bool(children)
        and all(plan_weights(c).kind in ("soft", "routed") for c in children)
    )


def _request_weights(estimator):
    """Ask for sample_weight at every nested fit and score that can take it.

    An explicit refusal (``set_fit_request(sample_weight=False)``) stands.
    """
    parts = [estimator, *estimator.get_params(deep=True).values()]
    for part in parts:
        for method in ("fit", "score"):
            request = getattr(part, f"set_{method}_request", None)
            if request is None or isinstance(part, type):
                continue
            if "sample_weight" not in signature(getattr(part, method)).parameters:
                continue
            if _current_request(part, method) is not False:
                request(sample_weight=True)


def _current_request(part, method):
    routing = part.get_metadata_routing()
    requests = getattr(getattr(routing, method, None), "requests", {})
    return requests.get("sample_weight")


def choose_rows(weight, plan, offset=0.5):
    """Choose the rows an inner fit sees, and the weights that go with them.

    Parameters
    ----------
    weight : array of shape (n_samples,)
        With a positive sum.
    plan : WeightPlan
    offset : float in (0, 1)

    Returns
    -------
    rows : int array
        All but the rows of negligible weight; for the plan "rows" a draw as
        large as the effective sample size ``sum(w)^2 / sum(w^2)``.
    weight : C-contiguous array or None
        Never rescaled: ridge and SVM penalties are in absolute units.
    """
    keep = weight > ROW_FLOOR * weight.max()
    if keep.sum() < FEW_ROWS:
        heaviest = np.argsort(-weight, kind="stable")[:FEW_ROWS]
        keep = np.zeros(weight.shape[0], dtype=bool)
        keep[heaviest] = weight[heaviest] > 0
    rows = np.flatnonzero(keep)
    kept = np.ascontiguousarray(weight[rows])
    if plan.kind != "rows":
        return rows, kept
    if kept.max() - kept.min() <= ROW_FLOOR * kept.max():
        return rows, None
    scaled = kept / kept.max()
    effective = scaled.sum() ** 2 / (scaled**2).sum()
    n_drawn = max(round(effective), min(MIN_DRAWN, weight.shape[0]))
    return rows[systematic_rows(kept, n_drawn, offset)], None


def fit_rows(estimator, plan, X, y, rows, weight, *, params=None, noise=None):
    """Fit an estimator, in place, to chosen rows with their weights.

    Parameters
    ----------
    estimator : estimator
        Not cloned here, so that a warm start is possible.
    plan : WeightPlan
    X, y : arrays of all rows
    rows, weight :
        As `choose_rows` returns them.
    params : dict, default=None
        More keywords of ``fit``; arrays with one entry a row are cut to ``rows``.
    noise : float or array of shape (n_outputs,), default=None
        Noise variance for the plan "alpha", in the unit of y squared.

    Returns
    -------
    estimator : the same object, fitted
    """
    n_samples = y.shape[0]
    keywords = {
        key: take_rows(value, rows) if _one_a_row(value, n_samples) else value
        for key, value in (params or {}).items()
    }
    if rows.shape[0] != n_samples or rows[0] != 0 or np.any(np.diff(rows) != 1):
        X, y = take_rows(X, rows), y[rows]
    if plan.kind == "alpha":
        alpha = _gp_alpha(estimator, plan, y, weight, rows, noise)
        estimator.set_params(**{plan.names[0]: alpha})
    elif plan.kind == "soft":
        keywords.update(dict.fromkeys(plan.names, weight))
    elif plan.kind == "routed":
        with config_context(enable_metadata_routing=True):
            _request_weights(estimator)
            return estimator.fit(X, y, sample_weight=weight, **keywords)
    return estimator.fit(X, y, **keywords)


def _one_a_row(value, n_samples):
    if isinstance(value, str | bytes | dict):
        return False
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) > 0 and shape[0] == n_samples
    return isinstance(value, list | tuple) and len(value) == n_samples


def gp_noise_is_own(estimator, plan):
    """Return whether a Gaussian process takes its noise from the expert.

    It does unless the user has set its ``alpha``.
    """
    if plan.kind != "alpha":
        return False
    alpha = estimator.get_params()[plan.names[0]]
    return np.ndim(alpha) == 0 and alpha == GP_DEFAULT_ALPHA


def _gp_alpha(estimator, plan, y, weight, rows, noise):
    """Return noise / weight: w copies of a row with noise s2 are one with s2 / w."""
    base = estimator.get_params()[plan.names[0]]
    if np.ndim(base):
        return np.asarray(base)[rows] / weight
    if not gp_noise_is_own(estimator, plan):
        return base / weight
    if estimator.get_params().get(plan.names[0][: -len("alpha")] + "normalize_y"):
        # The process divides y by its deviation and leaves alpha as it is.
        variance = np.var(y, axis=0)
        noise = noise / np.where(variance > 0, variance, 1.0)
    return np.mean(noise) / weight
