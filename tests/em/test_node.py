"""The general node: assignment, columns, nesting, errors, snapshots."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge

from skmoe.em._node import Node, hard_assignment, posterior, take_columns
from skmoe.em._node_problem import NodeProblem
from skmoe.exceptions import ExpertError
from skmoe.experts import EstimatorExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs, assert_integrates_to_one
from tests.em.problems import make_node, objective, plain, rows, soft_labels


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def bound(node, data, resp=None, steps=0):
    """Prepare a node, bind it to the rows, and take some passes."""
    X, y, weight, n_classes = data
    node.prepare(X, y, weight, n_classes)
    problem = NodeProblem(node, X, y, weight)
    if resp is not None:
        problem.start(resp)
    for _ in range(steps):
        problem.e_step()
        problem.m_step()
    return problem


# -- what an E-step makes of log densities ---------------------------------------


def test_posterior_is_the_softmax(rng):
    joint = 30.0 * rng.normal(size=(4, 50))
    before = joint.copy()
    resp, log_lik = posterior(joint)
    np.testing.assert_allclose(log_lik, logsumexp(joint, axis=0), rtol=1e-12)
    np.testing.assert_allclose(resp, np.exp(log_softmax(joint, axis=0)), rtol=1e-9)
    np.testing.assert_array_equal(joint, before)


def test_hard_assignment_takes_the_first_of_ties(rng):
    joint = np.array([[0.0, -2.0, 5.0], [0.0, -1.0, 4.0], [-9.0, -1.0, 5.0]])
    resp, log_lik = hard_assignment(joint)
    np.testing.assert_array_equal(resp, np.eye(3)[:, [0, 1, 0]])
    np.testing.assert_array_equal(log_lik, [0.0, -1.0, 5.0])


def test_columns(rng):
    X = rng.normal(size=(5, 4))
    assert take_columns(X, None) is X
    np.testing.assert_array_equal(take_columns(X, [2, 0]), X[:, [2, 0]])
    node = make_node("single", columns=([0, 3], None))
    data = rows(None, rng)
    node.prepare(*data)
    # The same object for the training rows, so that experts know them again.
    assert node.view(data[0], 1) is node.view(data[0], 1)
    assert node.view(data[0].copy(), 1) is not node.view(data[0].copy(), 1)
    node.forget()
    assert node.view(data[0], 1) is not node.view(data[0], 1)


def test_density_is_that_of_the_mixture(rng):
    data = X, y, _, _ = rows(None, rng)
    node = bound(make_node("single"), data, soft_labels(X, 3, rng), 3).node
    proba = np.exp(node.gate.log_proba(X))
    each = [
        stats.norm(e.predict_params(X), np.sqrt(e.dispersion)).pdf(y)
        for _, e in node.experts
    ]
    expected = np.log((proba.T * np.array(each)).sum(axis=0))
    np.testing.assert_allclose(node.log_prob(X, y), expected, rtol=1e-9)
    np.testing.assert_allclose(node.resp.sum(axis=0), 1.0, rtol=1e-12)
    low, high = y.min() - 20.0, y.max() + 20.0
    middle = [float(e.predict_params(X[:1])[0]) for _, e in node.experts]

    def density(value):
        return float(np.exp(node.log_prob(X[:1], np.array([value]))[0]))

    assert_integrates_to_one(density, low, high, middle)


def test_each_expert_sees_its_own_columns(rng):
    data = X, y, weight, _ = rows(None, rng)
    node = make_node("single_ml", 2)
    node.columns, node.gate_columns = [[0], [1, 3]], [2]
    resp = soft_labels(X, 2, rng)
    bound(node, data, resp)
    for k, columns in enumerate(node.columns):
        reference = LinearRegression().fit(X[:, columns], y, weight * resp[k])
        expert = node.experts[k][1]
        np.testing.assert_allclose(expert.coef_, reference.coef_, rtol=1e-7)
    assert node.gate.coef_.shape == (2, 1)


def test_threads_change_nothing(rng):
    data = rows(None, rng)
    resp = soft_labels(data[0], 3, rng)
    found = []
    for n_jobs in (None, 2):
        node = make_node("single", n_jobs=n_jobs)
        found.append(objective(bound(node, data, resp, 3)))
    assert found[0] == found[1]


@pytest.mark.parametrize("prior", [None, (5.0, 0.05)])
@pytest.mark.parametrize("adapted", [False, True])
def test_tied_dispersions(rng, adapted, prior):
    """One variance: all squared residuals over all rows, priors included."""
    data = X, y, weight, _ = rows(None, rng)

    def expert():
        if adapted:
            return EstimatorExpert(LinearRegression(), variance_prior=prior)
        return LinearExpert(alpha=0, variance_prior=prior)

    experts = [(f"e{k}", expert()) for k in range(3)]
    node = Node(SoftmaxGate(), experts, [None] * 3, shared_dispersion=True)
    resp = soft_labels(X, 3, rng)
    bound(node, data, resp)
    total, mass = 0.0, weight.sum()
    for k, (_, part) in enumerate(node.experts):
        total += (weight * resp[k]) @ (y - part.predict_params(X)) ** 2
    if prior is not None:
        spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
        total += 3 * 5.0 * 0.05 * spread
        mass += 15.0
    for _, part in node.experts:
        assert part.dispersion == pytest.approx(total / mass, rel=1e-8)


def test_number_of_parameters(rng):
    data = rows(None, rng)
    assert bound(make_node("single"), data).node.n_parameters == 2 * 5 + 3 * 6
    assert bound(make_node("shared"), data).node.n_parameters == 2 * 5 + 3 * 5 + 1
    two = rows(2, rng)
    assert bound(make_node("full"), two).node.n_parameters == 2 * 5 + 3 * 13
    tied = bound(make_node("shared_full"), two).node
    assert tied.n_parameters == 2 * 5 + 3 * 10 + 3
    tied = bound(make_node("shared_diag"), two).node
    assert tied.n_parameters == 2 * 5 + 3 * 10 + 2
    constant = bound(make_node("constant_gate"), data).node
    assert constant.n_parameters == 2 + 3 * 6


def test_exact_if_all_parts_are(rng):
    assert make_node("single").exact_m_step
    forest = EstimatorExpert(RandomForestRegressor())
    node = Node(SoftmaxGate(), [("a", LinearExpert()), ("b", forest)], [None] * 2)
    assert not node.exact_m_step


# -- a tree of nodes ---------------------------------------------------------------


def tree():
    """Two gates under one, four linear leaves."""

    def node(*children):
        named = [(f"child{k}", child) for k, child in enumerate(children)]
        return Node(SoftmaxGate(0.05), named, [None] * len(children))

    return node(node(plain(), plain()), node(plain(), plain()))


def leaves_and_gates(root):
    children = [child for _, child in root.experts]
    leaves = [leaf for child in children for _, leaf in child.experts]
    return leaves, [root.gate, *(child.gate for child in children)]


class JointPosterior:
    """EM of a two-level tree as Jordan & Jacobs (1994) write it, by hand.

    Joint posteriors of the leaves are ``g_i g_j|i P_ij / p(y|x)``. The top gate
    is fitted to their sums h_i, each lower gate to h_j|i with weight h_i, each
    leaf by least squares with weight h_ij. Gates take one Newton step in
    unconstrained coefficients of a binary logit.
    """

    def __init__(self, X, y, weight, alpha=0.05):
        mean = weight @ X / weight.sum()
        scale = np.sqrt(weight @ (X - mean) ** 2 / weight.sum())
        self.Z = np.column_stack([np.ones(len(y)), (X - mean) / scale])
        self.y, self.weight, self.alpha = y, weight, alpha
        p = self.Z.shape[1]
        self.gates = np.zeros((3, p))  # differences of logits
        self.coef, self.variance = np.zeros((4, p)), np.ones(4)

    def log_joint(self):
        eta = self.Z @ self.gates.T
        log_first, log_second = -np.logaddexp(0, -eta), -np.logaddexp(0, eta)
        mean = self.Z @ self.coef.T
        density = stats.norm(mean, np.sqrt(self.variance)).logpdf(self.y[:, None])
        joint = np.empty((len(self.y), 4))
        top = [log_first[:, 0], log_second[:, 0]]
        for i in range(2):
            low = [log_first[:, 1 + i], log_second[:, 1 + i]]
            for j in range(2):
                joint[:, 2 * i + j] = top[i] + low[j] + density[:, 2 * i + j]
        return joint

    def objective(self):
        total = self.weight @ logsumexp(self.log_joint(), axis=1)
        # Centred coefficients are half the difference and its negative.
        return total - 0.25 * self.alpha * (self.gates[:, 1:] ** 2).sum()

    def newton(self, eta, target, weight):
        g = 1.0 / (1.0 + np.exp(-self.Z @ eta))
        ridge = 0.5 * self.alpha * np.r_[0.0, np.ones(self.Z.shape[1] - 1)]
        slope = self.Z.T @ (weight * (target - g)) - ridge * eta
        curvature = (self.Z.T * (weight * g * (1 - g))) @ self.Z + np.diag(ridge)
        return eta + np.linalg.solve(curvature, slope)

    def leaf(self, k, h):
        root = np.sqrt(self.weight * h)
        self.coef[k] = np.linalg.lstsq(self.Z * root[:, None], self.y * root)[0]
        error = self.y - self.Z @ self.coef[k]
        self.variance[k] = (self.weight * h) @ error**2 / (self.weight @ h)

    def one_pass(self):
        log_h = log_softmax(self.log_joint(), axis=1)
        log_top = logsumexp(log_h.reshape(-1, 2, 2), axis=2)
        top = np.exp(log_top)
        self.gates[0] = self.newton(self.gates[0], top[:, 0], self.weight)
        for i in range(2):
            share = np.exp(log_h[:, 2 * i] - log_top[:, i])
            self.gates[1 + i] = self.newton(
                self.gates[1 + i], share, self.weight * top[:, i]
            )
        for k in range(4):
            self.leaf(k, np.exp(log_h[:, k]))


def test_a_node_of_nodes_is_the_joint_posterior(rng):
    X, y, _, _ = rows(None, rng, n=240, n_regimes=4)
    weight = rng.uniform(0.3, 2.0, size=240)
    by_hand, root = JointPosterior(X, y, weight), tree()
    root.prepare(X, y, weight)
    leaves, gates = leaves_and_gates(root)
    h = soft_labels(X, 4, rng).T
    for k, leaf in enumerate(leaves):
        by_hand.leaf(k, h[:, k])
        leaf.m_step(X, y, weight * h[:, k])
    problem = NodeProblem(root, X, y, weight)
    ours, theirs = [], []
    for _ in range(60):
        ours.append(objective(problem))
        theirs.append(by_hand.objective())
        problem.m_step()
        by_hand.one_pass()
    assert_climbs(ours)
    assert ours[-1] > ours[0] + 20.0
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    for leaf, coef in zip(leaves, by_hand.coef, strict=True):
        np.testing.assert_allclose(leaf.kernel_.coef[0, 0], coef, rtol=1e-6, atol=1e-7)
    for gate, eta in zip(gates, by_hand.gates, strict=True):
        difference = gate.kernel_.coef[0] - gate.kernel_.coef[1]
        np.testing.assert_allclose(difference, eta, rtol=1e-5, atol=1e-6)


def test_a_nested_node_with_one_child_is_that_child(rng):
    data = X, y, weight, _ = rows(None, rng)
    inner = [Node(SoftmaxGate(), [("leaf", LinearExpert())], [None]) for _ in range(3)]
    outer = Node(SoftmaxGate(), [(f"n{k}", e) for k, e in enumerate(inner)], [None] * 3)
    resp = soft_labels(X, 3, rng)
    outer.prepare(X, y, weight)
    nested = NodeProblem(outer, X, y, weight)
    nested.e_step()  # children need responsibilities of their own
    outer.m_step_to(X, y, weight, resp)
    flat = bound(make_node("single"), data, resp)
    for _ in range(5):
        assert objective(nested) == pytest.approx(objective(flat), rel=1e-11)
        nested.m_step()
        flat.m_step()


# -- snapshots ---------------------------------------------------------------------


def adapted_node():
    experts = [(f"e{k}", EstimatorExpert(Ridge())) for k in range(2)]
    return Node(SoftmaxGate(), experts, [None] * 2)


def gaussian_node():
    experts = [("a", EstimatorExpert(Ridge())), ("b", LinearExpert())]
    return Node(GaussianGate(), experts, [None] * 2)


@pytest.mark.parametrize(
    "make", [adapted_node, gaussian_node, lambda: make_node("shared", 2)]
)
def test_a_state_survives_what_comes_after(rng, make):
    data = rows(None, rng)
    problem = bound(make(), data, soft_labels(data[0], 2, rng), 1)
    before, state = objective(problem), problem.state()
    for _ in range(2):  # the second time the state itself has been in use
        for _ in range(3):
            problem.m_step()
            after = objective(problem)
        assert abs(after - before) > 1e-3
        problem.restore(state)
        assert objective(problem) == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("make", [adapted_node, lambda: make_node("single", 2)])
def test_a_start_does_not_depend_on_what_ran_before(rng, make):
    data = rows(None, rng)
    one, other = (soft_labels(data[0][::s], 2, rng) for s in (1, -1))
    problem = bound(make(), data, one)
    first = objective(problem)
    problem.start(other)
    problem.e_step()
    problem.m_step()
    assert abs(objective(problem) - first) > 1e-3
    problem.start(one)
    assert objective(problem) == pytest.approx(first, rel=1e-12)


def test_gate_steps_of_a_start(rng):
    data = rows(None, rng)
    resp = np.eye(2)[(data[0][:, 0] > 0).astype(int)].T.copy()
    problem = bound(make_node("single_ml", 2), data)
    fits = []
    for steps in (1, 8):
        problem.start(resp, steps)
        log_proba = problem.node.gate.log_proba(data[0])
        fits.append(float(data[2] @ (resp.T * log_proba).sum(axis=1)))
    assert fits[1] > fits[0] + 3.0


def test_parameters_of_parametric_parts(rng):
    data = rows(None, rng)
    problem = bound(make_node("single"), data, soft_labels(data[0], 3, rng), 2)
    before, vector = objective(problem), problem.parameters
    assert vector.ndim == 1
    problem.parameters = vector + 0.1
    assert objective(problem) < before
    problem.parameters = vector
    assert objective(problem) == pytest.approx(before, rel=1e-12)
    # Tied dispersions are no free vector, estimators have none.
    assert bound(make_node("shared"), data).parameters is None
    assert bound(adapted_node(), data).parameters is None


def test_a_node_pickles_and_copies(rng):
    data = rows(None, rng)
    node = bound(adapted_node(), data, soft_labels(data[0], 2, rng), 2).node
    X, y = data[:2]
    expected = node.log_prob(X, y)
    again = pickle.loads(pickle.dumps(node))
    np.testing.assert_allclose(again.log_prob(X, y), expected, rtol=1e-12)
    np.testing.assert_allclose(copy.deepcopy(node).log_prob(X, y), expected, rtol=1e-12)


def test_problem_without_gradient(rng):
    data = rows(None, rng)
    problem = bound(make_node("single"), data)
    assert not problem.has_gradient
    with pytest.raises(AttributeError, match="no gradient"):
        _ = problem.gradient
    assert not problem.backtrack()
    np.testing.assert_array_equal(problem.limited(np.ones(3)), 1.0)
    np.testing.assert_array_equal(problem.precondition(np.ones(3)), 1.0)


def test_mass_and_degenerate(rng):
    data = X, _, weight, _ = rows(None, rng)
    problem = bound(make_node("constant_gate"), data, soft_labels(X, 3, rng), 1)
    problem.e_step()
    assert problem.mass.sum() == pytest.approx(weight.sum())
    assert not problem.degenerate()
    problem.node.gate.parameters = np.array([0.0, 0.0, -30.0])
    problem.e_step()
    assert problem.degenerate()


# -- parts that fail ---------------------------------------------------------------


class Moody(LinearExpert):
    """A linear expert whose M-step fails, or whose density is NaN, at a call."""

    def __init__(self, fails_at=3, kind="raise"):
        super().__init__()
        self.fails_at, self.kind, self.calls = fails_at, kind, 0

    def m_step(self, X, y, weight):
        self.calls += 1
        if self.kind == "raise" and self.calls == self.fails_at:
            raise FloatingPointError("the matrix is sad")
        super().m_step(X, y, weight)

    def log_prob(self, X, y):
        if self.kind == "nan" and self.calls >= self.fails_at:
            return np.full(len(y), np.nan)
        return super().log_prob(X, y)


def moody_problem(rng, **params):
    experts = [("calm", LinearExpert()), ("moody", Moody(**params))]
    node = Node(ConstantGate(), experts, [None] * 2)
    data = rows(None, rng)
    return bound(node, data, soft_labels(data[0], 2, rng))


def test_an_expert_that_raises_is_named_with_its_pass(rng):
    problem = moody_problem(rng)
    problem.e_step()
    problem.m_step()
    problem.e_step()
    message = r"EM pass 2, 'moody' failed: FloatingPointError: the matrix is sad"
    with pytest.raises(ExpertError, match=message) as caught:
        problem.m_step()
    assert isinstance(caught.value.__cause__, FloatingPointError)


def test_a_density_of_nan_is_named(rng):
    problem = moody_problem(rng, fails_at=2, kind="nan")
    problem.e_step()
    problem.m_step()
    with pytest.raises(ExpertError, match=r"pass 2, experts \['moody'\] returned NaN"):
        problem.e_step()


class SadGate(ConstantGate):
    def m_step(self, X, resp, weight):
        raise ValueError("no way in")


def test_a_gate_that_raises_is_named(rng):
    node = Node(SadGate(), [("a", LinearExpert())], [None])
    data = rows(None, rng)
    problem = bound(node, data)
    problem.e_step()
    with pytest.raises(ExpertError, match="'gate' failed: ValueError: no way in"):
        problem.m_step()


def test_an_expert_that_cannot_be_prepared_is_named(rng):
    node = Node(ConstantGate(), [("odd", LinearExpert(alpha=-1.0))], [None])
    with pytest.raises(ExpertError, match="'odd' failed: ValueError: LinearExpert"):
        node.prepare(*rows(None, rng))


def test_classes_through_a_node(rng):
    data = X, y, _, n_classes = rows("3", rng)
    node = make_node("four_classes", 2)
    trace = []
    problem = bound(node, data, soft_labels(X, 2, rng))
    for _ in range(10):
        trace.append(objective(problem))
        problem.m_step()
    assert_climbs(trace, 1e-10)
    each = np.exp([node.log_prob(X, np.full(len(y), c)) for c in range(n_classes)])
    np.testing.assert_allclose(each.sum(axis=0), 1.0, rtol=1e-10)
    assert isinstance(node.experts[0][1], LogisticExpert)
