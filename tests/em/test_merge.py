"""Merging experts, and starts with one expert more or fewer."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.em._merge import merge_costs, merge_path, merged, pairs_by_cost
from skmoe.em._neighbours import merge_starts, split_starts
from skmoe.experts import LinearExpert, LogisticExpert, PoissonExpert
from skmoe.gates import SoftmaxGate
from skmoe.model_selection._bound import BoundMixture, started
from skmoe.model_selection._request import GivenRows

ML = {"gate": SoftmaxGate(alpha=1e-3), "n_init": 4, "random_state": 0}
PLAIN = LinearExpert(alpha=0, variance_prior=None)


@pytest.fixture(scope="module")
def three():
    """Rows of three lines, one after the other along the only column."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, 400)
    piece = np.searchsorted([-1, 1], x)
    y = np.array([2.0, -2.0, 2.0])[piece] * x + np.array([4.0, 0.0, -4.0])[piece]
    return x[:, None], y + 0.4 * rng.standard_normal(400), piece


def bound(model, X, y, **kwargs):
    return BoundMixture(model.fit(X, y, **kwargs))


def hard(labels, n_experts):
    return (labels == np.arange(n_experts)[:, None]).astype(float)


def residual_variance(X, y, rows):
    model = LinearRegression().fit(X[rows], y[rows])
    return np.mean((y[rows] - model.predict(X[rows])) ** 2)


def test_merged_experts_answer_for_the_rows_of_both():
    resp = np.arange(12.0).reshape(4, 3)
    joined = merged(resp, 1, 2)
    assert_array_equal(joined, [resp[0], resp[1] + resp[2], resp[3]])
    assert_array_equal(resp, np.arange(12.0).reshape(4, 3))


def test_pairs_come_cheapest_first_and_above_the_diagonal():
    cost = np.full((3, 3), np.inf)
    cost[0, 1], cost[0, 2], cost[1, 2] = 3.0, 1.0, 2.0
    assert pairs_by_cost(cost, 2) == [(0, 2), (1, 2)]
    assert pairs_by_cost(cost, 9) == [(0, 2), (1, 2), (0, 1)]


def test_cost_of_two_regressions_in_closed_form(three):
    """With hard labels the log-likelihoods are -n/2 log s2 and constants."""
    X, y, piece = three
    model = MixtureOfExpertsRegressor(PLAIN, 3, init=piece, max_iter=1, **ML)
    with pytest.warns(UserWarning, match="did not converge"):
        mixture = bound(model, X, y)
    resp = hard(piece, 3)
    for k, (_, expert) in enumerate(mixture.node.experts):
        expert.m_step(X, y, resp[k])
    cost = merge_costs(mixture.node, resp, X, y, np.ones(y.size))
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        first, second = piece == i, piece == j
        fall = sum(
            sign * rows.sum() * np.log(residual_variance(X, y, rows))
            for sign, rows in [(1, first | second), (-1, first), (-1, second)]
        )
        assert_allclose(cost[i, j], fall / 2, rtol=1e-8)
    assert np.isinf(cost[np.tril_indices(3)]).all()


