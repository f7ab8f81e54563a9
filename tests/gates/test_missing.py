"""The Gaussian gate on rows with holes: densities, expectations, EM."""

import pickle

import numpy as np
import pytest
from scipy import integrate
from scipy.special import log_softmax
from scipy.stats import multivariate_normal
from sklearn.utils import get_tags

import skmoe.gates._missing as missing
from skmoe.gates import GaussianGate
from skmoe.gates._missing import PartialRows, embedded_inverses, observed_design
from tests._asserts import assert_climbs
from tests.gates.gate_suite import GateSuite, awkward, objective, regions

KINDS = ["diag", "full", "tied"]


class HoledGate(GaussianGate):
    """A gate that sees holes, at places that depend on the values alone."""

    def prepare(self, X, weight, n_experts):
        self._spared = self._places(X[weight > 0]).all(axis=0)
        super().prepare(self._holed(X), weight, n_experts)

    def m_step(self, X, resp, weight):
        super().m_step(self._holed(X), resp, weight)

    def log_proba(self, X):
        return super().log_proba(self._holed(X))

    def log_joint(self, X):
        return super().log_joint(self._holed(X))

    @staticmethod
    def _places(X):
        # Of the leading digits: those of single and double precision agree.
        digits = np.frexp(X)[0]
        return (np.floor(np.abs(digits) * 256.0) % 3.0) == 1.0

    def _holed(self, X):
        return np.where(self._places(X) & ~self._spared, np.nan, X)


class TestHoledFull(GateSuite):
    def make_gate(self):
        return HoledGate()


class TestHoledDiag(GateSuite):
    def make_gate(self):
        return HoledGate("diag", prior_rows=0.5)


class TestHoledTied(GateSuite):
    def make_gate(self):
        return HoledGate("tied")


class TestHoledMaximumLikelihood(GateSuite):
    def make_gate(self):
        return HoledGate(prior_rows=0, reg=1e-4)


def holed(X, rng, share=0.3):
    """Return a copy with values missing at random, never a whole column."""
    holes = rng.random(X.shape) < share
    holes[: X.shape[1] + 1] = False
    return np.where(holes, np.nan, X)


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    X, resp, weight = regions(rng, 150, n_columns=4)
    X = X @ np.diag([1e-3, 1.0, 40.0, 1.0]) + [3.0, -70.0, 1e4, 0.0]
    X[:, 3] += 0.7 * X[:, 1]
    return holed(X, rng), resp, weight


def fitted(X, resp, weight, *args, n_steps=2, **kwargs):
    gate = GaussianGate(*args, **kwargs)
    gate.prepare(X, weight, resp.shape[1])
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


