"""Coarse starts: EM with experts on plain columns, before it works on splines."""

import copy
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer

import skmoe.em._fit as em_fit
from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe._tree import Tree
from skmoe.em._build import build_problem, plain_node
from skmoe.em._fit import (
    COARSE_PASSES,
    COARSE_ROWS,
    COARSE_TOL,
    FitOptions,
    _coarse_node,
    _coarse_start,
)
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._paths import PathNode
from skmoe.em._start_data import start_data
from skmoe.em._tree_starts import starts_of
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree
from tests._asserts import assert_weight_is_repetition, assert_zero_weight_is_removal

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
]

TreeRegressor = HierarchicalMixtureOfExpertsRegressor
TreeClassifier = HierarchicalMixtureOfExpertsClassifier
# As the trees of a forest are fitted.
SHORT = {"n_init": 1, "init": "tree", "max_iter": 8, "tol": 1e-4, "prune": False}


def splines(expert=None, **params):
    spline = SplineTransformer(4, include_bias=False, **params)
    return make_pipeline(spline, expert or LinearExpert())


def regimes(seed=0, n=400):
    """Two curved regimes on either side of an oblique boundary."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 4))
    left = np.sin(2.0 * X[:, 2]) + 2.0 * X[:, 3]
    right = -(X[:, 2] ** 2) - X[:, 3]
    y = np.where(X[:, 0] + X[:, 1] > 0, left, right)
    return X, y + 0.2 * rng.normal(size=n)


def classes_of(y):
    return np.digitize(y, np.quantile(y, [0.33, 0.67]))


def expanded(expert=None, transformer=None):
    transformer = transformer or SplineTransformer(4, include_bias=False)
    return ExpandedExpert(transformer, expert or LinearExpert())


def make_node(expert=None, gate=None, n_experts=4, *, flat=False, **more):
    """Return a node of clones, under a tree of gates or a single one."""
    expert = expert or expanded()
    gate = gate or SoftmaxGate(0.1)
    columns, path_tol = more.pop("columns", None), more.pop("path_tol", 0.0)
    gate_columns = more.pop("gate_columns", None)
    if not flat:
        tree = Tree.complete([2, n_experts // 2])
        gates = [copy.deepcopy(gate) for _ in tree.inner]
        every = None if gate_columns is None else [gate_columns] * len(gates)
        gate, gate_columns = GateTree(tree, gates, every, path_tol), None
    experts = [(f"expert{k}", copy.deepcopy(expert)) for k in range(n_experts)]
    return Node(
        gate, experts, [columns] * n_experts, gate_columns, **{"clones": True, **more}
    )


def make_options(**more):
    settings = {
        "init": "tree",
        "n_init": 1,
        "max_iter": 8,
        "tol": 1e-4,
        "acceleration": "auto",
        "algorithm": "em",
        "n_jobs": None,
        "rng": np.random.RandomState(0),
        "fresh": lambda size: None,
        "named": False,
        "free_gate": False,
        "on_pass": lambda problem, node: None,
    }
    return FitOptions(**{**settings, **more})


@pytest.fixture
def spied(monkeypatch):
    """Note each coarse start that a fit makes."""
    made = []

    def noted(*args):
        made.append(_coarse_start(*args))
        return made[-1]

    monkeypatch.setattr(em_fit, "_coarse_start", noted)
    return made


# -- who gets one ----------------------------------------------------------------

GETS_ONE = {
    "tree": lambda: TreeRegressor(splines(), **SHORT),
    "paths": lambda: TreeRegressor(splines(), depth=3, path_tol=0.01, **SHORT),
    "flat": lambda: MixtureOfExpertsRegressor(splines(), 2, init="kmeans", n_init=1),
    "auto": lambda: MixtureOfExpertsRegressor(splines(), 2, n_init=1),
    "annealed": lambda: TreeRegressor(splines(), annealing=0.5, **SHORT),
    "constant gate": lambda: MixtureOfExpertsRegressor(
        splines(), 2, gate=ConstantGate(), n_init=1
    ),
    "hard": lambda: MixtureOfExpertsRegressor(
        splines(), 2, algorithm="cem", init="kmeans", n_init=1
    ),
    "few gate columns": lambda: TreeRegressor(splines(), gate_features=[0, 1], **SHORT),
    "sparse splines": lambda: TreeRegressor(splines(sparse_output=True), **SHORT),
}
GETS_NONE = {
    "portfolio": lambda: MixtureOfExpertsRegressor(splines(), 2, init="kmeans"),
    "two starts": lambda: TreeRegressor(splines(), **{**SHORT, "n_init": 2}),
    "given": lambda: MixtureOfExpertsRegressor(
        splines(), 2, init=(regimes()[0][:, 0] > 0).astype(int), n_init=1
    ),
    "plain experts": lambda: TreeRegressor(LinearExpert(), **SHORT),
    "named": lambda: MixtureOfExpertsRegressor(
        [("a", splines()), ("b", splines())], n_init=1, init="kmeans"
    ),
    "general experts": lambda: MixtureOfExpertsRegressor(
        make_pipeline(SplineTransformer(4), Ridge()), 2, n_init=1, init="kmeans"
    ),
    "generative gate": lambda: MixtureOfExpertsRegressor(
        splines(), 2, gate=GaussianGate(), n_init=1, init="kmeans"
    ),
    "fewer columns": lambda: TreeRegressor(
        make_pipeline(PCA(2), LinearExpert()), **SHORT
    ),
    "as many columns": lambda: TreeRegressor(
        make_pipeline(PCA(4), LinearExpert()), **SHORT
    ),
}


@pytest.mark.parametrize("name", [*GETS_ONE, *GETS_NONE])
def test_who_gets_a_coarse_start(name, spied):
    model = (GETS_ONE | GETS_NONE)[name]()
    X, y = regimes()
    model.fit(X, y)
    assert len(spied) == (name in GETS_ONE)
    assert np.isfinite(model.log_likelihood(X, y))


def test_a_second_fit_from_the_first_needs_none(spied):
    X, y = regimes()
    model = TreeRegressor(splines(), warm_start=True, **SHORT).fit(X, y)
    assert len(spied) == 1
    before = model.objective_trace_[-1]
    model.fit(X, y)
    assert len(spied) == 1
    assert model.objective_trace_[-1] >= before - 1e-6 * abs(before)


def test_many_columns_behind_a_projection_cost_nothing():
    """The plain experts would see 400 columns, those of the mixture five."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 400))
    projected = expanded(transformer=PCA(5))
    node = make_node(projected, gate_columns=[0])
    problem = build_problem(node, X, X[:, 0], np.ones(80), None)
    assert problem.groups[0].matrix.shape[0] == 6
    assert _coarse_node(node, problem, X) is None
    wide = make_node(expanded(transformer=SplineTransformer(4)), columns=[0, 1, 2])
    problem = build_problem(wide, X[:, :5], X[:, 0], np.ones(80), None)
    assert _coarse_node(wide, problem, X[:, :5]) is not None


