"""Scores of predictive laws, and scorers for cross-validation and searches.

The functions take responses and what was predicted for them, a law or arrays. The
scorers take a fitted estimator, X and y, as scikit-learn's do; `get_scorer` makes
them by name, and `get_scorer_names` lists the names.
"""

import inspect

import numpy as np
from sklearn import get_config
from sklearn.metrics import get_scorer as get_point_scorer
from sklearn.metrics import get_scorer_names as get_point_scorer_names
from sklearn.utils.metadata_routing import MetadataRequest

from skmoe._sklearn import check_sample_weight
from skmoe._unwrapped import transformed_by, unwrapped
from skmoe._xp import to_numpy
from skmoe.distribution import MixtureDistribution
from skmoe.law._levels import check_level, check_levels

__all__ = [
    "LawScorer",
    "crps",
    "get_scorer",
    "get_scorer_names",
    "interval_score",
    "log_score",
    "pinball_loss",
]


def log_score(y_true, y_law, *, sample_weight=None):
    """Return the mean log density of the responses, in nats.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Responses; class codes for a classification law.
    y_law : MixtureDistribution, or array-like of shape (n_samples,)
        The predictive law, or the log density of each response.
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    score : float
        Greater is better.
    """
    if not isinstance(y_law, MixtureDistribution):
        return _mean(_like_rows(y_law, y_true, "log densities"), sample_weight)
    return _mean(y_law.log_prob(np.asarray(y_true)), sample_weight)


def crps(y_true, y_law, *, sample_weight=None):
    """Return the mean continuous ranked probability score.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_law : MixtureDistribution, or array-like of shape (n_samples, n_draws)
        The predictive law, or draws from it, which then stand for it.
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    loss : float
        In the unit of y; lower is better.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules,
    prediction, and estimation. J. Am. Stat. Assoc. 102.
    """
    y_true = np.asarray(y_true)
    if isinstance(y_law, MixtureDistribution):
        return _mean(y_law.crps(y_true), sample_weight)
    draws = np.sort(_like_rows(y_law, y_true, "draws", axes=2), axis=1)
    n_draws = draws.shape[1]
    # E|Y - Y'| of sorted draws: each is above so many and below the others.
    rank = 2.0 * np.arange(n_draws) + 1.0 - n_draws
    spread = draws @ rank / n_draws**2
    error = np.abs(draws - y_true[:, None]).mean(axis=1)
    return _mean(error - spread, sample_weight)


def interval_score(y_true, interval, level=0.9, *, sample_weight=None):
    """Return the mean score of central intervals, their length and what they miss.

    ``(u - l) + 2 / (1 - level) * (max(l - y, 0) + max(y - u, 0))``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    interval : MixtureDistribution, or array-like of shape (n_samples, 2)
        The predictive law, or lower and upper ends.
    level : float, default=0.9
        Probability of the intervals, in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    loss : float
        In the unit of y; lower is better.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules,
    prediction, and estimation. J. Am. Stat. Assoc. 102, equation 43.
    """
    level, y_true = check_level(level), np.asarray(y_true)
    if isinstance(interval, MixtureDistribution):
        interval = interval.interval(level)
    ends = _like_rows(interval, y_true, "intervals", axes=2)
    if ends.shape[1] != 2:
        raise ValueError(
            f"interval must be of shape (n_samples, 2), got {ends.shape}: a lower and "
            "an upper end for each row."
        )
    missed = np.maximum(ends[:, 0] - y_true, 0.0) + np.maximum(y_true - ends[:, 1], 0.0)
    return _mean(ends[:, 1] - ends[:, 0] + 2.0 / (1.0 - level) * missed, sample_weight)


def pinball_loss(y_true, quantile, q=0.5, *, sample_weight=None):
    """Return the mean pinball loss of quantiles, over rows and levels.

    ``max(q (y - z), (q - 1) (y - z))`` of a quantile z of level q.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    quantile : MixtureDistribution, or array-like
        The predictive law; or quantiles of shape (n_samples,) for one level, of
        shape (n_samples, n_levels) for several ones.
    q : float or array-like of shape (n_levels,), default=0.5
        Levels in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    loss : float
        In the unit of y; lower is better.
    """
    levels, y_true = check_levels(q), np.asarray(y_true)
    if isinstance(quantile, MixtureDistribution):
        quantile = quantile.quantile(levels)
    table = _like_rows(quantile, y_true, "quantiles", axes=1 + levels.ndim)
    if table.shape[1:] != levels.shape:
        raise ValueError(
            f"quantile must hold one column for each of the {levels.size} levels of q, "
            f"got shape {table.shape}."
        )
    error = y_true.reshape(-1, *[1] * levels.ndim) - table
    loss = np.maximum(levels * error, (levels - 1.0) * error)
    return _mean(loss.reshape(len(y_true), -1).mean(axis=1), sample_weight)