def test_cost_is_the_distance_of_atoms_where_variances_and_designs_agree():
    """d = p_i p_j / (p_i + p_j) n |theta_i - theta_j|^2 / (2 s2), to leading order."""
    rng = np.random.default_rng(0)
    n = 4000
    X = np.tile(rng.standard_normal((n // 4, 1)), (4, 1))
    noise = np.tile(rng.standard_normal(n // 2), 2)
    share = np.repeat([0, 0, 0, 1], n // 4)
    y = 0.05 * share + noise  # levels differ by a little
    model = MixtureOfExpertsRegressor(PLAIN, 2, init=share, max_iter=1, **ML)
    with pytest.warns(UserWarning, match="did not converge"):
        mixture = bound(model, X, y)
    resp = hard(share, 2)
    for k, (_, expert) in enumerate(mixture.node.experts):
        expert.m_step(X, y, resp[k])
    first, second = (expert for _, expert in mixture.node.experts)
    gap = first.predict_params(X) - second.predict_params(X)
    variance = 0.75 * first.dispersion + 0.25 * second.dispersion
    distance = 0.75 * 0.25 * np.sum(gap**2) / (2 * variance)
    # What is left is that the variances differ a little.
    spread = [0.75 * np.log(first.dispersion), 0.25 * np.log(second.dispersion)]
    rest = n / 2 * (np.log(variance) - sum(spread))
    cost = merge_costs(mixture.node, resp, X, y, np.ones(n))[0, 1]
    assert_allclose(cost, distance + rest, rtol=0.02)


@pytest.mark.parametrize(
    "expert",
    [LinearExpert(alpha=0), PoissonExpert(alpha=0), LinearRegression()],
    ids=["closed form", "Newton", "refitted"],
)
def test_twins_are_the_cheapest_pair_and_the_fit_is_left_alone(three, expert):
    X, y, piece = three
    y = np.round(np.exp(1.0 + y)) if isinstance(expert, PoissonExpert) else y
    model = MixtureOfExpertsRegressor(expert, 3, init=piece, **ML)
    node, resp = bound(model, X, y).rebound()
    twin = np.vstack([resp, 0.4 * resp[1]])
    twin[1] *= 0.6
    node.experts = [*node.experts, ("twin", node.experts[1][1])]
    node.columns = [*node.columns, None]
    before = [expert.predict_params(X) for _, expert in node.experts]
    cost = merge_costs(node, twin, X, y, np.ones(y.size))
    assert pairs_by_cost(cost, 1) == [(1, 3)]
    assert abs(cost[1, 3]) < 1e-3 * np.sort(cost[np.isfinite(cost)])[1]
    for old, (_, expert) in zip(before, node.experts, strict=True):
        assert_array_equal(old, expert.predict_params(X))


def test_path_merges_down_to_one_and_ends_at_the_single_fit(three):
    X, y, _ = three
    mixture = bound(MixtureOfExpertsRegressor(PLAIN, 5, **ML), X, y)
    levels = merge_path(mixture.node, mixture.rows, mixture.fresh, acceleration="auto")
    assert [len(level.resp) for level in levels] == [5, 4, 3, 2, 1]
    assert levels[0].pair is None
    for before, level in pairwise(levels):
        assert 0 <= level.pair[0] < level.pair[1] < len(before.resp)
        assert_allclose(level.resp.sum(axis=0), 1.0)
    fits = [mixture.evidence(level.node).log_likelihood for level in levels]
    assert np.diff(fits).max() < 0.1  # nats: each level has been run for some passes
    costs = [level.cost for level in levels[1:]]
    assert max(costs[:2]) < 0.2 * min(costs[2:])  # two to spare, three needed
    single = MixtureOfExpertsRegressor(PLAIN, 1, **ML).fit(X, y)
    assert_allclose(fits[-1], single.log_likelihood(X, y), rtol=1e-9)


def test_rows_without_a_response_cost_nothing(three):
    X, y, piece = three
    model = MixtureOfExpertsRegressor(PLAIN, 3, init=piece, **ML)
    node, resp = bound(model, X, y).rebound()
    labelled = np.arange(y.size) % 5 > 0
    some = merge_costs(node, resp, X, y, 1.0 * labelled)

    class Marked:
        pass

    node.units = Marked()
    node.units.labelled = labelled
    assert_allclose(merge_costs(node, resp, X, y, np.ones(y.size)), some)


@pytest.mark.parametrize("classes", [False, True])
def test_starts_of_neighbours_are_responsibilities(three, classes):
    X, y, piece = three
    if classes:
        expert, y = LogisticExpert(alpha=0.1), np.where(y > 0, "up", "down")
        model = MixtureOfExpertsClassifier(expert, 3, init=piece, **ML)
    else:
        model = MixtureOfExpertsRegressor(PLAIN, 3, init=piece, **ML)
    mixture = bound(model, X, y)
    node, resp = mixture.rebound()
    fewer = merge_starts(node, resp, mixture.rows, 3)
    more = split_starts(node, resp, mixture.log_prob(node), mixture.rows, 4)
    assert len(fewer) == 3
    assert 2 <= len(more) <= 4
    for size, starts in [(2, fewer), (4, more)]:
        for start in starts:
            assert start.shape == (size, y.size)
            assert start.min() >= 0
            assert_allclose(start.sum(axis=0), 1.0)


def test_halves_begin_at_the_likelihood_of_the_whole(three):
    X, y, piece = three
    model = MixtureOfExpertsRegressor(PLAIN, 3, init=piece, **ML)
    mixture = bound(model, X, y)
    node, resp = mixture.rebound()
    halves = split_starts(node, resp, mixture.log_prob(node), mixture.rows, 1)
    rows = GivenRows(X, y, None, {}, {})
    larger = started(MixtureOfExpertsRegressor(PLAIN, **ML), rows, halves)
    assert len(larger.experts_) == 4
    assert larger.log_likelihood(X, y) > mixture.evidence().log_likelihood - 1e-3


def test_a_new_expert_takes_what_the_fit_explains_worst(three):
    X, y, piece = three
    odd = np.zeros(y.size, dtype=bool)
    odd[::20] = True
    y = np.where(odd, y + 25.0, y)
    mixture = bound(
        MixtureOfExpertsRegressor(LinearExpert(), 3, init=piece, **ML), X, y
    )
    node, resp = mixture.rebound()
    starts = split_starts(node, resp, mixture.log_prob(node), mixture.rows, 6)
    taken = [start[-1] for start in starts]
    assert any((new[odd] > 0.8).all() for new in taken)
