"""Scores of one fold: wrappers that give any model a predictive law, and CRPS.

Every wrapper has `fit` (which notes CPU seconds), `predict`, `log_prob(X, y)` in
nats and, for regression, `crps(X, y)` in the unit of y.
"""

import time

import numpy as np
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold

__all__ = [
    "ClassProbabilities",
    "GaussianLaw",
    "GaussianResidual",
    "MixtureLaw",
    "Timed",
    "crps_gaussian",
    "crps_mixture",
    "fold_scores",
    "mean_and_error",
    "random_rows",
    "summarise",
]

PROBABILITY_FLOOR = float(np.finfo(float).eps)  # as in scikit-learn's log_loss
VARIANCE_FLOOR = 1e-12
CRPS_ROWS = 250  # rows x components of a block stay in the processor's cache


def random_rows(n_samples, limit):
    """Return the numbers of at most `limit` rows, in random order if rows are left."""
    if limit is None or n_samples <= limit:
        return np.arange(n_samples)
    return np.random.default_rng(0).permutation(n_samples)[:limit]


class Timed:
    """A model whose `fit` notes the CPU seconds that it took.

    With `max_rows` it is fitted to a random sample of that many rows.
    """

    def __init__(self, model, max_rows=None):
        self.model = model
        self.max_rows = max_rows

    @property
    def fitted(self):
        """The fitted model, the best one of a search."""
        return getattr(self.model, "best_estimator_", self.model)

    def fit(self, X, y):
        """Fit the model."""
        rows = random_rows(len(y), self.max_rows)
        self._fit(X[rows], y[rows])
        return self

    def _fit(self, X, y):
        start = time.process_time()
        self.model.fit(X, y)
        self.seconds_ = time.process_time() - start

    def predict(self, X):
        """Return the point prediction or the predicted classes."""
        return self.fitted.predict(X)


class GaussianResidual(Timed):
    """A point predictor with one Gaussian residual variance.

    The variance is the mean squared training residual (maximum likelihood) or,
    for a model that nearly interpolates its rows, that of held-out residuals: of
    `residual_folds` of five folds, or out of bag where the model has them. The
    refits repeat no search and are not part of `seconds_`.
    """

    def __init__(self, model, residual_folds=0, max_rows=None):
        super().__init__(model, max_rows)
        self.residual_folds = residual_folds

    def _fit(self, X, y):
        super()._fit(X, y)
        residual = self._residual(X, y)
        self.variance_ = max(float(np.mean(residual**2)), VARIANCE_FLOOR)

    def _residual(self, X, y):
        if hasattr(self.fitted, "oob_prediction_"):
            return y - self.fitted.oob_prediction_
        if not self.residual_folds:
            return y - self.predict(X)
        folds = KFold(5, shuffle=True, random_state=0).split(X)
        residual = []
        for (train, test), _ in zip(folds, range(self.residual_folds), strict=False):
            model = clone(self.fitted).fit(X[train], y[train])
            residual.append(y[test] - model.predict(X[test]))
        return np.concatenate(residual)

    def log_prob(self, X, y):
        """Return the log density of each row, in nats."""
        return gaussian_log_prob(y - self.predict(X), self.variance_)

    def crps(self, X, y):
        """Return the CRPS of each row, in the unit of y."""
        return crps_gaussian(y - self.predict(X), np.sqrt(self.variance_))


class GaussianLaw(Timed):
    """A model with its own predictive deviation, noise included."""

    def log_prob(self, X, y):
        """Return the log density of each row, in nats."""
        mean, deviation = self.fitted.predict(X, return_std=True)
        return gaussian_log_prob(y - mean, deviation**2)

    def crps(self, X, y):
        """Return the CRPS of each row, in the unit of y."""
        mean, deviation = self.fitted.predict(X, return_std=True)
        return crps_gaussian(y - mean, deviation)


class ClassProbabilities(Timed):
    """A classifier with the log probability of the observed class.

    `prior_share` mixes that share of the class frequencies into the probabilities:
    a tree gives zeros, and one row of a class that it excludes costs 36 nats.
    """

    def __init__(self, model, prior_share=0.0, max_rows=None):
        super().__init__(model, max_rows)
        self.prior_share = prior_share

    def _fit(self, X, y):
        super()._fit(X, y)
        self.frequencies_ = np.unique(y, return_counts=True)[1] / len(y)

    def log_prob(self, X, y):
        """Return the log probability of each row's class, in nats."""
        proba = self.fitted.predict_proba(X)
        proba = proba + self.prior_share * (self.frequencies_ - proba)
        column = np.searchsorted(self.fitted.classes_, y)
        chosen = proba[np.arange(len(y)), column]
        return np.log(np.clip(chosen, PROBABILITY_FLOOR, None))