def test_sparse_columns_need_none(spied):
    """They have no fused node, coarse or not."""
    X, y = regimes(n=150)
    X = np.where(X > 0.5, X, 0.0)
    features = PolynomialFeatures(2, include_bias=False)
    model = TreeRegressor(make_pipeline(features, LinearExpert()), **SHORT)
    model.fit(sparse.csr_array(X), y)
    assert spied == []
    assert model.score(sparse.csr_array(X), y) > 0.3


# -- the node of plain experts ---------------------------------------------------


@pytest.mark.parametrize("flat", [True, False])
def test_plain_node_is_the_same_without_the_transformer(flat):
    expert = expanded(LinearExpert(alpha=3.0, covariance="diag"))
    node = make_node(
        expert,
        flat=flat,
        columns=[1, 2],
        gate_columns=[0, 3],
        shared_dispersion=True,
        assign=hard_assignment,
    )
    plain = plain_node(node)
    assert [name for name, _ in plain.experts] == [name for name, _ in node.experts]
    for _, part in plain.experts:
        assert type(part) is LinearExpert
        assert part.get_params() == expert.expert.get_params()
    assert len({id(part) for _, part in plain.experts}) == 4
    assert plain.columns == node.columns
    assert plain.gate_columns == node.gate_columns
    assert plain.shared_dispersion
    assert plain.assign is hard_assignment
    assert plain.clones
    assert plain.gate is not node.gate
    assert type(plain.gate) is type(node.gate)
    if not flat:
        assert plain.gate.tree.children == node.gate.tree.children
        assert plain.gate.columns == node.gate.columns


