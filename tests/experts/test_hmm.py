"""The hidden Markov expert: by itself, as an expert, in mixtures, bad input."""

import copy
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from hmmlearn.hmm import CategoricalHMM, GaussianHMM
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe import MixtureOfExpertsClassifier
from skmoe._ragged import pad_sequences, table_sequences
from skmoe.experts import HMMExpert, LogisticExpert
from tests.experts.expert_suite import ExpertSuite

SLOW = np.array([[0.9, 0.1], [0.1, 0.9]])
FAST = np.array([[0.4, 0.6], [0.6, 0.4]])
MEANS = np.array([[0.0, 0.0], [2.0, 1.0]])


def chain(moves, length, rng, means=MEANS, noise=0.6):
    state, rows = rng.integers(len(moves)), []
    for _ in range(length):
        state = rng.choice(len(moves), p=moves[state])
        rows.append(means[state] + noise * rng.normal(size=means.shape[1]))
    return np.array(rows)


def two_classes(n, rng, low=8, high=30, **options):
    y = np.arange(n) % 2
    lengths = rng.integers(low, high, size=n)
    pairs = zip(y, lengths, strict=True)
    return [chain([SLOW, FAST][c], t, rng, **options) for c, t in pairs], y


def by_hand(rows, start, moves, log_emission):
    """Return the log density of one sequence by a plain loop, in logs."""
    alpha = np.log(start) + log_emission(rows[0])
    for row in rows[1:]:
        ahead = logsumexp(alpha[:, None] + np.log(moves), axis=0)
        alpha = ahead + log_emission(row)
    return logsumexp(alpha)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestHMMExpert(ExpertSuite):
    """Tables of four steps of one column; sparse rows are no sequences."""

    n_classes = 3
    weight_tol = 1e-6

    def make_expert(self):
        return HMMExpert(n_states=2)

    def rows(self, rng, n_samples=90, n_columns=3):
        X, y, weight = super().rows(rng, n_samples, n_columns)
        X[1, 1:] = np.nan
        X[2, 1:2] = np.nan
        return X, y, weight

    def summary(self, X, y):
        new = X.copy()  # not the training rows, which are known by identity

        def fit(rows, target, weight):
            return self.fitted(rows, target, weight).log_prob(new, y), 0.0

        return fit

    def test_shapes(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        params = expert.predict_params(X)
        assert params.shape == (X.shape[0], 3)
        rows = np.arange(len(y))
        np.testing.assert_array_equal(expert.log_prob(X.copy(), y), params[rows, y])

    def test_density_equals_scipy(self, rng):
        X, y, weight = self.rows(rng)
        params = self.fitted(X, y, weight).predict_params(X)
        np.testing.assert_allclose(np.exp(params).sum(axis=1), 1.0, rtol=1e-10)

    def test_order_of_outputs_or_classes(self, rng):
        X, y, weight = self.rows(rng)
        order = np.array([2, 0, 1])  # folds follow it: without them
        expert = HMMExpert(2, calibration=None)
        expert.prepare(X, y, weight, 3)
        other = clone(expert)
        other.prepare(X, order[y], weight, 3)
        np.testing.assert_allclose(
            other.predict_params(X)[:, order], expert.predict_params(X), atol=1e-8
        )

    def test_scale_of_a_column(self, rng):
        X, y, weight = self.rows(rng)
        one = self.fitted(X, y, weight).predict_params(X)
        for scale in (2.0**-30, 2.0**30):
            other = self.fitted(scale * X, y, weight).predict_params(scale * X)
            np.testing.assert_allclose(other, one, atol=1e-6)

    def test_pickle(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        again = pickle.loads(pickle.dumps(expert))
        np.testing.assert_array_equal(
            again.log_prob(X, y), expert.log_prob(X.copy(), y)
        )
        again.m_step(X, y, weight)
        assert np.isfinite(again.log_prob(X, y)).all()

    def test_sparse_equals_dense(self, rng):
        assert not get_tags(self.make_expert()).input_tags.sparse

    def test_learns(self, rng):
        X = pad_sequences(two_classes(300, rng)[0])
        y = np.arange(300) % 2
        expert = HMMExpert(2, n_features=2)
        expert.prepare(X, y, np.ones(300), 2)
        expert.m_step(X, y, np.ones(300))
        assert expert.log_prob(X, y).mean() > np.log(0.5) + 0.3


# -- symbols ---------------------------------------------------------------------


def words(n, rng):
    """Return sequences of the symbols 0, 1, 2: the state decides their shares."""
    y = np.arange(n) % 2
    X = [chain([SLOW, FAST][c], rng.integers(20, 40), rng) for c in y]
    return [
        (x[:, 0] > 1.0).astype(int) + (rng.uniform(size=len(x)) < 0.2) for x in X
    ], y


def test_symbols(rng):
    X, y = words(120, rng)
    new, truth = words(200, rng)
    model = HMMExpert(2, emission="categorical", n_init=3, random_state=0).fit(X, y)
    assert model.score(new, truth) > 0.8
    got = model.class_log_prob(new[:20])
    for c, one in enumerate(model.models_):
        assert type(one) is CategoricalHMM
        expected = [one.score(x[:, None]) for x in new[:20]]
        np.testing.assert_allclose(got[:, c], expected, rtol=1e-10)
    assert model.n_parameters == 2 * (1 + 2 + 4) + 2
    gap = np.where(np.arange(len(new[0])) == 3, np.nan, new[0])
    assert np.isfinite(model.class_log_prob([gap])).all()


def test_weighted_symbols(rng):
    X, y = words(40, rng)
    count = rng.integers(0, 4, size=40)
    index = np.repeat(np.arange(40), count)
    expert = HMMExpert(2, emission="categorical")
    weighted = clone(expert).fit(X, y, count)
    repeated = clone(expert).fit([X[i] for i in index], y[index])
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-8
    )
    table = pad_sequences(X)
    expert.prepare(table, y, np.ones(40), 2)
    expert.m_step(table, y, np.where(np.arange(40) < 9, 1.0, 0.0))
    assert np.isfinite(expert.log_prob(table, y)).all()


def test_bad_symbols(rng):
    X, y = words(12, rng)
    expert = HMMExpert(2, emission="categorical")
    with pytest.raises(ValueError, match=r"whole numbers 0, 1, \.\.\., got \d.5"):
        clone(expert).fit([X[0] + 0.5, *X[1:]], y)
    with pytest.raises(ValueError, match=r"whole numbers 0, 1, \.\.\., got -1"):
        clone(expert).fit([X[0] - 1, *X[1:]], y)
    with pytest.raises(ValueError, match="one column of symbols, got 2 columns"):
        clone(expert).fit(*two_classes(6, rng))
    expert.fit(X, y)
    with pytest.raises(ValueError, match=r"0, 1, \.\.\., 2, got 3. Code new seq"):
        expert.predict([[0, 1, 3], [1]])


# -- by itself -------------------------------------------------------------------


def test_densities_are_those_of_hmmlearn(rng):
    X, y = two_classes(60, rng)
    X[7] = X[7][:1]
    for kind in ("diag", "full"):
        model = HMMExpert(2, covariance_type=kind).fit([1e3 * x + 7 for x in X], y)
        got = model.class_log_prob([1e3 * x + 7 for x in X])
        assert [type(one) for one in model.models_] == [GaussianHMM] * 2
        for c, one in enumerate(model.models_):
            expected = [one.score(1e3 * x + 7) for x in X]
            np.testing.assert_allclose(got[:, c], expected, rtol=1e-9)


def test_learns_which_dynamics(rng):
    X, y = two_classes(120, rng)
    new, truth = two_classes(200, rng)
    labels = np.array(["slow", "fast"])
    model = HMMExpert(2).fit(X, labels[y])
    assert model.score(new, labels[truth]) > 0.85
    assert set(model.predict(new)) == {"slow", "fast"}
    assert model.predict_proba(new).shape == (200, 2)
    moves = model.models_[list(model.classes_).index("slow")].transmat_
    np.testing.assert_allclose(moves.diagonal(), 0.9, atol=0.06)


def test_three_forms_of_the_same_sequences(rng):
    X, y = two_classes(40, rng)
    new, _ = two_classes(10, rng)
    stacked, lengths = np.concatenate(X), [len(x) for x in X]
    listed = HMMExpert(2).fit(X, y)
    joined = HMMExpert(2).fit(stacked, y, lengths=lengths)
    table = HMMExpert(2, n_features=2).fit(pad_sequences(X, 40), y)
    expected = listed.predict_proba(new)
    for model in (listed, joined, table):
        np.testing.assert_allclose(model.predict_proba(new), expected, rtol=1e-8)
        rows, sizes = np.concatenate(new), [len(x) for x in new]
        np.testing.assert_allclose(
            model.predict_proba(rows, lengths=sizes), expected, rtol=1e-8
        )
        padded = model.predict_proba(pad_sequences(new, 40))
        np.testing.assert_allclose(padded, expected, rtol=1e-8)
        assert model.score(rows, np.zeros(10, dtype=int), lengths=sizes) >= 0
    assert table.n_features_in_ == 80
    assert listed.n_features_in_ == 2
    cube = np.array([x[:8] for x in X])
    np.testing.assert_array_equal(
        HMMExpert(2).fit(cube, y).predict(cube),
        HMMExpert(2).fit(list(cube), y).predict(list(cube)),
    )


def test_weight_is_repetition_of_a_whole_fit(rng):
    X, y = two_classes(40, rng)
    count = rng.integers(0, 4, size=40)
    weighted = HMMExpert(2, n_init=3, random_state=0).fit(X, y, count)
    index = np.repeat(np.arange(40), count)
    repeated = HMMExpert(2, n_init=3, random_state=0).fit(
        [X[i] for i in index], y[index]
    )
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6
    )