# -- densities ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_integral_over_what_is_missing(kind):
    """Two columns: quadrature over the missing one, for each expert."""
    rng = np.random.default_rng(0)
    X, resp, weight = regions(rng, 80, n_columns=2)
    gate = fitted(holed(X, rng), resp, weight, kind)
    spread = 12.0 * X.std(axis=0)
    for j in (0, 1):
        rows = X[:6].copy()
        rows[:, j] = np.nan
        found = np.exp(gate.log_joint(rows))
        for row, density in zip(rows, found, strict=True):

            def joint(t, k, row=row, j=j):
                full = row.copy()
                full[j] = t
                return np.exp(gate.log_joint(full[None])[0, k])

            for k in range(3):
                ends = X[:, j].min() - spread[j], X[:, j].max() + spread[j]
                points = [gate.means_[k, j]]
                total = integrate.quad(joint, *ends, (k,), points=points, limit=200)[0]
                np.testing.assert_allclose(density[k], total, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_scipys_of_the_observed_columns(problem, kind):
    gate = fitted(*problem, kind)
    X = problem[0]
    assert np.unique(np.isnan(X), axis=0).shape[0] >= 10
    found = gate.log_joint(X)
    for row, mine in zip(X, found, strict=True):
        o = np.flatnonzero(~np.isnan(row))
        for k in range(3):
            expected = gate.log_weight_[k]
            if o.size:
                cov = gate.covariances_[k][np.ix_(o, o)]
                law = multivariate_normal(gate.means_[k, o], cov)
                expected = expected + law.logpdf(row[o])
            assert mine[k] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(gate.log_proba(X), log_softmax(found, axis=1), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_shows_nothing_has_the_weights(problem, kind):
    gate = fitted(*problem, kind)
    empty = np.full((3, 4), np.nan)
    np.testing.assert_array_equal(gate.log_joint(empty), [gate.log_weight_] * 3)
    np.testing.assert_allclose(gate.log_proba(empty), [gate.log_weight_] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_complete_rows_have_the_numbers_they_have_among_complete_rows(problem, kind):
    gate = fitted(*problem, kind)
    X = problem[0]
    whole = ~np.isnan(X).any(axis=1)
    assert 20 < whole.sum() < whole.size
    np.testing.assert_allclose(
        gate.log_joint(X)[whole], gate.log_joint(X[whole]), rtol=1e-14
    )
    np.testing.assert_allclose(
        gate.log_proba(X)[whole], gate.log_proba(X[whole]), rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize("kind", KINDS)
def test_partial_sums_of_complete_rows_are_the_plain_ones(problem, kind):
    """The path of rows with holes, on rows without any."""
    _, resp, weight = problem
    X = np.nan_to_num(problem[0], nan=1.0)
    gate = fitted(X, resp, weight, kind)
    design = gate._standard(X, slice(None))
    rows, mass = PartialRows(design[1:]), resp * weight[:, None]
    spread, mean = gate._spread, gate._mean
    np.testing.assert_allclose(
        spread.expected_sums(rows, mean, mass),
        spread.weighted_sums(design, mass),
        atol=1e-9,
    )
    log_det = np.broadcast_to(spread.log_det, 3)[:, None]
    np.testing.assert_allclose(
        spread.partial_distance(rows, mean),
        spread.distance(design[1:], mean) + log_det,
        rtol=1e-9,
    )


def test_tied_gate_keeps_its_odds_where_squares_would_swamp_them(problem):
    """Log odds are linear in what a row shows, however far away it is."""
    gate = fitted(*problem, "tied")
    row = np.array([np.nan, 1.0, 1.0, np.nan])
    step = np.arange(5.0)[:, None] * 1e9 * np.array([0.0, 1.0, 40.0, 0.0])
    log_proba = gate.log_proba(row + step)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0)
    odds = log_proba[:, 1:] - log_proba[:, :1]
    assert np.abs(np.diff(odds, n=2, axis=0)).max() <= 1e-9 * np.abs(odds).max()


@pytest.mark.parametrize("kind", KINDS)
def test_huge_values_beside_holes(problem, kind):
    gate = fitted(*problem, kind)
    far = np.array([[1e300, np.nan, 0.0, np.nan], [np.nan, 1e200, -1e200, 0.0]])
    assert np.isfinite(gate.log_joint(far)).all()
    np.testing.assert_allclose(np.exp(gate.log_proba(far)).sum(axis=1), 1.0)


# -- the M-step --------------------------------------------------------------------


def em_by_hand(gate, X, resp, weight, kind, floor=1e-6):
    """One step of Ghahramani & Jordan, row by row, in standardised columns."""
    center, scale = gate._design.center, gate._design.inverse_scale
    Z, (n, p), K = (X - center) * scale, X.shape, resp.shape[1]
    means = (gate.means_ - center) * scale
    covs = gate.covariances_ * scale[:, None] * scale
    total, first = np.zeros(K), np.zeros((K, p))
    second = np.zeros((K, p, p))
    for i in range(n):
        m, o = np.isnan(Z[i]), ~np.isnan(Z[i])
        for k in range(K):
            z, C = Z[i].copy(), np.zeros((p, p))
            slope = covs[k][np.ix_(m, o)] @ np.linalg.pinv(covs[k][np.ix_(o, o)])
            z[m] = means[k, m] + slope @ (z[o] - means[k, o])
            C[np.ix_(m, m)] = covs[k][np.ix_(m, m)] - slope @ covs[k][np.ix_(o, m)]
            share = weight[i] * resp[i, k]
            total[k] += share
            first[k] += share * z
            second[k] += share * (np.outer(z, z) + C)
    mean = first / total[:, None]
    scatter = second - total[:, None, None] * mean[:, :, None] * mean[:, None]
    prior = gate._spread.prior
    if kind == "tied":
        scatter, total = scatter.sum(0, keepdims=True), total.sum(keepdims=True)
    scatter = scatter + prior.rows * prior.scale * np.eye(p)
    cov = scatter / (total + prior.rows)[:, None, None]
    cov = cov * np.eye(p) if kind == "diag" else cov
    return mean, np.broadcast_to(cov, (K, p, p))


@pytest.mark.parametrize("prior_rows", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_m_step_is_that_of_ghahramani_and_jordan(problem, kind, prior_rows):
    gate = fitted(*problem, kind, prior_rows=prior_rows)
    for _ in range(3):
        mean, cov = em_by_hand(gate, *problem, kind)
        gate.m_step(*problem)
        np.testing.assert_allclose(gate._mean, mean, atol=1e-9)
        np.testing.assert_allclose(gate._spread.matrices(3), cov, atol=1e-9)


@pytest.mark.parametrize("prior_rows", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_em_climbs_the_observed_likelihood(kind, prior_rows, seed):
    """The objective of the mixture: posteriors, then an M-step, and so on."""
    rng = np.random.default_rng(seed)
    X, resp, weight = regions(rng, 120, 3)
    X = holed(X, rng, 0.1 + 0.1 * seed)
    gate = fitted(X, resp, weight, kind, prior_rows=prior_rows, n_steps=0)
    gate.m_step(X, rng.dirichlet(np.ones(3), size=120), weight)
    values = []
    for _ in range(40):
        log_joint = gate.log_joint(X)
        values.append(weight @ np.logaddexp.reduce(log_joint, axis=1) + gate.penalty)
        gate.m_step(X, np.exp(log_softmax(log_joint, axis=1)), weight)
    assert_climbs(values, 1e-11)
    assert values[-1] > values[0] + 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(15))
def test_fixed_responsibilities_climb_too(kind, seed):
    """Also where columns are dull or double and experts have hardly a row."""
    X, resp, weight = awkward(seed)
    X = holed(X, np.random.default_rng(seed), 0.4)
    weight[: X.shape[1] + 1] = 1.0
    gate = fitted(X, resp, weight, kind, n_steps=1)
    values = [objective(gate, X, resp, weight)]
    for _ in range(6):
        gate.m_step(X, resp, weight)
        values.append(objective(gate, X, resp, weight))
    assert_climbs(values, 1e-10)


def test_steps_converge_to_a_maximum(problem):
    gate = fitted(*problem, n_steps=400)
    best, parameters = objective(gate, *problem), gate.parameters
    rng = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 0.3):
        for _ in range(8):
            gate.parameters = parameters + size * rng.normal(size=parameters.size)
            assert objective(gate, *problem) < best


def test_monotone_pattern_has_a_closed_form():
    """Anderson (1957): x2 missing for some rows; regress it on x1 for the others."""
    rng = np.random.default_rng(3)
    x1 = rng.normal(size=400)
    x2 = 1.0 + 2.0 * x1 + 0.5 * rng.normal(size=400)
    weight = rng.uniform(0.5, 2.0, size=400)
    gone = x1 > 0.3  # at random given x1: dropping these rows would be wrong
    X = np.column_stack([x1, np.where(gone, np.nan, x2)])
    gate = fitted(X, np.ones((400, 1)), weight, prior_rows=0, n_steps=3000)
    m1 = np.average(x1, weights=weight)
    s11 = np.average((x1 - m1) ** 2, weights=weight)
    kept = weight * ~gone
    slope, level = np.polyfit(x1, x2, 1, w=np.sqrt(kept))
    noise = np.average((x2 - level - slope * x1) ** 2, weights=kept)
    mean = [m1, level + slope * m1]
    cov = [[s11, slope * s11], [slope * s11, noise + slope**2 * s11]]
    np.testing.assert_allclose(gate.means_[0], mean, rtol=1e-6)
    np.testing.assert_allclose(gate.covariances_[0], cov, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_show_nothing_change_only_the_pace(kind):
    """They are worth nothing for means and covariances once EM has converged."""
    rng = np.random.default_rng(4)
    X, resp, weight = regions(rng, 100, 2)
    X = holed(X, rng, 0.2)
    more = np.vstack([X, np.full((20, 2), np.nan)])
    resp2 = np.vstack([resp, np.full((20, 3), 1 / 3)])
    one = fitted(X, resp, weight, kind, prior_rows=0, n_steps=400)
    two = fitted(more, resp2, np.r_[weight, np.ones(20)], kind, prior_rows=0)
    for _ in range(400):
        two.m_step(more, resp2, np.r_[weight, np.ones(20)])
    np.testing.assert_allclose(two.means_, one.means_, atol=1e-6)
    np.testing.assert_allclose(two.covariances_, one.covariances_, atol=1e-6)


def test_integrating_out_beats_filling_in():
    """Held-out log density of complete rows, with a third of the values missing."""
    rng = np.random.default_rng(7)
    X, resp, weight = regions(rng, 1200, 4)
    X = X @ rng.normal(size=(4, 4))
    train = holed(X[:600], rng, 0.35)
    filled = np.where(np.isnan(train), np.nanmean(train, axis=0), train)
    gates = [fitted(T, resp[:600], weight[:600], n_steps=50) for T in (train, filled)]
    scores = [np.logaddexp.reduce(g.log_joint(X[600:]), axis=1).mean() for g in gates]
    assert scores[0] > scores[1] + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_rows_do_not_change_the_answer(problem, kind, monkeypatch):
    whole = fitted(*problem, kind)
    monkeypatch.setattr(missing, "CHUNK_FLOATS", 1)
    parts = fitted(*problem, kind)
    assert len(list(PartialRows(problem[0].T).chunks())) > 3
    np.testing.assert_allclose(parts.parameters, whole.parameters, atol=1e-9)
    X = problem[0]
    np.testing.assert_allclose(parts.log_joint(X), whole.log_joint(X), rtol=1e-9)


def test_many_rows_and_columns():
    rng = np.random.default_rng(8)
    X, resp, weight = regions(rng, 5000, 12)
    X = holed(X, rng, 0.25)
    gate = fitted(X, resp, weight)
    joint = gate.log_joint(X)
    np.testing.assert_allclose(joint[3990:4010], gate.log_joint(X[3990:4010]))
    assert np.isfinite(joint).all()


# -- scales and columns ------------------------------------------------------------


def test_scales_are_those_of_the_observed_values(problem):
    X, _, weight = problem
    weight = weight.copy()
    weight[60:80] = 0.0
    design = observed_design(X, weight)
    for j, column in enumerate(X.T):
        seen = ~np.isnan(column)
        mean = np.average(column[seen], weights=weight[seen])
        var = np.average((column[seen] - mean) ** 2, weights=weight[seen])
        assert design.center[j] == pytest.approx(mean, rel=1e-12)
        assert design.inverse_scale[j] == pytest.approx(var**-0.5, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns_with_holes_are_left_out(problem, kind):
    X, resp, weight = problem
    dull = np.where(np.arange(150) % 3, 7.0, np.nan)
    wide = np.column_stack([dull, X])
    gate, bare = fitted(wide, resp, weight, kind), fitted(*problem, kind)
    np.testing.assert_allclose(gate.log_joint(wide), bare.log_joint(X), rtol=1e-12)
    np.testing.assert_allclose(gate.means_[:, 0], 7.0)
    assert gate.n_parameters == bare.n_parameters


def test_a_column_that_is_missing_everywhere(problem):
    X, resp, weight = problem
    X = X.copy()
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"column 2 .* is missing in every row"):
        fitted(X, resp, weight)
    X[:5, 2] = 1.0
    weight[:5] = 0.0
    with pytest.raises(ValueError, match=r"column 2 .* leave it out"):
        fitted(X, resp, weight)
    # Where it was seen in training it may be missing from all new rows.
    weight[:5] = 1.0
    assert np.isfinite(fitted(X, resp, weight).log_proba(X[5:])).all()


def test_the_tag_says_so(problem):
    assert get_tags(GaussianGate()).input_tags.allow_nan
    assert not get_tags(GaussianGate()).input_tags.sparse


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_and_vector(problem, kind):
    X, resp, weight = problem
    gate = fitted(*problem, kind)
    again = pickle.loads(pickle.dumps(gate))
    np.testing.assert_array_equal(again.log_joint(X), gate.log_joint(X))
    again.m_step(X, np.roll(resp, 1, axis=1), weight)
    again.parameters = gate.parameters
    np.testing.assert_allclose(again.log_joint(X), gate.log_joint(X), atol=1e-7)


# -- inverses ----------------------------------------------------------------------


def test_inverses_of_the_observed_parts():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(5, 5)) * [1e-4, 1.0, 30.0, 1.0, 1e3]
    matrix = root.T @ root
    patterns = np.array([[bool(i >> j & 1) for j in range(5)] for i in range(32)])
    inverse, log_det = embedded_inverses(matrix, patterns)
    for pattern, found, value in zip(patterns, inverse, log_det, strict=True):
        o = np.flatnonzero(pattern)
        part = matrix[np.ix_(o, o)]
        exact = np.linalg.inv(part)
        np.testing.assert_allclose(found[np.ix_(o, o)], exact, rtol=1e-6)
        assert np.count_nonzero(found) == o.size**2
        assert value == pytest.approx(np.linalg.slogdet(part)[1], abs=1e-7)


def test_a_singular_covariance_still_has_an_inverse():
    matrix = np.ones((3, 3)) + 1e-17 * np.eye(3)
    inverse, log_det = embedded_inverses(matrix, np.ones((1, 3), dtype=bool))
    assert np.isfinite(inverse).all()
    assert np.isfinite(log_det).all()


def test_patterns_of_a_part():
    z = np.array([[1.0, np.nan, 2.0, np.nan], [np.nan, 3.0, np.nan, 4.0]])
    rows = PartialRows(z)
    ((part, patterns, pattern_of),) = rows.chunks()
    assert part == slice(0, 4)
    assert patterns.shape == (2, 2)
    np.testing.assert_array_equal(patterns[pattern_of].T, rows.observed)
    np.testing.assert_array_equal(rows.z, [[1, 0, 2, 0], [0, 3, 0, 4]])
    np.testing.assert_array_equal(
        rows.error(np.array([1.0, 1.0])), [[0, 0, 1, 0], [0, 2, 0, 3]]
    )
