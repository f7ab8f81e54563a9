"""The general node on rows of any array library: passes, densities, hard labels."""

import numpy as np
import pytest

from skmoe._tree import Tree
from skmoe._xp import to_numpy
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._node_problem import NodeProblem
from skmoe.exceptions import ExpertError
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree
from tests._libraries import LIBRARIES, assert_same, no_long_trips, small_blocks
from tests.em.problems import LEFT, RIGHT, rows, soft_labels

N_ROWS = 600


def unlike_linear():
    """Linear experts of three kinds."""
    plain = LinearExpert(alpha=0, variance_prior=None)
    return [LinearExpert(), plain, LinearExpert(alpha=10.0, fit_intercept=False)]


def tree(make_gate, columns=None):
    """Return a tree of gates over three leaves."""
    return GateTree(Tree.from_nested([[0, 1], 2]), [make_gate(), make_gate()], columns)


# name: (make a gate, make the experts, n_outputs or classes, keywords of the node)
CASES = {
    "gaussian": (GaussianGate, lambda: [LinearExpert() for _ in range(3)], None, {}),
    "tied": (lambda: GaussianGate("tied"), unlike_linear, None, {}),
    "diag": (lambda: GaussianGate("diag"), unlike_linear, 2, {}),
    "unlike": (SoftmaxGate, unlike_linear, None, {"gate_columns": RIGHT}),
    "classes": (
        SoftmaxGate,
        lambda: [LogisticExpert(a) for a in (0.1, 1.0, 5.0)],
        "3",
        {},
    ),
    "gaussian classes": (
        GaussianGate,
        lambda: [LogisticExpert(a) for a in (0.1, 1.0, 5.0)],
        "2",
        {"gate_columns": LEFT},
    ),
    "constant": (lambda: ConstantGate(2.0), unlike_linear, None, {}),
    "shared": (
        GaussianGate,
        lambda: [LinearExpert() for _ in range(3)],
        2,
        {"shared_dispersion": True},
    ),
    "tree": (lambda: tree(SoftmaxGate, [None, LEFT]), unlike_linear, None, {}),
    "generative tree": (lambda: tree(GaussianGate), unlike_linear, None, {}),
}
SEEN = [None, RIGHT, LEFT]


@pytest.fixture
def rng():
    return np.random.default_rng(21)


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


def data(name, rng):
    """Return X, y, weight, n_classes and responsibilities of three experts."""
    found = rows(CASES[name][2], rng, N_ROWS)
    return *found, soft_labels(found[0], 3, rng)


def make_node(name, **more):
    """Return an unprepared node whose experts see different columns."""
    gate, experts, _, options = CASES[name]
    named = [(f"expert{k}", expert) for k, expert in enumerate(experts())]
    return Node(gate(), named, SEEN, **options, **more)


def bound(name, X, y, weight, n_classes, **more):
    """Return a node's problem on some rows."""
    node = make_node(name, **more)
    node.prepare(X, y, weight, n_classes)
    return NodeProblem(node, X, y, weight)


def passes(problem, resp, n_passes=3):
    """Return log-likelihoods of passes from given responsibilities."""
    problem.start(resp, gate_steps=2)
    values = []
    for _ in range(n_passes):
        values.append(problem.e_step())
        problem.m_step()
    return values


def parameters(problem):
    """Return all parameters, also where dispersions are tied."""
    return np.concatenate([np.ravel(part.parameters) for part in problem._parts])


# -- passes ---------------------------------------------------------------------------


@pytest.mark.parametrize("assign", [posterior, hard_assignment])
@pytest.mark.parametrize("name", CASES)
def test_three_passes(name, assign, to, rng, monkeypatch):
    """Log-likelihoods, parameters and all that the engine reads off in between."""
    small_blocks(monkeypatch)
    X, y, weight, n_classes, resp = data(name, rng)
    theirs = bound(name, X, y, weight, n_classes, assign=assign)
    ours = bound(name, to(X), to(y), to(weight), n_classes, assign=assign)
    expected = passes(theirs, resp)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(passes(ours, to(resp)), expected, rtol=1e-10)
    scale = np.abs(parameters(theirs)).max()
    np.testing.assert_allclose(
        parameters(ours), parameters(theirs), rtol=1e-10, atol=1e-10 * scale
    )
    assert ours.penalty == pytest.approx(theirs.penalty, rel=1e-10)
    assert ours.row == theirs.row
    assert_same(ours.node.resp, theirs.node.resp, to)
    assert isinstance(ours.mass, np.ndarray)
    np.testing.assert_allclose(ours.mass, theirs.mass, rtol=1e-10)
    assert ours.degenerate() == theirs.degenerate()
    assert ours.skipped_share == pytest.approx(theirs.skipped_share)
    assert_same(ours.responsibilities(), theirs.responsibilities(), to)


