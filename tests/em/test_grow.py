"""Growing: trial splits and their gains, criteria, interruption, pruning."""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.metrics import adjusted_rand_score

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe._tree import Tree
from skmoe.em._build import build_problem, write_back
from skmoe.em._grow import LEAST_SHARE, PATIENCE, _trial
from skmoe.em._node import Node, posterior
from skmoe.em._ridge import content_folds
from skmoe.em._start_data import start_data
from skmoe.em._tree_split import TreeSplitter
from skmoe.exceptions import CollapsedExpertWarning, ExpertError
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree

RULES = ["posterior", "fritsch"]
both_rules = pytest.mark.parametrize("rule", RULES)


def grower(rule="posterior", experts=None, **params):
    params = {"random_state": 0, "max_leaves": 8} | params
    return HierarchicalMixtureOfExpertsRegressor(experts, grow=rule, **params)


def class_grower(rule="posterior", experts=None, **params):
    experts = LogisticExpert(0.1) if experts is None else experts
    params = {"random_state": 0, "max_leaves": 8} | params
    return HierarchicalMixtureOfExpertsClassifier(experts, grow=rule, **params)


@pytest.fixture(scope="module")
def quadrants():
    """Four regimes in the quadrants of two columns; a third column is idle."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(500, 3))
    regime = 2 * (X[:, 0] > 0.1) + (X[:, 1] > -0.1)
    level, slope = np.array([0.0, 6.0, -5.0, 2.0]), np.array([3.0, -3.0, 2.0, -1.0])
    y = level[regime] + slope[regime] * X[:, 2] + 0.3 * rng.normal(size=500)
    return X, y, regime


# -- what growth finds -------------------------------------------------------------


# A leaf more than needed may die, which is announced.
some_die = pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")


@some_die
@both_rules
@pytest.mark.parametrize("until", ["bic", "holdout"])
def test_the_planted_tree_is_found(quadrants, rule, until):
    X, y, regime = quadrants
    model = grower(rule, grow_until=until).fit(X, y)
    assert model.tree_ == Tree.complete([2, 2])
    assert adjusted_rand_score(regime, model.apply(X)) > 0.95
    assert model.score(X, y) > 0.97
    # One column parts the rows at the root, the other one on both sides.
    used = [np.abs(gate.coef_[1]).argmax() for gate in model.gate_.gates]
    assert used in ([0, 1, 1], [1, 0, 0])


def test_the_planted_classes_are_found(quadrants):
    """Corners on a diagonal are one class: one cut, then a line on either side."""
    X, _, regime = quadrants
    y = np.array(["no", "yes"])[np.isin(regime, [0, 3]).astype(int)]
    model = class_grower().fit(X, y)
    assert model.tree_ == Tree.complete([2])
    assert model.score(X, y) > 0.97
    single = class_grower(max_leaves=1).fit(X, y)
    assert single.score(X, y) < 0.7
    assert_array_equal(model.classes_, ["no", "yes"])


@both_rules
def test_growth_ends_where_there_is_nothing_to_split(rule, rng):
    X = rng.normal(size=(200, 2))
    y = X @ [1.0, -2.0] + 0.5 * rng.normal(size=200)
    model = grower(rule).fit(X, y)
    assert model.tree_ == Tree([[]])
    assert [step.n_leaves for step in model.growth_] == [1, 2, 3]  # two in vain
    assert_array_equal(model.gate_proba(X), np.ones((200, 1)))
    assert_array_equal(model.apply(X), 0)
    assert model.decision_path(X).shape == (200, 1)
    alone = LinearExpert().fit(X, y)
    assert_allclose(model.predict(X), alone.predict(X), atol=1e-8)
    assert model.n_parameters_ == alone.n_parameters


@some_die
@pytest.mark.parametrize(("n", "max_leaves"), [(1, 1), (2, 8), (3, 8), (6, 8), (12, 8)])
def test_growth_on_few_rows(n, max_leaves, rng):
    X = rng.normal(size=(n, 2))
    y = rng.normal(size=n)
    model = grower(max_leaves=max_leaves).fit(X, y)
    assert 1 <= model.tree_.n_leaves <= n
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("make", [grower, class_grower])
def test_rows_that_are_all_alike(make, rng):
    X = np.ones((40, 2))
    y = rng.normal(size=40) if make is grower else np.arange(40) % 2
    model = make().fit(X, y)
    assert model.tree_.n_leaves == 1  # no column can be cut
    assert np.ptp(model.predict(X)) == 0


@some_die
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_children", [2, 3])
@both_rules
def test_growth_to_max_leaves(quadrants, rule, n_children):
    X, y, _ = quadrants
    model = grower(
        rule, grow_until="max_leaves", max_leaves=6, branching=n_children, max_iter=30
    )
    model.fit(X, y)
    sizes = [step.n_leaves for step in model.growth_]
    # Beyond the four regimes that there are, a split leaves a child without rows.
    most = list(range(1, 7, n_children - 1))
    assert sizes == most[: len(sizes)]
    assert sizes[-1] >= 4
    assert all(len(c) <= n_children for c in model.tree_.children)  # some died
    assert model.growth_[0].split is None
    # Lower is better, and with "max_leaves" it is the likelihood itself.
    for step in model.growth_:
        assert step.criterion == pytest.approx(-step.log_likelihood)
    best = min(model.growth_, key=lambda step: step.criterion)
    assert model.tree_.n_leaves <= best.n_leaves


@pytest.mark.parametrize("max_leaves", [1, 2, 3])
def test_no_more_than_max_leaves(quadrants, max_leaves):
    X, y, _ = quadrants
    model = grower(max_leaves=max_leaves).fit(X, y)
    assert model.tree_.n_leaves == max_leaves == len(model.growth_)


def test_bic_is_the_models_own(quadrants):
    X, y, _ = quadrants
    weight = np.random.default_rng(4).uniform(0.5, 2.0, size=500)
    model = grower().fit(X, y, sample_weight=weight)
    best = min(model.growth_, key=lambda step: step.criterion)
    assert best.n_leaves == model.tree_.n_leaves == 4
    # The chosen tree was then run to convergence.
    ours = model.bic(X, y, sample_weight=weight)
    assert ours <= best.criterion + 1.0
    fit = best.criterion + 2 * best.log_likelihood
    assert fit == pytest.approx(model.n_parameters_ * np.log(weight.sum()))
    assert model.log_likelihood(X, y, weight) >= best.log_likelihood - 1.0
    # Growth goes on in vain for as long as its patience lasts, or as leaves live.
    after = [step for step in model.growth_ if step.n_leaves > 4]
    assert len(after) <= PATIENCE
    assert all(step.criterion > best.criterion for step in after)


def test_holdout_is_a_score_of_rows_kept_apart(quadrants):
    X, y, _ = quadrants
    model = grower(grow_until="holdout").fit(X, y)
    out = content_folds(X, y, 5) == 0
    assert 60 < out.sum() < 140
    best = min(model.growth_, key=lambda step: step.criterion)
    assert best.n_leaves == model.tree_.n_leaves
    # Minus nats per row on the fold; the final fit has seen it, and is near.
    assert -best.criterion == pytest.approx(model.log_prob(X, y)[out].mean(), abs=0.1)
    one = model.growth_[0]
    alone = LinearExpert().fit(X[~out], y[~out])
    assert -one.criterion == pytest.approx(alone.log_prob(X[out], y[out]).mean())
    assert one.log_likelihood == pytest.approx(alone.log_prob(X[~out], y[~out]).sum())


@some_die
def test_likelihood_rises_with_every_leaf(quadrants):
    X, y, _ = quadrants
    expert = LinearExpert(0.0, variance_prior=None)
    model = grower("posterior", expert, grow_until="max_leaves", max_leaves=5)
    model.fit(X, y)
    log_lik = [step.log_likelihood for step in model.growth_]
    assert np.diff(log_lik[:4]).min() > 50.0
    for step, before in itertools.pairwise(model.growth_[::-1]):
        assert 0 <= step.split < before.n_leaves
    assert model.objective_trace_[-1] >= model.objective_trace_[0]


# -- whatever gate or expert -------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e-3])
@pytest.mark.parametrize("gate", [GaussianGate(), SoftmaxGate(0.01)], ids=repr)
def test_growth_does_not_hang_on_the_unit_of_x(quadrants, gate, scale):
    """A generative gate's density of x is no part of what is compared."""
    X, y, regime = quadrants
    model = grower(gate=gate, max_leaves=5).fit(X * scale, y)
    assert model.tree_.n_leaves == 4
    assert adjusted_rand_score(regime, model.apply(X * scale)) > 0.9


