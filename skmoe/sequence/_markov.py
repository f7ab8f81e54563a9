"""The Markov mixtures of experts."""

from skmoe.sequence._base import BaseMarkovMixture
from skmoe.sequence._forecast import Forecaster
from skmoe.sequence._predictions import ClassificationChain, RegressionChain
from skmoe.sequence._regimes import RegimeReader
from skmoe.sequence._states import StateReader

__all__ = ["MarkovMixtureOfExpertsClassifier", "MarkovMixtureOfExpertsRegressor"]


class MarkovMixtureOfExpertsRegressor(
    RegressionChain, Forecaster, RegimeReader, StateReader, BaseMarkovMixture
):
    """Markov mixture of regressions: a row's expert depends on that of the row before.

    A sequence of rows (x_t, y_t) goes through hidden regimes, the experts. Expert j has
    row t with probability ``a_ij(x_t)`` where expert i had the row before, and then
    ``p_j(y_t | x_t)`` is the law of its response. Each row of a is a gate of its own,
    fitted by the same code as that of a flat mixture; with a `ConstantGate` the model
    is a hidden Markov regression, also known as a Markov switching regression.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LinearExpert`.
    n_experts : int, default=2
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        Cloned for each expert of the row before. None: `SoftmaxGate`;
        ``ConstantGate(alpha=0.5)``, which adds half a move to each, where
        ``gate_features`` is an empty list.
    initial_gate : None, gate or classifier, default=None
        For the first row of a sequence. None: ``ConstantGate(alpha=0.5)``, half a
        sequence more that begins with each expert. ``ConstantGate()`` is maximum
        likelihood.
    order : {0, 1}, default=1
        How many earlier rows the gate knows. 0 is the flat mixture.
    pooling : {"mean", "mode", "top1"}, default="mean"
        How the experts' predictions are combined.
    gate_features, initial_features, expert_features : default=None
        The columns that transitions, initial gate and experts see: a sequence of int
        or str, or a slice. None for all; an empty list for none: constants.
    continues : bool, default=False
        Whether rows given to a fitted model go on where the training rows ended, as in
        cross-validation on time. False: a sequence begins with the initial gate. The
        argument ``previous`` of a method says it for one call.
    init : str, array or callable, default="auto"
        "auto" races regressions on windows of rows, in which one expert is likely
        alone, with the starts of the flat mixtures, whose names can be given as well;
        an array holds labels or responsibilities.
    n_init : int or None, default=None
        Number of starts, filled up with random ones.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    acceleration : {"auto", "squarem"} or None, default="auto"
        SQUAREM where all parts are parametric, or plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories, as for the flat mixtures. Gaps (NaN) of numbers take the
        column's mean, with an indicator where fit saw gaps.
    unlabelled : label, default=None
        A value of y that marks rows without a response; NaN always does.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0

    Attributes
    ----------
    initial_gate_ : fitted gate, or None where order=0
    transition_gates_ : list of fitted gates
        One for each expert of the row before; a single one where order=0.
    experts_ : list of fitted experts
    expert_names_ : list of str
    final_state_proba_ : array of shape (n_sequences, n_experts)
        Law of the expert in the last row of each training sequence, given all of its
        responses: where forecasts go on. Sequences of weight zero are not there.
    n_iter_ : int
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    See Also
    --------
    MixtureOfExpertsRegressor : The same without a memory.

    References
    ----------
    Meila, M. and Jordan, M. I. (1996). Learning fine motion by Markov mixtures of
    experts. NIPS 8.
    Bengio, Y. and Frasconi, P. (1995). An input output HMM architecture. NIPS 7.
    Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary
    time series and the business cycle. Econometrica 57.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.sequence import MarkovMixtureOfExpertsRegressor
    >>> rng = np.random.default_rng(0)
    >>> regime = np.repeat([0, 1, 0, 1], 50)
    >>> X = rng.normal(size=(200, 1))
    >>> y = np.where(regime == 0, 2.0, -2.0) * X[:, 0] + rng.normal(0, 0.3, 200)
    >>> model = MarkovMixtureOfExpertsRegressor(random_state=0).fit(X, y)
    >>> changes = np.flatnonzero(np.diff(model.decode(X, y))) + 1
    >>> changes.tolist()
    [50, 100, 152]
    """