def test_random_state_decides(rng):
    X, y = two_classes(40, rng)

    def fit(seed):
        return HMMExpert(3, n_init=4, random_state=seed).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(fit(1), fit(1))
    assert HMMExpert(3).fit(X, y).n_iter_ > 10


def test_calibration_undoes_false_independence(rng):
    """Steps seen four times each: the log ratios are four times too large."""
    X, y = two_classes(200, rng, low=6, high=9)
    new, truth = two_classes(400, rng, low=6, high=9)
    X, new = ([np.repeat(x, 4, axis=0) for x in some] for some in (X, new))

    def loss(model):
        return -np.log(model.predict_proba(new)[np.arange(400), truth]).mean()

    raw = HMMExpert(2, calibration=None).fit(X, y)
    tempered = HMMExpert(2).fit(X, y)
    assert raw.temperature_ == 1.0
    assert loss(tempered) < loss(raw) - 0.05
    ratio = np.diff(np.log(tempered.predict_proba(new)), axis=1)
    raw_ratio = np.diff(np.log(raw.predict_proba(new)), axis=1)
    assert np.std(raw_ratio) > 2.0 * np.std(ratio)


def test_without_calibration_it_is_the_rule_of_bayes(rng):
    X, y = two_classes(40, rng)
    weight = np.where(y == 0, 3.0, 1.0)
    model = HMMExpert(2, calibration=None).fit(X, y, weight)
    share = np.log(np.array([61.0, 21.0]) / 82.0)
    np.testing.assert_allclose(
        np.log(model.predict_proba(X)),
        log_softmax(model.class_log_prob(X) + share, axis=1),
        atol=1e-10,
    )


