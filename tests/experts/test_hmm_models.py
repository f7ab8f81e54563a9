"""Hidden Markov models of weighted sequences: passes, priors, against hmmlearn."""

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from skmoe._ragged import Sequences, pad_sequences
from skmoe.experts import HMMExpert
from skmoe.experts._hmm_chains import expected_states, filter_states
from skmoe.experts._hmm_model import ClassModels, Settings
from tests._asserts import assert_climbs
from tests.experts.test_hmm import FAST, MEANS, SLOW, by_hand, two_classes


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# -- the chains ------------------------------------------------------------------


def emission(row):
    if np.isnan(row).any():
        return np.zeros(2)
    return np.array([multivariate_normal.logpdf(row, mean, 0.36) for mean in MEANS])


def gapped(rng):
    X, _ = two_classes(7, rng, low=1, high=6)
    X[2] = X[2][:1]
    X[3] = np.vstack([X[3][:1], [[np.nan, 1.0]], X[3]])
    return X


def packed(X):
    sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
    log_emission = np.array([emission(row) for row in sequences.rows])
    log_emission[~sequences.seen] = 0.0
    return sequences, log_emission


def test_filter_equals_a_loop(rng):
    X = gapped(rng)
    sequences, log_emission = packed(X)
    start = np.array([0.3, 0.7])
    got = filter_states(sequences, start, FAST, log_emission)[2]
    expected = [by_hand(x, start, FAST, emission) for x in X]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_expectations_are_derivatives(rng):
    """Those of the log density in the logs of start and moves."""
    sequences, log_emission = packed(gapped(rng))
    weight = rng.uniform(size=len(sequences))
    start = np.array([0.3, 0.7])
    expected = expected_states(sequences, weight, start, FAST, log_emission)
    np.testing.assert_allclose(expected.state.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(expected.start.sum(), weight.sum())

    def total(start, moves, log_emission):
        return weight @ filter_states(sequences, start, moves, log_emission)[2]

    for i, j in np.ndindex(2, 2):
        step = np.exp(1e-6 * np.eye(2)[i][:, None] * np.eye(2)[j])
        high, low = (
            total(start, FAST * step, log_emission),
            total(start, FAST / step, log_emission),
        )
        np.testing.assert_allclose((high - low) / 2e-6, expected.moves[i, j], rtol=1e-6)
    row_weight = sequences.packed(weight)
    for row in (0, 5, len(row_weight) - 1):
        step = np.zeros_like(log_emission)
        step[row, 1] = 1e-6
        gain = total(start, FAST, log_emission + step) - total(
            start, FAST, log_emission - step
        )
        np.testing.assert_allclose(
            gain / 2e-6, row_weight[row] * expected.state[row, 1], rtol=1e-5, atol=1e-9
        )


def test_several_models_at_once(rng):
    sequences, log_emission = packed(gapped(rng))
    both = np.array([log_emission, 0.5 * log_emission])
    start, moves = np.array([[0.3, 0.7], [0.5, 0.5]]), np.array([FAST, SLOW])
    weight = rng.uniform(size=(2, len(sequences)))
    together = expected_states(sequences, weight, start, moves, both.copy())
    for k in range(2):
        alone = expected_states(sequences, weight[k], start[k], moves[k], both[k])
        for got, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[k], expected, rtol=1e-12)


def test_no_underflow():
    sequences = Sequences(np.zeros((5000, 1)), np.array([5000]))
    log_emission = np.full((5000, 2), -1e4)
    log_emission[::2, 0] = -2e4
    log_prob = filter_states(sequences, np.array([1.0, 0.0]), SLOW, log_emission)[2]
    assert np.isfinite(log_prob).all()
    moves = np.eye(2)  # no way out of the first state
    log_prob = filter_states(sequences, np.array([1.0, 0.0]), moves, log_emission)[2]
    np.testing.assert_allclose(log_prob, -2500 * 3e4)


# -- the models of a class -------------------------------------------------------


