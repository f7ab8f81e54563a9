"""Rows without a response, against EM written by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.em._units import UnitProblem, Units
from skmoe.experts import LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate
from tests._asserts import assert_climbs
from tests.em.by_hand import (
    PASSES,
    assert_same,
    fits_of,
    hand_experts,
    mixture,
    plain,
)

# -- rows without a response -----------------------------------------------------


@pytest.fixture
def halves(rng):
    """Return X, y and which rows have a response: two clusters with lines."""
    regime = rng.integers(0, 2, size=160)
    X = rng.normal(size=(160, 2)) + 1.5 * regime[:, None]
    y = np.where(regime == 0, X[:, 0], 2.0 - X[:, 0]) + 0.3 * rng.normal(size=160)
    return X, y, rng.random(160) < 0.4


def generative(start, **kwargs):
    gate = GaussianGate(prior_rows=0, reg=1e-12)
    return mixture(gate, init=start, **kwargs)


def hand_generative(X, y, labelled, start, weight, passes=PASSES):
    """Return log-likelihoods of EM for a Gaussian gate with unlabelled rows."""
    resp, trace = start, []
    for _ in range(passes):
        mass = weight[:, None] * resp
        density = np.zeros_like(resp)
        density[labelled] = hand_experts(X[labelled], y[labelled], mass[labelled])
        joint = density
        for k in range(resp.shape[1]):
            w = mass[:, k]
            mean = w @ X / w.sum()
            cov = (X - mean).T @ (w[:, None] * (X - mean)) / w.sum()
            share = w.sum() / weight.sum()
            joint[:, k] += np.log(share) + multivariate_normal(mean, cov).logpdf(X)
        log_lik = logsumexp(joint, axis=1)
        trace.append(weight @ log_lik)
        resp = np.exp(joint - log_lik[:, None])
    return np.array(trace)


def masked(y, labelled, mark=np.nan):
    return np.where(labelled, y, mark)


@pytest.mark.parametrize("weighted", [False, True])
def test_unlabelled_em_equals_em_by_hand(halves, rng, weighted):
    X, y, labelled = halves
    start = rng.dirichlet(np.ones(2), size=len(y))
    weight = rng.uniform(0.3, 2.0, size=len(y)) if weighted else np.ones(len(y))
    model = generative(start)
    with pytest.warns(match="did not converge"):
        model.fit(X, masked(y, labelled), weight)
    trace = hand_generative(X, y, labelled, start, weight)
    assert_allclose(model.objective_trace_, trace, rtol=1e-9)
    assert_climbs(model.objective_trace_)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_unlabelled_rows_move_the_gate_alone(halves, rng):
    X, y, labelled = halves
    start = rng.dirichlet(np.ones(2), size=len(y))
    both = generative(start).fit(X, masked(y, labelled))
    alone = generative(start[labelled]).fit(X[labelled], y[labelled])
    assert abs(both.gate_.means_ - alone.gate_.means_).max() > 1e-3
    # The experts see the labelled rows alone: at the responsibilities of all.
    resp = both.responsibilities(X[labelled], y[labelled])
    for k, expert in enumerate(both.experts_):
        again = plain().fit(X[labelled], y[labelled], resp[:, k])
        assert_allclose(again.coef_, expert.coef_, atol=0.05)


@pytest.mark.filterwarnings("ignore:EM did not converge")
class TestUnlabelled:
    def test_what_stands_for_a_response_is_nothing(self, halves, rng):
        X, y, labelled = halves
        start = rng.dirichlet(np.ones(2), size=len(y))
        fits = [
            fits_of(generative(start, unlabelled=mark), X, masked(y, labelled, mark))
            for mark in (np.nan, -99.0, 1e6)
        ]
        assert_same(fits[1], fits[0], tol=1e-12)
        assert_same(fits[2], fits[0], tol=1e-12)

    def test_placeholder_inside_the_engine_is_nothing(self, halves, rng):
        X, y, labelled = halves
        values = []
        for filler in (0.0, 37.0):
            node = mixture(GaussianGate())
            units = Units(labelled=labelled)
            problem = make_problem(node, X, masked(y, labelled, filler), units)
            problem.start(
                np.full((2, len(y)), 0.5) + 0.1 * np.sign(X[:, 0]) * [[1], [-1]]
            )
            for _ in range(5):
                value = problem.e_step() + problem.penalty
                problem.m_step()
            values.append(value)
        assert values[0] == values[1]

    def test_no_unlabelled_row_is_the_plain_fit(self, halves, rng):
        X, y, _ = halves
        start = rng.dirichlet(np.ones(2), size=len(y))
        plain_fit = fits_of(generative(start), X, y)
        assert_same(
            fits_of(generative(start, unlabelled=-99.0), X, y), plain_fit, 1e-12
        )
        # As units without gaps, which go through the other problem.
        trivial = fits_of(generative(start), X, y, groups=np.arange(len(y)))
        assert_same(trivial, plain_fit)

    def test_weight_zero_and_repetition(self, halves, rng):
        X, y, labelled = halves
        y = masked(y, labelled)
        start = rng.dirichlet(np.ones(2), size=len(y))
        count = rng.integers(0, 3, size=len(y))
        weighted = fits_of(generative(start), X, y, count.astype(float))
        many = [np.repeat(part, count, axis=0) for part in (X, y, start)]
        model = generative(many[2]).fit(many[0], many[1])
        assert_same(
            weighted,
            (model.objective_trace_[-1], model.predict(X[:9]), model.gate_proba(X[:9])),
        )

    def test_with_groups(self, halves, rng):
        X, y, labelled = halves
        names = np.repeat(np.arange(80), 2)
        start = np.repeat(rng.dirichlet(np.ones(2), size=80), 2, axis=0)
        model = generative(start).fit(X, masked(y, labelled), groups=names)
        assert_climbs(model.objective_trace_)
        # A group without any response: the gate's word alone.
        resp, mean = start[::2], 0.5 * (X[::2] + X[1::2])
        for _ in range(PASSES):
            rows = np.repeat(resp, 2, axis=0)
            density = np.zeros((len(y), 2))
            density[labelled] = hand_experts(X[labelled], y[labelled], rows[labelled])
            joint = density[::2] + density[1::2]
            for k in range(2):
                w = resp[:, k]
                centre = w @ mean / w.sum()
                cov = (mean - centre).T @ (w[:, None] * (mean - centre)) / w.sum()
                joint[:, k] += np.log(w.mean())
                joint[:, k] += multivariate_normal(centre, cov).logpdf(mean)
            log_lik = logsumexp(joint, axis=1)
            resp = np.exp(joint - log_lik[:, None])
        assert_allclose(model.objective_trace_[-1], log_lik.sum(), rtol=1e-9)

    def test_default_starts_and_tree(self, halves):
        X, y, labelled = halves
        y = masked(y, labelled)
        for model in (
            MixtureOfExpertsRegressor(
                n_experts=2, gate=GaussianGate(), random_state=0, max_iter=20, n_init=3
            ),
            HierarchicalMixtureOfExpertsRegressor(
                depth=1, gate=GaussianGate(), random_state=0, max_iter=20
            ),
        ):
            model.fit(X, y)
            assert_climbs(model.objective_trace_)
            assert np.isfinite(model.predict(X)).all()

    def test_several_outputs(self, halves, rng):
        X, y, labelled = halves
        Y = np.column_stack([masked(y, labelled), rng.normal(size=len(y))])
        other = Y.copy()
        other[~labelled, 1] = np.nan  # one gap makes a row one without response
        start = rng.dirichlet(np.ones(2), size=len(y))
        assert_same(
            fits_of(generative(start), X, Y), fits_of(generative(start), X, other)
        )


def make_problem(model, X, y, units):
    from skmoe.em._node import Node

    experts = [("a", plain()), ("b", plain())]
    node = Node(model.gate, experts, [None, None])
    node.units = units
    return UnitProblem(node, X, y, np.ones(len(y)), units)


MARKS = {
    "-1": (-1, lambda codes, mask: np.where(mask, codes, -1)),
    "NaN": (None, lambda codes, mask: np.where(mask, codes, np.nan)),
    "None": (
        None,
        lambda codes, mask: np.where(mask, codes.astype(object), None),
    ),
    "NaN among strings": (
        None,
        lambda codes, mask: np.where(mask, NAMES[codes].astype(object), np.nan),
    ),
    "None among strings": (
        None,
        lambda codes, mask: np.where(mask, NAMES[codes].astype(object), None),
    ),
    "a string": ("?", lambda codes, mask: np.where(mask, NAMES[codes], "?")),
}
NAMES = np.array(["no", "yes"])


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("frame", [False, True])
def test_marks_of_a_classifier(halves, mark, frame):
    import pandas as pd

    X, y, labelled = halves
    codes = (y > 1.0).astype(int)
    unlabelled, make = MARKS[mark]
    target = make(codes, labelled)
    wanted = [0, 1] if target.dtype.kind in "if" or mark == "None" else list(NAMES)
    if frame:
        X, target = pd.DataFrame(X, columns=["a", "b"]), pd.Series(target)
    model = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0),
        2,
        gate=GaussianGate(),
        init="kmeans",
        unlabelled=unlabelled,
        max_iter=100,
    ).fit(X, target)
    assert list(model.classes_) == wanted
    assert_climbs(model.objective_trace_)
    assert set(np.unique(model.predict(X))) <= set(wanted)
    reference = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0),
        2,
        gate=GaussianGate(),
        init="kmeans",
        unlabelled=-1,
        max_iter=100,
    ).fit(X, np.where(labelled, codes, -1))
    assert_allclose(model.predict_proba(X), reference.predict_proba(X), atol=1e-10)


def test_nullable_labels(halves):
    import pandas as pd

    X, y, labelled = halves
    target = pd.Series((y > 1.0).astype(int)).astype("Int64")
    target[~labelled] = pd.NA
    model = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0), 2, gate=GaussianGate(), init="kmeans"
    ).fit(X, target)
    assert list(model.classes_) == [0, 1]


def test_unlabelled_hierarchical_classifier(halves):
    X, y, labelled = halves
    target = np.where(labelled, (y > 1.0).astype(int), -1)
    model = HierarchicalMixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0),
        depth=1,
        gate=GaussianGate(),
        unlabelled=-1,
        init="kmeans",
        max_iter=100,
    ).fit(X, target)
    assert list(model.classes_) == [0, 1]
    assert_climbs(model.objective_trace_)


def test_ridge_is_chosen_on_labelled_rows(halves):
    X, y, labelled = halves
    target = np.where(labelled, (y > 1.0).astype(int), -1)
    model = MixtureOfExpertsClassifier(
        n_experts=2, gate=GaussianGate(), unlabelled=-1, init="kmeans"
    ).fit(X, target)
    assert model.score(X[labelled], target[labelled]) > 0.6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MixtureOfExpertsRegressor(n_experts=2), "set gate=GaussianGate"),
        (
            MixtureOfExpertsRegressor(n_experts=2, gate=ConstantGate()),
            r"first in row 0.* can only train a gate that models x",
        ),
        (
            MixtureOfExpertsRegressor(
                n_experts=2, gate=GaussianGate(), algorithm="stack"
            ),
            'rows without a response: algorithm="stack"',
        ),
        (
            HierarchicalMixtureOfExpertsRegressor(
                gate=GaussianGate(), grow="posterior"
            ),
            "rows without a response: a tree cannot be grown",
        ),
    ],
)
def test_unlabelled_rows_that_cannot_be_used(halves, model, message):
    X, y, _ = halves
    y[0] = np.nan
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


def test_no_response_at_all(halves):
    X, y, labelled = halves
    model = mixture(GaussianGate())
    with pytest.raises(ValueError, match="no row of y has a response"):
        model.fit(X, np.full(len(y), np.nan))
    # Those of weight zero do not count.
    with pytest.raises(ValueError, match="no row of y has a response"):
        model.fit(X, masked(y, labelled), (~labelled).astype(float))
    with pytest.raises(ValueError, match="at least two classes, got one class: 1"):
        MixtureOfExpertsClassifier(n_experts=2, gate=GaussianGate(), unlabelled=-1).fit(
            X, np.where(labelled, 1, -1)
        )