def test_power_of_the_length(rng):
    """Longer sequences, whose classes are no surer: each step says less."""
    X, y = two_classes(300, rng, low=6, high=7)
    times = rng.choice([1, 4, 16], size=300)
    X = [np.repeat(x, k, axis=0) for x, k in zip(X, times, strict=True)]
    assert HMMExpert(2).fit(X, y).length_power_ > 0.0
    equal = [x[:6] for x in X]
    assert HMMExpert(2).fit(equal, y).length_power_ == 0.0


def test_unobserved_steps(rng):
    X, y = two_classes(60, rng)
    gaps = [x.copy() for x in X]
    for x in gaps[::3]:
        x[2:4] = np.nan
    model = HMMExpert(2).fit(gaps, y)
    tail = [np.vstack([x, np.full((3, 2), np.nan)]) for x in gaps]
    np.testing.assert_allclose(
        model.class_log_prob(tail), model.class_log_prob(gaps), rtol=1e-12
    )
    own = model.models_[1]
    expected = by_hand(
        gaps[0],
        own.startprob_,
        own.transmat_,
        lambda row: (
            np.zeros(2)
            if np.isnan(row).any()
            else np.array(
                [
                    multivariate_normal.logpdf(row, mean, cov)
                    for mean, cov in zip(own.means_, own.covars_, strict=True)
                ]
            )
        ),
    )
    np.testing.assert_allclose(model.class_log_prob(gaps[:1])[0, 1], expected)


