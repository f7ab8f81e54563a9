"""Flat mixtures of experts: one gate over K experts."""

from skmoe._base import BaseMixtureOfExperts
from skmoe._predictions import ClassificationMixture, RegressionMixture

__all__ = ["MixtureOfExpertsClassifier", "MixtureOfExpertsRegressor"]


class MixtureOfExpertsRegressor(RegressionMixture, BaseMixtureOfExperts):
    """Mixture of regressions whose weights depend on x, fitted by EM.

    The predictive law of a row is ``p(y | x) = sum_k g_k(x) p_k(y | x)``: the
    gate g says how far each expert is to be trusted at x, and each expert p_k is
    a regression with its own noise.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LinearExpert`.
    n_experts : int, default=4
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        None: `SoftmaxGate`. A classifier that takes ``sample_weight`` is adapted
        by `ClassifierGate`.
    pooling : {"mean", "top1", "mode"}, default="mean"
        Point of the law that ``predict`` returns: gate-weighted mean, the mean of
        the most probable expert, or the point of highest density.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable experts of each row, and
        renormalise their gate probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gate sees; None for all.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "kmeans", "segments", "tree",
        "gaussian" and "random" are its kinds. An array holds labels of shape
        (n_samples,) or responsibilities of shape (n_samples, n_experts); a
        callable ``init(X, y, n_experts, random_state)`` returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and
        more random ones the fewer the rows; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem", "stack", "gradient", "em+gradient"}, default="em"
        Soft, hard (classification) or stochastic EM; "stack" fits every expert
        to all rows and the gate to out-of-fold predictions. With `TorchExpert` and
        `TorchGate`, "gradient" trains all end to end on the likelihood, from the
        start that EM would take, and "em+gradient" lets that follow EM; a pass then has
        the epochs of an expert's M-step.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    balance : float, "cap" or None, default=None
        Keeps all experts in use. A number is a Dirichlet prior on how much the gate
        uses each expert, worth so many rows spread evenly over them; "cap" lets no
        expert take more than ``capacity * n_samples / n_experts`` rows of
        responsibility.
    capacity : float, default=1.25
        At least 1, which gives every expert the same share. For ``balance="cap"``.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories: those of categorical type in a data frame, or their
        positions or names, or a mask. Gates and linear experts see one indicator for
        each category; one that fit did not see is a gap. Gaps (NaN) of numbers take
        the column's mean, with an indicator where fit saw gaps.
    unlabelled : label, default=None
        The value of y that marks rows without a response, such as -1; NaN always
        does.
    device : str or torch.device, default=None
        Where to work on the rows: "cuda" moves a table there once and brings the
        results back. None: where X is. Gate and experts must take tensors.
    checkpoint : path or None, default=None
        A file that a fit of `TorchExpert` parts replaces after each pass. A later fit
        with the same settings on the same data goes on from it, to the result of a fit
        that was not interrupted. The file is removed once the fit is done.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one, and from the
        weights of neural parts, of which Ctrl-C then leaves the best pass so far.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    gate_ : fitted gate
    experts_ : list of fitted experts
    expert_names_ : list of str
    node_ : the engine's node of gate and experts
    n_iter_ : int
        Passes over the rows of the winning start.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J. and Hinton, G. E. (1991). Adaptive
    mixtures of local experts. Neural Computation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> model = MixtureOfExpertsRegressor(n_experts=2).fit(X, y)
    >>> model.predict([[-0.5], [0.5]]).round(1)
    array([0.5, 0.5])
    >>> model.gate_proba([[-0.5], [0.5]]).argmax(axis=1).tolist()
    [0, 1]
    """


class MixtureOfExpertsClassifier(ClassificationMixture, BaseMixtureOfExperts):
    """Mixture of classifiers whose weights depend on x, fitted by EM.

    The law of a row is ``p(c | x) = sum_k g_k(x) p_k(c | x)``: the gate g says
    how far each expert is to be trusted at x, and each expert p_k is a
    probabilistic classifier.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LogisticExpert`.
    n_experts : int, default=4
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        None: `SoftmaxGate`. A classifier that takes ``sample_weight`` is adapted
        by `ClassifierGate`.
    pooling : {"mean", "top1", "mode", "vote"}, default="mean"
        How the experts' probabilities are combined; see ``predict_proba``.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable experts of each row, and
        renormalise their gate probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gate sees; None for all.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "kmeans", "segments", "tree",
        "gaussian" and "random" are its kinds. An array holds labels of shape
        (n_samples,) or responsibilities of shape (n_samples, n_experts); a
        callable ``init(X, y, n_experts, random_state)`` returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and
        more random ones the fewer the rows; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem", "stack", "gradient", "em+gradient"}, default="em"
        Soft, hard (classification) or stochastic EM; "stack" fits every expert
        to all rows and the gate to out-of-fold predictions. With `TorchExpert` and
        `TorchGate`, "gradient" trains all end to end on the likelihood, from the
        start that EM would take, and "em+gradient" lets that follow EM; a pass then has
        the epochs of an expert's M-step.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    balance : float, "cap" or None, default=None
        Keeps all experts in use. A number is a Dirichlet prior on how much the gate
        uses each expert, worth so many rows spread evenly over them; "cap" lets no
        expert take more than ``capacity * n_samples / n_experts`` rows of
        responsibility.
    capacity : float, default=1.25
        At least 1, which gives every expert the same share. For ``balance="cap"``.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories: those of categorical type in a data frame, or their
        positions or names, or a mask. Gates and linear experts see one indicator for
        each category; one that fit did not see is a gap. Gaps (NaN) of numbers take
        the column's mean, with an indicator where fit saw gaps.
    unlabelled : label, default=None
        The value of y that marks rows without a response, such as -1; NaN always
        does.
    device : str or torch.device, default=None
        Where to work on the rows: "cuda" moves a table there once and brings the
        results back. None: where X is. Gate and experts must take tensors.
    checkpoint : path or None, default=None
        A file that a fit of `TorchExpert` parts replaces after each pass. A later fit
        with the same settings on the same data goes on from it, to the result of a fit
        that was not interrupted. The file is removed once the fit is done.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one, and from the
        weights of neural parts, of which Ctrl-C then leaves the best pass so far.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    gate_ : fitted gate
    experts_ : list of fitted experts
    expert_names_ : list of str
    node_ : the engine's node of gate and experts
    n_iter_ : int
        Passes over the rows of the winning start.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts and
    the EM algorithm. Neural Computation 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsClassifier
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.where(np.abs(X[:, 0]) > 0.5, "outside", "inside")
    >>> model = MixtureOfExpertsClassifier(n_experts=2).fit(X, y)
    >>> model.predict([[-0.9], [0.0], [0.9]]).tolist()
    ['outside', 'inside', 'outside']
    """
