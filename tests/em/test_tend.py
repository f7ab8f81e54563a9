"""Experts that lost their rows: revived once, else dropped or kept, and said."""

import warnings

import numpy as np
import pytest

from skmoe.em._build import build_problem, write_back
from skmoe.em._node import Node
from skmoe.em._search import Run, finish
from skmoe.em._tend import _shared_out, tend
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate
from tests.em.problems import plain, soft_labels

OPTIONS = {"max_iter": 300, "tol": 1e-8, "acceleration": "auto", "exact": True}


@pytest.fixture
def rng():
    return np.random.default_rng(51)


def two_lines(rng, n=200):
    x = rng.uniform(-2.0, 2.0, size=(n, 1))
    y = np.where(x[:, 0] > 0, 6.0 * x[:, 0], -3.0 * x[:, 0] + 8.0)
    return x, y + 0.2 * rng.normal(size=n), np.ones(n)


def one_line(rng, n=60):
    x = rng.uniform(-2.0, 2.0, size=(n, 1))
    return x, 3.0 * x[:, 0] + rng.normal(size=n), np.ones(n)


def fresh(size, expert=LinearExpert):
    experts = [(f"expert{k}", expert()) for k in range(size)]
    return Node(SoftmaxGate(), experts, [None] * size)


def fitted(node, data, resp, max_iter=300):
    """Return a node and its run, as the search hands them over."""
    X, y, weight = data
    problem = build_problem(node, X, y, weight, None)
    problem.start(resp, 8)
    start = Run("start", -np.inf, problem.state(), np.zeros(0))
    run = finish(problem, [start], **{**OPTIONS, "max_iter": max_iter})[0]
    problem.restore(run.state)
    problem.e_step()
    write_back(problem, node)
    return node, run


class Options:
    prune = True
    algorithm = "em"

    def long_run(self, problem):
        return OPTIONS


def tended(node, run, data, *, named=False, make=fresh):
    X, y, weight = data
    options = Options()
    return tend(node, run, X, y, weight, None, named=named, fresh=make, options=options)


def dead_third(data, rng):
    """Responsibilities with a third expert that has nothing."""
    resp = soft_labels(data[0], 2, rng)
    return np.vstack([0.0 * resp[0], resp])


def test_living_experts_are_left_alone(rng):
    data = two_lines(rng)
    node, run = fitted(fresh(2), data, soft_labels(data[0], 2, rng))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same, best = tended(node, run, data)
    assert same is node
    assert best is run


def test_a_dead_expert_is_revived(rng):
    """Two of three lines are missing one: there are rows for it to explain."""
    data = two_lines(rng)
    resp = np.vstack([np.ones(200), np.zeros(200)])
    node, run = fitted(fresh(2), data, resp, max_iter=1)
    run.mass = np.array([200.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alive, best = tended(node, run, data)
    assert alive is not node
    assert len(alive.experts) == 2
    assert best.name == "revived"
    assert best.objective > run.objective + 50.0
    assert best.mass.min() > 50.0
    alive.log_prob(*data[:2])
    total = data[2] @ alive.log_prob(*data[:2]) + alive.penalty
    assert total == pytest.approx(best.objective, rel=1e-9)


def hopeless(data, rng, monkeypatch):
    """A fit whose third expert dies, and dies again when it is revived."""
    import skmoe.em._tend as module

    node, run = fitted(fresh(3), data, dead_third(data, rng), max_iter=1)
    run.mass = np.array([0.25, *np.asarray(run.mass)[1:]])
    real, calls = module._refit, []

    def refit(new, resp, *rest):
        out, tried = real(new, resp, *rest)
        if not calls:
            tried.mass = np.array([0.0, *tried.mass[1:]])
        calls.append(len(new.experts))
        return out, tried

    monkeypatch.setattr(module, "_refit", refit)
    return node, run, calls


def test_an_expert_that_dies_again_is_dropped(rng, monkeypatch):
    data = two_lines(rng)
    node, run, calls = hopeless(data, rng, monkeypatch)
    message = r"experts \['expert0'\] lost their rows \(left with 0\.25 of 200\), "
    message += r"and again after a restart; 2 experts remain\. Ask for fewer"
    with pytest.warns(CollapsedExpertWarning, match=message):
        kept, best = tended(node, run, data)
    assert calls == [3, 2]
    assert len(kept.experts) == 2
    assert best.mass.min() > 50.0
    assert np.isfinite(kept.log_prob(*data[:2])).all()


def test_named_experts_are_kept(rng, monkeypatch):
    data = two_lines(rng)
    node, run, calls = hopeless(data, rng, monkeypatch)
    with pytest.warns(CollapsedExpertWarning, match="they are kept, since they have"):
        kept, best = tended(node, run, data, named=True)
    assert kept is node
    assert best is run
    assert calls == [3]


def test_a_stopped_fit_is_not_tended(rng):
    data = two_lines(rng)
    node, run = fitted(fresh(2), data, soft_labels(data[0], 2, rng))
    run.mass, run.stopped = np.array([200.0, 0.0]), True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tended(node, run, data) == (node, run)


def test_a_dead_expert_in_earnest(rng):
    """No patch: three experts for one line, the third without rows."""
    data = one_line(rng)
    node, run = fitted(fresh(3), data, dead_third(data, rng))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept, best = tended(node, run, data)
    dropped = [w for w in caught if w.category is CollapsedExpertWarning]
    assert len(kept.experts) == 3 - len(dropped)
    assert (best.mass >= 1.0).all()


def test_exact_fits_are_announced(rng):
    X, _, weight = one_line(rng)
    data = X, 3.0 * X[:, 0] - 1.0, weight
    node, run = fitted(fresh(1, plain), data, np.ones((1, 60)))
    with pytest.warns(CollapsedExpertWarning, match=r"variance of experts .* floor"):
        same, _ = tended(node, run, data)
    assert same is node


def test_half_of_the_largest_is_shared_out():
    resp = np.array([[0.9, 0.8, 0.7, 0.6, 0.1], [0.1, 0.2, 0.3, 0.4, 0.9], [0.0] * 5])
    weight = np.array([1.0, 1.0, 1.0, 1.0, 0.5])
    out = _shared_out(resp.copy(), weight, np.array([2]))
    np.testing.assert_allclose(out.sum(axis=0), 1.0)
    np.testing.assert_array_equal(out[1], resp[1])
    # Those of the largest expert's rows that it is least sure of.
    np.testing.assert_allclose(out[2], [0.0, 0.0, 0.7, 0.6, 0.1])
    even = _shared_out(np.array([[1.0, 1.0], [0.0, 0.0]]), np.ones(2), np.array([1]))
    np.testing.assert_allclose(even, 0.5)