def test_short_sequences_and_small_classes(rng):
    X, y = two_classes(30, rng)
    short = [x[:1] for x in X]
    model = HMMExpert(4).fit(short, y)
    assert np.isfinite(model.predict_proba(short)).all()
    # One sequence of two steps stands for the second class.
    few = HMMExpert(4).fit([*X[::2], X[1][:2]], [0] * 15 + [1])
    assert np.isfinite(np.log(few.predict_proba(X))).all()
    flat = HMMExpert(2).fit([np.ones((5, 2)) for _ in range(6)], [0, 1] * 3)
    np.testing.assert_allclose(flat.predict_proba([np.ones((5, 2))]), 0.5, atol=1e-6)
    nothing = HMMExpert(2, n_features=2).fit(pad_sequences(X), y)
    empty = nothing.predict_proba(np.full((1, nothing.n_features_in_), np.nan))
    np.testing.assert_allclose(empty, 0.5, atol=0.1)


def test_maximum_likelihood_is_within_reach(rng):
    X, y = two_classes(40, rng)
    plain = {"shrinkage": 0.0, "variance_prior": None, "move_prior": 0.0}
    model = HMMExpert(5, calibration=None, **plain).fit(X, y)
    assert np.isfinite(model.class_log_prob(X)).all()
    prior = HMMExpert(5, calibration=None).fit(X, y)
    rows = np.arange(40)
    gain = model.class_log_prob(X)[rows, y] - prior.class_log_prob(X)[rows, y]
    assert gain.sum() > 0
    table = pad_sequences(X)
    expert = HMMExpert(5, n_features=2, **plain)
    expert.prepare(table, y, np.ones(40), 2)
    expert.m_step(table, y, np.where(np.arange(40) < 3, 1.0, 0.0))
    assert np.isfinite(expert.log_prob(table, y)).all()


def test_number_of_parameters(rng):
    X, y = two_classes(20, rng)
    own = 2 * (1 + 2 + 4 + 4)
    assert HMMExpert(2, calibration=None).fit(X, y).n_parameters == own + 1
    full = own + 2 * 2
    assert HMMExpert(2, covariance_type="full").fit(X, y).n_parameters == full + 2


def test_pickle_is_no_longer_than_predictions_need(rng):
    X, y = two_classes(300, rng)
    model = HMMExpert(2, n_features=2)
    model.prepare(pad_sequences(X), y, np.ones(300), 2)
    again = pickle.loads(pickle.dumps(model.fit(X, y)))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert len(pickle.dumps(model)) < 20000 < 8 * 2 * sum(len(x) for x in X)


@parametrize_with_checks(
    [HMMExpert(), HMMExpert(2, covariance_type="full", calibration=None)]
)
def test_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# -- inside EM -------------------------------------------------------------------