class MixtureLaw(Timed):
    """An estimator of ours: its law is a mixture, of Gaussians for regression."""

    def log_prob(self, X, y):
        """Return the model's own log density of each row, in nats."""
        return self.fitted.log_prob(X, y)

    def crps(self, X, y):
        """Return the CRPS of each row, in the unit of y."""
        law = self.fitted.predict_distribution(X)
        gate = np.exp(law.log_gate)
        mean = np.stack(law.params, axis=1)
        variance = [np.broadcast_to(s, len(y)) for s in law.dispersions]
        return crps_mixture(y, gate, mean, np.stack(variance, axis=1))


def gaussian_log_prob(error, variance):
    """Return the log density of errors of a Gaussian of mean zero, in nats."""
    return -0.5 * (np.log(2.0 * np.pi * variance) + error * error / variance)


def expected_distance(centre, deviation):
    """Return E|Z| for a Gaussian Z: A(m, s2) of Grimit et al. (2006)."""
    z = centre / deviation
    density = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return centre * (2.0 * ndtr(z) - 1.0) + 2.0 * deviation * density


def crps_gaussian(error, deviation):
    """Return the CRPS of a Gaussian law at y, of the shape of `error` = y - mean."""
    return expected_distance(error, deviation) - deviation / np.sqrt(np.pi)


def crps_mixture(y, gate, mean, variance):
    """Return the CRPS of a mixture of Gaussians at y.

    ``sum_k g_k A(y - m_k, v_k) - 1/2 sum_kl g_k g_l A(m_k - m_l, v_k + v_l)`` with
    ``A(m, v) = E|Z|`` of a Gaussian (Grimit et al. 2006, equation 5). Rows go in
    blocks and the second sum component by component, so that memory grows with
    rows x components and not with their square.

    Parameters
    ----------
    y : array of shape (n_samples,)
    gate, mean, variance : arrays of shape (n_samples, n_components)

    Returns
    -------
    crps : array of shape (n_samples,), in the unit of y
    """
    crps = np.empty(len(y))
    for start in range(0, len(y), CRPS_ROWS):
        rows = slice(start, start + CRPS_ROWS)
        crps[rows] = _crps_block(y[rows], gate[rows], mean[rows], variance[rows])
    return crps


def _crps_block(y, gate, mean, variance):
    error = y[:, None] - mean
    total = (gate * expected_distance(error, np.sqrt(variance))).sum(axis=1)
    for k in range(gate.shape[1]):
        # Pairs k < l count twice, so that the half in front of the sum goes; a
        # pair of one component has A(0, 2 v) = 2 sqrt(v / pi), times that half.
        total -= gate[:, k] ** 2 * np.sqrt(variance[:, k] / np.pi)
        spread = np.sqrt(variance[:, k, None] + variance[:, k + 1 :])
        apart = expected_distance(mean[:, k, None] - mean[:, k + 1 :], spread)
        total -= gate[:, k] * (gate[:, k + 1 :] * apart).sum(axis=1)
    return total


def fold_scores(model, X, y, task):
    """Return {score, log_score, seconds} and, for regression, rmse and crps."""
    predicted = model.predict(X)
    score = r2_score if task == "reg" else accuracy_score
    scores = {
        "score": float(score(y, predicted)),
        "log_score": float(np.mean(model.log_prob(X, y))),
        "seconds": model.seconds_,
    }
    if task == "reg":
        scores["rmse"] = float(np.sqrt(np.mean((y - predicted) ** 2)))
        scores["crps"] = float(np.mean(model.crps(X, y)))
    return scores


def mean_and_error(values):
    """Return the mean over folds and its standard error."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def summarise(name, result):
    """Return one table row, all numbers, from the results of its folds.

    Parameters
    ----------
    name : str
    result : dict
        `task`, `n`, `d` and `models`: {model: list of the scores of each fold}.

    Returns
    -------
    row : dict
        Means as `MODEL_KEY`, standard errors as `MODEL_KEY_error`; seconds have none.
    """
    row = {"table": name, "n": result["n"], "d": result["d"], "task": result["task"]}
    row["kind"] = "R2" if result["task"] == "reg" else "accuracy"
    for model, folds in result["models"].items():
        for key in folds[0]:
            mean, error = mean_and_error([fold[key] for fold in folds])
            row[f"{model}_{key}"] = mean
            if key != "seconds":
                row[f"{model}_{key}_error"] = error
    return row
