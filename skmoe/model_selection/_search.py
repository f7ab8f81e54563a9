"""The search for the number of experts, as a scikit-learn estimator."""

import time
import warnings
from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import HasMethods, StrOptions, few_threads, fit_context
from skmoe._xp import to_numpy
from skmoe.model_selection._bound import BoundMixture, announce
from skmoe.model_selection._criteria import first_within_one_error, slope_criterion
from skmoe.model_selection._delegation import DelegatedPrediction
from skmoe.model_selection._path import MergedPath
from skmoe.model_selection._request import (
    GivenRows,
    check_estimator,
    check_sizes,
    make_folds,
)
from skmoe.model_selection._sweep import Sweep

__all__ = ["MixtureOfExpertsSearch", "select_n_experts"]

METHODS = ("aic", "bic", "cv", "dendrogram", "icl", "slope")


class MixtureOfExpertsSearch(DelegatedPrediction, MetaEstimatorMixin, BaseEstimator):
    """Choose the number of experts of a flat mixture, and fit it.

    Parameters
    ----------
    estimator : MixtureOfExpertsRegressor or MixtureOfExpertsClassifier
        Its experts must be clones of one estimator.
    n_experts : int or iterable of int, default=8
        The numbers to choose from; an integer stands for 1, ..., n_experts.
    method : {"cv", "bic", "icl", "aic", "slope", "dendrogram"}, default="cv"
        - "cv": the best held-out log score. For prediction.
        - "bic", "icl", "aic": the least criterion of the fits to all rows. BIC looks
          for the law, ICL for well separated experts; AIC is generous.
        - "slope": the penalty is learned from how the likelihood of the largest fits
          rises with their parameters. Needs five numbers or more.
        - "dendrogram": one fit, with the largest number; then the closest pair of
          experts is merged, again and again, with some EM in between, down to one. Of
          this path the least BIC is taken and refitted: much faster than a sweep.
    cv : int, cross-validation generator or iterable, default=5
        Folds, for "cv". Those of an integer are shuffled, spread classes evenly and
        keep groups together.
    one_standard_error : bool, default=False
        For "cv": take the smallest number whose score is within one standard error
        (over the folds) of the best.
    random_state : int, RandomState instance or None, default=None
        Shuffles the folds, and seeds the fits of an estimator that has no seed itself.
    n_jobs : int or None, default=None
        Processes that share the folds, and the fits of a sweep.
    verbose : int, default=0
        1 prints the table that the choice was made from.

    Attributes
    ----------
    best_estimator_ : fitted mixture
        With the chosen number of experts, fitted to all rows.
    best_n_experts_ : int
    best_index_ : int
        Its place in ``cv_results_``.
    cv_results_ : dict of arrays of shape (n_candidates,)
        By rising number of experts: "param_n_experts", "params"; "n_experts_left",
        which is less where experts lost their rows; "log_likelihood" (nats),
        "n_parameters", "aic", "bic" and "icl" of the fits to all rows; "fit_time"
        (seconds, all starts together); "criterion", what is minimised, and
        "rank_test_score". With "cv" also "mean_test_score", "std_test_score" and
        "split0_test_score" ...: held-out log density in nats per row.
    best_score_ : float
        Held-out log score of the chosen number. With "cv" only.
    n_splits_ : int
        Number of folds. With "cv" only.
    slope_ : float
        In nats a parameter. With "slope" only.
    dendrogram_ : Dendrogram
        With "dendrogram" only; then ``fit_time`` is that of the whole path, and
        ``cv_results_`` has the levels of the path.
    refit_time_ : float
        Seconds of the whole search.
    classes_, n_features_in_, feature_names_in_ :
        Of the best estimator.

    See Also
    --------
    select_n_experts : The same as a function.

    References
    ----------
    Do, D., Do, L., McKinley, S. A., Terhorst, J. and Nguyen, X. (2024). Dendrogram of
    mixing measures: hierarchical clustering and model selection for finite mixture
    models. arXiv 2403.01684.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.model_selection import MixtureOfExpertsSearch
    >>> rng = np.random.default_rng(0)
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.abs(X[:, 0]) + 0.05 * rng.standard_normal(200)
    >>> search = MixtureOfExpertsSearch(
    ...     MixtureOfExpertsRegressor(), n_experts=4, method="dendrogram"
    ... )
    >>> search.fit(X, y).best_n_experts_
    2
    """

    _parameter_constraints: ClassVar = {
        "estimator": [HasMethods(["fit", "get_params"])],
        "n_experts": "no_validation",
        "method": [StrOptions(set(METHODS))],
        "cv": ["cv_object"],
        "one_standard_error": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        n_experts=8,
        *,
        method="cv",
        cv=5,
        one_standard_error=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.n_experts = n_experts
        self.method = method
        self.cv = cv
        self.one_standard_error = one_standard_error
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        for name in (
            "estimator_type",
            "classifier_tags",
            "regressor_tags",
            "target_tags",
            "input_tags",
        ):
            setattr(tags, name, getattr(inner, name))
        return tags

    def get_metadata_routing(self):
        """Return which metadata ``fit`` takes and passes on to the mixture.

        Returns
        -------
        routing : MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    # -- fit -----------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        groups=None,
        offset=None,
        trials=None,
        **fit_params,
    ):
        """Choose the number of experts and fit the mixture to all rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows, in fits, criteria and scores.
        groups : array-like of shape (n_samples,), default=None
            All rows of a group share one responsibility, and stay in one fold.
        offset, trials : array-like of shape (n_samples,), default=None
            As of the mixture's ``fit``.
        **fit_params : dict
            More arguments of the mixture's ``fit``.

        Returns
        -------
        self : MixtureOfExpertsSearch

        Raises
        ------
        TypeError
            If the estimator has no ``n_experts``, or they are not integers.
        ValueError
            If there is nothing to choose from, or more than the rows allow.
        """
        begin = time.perf_counter()
        check_estimator(self.estimator)
        sizes = check_sizes(self.n_experts, self.method)
        rng = check_random_state(self.random_state)
        estimator = clone(self.estimator)
        if estimator.random_state is None and self.random_state is not None:
            estimator.set_params(random_state=int(rng.randint(np.iinfo(np.int32).max)))
        beside = {"groups": groups, "offset": offset, "trials": trials}
        rows = GivenRows(X, y, sample_weight, beside, fit_params)
        for name in ("best_score_", "n_splits_", "slope_", "dendrogram_"):
            vars(self).pop(name, None)  # of an earlier fit
        with (
            few_threads(np.asarray(to_numpy(y)).size),
            warnings.catch_warnings(),
        ):
            # What fits report that are not chosen is of no interest. Workers get
            # these filters from here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if self.method == "dendrogram":
                self._merge(estimator, rows, sizes)
            else:
                self._sweep(estimator, rows, sizes, rng)
        self.best_n_experts_ = len(self.best_estimator_.experts_)
        self.refit_time_ = time.perf_counter() - begin
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            vars(self).pop(name, None)
            if hasattr(self.best_estimator_, name):
                setattr(self, name, getattr(self.best_estimator_, name))
        announce(self.best_estimator_)
        if self.verbose:
            print(self.to_frame().to_string())
        return self

    def _merge(self, estimator, rows, sizes):
        path = MergedPath.of(estimator, rows, sizes)
        self.best_estimator_, self.dendrogram_ = path.model, path.dendrogram
        seconds = dict.fromkeys(path.evidences, path.seconds)
        self._set_results(path.evidences, seconds)
        self._choose(self.cv_results_["bic"])

    def _sweep(self, estimator, rows, sizes, rng):
        sweep = Sweep(estimator, rows, sizes, self.n_jobs)
        models = sweep.models
        evidences = {size: BoundMixture(models[size]).evidence() for size in sizes}
        self._set_results(evidences, sweep.seconds)
        results = self.cv_results_
        if self.method == "cv":
            self._cross_validate(estimator, rows, sizes, rng)
        elif self.method == "slope":
            criterion, self.slope_ = slope_criterion(
                results["log_likelihood"], results["n_parameters"]
            )
            self._choose(criterion)
        else:
            self._choose(results[self.method])
        self.best_estimator_ = models[sizes[self.best_index_]]

    def _cross_validate(self, estimator, rows, sizes, rng):
        """Choose by the log score of rows that were held out."""
        folds = make_folds(self.cv, estimator, rows, rng)
        scores = Parallel(n_jobs=self.n_jobs)(
            delayed(_fold_scores)(estimator, rows.take(train), rows.take(test), sizes)
            for train, test in folds
        )
        scores = np.array(scores)
        mean, std = scores.mean(axis=0), scores.std(axis=0)
        splits = {f"split{i}_test_score": some for i, some in enumerate(scores)}
        self.cv_results_ |= {"mean_test_score": mean, "std_test_score": std, **splits}
        self.n_splits_ = len(folds)
        self._choose(-mean)
        if self.one_standard_error:
            self.best_index_ = first_within_one_error(mean, std, self.n_splits_)
        self.best_score_ = float(mean[self.best_index_])

    def _set_results(self, evidences, seconds):
        """Set ``cv_results_`` to what fits to all rows say."""
        sizes, found = list(evidences), list(evidences.values())
        self.cv_results_ = {
            "param_n_experts": np.array(sizes),
            "params": [{"n_experts": size} for size in sizes],
            "n_experts_left": np.array([e.n_experts for e in found]),
            "log_likelihood": np.array([e.log_likelihood for e in found]),
            "n_parameters": np.array([e.n_parameters for e in found]),
            "aic": np.array([e.aic for e in found]),
            "bic": np.array([e.bic for e in found]),
            "icl": np.array([e.icl for e in found]),
            "fit_time": np.array([seconds[size] for size in sizes]),
        }

    def _choose(self, criterion):
        """Set what is minimised, the ranks, and the best place."""
        self.cv_results_["criterion"] = criterion
        self.cv_results_["rank_test_score"] = rankdata(criterion, "min").astype(int)
        self.best_index_ = int(np.argmin(criterion))

    def to_frame(self):
        """Return the table that the choice was made from.

        Returns
        -------
        frame : pandas.DataFrame
            ``cv_results_``, one row for each number of experts.
        """
        check_is_fitted(self, "best_estimator_")
        import pandas as pd

        columns = {k: v for k, v in self.cv_results_.items() if k != "params"}
        columns["n_experts"] = columns.pop("param_n_experts")
        return pd.DataFrame(columns).set_index("n_experts")


def _fold_scores(estimator, train, test, sizes):
    """Return the held-out log score of each size, in nats per row."""
    with few_threads(len(train)):
        models = Sweep(estimator, train, sizes).models
    return [test.log_score(models[size]) for size in sizes]


def select_n_experts(
    estimator,
    X,
    y,
    *,
    method="cv",
    n_experts=8,
    cv=5,
    one_standard_error=False,
    sample_weight=None,
    random_state=None,
    n_jobs=None,
    **fit_params,
):
    """Choose the number of experts of a flat mixture.

    Parameters
    ----------
    estimator : MixtureOfExpertsRegressor or MixtureOfExpertsClassifier
        It is left as it is.
    X : array-like or sparse matrix of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    method, n_experts, cv, one_standard_error, random_state, n_jobs :
        As of `MixtureOfExpertsSearch`.
    sample_weight : array-like of shape (n_samples,), default=None
    **fit_params : dict
        More arguments of the mixture's ``fit``: ``groups``, ``offset``, ``trials``.

    Returns
    -------
    search : MixtureOfExpertsSearch
        Fitted: ``best_n_experts_``, ``best_estimator_``, and the table of
        ``to_frame()``.
    """
    search = MixtureOfExpertsSearch(
        estimator,
        n_experts,
        method=method,
        cv=cv,
        one_standard_error=one_standard_error,
        random_state=random_state,
        n_jobs=n_jobs,
    )
    return search.fit(X, y, sample_weight, **fit_params)