@both_rules
@pytest.mark.parametrize("scale", [1e6, 1e-6])
def test_growth_does_not_hang_on_the_unit_of_y(quadrants, rule, scale):
    X, y, _ = quadrants
    one, other = grower(rule).fit(X, y), grower(rule).fit(X, scale * y)
    assert one.tree_ == other.tree_
    assert [s.split for s in one.growth_] == [s.split for s in other.growth_]
    assert_allclose(other.predict(X) / scale, one.predict(X), atol=1e-4)


def test_growth_with_adapted_experts(quadrants):
    X, y, regime = quadrants
    model = grower("posterior", Ridge(0.1), max_leaves=5).fit(X, y)
    assert model.tree_.n_leaves == 4
    assert adjusted_rand_score(regime, model.apply(X)) > 0.95
    assert [type(e.estimator_) for e in model.experts_] == [Ridge] * 4


def test_growth_of_several_outputs(quadrants):
    X, y, _ = quadrants
    Y = np.column_stack([y, X[:, 2] - y])
    model = grower(max_leaves=5).fit(X, Y)
    assert model.tree_.n_leaves == 4
    assert model.predict(X).shape == (500, 2)


def test_growth_with_path_tolerance(quadrants):
    X, y, _ = quadrants
    dense, paths = grower().fit(X, y), grower(path_tol=1e-9).fit(X, y)
    assert dense.tree_ == paths.tree_
    assert paths.log_likelihood(X, y) == pytest.approx(
        dense.log_likelihood(X, y), rel=1e-4
    )


