"""The softmax gates of a tree as one batch: paths, gradient, Newton's step, parts."""

import copy
import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from skmoe._blocks import half_products, unpack_grams
from skmoe._multinomial import MAX_LOGIT_STEP, n_pairs, newton_direction
from skmoe._tree import MAX_MATRIX_LEAVES, LevelPlan, Tree
from skmoe.gates._softmax import SoftmaxKernel
from skmoe.gates._tree_kernel import TreeKernel
from tests._asserts import assert_gradient, assert_symmetric_psd

TREES = {
    "stump": Tree.complete([2]),
    "wide": Tree.complete([4]),
    "binary": Tree.complete([2, 2, 2]),
    "mixed": Tree.complete([2, 3, 2]),
    "ragged": Tree.from_nested([[0, [1, 2, 3]], [[[4, 5], 6], 7]]),
    "chain": Tree.from_nested([0, [1, [2, [3, 4]]]]),
    # Beyond MAX_MATRIX_LEAVES the plan is walked by level.
    "large": Tree.complete([2] * 6),
    "large_mixed": Tree.complete([2, 3, 2, 3]),
    "large_ragged": Tree.complete([3, 3, 4]).split(7, 3).split(20, 2).without([4, 9]),
}
ALPHA, P = 0.7, 4
all_trees = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def test_both_ways_of_walking_are_among_the_trees():
    sizes = [tree.n_leaves for tree in TREES.values()]
    assert min(sizes) <= MAX_MATRIX_LEAVES < max(sizes)
    assert any(LevelPlan(tree).below is None for tree in TREES.values())


def make_kernel(tree, seed=0, size=1.0):
    """Return a kernel at random coefficients, and a design with an intercept."""
    rng = np.random.default_rng(seed)
    penalised = np.ones(P)
    penalised[0] = 0.0
    kernel = TreeKernel(tree, penalised, ALPHA)
    kernel.coef = size * rng.normal(size=kernel.coef.shape)
    design = rng.normal(size=(P, 60))
    design[0] = 1.0
    return kernel, design


def weights_for(tree, n_rows=60, seed=1):
    """Return responsibilities times weights, (n_leaves, n_rows), and weights."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.2, 3.0, size=n_rows)
    return rng.dirichlet(np.ones(tree.n_leaves), size=n_rows).T * weight, weight


def sums(kernel, design, weighted, weight):
    """Sum one block as the engine does; return the sums."""
    log_proba = kernel.log_proba(design)
    gram_rows = np.empty((kernel.n_gram_rows, design.shape[1]))
    score_rows = np.empty((kernel.n_score_rows, design.shape[1]))
    kernel.fill(gram_rows, score_rows, weighted, weight)
    return log_proba, half_products(design) @ gram_rows.T, design @ score_rows.T


def pass_over(kernel, design, weighted, weight):
    """Let the kernel take the sums; return the weighted cross-entropy."""
    log_proba, half_grams, score = sums(kernel, design, weighted, weight)
    kernel.take(half_grams, score, weight.sum())
    return float((weighted * log_proba).sum())


def by_paths(tree, coefs, design):
    """Return log probabilities of the leaves from each gate's coefficients."""
    out = []
    for leaf in tree.leaves:
        total = np.zeros(design.shape[1])
        for node, child in itertools.pairwise(tree.path(leaf)):
            log_gate = log_softmax(coefs[tree.inner.index(node)] @ design, axis=0)
            total += log_gate[tree.children[node].index(child)]
        out.append(total)
    return np.array(out)


# -- probabilities -----------------------------------------------------------------


@all_trees
def test_leaves_have_products_along_their_paths(tree):
    kernel, design = make_kernel(tree)
    log_proba = kernel.log_proba(design)
    assert log_proba.shape == (tree.n_leaves, 60)
    np.testing.assert_allclose(
        log_proba, by_paths(tree, kernel.split(), design), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=0), 1.0, rtol=1e-12)


@all_trees
def test_far_from_the_data(tree):
    kernel, design = make_kernel(tree, size=1e4)
    log_proba = kernel.log_proba(1e3 * design)
    assert np.isfinite(log_proba).all()
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=0), 1.0, rtol=1e-12)
    assert log_proba.min() < -1e6


def test_split_gives_every_gate_its_own():
    tree = TREES["mixed"]
    kernel, _ = make_kernel(tree)
    parts = kernel.split()
    assert [part.shape for part in parts] == [
        (len(tree.children[node]), P) for node in tree.inner
    ]
    total = sum(float((part[:, 1:] ** 2).sum()) for part in parts)
    assert kernel.penalty == pytest.approx(-0.5 * ALPHA * total, rel=1e-12)
    before = kernel.coef.copy()
    for part in parts:
        part[:] = 0.0
    np.testing.assert_array_equal(kernel.coef, before)


