"""The whole predictive law: for every family and mixed lists, and from estimators."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, ndtr
from sklearn import config_context

from skmoe import (
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.distribution import MixtureDistribution
from skmoe.experts import PoissonExpert
from skmoe.law._intervals import IntervalUnion
from skmoe.law._outline import expert_points, support_ends
from skmoe.law._quantiles import Parts
from skmoe.likelihoods import Categorical, Gaussian
from tests.law.laws import COUNTS, MIXED, N_ROWS, SMOOTH, build

LEVELS = np.array([0.02, 0.3, 0.5, 0.9])


def make_law(name, rng):
    gate, parts, _ = build(name, rng)
    with np.errstate(divide="ignore"):
        return MixtureDistribution(np.log(gate), *map(list, zip(*parts, strict=True)))


def row_of(law, i, n_points):
    """Return the law of one row, n_points times."""
    params = [np.repeat(p[[i]], n_points, axis=0) for p in law.params]
    log_gate = np.repeat(law.log_gate[[i]], n_points, axis=0)
    return MixtureDistribution(log_gate, params, law.dispersions, law.likelihoods)


@pytest.mark.parametrize("name", SMOOTH)
def test_density_integrates_to_one(name, rng):
    law = make_law(name, rng)
    gate, parts = law.gate, list(law._parts())
    # All quantiles, of the law and of each expert.
    cuts = [law.quantile(ndtr(np.linspace(-6, 6, 121)))]
    cuts += [*expert_points(Parts(gate, parts)), support_ends(Parts(gate, parts))]
    cuts = np.hstack(cuts)
    for i in (0, N_ROWS - 1):
        at = np.unique(cuts[i][np.isfinite(cuts[i])])
        node, weight = np.polynomial.legendre.leggauss(20)
        width = np.diff(at)[:, None]
        y = (at[:-1, None] + 0.5 * width * (1 + node)).ravel()
        density = np.exp(row_of(law, i, y.size).log_prob(y))
        total = (0.5 * width * weight).ravel() @ density
        assert_allclose(total, 1.0, atol=2e-5)


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities_sum_to_one_and_to_the_cdf(name, rng):
    law = make_law(name, rng)
    counts = np.arange(1500.0)
    for i in range(N_ROWS):
        one = row_of(law, i, counts.size)
        mass = np.exp(one.log_prob(counts))
        assert_allclose(mass.sum(), 1.0)
        assert_allclose(mass.cumsum(), one.cdf(counts), atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_cdf_has_the_density_as_its_slope(name, rng):
    law = make_law(name, rng)
    for q in LEVELS:
        y = law.quantile(q)
        step = 1e-6 * np.maximum(law.quantile(q + 0.01) - y, 1e-9)
        slope = (law.cdf(y + step) - law.cdf(y - step)) / (2 * step)
        density = np.exp(law.log_prob(y))
        # Beside an edge or a spike the slope changes within a step.
        assert np.mean(np.abs(slope / density - 1) < 1e-3) > 0.9


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS, *MIXED])
def test_quantile_inverts_the_cdf(name, rng):
    law = make_law(name, rng)
    table = law.quantile(LEVELS)
    for q, y in zip(LEVELS, table.T, strict=True):
        step = 1e-9 * (1 + np.abs(y))
        assert (law.cdf(y + step) >= q - 1e-9).all()
        assert (law.cdf(y - step) <= q + 1e-6).all()
        if name in SMOOTH:
            assert_allclose(law.cdf(y), q, rtol=1e-9)


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS, *MIXED])
def test_draws_have_cdf_intervals_and_density_levels(name, rng):
    law, n = make_law(name, rng), 1500
    draws = law.sample(n, random_state=1)
    error = 4.5 / np.sqrt(n)
    for y in law.quantile([0.2, 0.6]).T:
        y = np.where(y == np.round(y), y, y + 1e-12)
        assert_allclose((draws <= y).mean(axis=0), law.cdf(y), atol=error)
    for level in (0.5, 0.9):
        central = law.interval(level)
        region = law.interval(level, method="highest-density")
        inside = (draws >= central[:, 0]) & (draws <= central[:, 1])
        covered = np.array([region.contains(y) for y in draws])
        for hit in (inside, covered):
            assert (hit.mean(axis=0) >= level - error).all()
            if name in SMOOTH:
                assert (hit.mean(axis=0) <= level + error).all()
        if name in SMOOTH:
            length = central[:, 1] - central[:, 0]
            assert (region.length() <= length * (1 + 1e-5)).all()
        found = law.density_level(draws[0])
        assert_array_equal(found < level, covered[0])


def test_central_interval_is_two_quantiles(rng):
    law = make_law("normal", rng)
    found = law.interval()
    assert found.shape == (N_ROWS, 2)
    assert_allclose(found, law.quantile([0.05, 0.95]))
    assert_allclose(law.interval(0.5, method="central"), law.quantile([0.25, 0.75]))


def test_mode_has_density_level_zero(rng):
    for name in ("normal", "rows", "poisson", "zero-inflated"):
        law = make_law(name, rng)
        assert_allclose(law.density_level(law.mode), 0.0, atol=2e-5)
        region = law.interval(0.02, method="highest-density")
        assert region.contains(law.mode).all()


def test_one_column_is_one_output(rng):
    single = make_law("normal", rng)
    column = MixtureDistribution(
        single.log_gate,
        [p[:, None] for p in single.params],
        [np.array([[d]]) for d in single.dispersions],
        single.likelihoods,
    )
    y = rng.normal(size=N_ROWS)
    assert_allclose(column.crps(y[:, None]), single.crps(y))
    assert_allclose(column.density_level(y[:, None]), single.density_level(y))
    assert_allclose(column.interval(0.8), single.interval(0.8))
    regions = [law.interval(0.8, method="highest-density") for law in (column, single)]
    assert_allclose(regions[0].lower, regions[1].lower)


# -- classes and errors ----------------------------------------------------------------


@pytest.fixture
def classes(rng):
    logit = rng.normal(size=(2, 6, 4))
    params = list(logit - logsumexp(logit, axis=2, keepdims=True))
    log_gate = np.log(np.tile([0.4, 0.6], (6, 1)))
    return MixtureDistribution(log_gate, params, [None] * 2, [Categorical()] * 2)


def test_class_sets_are_the_smallest_that_reach_the_level(classes):
    proba = classes.mean
    for level in (0.1, 0.5, 0.9, 0.999):
        found = classes.class_set(level)
        assert found.dtype == bool
        for i in range(6):
            ranked = np.sort(proba[i])[::-1].cumsum()
            fewest = int(np.searchsorted(ranked, level)) + 1
            assert found[i].sum() == fewest
            assert proba[i][found[i]].sum() >= level
            assert proba[i][found[i]].min() >= proba[i][~found[i]].max(initial=0)
    assert_array_equal(classes.class_set(), classes.class_set(0.9))


def test_class_sets_break_ties_by_code():
    half = np.log(np.tile([0.25, 0.25, 0.5], (1, 1)))
    law = MixtureDistribution(np.zeros((1, 1)), [half], [None], [Categorical()])
    assert_array_equal(law.class_set(0.6), [[True, False, True]])


def test_density_levels_of_classes(classes):
    proba = classes.mean
    for code in range(4):
        found = classes.density_level(np.full(6, code))
        own = proba[:, [code]]
        expected = np.where(proba > own, proba, 0).sum(axis=1)
        assert_allclose(found, expected, atol=1e-12)
        assert_array_equal(found < 0.7, classes.class_set(0.7)[:, code])


def test_errors_of_classes(classes, rng):
    for method in ("central", "highest-density"):
        with pytest.raises(
            ValueError, match=r"interval is for numbers; of classes, see class_set\("
        ):
            classes.interval(method=method)
    with pytest.raises(ValueError, match="crps is for numbers; of classes, see log_pr"):
        classes.crps(np.zeros(6, dtype=int))
    with pytest.raises(ValueError, match=r"class_set is for classes; of numbers int"):
        make_law("normal", rng).class_set(0.5)


def test_errors_of_levels(classes, rng):
    law = make_law("normal", rng)
    for bad in (0, 1, -0.1, 1.5, np.nan, "0.9", [0.5, 0.9], None, True):
        for call in (law.interval, classes.class_set):
            with pytest.raises(ValueError, match=r"one number in \(0, 1\), got"):
                call(bad)
    with pytest.raises(ValueError, match=r'"highest-density", got .hdr'):
        law.interval(0.9, method="hdr")


def test_errors_of_shapes(rng):
    law = make_law("normal", rng)
    mean = rng.normal(size=(5, 2))
    several = MixtureDistribution(np.zeros((5, 1)), [mean], [1.0], [Gaussian()])
    y = np.zeros((5, 2))
    for name, arguments in (("interval", ()), ("crps", (y,)), ("density_level", (y,))):
        with pytest.raises(ValueError, match=f"{name} needs a single output, got 2"):
            getattr(several, name)(*arguments)
    for name in ("crps", "density_level"):
        with pytest.raises(ValueError, match=r"of shape \(12,\), got \(3,\)"):
            getattr(law, name)(np.zeros(3))


# -- estimators ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(150, 1))
    y = np.where(rng.random(150) < 0.5, 1, -1) * X[:, 0] + 0.2 * rng.normal(size=150)
    return X, y


ESTIMATORS = {
    "flat": MixtureOfExpertsRegressor(
        n_experts=2, init="segments", tol=1e-4, random_state=0
    ),
    "tree": HierarchicalMixtureOfExpertsRegressor(
        depth=1, tol=1e-4, max_iter=20, random_state=0
    ),
    "forest": HierarchicalMixtureForestRegressor(
        3, depth=1, max_iter=3, random_state=0
    ),
}


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request, rows):
    estimator = ESTIMATORS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*rows)


def test_estimators_predict_quantiles_and_intervals(fitted, rows):
    X = rows[0][:40]
    law = fitted.predict_distribution(X)
    assert_array_equal(fitted.predict_quantile(X, 0.3), law.quantile(0.3))
    levels = [0.1, 0.5, 0.8]
    assert_array_equal(fitted.predict_quantile(X, levels), law.quantile(levels))
    assert_array_equal(fitted.predict_interval(X), law.interval(0.9))
    assert_array_equal(fitted.predict_interval(X, 0.5), law.interval(0.5))
    region = fitted.predict_interval(X, 0.8, "highest-density")
    assert isinstance(region, IntervalUnion)
    expected = law.interval(0.8, method="highest-density")
    assert_array_equal(region.lower, expected.lower)
    assert_array_equal(region.upper, expected.upper)


def test_estimators_refuse_what_the_law_refuses(fitted, rows):
    X = rows[0][:5]
    with pytest.raises(
        ValueError, match=r"level must be one number in \(0, 1\), got 1"
    ):
        fitted.predict_interval(X, 1.0)
    with pytest.raises(ValueError, match='"central" or "highest-density", got'):
        fitted.predict_interval(X, method="shortest")
    with pytest.raises(ValueError, match=r"q must lie in \[0, 1\], got -0.5"):
        fitted.predict_quantile(X, -0.5)
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 2\)"):
        fitted.predict_quantile(X, np.full((2, 2), 0.5))


def test_several_outputs_have_no_quantiles(rows):
    X, y = rows
    model = MixtureOfExpertsRegressor(n_experts=1).fit(X, np.column_stack([y, y**2]))
    with pytest.raises(ValueError, match="quantile needs a single output, got 2"):
        model.predict_quantile(X, 0.5)
    with pytest.raises(ValueError, match="interval needs a single output, got 2"):
        model.predict_interval(X)


def test_classifiers_have_class_sets_by_their_law(rows):
    X, y = rows
    model = MixtureOfExpertsClassifier(n_experts=2, init="kmeans", tol=1e-3)
    model.fit(X, np.digitize(y, [-1, 0, 1]))
    sets = model.predict_distribution(X).class_set(0.8)
    assert sets.shape == (150, 4)
    assert (np.where(sets, model.predict_proba(X), 0).sum(axis=1) >= 0.8).all()
    assert not hasattr(model, "predict_interval")


def test_arrays_are_of_the_kind_of_x(rows):
    X, y = rows
    xp = pytest.importorskip("array_api_strict")
    model = MixtureOfExpertsRegressor(n_experts=2, init="kmeans", tol=1e-3)
    with config_context(array_api_dispatch=True):
        other = model.fit(xp.asarray(X), xp.asarray(y))
        quantile = other.predict_quantile(xp.asarray(X), [0.1, 0.9])
        interval = other.predict_interval(xp.asarray(X), 0.8)
    assert isinstance(quantile, type(xp.asarray(X)))
    assert_allclose(np.asarray(quantile), np.asarray(interval), rtol=1e-12)
    frame = pd.DataFrame(X, columns=["one"])
    assert isinstance(model.fit(frame, y).predict_quantile(frame, 0.5), np.ndarray)


def test_known_quantities_beside_x(rng):
    X, hours = rng.normal(size=(80, 1)), np.log(rng.uniform(1, 9, size=80))
    y = rng.poisson(np.exp(hours)).astype(float)
    model = MixtureOfExpertsRegressor(PoissonExpert(), n_experts=1)
    model.fit(X, y, offset=hours)
    law = model.predict_distribution(X, offset=hours)
    found = model.predict_quantile(X, 0.5, offset=hours)
    assert_array_equal(found, law.quantile(0.5))
    found = model.predict_interval(X, 0.5, "highest-density", offset=hours)
    assert found.integers
    with pytest.raises(ValueError, match="predict_quantile: fit got"):
        model.predict_quantile(X, 0.5)
    with pytest.raises(ValueError, match="predict_interval: fit got"):
        model.predict_interval(X, 0.5)


def test_two_valued_data_have_two_intervals(rows):
    """What a central interval cannot say: y is near x or near -x."""
    X, y = rows
    model = ESTIMATORS["flat"].fit(X, y)
    at = np.array([[-1.8], [1.8]])
    region = model.predict_interval(at, 0.8, "highest-density")
    assert_array_equal(region.n_pieces, 2)
    assert region.contains([1.8, 1.8]).all()
    assert region.contains([-1.8, -1.8]).all()
    assert not region.contains([0.0, 0.0]).any()
    central = model.predict_interval(at, 0.8)
    assert (region.length() < 0.6 * (central[:, 1] - central[:, 0])).all()
