"""Hierarchical mixtures of experts: a tree of gates, an expert in every leaf."""

from skmoe._hierarchy import BaseHierarchy, TopPath
from skmoe._predictions import ClassificationMixture, RegressionMixture

__all__ = [
    "HierarchicalMixtureOfExpertsClassifier",
    "HierarchicalMixtureOfExpertsRegressor",
]


class HierarchicalMixtureOfExpertsRegressor(TopPath, RegressionMixture, BaseHierarchy):
    """Tree of soft splits with a regression in every leaf, fitted by EM.

    The law of a row is ``p(y | x) = sum_i g_i(x) sum_j g_j|i(x) ... p_ij...(y | x)``:
    each gate shares its rows out among its children, and a leaf answers with the
    product of the gates along its path. Splits are soft and may be oblique; the
    whole tree is fitted at once (Jordan & Jacobs 1994).

    Parameters
    ----------
    experts : None, estimator, or nested list, default=None
        One estimator, cloned for every leaf, or an explicit tree: a list is a node,
        its entries are estimators, ``(name, estimator)``, ``(name, estimator,
        columns)`` or lists in turn. A mixture estimator among them is unpacked: a
        node with a gate and columns of its own. Bare scikit-learn estimators are
        adapted by `EstimatorExpert`. None: `LinearExpert`.
    depth : int, default=2
        Levels of gates. Not used for an explicit tree, nor with ``grow``.
    branching : int or sequence of int, default=2
        Children of each node, or one number for each level.
    gate : None, gate or classifier, default=None
        Cloned for every node. None: `SoftmaxGate`. A classifier that takes
        ``sample_weight`` is adapted by `ClassifierGate`.
    pooling : {"mean", "top1", "mode"}, default="mean"
        Point of the law that ``predict`` returns: mean over all leaves, the mean of
        the leaf at the end of the most probable path (whose cost grows with the
        depth, not with the number of leaves), or the point of highest density.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable leaves of each row, and
        renormalise their probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gates see; None for all.
    path_tol : float, default=0.0
        At fit and at prediction, leave out subtrees that a row reaches with less
        probability. The most probable path always stays.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "tree" (a model tree, softened),
        "kmeans" (recursive), "segments", "gaussian" and "random" are its kinds. An
        array holds leaves of shape (n_samples,) or responsibilities of shape
        (n_samples, n_leaves); a callable ``init(X, y, n_leaves, random_state)``
        returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and a
        few random ones where rows are few; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem"}, default="em"
        Soft, hard (classification) or stochastic EM.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    annealing : float or None, default=None
        Begin each start with responsibilities ``(g p)^b``, b rising from this
        value to 1 (deterministic annealing).
    grow : {"posterior", "fritsch"} or None, default=None
        Grow the tree from a single leaf. "posterior" splits every leaf on trial
        and keeps the split that gains most likelihood (Waterhouse & Robinson);
        "fritsch" splits the leaf of lowest likelihood (Fritsch et al.).
    grow_until : {"bic", "holdout", "max_leaves"}, default="bic"
        Keep the grown tree of lowest BIC, of best log score on a fifth of the rows
        held out, or the largest.
    max_leaves : int, default=16
        Most leaves of a grown tree.
    prune : bool, default=True
        Take out leaves that are left with less than one row, and the gates that
        lose their choice with them.
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
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one; a grown tree
        grows on. Interrupted growth then keeps the best tree so far.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for trial splits and for the experts'
        M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    tree_ : Tree
        The shape: children, parent and level of each node. Nodes are numbered
        level by level; ``tree_.leaves`` holds the nodes of the leaves.
    gate_ : GateTree
        ``gates`` holds a fitted gate for each of ``tree_.inner``.
    experts_ : list of fitted experts
        One for each leaf, from left to right.
    expert_names_ : list of str
    leaf_weight_ : array of shape (n_leaves,)
        Weighted rows of each leaf, by responsibility.
    skipped_share_ : float
        Share of pairs of rows and leaves that the last pass of the fit left out.
    growth_ : list of GrowthStep
        With ``grow``: number of leaves, log-likelihood (nats) and criterion of
        each tree on the way.
    node_ : the engine's node of gates and experts
    n_iter_ : int
        Passes over the rows of the winning start: those of the race, of the run to
        convergence and of runs after pruning; of a grown tree those of its last run.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run. With
        ``path_tol`` it may fall where paths are chosen anew.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts and
    the EM algorithm. Neural Computation 6.
    Waterhouse, S. R. and Robinson, A. J. (1996). Constructive algorithms for
    hierarchical mixtures of experts. Advances in Neural Information Processing
    Systems 8.
    Fritsch, J., Finke, M. and Waibel, A. (1997). Adaptively growing hierarchical
    mixtures of experts. Advances in Neural Information Processing Systems 9.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import HierarchicalMixtureOfExpertsRegressor
    >>> X = np.linspace(-3, 3, 4000)[:, None]
    >>> y = np.abs(np.abs(X[:, 0]) - 1.5)
    >>> model = HierarchicalMixtureOfExpertsRegressor(depth=2).fit(X, y)
    >>> model.predict([[-3.0], [-0.5], [0.5], [3.0]]).round(1)
    array([1.5, 1. , 1. , 1.5])
    >>> model.apply([[-3.0], [-0.5], [0.5], [3.0]])
    array([0, 1, 2, 3])
    """


