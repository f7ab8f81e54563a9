"""From what an inner estimator predicts to a density: Gaussian or categorical.

A head turns the raw predictions of a fitted model into the parameters of its
likelihood, and learns from weighted rows what the model leaves open: a variance,
a calibration.
"""

import numpy as np

from skmoe.experts._calibration import class_scores, fit_calibration, score_kind
from skmoe.likelihoods import Categorical, Gaussian

__all__ = ["CategoricalHead", "ConstantModel", "GaussianHead"]

# Of the variance of y, as for every Gaussian expert of the library.
VARIANCE_FLOOR = 1e-10
# A class that holds less of an expert's weight cannot carry a calibration.
CLASS_FLOOR = 1e-8
# exp of this is the smallest normal number: smoothing=0 never gives log(0).
LOG_TINY = float(np.log(np.finfo(float).tiny))


class ConstantModel:
    """What takes the place of an estimator that has too few rows to be fitted.

    Parameters
    ----------
    value : float or array
        Weighted mean of y, or weighted class frequencies.
    """

    def __init__(self, value):
        self.value = np.asarray(value, dtype=float)

    def predict(self, X):
        """Return the value for each row."""
        return np.broadcast_to(self.value, (X.shape[0], *self.value.shape)).copy()


class GaussianHead:
    """Normal noise around the predictions: the variance and its prior.

    The variance of weighted residuals e is the posterior mode

        s2 = (sum(w e^2) + rows * fraction * var(y)) / (sum(w) + rows),

    for each output by itself.

    Parameters
    ----------
    variance_prior : tuple (rows, fraction) or None
    y : array of shape (n_samples,) or (n_samples, n_outputs)
    weight : array of shape (n_samples,)
    """

    likelihood = Gaussian()

    def __init__(self, variance_prior, y, weight):
        self.rows, self.fraction = variance_prior or (0.0, 0.0)
        self.shape = y.shape[1:]
        self.centre = np.average(y, axis=0, weights=weight)
        variance = np.average((y - self.centre) ** 2, axis=0, weights=weight)
        size = np.average(y * y, axis=0, weights=weight)
        # A constant y still needs a unit: rounding of its own size, or one.
        rounding = np.where(size > 0, np.finfo(float).eps * size, 1.0)
        self.reference = np.where(variance > rounding, variance, rounding)
        self.scatter = self._plain(self.reference)
        self.mass = 1.0
        self.dispersion = self.reference

    @property
    def dispersion(self):
        """Variance, a float or of shape (n_outputs,); same unit as y squared."""
        return self._dispersion

    @dispersion.setter
    def dispersion(self, value):
        value = np.broadcast_to(np.asarray(value, dtype=float), self.shape)
        self._dispersion = self._plain(
            np.maximum(value, VARIANCE_FLOOR * self.reference)
        )

    @property
    def start_noise(self):
        """Variance a Gaussian process assumes in its first pass."""
        return (self.fraction or 0.05) * self.reference

    @property
    def penalty(self):
        """Log of the inverse-gamma prior of the variance, up to a constant."""
        ratio = self.dispersion / self.reference
        prior = np.log(ratio) + self.fraction / ratio
        return float(-0.5 * self.rows * np.sum(prior))

    @property
    def n_parameters(self):
        """One variance for each output."""
        return int(np.prod(self.shape))

    def target(self, y):
        """Return y in the shape an inner regressor expects."""
        return y.ravel() if self.shape == (1,) else y

    def can_fit(self, y):
        """Return whether a regressor can be fitted to these responses."""
        return y.shape[0] > 1

    def constant(self, y, weight):
        """Return the model of the weighted mean."""
        total = weight.sum()
        if not total > 0:
            return ConstantModel(self.centre)
        return ConstantModel((weight / total) @ y)

    def set_kind(self, model):
        """Nothing to do: each regressor predicts a mean."""

    def raw(self, model, X):
        """Return predictions of the shape of y."""
        prediction = np.asarray(model.predict(X), dtype=float)
        return prediction.reshape((prediction.shape[0], *self.shape))

    def update(self, raw, y, weight, *, extra=0.0, **_):
        """Learn the variance from weighted residuals.

        Parameters
        ----------
        raw, y : arrays of shape (n_samples,) or (n_samples, n_outputs)
        weight : array of shape (n_samples,)
        extra : float or array of the shape of raw
            Variance of the mean itself, added to the squared residuals.

        Raises
        ------
        ValueError
            If a prediction is not finite.
        """
        error = y - raw
        scatter = weight @ (error * error + extra)
        if not np.all(np.isfinite(scatter)):
            raise ValueError(
                "the inner estimator predicted NaN or infinity for rows it was "
                "fitted to. Scale the columns, or lower its learning rate."
            )
        scatter = scatter + self.rows * self.fraction * self.reference
        self.scatter = self._plain(scatter)
        self.mass = float(weight.sum() + self.rows)
        self.dispersion = scatter / self.mass if self.mass > 0 else self.reference

    def params(self, raw):
        """Return the mean of each row."""
        return raw

    def _plain(self, value):
        return float(value) if self.shape == () else np.array(value)


