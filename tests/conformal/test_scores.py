"""Scores and their sets: a response is in the set of a threshold by its score."""

import numpy as np
import pytest
from scipy import stats

from skmoe.conformal._scores import SCORES, CentralScore, DensityScore, QuantileScore
from skmoe.distribution import MixtureDistribution
from skmoe.likelihoods import Gaussian, PointMass, Poisson

N_ROWS = 12


def law_of(kind):
    rng = np.random.default_rng(1)
    gate = rng.dirichlet([1.0, 1.0], N_ROWS)
    mean = np.abs(rng.normal(3.0, 2.0, (2, N_ROWS)))
    families = {
        "normal": ([Gaussian(), Gaussian()], [0.3, 1.0]),
        "counts": ([Poisson(), Poisson()], [None, None]),
        "zeros": ([PointMass(), Poisson()], [None, None]),
    }
    likelihoods, dispersions = families[kind]
    params = [np.zeros(N_ROWS) if kind == "zeros" else mean[0], mean[1] + 1.0]
    return MixtureDistribution(np.log(gate), params, dispersions, likelihoods)


@pytest.fixture(params=["normal", "counts", "zeros"])
def law(request):
    return law_of(request.param)


@pytest.mark.parametrize("method", SCORES)
def test_set_holds_what_scores_no_more(law, method):
    score = SCORES[method](0.8)
    y = law.sample(40, random_state=0)
    scores = np.stack([score.of(law, draw) for draw in y])
    for place in (3, 20, 35):  # a threshold for each row, which one draw takes
        threshold = np.sort(scores, axis=0)[place]
        union = score.sets(law, threshold)
        inside = np.stack([union.contains(draw) for draw in y])
        np.testing.assert_array_equal(inside, scores <= threshold + 1e-9)


@pytest.mark.parametrize("method", SCORES)
def test_sets_grow_with_the_threshold(law, method):
    score = SCORES[method](0.8)
    thresholds = np.quantile(score.of(law, law.sample(1, 0)[0]), [0.1, 0.4, 0.7])
    lengths = [score.sets(law, np.full(N_ROWS, t)).length() for t in thresholds]
    assert np.diff(lengths, axis=0).min() >= 0.0


@pytest.mark.parametrize(("method", "most"), [("cdf", 0.5), ("highest-density", 1.0)])
def test_set_of_the_greatest_score_is_the_whole_line(law, method, most):
    threshold = np.full(N_ROWS, 0.3)
    threshold[::2] = most
    union = SCORES[method](0.9).sets(law, threshold)
    ends = np.column_stack([union.lower[:, 0], np.nanmax(union.upper, axis=1)])
    np.testing.assert_array_equal(np.isinf(ends).all(axis=1), threshold == most)
    np.testing.assert_array_equal(union.contains(np.full(N_ROWS, -7.0))[::2], True)


def test_quantile_score_is_distance_from_the_interval():
    law = MixtureDistribution(np.zeros((3, 1)), [np.zeros(3)], [4.0], [Gaussian()])
    z = 2.0 * stats.norm.ppf(0.9)
    score = QuantileScore(0.8)
    expected = [-z, 5.0 - z, 5.0 - z]
    np.testing.assert_allclose(score.of(law, np.array([0.0, 5.0, -5.0])), expected)
    union = score.sets(law, np.array([1.0, -1.0, -9.0]))
    np.testing.assert_allclose(union.upper[:, 0], [z + 1.0, z - 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(union.lower[:, 0], -union.upper[:, 0], atol=1e-12)


def test_central_score_of_a_density_is_probability_from_the_median():
    law = law_of("normal")
    y = law.sample(1, random_state=3)[0]
    np.testing.assert_allclose(
        CentralScore(0.9).of(law, y), np.abs(law.cdf(y) - 0.5), atol=1e-12
    )


def test_central_score_of_counts_is_that_of_the_smallest_central_set():
    law = MixtureDistribution(np.zeros((9, 1)), [np.full(9, 3.0)], [None], [Poisson()])
    y = np.arange(9.0)
    below, above = stats.poisson.cdf(y, 3.0), stats.poisson.cdf(y - 1.0, 3.0)
    expected = np.maximum(0.5 - below, above - 0.5)
    np.testing.assert_allclose(CentralScore(0.9).of(law, y), expected, atol=1e-12)


def test_density_score_of_a_symmetric_density_is_twice_the_central_one():
    law = MixtureDistribution(np.zeros((5, 1)), [np.arange(5.0)], [2.0], [Gaussian()])
    y = np.array([0.0, 3.0, 2.1, -4.0, 4.4])
    central, density = CentralScore(0.9).of(law, y), DensityScore(0.9).of(law, y)
    np.testing.assert_allclose(density, 2.0 * central, atol=1e-8)


def test_density_sets_of_two_modes_have_two_pieces():
    gate = np.log(np.full((4, 2), 0.5))
    params = [np.full(4, -3.0), np.full(4, 3.0)]
    law = MixtureDistribution(gate, params, [0.1, 0.1], [Gaussian()] * 2)
    union = DensityScore(0.9).sets(law, np.array([0.1, 0.5, 0.9, 1.0]))
    np.testing.assert_array_equal(np.sum(~np.isnan(union.lower), 1), [2, 2, 2, 1])


@pytest.mark.parametrize("method", SCORES)
def test_ladder_is_the_sets_one_by_one(law, method):
    score = SCORES[method](0.8)
    thresholds = np.array([0.05, 0.3, 0.5, 1.0])
    ladder = score.ladder(law, thresholds)
    assert len(ladder) == 4
    for union, value in zip(ladder, thresholds, strict=True):
        expected = score.sets(law, np.full(N_ROWS, value))
        np.testing.assert_allclose(union.lower, expected.lower, atol=1e-9)
        np.testing.assert_allclose(union.upper, expected.upper, atol=1e-9)
