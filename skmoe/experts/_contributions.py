"""What each column contributes to the predictions of an expert.

An expert may have a method ``contributions(X)`` that returns `Contributions`;
`contributions_of` asks for it and has an answer for all others.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.frozen import FrozenEstimator
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array

from skmoe._blocks import Design
from skmoe.likelihoods import Categorical

__all__ = [
    "Contributions",
    "LinearForm",
    "column_sources",
    "contributions_of",
    "expanded_contributions",
    "form_on",
    "inner_contributions",
    "linear_contributions",
    "linear_form",
    "linear_inner",
    "response_contributions",
    "transformed_columns",
]

Array = NDArray[np.float64]

# Of the size of its terms: how far a prediction may be from its linear form.
LINEAR_TOL = 1e-11
INVERSE_LINKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "logit": special.expit,
}
# Below such a change of a linear predictor its rate is that of the curve.
FLAT = 1e-7


class Contributions(NamedTuple):
    """Predictions of an expert, shared out among the columns.

    ``baseline + parts.sum(axis=1) + rest`` is the prediction: the mean of a
    regressor in the unit of y, or the logits of a classifier (nats), whose softmax
    is its class probabilities.

    Attributes
    ----------
    baseline : array of shape () or (n_outputs,) or (n_classes,)
        What it predicts where every column it is linear in has its mean over the
        training rows.
    parts : array of shape (n_samples, n_features[, n_outputs or n_classes])
        What the column adds, by being where it is rather than at its mean.
    rest : array of shape (n_samples[, n_outputs or n_classes])
        What no single column can be given.
    """

    baseline: Array
    parts: Array
    rest: Array

    def constant(self) -> "Contributions":
        """Call the rest, the same in each row, the baseline."""
        return Contributions(self.rest[0], self.parts, np.zeros_like(self.rest))

    def gathered(self, source: NDArray[np.intp], n_features: int) -> "Contributions":
        """Sum the parts of expanded columns over the columns they come from.

        Parameters
        ----------
        source : array of int of shape (n_expanded,)
            The column that each of them comes from, -1 for none or several.
        n_features : int
        """
        n_samples, _, *shape = self.parts.shape
        parts = np.zeros((n_samples, n_features, *shape))
        for j in np.unique(source[source >= 0]):
            parts[:, j] = self.parts[:, source == j].sum(axis=1)
        rest = self.rest + self.parts[:, source < 0].sum(axis=1)
        return Contributions(self.baseline, parts, rest)


class LinearForm(NamedTuple):
    """A linear predictor on the columns of X, and the scales of those columns.

    Attributes
    ----------
    slope : array of shape (n_features,) or (n_outputs, n_features)
    intercept : array of shape () or (n_outputs,)
    center : array of shape (n_features,)
        Weighted means of the columns over the training rows; zero for sparse ones.
    spread : array of shape (n_features,)
        Their weighted standard deviations, zero for a column that does not vary.
    """

    slope: Array
    intercept: Array
    center: Array
    spread: Array

    def contributions(self, X: Any) -> Contributions:
        """Share ``slope @ x + intercept`` out among the columns."""
        X = X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)
        parts = (X - self.center)[:, :, None] * np.atleast_2d(self.slope).T
        parts = parts.reshape(*X.shape, *self.intercept.shape)
        baseline = self.intercept + self.slope @ self.center
        return Contributions(baseline, parts, np.zeros((len(X), *baseline.shape)))


def linear_form(expert: Any) -> LinearForm | None:
    """Return the linear predictor of an expert; None where it has another.

    Parameters
    ----------
    expert : fitted Expert
        `LinearExpert`, `LogisticExpert`, anything else that has ``coef_``,
        ``intercept_`` and ``design_``; or an `EstimatorExpert` around a linear
        regression that sees the columns as they are.
    """
    if all(hasattr(expert, name) for name in ("coef_", "intercept_", "design_")):
        return form_on(expert.coef_, expert.intercept_, expert.design_)
    inner = getattr(expert, "linear_inner_", None)
    if inner is None or inner.steps or isinstance(expert.likelihood, Categorical):
        return None
    return inner.form


def form_on(slope: Any, intercept: Any, design: Design) -> LinearForm:
    """Return a linear form with the scales of the columns of a design."""
    spread = np.zeros_like(design.inverse_scale)
    varies = design.inverse_scale > 0
    spread[varies] = 1.0 / design.inverse_scale[varies]
    return LinearForm(np.asarray(slope), np.asarray(intercept), design.center, spread)


def linear_contributions(expert: Any, X: Any) -> Contributions:
    """Share the predictions of a native linear expert out among the columns."""
    return form_on(expert.coef_, expert.intercept_, expert.design_).contributions(X)


def response_contributions(
    linear: Contributions, link: str, known: dict[str, Array]
) -> Contributions:
    """Carry contributions to a linear predictor over to the mean.

    With the mean m = h(eta) each column gets its part of ``eta - eta_0`` times
    ``(m - m_0) / (eta - eta_0)``: for a function of one linear predictor these are
    the integrated gradients from the mean row, and they add up (Sundararajan, M.,
    Taly, A. and Yan, Q. 2017. Axiomatic attribution for deep networks. ICML). An
    offset is a column like any other; the number of trials gets what further trials
    of the mean row add.

    Parameters
    ----------
    linear : Contributions
        Without rest.
    link : {"identity", "log", "logit"}
    known : dict of str to array of shape (n_samples,)
        Their columns come last.
    """
    mean_of = INVERSE_LINKS[link]
    offset, trials = known.get("offset", 0.0), known.get("trials", 1.0)
    change = linear.parts.sum(axis=1) + offset
    start = np.asarray(mean_of(linear.baseline))
    flat = np.abs(change) < FLAT
    step = np.where(flat, FLAT, change)
    rate = (mean_of(linear.baseline + step) - start) / step * trials
    more = {"offset": offset * rate, "trials": (trials - 1.0) * start}
    columns = [linear.parts * rate[:, None], *(more[n][:, None] for n in known)]
    rest = trials * mean_of(linear.baseline + change) - start
    parts = np.hstack(columns)
    return Contributions(start, parts, rest - parts.sum(axis=1))


def contributions_of(expert: Any, X: Any) -> Contributions:
    """Share the predictions of any expert out among the columns.

    Parameters
    ----------
    expert : fitted Expert
    X : array of shape (n_samples, n_features)

    Returns
    -------
    contributions : Contributions
        All of it is ``rest`` for an expert that has no method ``contributions``.
    """
    if hasattr(expert, "contributions"):
        return Contributions(*expert.contributions(X))
    return _all_rest(expert, X)


def _all_rest(expert: Any, X: Any) -> Contributions:
    params = expert.predict_params(X)
    if not isinstance(expert.likelihood, Categorical):
        params = expert.likelihood.mean(params, expert.dispersion)
    rest = np.asarray(params, dtype=float)
    shape = rest.shape[1:]
    return Contributions(np.zeros(shape), np.zeros((*X.shape, *shape)), rest)


# -- experts behind a transformer --------------------------------------------------


def expanded_contributions(expert: Any, X: Any) -> Contributions:
    """Share the predictions out among the columns before the transformer.

    Transformed columns belong to the one column that they are named after by
    ``get_feature_names_out``; those that come from several columns, or that have
    names of their own, go to the rest.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)

    Returns
    -------
    contributions : Contributions
    """
    inner = contributions_of(expert.native, expert.expand(X))
    source = column_sources([expert.transformer_], X.shape[1], inner.parts.shape[1])
    return inner.gathered(source, X.shape[1])


def column_sources(steps: list[Any], n_features: int, n_out: int) -> NDArray[np.intp]:
    """Return the column that each transformed one comes from, -1 for no single one.

    The steps name their outputs after their inputs: numbers in angle brackets are
    found again in what splines, powers, bins and scalers make of them.
    """
    names = np.array([f"<{j}>" for j in range(n_features)], dtype=object)
    source = np.full(n_out, -1, dtype=np.intp)
    try:
        for step in steps:
            names = step.get_feature_names_out(names)
    except (AttributeError, NotImplementedError, ValueError):
        return source  # it names none, or insists on names that it was fitted to
    if len(names) == n_out:
        for i, name in enumerate(names):
            found = {part.partition(">")[0] for part in str(name).split("<")[1:]}
            source[i] = int(found.pop()) if len(found) == 1 else -1
    return source


# -- estimators of scikit-learn ----------------------------------------------------


class LinearInner(NamedTuple):
    """A linear model of scikit-learn, behind its transformers.

    Attributes
    ----------
    steps : list of fitted transformers
    form : LinearForm
        On the transformed columns: of the mean, or of a classifier's logits.
    """

    steps: list[Any]
    form: LinearForm


def linear_inner(
    model: Any, X: Any, predicted: Callable[[], Array], weight: Array | None
) -> LinearInner | None:
    """Return the linear form of a fitted estimator; None where it has another.

    Coefficients alone do not make it linear: those of a generalised linear model
    belong to a function of the mean. So its predictions are compared.

    Parameters
    ----------
    model : fitted estimator or None
        A Pipeline, frozen or the result of a search too.
    X : array or data frame of shape (n_samples, n_features)
        The training rows.
    predicted : callable
        Returns what the model predicts for them, of shape (n_samples[, n_outputs or
        n_classes]): means, or class probabilities. Not asked of a model without
        coefficients.
    weight : array of shape (n_samples,) or None
    """
    steps, last = _split(model)
    inner = _coefficients(last)
    if inner is None:
        return None
    try:
        seen = transformed_columns(steps, X)
    except (TypeError, ValueError):
        return None  # a model of words, or of missing values
    raw = predicted()
    weight = np.ones(raw.shape[0]) if weight is None else weight
    slope, intercept = inner
    if hasattr(last, "classes_"):
        slope, intercept = _logit_rows(slope, intercept)
    if slope.shape[1] != seen.shape[1] or slope.shape[0] != raw[0].size:
        return None
    value = seen @ slope.T + intercept
    if hasattr(last, "classes_"):
        linear = np.allclose(special.softmax(value, axis=1), raw)
    else:
        error = np.abs(raw.reshape(value.shape) - value)
        size = abs(seen) @ abs(slope).T + abs(intercept)
        linear = bool((error <= LINEAR_TOL * size).all())
    if not linear:
        return None
    if raw.ndim == 1:
        slope, intercept = slope[0], intercept[0]
    return LinearInner(steps, form_on(slope, intercept, Design(seen, weight)))


def inner_contributions(expert: Any, X: Any) -> Contributions:
    """Share the predictions of an adapted estimator out among the columns.

    Linear models have parts, also at the end of a Pipeline or behind a parameter
    search; so have classifiers whose log probabilities are linear, and what the
    expert's smoothing and calibration add to their logits is in the rest. All of
    any other model is rest.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)

    Returns
    -------
    contributions : Contributions
    """
    inner = expert.linear_inner_
    if inner is None:
        found = _all_rest(expert, X)
        constant = expert.estimator_ is None  # for want of rows
        return found.constant() if constant else found
    seen = transformed_columns(inner.steps, X)
    found = inner.form.contributions(seen)
    value = found.baseline + found.parts.sum(axis=1)
    rest = expert.predict_params(X) - value
    if isinstance(expert.likelihood, Categorical):  # logits have no level
        rest = rest - rest.mean(axis=1, keepdims=True)
    found = found._replace(rest=rest)
    return found.gathered(
        column_sources(inner.steps, X.shape[1], seen.shape[1]), X.shape[1]
    )


def _split(model: Any) -> tuple[list[Any], Any]:
    """Return the fitted transformers of a composite and the model at its end."""
    steps: list[Any] = []
    while True:
        if isinstance(model, Pipeline):
            *front, (_, last) = model.steps
            steps += [step for _, step in front if step not in (None, "passthrough")]
            model = last
        elif isinstance(model, FrozenEstimator):
            model = model.estimator
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return steps, model


def transformed_columns(steps: list[Any], X: Any) -> Any:
    for step in steps:
        X = step.transform(X)
    return check_array(
        X, accept_sparse="csr", dtype=np.float64, ensure_all_finite=False
    )


def _coefficients(model: Any) -> tuple[Array, Array] | None:
    """Return slopes (n_rows, n_columns) and intercepts (n_rows,) of a model."""
    several = isinstance(model, MultiOutputRegressor)
    slopes, intercepts = [], []
    for member in model.estimators_ if several else [model]:
        slope = getattr(member, "coef_", None)
        if slope is None or not hasattr(member, "intercept_"):
            return None
        slope = slope.toarray() if sparse.issparse(slope) else np.asarray(slope)
        slopes.append(np.atleast_2d(slope))
        rows = slopes[-1].shape[0]
        intercepts.append(np.broadcast_to(np.ravel(member.intercept_), rows))
    return np.concatenate(slopes), np.concatenate(intercepts)


def _logit_rows(slope: Array, intercept: Array) -> tuple[Array, Array]:
    """Return a row for each class where there is one row for the log odds of two.

    Half of it with either sign makes two logits whose sum is zero.
    """
    if slope.shape[0] > 1:
        return slope, intercept
    sign = np.array([-0.5, 0.5])
    return sign[:, None] * slope, sign * intercept
