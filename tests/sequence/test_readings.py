"""What a fitted model says of its states, against sums over all paths."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate

from skmoe.em._chains import Chains
from skmoe.gates import ConstantGate, SoftmaxGate
from tests.em.slow_chains import enumerated, sequence_by_sequence, walked
from tests.sequence.regimes import classifier, laws, regressor, switching

GATES = {"softmax": SoftmaxGate(alpha=0.1), "constant": ConstantGate()}


@pytest.fixture(scope="module", params=sorted(GATES))
def model(request):
    X, y, _ = switching(np.random.default_rng(0))
    return regressor(gate=GATES[request.param]).fit(X, y)


@pytest.fixture(scope="module")
def series():
    """Return rows that are not those of the fit."""
    X, y, _ = switching(np.random.default_rng(1), 64)
    return X, y


CUTS = {"short": [3, 1, 2], "one": [64], "several": [30, 1, 25, 8]}


@pytest.mark.parametrize("cut", sorted(CUTS))
@pytest.mark.parametrize("gaps", [False, True])
def test_states_and_densities(model, series, cut, gaps):
    lengths = CUTS[cut]
    X, y = (rows[: sum(lengths)].copy() for rows in series)
    if gaps:
        y[[0, 2, -1]] = np.nan
    chains = Chains(np.repeat(np.arange(len(lengths)), lengths))
    slow = enumerated if cut == "short" else walked
    chain = laws(model, X, y, chains)
    found = sequence_by_sequence(slow, *chain)
    where = {"lengths": lengths}
    log_prob = np.where(np.isnan(y), 0.0, found["log_prob"])
    assert_allclose(model.log_prob(X, y, **where), log_prob, rtol=1e-9, atol=1e-10)
    assert_allclose(model.filter(X, y, **where), found["filtered"].T, atol=1e-9)
    assert_allclose(model.smooth(X, y, **where), found["smoothed"].T, atol=1e-9)
    assert_array_equal(model.decode(X, y, **where), found["path"])
    assert_allclose(model.log_likelihood(X, y, **where), log_prob.sum())
    ahead = found["filtered"][:, :-1, None] * np.exp(chain[1].transpose(0, 2, 1))[:, 1:]
    ahead = np.vstack([np.zeros(2), ahead.sum(axis=0)])
    ahead[chains.first] = np.exp(chain[0]).T
    assert_allclose(model.gate_proba(X, y, **where), ahead, atol=1e-9)
    assert_array_equal(model.apply(X, y, **where), ahead.argmax(axis=1))
    blind = sequence_by_sequence(slow, *chain[:2], np.zeros_like(chain[2]), chains)
    assert_allclose(model.gate_proba(X, **where), blind["filtered"].T, atol=1e-9)
    mean = (ahead * model.predict_experts(X)).sum(axis=1)
    assert_allclose(model.predict(X, y, **where), mean)
    assert_allclose(model.predict_distribution(X, y, **where).mean, mean)
    mean = (blind["filtered"].T * model.predict_experts(X)).sum(axis=1)
    assert_allclose(model.predict(X, **where), mean)


def test_log_prob_is_that_of_the_law_one_step_ahead(model, series):
    X, y = series
    law = model.predict_distribution(X, y)
    assert_allclose(model.log_prob(X, y), law.log_prob(y))


def test_a_law_one_step_ahead_does_not_see_its_own_row(model, series):
    X, y = series
    changed = y.copy()
    changed[40:] = -9.0
    before, after = model.predict(X, y), model.predict(X, changed)
    assert_array_equal(before[:41], after[:41])
    assert before[41] != after[41]
    assert_array_equal(model.filter(X, y)[:40], model.filter(X, changed)[:40])


@pytest.mark.parametrize("row", [0, 2, 4])
def test_a_missing_response_is_integrated_out(model, series, row):
    X, y = (rows[:5] for rows in series)

    def density(value):
        filled = y.copy()
        filled[row] = value
        return np.exp(model.log_prob(X, filled).sum())

    total = integrate.quad(density, -15.0, 15.0, points=[-2, 0, 2], limit=200)[0]
    lacking = y.copy()
    lacking[row] = np.nan
    assert_allclose(np.log(total), model.log_prob(X, lacking).sum(), rtol=1e-6)


@pytest.mark.parametrize("at", [1, 20, 63])
def test_a_series_goes_on_from_its_first_part(model, series, at):
    X, y = series
    last = model.filter(X[:at], y[:at])[-1]
    for method in (model.log_prob, model.filter, model.gate_proba, model.predict):
        second = method(X[at:], y[at:], previous=last)
        assert_allclose(second, method(X, y)[at:], rtol=1e-8, atol=1e-12)
    smoothed = model.smooth(X[at:], y[at:], previous=last[None])
    assert_allclose(smoothed, model.smooth(X, y)[at:], rtol=1e-8, atol=1e-12)
    # Without responses: from the law at the end of the first part.
    lacking = np.concatenate([y[:at], np.full(64 - at, np.nan)])
    expected = model.gate_proba(X, lacking)[at:]
    assert_allclose(model.gate_proba(X[at:], previous=last), expected)


def test_decoding_goes_on_too(model, series):
    X, y = series
    # From a row whose expert is certain nothing is lost by a cut.
    certain = model.filter(X, y)[:, 0]
    at = int(np.argmax(np.abs(certain - 0.5)[:40])) + 1
    sure = np.eye(2)[np.argmax(model.filter(X, y)[at - 1])]
    assert_allclose(model.filter(X, y)[at - 1], sure, atol=1e-3)
    rest = model.decode(X[at:], y[at:], previous=sure)
    assert_array_equal(rest, model.decode(X, y)[at:])


def test_sequences_each_go_on_from_their_own(model, series):
    X, y = series
    law = np.array([[1.0, 0.0], [0.2, 0.8]])
    both = model.log_prob(X, y, lengths=[40, 24], previous=law)
    assert_allclose(both[:40], model.log_prob(X[:40], y[:40], previous=law[0]))
    assert_allclose(both[40:], model.log_prob(X[40:], y[40:], previous=law[1]))


def test_groups_are_lengths_by_name(model, series, rng):
    X, y = series
    names = np.repeat(["b", "a", "c"], [20, 40, 4])
    shuffled, mixed = rng.permutation(names), np.empty(64, dtype=int)
    for name in "abc":
        mixed[shuffled == name] = np.flatnonzero(names == name)
    for method in ("log_prob", "filter", "smooth", "decode", "gate_proba", "predict"):
        expected = getattr(model, method)(X, y, lengths=[20, 40, 4])
        found = getattr(model, method)(X[mixed], y[mixed], groups=shuffled)
        assert_allclose(found, expected[mixed])


def test_rows_of_one_are_all_first(model, series):
    X, y = series
    alone = model.gate_proba(X, y, lengths=np.ones(64, dtype=int))
    assert_allclose(alone, np.exp(model.initial_gate_.log_proba(X)))


def test_the_law_at_the_end_of_the_fit():
    X, y, _ = switching(np.random.default_rng(0), 90)
    model = regressor().fit(X, y, lengths=[50, 40])
    expected = model.filter(X, y, lengths=[50, 40])[[49, 89]]
    assert_allclose(model.final_state_proba_, expected)
    groups = np.tile([0, 1], 45)
    model = regressor().fit(X, y, groups=groups)
    assert_allclose(
        model.final_state_proba_, model.filter(X, y, groups=groups)[[88, 89]]
    )


def test_continues_is_previous_from_the_fit(series):
    X, y, _ = switching(np.random.default_rng(0), 90)
    model = regressor(continues=True).fit(X, y)
    more, ahead = series
    fresh = regressor().fit(X, y)
    expected = fresh.predict(more, ahead, previous=fresh.final_state_proba_)
    assert_allclose(model.predict(more, ahead), expected)
    # One law serves any number of sequences; the given one comes first.
    assert_allclose(model.predict(more, ahead, lengths=[64]), expected)
    own = model.predict(more, ahead, previous=[0.5, 0.5])
    assert_allclose(own, fresh.predict(more, ahead, previous=[0.5, 0.5]))
    assert (own[0] != expected[0]).all()


def test_continues_does_not_know_which_of_several():
    X, y, _ = switching(np.random.default_rng(0), 90)
    model = regressor(continues=True).fit(X, y, lengths=[50, 40])
    model.predict(X[:4], lengths=[2, 2])
    with pytest.raises(ValueError, match=r"fitted to 2 sequences, and 1 are given"):
        model.predict(X[:4])


def test_continues_knows_sequences_by_their_names():
    X, y, state = switching(np.random.default_rng(0), 90)
    # The two end in different regimes.
    end = np.flatnonzero(state != state[-1])[-1]
    groups = np.where(np.arange(90) > end, "b", "a")
    model = regressor(continues=True).fit(X, y, groups=groups)
    first, second = model.final_state_proba_
    assert abs(first - second).max() > 0.9
    # The other one comes first, or is there alone.
    found = model.predict(X[:4], y[:4], groups=["b", "a", "b", "a"])
    given = {"groups": ["b", "a", "b", "a"], "previous": [second, first]}
    assert_array_equal(found, model.predict(X[:4], y[:4], **given))
    assert_array_equal(
        model.predict(X[:2], groups=["b", "b"]), model.predict(X[:2], previous=second)
    )
    with pytest.raises(ValueError, match="no training sequence was named 'c'"):
        model.predict(X[:2], groups=["a", "c"])


def test_continues_does_not_know_of_a_sequence_without_weight():
    X, y, _ = switching(np.random.default_rng(0), 90)
    lengths = {"lengths": [40, 50]}
    weight = np.repeat([1.0, 0.0], lengths["lengths"])
    model = regressor(continues=True).fit(X, y, weight, **lengths)
    with pytest.raises(
        ValueError, match=r"to 1 sequences \(1 more had no w.*and 2 are given"
    ):
        model.predict(X, **lengths)
    groups = np.repeat(["a", "b"], lengths["lengths"])
    model = regressor(continues=True).fit(X, y, weight, groups=groups)
    found = model.predict(X[:3], groups=["a"] * 3)
    assert_array_equal(found, model.predict(X[:3], previous=model.final_state_proba_))
    with pytest.raises(ValueError, match="no training sequence was named 'b'"):
        model.predict(X, groups=groups)


def test_without_a_past_rows_are_independent(series):
    X, y, _ = switching(np.random.default_rng(0), 90)
    model = regressor(order=0).fit(X, y)
    X, y = series
    assert_allclose(model.filter(X, y), model.smooth(X, y))
    assert_array_equal(model.gate_proba(X), model.gate_proba(X, y))
    order = np.arange(64)[::-1]
    assert_allclose(model.log_prob(X[order], y[order]), model.log_prob(X, y)[order])
    assert_array_equal(model.decode(X, y), model.smooth(X, y).argmax(axis=1))


def test_classes_one_step_ahead():
    X, y, _ = switching(np.random.default_rng(2), 200)
    label = np.where(y > 0, "up", "down")
    model = classifier().fit(X, label)
    proba = model.predict_proba(X, label)
    assert_allclose(proba.sum(axis=1), 1.0)
    column = np.searchsorted(model.classes_, label)
    log_prob = np.log(proba[np.arange(200), column])
    assert_allclose(log_prob, model.log_prob(X, label))
    assert_allclose(model.predict_log_proba(X, label), np.log(proba))
    assert_array_equal(model.predict(X, label), model.classes_[proba.argmax(axis=1)])
    assert_allclose(model.score(X, label), (model.predict(X) == label).mean())


def test_criteria():
    X, y, _ = switching(np.random.default_rng(0), 120)
    y[::10] = np.nan
    model = regressor().fit(X, y, lengths=[70, 50])
    value = model.log_likelihood(X, y, lengths=[70, 50])
    assert_allclose(value, model.log_prob(X, y, lengths=[70, 50]).sum())
    size = model.n_parameters_
    # Two lines with their variances, two softmax gates of three, one initial share.
    assert size == 2 * 4 + 2 * 3 + 1
    assert_allclose(model.aic(X, y, lengths=[70, 50]), 2 * size - 2 * value)
    bic = size * np.log(108) - 2 * value
    assert_allclose(model.bic(X, y, lengths=[70, 50]), bic)
    resp = model.smooth(X, y, lengths=[70, 50])
    entropy = -(resp * np.log(np.maximum(resp, 1e-300))).sum()
    icl = model.icl(X, y, lengths=[70, 50])
    assert_allclose(icl, bic + 2 * entropy, rtol=1e-6)
