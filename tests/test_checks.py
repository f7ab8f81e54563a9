"""scikit-learn's own checks of every public estimator, with no expected failure."""

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.experts import EstimatorExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate

# The checks fit a few rows of noise, or with max_iter=1.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.HostCopyWarning"),
]
# So few rows that a leaf of a tree may be left without any.
few_rows = pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")

# Array libraries and devices that this machine does not have to have. What is
# asked of them is asked of array-api-strict and of torch on the CPU as well.
ABSENT = ("cupy", "dpnp", "cuda", "mps", "xpu")

Regressor, Classifier = MixtureOfExpertsRegressor, MixtureOfExpertsClassifier
# One start: a fit of the checks' few rows then takes milliseconds.
QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0}
TreeRegressor = HierarchicalMixtureOfExpertsRegressor
TreeClassifier = HierarchicalMixtureOfExpertsClassifier
SHORT = {"init": "kmeans", "random_state": 0, "max_iter": 12}
TREE = [("line", LinearExpert()), [("ridge", Ridge()), ("flat", Ridge(alpha=100.0))]]
MIXED = [("line", LinearExpert()), ("ridge", Ridge()), ("flat", Ridge(alpha=100.0))]
ALL_CHECKS = [
    Regressor(**QUICK),
    Regressor(MIXED),
    Classifier(LogisticExpert(alpha=1.0), **QUICK),
    LinearExpert(),
    LinearExpert(covariance="diag", alpha=0.0, variance_prior=None),
    LogisticExpert(),
    EstimatorExpert(Ridge()),
    EstimatorExpert(LogisticRegression()),
]
# What these change is how a fitted mixture behaves, not what it accepts.
BEHAVIOUR_CHECKS = [
    Regressor(Ridge(), **QUICK),
    Regressor(gate=ConstantGate(), **QUICK),
    Regressor(gate=GaussianGate(), **QUICK),
    Regressor(gate=LogisticRegression(), **QUICK),
    Regressor(pooling="mode", **QUICK),
    Regressor(pooling="top1", top_k=1, **QUICK),
    Regressor(shared_dispersion=True, **QUICK),
    Regressor(algorithm="cem", **QUICK),
    Classifier(LogisticRegression(), **QUICK),
    Classifier([("own", LogisticExpert(1.0)), ("bare", LogisticRegression())]),
    Classifier(LogisticExpert(1.0), gate=ConstantGate(), **QUICK),
    Classifier(LogisticExpert(1.0), gate=GaussianGate(), **QUICK),
    Classifier(LogisticExpert(1.0), pooling="vote", **QUICK),
    Classifier(LogisticExpert(1.0), pooling="top1", **QUICK),
]
BEHAVIOUR = (
    "check_array_api_input",
    "check_classifiers_classes",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_train",
    "check_dict_unchanged",
    "check_estimator_sparse_tag",
    "check_estimators_nan_inf",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_non_transformer_estimators_n_iter",
    "check_regressor_multioutput",
    "check_regressors_train",
    "check_sample_weight_equivalence_on_dense_data",
)
# The search over many starts is the same code for every check; these are the
# checks in which a start that depends on chance or on the order of rows shows.
SEARCH = (
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_unfitted",
    "check_f_contiguous_array_estimator",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_parameters_default_constructible",
    "check_readonly_memmap_input",
    "check_sample_weight_equivalence_on_dense_data",
)


def checks(estimators, only=None):
    """Return the marker of scikit-learn's checks that can run on this machine."""
    mark = parametrize_with_checks(estimators)
    names, cases = mark.args
    kept = [
        case for case in cases if here(case) and (only is None or named(case, only))
    ]
    return pytest.mark.parametrize(names, kept, **mark.kwargs)


def check_of(case):
    return getattr(case, "values", case)[1]


def here(case):
    keywords = getattr(check_of(case), "keywords", {}) or {}
    said = " ".join(str(value) for value in keywords.values()).lower()
    return not any(word in said for word in ABSENT)


def named(case, only):
    check = check_of(case)
    return getattr(check, "func", check).__name__ in only


@checks(ALL_CHECKS)
def test_passes_all_checks(estimator, check):
    check(estimator)


@checks(BEHAVIOUR_CHECKS, only=BEHAVIOUR)
def test_variant_passes_the_checks_of_behaviour(estimator, check):
    check(estimator)


TREE_CHECKS = [TreeRegressor(**SHORT), TreeClassifier(LogisticExpert(9.0), **SHORT)]
TREE_BEHAVIOUR_CHECKS = [
    TreeRegressor(TREE, max_iter=30),
    TreeRegressor(branching=[2, 3], pooling="top1", **SHORT),
    TreeRegressor(path_tol=0.01, gate=GaussianGate(), **SHORT),
    TreeRegressor(grow="posterior", max_leaves=3),
    # Of a long run, rounding decides in which pass it ends.
    TreeClassifier(
        [[LogisticExpert(9.0), LogisticExpert(9.0)], LogisticExpert(9.0)], max_iter=12
    ),
    TreeClassifier(LogisticExpert(9.0), pooling="vote", top_k=2, **SHORT),
    TreeClassifier(LogisticExpert(9.0), grow="fritsch", max_leaves=3),
]


@few_rows
@checks(TREE_CHECKS)
def test_tree_passes_all_checks(estimator, check):
    check(estimator)


@few_rows
@checks(TREE_BEHAVIOUR_CHECKS, only=BEHAVIOUR)
def test_variant_of_a_tree_passes_the_checks_of_behaviour(estimator, check):
    check(estimator)


@few_rows
@checks([TreeRegressor(), TreeClassifier()], only=SEARCH)
def test_trees_by_default_pass_the_checks_of_their_search(estimator, check):
    check(estimator)


@checks([Regressor(), Classifier()], only=SEARCH)
def test_defaults_pass_the_checks_of_their_search(estimator, check):
    check(estimator)


@pytest.mark.parametrize("only", [BEHAVIOUR, SEARCH])
def test_checks_asked_for_exist(only):
    # Those of gaps are asked of parts that take none.
    cases = checks([Regressor(), Classifier(), Regressor(Ridge())]).args[1]
    known = {getattr(check, "func", check).__name__ for check in map(check_of, cases)}
    assert sorted(set(only) - known) == []


def test_array_api_checks_are_among_them():
    cases = list(checks([Regressor()]).args[1])
    said = [str(getattr(check_of(case), "keywords", "")) for case in cases]
    assert any("array_api_strict" in words for words in said)
    assert any("torch" in words for words in said)
