"""Cross-conformal prediction: each row held out of one fit."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import fit_context, safe_indexing
from skmoe.conformal._base import BaseConformalMixture
from skmoe.conformal._calibrated import Fold, check_enough
from skmoe.conformal._models import fitted

__all__ = ["CrossConformalMixture"]


class CrossConformalMixture(BaseConformalMixture):
    """Sets of nearly guaranteed coverage from all rows, each held out of one fit.

    For small tables, where rows for calibration are dear: K mixtures are fitted, each
    without one fold, and every row is compared with under the mixture that has not seen
    it. A new response belongs to the set of its row if, of all n rows,

        (1 + sum_k #{i in fold k : S_i >= s_k(x, y)}) / (n + 1) > 1 - level,

    where s_k is its score under mixture k: cross-conformal prediction (Vovk 2015). With
    ``method="quantile"`` and "cdf" the shortest interval around that set is returned,
    as CV+ does (Barber et al. 2021). The sum is n + K times the mean of K p-values of
    split conformal prediction less K - 1, and twice a mean of p-values is one (Vovk and
    Wang 2020). So with equal folds of exchangeable rows, whatever the mixture, and with
    both kinds of weights,

        P(y in set) >= 2 level - 1 - 2 level (K - 1) / (n + K);

    in practice it is close to the level unless the fits are unstable.

    Parameters
    ----------
    estimator : None or regressor, default=None
        As for `SplitConformalMixture`, but not a `FrozenEstimator`, which would have
        seen the rows.
    method : {"quantile", "cdf", "highest-density"}, default="quantile"
        As for `SplitConformalMixture`.
    weights : {"uniform", "gate"}, default="uniform"
        As for `SplitConformalMixture`; each fold uses the gate of its own mixture, and
        needs some rows of each regime, or sets become the whole line.
    level : float, default=0.9
        Probability in (0, 1).
    cv : int, splitter or iterable, default=5
        Number of folds, of rows in random order; or what yields pairs of train and test
        rows. Each row must be tested once. As many folds as rows is jackknife+.
    random_state : int, RandomState instance or None, default=None
        The order of the rows.
    n_jobs : int or None, default=None
        Processes for the fits.

    Attributes
    ----------
    estimators_ : list of fitted estimators
        One for each fold.
    n_calibration_ : float
        Total weight of the rows.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Vovk, V. (2015). Cross-conformal predictors. Annals of Mathematics and Artificial
    Intelligence 74.
    Vovk, V. and Wang, R. (2020). Combining p-values via averaging. Biometrika 107.
    Barber, R. F., Candes, E., Ramdas, A. and Tibshirani, R. (2021). Predictive
    inference with the jackknife+. Annals of Statistics 49.

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.conformal import CrossConformalMixture
    >>> from skmoe.datasets import load_mcycle
    >>> X, y = load_mcycle(return_X_y=True)
    >>> mixture = MixtureOfExpertsRegressor(init="kmeans", random_state=0)
    >>> model = CrossConformalMixture(mixture, method="cdf", random_state=0)
    >>> interval = model.fit(X, y).predict_interval([[5.0], [30.0]])
    >>> rest, swing = interval[:, 1] - interval[:, 0]  # in g
    >>> bool(rest < 0.5 * swing)
    True
    """

    _parameter_constraints: ClassVar = {
        **BaseConformalMixture._parameter_constraints,
        "cv": "no_validation",
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        method="quantile",
        weights="uniform",
        level=0.9,
        cv=5,
        random_state=None,
        n_jobs=None,
    ):
        self.estimator = estimator
        self.method = method
        self.weights = weights
        self.level = level
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit a mixture without each fold, and calibrate with all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows, in the fits and in the calibration.

        Returns
        -------
        self : estimator

        Raises
        ------
        TypeError
            If the estimator is no mixture regressor.
        ValueError
            If an argument or the data are not as described, the estimator is frozen,
            or the rows are too few for the level.
        """
        model, X, y, weight = self._start(X, y, sample_weight)
        if isinstance(model, FrozenEstimator):
            raise ValueError(
                "CrossConformalMixture fits the estimator anew for each fold, and got "
                "a FrozenEstimator: calibrate it with SplitConformalMixture, on rows "
                "that it has not seen."
            )
        check_enough(self.level, weight.sum())
        folds = self._divide(X, y)
        self._folds = Parallel(n_jobs=self.n_jobs)(
            delayed(_fold)(model, X, y, weight, sample_weight is not None, train, test)
            for train, test in folds
        )
        self.estimators_ = [fold.model for fold in self._folds]
        self.n_calibration_ = float(weight.sum())
        self._seen_by(self.estimators_[0])
        return self

    def _divide(self, X, y):
        """Return pairs of training and test rows.

        Raises
        ------
        ValueError
            If some row is not tested once.
        """
        cv = self.cv
        if isinstance(cv, Integral) and 2 <= cv <= y.size:
            rng = check_random_state(self.random_state)
            cv = KFold(int(cv), shuffle=True, random_state=rng)
        folds = list(check_cv(cv).split(X, y))
        tested = np.bincount(np.concatenate([test for _, test in folds]))
        if not np.array_equal(tested, np.ones(y.size)):
            raise ValueError(
                f"cv must test each of the {y.size} rows once, got {self.cv!r}: use "
                "a number of folds, KFold, or pairs of train and test rows."
            )
        return folds

    def predict(self, X):
        """Return the mean of the folds' point predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
        """
        check_is_fitted(self)
        return np.mean([model.predict(X) for model in self.estimators_], axis=0)


def _fold(model, X, y, weight, weighted, train, test):
    """Fit a model to the rows of one part, and hold it against the others."""
    model = fitted(
        model,
        safe_indexing(X, train),
        y[train],
        weight[train] if weighted else None,
    )
    return Fold(model, safe_indexing(X, test), y[test], weight[test])
