"""Laws that are drawn: one output of several, the mean of many rows' laws."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skmoe.experts import PointMassExpert, PoissonExpert
from skmoe.inspection._laws import (
    checked_levels,
    law_of_output,
    pooled_law,
    response_of_output,
)
from tests._quick import regressor


def test_the_law_of_one_output_is_the_margin(several, plane):
    X, _ = plane
    whole = several.predict_distribution(X)
    first, second = (law_of_output(whole, target) for target in (0, 1))
    assert_allclose(first.mean, whole.mean[:, 0])
    assert_allclose(second.mean, whole.mean[:, 1])
    assert_allclose(second.variance, whole.variance[:, 1])
    at = np.linspace(-3.0, 3.0, len(X))
    spread = [np.asarray(expert.dispersion) for expert in several.experts_]
    spread = [np.diag(s) if s.ndim == 2 else np.broadcast_to(s, 2) for s in spread]
    by_hand = sum(
        whole.gate[:, k] * stats.norm.cdf(at, means, np.sqrt(spread[k][1]))
        for k, means in enumerate(whole.means[:, :, 1].T)
    )
    assert_allclose(second.cdf(at), by_hand, rtol=1e-10)
    assert_allclose(law_of_output(whole, -1).mean, second.mean)


def test_a_single_output_is_itself(flat, plane):
    law = flat.predict_distribution(plane[0])
    assert law_of_output(law, 0) is law


@pytest.mark.parametrize("target", [2, -3])
def test_no_such_output(several, plane, target):
    law = several.predict_distribution(plane[0])
    with pytest.raises(ValueError, match=f"among the 2 outputs, got {target}"):
        law_of_output(law, target)


def test_responses_of_one_output():
    assert response_of_output([1, 2], 0).tolist() == [1.0, 2.0]
    assert response_of_output([[1, 2], [3, 4]], 1).tolist() == [2.0, 4.0]


def test_the_mean_of_laws_of_unlike_families(rng):
    X = np.column_stack([rng.uniform(0.0, 2.0, 150), np.linspace(0.0, 1.0, 150)])
    y = rng.poisson(np.exp(X[:, 0])).astype(float)
    model = regressor(
        [("zero", PointMassExpert(0.0)), ("count", PoissonExpert())], n_experts=2
    ).fit(X, y)
    rows = np.tile(X[:2], (3, 1))[[0, 2, 4, 1, 3, 5]]  # two rows, three times each
    law = pooled_law(model.predict_distribution(rows), 2)
    one = model.predict_distribution(X[:2])
    assert len(law) == 3
    assert_allclose(law.mean, one.mean.mean())
    for at in (0.0, 2.0):
        assert_allclose(law.cdf(np.full(3, at)), one.cdf(np.full(2, at)).mean())


def test_levels():
    assert checked_levels(0.5).tolist() == [0.5]
    assert checked_levels((0.5, 0.9)).tolist() == [0.5, 0.9]
    for wrong in (0.0, 1.0, float("nan"), 90):
        with pytest.raises(ValueError, match="levels must lie between 0 and 1, got"):
            checked_levels([0.5, wrong])
