"""A gate that ignores x: the mixing weights of a mixture of regressions."""

from numbers import Real

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skmoe._xp import like, to_numpy, zeros

__all__ = [
    "SMALLEST_SHARE",
    "ConstantGate",
    "check_number",
    "check_prepared",
    "check_resp",
    "log_shares",
]

# A share below the resolution of a float beside 1 says no more than zero does,
# but its log is finite: an expert that lost all rows can still be called back.
SMALLEST_SHARE = float(np.finfo(float).eps)


def check_number(name, value, *, low=0.0, high=np.inf, strict=False):
    """Return a parameter as a float, or raise if it is outside its range.

    Raises
    ------
    ValueError
        If the value is no finite real number with ``low <= value < high``
        (``low < value < high`` if `strict`).
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    fits = number and np.isfinite(value) and low <= value < high
    if not fits or (strict and value == low):
        sign = ">" if strict else ">="
        upper = "" if high == np.inf else f" and < {high:g}"
        raise ValueError(
            f"{name} must be a finite number {sign} {low:g}{upper}, got {value!r}."
        )
    return float(value)


def check_prepared(gate, attribute):
    """Raise unless the gate has the attribute that ``prepare`` sets.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If it has not.
    """
    if not hasattr(gate, attribute):
        raise NotFittedError(
            f"this {type(gate).__name__} is not fitted yet: call prepare(X, "
            "weight, n_experts) first, or fit the mixture that holds it."
        )


def check_resp(X, resp, weight, n_experts):
    """Raise unless responsibilities and weights belong to the rows and experts.

    Raises
    ------
    ValueError
        If `resp` is not of shape (n_samples, n_experts), or `weight` not of
        shape (n_samples,).
    """
    expected = (X.shape[0], n_experts)
    if resp.shape != expected:
        raise ValueError(
            f"responsibilities must be of shape {expected} "
            f"(n_samples, n_experts), got {resp.shape}."
        )
    if weight.shape != expected[:1]:
        raise ValueError(f"weight must be of shape {expected[:1]}, got {weight.shape}.")


def log_shares(count, alpha=0.0):
    """Return the logs of ``(count + alpha) / sum``, finite for empty experts.

    Parameters
    ----------
    count : array of shape (n_experts,)
        Weighted number of rows of each expert.
    alpha : float
        Rows added to each.
    """
    total = count + alpha
    share = np.maximum(total / total.sum(), SMALLEST_SHARE)
    return np.log(share / share.sum())


class ConstantGate(BaseEstimator):
    """Mixing weights that do not depend on x.

    The gate of a mixture of regressions: with responsibilities r and sample
    weights w, ``N_k = sum_i w_i r_ik`` and the M-step is the closed form

        g_k = (N_k + alpha) / sum_l (N_l + alpha),

    the mode under a symmetric Dirichlet prior whose log density is
    ``alpha sum_k log g_k``.

    Parameters
    ----------
    alpha : float, default=0.0
        Rows that the prior adds to each expert; 0 is maximum likelihood.

    Attributes
    ----------
    log_weight_ : ndarray of shape (n_experts,)
        Logs of the mixing weights.
    weights_ : ndarray of shape (n_experts,)
        The mixing weights; they sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.gates import ConstantGate
    >>> X, weight = np.zeros((4, 1)), np.ones(4)
    >>> gate = ConstantGate()
    >>> gate.prepare(X, weight, n_experts=2)
    >>> gate.m_step(X, np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), weight)
    >>> gate.weights_
    array([0.75, 0.25])
    """

    exact_m_step = True
    array_api = True

    def __init__(self, alpha=0.0):
        self.alpha = alpha

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # It counts rows and never looks into them.
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        return tags

    def prepare(self, X, weight, n_experts):
        """Check the parameters and start with equal mixing weights.

        Raises
        ------
        ValueError
            If alpha is negative or not finite.
        """
        self._alpha = check_number("ConstantGate: alpha", self.alpha)
        self.log_weight_ = np.full(n_experts, -np.log(n_experts))

    def m_step(self, X, resp, weight):
        """Set the mixing weights to the shares of the weighted rows."""
        check_prepared(self, "log_weight_")
        check_resp(X, resp, weight, self.log_weight_.size)
        self.log_weight_ = log_shares(to_numpy(weight @ resp), self._alpha)

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts)."""
        check_prepared(self, "log_weight_")
        shape = (X.shape[0], self.log_weight_.size)
        return zeros(X, shape) + like(X, self.log_weight_)

    def log_joint(self, X):
        """Return `log_proba`: the gate does not model x."""
        return self.log_proba(X)

    @property
    def weights_(self):
        """Mixing weights of shape (n_experts,)."""
        check_prepared(self, "log_weight_")
        return np.exp(self.log_weight_)

    @property
    def penalty(self):
        """Log density of the Dirichlet prior up to a constant."""
        check_prepared(self, "log_weight_")
        return float(self._alpha * self.log_weight_.sum())

    @property
    def n_parameters(self):
        """Free parameters: one less than experts."""
        check_prepared(self, "log_weight_")
        return self.log_weight_.size - 1

    @property
    def parameters(self):
        """Log weights centred at zero, of shape (n_experts,)."""
        check_prepared(self, "log_weight_")
        return self.log_weight_ - self.log_weight_.mean()

    @parameters.setter
    def parameters(self, value):
        check_prepared(self, "log_weight_")
        value = np.asarray(value, dtype=float)
        if value.shape != self.log_weight_.shape or not np.isfinite(value).all():
            raise ValueError(
                f"parameters of ConstantGate must be {self.log_weight_.size} "
                f"finite numbers, got {value!r}."
            )
        self.log_weight_ = log_softmax(value)
