"""Linear and logistic experts on rows of any array library, alone."""

import numpy as np
import pytest

from skmoe._xp import to_numpy
from skmoe.experts import LinearExpert, LogisticExpert
from tests._libraries import LIBRARIES, assert_same, no_long_trips, small_blocks

N_ROWS = 700
# name: (make an expert, response, n_classes)
EXPERTS = {
    "linear": (LinearExpert, "one", None),
    "likelihood": (lambda: LinearExpert(alpha=0, variance_prior=None), "one", None),
    "no intercept": (lambda: LinearExpert(fit_intercept=False), "one", None),
    "full": (LinearExpert, "two", None),
    "diag": (lambda: LinearExpert(covariance="diag"), "two", None),
    "binary": (lambda: LogisticExpert(0.5), "classes", 2),
    "logistic": (LogisticExpert, "classes", 3),
}


@pytest.fixture
def rng():
    return np.random.default_rng(12)


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


@pytest.fixture
def rows(rng):
    """Return X, responses by name, weights of all rows and those of an expert."""
    X = rng.normal(size=(N_ROWS, 3)) * [1.0, 1e3, 1e-2] + [0.0, 5e3, 1.0]
    Y = np.column_stack([np.sin(2.0 * X[:, 0]), 1e-3 * X[:, 1] - X[:, 0]])
    Y += 0.2 * rng.normal(size=Y.shape)
    weight = rng.uniform(0.2, 2.0, N_ROWS)
    weight[::9] = 0.0
    return X, {"one": Y[:, 0], "two": Y}, weight, weight * rng.random(N_ROWS)


def problem(name, rows):
    """Return an expert, X, y, n_classes, weights of all rows and its own."""
    make, response, n_classes = EXPERTS[name]
    X, responses, weight, own = rows
    if n_classes:
        y = (responses["two"][:, 1] > 5.0).astype(np.int64)
        y += (n_classes > 2) & (responses["one"] > 0.3)
    else:
        y = responses[response]
    return make(), X, y, n_classes, weight, own


def fitted(expert, X, y, n_classes, weight, own):
    """Return the expert after some M-steps under its own weights."""
    expert.prepare(X, y, weight, n_classes)
    for _ in range(3):
        expert.m_step(X, y, own)
    return expert


def moved(to, expert, X, y, n_classes, weight, own):
    """Return the same problem with the rows elsewhere."""
    return expert, to(X), to(y), n_classes, to(weight), to(own)


@pytest.mark.parametrize("name", EXPERTS)
def test_same_expert_from_any_rows(name, rows, to, monkeypatch):
    small_blocks(monkeypatch)
    case = problem(name, rows)
    theirs = fitted(*case)
    ours = fitted(*moved(to, *problem(name, rows)))
    X, y = case[1:3]
    np.testing.assert_allclose(
        ours.parameters, theirs.parameters, rtol=1e-10, atol=1e-10
    )
    for attribute in ("coef_", "intercept_", "dispersion", "penalty"):
        expected = getattr(theirs, attribute)
        assert type(getattr(ours, attribute)) is type(expected)
        if expected is not None:
            np.testing.assert_allclose(getattr(ours, attribute), expected, rtol=1e-9)
    assert_same(ours.predict_params(to(X)), theirs.predict_params(X), to)
    assert_same(ours.log_prob(to(X), to(y)), theirs.log_prob(X, y), to)
    # Parameters are NumPy's: the expert serves any rows.
    np.testing.assert_allclose(ours.log_prob(X, y), theirs.log_prob(X, y), atol=1e-9)


@pytest.mark.parametrize("name", EXPERTS)
def test_float32_rows_lose_nothing(name, rows, to):
    expert, X, y, n_classes, weight, own = problem(name, rows)
    short = X.astype(np.float32)
    if n_classes is None:
        y = y.astype(np.float32)
    theirs = fitted(expert, short.astype(float), y + 0 * y, n_classes, weight, own)
    case = (problem(name, rows)[0], short, y, n_classes, weight, own)
    ours = fitted(*moved(to, *case))
    exact = y.astype(float) if n_classes is None else y
    expected = theirs.log_prob(short.astype(float), exact)
    assert_same(ours.log_prob(to(short), to(y)), expected, to)


@pytest.mark.parametrize("name", EXPERTS)
def test_rows_never_pass_through_numpy(name, rows, monkeypatch):
    case = moved(LIBRARIES["elsewhere"], *problem(name, rows))
    with no_long_trips(monkeypatch, N_ROWS):
        expert = fitted(*case)
        expert.log_prob(*case[1:3])


@pytest.mark.parametrize("name", EXPERTS)
def test_marked_and_started_alike(name, rows, to):
    case = problem(name, rows)
    expert = fitted(*case)
    assert expert.array_api
    if case[3] is None:
        target = expert.start_target(case[1], case[2])
        found = expert.start_target(to(case[1]), to(case[2]))
        np.testing.assert_array_equal(to_numpy(found), target)