@all_trees
def test_new_gates_share_equally(tree):
    penalised = np.array([0.0, 1.0])
    kernel = TreeKernel(tree, penalised, 1.0)
    design = np.stack([np.ones(3), np.arange(3.0)])
    share = [
        np.prod([1.0 / len(tree.children[n]) for n in tree.path(leaf)[:-1]])
        for leaf in tree.leaves
    ]
    np.testing.assert_allclose(
        np.exp(kernel.log_proba(design)), np.tile(share, (3, 1)).T, rtol=1e-12
    )
    assert kernel.penalty == 0.0
    assert not kernel.exact_m_step
    assert kernel.n_experts == tree.n_leaves


# -- one pass ----------------------------------------------------------------------


@all_trees
def test_gradient_by_finite_differences(tree):
    kernel, design = make_kernel(tree, size=0.5)
    weighted, weight = weights_for(tree)
    point = kernel.parameters.copy()

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, design, weighted, weight) + kernel.penalty

    value(point)
    gradient = kernel.gradient.ravel().copy()
    assert np.abs(gradient).max() > 1.0
    assert_gradient(value, gradient, point, np.random.default_rng(2))


def each_gate(tree, kernel, design, weighted, weight):
    """Yield node, coefficients, gradient and Newton's step of every gate, by hand."""
    for node, coef in zip(tree.inner, kernel.split(), strict=True):
        h = np.stack(
            [weighted[tree.leaves_under(c)].sum(axis=0) for c in tree.children[node]]
        )
        total = h.sum(axis=0)
        g = np.exp(log_softmax(coef @ design, axis=0))
        ridge = kernel.ridge
        gradient = (h - total * g) @ design.T - ridge * coef
        b = len(coef)
        grams = np.array(
            [
                (design * (total * g[c] * g[d])) @ design.T
                for c in range(b)
                for d in range(c + 1, b)
            ]
        )
        yield coef, gradient, newton_direction(grams, gradient, ridge)


@all_trees
def test_the_step_is_newtons_for_every_gate_alone(tree):
    """Its conditional posterior as target, its node's posterior as weight."""
    kernel, design = make_kernel(tree, size=0.5)
    weighted, weight = weights_for(tree)
    expected = list(each_gate(tree, kernel, design, weighted, weight))
    before = kernel.coef.copy()
    pass_over(kernel, design, weighted, weight)
    kernel.propose()
    kernel.move(1.0)
    for new, (coef, _, step) in zip(kernel.split(), expected, strict=True):
        size = np.sqrt((step**2).sum(axis=1)).max()
        shrink = min(1.0, MAX_LOGIT_STEP / size)
        np.testing.assert_allclose(new, coef + shrink * step, rtol=1e-8, atol=1e-9)
    kernel.move(0.25)
    quarter = kernel.coef.copy()
    kernel.move(1.0)
    np.testing.assert_allclose(quarter - before, 0.25 * (kernel.coef - before))
    kernel.move(0.0)
    np.testing.assert_array_equal(kernel.coef, before)


@all_trees
def test_gradient_and_preconditioner_by_gate(tree):
    kernel, design = make_kernel(tree)
    weighted, weight = weights_for(tree)
    pass_over(kernel, design, weighted, weight)
    each = list(each_gate(tree, kernel, design, weighted, weight))
    # Read them through `split`, which knows where a gate's rows lie.
    for attribute, position in (
        (kernel.gradient, 1),
        (kernel.precondition(kernel.gradient), 2),
    ):
        reader = copy.copy(kernel)
        reader.coef = attribute
        for ours, theirs in zip(reader.split(), each, strict=True):
            np.testing.assert_allclose(ours, theirs[position], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["wide", "mixed", "ragged"])
def test_preconditioner_is_symmetric(name):
    kernel, design = make_kernel(TREES[name])
    pass_over(kernel, design, *weights_for(TREES[name]))
    assert_symmetric_psd(lambda v: kernel.precondition(v).ravel(), kernel.coef.size)


