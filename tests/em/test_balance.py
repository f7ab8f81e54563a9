"""The prior on usage and the cap: bounds, optima, and what a fit makes of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats
from scipy.special import logsumexp, xlogy

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.em._balance import Capacity, UsagePrior, balance_of
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._units import UnitProblem, Units
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs, assert_gradient


def plain():
    return LinearExpert(alpha=0.0, variance_prior=None)


@pytest.fixture
def uneven(rng):
    """Return X, y, weight of three regimes of 70, 25 and 5 percent of the rows."""
    regime = rng.choice(3, size=240, p=[0.7, 0.25, 0.05])
    X = rng.normal(size=(240, 2)) + np.array([[0, 0], [3, 0], [0, 4]])[regime]
    y = np.choose(regime, [X[:, 0], 4 - X[:, 0], 8 + X[:, 1]])
    return X, y + 0.3 * rng.normal(size=240), rng.uniform(0.3, 2.0, size=240)


def bind(X, y, weight, balance, *, gate=None, expert=plain, n_experts=3, **kwargs):
    """Return a problem with a balance."""
    gate = SoftmaxGate(alpha=0.0) if gate is None else gate
    experts = [(f"e{k}", expert()) for k in range(n_experts)]
    node = Node(gate, experts, [None] * n_experts, **kwargs)
    return UnitProblem(node, X, y, weight, Units(balance=balance))


def climb(problem, resp, passes):
    """Return the objective of each pass of plain EM."""
    problem.start(resp)
    trace = []
    for _ in range(passes):
        trace.append(problem.e_step() + problem.penalty)
        problem.m_step()
    trace.append(problem.e_step() + problem.penalty)
    return np.array(trace)


def usage_of(model, X, weight=None):
    return np.average(model.gate_proba(X), axis=0, weights=weight)


# -- the prior on usage ----------------------------------------------------------


def test_prior_is_a_dirichlet(rng):
    # Of concentration 1 + rows / K, up to its value where all are used alike.
    prior, weight = UsagePrior(12.0), rng.uniform(0.5, 2.0, size=30)
    law = stats.dirichlet(np.full(4, 1.0 + 12.0 / 4))
    for _ in range(5):
        log_proba = np.log(rng.dirichlet(np.ones(4), size=30)).T
        usage = np.exp(log_proba) @ weight / weight.sum()
        expected = law.logpdf(usage / usage.sum()) - law.logpdf(np.full(4, 0.25))
        assert_allclose(prior.log_density(log_proba, weight), expected)
    even = np.log(np.full((4, 30), 0.25))
    assert_allclose(prior.log_density(even, weight), 0.0, atol=1e-12)


def test_surrogate_is_a_tight_lower_bound(rng):
    prior, weight = UsagePrior(9.0), rng.uniform(0.5, 2.0, size=40)
    now = np.log(rng.dirichlet(np.ones(3), size=40)).T
    resp = rng.dirichlet(np.ones(3), size=40).T
    target, total = prior.augmented(resp, now, weight)
    assert_allclose(target.sum(axis=0), 1.0)
    # What the prior adds is worth its rows, those of each expert alike.
    added = target * total - resp * weight
    assert_allclose(added.sum(axis=1), 3.0)

    def bound(log_proba):
        return float((added * log_proba).sum())

    gap = prior.log_density(now, weight) - bound(now)
    for _ in range(200):
        move = rng.normal(size=now.shape) * rng.choice([0.01, 0.3, 3.0])
        there = now + move
        there = there - logsumexp(there, axis=0)
        assert prior.log_density(there, weight) >= bound(there) + gap - 1e-9


@pytest.mark.parametrize("rows", [0.5, 20.0, 2000.0])
@pytest.mark.parametrize("gate", ["softmax", "ridge", "constant", "lasso"])
@pytest.mark.parametrize("expert", [LinearExpert, plain])
def test_penalised_objective_climbs(rows, gate, expert, rng):
    gates = {
        "softmax": lambda: SoftmaxGate(alpha=0.0),
        "ridge": SoftmaxGate,
        "constant": ConstantGate,
        "lasso": lambda: SoftmaxGate(alpha=1.0, l1_ratio=0.5),
    }
    for _ in range(3):
        X = rng.normal(size=(80, 2))
        y = X[:, 0] * np.sign(X[:, 1]) + 0.3 * rng.normal(size=80)
        weight = rng.uniform(0.2, 2.0, size=80)
        problem = bind(
            X, y, weight, UsagePrior(rows), gate=gates[gate](), expert=expert
        )
        trace = climb(problem, rng.dirichlet(np.ones(3), size=80).T, 25)
        assert_climbs(trace)


def test_gradient_is_zero_at_the_fixed_point(uneven, rng):
    X, y, weight = uneven
    problem = bind(X, y, weight, UsagePrior(15.0), gate=SoftmaxGate(alpha=0.05))
    climb(problem, rng.dirichlet(np.ones(3), size=len(y)).T, 500)
    point = problem.parameters

    def objective(vector):
        problem.parameters = vector
        return problem.e_step() + problem.penalty

    assert_gradient(objective, np.zeros(point.size), point, rng, rtol=1e-3)
    # The test sees a slope: of the likelihood alone it is not zero there.
    problem.balance = UsagePrior(1e-9)
    with pytest.raises(AssertionError):
        assert_gradient(objective, np.zeros(point.size), point, rng, rtol=1e-3)


def test_constant_gate_has_a_closed_form(uneven, rng):
    # With mixing weights alone the prior is ConstantGate's own, alpha = rows / K.
    X, y, weight = uneven
    start = rng.dirichlet(np.ones(3), size=len(y))
    common = {"init": start, "max_iter": 2000, "tol": 1e-12}
    prior = MixtureOfExpertsRegressor(
        plain(), 3, gate=ConstantGate(), balance=30.0, **common
    ).fit(X, y, weight)
    own = MixtureOfExpertsRegressor(
        plain(), 3, gate=ConstantGate(alpha=10.0), **common
    ).fit(X, y, weight)
    assert_allclose(prior.gate_.weights_, own.gate_.weights_, atol=1e-6)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_a_large_prior_evens_out_the_usage(uneven):
    X, y, weight = uneven
    spread = []
    for rows in (None, 10.0, 1e3, 1e6):
        model = MixtureOfExpertsRegressor(
            n_experts=3, balance=rows, init="kmeans", max_iter=150
        ).fit(X, y, weight)
        spread.append(np.ptp(usage_of(model, X, weight)))
    assert spread[0] > 0.3
    assert spread[0] > spread[1] > spread[2] > spread[3]
    assert spread[3] < 1e-3


@pytest.mark.parametrize("balance", [25.0, "cap"])
def test_weight_is_repetition(uneven, balance, rng):
    X, y, _ = uneven
    count = rng.integers(0, 3, size=len(y))
    start = rng.dirichlet(np.ones(3), size=len(y))
    values = []
    for repeated in (False, True):
        rows = np.repeat(np.arange(len(y)), count) if repeated else np.arange(len(y))
        model = MixtureOfExpertsRegressor(
            n_experts=3, balance=balance, init=start[rows], max_iter=10
        )
        weight = None if repeated else count.astype(float)
        with pytest.warns(match="did not converge"):
            model.fit(X[rows], y[rows], weight)
        values.append([model.objective_trace_[-1], *model.predict(X[:9])])
    assert_allclose(values[0], values[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("balance", [40.0, "cap"])
@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_trees_and_classifiers(uneven, balance):
    X, y, weight = uneven
    tree = HierarchicalMixtureOfExpertsRegressor(
        depth=2, balance=balance, random_state=0, prune=False, max_iter=40
    )
    labels = np.digitize(y, [0.5, 3.0])
    classes = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0), 3, balance=balance, init="kmeans", max_iter=100
    )
    for model, target in ((tree, y), (classes, labels)):
        model.fit(X, target, weight)
        assert_climbs(model.objective_trace_)
        assert_allclose(model.gate_proba(X).sum(axis=1), 1.0)


def test_tied_dispersions_and_groups(uneven):
    X, y, weight = uneven
    names = np.repeat(np.arange(60), 4)
    for balance in (20.0, "cap"):
        model = MixtureOfExpertsRegressor(
            n_experts=3, balance=balance, shared_dispersion=True, init="kmeans"
        ).fit(X, y, weight, groups=names)
        assert_climbs(model.objective_trace_)


# -- the cap ---------------------------------------------------------------------


def by_slsqp(joint, weight, cap):
    """Return the best responsibilities within the caps, by another solver."""
    n_experts, n_units = joint.shape

    def loss(flat):
        resp = flat.reshape(joint.shape)
        slope = weight * (joint - np.log(np.maximum(resp, 1e-300)) - 1.0)
        return -float(
            (weight * (joint * resp - xlogy(resp, resp))).sum()
        ), -slope.ravel()

    rows = {
        "type": "eq",
        "fun": lambda flat: flat.reshape(joint.shape).sum(axis=0) - 1.0,
        "jac": lambda _: np.tile(np.eye(n_units), n_experts),
    }
    caps = {
        "type": "ineq",
        "fun": lambda flat: cap - flat.reshape(joint.shape) @ weight,
        "jac": lambda _: -np.kron(np.eye(n_experts), weight),
    }
    found = optimize.minimize(
        loss,
        np.full(joint.size, 1.0 / n_experts),
        jac=True,
        method="SLSQP",
        bounds=[(1e-12, 1.0)] * joint.size,
        constraints=[rows, caps],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return found.x.reshape(joint.shape), -found.fun


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.7, 3.0])
def test_e_step_is_the_constrained_optimum(factor, rng):
    for _ in range(2):
        joint = rng.normal(size=(3, 7)) + np.array([[1.5], [0.0], [-1.5]])
        weight = rng.uniform(0.3, 2.0, size=7)
        balance = Capacity(factor)
        resp, bound = balance.assign(joint, weight, posterior)
        cap = factor * weight.sum() / 3
        expected, value = by_slsqp(joint, weight, cap)
        assert_allclose(resp, expected, atol=1e-4)
        assert_allclose(weight @ bound, value, rtol=1e-7, atol=1e-7)
        # Optimality: nothing above the cap, and a price only where it binds.
        mass = resp @ weight
        assert (mass <= cap + 1e-6).all()
        assert (balance.price >= 0.0).all()
        assert_allclose(balance.price * (cap - mass), 0.0, atol=1e-5)
        # What EM climbs, from its definition.
        entropy = (resp * joint - xlogy(resp, resp)).sum(axis=0)
        assert_allclose(bound, entropy, atol=1e-10)


def test_the_cap_holds_on_hard_cases(rng):
    # Log densities far apart, prices in the hundreds, many rows.
    joint = 300.0 * rng.normal(size=(4, 3000)) + np.array([[900.0], [0], [0], [-900]])
    weight = rng.uniform(0.1, 3.0, size=3000)
    for factor in (1.0, 1.25):
        balance = Capacity(factor)
        resp, _ = balance.assign(joint, weight, posterior)
        cap = factor * weight.sum() / 4
        assert (resp @ weight).max() <= cap * (1.0 + 1e-3)


def test_caps_that_cannot_be_met(rng):
    # Forty rows can only be the second expert's: what can be moved is, and the
    # numbers stay numbers.
    joint = rng.normal(size=(2, 50))
    joint[0, 10:] = -np.inf
    balance = Capacity(1.0)
    resp, bound = balance.assign(joint, np.ones(50), posterior)
    assert_allclose(resp.sum(axis=1), [10.0, 40.0], atol=1e-9)
    some = np.where(np.isfinite(joint), joint, 0.0)
    expected = (resp * some - xlogy(resp, resp)).sum(axis=0)
    assert_allclose(bound, expected, atol=1e-9)


def test_a_wide_cap_changes_nothing(uneven):
    X, y, weight = uneven
    joint = np.random.default_rng(3).normal(size=(3, 50))
    balance = Capacity(3.0)
    resp, bound = balance.assign(joint, np.ones(50), posterior)
    assert_allclose(resp, posterior(joint)[0], atol=1e-12)
    assert_allclose(bound, posterior(joint)[1], atol=1e-12)
    kwargs = {"gate": GaussianGate(), "init": "kmeans", "acceleration": None}
    capped = MixtureOfExpertsRegressor(balance="cap", capacity=50.0, **kwargs)
    capped.fit(X, y, weight)
    free = MixtureOfExpertsRegressor(**kwargs).fit(X, y, weight)
    assert_allclose(capped.objective_trace_, free.objective_trace_, rtol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1.25])
@pytest.mark.parametrize("gate", [SoftmaxGate, GaussianGate, ConstantGate])
def test_free_energy_climbs_within_the_cap(uneven, factor, gate, rng):
    X, y, weight = uneven
    problem = bind(X, y, weight, Capacity(factor), gate=gate(), expert=LinearExpert)
    problem.start(rng.dirichlet(np.ones(3), size=len(y)).T)
    trace = []
    for _ in range(40):
        trace.append(problem.e_step() + problem.penalty)
        assert problem.mass.max() <= factor * weight.sum() / 3 + 1e-5
        problem.m_step()
    assert_climbs(trace)
    if factor == 1.0:
        assert_allclose(problem.mass, weight.sum() / 3, atol=1e-5)


def test_hard_assignment_fills_up_to_the_cap(rng):
    joint = rng.normal(size=(3, 200)) + np.array([[2.0], [0.0], [0.0]])
    weight = rng.uniform(0.2, 2.0, size=200)
    for factor in (1.0, 1.3):
        balance = Capacity(factor)
        resp, bound = balance.assign(joint, weight, hard_assignment)
        assert_allclose(np.sort(resp, axis=0), [[0] * 200, [0] * 200, [1] * 200])
        cap = factor * weight.sum() / 3
        assert (resp @ weight).max() <= cap + weight.max()
        assert_allclose(bound, joint[resp.argmax(axis=0), np.arange(200)])
    whole, _ = Capacity(1.0).assign(joint, np.ones(200), hard_assignment)
    assert np.ptp(whole.sum(axis=1)) <= 1.0
    # No better assignment with the same caps, by linear programming.
    cap = np.ceil(1.1 * 200 / 3)
    resp, bound = Capacity(1.1).assign(joint, np.ones(200), hard_assignment)
    best = optimize.linprog(
        -joint.ravel(),
        A_eq=np.tile(np.eye(200), 3),
        b_eq=np.ones(200),
        A_ub=np.kron(np.eye(3), np.ones(200)),
        b_ub=np.full(3, cap),
    )
    assert bound.sum() >= -best.fun - 0.02 * abs(best.fun)


@pytest.mark.parametrize("algorithm", ["cem", "sem"])
def test_hard_and_drawn_assignments_in_a_fit(uneven, algorithm):
    X, y, _ = uneven
    model = MixtureOfExpertsRegressor(
        n_experts=3,
        balance="cap",
        capacity=1.1,
        algorithm=algorithm,
        init="kmeans",
        random_state=0,
        max_iter=60,
    ).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    # Without the cap the gate prefers one expert far more.
    assert usage_of(model, X).max() < 0.55


def test_cem_with_a_cap_may_fall_and_is_not_blamed(rng):
    # Filling up is no exact E-step: no warning of a fault, the best pass is kept.
    for _ in range(8):
        X = rng.normal(size=(60, 2))
        y = 2.0 * np.sign(X[:, 0]) + rng.normal(size=60)
        model = MixtureOfExpertsRegressor(
            n_experts=3, balance="cap", capacity=1.0, algorithm="cem", init="kmeans"
        ).fit(X, y)
        assert np.isfinite(model.objective_trace_).all()


# -- arguments -------------------------------------------------------------------


def test_balance_of():
    assert balance_of(None, 1.5) is None
    assert balance_of("cap", 1.5) == Capacity(1.5)
    assert balance_of(3, 1.5).rows == 3.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"balance": 0}, "'balance' parameter"),
        ({"balance": -1.0}, "'balance' parameter"),
        ({"balance": "x"}, "'balance' parameter"),
        ({"balance": "cap", "capacity": 0.9}, "'capacity' parameter"),
        ({"balance": np.inf}, "'balance' parameter"),
        ({"balance": "cap", "algorithm": "stack"}, 'balance: algorithm="stack"'),
        (
            {"balance": 3.0, "gate": GaussianGate()},
            'balance=3.0: a prior on usage needs a gate .* or balance="cap"',
        ),
        (
            {"balance": np.float32(3.0), "gate": GaussianGate()},
            "a prior on usage needs a gate",
        ),
    ],
)
def test_bad_values(uneven, kwargs, message):
    X, y, _ = uneven
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor(n_experts=2, **kwargs).fit(X, y)


def test_balanced_trees_do_not_grow(uneven):
    X, y, _ = uneven
    model = HierarchicalMixtureOfExpertsRegressor(balance=3.0, grow="posterior")
    with pytest.raises(ValueError, match="balance: a tree cannot be grown"):
        model.fit(X, y)
