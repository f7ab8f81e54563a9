"""What findings rest on: costs in nats equal those of the changed mixture."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, special

from skmoe import HierarchicalMixtureOfExpertsRegressor
from skmoe._training import FittedRows
from skmoe.datasets import make_mixture_regression
from skmoe.distribution import MixtureDistribution
from skmoe.experts import LinearExpert, RobustLinearExpert, UniformExpert
from skmoe.gates import ConstantGate, GaussianGate
from skmoe.reading._case import Case
from tests._quick import classifier, regressor

TOL = {"rtol": 0.0, "atol": 1e-9}


@pytest.fixture(scope="module")
def data():
    return make_mixture_regression(200, n_experts=3, random_state=1)


@pytest.fixture(scope="module")
def model(data):
    return regressor(n_experts=3).fit(*data)


@pytest.fixture(scope="module")
def case(model):
    return Case(model, model._training_rows)


def test_it_is_the_fit_seen_again(model, case, data):
    X, y = data
    assert_allclose(case.resp, model.responsibilities(X, y), **TOL)
    assert_allclose(case.log_prob, model.log_prob(X, y), **TOL)
    assert_allclose(case.share, model.responsibilities(X, y).mean(axis=0), **TOL)
    assert case.certainty == pytest.approx(model.gate_proba(X).max(axis=1).mean())
    share = case.share
    assert case.effective_number == pytest.approx(np.exp(-share @ np.log(share)))


@pytest.mark.parametrize(("gone", "kept"), [(0, 1), (1, 0), (2, 0)])
def test_cost_of_merging_is_that_of_the_merged_law(model, case, data, gone, kept):
    X, y = data
    law = model.predict_distribution(X)
    params, dispersions = list(law.params), list(law.dispersions)
    params[gone], dispersions[gone] = params[kept], dispersions[kept]
    merged = MixtureDistribution(law.log_gate, params, dispersions, law.likelihoods)
    wanted = (law.log_prob(y) - merged.log_prob(y)).sum()
    lost, gap = case.costs_of_merging(gone)
    assert lost[kept] == pytest.approx(wanted, rel=1e-9)
    assert lost[gone] == pytest.approx(0.0, abs=1e-9)
    resp = model.responsibilities(X, y)[:, gone]
    density = [
        family.log_prob(y, given, dispersion)
        for family, given, dispersion in zip(
            law.likelihoods, law.params, law.dispersions, strict=True
        )
    ]
    wanted = np.average(density[gone] - density[kept], weights=resp)
    assert gap[kept] == pytest.approx(wanted, rel=1e-9)


def test_large_tables_are_thinned_out(model, data, monkeypatch):
    # Each row three times, of which one is looked at, and counts for three.
    rows = FittedRows(
        *(np.repeat(one, 3, axis=0) for one in (*data, np.ones(200))), None
    )
    cases = []
    for most in (600, 200):
        monkeypatch.setattr("skmoe.reading._case.MAX_UNITS", most)
        case = Case(model, rows)
        assert case.thinned[1].size == most
        constant = case.cost_of_constant_gate()
        cases.append([constant, *np.ravel(case.costs_of_merging(0))])
    assert_allclose(cases[1], cases[0], rtol=1e-9, atol=1e-9)


def test_cost_of_a_constant_gate_is_that_of_the_best_one(case):
    def negative(scores):
        joint = special.log_softmax(np.r_[0.0, scores]) + case.log_density
        return -special.logsumexp(joint, axis=1).sum()

    best = optimize.minimize(negative, np.zeros(2), method="BFGS")
    lost = case.log_prob.sum() + best.fun
    assert case.cost_of_constant_gate() == pytest.approx(lost, rel=1e-3)
    assert lost > 1.0


def test_a_constant_gate_costs_nothing(data):
    model = regressor(gate=ConstantGate(), tol=1e-12).fit(*data)
    case = Case(model, model._training_rows)
    assert case.cost_of_constant_gate() == pytest.approx(0.0, abs=1e-4)


def test_distance_is_in_deviations_of_the_noise():
    X = np.linspace(-1, 1, 200)[:, None]
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    y = 3.0 * label + 0.5 * rng.normal(size=200)
    flat = LinearExpert(alpha=1e6)
    model = regressor(flat, init=label).fit(X, y)
    low, high = (expert.intercept_ for expert in model.experts_)
    variance = np.mean([expert.dispersion for expert in model.experts_])
    case = Case(model, model._training_rows)
    wanted = abs(high - low) / np.sqrt(variance)
    assert case.apart(0, 1) == pytest.approx(wanted, rel=1e-3)
    model = regressor(RobustLinearExpert(), init=label).fit(X, y)
    assert np.isnan(Case(model, model._training_rows).apart(0, 1))


def test_worth_is_the_penalty_of_bic(case):
    assert case.worth(4) == pytest.approx(2.0 * np.log(200))
    assert case.gate_share == pytest.approx(case.model.gate_.n_parameters / 2)


def test_surprise_is_half_the_squared_deviation(data):
    X, y = data
    model = regressor(n_experts=1).fit(X, y)
    case = Case(model, model._training_rows)
    noise = model.experts_[0].dispersion
    wanted = 0.5 * (y - model.predict(X)) ** 2 / noise
    assert_allclose(case.surprise(), wanted, **TOL)


def test_surprise_counts_what_the_gate_rules_out(model, case, data):
    X, y = data
    law = model.predict_distribution(X)
    scale = np.sqrt(np.array(law.dispersions, dtype=float))
    z = (y[:, None] - law.means) / scale
    wanted = (0.5 * z**2 - law.log_gate).min(axis=1)
    assert_allclose(case.surprise(), wanted, **TOL)


def test_experts_without_anything_to_learn_are_never_idle(data):
    X, y = data
    experts = [("line", LinearExpert()), ("noise", UniformExpert())]
    model = regressor(experts).fit(X, y)
    case = Case(model, model._training_rows)
    assert case.learns.tolist() == [True, False]
    assert not case.idle.any()


def test_weights_count_as_rows(data):
    X, y = data
    weight = np.random.default_rng(0).integers(0, 3, size=200)
    model = regressor().fit(X, y, sample_weight=weight)
    case = Case(model, model._training_rows)
    assert case.total == weight.sum()
    assert case.weight @ case.log_prob == pytest.approx(
        model.log_likelihood(X, y, sample_weight=weight)
    )


def test_groups_are_units(data):
    X, y = data
    groups = np.arange(200) // 4
    model = regressor().fit(X, y, groups=groups)
    case = Case(model, model._training_rows)
    assert case.weight.size == 50
    assert_allclose(
        case.resp[groups], model.responsibilities(X, y, groups=groups), atol=1e-9
    )
    value = model.log_likelihood(X, y, groups=groups)
    assert case.weight @ case.log_prob == pytest.approx(value)
    assert case.surprise().size == 200


def test_rows_without_a_response_surprise_nobody(data):
    X, y = data
    y = y.copy()
    y[::4] = np.nan
    model = regressor(gate=GaussianGate()).fit(X, y)
    case = Case(model, model._training_rows)
    assert not case.surprise()[::4].any()
    assert case.surprise()[1::4].any()
    assert_allclose(case.log_prob[::4], 0.0, atol=1e-9)


def test_paths_that_are_left_out(data):
    tree = HierarchicalMixtureOfExpertsRegressor(
        path_tol=0.2, init="kmeans", tol=1e-3, prune=False, random_state=0
    )
    tree.fit(*data)
    case = Case(tree, tree._training_rows)
    assert (case.log_gate == -np.inf).any()
    for value in (case.log_prob, case.resp, case.surprise()):
        assert np.isfinite(value).all()
    assert not np.isnan(case.costs_of_merging(0)).any()
    assert np.isfinite(case.cost_of_constant_gate())


def test_classes(data):
    X, y = data
    model = classifier().fit(X, y > np.median(y))
    case = Case(model, model._training_rows)
    assert_allclose(case.log_prob, model.log_prob(X, y > np.median(y)), **TOL)
    assert (case.surprise() >= 0).all()