class CategoricalHead:
    """Aligned, calibrated and smoothed class probabilities.

    The probabilities p of the inner classifier, calibrated where it gives only
    margins or labels, are mixed with the expert's class frequencies:

        (1 - a) p + a f,   a = s / (W + s),   f = (W_c + s pi_c) / (W + s),

    with W the expert's weighted rows, W_c those of class c, pi the frequencies
    of all rows and s = ``smoothing``. That is Laplace's rule: what never occurred
    in W rows has odds of about s to W, not zero. So no log probability is below
    ``2 log(a) + log(pi_c)``, and if p is right the mixing costs at most s nats
    over all rows of the expert together.

    Parameters
    ----------
    smoothing : float
        s, in rows.
    y : int array of shape (n_samples,)
    weight : array of shape (n_samples,)
    n_classes : int
    """

    likelihood = Categorical()
    dispersion = None
    penalty = 0.0

    def __init__(self, smoothing, y, weight, n_classes):
        self.smoothing = float(smoothing)
        self.n_classes = n_classes
        counts = np.bincount(y, weight, n_classes) + 1.0 / n_classes
        self.frequency = self.prior = counts / counts.sum()
        self.share = 1.0
        self.kind = "proba"
        self.calibration, self.known = None, np.arange(n_classes)

    @property
    def n_parameters(self):
        """Slope and offsets of a calibration."""
        return 0 if self.calibration is None else self.known.size

    def target(self, y):
        """Return the class codes as they are."""
        return y

    def can_fit(self, y):
        """Return whether these codes are of two classes at least."""
        return y.shape[0] > 1 and np.any(y != y[0])

    def constant(self, y, weight):
        """Return the model of the weighted class frequencies."""
        total = weight.sum()
        if not total > 0:
            return ConstantModel(self.prior)
        return ConstantModel(np.bincount(y, weight / total, self.n_classes))

    def set_kind(self, model):
        """Note what the fitted model offers: probabilities, margins or labels."""
        constant = isinstance(model, ConstantModel)
        self.kind = "proba" if constant else score_kind(model)

    def raw(self, model, X):
        """Return scores of shape (n_samples, n_classes)."""
        if not isinstance(model, ConstantModel):
            return class_scores(model, X, self.n_classes, self.kind)
        if self.kind == "margin":  # of a fold beside a real model: no opinion
            return np.zeros((X.shape[0], self.n_classes))
        return model.predict(X)

    def update(self, raw, y, weight, *, out_of_fold=False, **_):
        """Learn the smoothing, and a calibration where there is need of one.

        Parameters
        ----------
        raw : array of shape (n_samples, n_classes)
        y : int array of shape (n_samples,)
        weight : array of shape (n_samples,)
        out_of_fold : bool
            Whether the scores are of rows that the models had not seen. Then
            probabilities are calibrated too.
        """
        counts = np.bincount(y, weight, self.n_classes)
        total, s = counts.sum(), self.smoothing
        mass = total + s
        # Without rows and without smoothing the prior is all there is.
        self.share = s / mass if mass > 0 else 1.0
        self.frequency = (counts + s * self.prior) / mass if mass > 0 else self.prior
        self.known = np.flatnonzero(counts > CLASS_FLOOR * total)
        self.calibration = None
        if self.known.size > 1 and (out_of_fold or self.kind != "proba"):
            rows = np.flatnonzero((weight > 0) & np.isin(y, self.known))
            self.calibration = fit_calibration(
                self._scores(raw[rows]),
                np.searchsorted(self.known, y[rows]),
                weight[rows],
            )

    def params(self, raw):
        """Return log probabilities of shape (n_samples, n_classes)."""
        if self.calibration is not None:
            proba = np.zeros(raw.shape)
            log_proba = self.calibration.log_proba(self._scores(raw))
            proba[:, self.known] = np.exp(log_proba)
        elif self.kind == "proba":
            proba = raw
        else:
            proba = np.broadcast_to(self.frequency, raw.shape)
        smooth = self._smooth(proba)
        return np.log(np.maximum(smooth, np.exp(LOG_TINY)))

    def _smooth(self, proba):
        return (1.0 - self.share) * proba + self.share * self.frequency

    def _scores(self, raw):
        """Return what is calibrated: margins, labels, or smoothed log odds."""
        if self.kind == "proba":
            raw = np.log(np.maximum(self._smooth(raw), np.exp(LOG_TINY)))
        return raw[:, self.known]
