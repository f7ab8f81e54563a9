"""scikit-learn's own checks of the Markov mixtures."""

import pytest
from sklearn.base import is_classifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import LogisticExpert
from skmoe.gates import ConstantGate
from tests.sequence.regimes import classifier, regressor

# The checks fit a few rows of noise.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

WEIGHTS = "the rows of a sequence follow each other, and so have one weight"
ORDER = "a row's law without responses depends on how many rows went before"
IN_TIME = {
    "check_sample_weights_not_overwritten": WEIGHTS,
    "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
    "check_methods_sample_order_invariance": ORDER,
    "check_methods_subset_invariance": ORDER,
}
OF_CLASSES = {"check_classifiers_one_label_sample_weights": WEIGHTS}


def meaningless(estimator):
    """Return the checks that ask rows in time to be none, with the reason."""
    if estimator.order == 0:
        return {}
    return IN_TIME | (OF_CLASSES if is_classifier(estimator) else {})


@parametrize_with_checks(
    [
        regressor(max_iter=10),
        regressor(gate=ConstantGate(), order=0, max_iter=10),
        classifier(LogisticExpert(9.0), max_iter=10),
    ],
    expected_failed_checks=meaningless,
)
def test_passes_the_checks(estimator, check):
    check(estimator)
