"""Changes of probabilities, shared out among columns: they add up, and to the cent."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, sparse, special
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler

from skmoe._tree import Tree
from skmoe.gates import (
    ClassifierGate,
    ConstantGate,
    ExpandedGate,
    GaussianGate,
    SoftmaxGate,
)
from skmoe.gates._tree import GateTree
from skmoe.reading._moves import gate_scores, probability_moves

TOL = {"rtol": 0.0, "atol": 1e-11}


def log_softmax(scores):
    return special.log_softmax(scores, axis=-1)


@pytest.fixture(scope="module")
def move():
    """Scores of a reference row, and what three columns add to them in 40 rows."""
    rng = np.random.default_rng(3)
    return rng.normal(size=4), rng.normal(size=(40, 3, 4)) * [[4.0], [1.0], [0.1]]


# -- probabilities -----------------------------------------------------------------


def test_moves_add_up_to_the_change(move):
    start, parts = move
    log_from, log_to = log_softmax(start), log_softmax(start + parts.sum(axis=1))
    moves = probability_moves(log_from, log_to, parts)
    assert moves.shape == parts.shape
    assert_allclose(moves.sum(axis=1), np.exp(log_to) - np.exp(log_from), **TOL)
    assert_allclose(moves.sum(axis=2), 0.0, **TOL)


def test_a_shift_of_all_scores_moves_nothing(move):
    start, parts = move
    log_from, log_to = log_softmax(start), log_softmax(start + parts.sum(axis=1))
    shift = np.random.default_rng(0).normal(size=(40, 3, 1))
    moves = probability_moves(log_from, log_to, parts)
    assert_allclose(probability_moves(log_from, log_to, parts + shift), moves, **TOL)


def test_a_column_that_adds_nothing_moves_nothing(move):
    start, parts = move
    parts = parts * [[1.0], [0.0], [1.0]]
    log_from, log_to = log_softmax(start), log_softmax(start + parts.sum(axis=1))
    moves = probability_moves(log_from, log_to, parts)
    assert_allclose(moves[:, 1], 0.0, **TOL)


def test_the_way_back_is_the_way_there(move):
    start, parts = move
    log_from, log_to = log_softmax(start), log_softmax(start + parts.sum(axis=1))
    there = probability_moves(log_from, log_to[:1], parts[:1])
    back = probability_moves(log_to[0], log_from[None], -parts[:1])
    assert_allclose(back, -there, **TOL)


def test_two_outcomes_have_integrated_gradients(move):
    start, parts = move
    start, parts = start[:2], parts[:5, :, :2]
    log_from, log_to = log_softmax(start), log_softmax(start + parts.sum(axis=1))
    moves = probability_moves(log_from, log_to, parts)

    def rate(t, i, j):
        proba = special.softmax(start + t * parts[i].sum(axis=0))
        return proba[1] * proba[0] * (parts[i, j, 1] - parts[i, j, 0])

    for i in range(5):
        for j in range(3):
            wanted = integrate.quad(rate, 0.0, 1.0, args=(i, j), epsabs=1e-12)[0]
            assert moves[i, j, 1] == pytest.approx(wanted, abs=1e-10)


def test_what_does_not_move_and_what_moves_from_end_to_end():
    log_from = np.array([0.0, -1e4, -1e4])
    log_to = np.array([[0.0, -1e4, -1e4], [-1e4, 0.0, -1e4]])
    parts = np.stack([log_to - log_from, np.zeros((2, 3))], axis=1)
    moves = probability_moves(log_from, log_to, parts)
    assert np.isfinite(moves).all()
    assert_allclose(moves[0], 0.0, **TOL)
    # Beyond what a probability can show, log probabilities are cut.
    assert moves[1, 0, 1] > 0.9
    assert moves[1, 0, 0] < -0.9


def test_impossible_outcomes_are_no_accident():
    log_from = np.log([0.5, 0.5])
    log_to = np.array([[0.0, -np.inf]])
    moves = probability_moves(log_from, log_to, np.array([[[3.0, 0.0]]]))
    assert np.isfinite(moves).all()


# -- gates -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(200, 3)) * [1.0, 5.0, 0.3] + [0.0, 20.0, 1.0]
    score = np.c_[2 * X[:, 0], 0.3 * (X[:, 1] - 20), 4 * (X[:, 2] - 1) * X[:, 0]]
    return X, special.softmax(score, axis=1)


def fitted(gate, rows, X=None):
    own, resp = rows
    X = own if X is None else X
    gate.prepare(X, np.ones(len(resp)), resp.shape[1])
    for _ in range(5):
        gate.m_step(X, resp, np.ones(len(resp)))
    return gate


def unexplained(gate, X, center, scores):
    """Return what the columns leave of the change of the log odds."""
    change = gate.log_proba(X) - gate.log_proba(center) - scores.sum(axis=1)
    return change - change[:, :1]


ADDITIVE = {
    "softmax": SoftmaxGate(),
    "lasso": SoftmaxGate(alpha=10.0, l1_ratio=1.0),
    "full": GaussianGate(),
    "diag": GaussianGate("diag"),
    "tied": GaussianGate("tied"),
    "constant": ConstantGate(),
    "splines": ExpandedGate(SplineTransformer(n_knots=4)),
    "gaussian of scaled": ExpandedGate(StandardScaler(), GaussianGate()),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_columns_explain_the_log_odds(rows, name):
    X, _ = rows
    gate, center = fitted(ADDITIVE[name], rows), X.mean(axis=0)[None]
    scores = gate_scores(gate, X, center)
    assert scores.shape == (200, 3, 3)
    assert_allclose(unexplained(gate, X, center, scores), 0.0, atol=1e-9)
    assert_allclose(gate_scores(gate, center, center), 0.0, atol=1e-12)
    assert scores.any() == (name != "constant")


def test_linear_scores_are_slopes_times_deviations(rows):
    X, _ = rows
    gate, center = fitted(SoftmaxGate(), rows), X[:1]
    scores = gate_scores(gate, X, center)
    assert_allclose(scores, (X - center)[:, :, None] * gate.coef_.T, **TOL)


def test_sparse_rows_start_at_zero(rows):
    X = sparse.csr_array(rows[0])
    gate = fitted(SoftmaxGate(), rows, X)
    scores = gate_scores(gate, X, sparse.csr_array((1, 3)))
    assert_allclose(scores, rows[0][:, :, None] * gate.coef_.T, **TOL)


def test_a_diagonal_gaussian_has_the_terms_of_its_density(rows):
    X, _ = rows
    gate, center = fitted(GaussianGate("diag"), rows), X.mean(axis=0)[None]
    scores = gate_scores(gate, X, center)
    for k in range(3):
        variance = gate.covariances_[k].diagonal()
        log_density = -0.5 * (np.r_[center, X] - gate.means_[k]) ** 2 / variance
        assert_allclose(scores[:, :, k], log_density[1:] - log_density[0], atol=1e-9)


def test_gaussian_parts_are_integrated_gradients(rows):
    X, _ = rows
    gate, center = fitted(GaussianGate(), rows), X.mean(axis=0)
    scores = gate_scores(gate, X[:2], center[None])
    precision, mean = np.linalg.inv(gate.covariances_[1]), gate.means_[1]

    def rate(t, i, j):
        at = center + t * (X[i] - center)
        return -(precision @ (at - mean))[j] * (X[i] - center)[j]

    for i in range(2):
        for j in range(3):
            wanted = integrate.quad(rate, 0.0, 1.0, args=(i, j))[0]
            assert scores[i, j, 1] == pytest.approx(wanted, abs=1e-8)


def test_gaussian_with_gaps_and_a_constant_column(rows):
    X, resp = rows
    X = np.c_[X, np.full(len(X), 7.0)]
    X[::3, 1] = np.nan
    X[::5, 0] = np.nan
    gate, center = fitted(GaussianGate(), (X, resp)), np.nanmean(X, axis=0)[None]
    scores = gate_scores(gate, X, center)
    assert np.isfinite(scores).all()
    assert not scores[np.isnan(X)].any()
    assert not scores[:, 3].any()
    complete = ~np.isnan(X).any(axis=1)
    left = unexplained(gate, X, center, scores)
    assert_allclose(left[complete], 0.0, atol=1e-9)
    # The marginal density of what is seen: the same rest for the same gaps.
    only_one = np.isnan(X[:, 1]) & ~np.isnan(X[:, 0])
    assert_allclose(left[only_one] - left[only_one][0], 0.0, atol=1e-9)


def test_products_of_columns_are_left_out(rows):
    X, _ = rows
    gate = fitted(ExpandedGate(PolynomialFeatures(2, include_bias=False)), rows)
    center = X.mean(axis=0)[None]
    scores = gate_scores(gate, X, center)
    products = gate.expand(X)[:, [4, 5, 7]] - gate.expand(center)[:, [4, 5, 7]]
    wanted = products @ gate.native.coef_[:, [4, 5, 7]].T
    left = unexplained(gate, X, center, scores)
    assert_allclose(left, wanted - wanted[:, :1], atol=1e-9)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(max_iter=1000),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(SplineTransformer(n_knots=4), LogisticRegression(max_iter=1000)),
    ],
)
def test_linear_classifiers_have_parts(rows, classifier):
    X, _ = rows
    gate, center = fitted(ClassifierGate(classifier), rows), X.mean(axis=0)[None]
    scores = gate_scores(gate, X, center)
    log_proba = gate.classifier_.predict_log_proba(np.r_[center, X])
    change = log_proba[1:] - log_proba[0] - scores.sum(axis=1)
    assert_allclose(change - change[:, :1], 0.0, atol=1e-8)


def test_of_two_experts(rows):
    X, resp = rows
    gate = ClassifierGate(LogisticRegression())
    gate = fitted(gate, (X, np.c_[resp[:, :1], 1 - resp[:, :1]]))
    scores = gate_scores(gate, X, X[:1])
    odds = scores[:, :, 1] - scores[:, :, 0]
    assert_allclose(odds, (X - X[0]) * gate.classifier_.coef_[0], atol=1e-9)


def test_other_classifiers_have_none(rows):
    X, resp = rows
    forest = ClassifierGate(RandomForestClassifier(5, max_depth=2, random_state=0))
    gate = fitted(forest, rows)
    assert not gate_scores(gate, X, X[:1]).any()
    one = np.zeros_like(resp)
    one[:, 1] = 1.0
    gate = fitted(ClassifierGate(LogisticRegression()), (X, one))
    assert not gate_scores(gate, X, X[:1]).any()


@pytest.mark.parametrize("columns", [None, [None, [0, 2], [1]]])
def test_a_tree_adds_up_along_its_paths(rows, columns):
    X, _ = rows
    rng = np.random.default_rng(0)
    resp = special.softmax(rng.normal(size=(200, 4)) + 2 * X[:, :1], axis=1)
    gates = [SoftmaxGate(), SoftmaxGate(), GaussianGate()]
    gate = GateTree(Tree.complete([2, 2]), gates, columns)
    gate, center = fitted(gate, (X, resp)), X.mean(axis=0)[None]
    scores = gate_scores(gate, X, center)
    change = gate.log_proba(X) - gate.log_proba(center)
    assert scores.shape == (200, 3, 4)
    assert_allclose(scores.sum(axis=1), change, atol=1e-9)