def test_there_is_no_plain_node_of_other_experts():
    assert plain_node(make_node(LinearExpert())) is None
    assert plain_node(make_node(clones=False)) is None


def test_plain_experts_have_the_ridge_that_was_chosen():
    """Left to the library it is settled before, for the experts as they are."""
    X, y = regimes(n=150)
    seen = []
    original = em_fit.build_problem

    def noted(node, *rows):
        seen.append([getattr(expert, "alpha", None) for _, expert in node.experts])
        return original(node, *rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em_fit, "build_problem", noted)
        model = TreeClassifier(splines(LogisticExpert()), **SHORT)
        model.fit(X, classes_of(y))
    chosen = {expert.expert_.alpha for expert in model.experts_}
    assert len(chosen) == 1
    assert [chosen.pop()] * 4 in seen


# -- what it hands over ----------------------------------------------------------

HANDED = {
    "tree": {},
    "flat": {"flat": True},
    "columns": {"columns": [0, 1, 2], "gate_columns": [0, 3]},
    "shared": {"shared_dispersion": True},
    "no intercept": {"expert": expanded(LinearExpert(fit_intercept=False))},
    "paths": {"path_tol": 1e-3},
    "classes": {"expert": expanded(LogisticExpert(1.0))},
}


def rows_of(name, n=300):
    X, y = regimes(1, n)
    weight = np.random.default_rng(2).uniform(0.5, 2.0, size=n)
    if name == "classes":
        return X, classes_of(y), weight, 3
    return X, y, weight, None


def by_hand(node, rows, options):
    """Return gate parameters and responsibilities of the passes with plain experts."""
    problem = build_problem(node, *rows)
    data = start_data(node, *rows)
    start = next(iter(starts_of("tree", 1, data, options.rng)))
    problem.start(start.resp, start.gate_steps)
    monitor = Monitor(COARSE_TOL, problem.total_weight)
    climb(problem, monitor, min(COARSE_PASSES, options.max_iter), "auto")
    problem.restore(monitor.best_state)
    return problem, start.resp


@pytest.mark.parametrize("name", HANDED)
def test_gate_and_responsibilities_of_the_plain_fit(name):
    rows = rows_of(name)
    node = make_node(**HANDED[name])
    found = _coarse_start(plain_node(node), *rows, make_options())
    expected, begun = by_hand(plain_node(node), rows, make_options())
    # The same passes over arrays laid out anew: sums may take another order.
    np.testing.assert_allclose(
        found.gate_parameters, expected.gate.parameters, rtol=1e-11, atol=1e-11
    )
    np.testing.assert_allclose(found.resp, expected.responsibilities(), atol=1e-12)
    assert found.name == "tree"
    # Rows follow the gate and their responses, no longer the tree of the start.
    assert found.resp.shape == (4, 300)
    np.testing.assert_allclose(found.resp.sum(axis=0), 1.0, rtol=1e-12)
    assert np.abs(found.resp - begun).mean() > 0.02


@pytest.mark.parametrize("name", HANDED)
def test_the_fit_begins_where_the_coarse_one_ends(name):
    rows = rows_of(name)
    node = make_node(**HANDED[name])
    given = _coarse_start(plain_node(node), *rows, make_options())
    problem = build_problem(node, *rows)
    assert isinstance(problem, PathNode) == (name == "paths")
    problem.start(given.resp, given.gate_steps, given.gate_parameters)
    np.testing.assert_array_equal(problem.gate.parameters, given.gate_parameters)
    if name == "paths":
        return
    # The same log probabilities as the plain problem's gate, on the same columns.
    coarse = build_problem(plain_node(node), *rows)
    coarse.gate.parameters = given.gate_parameters
    np.testing.assert_allclose(
        problem.gate.log_proba(problem.groups[-1].matrix),
        coarse.gate.log_proba(coarse.groups[-1].matrix),
        rtol=1e-10,
        atol=1e-12,
    )