@some_die
def test_gate_columns_bound_where_growth_can_cut(quadrants):
    X, y, _ = quadrants
    model = grower(gate_features=[1], max_leaves=4).fit(X, y)
    far = X.copy()
    far[:, [0, 2]] += 1e3
    assert_allclose(model.gate_proba(far), model.gate_proba(X))
    assert model.tree_.n_leaves >= 2


def test_open_ridges_are_chosen_once_and_kept(quadrants):
    """LogisticExpert() leaves its ridge open: all leaves get the same one."""
    X, _, regime = quadrants
    model = HierarchicalMixtureOfExpertsClassifier(
        grow="posterior", max_leaves=4, random_state=0
    ).fit(X, regime % 3)
    assert len({expert.alpha for expert in model.experts_}) == 1
    assert all(np.isreal(expert.alpha) for expert in model.experts_)


def test_threads_change_nothing(quadrants):
    X, y, _ = quadrants
    alone, both = grower().fit(X, y), grower(n_jobs=2).fit(X, y)
    assert alone.tree_ == both.tree_
    assert_array_equal(alone.predict(X), both.predict(X))


@both_rules
def test_weight_is_repetition(rule, quadrants):
    X, y, _ = (part[:200] for part in quadrants)
    count = 1 + np.arange(200) % 3
    rows = np.repeat(np.arange(200), count)
    order = np.random.default_rng(0).permutation(rows.size)
    weighted = grower(rule).fit(X, y, sample_weight=count)
    repeated = grower(rule).fit(X[rows][order], y[rows][order])
    assert weighted.tree_ == repeated.tree_
    assert_allclose(weighted.log_prob(X, y), repeated.log_prob(X, y), atol=1e-4)
    for one, other in zip(weighted.growth_, repeated.growth_, strict=True):
        assert one.split == other.split
        assert one.criterion == pytest.approx(other.criterion, rel=1e-5)


# -- the gain of a trial -----------------------------------------------------------


def grown_node(data, tree, make, gate):
    """Return a node after some passes, with its posteriors and leaf densities."""
    X, y = data[:2]
    gates = [gate() for _ in tree.inner]
    experts = [(f"expert{k}", make()) for k in range(tree.n_leaves)]
    node = Node(GateTree(tree, gates), experts, [None] * tree.n_leaves, clones=True)
    problem = build_problem(node, *data)
    order = np.argsort(np.argsort(X[:, 0])) * tree.n_leaves // len(X)
    resp = np.full((tree.n_leaves, len(X)), 0.1 / max(tree.n_leaves - 1, 1))
    resp[order, np.arange(len(X))] = 0.9 if tree.n_leaves > 1 else 1.0
    problem.start(resp, 4)
    for _ in range(5):
        problem.e_step()
        problem.m_step()
    problem.e_step()
    write_back(problem, node)
    density = np.stack([expert.log_prob(X, y) for _, expert in node.experts])
    log_gate = node.gate.log_proba(X).T
    return node, density, log_gate


