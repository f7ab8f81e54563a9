"""The three protocols of the library, and every shape convention, stated once.

Arrays at this level are already validated by the estimator shell:

=============  ===========================================================
``X``          float array of shape (n_samples, n_features); dense, or CSR
               where a part says that it takes sparse input
``y``          regression: float array of shape (n_samples,) or
               (n_samples, n_outputs); classification: integer codes
               0, ..., n_classes - 1 of shape (n_samples,)
``weight``     float array of shape (n_samples,), non-negative. An expert gets
               the product of sample weight and responsibility, a gate gets
               the sample weight alone. A row of weight w counts as w rows
``resp``       responsibilities of shape (n_samples, n_experts); rows sum to 1
``log_gate``   log gate probabilities of shape (n_samples, n_experts)
``params``     what an expert predicts for each row: a mean of shape
               (n_samples,) or (n_samples, n_outputs), log probabilities
               of shape (n_samples, n_classes), or as the table below says
=============  ===========================================================

``params`` and the dispersion of each family in `skmoe.likelihoods`; an array
whose first axis is rows, and numbers that all rows share:

================  ==================================  =======================
Family            ``params``                          ``dispersion``
================  ==================================  =======================
Gaussian          mean (n,) or (n, n_outputs)         variance or covariance
RowGaussian       (n, 2): mean, variance              None
StudentT          location (n,)                       (scale squared, df)
Laplace           location (n,)                       scale b
Uniform           (n, 2): low, high                   None
Gamma             mean (n,)                           1 / shape
Poisson           mean (n,)                           None
NegativeBinomial  mean (n,)                           size theta
Binomial          (n, 2): probability, trials         None
PointMass         value (n,)                          None
Categorical       log probabilities (n, n_classes)    None
================  ==================================  =======================

Log densities are in nats. ``penalty`` is a log prior density up to a constant
(so it is negative or zero for a ridge): the engine climbs
``sum(weight * log_lik) + penalty``.

A part is cloned for each start, gets one ``prepare`` call with all rows, then
an M-step in every pass of EM. It must keep what it learned between calls
(warm start) and must be picklable.

These are NumPy arrays. A part whose class says ``array_api = True`` also takes rows of
any other array library, on any device, and returns results of the same kind; its
parameters stay NumPy's. `skmoe._xp` has what it needs for that.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

__all__ = [
    "Differentiable",
    "Expert",
    "Gate",
    "Likelihood",
    "Parametric",
    "PoolsDispersion",
    "RowDerivatives",
    "has_fixed_law",
    "is_parametric",
    "pools_dispersion",
]

Array = Any


@runtime_checkable
class Likelihood(Protocol):
    """A family of conditional densities: a value object without fitted state.

    Attributes
    ----------
    discrete : bool
        Whether ``log_prob`` is the log of a probability, not of a density.
    """

    discrete: bool

    def log_prob(self, y: Array, params: Array, dispersion: Array | None) -> Array:
        """Return the log density of each row; -inf outside the support."""

    def mean(self, params: Array, dispersion: Array | None) -> Array:
        """Return the expected response: (n_samples,) or (n_samples, n_outputs)."""

    def mode(self, params: Array, dispersion: Array | None) -> Array:
        """Return the point of highest density, of the same shape as the mean."""

    def variance(self, params: Array, dispersion: Array | None) -> Array:
        """Return the variance of each output, of the same shape as the mean."""

    def cdf(self, y: Array, params: Array, dispersion: Array | None) -> Array:
        """Return P(Y <= y) of a single output, of shape (n_samples,)."""

    def quantile(self, q: Array, params: Array, dispersion: Array | None) -> Array:
        """Return the smallest y whose cdf is at least q, of a single output.

        ``q`` is a number in [0, 1] or of shape (n_samples,); 0 and 1 stand for
        the ends of the support.
        """

    def support(self, y: Array, params: Array, dispersion: Array | None) -> Array:
        """Return which responses can occur, a mask of shape (n_samples,)."""

    def sample(
        self, params: Array, dispersion: Array | None, n_draws: int, rng: Any
    ) -> Array:
        """Draw responses of shape (n_draws, n_samples[, n_outputs])."""


@runtime_checkable
class Expert(Protocol):
    """A model of y given x that can be fitted to weighted rows.

    Attributes
    ----------
    likelihood : Likelihood
        The family of its density.
    dispersion : float, array or None
        The dispersion that goes with it (a Gaussian's variance).
    exact_m_step : bool
        Whether ``m_step`` never lowers ``sum(weight * log_prob) + penalty``.
    n_parameters : int
        Free parameters, for AIC and BIC.
    penalty : float
        Log prior density at the current coefficients and dispersion.
    """

    likelihood: Likelihood
    exact_m_step: bool

    @property
    def dispersion(self) -> Array | None: ...

    @property
    def n_parameters(self) -> int: ...

    @property
    def penalty(self) -> float: ...

    def prepare(
        self, X: Array, y: Array, weight: Array, n_classes: int | None = None
    ) -> None:
        """Fix what depends on all rows: scales, priors, classes. Called once."""

    def m_step(self, X: Array, y: Array, weight: Array) -> None:
        """Raise ``sum(weight * log_prob(X, y)) + penalty`` from where it stands."""

    def log_prob(self, X: Array, y: Array) -> Array:
        """Return ``log p(y | x)`` in nats, of shape (n_samples,)."""

    def predict_params(self, X: Array) -> Array:
        """Return the parameters of the likelihood for each row."""


@runtime_checkable
class Gate(Protocol):
    """A model of which expert is to be trusted where.

    Attributes
    ----------
    exact_m_step : bool
        Whether ``m_step`` never lowers ``sum(weight * resp * log_joint) + penalty``.
    n_parameters, penalty :
        As for an expert.
    """

    exact_m_step: bool

    @property
    def n_parameters(self) -> int: ...

    @property
    def penalty(self) -> float: ...

    def prepare(self, X: Array, weight: Array, n_experts: int) -> None:
        """Fix what depends on all rows: scales and priors. Called once."""

    def m_step(self, X: Array, resp: Array, weight: Array) -> None:
        """Raise ``sum(weight * resp * log_joint(X)) + penalty``."""

    def log_proba(self, X: Array) -> Array:
        """Return log gate probabilities of shape (n_samples, n_experts)."""

    def log_joint(self, X: Array) -> Array:
        """Return what the E-step adds to the experts' log densities.

        It is ``log_proba`` for a conditional gate. A generative gate, which
        models x too, returns ``log(a_k p_k(x))``: the same up to a constant in
        each row, and that constant belongs to the objective it climbs.
        """


@runtime_checkable
class Parametric(Protocol):
    """A part whose state is one free vector, so that EM can be accelerated."""

    @property
    def parameters(self) -> Array:
        """The unconstrained parameters as one vector (variances as logs)."""

    @parameters.setter
    def parameters(self, value: Array) -> None: ...


def is_parametric(part: Any) -> bool:
    """Return whether a part's state is one free vector.

    A composite part may have the attribute and still say ``parametric = False``.
    Before it is prepared a part has none: from Python 3.12 on ``isinstance`` looks at
    the class alone.
    """
    return hasattr(part, "parameters") and getattr(part, "parametric", True)


def has_fixed_law(part: Any) -> bool:
    """Return whether a part has nothing to learn: a noise expert, a point mass.

    It needs no rows of its own, and may be left without any.
    """
    return is_parametric(part) and len(part.parameters) == 0


@runtime_checkable
class PoolsDispersion(Protocol):
    """An expert whose dispersion can be tied to that of its siblings.

    After an M-step ``scatter / mass`` is its own dispersion; the engine sets
    ``dispersion = sum(scatter) / sum(mass)`` on all of them instead.
    """

    scatter: Array
    mass: float
    dispersion: Array


def pools_dispersion(part: Any) -> bool:
    """Return whether a fitted expert's dispersion can be tied to its siblings'."""
    return all(hasattr(part, name) for name in ("scatter", "mass", "dispersion"))


class RowDerivatives(NamedTuple):
    """Derivatives of each row's log density, in what it depends on locally.

    An expert with linear predictors ``eta_l = b_l' z`` and shapes s has
    ``n_local = n_predictors + n_shapes`` local coordinates, predictors first. Its
    parameters are, in this order, the coefficients b_l of each predictor on the
    columns of the design, then the shapes.

    Attributes
    ----------
    design : array of shape (n_samples, n_columns)
        The standardised columns z, the intercept first.
    gradient : array of shape (n_samples, n_local)
    curvature : array of shape (n_samples, n_local, n_local)
        Second derivatives, or what is expected of them where there are none.
    n_predictors : int
    """

    design: Array
    gradient: Array
    curvature: Array
    n_predictors: int


@runtime_checkable
class Differentiable(Protocol):
    """An expert whose standard errors can be computed; see `RowDerivatives`.

    The parameters that are meant are those of `coefficient_vector`.
    """

    def coefficient_vector(self) -> Array:
        """Return coefficients and shapes as one vector."""

    def row_derivatives(self, X: Array, y: Array) -> RowDerivatives:
        """Return derivatives at the current parameters; zero where y cannot occur."""

    def penalty_curvature(self) -> Array:
        """Return second derivatives of `penalty` in the parameters."""

    def coefficient_map(self) -> Any:
        """Return what the parameters mean; see `skmoe._terms.CoefficientMap`."""