def test_training_rows_get_held_out_probabilities(rng):
    X, y = two_classes(60, rng)
    table = pad_sequences(X)
    expert = HMMExpert(2, n_features=2)
    expert.prepare(table, y, np.ones(60), 2)
    expert.m_step(table, y, np.ones(60))
    assert expert.cross_fit
    held_out, fitted = expert.log_prob(table, y), expert.log_prob(table.copy(), y)
    assert np.abs(held_out - fitted).max() > 1e-3
    for snapshot in (copy.copy(expert), copy.deepcopy(expert)):
        np.testing.assert_array_equal(snapshot.log_prob(table, y), held_out)
    expert.finish()
    np.testing.assert_array_equal(expert.log_prob(table, y), fitted)
    raw = HMMExpert(2, n_features=2, calibration=None)
    raw.prepare(table, y, np.ones(60), 2)
    assert not raw.cross_fit
    np.testing.assert_array_equal(raw.log_prob(table, y), raw.log_prob(table.copy(), y))


def test_a_sequence_does_not_answer_for_itself(rng):
    """Its label, changed, must not change its own held-out densities much."""
    X, y = two_classes(60, rng)
    table = pad_sequences(X)

    def score(y):
        expert = HMMExpert(2, n_features=2, max_iter=40)
        expert.prepare(table, y, np.ones(60), 2)
        return expert._train, expert._train.held_out(expert._models)

    train, own = score(y)
    fold = next(k for k, index in enumerate(train.folds) if 7 in index)
    for c, models in enumerate(HMMExpert(2, n_features=2).fit(table, y)._models):
        got = models.log_prob(train.of_fold[fold], 1 + fold)
        np.testing.assert_allclose(own[train.folds[fold], c], got, atol=0.5)
    weights = train.weights(np.ones(60), y[7])
    place = list(train.classes[y[7]]).index(7)
    assert weights[0, place] == 1.0
    assert weights[1 + fold, place] == 0.0


def test_groups_share_a_fold(rng):
    X, y = two_classes(40, rng)
    table = pad_sequences(X)
    expert = HMMExpert(2, n_features=2)
    expert.fold_groups_ = np.arange(40) // 4
    expert.prepare(table, y, np.ones(40), 2)
    folds = np.empty(40)
    for number, index in enumerate(expert._train.folds):
        folds[index] = number
    assert (np.ptp(folds.reshape(10, 4), axis=1) == 0).all()
    assert np.unique(folds).size == 3


def test_features_for_starts():
    table = np.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, np.nan, np.nan], [np.nan] * 4])
    got = HMMExpert(n_features=2).features(table)
    np.testing.assert_array_equal(got[:2], [[2.0, 4.0, 1.0, 2.0], [5.0, 5.0, 0, 0]])
    assert np.isnan(got[2]).all()


# -- in a mixture ----------------------------------------------------------------


def kinds(n, rng):
    """Return a table with a static column that says what dynamics mean."""
    kind, y = rng.integers(2, size=n), rng.integers(2, size=n)
    lengths = rng.integers(8, 30, size=n)
    lengths[0] = 30
    rows = zip(kind ^ y, lengths, strict=True)
    X = [chain([SLOW, FAST][c], t, rng) for c, t in rows]
    return np.column_stack([kind, pad_sequences(X, 30)]), X, y


def make_mixture(width, **options):
    columns = list(range(1, width))
    experts = [(n, HMMExpert(2, n_features=2, **options), columns) for n in "ab"]
    return MixtureOfExpertsClassifier(experts, gate_features=[0], random_state=0)


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(3)
    X, sequences, y = kinds(160, rng)
    return X, sequences, y, make_mixture(X.shape[1]).fit(X, y), kinds(200, rng)


def test_mixture_beats_one_expert(mixed):
    _, sequences, y, mixture, (X, new, truth) = mixed
    one = HMMExpert(2).fit(sequences, y)
    assert one.score(new, truth) < 0.65
    assert mixture.score(X, truth) > 0.85
    rows = np.arange(len(truth))
    loss = -np.log(mixture.predict_proba(X)[rows, truth]).mean()
    assert loss < -np.log(one.predict_proba(new)[rows, truth]).mean() - 0.3
    gate = mixture.gate_proba(X)
    assert (gate.argmax(axis=1) == X[:, 0]).mean() in (0.0, 1.0)


