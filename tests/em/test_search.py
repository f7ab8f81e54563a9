"""The race of starts: rounds, distinct finalists, ties, swaps, the report."""

import numpy as np
import pytest

from skmoe.em._build import build_problem
from skmoe.em._node_problem import NodeProblem
from skmoe.em._search import (
    FINALISTS,
    SECOND_FIELD,
    Run,
    SearchReport,
    _distinct,
    finish,
    improve,
    race,
)
from skmoe.em._start_data import start_data
from skmoe.em._starts import Start, portfolio, soften
from skmoe.em._swaps import swaps
from tests.em.problems import make_node, objective, rows, soft_labels

LONG = {"max_iter": 400, "tol": 1e-9, "acceleration": "auto", "exact": True}


@pytest.fixture
def rng():
    return np.random.default_rng(41)


@pytest.fixture
def fused(rng):
    data = rows(None, rng)
    return build_problem(make_node("single"), *data), data


def general_problem(data):
    X, y, weight, n_classes = data
    node = make_node("shared")
    node.prepare(X, y, weight, n_classes)
    return NodeProblem(node, X, y, weight)


def starts_for(data, rng, count=12):
    size = data[1].size
    labels = [rng.integers(3, size=size) for _ in range(count - 1)]
    randoms = [Start(f"random{k}", soften(y, 3)) for k, y in enumerate(labels)]
    return [Start("sorted", soft_labels(data[0], 3, rng)), *randoms]


def run_race(problem, starts, **options):
    settings = {"exact": True, "passes": 100, "acceleration": "auto", "n_jobs": None}
    return race(problem, starts, **{**settings, **options})


def made_run(objective, mass=(5.0, 5.0), name="a", degenerate=False):
    return Run(name, objective, None, np.array(mass), degenerate=degenerate)


# -- order and basins --------------------------------------------------------------


def test_sound_runs_come_first():
    runs = [made_run(9.0, degenerate=True), made_run(1.0), made_run(2.0)]
    ranked = sorted(runs, key=lambda run: run.rank, reverse=True)
    assert [run.objective for run in ranked] == [2.0, 1.0, 9.0]


def test_copies_are_left_out():
    first, copy = made_run(-100.0, (3.0, 7.0)), made_run(-100.00001, (7.0, 3.0))
    lower, shares = made_run(-100.5, (3.0, 7.0)), made_run(-100.0, (1.0, 9.0))
    kept, out = _distinct([first, copy, shares, lower], 9)
    # Equal heights with other shares of the rows are other hills.
    assert [id(run) for run in kept] == [id(first), id(shares), id(lower)]
    assert [id(run) for run in out] == [id(copy)]
    kept, out = _distinct([first, shares, lower], 2)
    assert [id(run) for run in kept] == [id(first), id(shares)]
    assert [id(run) for run in out] == [id(lower)]


# -- the race ----------------------------------------------------------------------


