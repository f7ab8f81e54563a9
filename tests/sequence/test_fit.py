"""The fit: EM climbs, ends at a maximum, and is a known fit in special cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.em import _ridge
from skmoe.em._chains import Chains
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.experts import LinearExpert, LogisticExpert, UniformExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.sequence import MarkovMixtureOfExpertsRegressor
from tests._asserts import assert_climbs, assert_gradient
from tests.sequence.regimes import PLAIN, classifier, regressor, switching


@pytest.fixture
def series(rng):
    return switching(rng)


def half_and_half(n_rows):
    """Return a start from responsibilities that are not those of a maximum."""
    return np.random.default_rng(5).dirichlet([2.0, 2.0], size=n_rows)


@pytest.mark.parametrize("gate", [SoftmaxGate(), SoftmaxGate(alpha=0), ConstantGate()])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("acceleration", [None, "auto"])
def test_the_objective_never_falls(gate, order, acceleration, series):
    X, y, state = series
    y, states = y.copy(), np.full(200, -1)
    y[::7] = np.nan
    states[30:60:5] = state[30:60:5]
    model = regressor(
        gate=gate, order=order, acceleration=acceleration, init=half_and_half(200)
    )
    model.fit(X, y, lengths=[120, 1, 79], states=states)
    assert_climbs(model.objective_trace_)
    assert model.converged_
    assert len(model.objective_trace_) > 3


def test_the_objective_of_a_classifier_never_falls(series):
    X, y, _ = series
    model = classifier(LogisticExpert(alpha=0.1), init=half_and_half(200))
    model.fit(X, y > 0)
    assert_climbs(model.objective_trace_)


def test_the_objective_is_the_penalised_log_likelihood(series):
    X, y, _ = series
    model = regressor().fit(X, y, lengths=[80, 120])
    value = model.log_likelihood(X, y, lengths=[80, 120]) + model.node_.penalty
    assert_allclose(model.objective_trace_[-1], value, rtol=1e-9)


@pytest.mark.parametrize("gate", [SoftmaxGate(alpha=0), ConstantGate()])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_fixed_point_has_no_gradient(gate, gaps, series):
    X, y, _ = series
    if gaps:
        y = np.where(np.arange(200) % 9 == 4, np.nan, y)
    model = regressor(**PLAIN | {"gate": gate}, tol=1e-13, max_iter=3000)
    model.fit(X, y, lengths=[90, 110])
    node, chains = model.node_, Chains(np.repeat([0, 1], [90, 110]))
    matrix = model._check_new(X, "predict")  # as the engine has it
    chains.labelled = None if not gaps else ~np.isnan(y)
    filled = np.nan_to_num(y)
    # Shares sum to one and are not free to move; see the next test.
    gates = [] if isinstance(gate, ConstantGate) else model.transition_gates_
    parts = [*gates, *model.experts_]
    point = np.concatenate([part.parameters for part in parts])

    def value(vector):
        start = 0
        for part in parts:
            size = part.parameters.size
            part.parameters = vector[start : start + size]
            start += size
        return node.passage(matrix, filled, chains).log_prob.sum()

    assert_allclose(value(point), model.log_likelihood(X, y, lengths=[90, 110]))
    zero, draws = np.zeros(point.size), np.random.default_rng(0)
    assert_gradient(value, zero, point, draws, rtol=1e-4)
    with pytest.raises(AssertionError):  # as it does a tenth away from there
        assert_gradient(value, zero, point + 0.1, draws, rtol=1.0)


def test_constant_transitions_are_the_shares_of_their_pairs(series):
    # The stationary point of shares: what the smoothed pairs say they are.
    X, y, _ = series
    model = regressor(**PLAIN | {"gate": ConstantGate()}, tol=1e-12).fit(X, y)
    matrix = model._check_new(X, "predict")
    found = model.node_.passage(matrix, y, Chains.single(200))
    expected = found.pairs / found.pairs.sum(axis=1, keepdims=True)
    assert_allclose(model.transition_proba(X[:1])[0], expected, rtol=1e-4)


@pytest.mark.parametrize("gate", [None, ConstantGate()])
def test_blind_to_the_past_is_the_flat_mixture(gate, series):
    X, y, _ = series
    init = half_and_half(200)
    options = {"gate": gate, "init": init, "tol": 1e-11, "max_iter": 5000}
    flat = MixtureOfExpertsRegressor(n_experts=2, **options).fit(X, y)
    model = regressor(order=0, **options).fit(X, y)
    assert_allclose(model.log_likelihood(X, y), flat.log_likelihood(X, y), rtol=1e-6)
    assert_allclose(model.predict(X), flat.predict(X), atol=1e-3)
    assert_allclose(model.gate_proba(X), flat.gate_proba(X), atol=1e-3)
    assert model.n_parameters_ == flat.n_parameters_


def test_a_classifier_blind_to_the_past_is_the_flat_one(series):
    X, y, _ = series
    label = np.digitize(y, [-1.0, 1.0])
    options = {"init": half_and_half(200), "tol": 1e-11, "max_iter": 5000}
    expert = LogisticExpert(alpha=1.0)
    flat = MixtureOfExpertsClassifier(expert, 2, **options).fit(X, label)
    model = classifier(expert, order=0, **options).fit(X, label)
    value = flat.log_likelihood(X, label)
    assert_allclose(model.log_likelihood(X, label), value, rtol=1e-6)
    assert_allclose(model.predict_proba(X), flat.predict_proba(X), atol=1e-3)


def test_independent_rows_have_the_likelihood_of_the_flat_mixture(series):
    X, y, _ = series
    flat = MixtureOfExpertsRegressor(n_experts=2, init="kmeans").fit(X, y)
    model = regressor(order=0).fit(X, y)
    # The very same parameters: not two fits that end alike.
    model.node_.gate.parameters = flat.gate_.parameters
    for mine, theirs in zip(model.experts_, flat.experts_, strict=True):
        mine.parameters = theirs.parameters
    assert_allclose(model.log_prob(X, y), flat.log_prob(X, y), rtol=1e-10)
    assert_allclose(model.smooth(X, y), flat.responsibilities(X, y), atol=1e-10)


def test_a_hidden_markov_model_of_hmmlearn(rng):
    hmm = pytest.importorskip("hmmlearn.hmm")
    y = switching(rng, 300)[1]
    lengths, X = [120, 180], np.zeros((300, 1))
    model = regressor(
        LinearExpert(alpha=0, variance_prior=None),
        gate=ConstantGate(),
        initial_gate=ConstantGate(),
        expert_features=[],
        gate_features=[],
        init=half_and_half(300),
        tol=1e-10,
    ).fit(X, y, lengths=lengths)
    other = hmm.GaussianHMM(2, "diag", init_params="", params="")
    other.startprob_ = model.initial_gate_.weights_
    other.transmat_ = model.transition_proba(X)[0]
    other.means_ = model.predict_experts(X)[0][:, None]
    other.covars_ = np.array([[e.dispersion] for e in model.experts_]).reshape(2, 1)
    value = other.score(y[:, None], lengths)
    assert_allclose(model.log_likelihood(X, y, lengths=lengths), value, rtol=1e-9)
    smoothed = other.predict_proba(y[:, None], lengths)
    assert_allclose(model.smooth(X, y, lengths=lengths), smoothed, atol=1e-8)
    path = other.predict(y[:, None], lengths)
    assert_array_equal(model.decode(X, y, lengths=lengths), path)
    # And from there its own EM finds no higher place.
    other.params, other.n_iter, other.tol = "stmc", 20, 1e-9
    other.covars_prior = other.covars_weight = 0.0
    other.fit(y[:, None], lengths)
    assert other.score(y[:, None], lengths) <= value + 1e-3


@pytest.mark.parametrize("gate", [SoftmaxGate(), ConstantGate()])
def test_a_sequence_of_weight_two_counts_twice(gate, series):
    X, y, _ = series
    weight = np.repeat([2.0, 1.0], [70, 130])
    twice = np.concatenate([np.arange(70), np.arange(200)])
    init = half_and_half(200)
    options = {"gate": gate, "tol": 1e-10}
    weighted = regressor(init=init, **options)
    weighted.fit(X, y, weight, lengths=[70, 130])
    repeated = regressor(init=init[twice], **options)
    repeated.fit(X[twice], y[twice], lengths=[70, 70, 130])
    assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-5)
    value = weighted.log_likelihood(X, y, weight, lengths=[70, 130])
    assert_allclose(value, repeated.objective_trace_[-1] - repeated.node_.penalty)


def test_a_sequence_of_weight_zero_is_not_there(series):
    X, y, _ = series
    y[:70] = 1e3
    init = half_and_half(200)
    weight = np.repeat([0.0, 1.0], [70, 130])
    model = regressor(init=init).fit(X, y, weight, lengths=[70, 130])
    less = regressor(init=init[70:]).fit(X[70:], y[70:])
    assert_allclose(model.predict(X), less.predict(X))
    assert len(model.final_state_proba_) == 1


@pytest.mark.parametrize("covariance", ["lengths", "groups"])
def test_how_sequences_are_told_is_nothing(covariance, series):
    X, y, _ = series
    init, order = half_and_half(200), np.r_[0:200:2, 1:200:2]
    model = regressor(init=init, tol=1e-10).fit(X, y, groups=np.arange(200) % 2)
    if covariance == "groups":
        where = {"groups": np.repeat(["x", "a"], 100)}
    else:
        where = {"lengths": [100, 100]}
    other = regressor(init=init[order], tol=1e-10).fit(X[order], y[order], **where)
    assert_allclose(model.predict_experts(X), other.predict_experts(X), atol=1e-6)
    assert_allclose(model.transition_proba(X), other.transition_proba(X), atol=1e-6)


def test_sequences_of_one_row_learn_their_first_law(series):
    X, y, _ = series
    init = half_and_half(200)
    alone = np.ones(200, dtype=int)
    model = regressor(init=init, initial_gate=SoftmaxGate(), tol=1e-11, max_iter=5000)
    model.fit(X, y, lengths=alone)
    flat = MixtureOfExpertsRegressor(n_experts=2, init=init, tol=1e-11, max_iter=5000)
    flat.fit(X, y)
    value = model.log_likelihood(X, y, lengths=alone)
    assert_allclose(value, flat.log_likelihood(X, y), rtol=1e-6)


def test_all_states_known_is_a_fit_of_each(series):
    X, y, state = series
    model = regressor(
        **PLAIN | {"gate": ConstantGate(), "initial_gate": ConstantGate()}
    )
    model.fit(X, y, lengths=[90, 110], states=state)
    for k, expert in enumerate(model.experts_):
        line = LinearRegression().fit(X[state == k], y[state == k])
        assert_allclose(expert.coef_, line.coef_, rtol=1e-6)
        residual = y[state == k] - line.predict(X[state == k])
        assert_allclose(expert.dispersion, np.mean(residual**2), rtol=1e-6)
    count = np.zeros((2, 2))
    for t in [*range(1, 90), *range(91, 200)]:
        count[state[t - 1], state[t]] += 1.0
    expected = count / count.sum(axis=1, keepdims=True)
    assert_allclose(model.transition_proba(X)[0], expected, rtol=1e-6)
    first = np.bincount(state[[0, 90]], minlength=2) / 2.0
    assert_allclose(model.initial_gate_.weights_, first, atol=1e-9)


def test_some_states_known_name_the_experts(series):
    X, y, state = series
    some = np.full(200, -1)
    some[10:40] = 1 - state[10:40]  # names the wrong way round
    model = regressor().fit(X, y, states=some)
    assert np.mean(model.decode(X, y) == 1 - state) > 0.9
    # Under the wrong names a start would be trapped: experts take those that fit.
    other = regressor(init=np.eye(2)[state]).fit(X, y, states=some)
    assert np.mean(other.decode(X, y) == 1 - state) > 0.9


def test_responses_that_are_missing_teach_the_gates_only(series):
    X, y, _ = series
    lacking, init = np.where(np.arange(200) < 150, y, np.nan), half_and_half(200)
    model = regressor(**PLAIN, init=init, tol=1e-10).fit(X, lacking)
    # What stands behind the last response is nothing: the same fit without it.
    less = regressor(**PLAIN, init=init[:150], tol=1e-10).fit(X[:150], y[:150])
    value = less.log_likelihood(X[:150], y[:150])
    assert_allclose(model.log_likelihood(X, lacking), value, rtol=1e-6)
    assert np.isfinite(model.predict(X)).all()


def test_the_truth_is_found(rng):
    X, y, state = switching(rng, 1500, noise=0.2)
    model = MarkovMixtureOfExpertsRegressor(random_state=0).fit(X, y)
    flat = MixtureOfExpertsRegressor(n_experts=2, random_state=0).fit(X, y)
    wrong = [
        min(np.mean(found != state), np.mean(found == state))
        for found in (model.decode(X, y), flat.responsibilities(X, y).argmax(axis=1))
    ]
    assert wrong[0] < 0.5 * wrong[1]
    assert wrong[0] < 0.02
    swap = int(np.mean(model.decode(X, y) == state) < 0.5)
    lines = [model.experts_[swap ^ k].coef_[0] for k in (0, 1)]
    assert_allclose(lines, [2.0, -1.0], atol=0.05)
    assert model.log_likelihood(X, y) > flat.log_likelihood(X, y) + 100.0


GATES = {
    "estimator": LogisticRegression(),
    "splines": make_pipeline(SplineTransformer(4), SoftmaxGate()),
    "lasso": SoftmaxGate(0.01, l1_ratio=1.0),
}


@pytest.mark.parametrize("place", ["gate", "initial_gate"])
@pytest.mark.parametrize("kind", sorted(GATES))
def test_any_gate_takes_part(kind, place, series):
    X, y, state = series
    model = regressor(**{place: GATES[kind]}).fit(X, y, lengths=np.full(20, 10))
    found = model.decode(X, y, lengths=np.full(20, 10))
    assert max(np.mean(found == state), np.mean(found != state)) > 0.95
    assert_allclose(model.transition_proba(X).sum(axis=2), 1.0)
    if kind != "estimator":
        assert_climbs(model.objective_trace_)


def test_a_gate_that_models_x_is_refused(series):
    X, y, _ = series
    with pytest.raises(ValueError, match="conditional on x, got GaussianGate"):
        regressor(gate=GaussianGate()).fit(X, y)


def test_a_shared_variance(series):
    X, y, _ = series
    model = regressor(shared_dispersion=True).fit(X, y)
    assert model.experts_[0].dispersion == model.experts_[1].dispersion
    assert model.n_parameters_ == regressor().fit(X, y).n_parameters_ - 1
    assert_climbs(model.objective_trace_)


def test_sparse_inputs(series):
    X, y, _ = series
    model = regressor().fit(sparse.csr_array(X), y)
    dense = regressor().fit(X, y)
    value = dense.log_likelihood(X, y)
    assert_allclose(model.log_likelihood(sparse.csr_array(X), y), value, atol=0.1)


def test_a_response_that_no_expert_can_have(series):
    X, y, _ = series
    experts = [("near", UniformExpert(-4, 4)), ("far", UniformExpert(-9, 9))]
    with pytest.raises(ValueError, match=r"Got y = 100 in row 5"):
        regressor(experts).fit(X, np.where(np.arange(200) == 5, 100.0, y))
    model = regressor(experts).fit(X, y)
    strange, lacking = y.copy(), y.copy()
    strange[5], lacking[5] = 100.0, np.nan
    found = model.log_prob(X, strange)
    assert found[5] == -np.inf
    others = np.arange(200) != 5
    # It says nothing of the state, as if it were missing.
    assert_allclose(found[others], model.log_prob(X, lacking)[others])
    assert_allclose(model.smooth(X, strange), model.smooth(X, lacking))
    assert_array_equal(model.decode(X, strange), model.decode(X, lacking))


def test_known_states_keep_their_experts(rng):
    # One of three experts has no rows; the others are known by their places.
    X, state = rng.normal(size=(80, 2)), np.repeat([0, 2, 0, 2], 20)
    y = np.where(state == 0, X[:, 0], -X[:, 0])
    states = np.where(np.arange(80) % 3 == 0, -1, state)
    with pytest.warns(CollapsedExpertWarning, match="expert1"):
        model = regressor(n_experts=3).fit(X, y, states=states)
    assert len(model.experts_) == 3
    assert np.mean(model.decode(X, y) == state) > 0.9


@pytest.mark.parametrize("most", [40, 4000])
def test_a_ridge_is_chosen_by_responses_that_are_there(most, monkeypatch):
    X, y, state = switching(np.random.default_rng(0), 100)
    y = np.where(np.arange(100) % 3 == 0, np.nan, (y > 0) ^ (state == 1))
    y[:45] = np.nan
    seen, plain = [], _ridge.strongest

    def spied(score, weight):
        seen.append(score)
        return plain(score, weight)

    monkeypatch.setattr(_ridge, "MAX_ROWS", most)
    monkeypatch.setattr(_ridge, "strongest", spied)
    classifier(tol=1e-3).fit(X, y)
    (score,) = seen
    rows = slice(46, 86) if most == 40 else slice(0, 100)  # from the first response
    assert_array_equal(np.isnan(score), np.tile(np.isnan(y[rows]), (len(score), 1)))


def test_a_ridge_of_two_responses():
    X = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.full(60, np.nan)
    labels[[30, 31]] = 0, 1
    model = classifier(tol=1e-3).fit(X, labels)
    assert np.isfinite(model.smooth(X, labels)).all()
