"""Evidence of a fit: from its parts, at rows, and the criteria."""

import numpy as np
import pytest
from scipy import special

from skmoe._criteria import Evidence
from tests._quick import regressor


def test_criteria_are_their_formulas():
    resp = np.array([[0.5, 1.0, 0.2], [0.5, 0.0, 0.8]])
    log_prob, weight = np.array([-1.0, -2.0, -0.5]), np.array([1.0, 2.0, 1.0])
    found = Evidence.of(5, resp, log_prob, weight)
    assert found.log_likelihood == pytest.approx(-5.5)
    assert found.total == 4.0
    assert found.n_experts == 2
    assert found.aic == pytest.approx(10.0 + 11.0)
    assert found.bic == pytest.approx(5.0 * np.log(4.0) + 11.0)
    entropy = np.log(2.0) + special.entr(0.2) + special.entr(0.8)
    assert found.icl == pytest.approx(found.bic + 2.0 * entropy)


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(20), 3)])
def test_of_a_node_is_that_of_its_mixture(groups, rng):
    X = np.repeat(rng.normal(size=(20, 2)), 3, axis=0)
    y, weight = X[:, 0] + rng.normal(size=60), rng.uniform(0.5, 2.0, 60)
    model = regressor().fit(X, y, sample_weight=weight, groups=groups)
    found = Evidence.at(model.node_, model._training_rows)
    for name in ("log_likelihood", "aic", "bic", "icl"):
        own = getattr(model, name)(X, y, weight, groups=groups)
        assert getattr(found, name) == pytest.approx(own)