@pytest.mark.parametrize("name", CASES)
def test_densities(name, to, rng):
    X, y, weight, n_classes, resp = data(name, rng)
    problem = bound(name, X, y, weight, n_classes)
    passes(problem, resp)
    node = problem.node
    moved = to(X), to(y)
    assert_same(node.joint(*moved), node.joint(X, y), to)
    assert_same(node.conditional(*moved), node.conditional(X, y), to)
    assert_same(node.log_prob(*moved), node.log_prob(X, y), to)


@pytest.mark.parametrize("name", CASES)
def test_a_start_in_numpy(name, to, rng):
    """Starts are made on the host; to rows there they may come from elsewhere."""
    X, y, weight, n_classes, resp = data(name, rng)
    ours = bound(name, to(X), to(y), to(weight), n_classes)
    theirs = bound(name, X, y, weight, n_classes)
    expected = passes(theirs, to(resp))
    np.testing.assert_allclose(passes(ours, resp), expected, rtol=1e-10)


@pytest.mark.parametrize("assign", [posterior, hard_assignment])
@pytest.mark.parametrize("name", CASES)
def test_rows_never_pass_through_numpy(name, assign, rng, monkeypatch):
    to = LIBRARIES["elsewhere"]
    X, y, weight, n_classes, resp = data(name, rng)
    moved = to(X), to(y), to(weight), to(resp)
    with no_long_trips(monkeypatch, N_ROWS):
        problem = bound(name, *moved[:3], n_classes, assign=assign)
        passes(problem, moved[3])
        problem.responsibilities()
        problem.degenerate()


@pytest.mark.parametrize("name", ["gaussian", "tree", "classes"])
def test_same_climb(name, to, rng):
    """The loop keeps, restores and extrapolates states without seeing the rows."""
    X, y, weight, n_classes, resp = data(name, rng)
    found = []
    for bring in (to, np.asarray):
        problem = bound(name, bring(X), bring(y), bring(weight), n_classes)
        problem.start(resp)
        monitor = Monitor(1e-6, problem.total_weight, exact=problem.exact_m_step)
        climb(problem, monitor, 15)
        found.append((monitor.last, monitor.n_passes))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-8)
    assert found[0][1] == found[1][1]


# -- some rows only -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unlike", "classes", "shared"])
def test_densities_of_some_rows(name, to, rng):
    """Where a mask says no the array stays, and an expert is not asked at all."""
    X, y, weight, n_classes, resp = data(name, rng)
    problem = bound(name, X, y, weight, n_classes)
    passes(problem, resp)
    asked = rng.random((3, N_ROWS)) < [[0.5], [2.0], [-1.0]]
    asked[0, 0] = False
    never = problem.node.experts[2][1]
    never.log_prob = None
    expected, found = np.zeros((3, N_ROWS)), to(np.zeros((3, N_ROWS)))
    problem.node.add_where(expected, asked, X, y)
    problem.node.add_where(found, to(asked), to(X), to(y))
    assert_same(found, expected, to)
    assert not to_numpy(found)[~asked].any()
    assert to_numpy(found)[asked].all()


def test_hard_labels_ask_only_who_can_win(to, rng):
    X, y, weight, n_classes, resp = data("gaussian classes", rng)
    theirs = bound("gaussian classes", X, y, weight, n_classes)
    passes(theirs, resp)
    node = theirs.node
    full = node.log_prob(X, y)
    expected = hard_assignment(node.joint(X, y))
    node.assign = hard_assignment
    log_lik = node.log_prob(to(X), to(y))
    assert_same(node.resp, expected[0], to)
    assert_same(log_lik, expected[1], to)
    pending = to_numpy(node.pending)
    assert 0.05 < pending.mean() < 0.9
    assert node.skipped_share == pytest.approx(pending.mean())
    node.log_prob(X, y)
    np.testing.assert_array_equal(pending, node.pending)
    assert full.shape == (N_ROWS,)


def test_names_the_expert_of_a_missing_density(to, rng):
    X, y, weight, n_classes, resp = data("unlike", rng)
    problem = bound("unlike", to(X), to(y), to(weight), n_classes)
    passes(problem, resp)
    problem.node.experts[1][1].kernel_.coef[:] = np.nan
    with pytest.raises(ExpertError, match=r"experts \['expert1'\] returned NaN"):
        problem.e_step()


# -- what the E-step makes of densities -----------------------------------------------


@pytest.mark.parametrize("assign", [posterior, hard_assignment])
def test_assignment(assign, to, rng):
    joint = 5.0 * rng.normal(size=(4, 50))
    joint[1, ::7] = -np.inf
    for found, expected in zip(assign(to(joint)), assign(joint), strict=True):
        assert_same(found, expected, to)