def test_mixture_ends_at_its_best_pass(mixed):
    X, _, y, mixture, _ = mixed
    assert mixture.converged_
    trace = mixture.objective_trace_
    assert trace.max() > trace[0] + 10.0
    np.testing.assert_array_equal(
        mixture.log_prob(X, y), pickle.loads(pickle.dumps(mixture)).log_prob(X, y)
    )


def test_mixture_is_the_same_each_time_and_for_weights(mixed):
    X, _, y, mixture, (new, _, _) = mixed
    again = clone(mixture).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(new), mixture.predict_proba(new))
    count = np.random.default_rng(0).integers(1, 3, size=len(y))
    weighted = clone(mixture).fit(X, y, sample_weight=count)
    repeated = clone(mixture).fit(np.repeat(X, count, axis=0), np.repeat(y, count))
    np.testing.assert_allclose(
        weighted.predict_proba(new), repeated.predict_proba(new), atol=1e-2
    )


def test_mixture_says_what_it_is(mixed):
    X, _, y, mixture, _ = mixed
    assert "HMMExpert" in str(mixture.summary())
    assert np.isfinite(mixture.bic(X, y))
    assert mixture.n_parameters_ == 2 + 2 * mixture.experts_[0].n_parameters


def test_beside_other_experts(rng):
    X, _, y = kinds(120, rng)
    experts = [
        ("flat", LogisticExpert(), [0]),
        ("chain", HMMExpert(2, n_features=2), list(range(1, X.shape[1]))),
    ]
    model = MixtureOfExpertsClassifier(experts, gate_features=[0], random_state=0)
    assert np.isfinite(model.fit(X, y).log_prob(X, y)).all()


def test_names_and_categories(rng):
    """A static column of words; experts that are told their columns by name."""
    X, _, y = kinds(160, rng)
    steps = [f"step{j}" for j in range(1, X.shape[1])]
    frame = pd.DataFrame(X[:, 1:], columns=steps)
    frame.insert(0, "kind", pd.Categorical(np.where(X[:, 0] == 1, "new", "old")))
    experts = [(name, HMMExpert(2, n_features=2), steps) for name in "ab"]
    named = MixtureOfExpertsClassifier(
        experts, gate_features=["kind"], random_state=0
    ).fit(frame, y)
    placed = make_mixture(X.shape[1]).fit(X, y)
    np.testing.assert_allclose(
        named.experts_[0].class_log_prob(X[:, 1:]).sum(),
        placed.experts_[0].class_log_prob(X[:, 1:]).sum(),
        rtol=0.1,
    )
    assert named.score(frame, y) > 0.8


def test_one_expert_is_the_expert_alone(rng):
    X, _, y = kinds(100, rng)
    table = X[:, 1:]
    mixture = MixtureOfExpertsClassifier(
        HMMExpert(2, n_features=2, shrinkage=1e6), n_experts=1
    ).fit(table, y)
    alone = HMMExpert(2, n_features=2).fit(table, y)
    np.testing.assert_allclose(
        mixture.predict_proba(table), alone.predict_proba(table), atol=2e-3
    )


# -- bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_states": 0}, "n_states must be an integer >= 1, got 0"),
        ({"n_states": True}, "n_states must be an integer >= 1, got True"),
        ({"n_init": 0}, "n_init must be an integer >= 1"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1"),
        ({"n_passes": 1.5}, "n_passes must be an integer >= 1, got 1.5"),
        ({"n_folds": 1}, "n_folds must be an integer >= 2, got 1"),
        ({"n_features": 0}, "n_features must be None or an integer >= 1, got 0"),
        ({"tol": -1}, "tol must be a number >= 0, got -1"),
        ({"shrinkage": "much"}, "shrinkage must be a number >= 0, got 'much'"),
        ({"move_prior": -1}, "move_prior must be a number >= 0"),
        ({"emission": "poisson"}, r"one of \['gaussian', 'categorical'\], got 'poi"),
        ({"covariance_type": "tied"}, r"must be one of \['diag', 'full'\], got 'tied'"),
        ({"calibration": "platt"}, r"one of \['temperature', None\], got 'platt'"),
        ({"variance_prior": 5.0}, "variance_prior must be None or two numbers"),
        ({"variance_prior": (-1, 0.1)}, r"\(rows, fraction\), got \(-1"),
    ],
)
def test_bad_parameters(rng, params, message):
    with pytest.raises(ValueError, match=message):
        HMMExpert(**params).fit(*two_classes(6, rng))


