"""Split conformal prediction: calibration rows that the mixture has not seen."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import Interval, RealNotInt, fit_context, safe_indexing
from skmoe.conformal._base import BaseConformalMixture
from skmoe.conformal._calibrated import Fold, check_enough
from skmoe.conformal._models import checked_rows, fitted
from skmoe.distribution import check_level

__all__ = ["SplitConformalMixture"]


class SplitConformalMixture(BaseConformalMixture):
    """Sets of guaranteed coverage from a mixture and rows it was not fitted to.

    Some rows are held out of the fit. A new response belongs to the set of its row if
    it is not stranger than all but a share of 1 - level of them (Papadopoulos et al.
    2002). If the rows are exchangeable, and whatever the mixture,

        level <= P(y in set) <= level + 1 / (n_calibration + 1),

    the right side where no two scores are equal. The probability is over new rows
    and calibration rows together; it says nothing of a given x. A mixture that is
    wrong has sets that are too long, not too short.

    Parameters
    ----------
    estimator : None or regressor, default=None
        A mixture regressor, flat, hierarchical or a forest; a `Pipeline` or a search
        that ends in one; or a fitted one in a `FrozenEstimator`: then all rows are for
        calibration. None: `MixtureOfExpertsRegressor`.
    method : {"quantile", "cdf", "highest-density"}, default="quantile"
        What is strange. "quantile": distance from the law's own interval, so that
        all intervals grow by one length (Romano et al. 2019). "cdf": distance from the
        median in probability, so that each grows by its own law (Chernozhukov et al.
        2021). "highest-density": the probability of what is denser, whose sets are
        unions of intervals, short where the law has several modes (Izbicki et al.
        2022). All are kept at once: it may be changed after the fit.
    weights : {"uniform", "gate"}, default="uniform"
        "gate": a row is compared with rows of similar gate probabilities, so that
        where one regime is noisier than its expert says, only its own sets grow
        (localised conformal prediction, Guan 2023). The bounds above hold, the right
        one where no two ranks among similar rows are equal.
    level : float, default=0.9
        Probability in (0, 1).
    calibration_size : int or float, default=0.25
        Number or share of the rows that are held out.
    random_state : int, RandomState instance or None, default=None
        Which rows are held out.

    Attributes
    ----------
    estimator_ : fitted estimator
    n_calibration_ : float
        Total weight of the calibration rows.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Papadopoulos, H., Proedrou, K., Vovk, V. and Gammerman, A. (2002). Inductive
    confidence machines for regression. ECML.
    Romano, Y., Patterson, E. and Candes, E. (2019). Conformalized quantile regression.
    NeurIPS 32.
    Chernozhukov, V., Wuethrich, K. and Zhu, Y. (2021). Distributional conformal
    prediction. PNAS 118.
    Izbicki, R., Shimizu, G. and Stern, R. (2022). CD-split and HPD-split: efficient
    conformal regions in high dimensions. JMLR 23.
    Guan, L. (2023). Localized conformal prediction: a generalized inference framework
    for conformal prediction. Biometrika 110.

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.conformal import SplitConformalMixture
    >>> from skmoe.datasets import make_two_valued
    >>> X, y = make_two_valued(800, random_state=0)
    >>> model = SplitConformalMixture(
    ...     MixtureOfExpertsRegressor(init="kmeans", random_state=0),
    ...     method="highest-density",
    ...     random_state=0,
    ... ).fit(X, y)
    >>> model.predict_interval([[0.5]]).n_pieces  # elbow up, or elbow down
    array([2])
    """

    _parameter_constraints: ClassVar = {
        **BaseConformalMixture._parameter_constraints,
        "calibration_size": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
    }

    def __init__(
        self,
        estimator=None,
        *,
        method="quantile",
        weights="uniform",
        level=0.9,
        calibration_size=0.25,
        random_state=None,
    ):
        self.estimator = estimator
        self.method = method
        self.weights = weights
        self.level = level
        self.calibration_size = calibration_size
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the mixture to some of the rows, and calibrate it with the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows, in the fit and in the calibration.

        Returns
        -------
        self : estimator

        Raises
        ------
        TypeError
            If the estimator is no mixture regressor.
        ValueError
            If an argument or the data are not as described, or the calibration rows
            are too few for the level.
        """
        model, X, y, weight = self._start(X, y, sample_weight)
        if isinstance(model, FrozenEstimator):
            train, held = np.arange(0), np.arange(y.size)
        else:
            train, held = self._divide(y.size)
        check_enough(self.level, weight[held].sum())
        self.estimator_ = fitted(
            model,
            safe_indexing(X, train),
            y[train],
            None if sample_weight is None else weight[train],
        )
        self._seen_by(self.estimator_)
        return self._hold(safe_indexing(X, held), y[held], weight[held])

    def calibrate(self, X, y, sample_weight=None):
        """Calibrate the fitted mixture anew, with other rows.

        They must be new to it. What has been learned of the earlier ones is dropped.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If the rows are too few for the level.
        """
        check_is_fitted(self)
        X, y, weight = checked_rows(X, y, sample_weight)
        check_enough(check_level(self.level), weight.sum())
        return self._hold(X, y, weight)

    def _hold(self, X, y, weight):
        self._folds = [Fold(self.estimator_, X, y, weight)]
        self.n_calibration_ = float(weight.sum())
        return self

    def _divide(self, n_rows):
        """Return the positions of rows to fit to and of rows to calibrate with.

        Raises
        ------
        ValueError
            If there would be none to fit to, or none to calibrate with.
        """
        size = self.calibration_size
        n_held = round(size * n_rows) if isinstance(size, float) else int(size)
        if not 0 < n_held < n_rows:
            raise ValueError(
                f"calibration_size={size} of n_samples={n_rows} rows leaves none to "
                "fit to or none to calibrate with."
            )
        order = check_random_state(self.random_state).permutation(n_rows)
        return np.sort(order[n_held:]), np.sort(order[:n_held])

    def predict(self, X):
        """Return the point prediction of the fitted mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)