def test_paths_take_a_gate_over_as_well():
    """With all paths kept the experts are those of the dense problem."""
    rows = rows_of("tree")
    given = _coarse_start(plain_node(make_node()), *rows, make_options())
    found = []
    for path_tol in (0.0, 1e-300):
        problem = build_problem(make_node(path_tol=path_tol), *rows)
        problem.start(given.resp, given.gate_steps, given.gate_parameters)
        assert isinstance(problem, PathNode) == (path_tol > 0.0)
        found.append(problem.parameters)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8, atol=1e-10)


def test_coarse_passes_are_no_more_than_those_allowed(monkeypatch):
    rows = rows_of("tree")
    passes = []
    original = em_fit.continue_run

    def noted(problem, run, n_passes, *rest):
        passes.append(n_passes)
        return original(problem, run, n_passes, *rest)

    monkeypatch.setattr(em_fit, "continue_run", noted)
    for max_iter in (1, 3, 1000):
        _coarse_start(plain_node(make_node()), *rows, make_options(max_iter=max_iter))
    assert passes == [1, 3, COARSE_PASSES]


def test_the_best_pass_is_handed_over(monkeypatch):
    """Not the last one, where the run has gone on from it."""
    rows = rows_of("tree")
    expected = _coarse_start(plain_node(make_node()), *rows, make_options())
    original = em_fit.continue_run

    def wandering(problem, run, *rest):
        run = original(problem, run, *rest)
        problem.parameters = problem.parameters + 1.0
        return run

    monkeypatch.setattr(em_fit, "continue_run", wandering)
    found = _coarse_start(plain_node(make_node()), *rows, make_options())
    np.testing.assert_array_equal(found.gate_parameters, expected.gate_parameters)
    np.testing.assert_array_equal(found.resp, expected.resp)


def test_many_rows_are_looked_at_by_some():
    """The gate learns from 2,000 rows; all get their responsibilities."""
    n = 2 * COARSE_ROWS
    rows = rows_of("tree", n)
    node = make_node()
    options = make_options()
    given = _coarse_start(plain_node(node), *rows, options)
    assert given.resp.shape == (4, n)
    np.testing.assert_allclose(given.resp.sum(axis=0), 1.0, rtol=1e-12)
    again = _coarse_start(plain_node(node), *rows, make_options())
    np.testing.assert_array_equal(given.resp, again.resp)
    np.testing.assert_array_equal(given.gate_parameters, again.gate_parameters)
    other = _coarse_start(
        plain_node(node), *rows, make_options(rng=np.random.RandomState(1))
    )
    assert np.abs(other.gate_parameters - given.gate_parameters).max() > 1e-6
    # Two draws of half of the rows see much the same.
    assert np.abs(other.resp - given.resp).mean() < 0.2


def test_rows_drawn_weigh_as_much_as_all():
    """So the ridge of gate and experts has the say it has in the fit."""
    n = 2 * COARSE_ROWS
    X, y, weight, _ = rows_of("tree", n)
    seen = []
    original = em_fit.begin

    def noted(problem, *rest):
        seen.append(problem.total_weight)
        return original(problem, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em_fit, "begin", noted)
        node = plain_node(make_node())
        _coarse_start(node, X, y, weight, None, make_options())
    assert seen == [pytest.approx(weight.sum())]


# -- the fit that follows --------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2, 3, 5])
def test_few_passes_go_further(seed, monkeypatch):
    """The boundary is found while passes are cheap: tens of nats or more."""
    X, y = regimes(seed)
    coarse = TreeRegressor(splines(), **SHORT).fit(X, y)
    monkeypatch.setattr(em_fit, "_coarse_node", lambda *args: None)
    straight = TreeRegressor(splines(), **SHORT).fit(X, y)
    assert coarse.n_iter_ <= 10
    assert coarse.log_likelihood(X, y) > straight.log_likelihood(X, y) + 30.0
    assert coarse.score(X, y) > 0.9