def test_bad_sequences(rng):
    X, y = two_classes(6, rng)
    fit = HMMExpert(2).fit
    with pytest.raises(ValueError, match="X holds no sequence: give a list"):
        fit([], [])
    with pytest.raises(ValueError, match=r"sequence 1 of X .* got shape \(0, 2\)"):
        fit([X[0], X[1][:0], *X[2:]], y)
    with pytest.raises(ValueError, match="sequence 2 of X has 1 columns, expected 2"):
        fit([*X[:2], X[2][:, :1], *X[3:]], y)
    with pytest.raises(ValueError, match="sequence 0 of X has 2 columns, expected 3"):
        HMMExpert(n_features=3).fit(X, y)
    with pytest.raises(ValueError, match="sequence 3 of X contains infinity"):
        fit([*X[:3], X[3] + np.inf, *X[4:]], y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fit(X, y[:-1])
    with pytest.raises(ValueError, match="at least two classes in y, got one class: 4"):
        fit(X, np.full(6, 4))
    with pytest.raises(ValueError, match="no sequence of positive weight has an obs"):
        fit([x * np.nan for x in X], y)


def test_bad_lengths(rng):
    X, y = two_classes(3, rng, low=4, high=5)
    rows = np.concatenate(X)
    with pytest.raises(ValueError, match="lengths sum to 11, but X has 12 rows"):
        HMMExpert(2).fit(rows, y, lengths=[4, 4, 3])
    for lengths in ([4, 8, 0], [4.0, 4.0, 4.0], []):
        with pytest.raises(ValueError, match="one whole number >= 1 for each sequence"):
            HMMExpert(2).fit(rows, y, lengths=lengths)
    with pytest.raises(ValueError, match=r"must have n_features=3 columns, got 2"):
        HMMExpert(2, n_features=3).fit(rows, y, lengths=[4, 4, 4])


def test_bad_tables(rng):
    X, y = two_classes(6, rng)
    with pytest.raises(ValueError, match="13 columns holds no whole number of steps"):
        HMMExpert(n_features=2).fit(np.zeros((6, 13)), y)
    with pytest.raises(ValueError, match="n_steps=2 is too few: sequence"):
        pad_sequences(X, 2)
    model = HMMExpert(2).fit(X, y)
    with pytest.raises(ValueError, match="sequence 0 of X has 1 columns, expected 2"):
        model.predict([x[:, :1] for x in X])
    with pytest.raises(ValueError, match="not fitted"):
        HMMExpert().predict(X)


def test_without_hmmlearn(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "hmmlearn", None)
    with pytest.raises(ImportError, match=r"needs hmmlearn: pip install 'skmoe\[hmm\]"):
        HMMExpert().fit(*two_classes(6, rng))


# -- ragged sequences ------------------------------------------------------------


def test_padding_goes_both_ways(rng):
    X, _ = two_classes(9, rng)
    X[4] = X[4][:1]
    sequences = table_sequences(pad_sequences(X, 40), 2)
    np.testing.assert_array_equal(sequences.stacked, np.concatenate(X))
    np.testing.assert_array_equal(sequences.lengths, [len(x) for x in X])
    part = sequences.take(np.array([5, 4, 5]))
    np.testing.assert_array_equal(part.stacked, np.concatenate([X[5], X[4], X[5]]))
    np.testing.assert_array_equal(
        part.groups(), np.array([1, 0, 1]) ^ (X[5].tobytes() < X[4].tobytes())
    )
    np.testing.assert_array_equal(pad_sequences([[1, 2], [3]]), [[1, 2], [3, np.nan]])