class MarkovMixtureOfExpertsClassifier(
    ClassificationChain, Forecaster, RegimeReader, StateReader, BaseMarkovMixture
):
    """Markov mixture of classifiers: a row's expert depends on that of the row before.

    A sequence of rows (x_t, y_t) goes through hidden regimes, the experts. Expert j has
    row t with probability ``a_ij(x_t)`` where expert i had the row before, and then
    ``p_j(c | x_t)`` are the probabilities of its class. Each row of a is a gate of its
    own, fitted by the same code as that of a flat mixture; with a `ConstantGate`
    transitions do not depend on inputs.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LogisticExpert`.
    n_experts : int, default=2
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        Cloned for each expert of the row before. None: `SoftmaxGate`;
        ``ConstantGate(alpha=0.5)``, which adds half a move to each, where
        ``gate_features`` is an empty list.
    initial_gate : None, gate or classifier, default=None
        For the first row of a sequence. None: ``ConstantGate(alpha=0.5)``, half a
        sequence more that begins with each expert. ``ConstantGate()`` is maximum
        likelihood.
    order : {0, 1}, default=1
        How many earlier rows the gate knows. 0 is the flat mixture.
    pooling : {"mean", "mode", "top1", "vote"}, default="mean"
        How the experts' predictions are combined.
    gate_features, initial_features, expert_features : default=None
        The columns that transitions, initial gate and experts see: a sequence of int
        or str, or a slice. None for all; an empty list for none: constants.
    continues : bool, default=False
        Whether rows given to a fitted model go on where the training rows ended, as in
        cross-validation on time. False: a sequence begins with the initial gate. The
        argument ``previous`` of a method says it for one call.
    init : str, array or callable, default="auto"
        "auto" races regressions on windows of rows, in which one expert is likely
        alone, with the starts of the flat mixtures, whose names can be given as well;
        an array holds labels or responsibilities.
    n_init : int or None, default=None
        Number of starts, filled up with random ones.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    acceleration : {"auto", "squarem"} or None, default="auto"
        SQUAREM where all parts are parametric, or plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories, as for the flat mixtures. Gaps (NaN) of numbers take the
        column's mean, with an indicator where fit saw gaps.
    unlabelled : label, default=None
        A value of y that marks rows without a response; NaN always does.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    initial_gate_ : fitted gate, or None where order=0
    transition_gates_ : list of fitted gates
        One for each expert of the row before; a single one where order=0.
    experts_ : list of fitted experts
    expert_names_ : list of str
    final_state_proba_ : array of shape (n_sequences, n_experts)
        Law of the expert in the last row of each training sequence, given all of its
        responses: where forecasts go on. Sequences of weight zero are not there.
    n_iter_ : int
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    See Also
    --------
    MixtureOfExpertsClassifier : The same without a memory.

    References
    ----------
    Meila, M. and Jordan, M. I. (1996). Learning fine motion by Markov mixtures of
    experts. NIPS 8.
    Bengio, Y. and Frasconi, P. (1995). An input output HMM architecture. NIPS 7.
    Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary
    time series and the business cycle. Econometrica 57.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.sequence import MarkovMixtureOfExpertsClassifier
    >>> rng = np.random.default_rng(0)
    >>> regime = np.repeat([0, 1, 0, 1], 50)
    >>> X = rng.normal(size=(200, 1))
    >>> y = np.where((X[:, 0] > 0) == (regime == 0), "up", "down")
    >>> model = MarkovMixtureOfExpertsClassifier(random_state=0).fit(X, y)
    >>> model.predict([[1.0], [1.0]], previous=model.filter(X, y)[-1]).tolist()
    ['down', 'down']
    """
