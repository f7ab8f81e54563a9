"""The models of `accuracy.py`: peers, how each is tuned, and the estimators of ours.

Tuning is what a user would do: `GridSearchCV` on a small grid, R2 for regression and
log loss for classes (accuracy for the SVC, which has no probabilities), on three
shuffled folds, or on one held-out quarter above 5,000 rows. Seconds include it.
Limits that keep one run of all tables near an hour of one core: the Gaussian process
learns from at most 2,000 random rows; SVMs are tuned on 2,000 and fitted to 10,000
at most; the residual variance of tuned models comes from one held-out fold of five
above 2,000 rows, that of a random forest from its rows out of bag.
"""

import numpy as np
from _scores import (
    ClassProbabilities,
    GaussianLaw,
    GaussianResidual,
    MixtureLaw,
    random_rows,
)
from scipy.linalg import LinAlgError, cho_solve, lapack
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_predict,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

__all__ = ["FLAT", "OURS", "PEERS", "make_model", "models_of"]

GP_ROWS, GP_FIRST_ROWS, GP_STEPS = 2000, 500, 50
SVM_ROWS, SVM_TUNE_ROWS = 10_000, 2000
HOLDOUT_ABOVE = 5000  # rows; below, three folds
ONE_RESIDUAL_FOLD_ABOVE = 2000
TREE_PRIOR_SHARE = 0.01


class Search:
    """GridSearchCV on at most `tune_rows` random rows, then one fit to all rows.

    `finish` makes the last model out of the best one, still unfitted.
    """

    def __init__(self, model, grid, task, *, tune_rows=None, scoring=None, finish=None):
        self.model = model
        self.grid = grid
        self.task = task
        self.tune_rows = tune_rows
        self.scoring = scoring or ("r2" if task == "reg" else "neg_log_loss")
        self.finish = finish

    def fit(self, X, y):
        """Search and fit; the model is `best_estimator_`."""
        rows = random_rows(len(y), self.tune_rows)
        splits = _splits(self.task, len(rows))
        search = GridSearchCV(
            self.model, self.grid, scoring=self.scoring, cv=splits, refit=False
        ).fit(X[rows], y[rows])
        best = clone(self.model).set_params(**search.best_params_)
        best = best if self.finish is None else self.finish(best)
        self.best_estimator_ = best.fit(X, y)
        self.best_params_ = search.best_params_
        return self


def _splits(task, n_samples):
    """Return how to split for a search: three folds, or one held-out quarter."""
    if n_samples > HOLDOUT_ABOVE:
        kind = ShuffleSplit if task == "reg" else StratifiedShuffleSplit
        return kind(1, test_size=0.25, random_state=0)
    kind = KFold if task == "reg" else StratifiedKFold
    return kind(3, shuffle=True, random_state=0)


class LinearModelTree(RegressorMixin, BaseEstimator):
    """CART whose leaves hold a ridge regression each.

    The splits are CART's, with at least ``max(20, 3 n_features)`` rows a leaf; a
    prediction stays inside the range of the training response, so that no leaf
    extrapolates beyond anything seen.
    """

    def __init__(self, max_depth=2, alpha=1.0):
        self.max_depth = max_depth
        self.alpha = alpha

    def fit(self, X, y):
        """Grow the tree, then fit one ridge to the rows of each leaf."""
        rows = max(20, 3 * X.shape[1])
        self.tree_ = DecisionTreeRegressor(
            max_depth=self.max_depth, min_samples_leaf=rows, random_state=0
        ).fit(X, y)
        leaf = self.tree_.apply(X)
        self.leaves_ = {
            k: Ridge(alpha=self.alpha).fit(X[leaf == k], y[leaf == k])
            for k in np.unique(leaf)
        }
        self.range_ = y.min(), y.max()
        return self

    def predict(self, X):
        """Return the prediction of each row's leaf."""
        leaf = self.tree_.apply(X)
        predicted = np.empty(len(X))
        for k in np.unique(leaf):
            predicted[leaf == k] = self.leaves_[k].predict(X[leaf == k])
        return np.clip(predicted, *self.range_)


class CalibratedSVC(ClassifierMixin, BaseEstimator):
    """An SVC whose probabilities are a logistic regression on its decision values.

    One decision value a pair of classes, out of fold. scikit-learn's calibration
    sees one value a class, a count of votes: on four of five tables with several
    classes it lost 0.03 to 0.13 nats a row to this. Predictions are the SVC's own.
    """

    def __init__(self, machine):
        self.machine = machine

    def fit(self, X, y):
        """Fit the logistic regression out of fold, then the SVC to all rows."""
        pairs = clone(self.machine).set_params(decision_function_shape="ovo")
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        value = cross_val_predict(pairs, X, y, cv=folds, method="decision_function")
        self.machine_ = pairs.fit(X, y)
        self.logistic_ = LogisticRegression(max_iter=500).fit(_columns(value), y)
        self.classes_ = self.logistic_.classes_
        return self

    def predict(self, X):
        """Return the SVC's classes."""
        return self.machine_.predict(X)

    def predict_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        return self.logistic_.predict_proba(
            _columns(self.machine_.decision_function(X))
        )