class HierarchicalMixtureOfExpertsClassifier(
    TopPath, ClassificationMixture, BaseHierarchy
):
    """Tree of soft splits with a classifier in every leaf, fitted by EM.

    The law of a row is ``p(c | x) = sum_i g_i(x) sum_j g_j|i(x) ... p_ij...(c | x)``:
    each gate shares its rows out among its children, and a leaf answers with the
    product of the gates along its path. Splits are soft and may be oblique; the
    whole tree is fitted at once (Jordan & Jacobs 1994).

    Parameters
    ----------
    experts : None, estimator, or nested list, default=None
        One estimator, cloned for every leaf, or an explicit tree: a list is a node,
        its entries are estimators, ``(name, estimator)``, ``(name, estimator,
        columns)`` or lists in turn. A mixture estimator among them is unpacked: a
        node with a gate and columns of its own. Bare scikit-learn estimators are
        adapted by `EstimatorExpert`. None: `LogisticExpert`.
    depth : int, default=2
        Levels of gates. Not used for an explicit tree, nor with ``grow``.
    branching : int or sequence of int, default=2
        Children of each node, or one number for each level.
    gate : None, gate or classifier, default=None
        Cloned for every node. None: `SoftmaxGate`. A classifier that takes
        ``sample_weight`` is adapted by `ClassifierGate`.
    pooling : {"mean", "top1", "mode", "vote"}, default="mean"
        How the leaves' probabilities are combined: "mean" and "mode" weigh them with
        the gates; "top1" takes those of the leaf at the end of the most probable
        path (whose cost grows with the depth, not with the number of leaves);
        "vote" gives each class the weight of the leaves that prefer it.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable leaves of each row, and
        renormalise their probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gates see; None for all.
    path_tol : float, default=0.0
        At fit and at prediction, leave out subtrees that a row reaches with less
        probability. The most probable path always stays.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "tree" (a model tree, softened),
        "kmeans" (recursive), "segments", "gaussian" and "random" are its kinds. An
        array holds leaves of shape (n_samples,) or responsibilities of shape
        (n_samples, n_leaves); a callable ``init(X, y, n_leaves, random_state)``
        returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and a
        few random ones where rows are few; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem"}, default="em"
        Soft, hard (classification) or stochastic EM.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    annealing : float or None, default=None
        Begin each start with responsibilities ``(g p)^b``, b rising from this
        value to 1 (deterministic annealing).
    grow : {"posterior", "fritsch"} or None, default=None
        Grow the tree from a single leaf. "posterior" splits every leaf on trial
        and keeps the split that gains most likelihood (Waterhouse & Robinson);
        "fritsch" splits the leaf of lowest likelihood (Fritsch et al.).
    grow_until : {"bic", "holdout", "max_leaves"}, default="bic"
        Keep the grown tree of lowest BIC, of best log score on a fifth of the rows
        held out, or the largest.
    max_leaves : int, default=16
        Most leaves of a grown tree.
    prune : bool, default=True
        Take out leaves that are left with less than one row, and the gates that
        lose their choice with them.
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
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one; a grown tree
        grows on. Interrupted growth then keeps the best tree so far.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for trial splits and for the experts'
        M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    tree_ : Tree
        The shape: children, parent and level of each node. Nodes are numbered
        level by level; ``tree_.leaves`` holds the nodes of the leaves.
    gate_ : GateTree
        ``gates`` holds a fitted gate for each of ``tree_.inner``.
    experts_ : list of fitted experts
        One for each leaf, from left to right.
    expert_names_ : list of str
    leaf_weight_ : array of shape (n_leaves,)
        Weighted rows of each leaf, by responsibility.
    skipped_share_ : float
        Share of pairs of rows and leaves that the last pass of the fit left out.
    growth_ : list of GrowthStep
        With ``grow``: number of leaves, log-likelihood (nats) and criterion of
        each tree on the way.
    node_ : the engine's node of gates and experts
    n_iter_ : int
        Passes over the rows of the winning start: those of the race, of the run to
        convergence and of runs after pruning; of a grown tree those of its last run.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run. With
        ``path_tol`` it may fall where paths are chosen anew.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts and
    the EM algorithm. Neural Computation 6.
    Waterhouse, S. R. and Robinson, A. J. (1996). Constructive algorithms for
    hierarchical mixtures of experts. Advances in Neural Information Processing
    Systems 8.
    Fritsch, J., Finke, M. and Waibel, A. (1997). Adaptively growing hierarchical
    mixtures of experts. Advances in Neural Information Processing Systems 9.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import HierarchicalMixtureOfExpertsClassifier
    >>> X = np.linspace(-3, 3, 300)[:, None]
    >>> y = np.floor(X[:, 0]).astype(int) % 2
    >>> model = HierarchicalMixtureOfExpertsClassifier(depth=2).fit(X, y)
    >>> model.predict([[-2.5], [-1.5], [-0.5]]).tolist()
    [1, 0, 1]
    """
