"""scikit-learn's own checks of the conformal estimators."""

import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.conformal import CrossConformalMixture, SplitConformalMixture
from tests._quick import regressor

WHICH_ROWS = (
    "which rows are held out depends on their number, so that fits to weighted rows "
    "and to repeated rows differ"
)
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": WHICH_ROWS,
    "check_sample_weight_equivalence_on_sparse_data": WHICH_ROWS,
}


# At a level of one half a single calibration row is enough: checks fit few rows.
@pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        SplitConformalMixture(regressor(), level=0.5),
        CrossConformalMixture(regressor(), level=0.5, cv=2),
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_passes_the_checks(estimator, check):
    check(estimator)


def test_mapie_is_not_needed():
    code = "import sys, skmoe.conformal; print('mapie' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