GAIN_CASES = {
    "linear": (LinearExpert, SoftmaxGate),
    "plain": (lambda: LinearExpert(0.0, variance_prior=None), SoftmaxGate),
    "logistic": (lambda: LogisticExpert(0.5), SoftmaxGate),
    "gaussian": (LinearExpert, GaussianGate),
    "constant": (LinearExpert, ConstantGate),
}


@pytest.mark.parametrize("case", GAIN_CASES)
@pytest.mark.parametrize("n_children", [2, 3])
@pytest.mark.parametrize(
    "tree", [Tree([[]]), Tree.complete([2]), Tree.from_nested([0, [1, 2]])], ids=repr
)
def test_gain_is_that_of_the_tree_with_the_leaf_replaced(
    quadrants, case, n_children, tree
):
    """The exact log-likelihood, everything else as it is."""
    make, gate = GAIN_CASES[case]
    X, y, regime = quadrants
    weight = np.random.default_rng(2).uniform(0.2, 2.0, size=500)
    classes = case == "logistic"
    data = (X, regime % 3, weight, 3) if classes else (X, y, weight, None)
    node, density, log_gate = grown_node(data, tree, make, gate)
    joint = log_gate + density
    resp, before = posterior(joint)
    splitter = TreeSplitter(start_data(node, *data))
    for leaf in range(tree.n_leaves):
        pair = Node(
            GateTree(Tree.complete([n_children]), [gate()]),
            [(f"expert{k}", make()) for k in range(n_children)],
            [None] * n_children,
            clones=True,
        )
        found = _trial(pair, leaf, resp[leaf], density[leaf], data, splitter)
        assert found is not None
        gain, number, shares = found
        assert number == leaf
        each = np.stack([expert.log_prob(X, data[1]) for _, expert in pair.experts])
        split = pair.gate.log_proba(X).T + each
        replaced = joint.copy()
        replaced[leaf] = log_gate[leaf] + logsumexp(split, axis=0)
        change = weight * (logsumexp(replaced, axis=0) - before)
        own = resp[leaf] > LEAST_SHARE
        assert gain == pytest.approx(change[own].sum(), rel=1e-9, abs=1e-9)
        # What the leaf hardly answers for is left out of the sum.
        assert gain == pytest.approx(change.sum(), rel=0.05, abs=2.0)
        assert shares.shape == (n_children, 500)
        assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-12)
        expected = np.exp(split - logsumexp(split, axis=0))
        assert_allclose(shares[:, own], expected[:, own], atol=1e-9)


def test_the_split_with_the_largest_gain_is_kept(quadrants, monkeypatch):
    X, y, _ = quadrants
    gains = []

    def spy(*args):
        found = _trial(*args)
        gains.append((args[1], -np.inf if found is None else found[0]))
        return found

    monkeypatch.setattr("skmoe.em._grow._trial", spy)
    model = grower(max_leaves=4).fit(X, y)
    for step in model.growth_[1:]:
        leaves = step.n_leaves - 1
        tried, gains = gains[:leaves], gains[leaves:]
        assert [leaf for leaf, _ in tried] == list(range(leaves))
        assert step.split == max(tried, key=lambda pair: pair[1])[0]
    assert gains == []


def test_fritsch_tries_one_leaf_alone(quadrants, monkeypatch):
    X, y, _ = quadrants
    tried = []

    def spy(*args):
        tried.append(args[1])
        return _trial(*args)

    monkeypatch.setattr("skmoe.em._grow._trial", spy)
    model = grower("fritsch", max_leaves=4).fit(X, y)
    assert tried == [step.split for step in model.growth_[1:]]


