"""Groups of rows, against EM written by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize
from scipy.special import logsumexp, xlogy
from scipy.stats import norm

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.em._units import group_codes
from skmoe.experts import EstimatorExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs
from tests.em.by_hand import (
    N_EXPERTS,
    PASSES,
    assert_same,
    fits_of,
    hand_experts,
    mixture,
    sums_of,
)


@pytest.fixture
def grouped(rng):
    """Return X, y, group names and a start; groups are of one to nine rows."""
    size = rng.integers(1, 10, size=30)
    group = np.repeat(np.arange(30), size)
    regime = rng.integers(0, 2, size=30)
    level = rng.normal(size=30) + regime
    x = rng.normal(size=group.size)
    y = np.where(regime[group] == 0, 1.0 + x, -0.5 - x)
    y = y + 0.4 * rng.normal(size=group.size)
    start = rng.dirichlet(np.ones(2), size=group.size)
    order = rng.permutation(group.size)
    names = np.array([f"subject {g}" for g in group])
    X = np.column_stack([x, level[group]])
    return X[order], y[order], names[order], start[order]


def fit_softmax(Z, target, weight):
    """Return log probabilities of the multinomial logit that SciPy finds."""

    def loss(coef):
        logit = np.column_stack([Z @ coef, np.zeros(len(Z))])
        log_prob = logit - logsumexp(logit, axis=1, keepdims=True)
        slope = Z.T @ (weight * (np.exp(log_prob[:, 0]) - target[:, 0]))
        return -(weight @ (target * log_prob).sum(axis=1)), slope

    found = optimize.minimize(
        loss, np.zeros(Z.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-11}
    )
    logit = np.column_stack([Z @ found.x, np.zeros(len(Z))])
    return logit - logsumexp(logit, axis=1, keepdims=True)


def hand_em(X, y, names, start, *, weight=None, level=None, passes=PASSES):
    """Return the log-likelihoods of EM over groups, and the last responsibilities.

    ``level`` of the groups goes into a softmax gate; None for mixing weights.
    """
    weight = np.ones(len(y)) if weight is None else weight
    group = np.unique(names, return_inverse=True)[1]
    share = sums_of(np.ones(len(y)), group, weight)
    resp = sums_of(start, group, weight) / share[:, None]
    trace = []
    for _ in range(passes):
        density = hand_experts(X, y, weight[:, None] * resp[group])
        if level is None:
            log_gate = np.log(resp.mean(axis=0))
        else:
            mean = sums_of(level, group, weight) / share
            Z = np.column_stack([np.ones(len(share)), mean])
            log_gate = fit_softmax(Z, resp, np.ones(len(share)))
        joint = log_gate + sums_of(density, group, weight)
        log_lik = logsumexp(joint, axis=1)
        trace.append(log_lik.sum())
        resp = np.exp(joint - log_lik[:, None])
    return np.array(trace), resp[group], joint


# -- groups ----------------------------------------------------------------------


def test_group_codes():
    assert_array_equal(group_codes(["b", "a", "b"], 3), [1, 0, 1])
    assert_array_equal(group_codes([7, 7, 3], 3), [1, 1, 0])
    with pytest.raises(ValueError, match=r"each of the 4 rows of X, got shape \(3,\)"):
        group_codes([1, 2, 3], 4)
    with pytest.raises(ValueError, match=r"must not hold NaN or None: first in row 1"):
        group_codes([1.0, np.nan], 2)
    with pytest.raises(ValueError, match=r"must not hold NaN or None: first in row 2"):
        group_codes(np.array(["a", "b", None], dtype=object), 3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_grouped_em_equals_em_by_hand(grouped, rng, weighted):
    X, y, names, start = grouped
    weight = rng.uniform(0.3, 2.0, size=len(y)) if weighted else None
    model = mixture(ConstantGate(), init=start).fit(X, y, weight, groups=names)
    trace, resp, _ = hand_em(X, y, names, start, weight=weight)
    found = model.objective_trace_  # which may end sooner, where nothing moves
    assert len(found) > 9
    assert_allclose(found, trace[: len(found)], rtol=1e-10)
    assert_allclose(found[-1], trace[-1], rtol=1e-10)
    assert_climbs(found)
    if not weighted:
        assert_allclose(model.responsibilities(X, y, groups=names), resp, atol=1e-8)


def test_softmax_gate_sees_the_means_of_the_groups(grouped, rng):
    X, y, names, start = grouped
    X[:, 1] += 0.1 * rng.normal(size=len(y))  # varies within the groups
    weight = rng.uniform(0.3, 2.0, size=len(y))
    model = mixture(
        SoftmaxGate(alpha=0.0), init=start, gate_features=[1], tol=1e-12, max_iter=3000
    ).fit(X, y, weight, groups=names)
    trace, _, _ = hand_em(X, y, names, start, weight=weight, level=X[:, 1], passes=300)
    assert_allclose(model.objective_trace_[-1], trace[-1], rtol=1e-9)
    assert_climbs(model.objective_trace_)


@pytest.mark.filterwarnings("ignore:EM did not converge")
class TestGroups:
    @pytest.fixture(params=["constant", "softmax", "gaussian", "tree", "adapted"])
    def model(self, request, grouped):
        """Return a mixture that starts from the given responsibilities."""
        start = grouped[3]
        if request.param == "tree":
            return HierarchicalMixtureOfExpertsRegressor(
                depth=1, init=start, max_iter=8, acceleration=None
            )
        if request.param == "adapted":
            from sklearn.linear_model import Ridge

            experts = EstimatorExpert(Ridge(), cross_fit=False)
            return mixture(ConstantGate(), init=start, experts=experts, max_iter=8)
        gates = {
            "constant": ConstantGate(),
            "softmax": SoftmaxGate(),
            "gaussian": GaussianGate(),
        }
        return mixture(gates[request.param], init=start, max_iter=8)

    def test_groups_of_one_row_are_no_groups(self, model, grouped):
        X, y, _, _ = grouped
        alone = fits_of(model, X, y)
        assert_same(fits_of(model, X, y, groups=np.arange(len(y))[::-1]), alone)

    def test_weight_is_repetition_within_the_group(self, model, grouped, rng):
        X, y, names, start = grouped
        count = rng.integers(0, 4, size=len(y))
        count[np.unique(names, return_index=True)[1]] += 1
        weighted = fits_of(model, X, y, count.astype(float), groups=names)
        many = [np.repeat(part, count, axis=0) for part in (X, y, names, start)]
        model.set_params(init=many[3]).fit(many[0], many[1], groups=many[2])
        again = (
            model.objective_trace_[-1],
            model.predict(X[:9]),
            model.gate_proba(X[:9]),
        )
        assert_same(again, weighted)

    def test_weight_zero_is_removal(self, model, grouped, rng):
        X, y, names, start = grouped
        weight = rng.integers(0, 2, size=len(y)).astype(float)
        weight[names == names[0]] = 0.0  # a whole group
        kept = weight > 0
        with_zeros = fits_of(model, X, y, weight, groups=names)
        model.set_params(init=start[kept])
        model.fit(X[kept], y[kept], groups=names[kept])
        rest = (
            model.objective_trace_[-1],
            model.predict(X[:9]),
            model.gate_proba(X[:9]),
        )
        assert_same(with_zeros, rest, tol=1e-10)

    def test_order_of_rows_and_names_is_nothing(self, model, grouped, rng):
        X, y, names, start = grouped
        first = fits_of(model, X, y, groups=names)
        relabelled = -(np.unique(names, return_inverse=True)[1] ** 2)
        assert_same(fits_of(model, X, y, groups=relabelled), first)
        order = rng.permutation(len(y))
        model.set_params(init=start[order])
        model.fit(X[order], y[order], groups=names[order])
        again = (
            model.objective_trace_[-1],
            model.predict(X[:9]),
            model.gate_proba(X[:9]),
        )
        assert_same(again, first)

    def test_objective_climbs(self, model, grouped):
        X, y, names, _ = grouped
        model.fit(X, y, groups=names)
        assert_climbs(model.objective_trace_)
        assert model.objective_trace_[-1] > model.objective_trace_[0]

    def test_resp_are_alike_within_a_group(self, model, grouped):
        X, y, names, _ = grouped
        model.fit(X, y, groups=names)
        resp = model.responsibilities(X, y, groups=names)
        assert resp.shape == (len(y), N_EXPERTS)
        assert_allclose(resp.sum(axis=1), 1.0)
        for name in np.unique(names):
            assert np.ptp(resp[names == name], axis=0).max() == 0.0
        assert np.ptp(resp[:, 0]) > 0.5


def test_criteria_equal_the_formulas(grouped, rng):
    X, y, names, start = grouped
    model = mixture(SoftmaxGate(), init=start, max_iter=500, tol=1e-7)
    model.fit(X, y, groups=names)
    weight = rng.uniform(0.5, 2.0, size=len(y))
    group = np.unique(names, return_inverse=True)[1]
    for w in (None, weight):
        own = np.ones(len(y)) if w is None else w
        share = sums_of(np.ones(len(y)), group, own)
        mean = sums_of(X, group, own) / share[:, None]
        density = [
            norm.logpdf(y, e.predict(X), np.sqrt(float(e.dispersion)))
            for e in model.experts_
        ]
        joint = np.log(model.gate_proba(mean)) + sums_of(
            np.column_stack(density), group, own
        )
        log_lik = logsumexp(joint, axis=1)
        resp = np.exp(joint - log_lik[:, None])
        entropy = -xlogy(resp, resp).sum()
        size, n_groups = model.n_parameters_, len(share)
        beside = {"sample_weight": w, "groups": names}
        total = log_lik.sum()
        bic = size * np.log(n_groups) - 2.0 * total
        assert_allclose(model.log_likelihood(X, y, **beside), total, rtol=1e-10)
        assert_allclose(model.aic(X, y, **beside), 2.0 * size - 2.0 * total)
        assert_allclose(model.bic(X, y, **beside), bic, rtol=1e-10)
        assert_allclose(model.icl(X, y, **beside), bic + 2.0 * entropy, rtol=1e-8)
    # No weight at all is no row, of a whole group too.
    kept = names != names[0]
    kept[1::3] = False
    assert_allclose(
        model.log_likelihood(X, y, kept.astype(float), groups=names),
        model.log_likelihood(X[kept], y[kept], groups=names[kept]),
    )
    assert_allclose(
        model.bic(X, y, kept.astype(float), groups=names),
        model.bic(X[kept], y[kept], groups=names[kept]),
    )


def test_groups_find_what_rows_do_not(rng):
    # Two parallel lines that overlap: only the groups tell the regimes apart.
    group = np.repeat(np.arange(40), 8)
    regime = np.arange(40) % 2
    x = rng.normal(size=group.size)
    y = x + regime[group] + 0.8 * rng.normal(size=group.size)
    model = MixtureOfExpertsRegressor(n_experts=2, gate=ConstantGate(), random_state=0)
    model.fit(x[:, None], y, groups=group)
    resp = model.responsibilities(x[:, None], y, groups=group)
    found = resp.argmax(axis=1)
    assert max((found == regime[group]).mean(), (found != regime[group]).mean()) > 0.9


@pytest.mark.parametrize("depth", [1, 2])
def test_hierarchy_of_groups(grouped, depth):
    X, y, names, start = grouped
    labels = start.argmax(axis=1) + 2 * (depth - 1) * (X[:, 0] > 0)
    model = HierarchicalMixtureOfExpertsRegressor(
        depth=depth,
        gate=SoftmaxGate(alpha=0.1),
        init=labels,
        prune=False,
        max_iter=400,
        tol=1e-10,
    ).fit(X, y, groups=names)
    assert_climbs(model.objective_trace_)
    if depth == 1:
        flat = MixtureOfExpertsRegressor(
            None, 2, gate=SoftmaxGate(alpha=0.1), init=labels, max_iter=400, tol=1e-10
        )
        flat.fit(X, y, groups=names)
        assert_allclose(
            flat.objective_trace_[-1], model.objective_trace_[-1], rtol=1e-8
        )


def test_classifier_with_groups(grouped, rng):
    X, y, names, start = grouped
    labels = np.array(["low", "high"])[(y > 0).astype(int)]
    model = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0), 2, init=start, max_iter=200
    ).fit(X, labels, groups=names)
    assert_climbs(model.objective_trace_)
    group = np.unique(names, return_inverse=True)[1]
    mean = sums_of(X, group, np.ones(len(y))) / np.bincount(group)[:, None]
    proba = model.predict_experts(X)
    code = np.searchsorted(model.classes_, labels)
    density = np.log(proba[np.arange(len(y)), :, code])
    joint = np.log(model.gate_proba(mean)) + sums_of(density, group, np.ones(len(y)))
    total = logsumexp(joint, axis=1).sum()
    assert_allclose(model.log_likelihood(X, labels, groups=names), total)


def test_cem_and_groups_climb(grouped):
    X, y, names, start = grouped
    model = mixture(ConstantGate(), init=start, algorithm="cem", tol=1e-8)
    model.fit(X, y, groups=names)
    assert_climbs(model.objective_trace_)


def test_warm_start_with_groups_goes_on(grouped):
    X, y, names, start = grouped
    model = mixture(SoftmaxGate(), init=start, max_iter=500, tol=1e-9, warm_start=True)
    last = model.fit(X, y, groups=names).objective_trace_[-1]
    model.fit(X, y, groups=names)
    assert model.n_iter_ < 30
    assert_allclose(model.objective_trace_[-1], last, atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"algorithm": "stack"}, 'groups: algorithm="stack" fits every expert'),
    ],
)
def test_groups_that_cannot_be_had(grouped, kwargs, message):
    X, y, names, _ = grouped
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor(n_experts=2, **kwargs).fit(X, y, groups=names)


def test_trees_do_not_grow_on_groups(grouped):
    X, y, names, _ = grouped
    model = HierarchicalMixtureOfExpertsRegressor(grow="posterior")
    with pytest.raises(ValueError, match="groups: a tree cannot be grown"):
        model.fit(X, y, groups=names)


def test_groups_need_a_name_for_each_row(grouped):
    X, y, names, _ = grouped
    with pytest.raises(ValueError, match="must name the group of each of the"):
        mixture(ConstantGate()).fit(X, y, groups=names[:-1])
    model = mixture(ConstantGate(), max_iter=200, tol=1e-5).fit(X, y, groups=names)
    with pytest.raises(ValueError, match="must name the group of each of the"):
        model.log_likelihood(X, y, groups=names[:-1])