@pytest.mark.parametrize("init", ["auto", "kmeans", "tree", "segments", "gaussian"])
@pytest.mark.parametrize("flat", [True, False])
def test_every_kind_of_start_can_be_coarse(init, flat, spied):
    X, y = regimes(n=200)
    kind = MixtureOfExpertsRegressor if flat else TreeRegressor
    model = kind(splines(), init=init, n_init=1, max_iter=5, random_state=0).fit(X, y)
    assert len(spied) == 1
    assert np.isfinite(model.objective_trace_).all()
    assert model.score(X, y) > 0.5


def test_random_starts_too(spied):
    X, y = regimes(n=200)
    fits = [
        TreeRegressor(splines(), init="random", n_init=1, max_iter=5, random_state=s)
        for s in (0, 0, 1)
    ]
    found = [fit.fit(X, y).predict(X) for fit in fits]
    assert len(spied) == 3
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[0]).max() > 1e-6


@pytest.mark.parametrize("init", ["auto", "kmeans", "tree", "segments"])
def test_columns_that_cannot_be_cut(init):
    y = regimes(n=60)[1]
    X = np.ones((60, 2))
    for model in (
        TreeRegressor(splines(), **{**SHORT, "init": init}),
        MixtureOfExpertsRegressor(splines(), 2, init=init, n_init=1),
    ):
        predicted = model.fit(X, y).predict(X)
        np.testing.assert_allclose(predicted, y.mean(), rtol=1e-6)


def test_one_expert_needs_no_gate():
    """A mixture of one is its expert, whatever start it is given."""
    X, y = regimes(n=120)
    for n_init in (1, None):
        model = MixtureOfExpertsRegressor(splines(), 1, n_init=n_init).fit(X, y)
        alone = expanded().fit(X, y)
        np.testing.assert_allclose(model.predict(X), alone.predict(X), rtol=1e-8)


@pytest.mark.parametrize("flat", [True, False])
def test_weights(flat):
    X, y = regimes(n=90)
    rng = np.random.default_rng(4)
    kind = MixtureOfExpertsRegressor if flat else TreeRegressor
    settings = {"init": "tree", "n_init": 1, "max_iter": 4, "tol": 0.0}

    def fit(X, y, weight):
        model = kind(splines(), **settings).fit(X, y, sample_weight=weight)
        return model.predict(regimes(9, 30)[0]), model.objective_trace_[-1]

    assert_weight_is_repetition(fit, X, y, rng.integers(1, 4, size=90), atol=1e-6)
    weight = rng.uniform(0.5, 2.0, size=90)
    weight[::7] = 0.0
    assert_zero_weight_is_removal(fit, X, y, weight, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["cem", "sem"])
def test_hard_and_drawn_labels(algorithm, spied):
    X, y = regimes()
    model = MixtureOfExpertsRegressor(
        splines(),
        2,
        algorithm=algorithm,
        init="kmeans",
        n_init=1,
        max_iter=30,
        random_state=0,
    ).fit(X, y)
    assert len(spied) == 1
    # What is handed over are probabilities all the same.
    assert ((spied[0].resp > 0.01) & (spied[0].resp < 0.99)).any()
    assert model.node_.assign is posterior
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("kind", [TreeClassifier, MixtureOfExpertsClassifier])
def test_classifiers(kind, spied):
    X, y = regimes()
    y = np.array(["low", "mid", "high"])[classes_of(y)]
    settings = {"init": "kmeans", "n_init": 1, "max_iter": 8, "random_state": 0}
    model = kind(splines(LogisticExpert(1.0)), **settings).fit(X, y)
    assert len(spied) == 1
    assert model.score(X, y) > 0.75
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def test_the_coarse_fit_says_nothing():
    """Its few passes are no fit of their own: no warning of theirs gets out."""
    X, y = regimes(2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = TreeRegressor(splines(), **{**SHORT, "max_iter": 2}).fit(X, y)
    assert len(model.objective_trace_) <= 2
    assert [warning.category.__name__ for warning in said] == ["ConvergenceWarning"]


def test_experts_of_a_coarse_start_are_of_the_kind_asked_for():
    X, y = regimes(n=150)
    model = TreeRegressor(splines(), **SHORT).fit(X, y)
    for expert in model.experts_:
        assert isinstance(expert, ExpandedExpert)
        assert expert.expert_.kernel_.coef.shape[-1] == 1 + 4 * 5