@pytest.mark.parametrize("make", ["fused", "general"])
def test_race_sorts_every_start(fused, rng, make):
    problem, data = fused
    if make == "general":
        problem = general_problem(data)
    starts = starts_for(data, rng)
    finalists, others = run_race(problem, starts)
    assert len(finalists) + len(others) == len(starts)
    assert 1 <= len(finalists) <= max(FINALISTS, len(starts) // 4)
    heights = [run.rank for run in finalists]
    assert heights == sorted(heights, reverse=True)
    names = sorted(run.name for run in finalists + others)
    assert names == sorted(start.name for start in starts)
    for run in finalists:  # each can go on from where it says it is
        problem.restore(run.state)
        assert objective(problem) == pytest.approx(run.objective, rel=1e-10)


@pytest.mark.parametrize("make", ["fused", "general"])
def test_processes_change_nothing(fused, rng, make):
    problem, data = fused
    if make == "general":
        problem = general_problem(data)
    starts = starts_for(data, rng, SECOND_FIELD)
    alone = run_race(problem, starts)
    shared = run_race(problem, starts, n_jobs=2)
    for one, other in zip(alone, shared, strict=True):
        assert [run.name for run in one] == [run.name for run in other]
        heights = [[run.objective for run in runs] for runs in (one, other)]
        np.testing.assert_allclose(heights[0], heights[1], rtol=1e-10)


def test_order_of_starts_changes_nothing(fused, rng):
    _, data = fused
    starts, problem = starts_for(data, rng), general_problem(data)
    one = run_race(problem, starts)[0]
    other = run_race(problem, starts[::-1])[0]
    assert one[0].objective == pytest.approx(other[0].objective, rel=1e-10)


def test_a_single_start_is_not_raced(fused, rng):
    problem, data = fused
    start = starts_for(data, rng)[0]
    finalists, others = run_race(problem, [start])
    assert others == []
    assert [run.name for run in finalists] == ["sorted"]
    assert finalists[0].n_passes == 0


def test_copies_of_a_start_fill_one_place(fused, rng):
    problem, data = fused
    start = starts_for(data, rng)[0]
    finalists, others = run_race(problem, [start] * 5)
    assert (len(finalists), len(others)) == (1, 4)


# -- the finish ----------------------------------------------------------------------


def test_finish_runs_to_convergence(fused, rng):
    problem, data = fused
    finalists, _ = run_race(problem, starts_for(data, rng))
    runs = finish(problem, finalists, **LONG)
    assert all(run.converged for run in runs)
    assert len(runs) == len(finalists)
    assert max(run.objective for run in runs) <= runs[0].objective * (1 - 1e-6) + 1e-3
    for run in runs:
        problem.restore(run.state)
        assert objective(problem) == pytest.approx(run.objective, rel=1e-11)
        assert run.trace[-1] == pytest.approx(run.objective, rel=1e-8)
        np.testing.assert_allclose(run.mass.sum(), problem.total_weight)


class Flat:
    """A problem whose runs end where they start, for the rules of the choice."""

    exact_m_step, has_gradient, penalty, total_weight = True, False, 0.0, 1.0
    parameters = None

    def __init__(self):
        self.now, self.bad = 0.0, ()
        self.mass = np.array([1.0, 1.0])

    def e_step(self):
        return self.now

    def m_step(self):
        pass

    def backtrack(self):
        return False

    def state(self):
        return self.now

    def restore(self, state):
        self.now = state

    def degenerate(self):
        return self.now in self.bad


def finished(heights, bad=(), **options):
    problem = Flat()
    problem.bad = bad
    runs = [Run(f"run{k}", -np.inf, h, np.ones(2)) for k, h in enumerate(heights)]
    return finish(problem, runs, **{**LONG, **options})


def test_ties_go_to_the_first():
    runs = finished([-10.0, -10.0 + 5e-6, -10.0 + 9e-6])
    assert runs[0].name == "run0"
    assert [run.name for run in runs[1:]] == ["run2", "run1"]
    assert finished([-10.0, -9.99])[0].name == "run1"


def test_equal_heights_to_the_last_digit():
    assert [run.name for run in finished([1.0, 1.0, 1.0])] == ["run0", "run1", "run2"]


def test_a_degenerate_run_wins_only_alone():
    runs = finished([-10.0, 50.0], bad=(50.0,))
    assert runs[0].name == "run0"
    assert runs[1].degenerate
    assert finished([50.0], bad=(50.0,))[0].degenerate


def test_a_callback_stops_the_finish():
    heard = []

    def on_pass(run, height):
        heard.append((run.name, height))
        return True

    runs = finished([-2.0, -1.0], on_pass=on_pass)
    assert heard == [("run0", -2.0)]
    assert [run.name for run in runs] == ["run0"]
    assert runs[0].stopped


# -- the report ----------------------------------------------------------------------


def test_report_counts_who_reached_the_best():
    finalists = [made_run(-100.0), made_run(-100.001), made_run(-130.0, name="b")]
    others = [made_run(-150.0, name="c"), made_run(-140.0, name="d")]
    report = SearchReport.from_runs(finalists, others)
    assert report.names == ["a", "a", "b", "d", "c"]
    assert report.objectives == [-100.0, -100.001, -130.0, -140.0, -150.0]
    assert report.finished == [True] * 3 + [False] * 2
    assert report.n_reached_best == 2
    assert report.next_maxima == [-130.0]


# -- swaps ---------------------------------------------------------------------------


def test_swaps_only_improve(fused, rng):
    problem, data = fused
    X, y, weight, _ = data
    poor = [Start("poor", soften(rng.integers(3, size=y.size), 3))]
    short = {**LONG, "max_iter": 2, "acceleration": None}
    best = finish(problem, run_race(problem, poor)[0], **short)[0]
    starts = start_data(make_node("single"), X, y, weight, None)
    found, tried = improve(problem, best, starts, np.random.RandomState(0), 15, **LONG)
    assert found.objective > best.objective
    assert any(run is best for run in tried)
    assert all(run.objective <= found.objective + 1e-3 for run in tried)
    problem.restore(found.state)
    assert objective(problem) == pytest.approx(found.objective, rel=1e-10)
    none, nothing = improve(problem, found, starts, np.random.RandomState(0), 0, **LONG)
    assert none is found
    assert nothing == []


def test_swaps_start_from_the_best_fit(fused, rng, monkeypatch):
    """Wherever the problem stood before."""
    import skmoe.em._search as module

    problem, data = fused
    starts = start_data(make_node("single"), *data)
    first, other = starts_for(data, rng, 2)
    best = finish(problem, run_race(problem, [first])[0], **LONG)[0]
    problem.restore(best.state)
    expected, seen = problem.responsibilities(), []

    def spy(data, resp, rng):
        seen.append(resp)
        return swaps(data, resp, rng)

    monkeypatch.setattr(module, "swaps", spy)
    problem.start(other.resp)
    improve(problem, best, starts, np.random.RandomState(0), 1, **LONG)
    np.testing.assert_allclose(seen[0], expected, atol=1e-12)


def test_the_whole_search_finds_the_truth(rng):
    """Three regimes along a column, of which clusters of X know nothing."""
    x = rng.uniform(-3.0, 3.0, size=(300, 1))
    part = np.clip(np.floor((x[:, 0] + 3.0) / 2.0), 0, 2).astype(int)
    y = np.array([4.0, -4.0, 4.0])[part] * x[:, 0] + 0.2 * rng.normal(size=300)
    weight = np.ones(300)
    node = make_node("single")
    problem = build_problem(node, x, y, weight, None)
    seed = np.random.RandomState(0)
    starts = list(portfolio("auto", None, start_data(node, x, y, weight, None), seed))
    finalists, _ = run_race(problem, starts)
    best = finish(problem, finalists, **LONG)[0]
    problem.restore(best.state)
    labels = problem.responsibilities().argmax(axis=0)
    pairs = {}
    for true, ours in zip(part, labels, strict=True):
        pairs[(true, ours)] = pairs.get((true, ours), 0) + 1
    assert sum(sorted(pairs.values())[-3:]) > 285


def test_traces_of_all_starts_are_kept(fused, rng):
    problem, data = fused
    finalists, others = run_race(problem, starts_for(data, rng))
    before = {id(run): list(run.history) for run in finalists}
    runs = finish(problem, finalists, **LONG)
    report = SearchReport.from_runs(runs, others)
    assert len(report.traces) == len(report.names) == len(runs) + len(others)
    for trace, reached in zip(report.traces, report.objectives, strict=True):
        assert max(trace) == reached
    for run in runs:
        rounds = before[id(run)]
        # The long run goes on where the short ones stopped.
        assert run.history[: len(rounds)] == rounds
        assert run.history[len(rounds) :] == run.trace[1:]
        assert np.diff(run.history).min() >= -1e-8 * (1.0 + abs(run.objective))