def test_leaves_of_few_rows_are_not_tried(quadrants):
    X, y, _ = quadrants
    node, density, _ = grown_node(
        (X, y, np.ones(500), None), Tree.complete([2]), LinearExpert, SoftmaxGate
    )
    splitter = TreeSplitter(start_data(node, X, y, np.ones(500), None))
    resp = np.zeros(500)
    resp[:3] = 1.0
    rows = (X, y, np.ones(500), None)
    assert _trial(node, 0, resp, density[0], rows, splitter) is None
    resp[:40] = 1.0
    assert _trial(node, 0, resp, density[0], rows, splitter) is not None


# -- going on ----------------------------------------------------------------------


def test_warm_start_grows_on(quadrants):
    X, y, _ = quadrants
    model = grower(max_leaves=2, warm_start=True).fit(X, y)
    assert model.tree_.n_leaves == 2
    first = model.growth_
    model.set_params(max_leaves=8).fit(X, y)
    assert [step.n_leaves for step in model.growth_][:3] == [2, 3, 4]
    assert model.tree_.n_leaves == 4
    assert model.growth_[0].log_likelihood >= first[-1].log_likelihood - 1.0
    # Once more: it stays.
    model.fit(X, y)
    assert model.growth_[0].n_leaves == 4 == model.tree_.n_leaves
    fresh = grower(max_leaves=8).fit(X, y)
    assert model.log_likelihood(X, y) == pytest.approx(
        fresh.log_likelihood(X, y), abs=2.0
    )


def test_warm_start_with_fewer_leaves_is_refused(quadrants):
    X, y, _ = quadrants
    model = grower(warm_start=True).fit(X, y)
    model.set_params(max_leaves=2)
    with pytest.raises(ValueError, match=r"last tree has 4 leaves, more than max_lea"):
        model.fit(X, y)
    assert model.set_params(warm_start=False).fit(X, y).tree_.n_leaves == 2


def test_warm_start_on_other_rows(quadrants):
    X, y, regime = quadrants
    model = grower(warm_start=True).fit(X[:300], y[:300])
    model.fit(X[200:], y[200:])
    assert model.growth_[0].n_leaves == 4
    assert adjusted_rand_score(regime, model.apply(X)) > 0.95


# -- Ctrl-C ------------------------------------------------------------------------


class Fuse(LinearExpert):
    """Interrupt at a given M-step of a fit, whichever leaf takes it."""

    left = None
    error = KeyboardInterrupt

    def m_step(self, X, y, weight):
        if Fuse.left is not None:
            Fuse.left -= 1
            if Fuse.left < 0:
                raise Fuse.error("enough")
        super().m_step(X, y, weight)


@pytest.fixture
def fuse():
    yield Fuse
    Fuse.left, Fuse.error = None, KeyboardInterrupt


@pytest.fixture(scope="module")
def few(quadrants):
    X, y, _ = quadrants
    return X[:150], y[:150]


@pytest.fixture(scope="module")
def whole(few):
    """A growth that nobody interrupts, and how many M-steps it takes."""
    Fuse.left = 10**9
    model = grower("posterior", Fuse(), max_leaves=5).fit(*few)
    total, Fuse.left = 10**9 - Fuse.left, None
    return model, total


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_interrupted_growth_keeps_its_best_tree(few, whole, fuse, share):
    X, y = few
    fuse.left = int(share * whole[1])
    model = grower("posterior", fuse(), max_leaves=5, warm_start=True)
    with pytest.raises(KeyboardInterrupt, match="enough"):
        model.fit(X, y)
    fuse.left = None
    # The best of the trees so far, ready for use, and it says so.
    reached = [step.n_leaves for step in model.growth_]
    assert reached == list(range(1, len(reached) + 1))
    assert model.tree_.n_leaves == len(model.experts_) == reached[-1]
    best = min(model.growth_, key=lambda step: step.criterion)
    assert best.n_leaves == model.tree_.n_leaves
    assert model.log_likelihood(X, y) == pytest.approx(best.log_likelihood, rel=1e-6)
    assert not model.converged_
    assert model.predict(X).shape == y.shape
    assert model.leaf_weight_.sum() == pytest.approx(150.0)
    assert_allclose(model.leaf_proba(X).sum(axis=1), 1.0)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert not [name for name in vars(model) if name == "_best_so_far"]
    assert X.tobytes()[:240] not in pickle.dumps(model)  # no training rows in it
    if share > 0.9:
        assert model.tree_ == whole[0].tree_
    # And the next fit goes on from there.
    model.fit(X, y)
    assert model.growth_[0].n_leaves == reached[-1]
    assert model.tree_ == whole[0].tree_
    assert model.converged_