class LawScorer:
    """Score the predictive law of an estimator: ``scorer(estimator, X, y)``.

    The estimator is one of ours, or a pipeline or a search that ends in one.
    Greater is better. With metadata routing on, `set_score_request` says which of
    ``sample_weight``, ``offset`` and ``trials`` reach it.

    Parameters
    ----------
    function : callable
        ``function(y_true, law, sample_weight=..., **parameters)``.
    sign : {1, -1}
        -1 for a loss.
    parameters : dict
        Of the function.
    """

    def __init__(self, function, sign, parameters):
        self._function = function
        self._sign = sign
        self._parameters = parameters
        self._request = MetadataRequest(owner=self)
        self._ask({"sample_weight": None, "offset": None, "trials": None})

    def __call__(self, estimator, X, y, sample_weight=None, **beside):
        """Return the score.

        Parameters
        ----------
        estimator : fitted estimator
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``offset`` and ``trials``, as in ``fit``.

        Returns
        -------
        score : float

        Raises
        ------
        TypeError
            If the estimator has no predictive law.
        """
        law, y = law_and_response(estimator, X, y, **beside)
        score = self._function(y, law, sample_weight=sample_weight, **self._parameters)
        return self._sign * score

    def __repr__(self):
        sign = "-" if self._sign < 0 else ""
        given = "".join(f", {k}={v!r}" for k, v in self._parameters.items())
        return f"LawScorer({sign}{self._function.__name__}{given})"

    def set_score_request(self, **requests):
        """Say which metadata reach the scorer.

        Parameters
        ----------
        **requests : bool, None or str
            For ``sample_weight``, ``offset`` and ``trials``, as in scikit-learn.

        Returns
        -------
        self : LawScorer

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: call "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._ask(requests)
        return self

    def get_metadata_routing(self):
        """Return the metadata that the scorer asks for.

        Returns
        -------
        request : MetadataRequest
        """
        return self._request

    def _ask(self, requests):
        for name, alias in requests.items():
            self._request.score.add_request(param=name, alias=alias)


SCORERS = {
    "log_score": (log_score, 1),
    "neg_crps": (crps, -1),
    "neg_interval_score": (interval_score, -1),
    "neg_pinball_loss": (pinball_loss, -1),
}


def get_scorer(name, **parameters):
    """Return a scorer by its name.

    Parameters
    ----------
    name : str
        One of `get_scorer_names`; other names are those of
        `sklearn.metrics.get_scorer`.
    **parameters : dict
        Of the score: ``level`` for ``"neg_interval_score"``, ``q`` for
        ``"neg_pinball_loss"``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)``, for ``scoring=`` of `cross_validate`,
        `GridSearchCV` and the like.

    Raises
    ------
    ValueError
        If there is no such scorer, or it has no such parameter.
    """
    if name not in SCORERS:
        if name not in get_point_scorer_names():
            raise ValueError(
                f"There is no scorer {name!r}: scores of a law are "
                f"{get_scorer_names()}, and scikit-learn's names are known too."
            )
        if parameters:
            raise ValueError(f"{name!r} has no parameters, got {sorted(parameters)}.")
        return get_point_scorer(name)
    function, sign = SCORERS[name]
    known = set(inspect.signature(function).parameters) & {"level", "q"}
    if set(parameters) - known:
        raise ValueError(
            f"{name!r} has the parameters {sorted(known)}, got {sorted(parameters)}."
        )
    return LawScorer(function, sign, parameters)


def get_scorer_names():
    """Return the names of the scores of predictive laws.

    Returns
    -------
    names : list of str
    """
    return sorted(SCORERS)


def law_and_response(estimator, X, y, **beside):
    """Return the law of the rows of X, and responses as it takes them.

    Pipelines do not pass laws on: their transformers are applied, and the last
    step is asked.

    Parameters
    ----------
    estimator : fitted estimator
        One of ours, or a pipeline or a search that ends in one.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    **beside : arrays of shape (n_samples,)
        ``offset`` and ``trials``, as in ``fit``.

    Returns
    -------
    law : MixtureDistribution
    y : array
        Class codes for a classifier.

    Raises
    ------
    TypeError
        If the estimator has no predictive law.
    """
    before, last = unwrapped(estimator)
    if not hasattr(last, "predict_distribution"):
        raise TypeError(
            f"{type(last).__name__} has no predictive law: give a mixture of experts, "
            "or a pipeline or search that ends in one."
        )
    law = last.predict_distribution(transformed_by(before, X), **beside)
    return law, last._encode_target(last._check_target(to_numpy(y)))


def _mean(values, sample_weight):
    weight = check_sample_weight(to_numpy(sample_weight), values)
    return float(weight @ values / weight.sum())


def _like_rows(values, y_true, what, axes=1):
    """Return values as an array with a row for each response."""
    values, n_samples = np.asarray(values, dtype=float), len(y_true)
    if values.ndim != axes or values.shape[0] != n_samples:
        shape = "(n_samples,)" if axes == 1 else "(n_samples, ...)"
        raise ValueError(
            f"{what} must be of shape {shape} for {n_samples} responses, got "
            f"{values.shape}."
        )
    return values