def _columns(value):
    """Return decision values as columns, also the one of two classes."""
    return value.reshape(len(value), -1)


class FastGaussianProcess(GaussianProcessRegressor):
    """GaussianProcessRegressor whose gradient is formed by matrix products.

    For constant x RBF (a length a column) + white. The values are scikit-learn's;
    it would fill an array of rows x rows x columns at every step.
    """

    def log_marginal_likelihood(
        self, theta=None, eval_gradient=False, clone_kernel=True
    ):
        """Return the log marginal likelihood at log parameters, and its gradient."""
        if theta is None or not eval_gradient:
            return super().log_marginal_likelihood(theta, eval_gradient, clone_kernel)
        amplitude, noise = np.exp(theta[0]), np.exp(theta[-1])
        X, y = self.X_train_ / np.exp(theta[1:-1]), self.y_train_
        smooth = amplitude * np.exp(-0.5 * cdist(X, X, "sqeuclidean"))
        kernel = smooth.copy()
        kernel[np.diag_indices(len(y))] += noise + self.alpha
        try:
            factor = np.linalg.cholesky(kernel)
        except LinAlgError:
            return -np.inf, np.zeros_like(theta)
        dual = cho_solve((factor, True), y)
        log_det = 2.0 * np.log(np.diag(factor)).sum()
        value = -0.5 * (y @ dual + log_det + len(y) * np.log(2.0 * np.pi))
        inverse = lapack.dpotri(factor, lower=1)[0]  # its lower triangle
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        slope = np.outer(dual, dual) - inverse
        weighted = slope * smooth
        # sum_ij w_ij (x_i - x_j)^2 = 2 (sum_i w_i x_i^2 - x'Wx), a column at a time
        lengths = weighted.sum(axis=1) @ X**2 - np.einsum("ij,ij->j", X, weighted @ X)
        gradient = [0.5 * weighted.sum(), *lengths, 0.5 * noise * np.trace(slope)]
        return value, np.array(gradient)


class GaussianProcess:
    """A Gaussian process on all rows, its search started on a few of them."""

    def fit(self, X, y):
        """Maximise the marginal likelihood on some rows, then from there on all."""
        lengths = np.full(X.shape[1], np.sqrt(X.shape[1]))
        kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(lengths, (1e-2, 1e4))
        kernel = kernel + WhiteKernel(0.1, (1e-8, 1e1))
        for rows in sorted({min(GP_FIRST_ROWS, len(y)), len(y)}):
            process = FastGaussianProcess(
                kernel, optimizer=_few_steps, normalize_y=True
            )
            chosen = random_rows(len(y), rows)
            kernel = process.fit(X[chosen], y[chosen]).kernel_
        self.best_estimator_ = process
        return self


def _few_steps(objective, theta, bounds):
    found = minimize(
        objective,
        theta,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": GP_STEPS},
    )
    return found.x, found.fun


def _boosting_grid(task):
    # A number of iterations in the grid beat early stopping here, and cost less.
    return {
        "learning_rate": [0.05, 0.1],
        "max_leaf_nodes": [8, 31],
        "l2_regularization": [0.0, 10.0],
        "max_iter": [100, 400] if task == "reg" else [50, 200],
    }


def _mlp_grid():
    return {"hidden_layer_sizes": [(100,), (100, 100)], "alpha": [1e-4, 1e-1]}


MLP = {"early_stopping": True, "batch_size": 64, "max_iter": 400, "random_state": 0}


