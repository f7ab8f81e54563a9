"""From a fitted node to the law of new rows: what is evaluated, and only once."""

import copy
import pickle

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from skmoe.em._law import Views, keep_top, law, top_means
from skmoe.em._node import Node
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import SoftmaxGate
from skmoe.likelihoods import Binomial, Gamma, NegativeBinomial, PointMass

SHORT = {"init": "tree", "n_init": 1, "max_iter": 5, "prune": False}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
]


class Squares(TransformerMixin, BaseEstimator):
    """Columns and their squares; counts its calls in ``calls``."""

    calls = 0

    def __init__(self, offset=0.0):
        self.offset = offset

    def fit(self, X, y=None):
        self.offset_ = self.offset
        return self

    def transform(self, X):
        Squares.calls += 1
        return np.hstack([X, (X - self.offset_) ** 2])


def data(n=240):
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, size=(n, 3))
    y = np.where(X[:, 0] < 0, X[:, 1] ** 2, -3 * X[:, 1]) + 0.3 * X[:, 2]
    return X, y + 0.1 * rng.normal(size=n)


def tree(experts=None, **params):
    X, y = data()
    settings = {**SHORT, **params}
    return HierarchicalMixtureOfExpertsRegressor(experts, **settings).fit(X, y)


def behind(expert, **params):
    return make_pipeline(Squares(**params), expert)


MODELS = {
    "plain": lambda: tree(),
    "shared expansion": lambda: tree(behind(LinearExpert())),
    "splines": lambda: tree(
        make_pipeline(SplineTransformer(4, sparse_output=True), LinearExpert())
    ),
    "ragged": lambda: tree(
        [LinearExpert(), [behind(LinearExpert()), behind(LinearExpert(), offset=1.0)]]
    ),
    "columns": lambda: tree(
        [("a", LinearExpert(), [1]), ("b", behind(LinearExpert()), [1, 2])]
    ),
    "general": lambda: tree(Ridge(), depth=1),
    "two outputs": lambda: HierarchicalMixtureOfExpertsRegressor(
        behind(LinearExpert()), **SHORT
    ).fit(data()[0], np.column_stack([data()[1], data()[0][:, 0]])),
    "classes": lambda: HierarchicalMixtureOfExpertsClassifier(
        behind(LogisticExpert(1.0)), **SHORT
    ).fit(data()[0], np.digitize(data()[1], [-1.0, 1.0])),
}