def settings(**options):
    given = {
        "n_states": 2,
        "covariance_type": "diag",
        "n_features": 2,
        "n_symbols": None,
        "n_starts": 2,
        "max_iter": 30,
        "tol": 0.0,
        "prior_rows": 0.0,
        "prior_fraction": 0.0,
        "pseudo_count": 0.0,
        "shrinkage": 0.0,
        "unit": 1.0,
    }
    return Settings(**{**given, **options})


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_pass_equals_that_of_hmmlearn(rng, kind):
    """On unweighted data, without priors but those too small to matter."""
    X, _ = two_classes(40, rng)
    sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
    own = settings(covariance_type=kind, max_iter=3)
    fitted = ClassModels.fit(sequences, np.ones((1, 40)), own, None)
    plain = GaussianHMM(
        2, kind, n_iter=1, init_params="", covars_prior=0.0, min_covar=0.0
    )
    plain.covars_weight = 1.0 if kind == "diag" else 2.0
    before = fitted.models[0]
    plain.n_features = 2
    plain.startprob_, plain.transmat_ = before.startprob_, before.transmat_
    plain.means_, plain.covars_ = before.means_, before._covars_
    np.testing.assert_allclose(
        fitted.log_prob(sequences), [plain.score(x) for x in X], rtol=1e-10
    )
    plain.fit(np.concatenate(X), [len(x) for x in X])
    after = fitted.stepped(sequences, np.ones((1, 40)), own, 1).models[0]
    for name in ("startprob_", "transmat_", "means_", "_covars_"):
        np.testing.assert_allclose(
            getattr(after, name), getattr(plain, name), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("kind", ["diag", "full"])
@pytest.mark.parametrize("shrinkage", [0.0, 4.0])
def test_weight_two_is_the_sequence_twice(rng, kind, shrinkage):
    X, _ = two_classes(30, rng)
    count = rng.integers(1, 4, size=30)
    own = settings(
        covariance_type=kind, prior_rows=5.0, prior_fraction=0.1, shrinkage=shrinkage
    )

    def fit(X, weight):
        sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
        models = ClassModels.fit(sequences, weight[None], own, None)
        shares = weight[None] * (1.0 + sequences.lengths % 3)
        return models.stepped(sequences, shares, own, 2).models[0]

    weighted = fit(X, count.astype(float))
    repeated = fit(
        [x for x, c in zip(X, count, strict=True) for _ in range(c)],
        np.ones(count.sum()),
    )
    for name in ("startprob_", "transmat_", "means_", "_covars_"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_baum_welch_climbs(rng, kind):
    X, _ = two_classes(30, rng)
    sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
    weight = rng.uniform(size=(1, 30)) ** 3
    own = settings(covariance_type=kind)
    models = ClassModels.fit(sequences, np.ones((1, 30)), own, None)
    values = []
    for _ in range(20):
        values.append(weight[0] @ models.log_prob(sequences))
        models = models.stepped(sequences, weight, own, 1)
    assert_climbs(values, 1e-7)
    assert values[-1] > values[0] + 0.5


@pytest.mark.parametrize(("strength", "held"), [(1e9, True), (1.0, False)])
def test_strong_anchor_holds(rng, strength, held):
    X, y = two_classes(40, rng)
    table, few = pad_sequences(X), np.where(np.arange(40) < 10, 1.0, 1e-3)
    expert = HMMExpert(2, n_features=2, shrinkage=strength, calibration=None)
    expert.prepare(table, y, np.ones(40), 2)
    before = expert.models_[0]
    expert.m_step(table, y, few)
    after = expert.models_[0]
    for name in ("means_", "covars_", "transmat_"):
        change = np.abs(getattr(after, name) - getattr(before, name)).max()
        assert (change < 1e-6) == held
    # A start is worth one sequence at most: the five of this class prevail.
    assert np.abs(after.startprob_ - before.startprob_).max() > 1e-3


def test_unobserved_steps_have_no_say(rng):
    X, _ = two_classes(60, rng)
    for x in X:
        x += 10.0
        x[1::3] = np.nan
    sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
    model = ClassModels.fit(sequences, np.ones((1, 60)), settings(), None).models[0]
    order = model.means_[:, 0].argsort()
    np.testing.assert_allclose(model.means_[order], MEANS + 10.0, atol=0.15)
    np.testing.assert_allclose(model._covars_, 0.36, atol=0.1)


def test_a_fold_that_has_all_of_a_class_leaves_nothing(rng):
    """The model without it is that of all rows, not a narrow one at their middle."""
    X, _ = two_classes(4, rng)
    sequences = Sequences(np.concatenate(X), np.array([len(x) for x in X]))
    weights = np.array([np.ones(4), np.zeros(4)])
    own = settings(prior_rows=5.0, prior_fraction=0.05)
    _, left = ClassModels.fit(sequences, weights, own, None).models
    np.testing.assert_array_equal(left.means_, 0.0)
    np.testing.assert_array_equal(left._covars_, 1.0)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("scale", [1e160, 1e250])
def test_a_step_whose_square_overflows_says_nothing(rng, scale):
    X, y = two_classes(20, rng)
    model = HMMExpert(2).fit(X, y)
    proba = model.predict_proba([X[0] * scale, X[0]])
    assert_allclose(proba.sum(axis=1), 1.0)
    assert_allclose(proba[1], model.predict_proba(X[:1])[0])


@pytest.mark.parametrize("unit", [0.5, 1e-3])
def test_weights_that_sum_to_one_leave_a_calibration_as_it_is(rng, unit):
    X, y = two_classes(40, rng)
    whole = HMMExpert(2).fit(X, y)
    light = HMMExpert(2).fit(X, y, np.full(40, unit))
    assert abs(whole.predict_proba(X) - 0.5).max() > 0.3
    assert_allclose(light.predict_proba(X), whole.predict_proba(X), atol=1e-3)
    assert_allclose(light.temperature_, whole.temperature_, rtol=1e-2)


def test_some_of_an_array_of_sequences(rng):
    X = np.empty(30, dtype=object)
    X[:] = [rng.normal(3.0 * (i % 2), size=5 + i % 3) for i in range(30)]
    model = HMMExpert(2).fit(X, np.arange(30) % 2)
    proba = model.predict_proba(X)
    assert_allclose(model.predict_proba(X[:1]), proba[:1])
    assert_allclose(model.predict_proba(X[::3]), proba[::3])
    with pytest.raises(ValueError, match="lengths are those of stacked rows"):
        model.predict(X, lengths=[len(one) for one in X])
