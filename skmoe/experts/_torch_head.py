"""What a neural expert says of its density: family, dispersion, prior."""

from dataclasses import replace

import numpy as np

from skmoe._xp import to_numpy
from skmoe.experts._variance_prior import check_variance_prior
from skmoe.likelihoods import Categorical, Gaussian, Poisson, StudentT

__all__ = ["HeadNumbers"]

LIKELIHOODS = {
    "gaussian": Gaussian(),
    "student": StudentT(),
    "poisson": Poisson(),
    "categorical": Categorical(),
}


class HeadNumbers:
    """The head's numbers in the unit of y, for `TorchExpert`.

    The state holds them unconstrained and for standardised responses; see
    `skmoe.nn._heads`.
    """

    support_note = "TorchExpert with head='poisson' needs counts y >= 0."

    def _check_prior(self):
        """Raise a ValueError unless variance_prior is as described."""
        check_variance_prior(self.variance_prior, "TorchExpert")

    def _head_name(self):
        """Return the head that "auto" stands for."""
        if self.head == "auto":
            n_classes = getattr(self, "_n_classes", None)
            return "gaussian" if n_classes is None else "categorical"
        if self.head not in LIKELIHOODS:
            raise ValueError(
                f"TorchExpert: head must be 'auto' or one of {tuple(LIKELIHOODS)}, got "
                f"{self.head!r}."
            )
        return self.head

    @property
    def likelihood(self):
        """The family of y's density."""
        return LIKELIHOODS[self._head_name()]

    @property
    def dispersion(self):
        """Variance, or squared scale and degrees of freedom, in the unit of y."""
        name, head = self._head_name(), getattr(self, "_head", None)
        if name in ("poisson", "categorical") or head is None:
            return None
        numbers = np.exp(to_numpy(self._state.shape))
        unit = head.scale.numpy() ** 2
        if name == "student":
            return numbers * np.array([unit[0], 1.0])
        return float(numbers[0] * unit[0]) if head.single else numbers * unit

    @dispersion.setter
    def dispersion(self, value):
        head, shape = self._gaussian(), self._state.shape
        value = np.reshape(np.asarray(value, dtype=float), -1) / head.scale.numpy() ** 2
        floor = self._torch("_heads").VARIANCE_FLOOR
        fresh = shape.new_tensor(np.log(np.maximum(value, floor)))
        self._state, self._seen = replace(self._state, shape=fresh), None

    @property
    def scatter(self):
        """Squared residuals with the prior's, before division by mass."""
        return np.asarray(self.dispersion) * self.mass

    @property
    def mass(self):
        """Weighted rows plus those that the variance prior is worth."""
        return self._mass + self._gaussian().rows

    def _gaussian(self):
        if self._head_name() != "gaussian":
            raise AttributeError("only a Gaussian head has a variance to be tied.")
        return self._head

    @property
    def collapsed(self):
        """Whether the variance lies at its floor."""
        if self._head_name() not in ("gaussian", "student"):
            return False
        floor = self._torch("_heads").VARIANCE_FLOOR
        n_variances = 1 if self._head_name() == "student" else None
        numbers = np.exp(to_numpy(self._state.shape))[:n_variances]
        return bool((numbers <= 4.0 * floor).any())

    @property
    def penalty(self):
        """Log prior of the variance, up to a constant; 0 for counts and classes."""
        return float(self._head.penalty(self._state.shape))

    def supports(self, X, y):
        """Return which responses can occur, a mask of shape (n_samples,)."""
        if self.head != "poisson":
            return np.ones(y.shape[0], dtype=bool)
        y = np.reshape(to_numpy(y), (y.shape[0], -1))
        return ((y >= 0) & np.isfinite(y)).all(axis=1)

    def _check_support(self, y, weight, *, every):
        """Raise a ValueError unless some response can occur, or every one."""
        some, can = to_numpy(weight) > 0, self.supports(None, y)
        bad = np.flatnonzero(some & ~can)
        if every and bad.size:
            value = np.min(to_numpy(y)[bad[0]])
            raise ValueError(f"{self.support_note} Got y = {value:g} in row {bad[0]}.")
        if not (some & can).any():
            raise ValueError(f"{self.support_note} No row of positive weight has one.")

    def start_target(self, X, y):
        """Return y on the scale of the module's outputs, (n_samples, n_outputs)."""
        y = to_numpy(y)
        y = np.log1p(np.maximum(y, 0.0)) if self.head == "poisson" else y
        return y.reshape(y.shape[0], -1)