@pytest.fixture(scope="module")
def models():
    return {name: make() for name, make in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_law_is_that_of_each_expert_by_itself(name, models):
    model = models[name]
    X = data()[0][:50]
    found = law(model.node_, X)
    log_gate = model.gate_.log_proba(X)
    np.testing.assert_array_equal(found.log_gate, log_gate)
    for k, (_, expert) in enumerate(model.node_.experts):
        columns = model.node_.columns[k]
        view = X if columns is None else X[:, columns]
        np.testing.assert_allclose(
            found.params[k], expert.predict_params(view), rtol=1e-12, atol=1e-12
        )
        assert (expert.dispersion is None) == (found.dispersions[k] is None)
        if expert.dispersion is not None:
            np.testing.assert_array_equal(found.dispersions[k], expert.dispersion)
        assert type(found.likelihoods[k]) is type(expert.likelihood)


@pytest.mark.parametrize("name", MODELS)
def test_means_of_the_top_path_are_those_of_the_law(name, models):
    model = models[name]
    X = data()[0]
    winner = model.gate_.descend(X)
    found = top_means(model.node_, X, winner)
    expected = law(model.node_, X)
    np.testing.assert_array_equal(model.apply(X), winner)
    if len(model.gate_.gates) > 1:
        np.testing.assert_array_equal(expected.winner, winner)
    np.testing.assert_allclose(
        found, expected.means[np.arange(len(X)), winner], rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(found, expected.top1, rtol=1e-12, atol=1e-12)
    # Any leaves will do, also if one takes all rows.
    for leaf in range(len(model.experts_)):
        alone = top_means(model.node_, X, np.full(len(X), leaf))
        np.testing.assert_allclose(
            alone, expected.means[:, leaf], rtol=1e-12, atol=1e-12
        )


def test_the_most_probable_path_may_miss_the_most_probable_leaf():
    X = data()[0]
    model = tree(gate=SoftmaxGate(alpha=30.0))
    found = law(model.node_, X)
    best = found.log_gate.argmax(axis=1)
    assert (found.winner != best).any()
    np.testing.assert_array_equal(
        found.top1, found.means[np.arange(len(X)), found.winner]
    )
    # Where only some experts are kept, the best of those is meant.
    kept = law(model.node_, X, top_k=1)
    assert kept.winner is None
    np.testing.assert_array_equal(kept.top1, kept.means[np.arange(len(X)), best])


def test_clones_share_one_expansion():
    X = data()[0]
    model = tree(behind(LinearExpert()), depth=3)
    for fitted in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        views = Views(fitted.node_, X)
        assert views.of(0) is views.of(7)
        Squares.calls = 0
        expected = fitted.predict(X)
        assert Squares.calls == 1
        fitted.pooling, Squares.calls = "top1", 0
        fitted.predict(X)
        assert Squares.calls == 1
        fitted.pooling = "mean"
        np.testing.assert_allclose(expected, model.predict(X), rtol=1e-13)


def test_transformers_of_their_own_are_not_shared():
    X = data()[0]
    model = tree([behind(LinearExpert()), behind(LinearExpert(), offset=1.0)])
    views = Views(model.node_, X)
    assert views.expanded is None
    assert views.of(0) is X
    Squares.calls = 0
    model.predict(X)
    assert Squares.calls == 2


class Counting(LinearExpert):
    """A linear expert that counts the rows it is asked about."""

    rows = 0

    def predict_params(self, X):
        Counting.rows += X.shape[0]
        return super().predict_params(X)


def test_the_top_path_costs_one_expert_a_row():
    X = data()[0]
    for expert in (Counting(), behind(Counting())):
        model = tree(expert, depth=3, max_iter=2)
        assert len(model.experts_) == 8
        Counting.rows = 0
        top_means(model.node_, X, model.apply(X))
        assert Counting.rows == len(X)
        Counting.rows = 0
        law(model.node_, X)
        assert Counting.rows == 8 * len(X)


@pytest.mark.parametrize("expert", [Counting(), behind(Counting())])
def test_experts_out_of_reach_are_not_evaluated(expert):
    X = data()[0]
    model = tree(expert, depth=3, max_iter=2)
    Counting.rows = 0
    found = law(model.node_, X, top_k=2)
    assert Counting.rows == 2 * len(X)
    assert found.skipped_share == pytest.approx(0.75)
    whole = law(model.node_, X)
    kept = found.log_gate > -np.inf
    np.testing.assert_array_equal(kept.sum(axis=1), 2)
    np.testing.assert_allclose(found.means[kept], whole.means[kept], rtol=1e-12)
    # The others repeat what the expert says of a row that it was asked about.
    for k in np.flatnonzero(~kept.all(axis=0)):
        first = np.flatnonzero(kept[:, k])[0] if kept[:, k].any() else 0
        skipped = found.means[~kept[:, k], k]
        np.testing.assert_array_equal(skipped, skipped[0])
        np.testing.assert_allclose(skipped[0], whole.means[first, k], rtol=1e-12)


def test_kept_experts_are_the_most_probable_ones(rng):
    log_gate = rng.normal(size=(30, 5)) - 3.0
    log_gate -= logsumexp(log_gate, axis=1, keepdims=True)
    assert keep_top(log_gate, None) is log_gate
    assert keep_top(log_gate, 5) is log_gate
    for k in (1, 3):
        kept = keep_top(log_gate, k)
        np.testing.assert_allclose(logsumexp(kept, axis=1), 0.0, atol=1e-14)
        for before, after in zip(log_gate, kept, strict=True):
            chosen = np.flatnonzero(after > -np.inf)
            assert set(chosen) == set(np.argsort(before)[-k:])
            shift = after[chosen] - before[chosen]
            np.testing.assert_allclose(shift, shift[0], atol=1e-14)


def test_flat_mixtures_share_their_expansion_too():
    X, y = data()
    model = MixtureOfExpertsRegressor(
        behind(LinearExpert()), 3, init="kmeans", n_init=1, max_iter=5, top_k=2
    ).fit(X, y)
    Squares.calls = 0
    found = model.predict(X)
    assert Squares.calls == 1
    params = [expert.predict_params(X) for expert in model.experts_]
    gate = np.exp(keep_top(np.log(model.gate_proba(X)), 2))
    np.testing.assert_allclose(found, (gate * np.column_stack(params)).sum(axis=1))


class Fixed:
    """An expert of any family, the same for all rows."""

    def __init__(self, likelihood, dispersion, params):
        self.likelihood, self.dispersion, self.params = likelihood, dispersion, params

    def predict_params(self, X):
        return np.repeat(np.asarray([self.params], dtype=float), len(X), axis=0)


class FixedGate:
    """A gate whose probabilities are the columns of X."""

    def log_proba(self, X):
        with np.errstate(divide="ignore"):
            return np.log(X)


UNLIKE = [
    Fixed(Gamma(), 0.5, 2.0),
    Fixed(Binomial(), None, [0.3, 7.0]),
    Fixed(PointMass(), None, 0.0),
    Fixed(NegativeBinomial(), 1.5, 4.0),
]


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_rows_that_skip_an_expert_of_any_family(top_k, rng):
    """Their parameters are valid, whatever the family: no NaN, and no warning."""
    X = rng.dirichlet(np.ones(4) * 0.5, size=60)
    X[:, 1] = 0.0  # an expert that no row uses
    X /= X.sum(axis=1, keepdims=True)
    node = Node(FixedGate(), [(str(k), e) for k, e in enumerate(UNLIKE)], [None] * 4)
    found = law(node, X, top_k)
    gate = np.exp(keep_top(FixedGate().log_proba(X), top_k))
    mean = gate @ np.array([2.0, 2.1, 0.0, 4.0])
    np.testing.assert_allclose(found.mean, mean)
    assert np.isfinite(found.variance).all()
    for values in (found.mode, found.cdf(np.full(60, 2.0)), found.quantile(0.4)):
        assert np.isfinite(values).all()
    assert not np.isnan(found.log_prob(np.full(60, 2.0))).any()
    winner = found.log_gate.argmax(axis=1)
    np.testing.assert_allclose(top_means(node, X, winner), found.top1)