def _regression_peers(n_samples, n_features, seed):
    """Return {name: function that makes the model}."""
    folds = 1 if n_samples > ONE_RESIDUAL_FOLD_ABOVE else 5
    gamma = [share / n_features for share in (0.3, 1.0, 3.0)]
    svm_grid = {"C": [1.0, 10.0, 100.0], "epsilon": [0.03, 0.1], "gamma": gamma}
    boosting = HistGradientBoostingRegressor(random_state=seed)
    forest = RandomForestRegressor(oob_score=True, random_state=seed)
    cart = DecisionTreeRegressor(random_state=seed)
    cart_grid = {"min_samples_leaf": [2, 5, 10, 20, 50]}
    tree_grid = {"max_depth": [1, 2, 3, 4], "alpha": [0.1, 10.0]}

    def tuned(model, grid, tune_rows=None, max_rows=None):
        search = Search(model, grid, "reg", tune_rows=tune_rows)
        return GaussianResidual(search, folds, max_rows)

    return {
        "linear": lambda: GaussianResidual(Ridge(alpha=1e-6)),
        "cart": lambda: tuned(cart, cart_grid),
        "model_tree": lambda: tuned(LinearModelTree(), tree_grid),
        "random_forest": lambda: GaussianResidual(forest),
        "boosting": lambda: GaussianResidual(boosting, 5),
        "boosting_tuned": lambda: tuned(boosting, _boosting_grid("reg")),
        "gp": lambda: GaussianLaw(GaussianProcess(), GP_ROWS),
        "svm": lambda: tuned(SVR(), svm_grid, SVM_TUNE_ROWS, SVM_ROWS),
        "mlp": lambda: tuned(MLPRegressor(**MLP), _mlp_grid()),
    }


def _classification_peers(n_features, seed):
    """Return {name: function that makes the model}."""
    boosting = HistGradientBoostingClassifier(random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    cart = DecisionTreeClassifier(random_state=seed)
    cart_grid = {"min_samples_leaf": [2, 5, 10, 20, 50]}
    gamma = [share / n_features for share in (0.3, 1.0, 3.0)]

    def tuned(model, grid, prior_share=0.0):
        return ClassProbabilities(Search(model, grid, "clf"), prior_share)

    def svm():
        search = Search(
            SVC(),
            {"C": [1.0, 10.0, 100.0], "gamma": gamma},
            "clf",
            tune_rows=SVM_TUNE_ROWS,
            scoring="accuracy",
            finish=CalibratedSVC,
        )
        return ClassProbabilities(search, max_rows=SVM_ROWS)

    return {
        "linear": lambda: ClassProbabilities(LogisticRegression(max_iter=2000)),
        "cart": lambda: tuned(cart, cart_grid, TREE_PRIOR_SHARE),
        "random_forest": lambda: ClassProbabilities(forest, TREE_PRIOR_SHARE),
        "boosting": lambda: ClassProbabilities(boosting),
        "boosting_tuned": lambda: tuned(boosting, _boosting_grid("clf")),
        "svm": svm,
        "mlp": lambda: tuned(MLPClassifier(**MLP), _mlp_grid()),
    }


def flat_mixture(task, n_experts, seed):
    """Return the flat mixture of linear experts at its default settings."""
    from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

    cls = MixtureOfExpertsRegressor if task == "reg" else MixtureOfExpertsClassifier
    size = {} if n_experts is None else {"n_experts": n_experts}
    return cls(random_state=seed, **size)


def hierarchy(task, seed, **parameters):
    """Return the hierarchical mixture, at its default settings but for those given."""
    import skmoe

    kind = "Regressor" if task == "reg" else "Classifier"
    cls = getattr(skmoe, f"HierarchicalMixtureOfExperts{kind}")
    return cls(random_state=seed, **parameters)


def tuned_hierarchy(task, seed):
    """Return the search over depth and the experts' ridge."""
    from skmoe.experts import LinearExpert, LogisticExpert

    if task == "reg":
        expert, alpha = LinearExpert(), [0.2, 2.0, 20.0]
    else:
        expert, alpha = LogisticExpert(), [1.0, 10.0, 100.0]
    grid = {"depth": [1, 2, 3, 4], "experts__alpha": alpha}
    return Search(hierarchy(task, seed, experts=expert), grid, task)


def hierarchy_forest(task, seed):
    """Return the forest of hierarchies at its default settings."""
    import skmoe

    kind = "Regressor" if task == "reg" else "Classifier"
    return getattr(skmoe, f"HierarchicalMixtureForest{kind}")(random_state=seed)


PEERS = {
    "reg": tuple(_regression_peers(1, 1, 0)),
    "clf": tuple(_classification_peers(1, 0)),
}
FLAT = ("linear", "boosting", "mixture")
OURS = ("mixture", "hme", "hme_tuned", "forest")


def models_of(task, names):
    """Return those of the names that fit the task, in the order of the tables."""
    return [name for name in (*PEERS[task], *OURS) if name in names]


def make_model(name, task, X, options):
    """Return one model, unfitted, for the training rows of a fold."""
    seed = options.seed
    if name == "mixture":
        return MixtureLaw(flat_mixture(task, options.n_experts, seed))
    if name == "hme":
        return MixtureLaw(hierarchy(task, seed))
    if name == "hme_tuned":
        return MixtureLaw(tuned_hierarchy(task, seed))
    if name == "forest":
        return MixtureLaw(hierarchy_forest(task, seed))
    if task == "reg":
        return _regression_peers(*X.shape, seed)[name]()
    return _classification_peers(X.shape[1], seed)[name]()