def test_interruption_before_the_first_tree_leaves_nothing(few, fuse):
    X, y = few
    fuse.left = 0
    model = grower("posterior", fuse(), warm_start=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "node_")
    assert not hasattr(model, "n_features_in_")
    assert set(vars(model)) == set(vars(grower()))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
@pytest.mark.parametrize("fitted", [False, True])
def test_interruption_without_warm_start_changes_nothing(
    few, whole, fuse, share, fitted
):
    X, y = few
    model = grower("posterior", fuse(), max_leaves=5)
    if fitted:
        model.set_params(grow_until="max_leaves", max_leaves=2).fit(X[:, :2], y)
        model.set_params(grow_until="bic", max_leaves=5)
    before = dict(vars(model))
    predicted = model.predict(X[:, :2]) if fitted else None
    fuse.left = int(share * whole[1])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    fuse.left = None
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    if fitted:
        assert_array_equal(model.predict(X[:, :2]), predicted)
        assert model.n_features_in_ == 2


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_an_error_is_no_interruption(few, whole, fuse, share):
    """What fails may have spoilt the tree: the estimator stays as it was."""
    X, y = few
    fuse.left, fuse.error = int(share * whole[1]), FloatingPointError
    model = grower("posterior", fuse(), max_leaves=5, warm_start=True)
    with pytest.raises(ExpertError, match="FloatingPointError: enough"):
        model.fit(X, y)
    assert not hasattr(model, "node_")


def test_interrupted_refit_with_warm_start(few, fuse):
    """From an earlier fit: what is kept is never less than a fitted tree."""
    X, y = few
    model = grower("posterior", fuse(), max_leaves=2, warm_start=True).fit(X, y)
    first = model.tree_
    for left in (0, 30):
        model.set_params(max_leaves=5)
        fuse.left = left
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
        fuse.left = None
        assert model.tree_.n_leaves >= first.n_leaves
        assert model.score(X, y) > 0.5


class Watch:
    """Interrupt from a callback, in the pass of a given number."""

    def __init__(self, stop_at):
        self.stop_at, self.passes, self.torn_down = stop_at, 0, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, **what):
        if context.task_name == "EM pass":
            self.passes += 1
            if self.passes == self.stop_at:
                raise KeyboardInterrupt
        return False


@pytest.mark.parametrize("warm_start", [False, True])
def test_interruption_from_a_callback_of_the_last_run(quadrants, warm_start):
    X, y, _ = quadrants
    watch = Watch(2)
    model = grower(warm_start=warm_start).set_callbacks(watch)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert watch.torn_down == 1
    assert hasattr(model, "node_") == warm_start
    assert not [name for name in vars(model) if name.startswith("_callback")]
    if warm_start:
        assert model.tree_ == Tree.complete([2, 2])
        assert model.score(X, y) > 0.9


def test_a_fixed_tree_is_not_rescued(few, fuse):
    X, y = few
    fuse.left = 40
    model = HierarchicalMixtureOfExpertsRegressor(
        fuse(), depth=2, init="tree", warm_start=True
    )
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "node_")


# -- leaves that die ---------------------------------------------------------------


def fixed(experts=None, **params):
    return HierarchicalMixtureOfExpertsRegressor(
        experts, random_state=0, **({"depth": 2} | params)
    )


# Hard labels: a leaf without rows is not called back by a few odd ones.
STAY_DEAD = {"algorithm": "cem", "gate": SoftmaxGate(1e-3)}


def start_without(dead, n_leaves, X):
    """Responsibilities in which some leaves have nothing."""
    alive = [k for k in range(n_leaves) if k not in dead]
    order = np.argsort(np.argsort(X[:, 0])) * len(alive) // len(X)
    resp = np.zeros((len(X), n_leaves))
    resp[np.arange(len(X)), np.array(alive)[order]] = 1.0
    return resp