@pytest.mark.parametrize("b", [2, 3, 5])
def test_one_node_is_the_flat_kernel(b):
    tree = Tree.complete([b])
    kernel, design = make_kernel(tree)
    weighted, weight = weights_for(tree)
    flat = SoftmaxKernel(b, np.r_[0.0, np.ones(P - 1)], ALPHA)
    flat.coef = kernel.coef.copy()
    for part in (kernel, flat):
        pass_over(part, design, weighted, weight)
        part.propose()
        part.move(1.0)
    assert (kernel.n_gram_rows, kernel.n_score_rows) == (n_pairs(b), b)
    np.testing.assert_allclose(kernel.gradient, flat.gradient, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(kernel.coef, flat.coef, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(kernel._half_grams, flat._half_grams, rtol=1e-9)


def test_steps_converge_to_each_gates_maximum():
    tree = TREES["ragged"]
    kernel, design = make_kernel(tree, size=0.0)
    weighted, weight = weights_for(tree)
    for _ in range(30):
        pass_over(kernel, design, weighted, weight)
        kernel.propose()
        kernel.move(1.0)
    pass_over(kernel, design, weighted, weight)
    np.testing.assert_allclose(kernel.gradient, 0.0, atol=1e-8)


def test_a_step_is_bounded_in_logits_for_each_gate_alone():
    """A gate that separates does not shorten the step of another."""
    tree = TREES["binary"]
    rng = np.random.default_rng(5)
    x = np.linspace(-1.0, 1.0, 60)
    design = np.stack([np.ones(60), x / x.std()])
    kernel = TreeKernel(tree, np.array([0.0, 1.0]), 0.0)
    parts = kernel.split()
    parts[0][:, 1] = [-14.0, 14.0]
    order = np.concatenate([gates for _, gates in kernel.plan.groups])
    kernel.coef = np.stack([parts[i] for i in order], axis=1).reshape(-1, 2)
    np.testing.assert_array_equal(kernel.split()[0], parts[0])
    # The root's responsibilities contradict it flatly, those below are mild.
    left = x > 0
    resp = rng.dirichlet(np.full(8, 5.0), size=60).T
    resp[:4] *= left
    resp[4:] *= ~left
    resp /= resp.sum(axis=0)
    pass_over(kernel, design, resp, np.ones(60))
    steps = copy.copy(kernel)
    steps.coef = kernel.precondition(kernel.gradient)
    kernel.propose()
    taken = copy.copy(kernel)
    taken.coef = kernel.direction
    for i, (full, own) in enumerate(zip(steps.split(), taken.split(), strict=True)):
        size = np.sqrt((full**2).sum(axis=1)).max()
        assert (size > MAX_LOGIT_STEP) == (i == 0)
        np.testing.assert_allclose(own, full * min(1.0, MAX_LOGIT_STEP / size))


def test_a_node_without_rows_does_not_move():
    tree = TREES["ragged"]
    kernel, design = make_kernel(tree)
    kernel.ridge = np.zeros(P)
    weighted, weight = weights_for(tree)
    weighted[:4] = 0.0  # nobody goes left
    before = kernel.split()
    pass_over(kernel, design, weighted, weight)
    kernel.propose()
    kernel.move(1.0)
    for node, old, new in zip(tree.inner, before, kernel.split(), strict=True):
        assert np.isfinite(new).all()
        if 1 in tree.path(node):
            np.testing.assert_allclose(new, old, atol=1e-9)


@all_trees
def test_parameters_round_trip(tree):
    kernel, design = make_kernel(tree)
    vector = kernel.parameters.copy()
    before = kernel.log_proba(design)
    kernel.parameters = vector + 1.0 * np.arange(vector.size)
    assert np.abs(kernel.log_proba(design) - before).max() > 0.1
    kernel.parameters = vector
    np.testing.assert_array_equal(kernel.log_proba(design), before)
    vector[:] = 0.0  # no window on the state
    np.testing.assert_array_equal(kernel.log_proba(design), before)


# -- some paths of the tree --------------------------------------------------------


def some_paths(tree, leaves):
    """Return the plan of the paths to some leaves."""
    active = np.zeros(tree.n_nodes, dtype=bool)
    for leaf in leaves:
        active[tree.path(tree.leaves[leaf])] = True
    return LevelPlan(tree, active)


def parts_of(tree, seed=4):
    """Return plans of ever fewer leaves, the whole tree among them."""
    rng = np.random.default_rng(seed)
    n = tree.n_leaves
    for size in sorted({1, 2, (n + 1) // 2, n}):
        yield some_paths(tree, rng.permutation(n)[:size])


@all_trees
def test_a_restricted_kernel_gives_its_leaves_the_same(tree):
    kernel, design = make_kernel(tree)
    whole = kernel.log_proba(design)
    for plan in parts_of(tree):
        part = kernel.restrict(plan, kernel.rows_of(plan)[1])
        assert part.n_experts == plan.leaves.size
        np.testing.assert_allclose(
            part.log_proba(design), whole[plan.leaves], rtol=1e-12, atol=1e-12
        )
    np.testing.assert_allclose(kernel.log_proba(design), whole)  # it is as it was


@all_trees
def test_sums_of_parts_are_those_of_the_whole(tree):
    """Rows that stay on few paths: the rest of the tree gets nothing from them."""
    kernel, design = make_kernel(tree)
    for plan in parts_of(tree):
        weighted, weight = weights_for(tree)
        off = np.setdiff1d(np.arange(tree.n_leaves), plan.leaves)
        weighted[off] = 0.0
        _, half_grams, score = sums(kernel, design, weighted, weight)
        grams_at, scores_at = kernel.rows_of(plan)
        part = kernel.restrict(plan, scores_at)
        assert (part.n_gram_rows, part.n_score_rows) == (grams_at.size, scores_at.size)
        _, some_grams, some_scores = sums(part, design, weighted[plan.leaves], weight)
        filled, scored = np.zeros_like(half_grams), np.zeros_like(score)
        filled[:, grams_at] += some_grams
        scored[:, scores_at] += some_scores
        np.testing.assert_allclose(filled, half_grams, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scored, score, rtol=1e-9, atol=1e-9)


@all_trees
def test_blocks_on_their_own_paths_add_up(tree):
    """Blocks of rows that share few paths, as the path node walks them."""
    kernel, _ = make_kernel(tree)
    rng = np.random.default_rng(8)
    total = [np.zeros((P * (P + 1) // 2, kernel.n_gram_rows))]
    total.append(np.zeros((P, kernel.n_score_rows)))
    blocks = []
    for plan in parts_of(tree):
        design = rng.normal(size=(P, 30))
        weighted, weight = weights_for(tree, 30, seed=plan.leaves.size)
        weighted[np.setdiff1d(np.arange(tree.n_leaves), plan.leaves)] = 0.0
        blocks.append((design, weighted, weight))
        grams_at, scores_at = kernel.rows_of(plan)
        part = kernel.restrict(plan, scores_at)
        _, grams, scores = sums(part, design, weighted[plan.leaves], weight)
        total[0][:, grams_at] += grams
        total[1][:, scores_at] += scores
    together = [np.concatenate(some, axis=-1) for some in zip(*blocks, strict=True)]
    _, half_grams, score = sums(kernel, *together)
    np.testing.assert_allclose(total[0], half_grams, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(total[1], score, rtol=1e-9, atol=1e-9)
    # And so does the step that follows from them.
    kernel.take(*total, together[2].sum())
    step = kernel.precondition(kernel.gradient)
    kernel.take(half_grams, score, together[2].sum())
    np.testing.assert_allclose(step, kernel.precondition(kernel.gradient), atol=1e-7)


def test_an_edge_that_nobody_follows_still_has_a_score():
    """Its gate learns that the rows at its node did not go that way."""
    tree = TREES["stump"]
    kernel, design = make_kernel(tree)
    plan = some_paths(tree, [1])
    part = kernel.restrict(plan, kernel.rows_of(plan)[1])
    weight = np.ones(60)
    _, _, score = sums(part, design, weight[None], weight)
    proba = np.exp(log_softmax(kernel.coef @ design, axis=0))
    np.testing.assert_allclose(score[:, 0], design @ -proba[0], atol=1e-10)
    np.testing.assert_allclose(score[:, 1], design @ (1 - proba[1]), atol=1e-10)


@all_trees
@pytest.mark.parametrize("tol", [1e-9, 1e-2, 0.2, 0.7])
def test_walk_follows_what_some_row_reaches(tree, tol):
    kernel, design = make_kernel(tree)
    design = design[:, :7]
    proba = np.exp(by_paths(tree, kernel.split(), design))
    reach = np.array(
        [proba[tree.leaves_under(node)].sum(axis=0) for node in range(tree.n_nodes)]
    )
    # The most probable path goes to the most probable child of every node.
    best = np.zeros(7, dtype=int)
    on_best = np.zeros(tree.n_nodes, dtype=bool)
    for i in range(7):
        while tree.children[best[i]]:
            on_best[best[i]] = True
            some = list(tree.children[best[i]])
            best[i] = some[int(reach[some, i].argmax())]
        on_best[best[i]] = True
    active, ends = kernel.walk(design, np.log(tol))
    np.testing.assert_array_equal(ends, best)
    np.testing.assert_array_equal(active, on_best | (reach >= tol).any(axis=1))


def test_grams_are_those_of_pairs_of_siblings():
    tree = TREES["wide"]
    kernel, design = make_kernel(tree)
    weighted, weight = weights_for(tree)
    _, half_grams, _ = sums(kernel, design, weighted, weight)
    grams = unpack_grams(half_grams, P)
    g = np.exp(log_softmax(kernel.coef @ design, axis=0))
    pairs = list(itertools.combinations(range(4), 2))
    assert len(grams) == len(pairs)
    for gram, (c, d) in zip(grams, pairs, strict=True):
        expected = (design * (weight * g[c] * g[d])) @ design.T
        np.testing.assert_allclose(gram, expected, rtol=1e-9)