@pytest.mark.parametrize(
    ("dead", "kept"),
    [
        ([3], [[0, 1], 2]),
        ([0, 1], [0, 1]),
        ([0, 2], [0, 1]),
        ([1, 2, 3], 0),
    ],
)
@pytest.mark.parametrize("engine", ["fused", "general"])
def test_leaves_that_receive_no_rows_are_pruned(dead, kept, engine, rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=200)
    expert = LinearExpert(0.0) if engine == "fused" else Ridge(1e-6)
    model = fixed(expert, init=start_without(dead, 4, X), **STAY_DEAD)
    with pytest.warns(CollapsedExpertWarning, match=rf"{len(dead)} of 4 leaves lost"):
        model.fit(X, y)
    assert model.tree_ == Tree.from_nested(kept)
    n_leaves = 4 - len(dead)
    assert len(model.experts_) == model.tree_.n_leaves == n_leaves
    assert model.leaf_proba(X).shape == (200, n_leaves)
    assert model.leaf_weight_.shape == (n_leaves,)
    assert len(model.gate_.gates) == len(model.tree_.inner)
    assert model.predict(X).shape == (200,)
    assert set(model.apply(X)) <= set(range(n_leaves))
    if n_leaves > 1:
        assert model.score(X, y) > 0.9


def test_named_leaves_are_kept_with_a_warning(rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    y = 2.0 * X[:, 0] + 0.1 * rng.normal(size=200)
    tree = [
        [("a", LinearExpert(0.0)), ("b", LinearExpert(0.0))],
        [("c", LinearExpert(0.0)), ("d", LinearExpert(0.0))],
    ]
    model = fixed(tree, init=start_without([1], 4, X), **STAY_DEAD)
    match = r"experts \['b'\] lost their rows .* kept, since they have names"
    with pytest.warns(CollapsedExpertWarning, match=match):
        model.fit(X, y)
    assert model.expert_names_ == ["a", "b", "c", "d"]
    assert model.tree_ == Tree.complete([2, 2])
    assert model.leaf_weight_[1] < 1.0
    assert_allclose(model.predict(X), 2.0 * X[:, 0], atol=0.3)


@some_die
def test_more_leaves_than_structure(rng):
    """Eight leaves for two lines: some may die, and the fit stays sound."""
    X = rng.uniform(-2, 2, size=(120, 1))
    y = np.abs(X[:, 0]) + 0.05 * rng.normal(size=120)
    model = fixed(depth=3, init="tree").fit(X, y)
    assert 2 <= model.tree_.n_leaves <= 8
    assert model.leaf_weight_.min() >= 1.0
    assert model.leaf_weight_.sum() == pytest.approx(120.0)
    assert model.score(X, y) > 0.98


@pytest.mark.parametrize("grow", [None, "posterior"])
def test_unpruned_trees_keep_their_leaves(grow, rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=200)
    start = "auto" if grow else start_without([1, 3], 4, X)
    model = fixed(
        LinearExpert(0.0), init=start, prune=False, grow=grow, **STAY_DEAD
    ).fit(X, y)
    if grow is None:
        assert model.tree_ == Tree.complete([2, 2])
        assert_allclose(model.leaf_weight_[[1, 3]], 0.0, atol=1e-6)
    else:
        assert model.tree_.n_leaves in [step.n_leaves for step in model.growth_]
    assert model.score(X, y) > 0.9


def test_pruned_tree_goes_on_warm(rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=200)
    start = start_without([3], 4, X)
    model = fixed(LinearExpert(0.0), init=start, **STAY_DEAD)
    with pytest.warns(CollapsedExpertWarning):
        model.fit(X, y)
    model.set_params(warm_start=True).fit(X, y)
    assert model.tree_ == Tree.from_nested([[0, 1], 2])
    assert model.search_.names == ["warm"]


@pytest.mark.parametrize("branching", [2, 3])
def test_depth_one_drops_what_the_flat_mixture_drops(branching, rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    y = 2.0 * X[:, 0] + 0.1 * rng.normal(size=200)
    start = start_without([branching - 1], branching, X)
    model = fixed(
        LinearExpert(0.0), depth=1, branching=branching, init=start, **STAY_DEAD
    )
    with pytest.warns(CollapsedExpertWarning, match="Ask for fewer"):
        model.fit(X, y)
    assert model.tree_.n_leaves == len(model.experts_) < branching
    assert model.leaf_proba(X).shape == (200, model.tree_.n_leaves)
    assert_allclose(model.predict(X), 2.0 * X[:, 0], atol=0.3)
