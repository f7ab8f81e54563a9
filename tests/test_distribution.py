"""The predictive law of a mixture: against SciPy, integrals, grids and draws."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp

from skmoe.distribution import MixtureDistribution
from skmoe.likelihoods import (
    Binomial,
    Categorical,
    Gamma,
    Gaussian,
    Laplace,
    NegativeBinomial,
    PointMass,
    Poisson,
    RowGaussian,
    StudentT,
    Uniform,
)
from tests._asserts import assert_integrates_to_one

N_ROWS, N_EXPERTS = 7, 3


def make_gate(rng, shape=(N_ROWS, N_EXPERTS)):
    logit = 2.0 * rng.normal(size=shape)
    return logit - logsumexp(logit, axis=1, keepdims=True)


@pytest.fixture
def single(rng):
    """Return a law of one output with unequal variances."""
    means = [2.0 * rng.normal(size=N_ROWS) for _ in range(N_EXPERTS)]
    variances = [0.1, 1.0, 4.0]
    return MixtureDistribution(
        make_gate(rng), means, variances, [Gaussian()] * N_EXPERTS
    )


def make_multi(rng, kinds):
    means = [2.0 * rng.normal(size=(N_ROWS, 2)) for _ in kinds]
    root = rng.normal(size=(2, 2))
    spread = {"full": root @ root.T + 0.1 * np.eye(2), "diag": np.array([0.3, 2.0])}
    dispersions = [spread[kind] for kind in kinds]
    gate = make_gate(rng, (N_ROWS, len(kinds)))
    return MixtureDistribution(gate, means, dispersions, [Gaussian()] * len(kinds))


@pytest.fixture
def multi(rng):
    """Return a law of two outputs: full and diagonal covariances together."""
    return make_multi(rng, ["full", "diag", "full"])


@pytest.fixture
def classes(rng):
    """Return a law of four classes."""
    logit = rng.normal(size=(N_EXPERTS, N_ROWS, 4))
    params = list(logit - logsumexp(logit, axis=2, keepdims=True))
    nothing = [None] * N_EXPERTS
    return MixtureDistribution(
        make_gate(rng), params, nothing, [Categorical()] * N_EXPERTS
    )


def frozen(law, row):
    """Return each expert's law of a row in SciPy's words, with its gate."""
    for k in range(law.gate.shape[1]):
        spread = np.asarray(law.dispersions[k])
        if spread.ndim == 0:
            one = stats.norm(law.params[k][row], np.sqrt(spread))
        else:
            cov = spread if spread.ndim == 2 else np.diag(spread)
            one = stats.multivariate_normal(law.params[k][row], cov)
        yield law.gate[row, k], one


@pytest.mark.parametrize("name", ["single", "multi"])
def test_log_prob_equals_scipy(name, request, rng):
    law = request.getfixturevalue(name)
    y = rng.normal(size=law.mean.shape)
    expected = [
        np.log(sum(g * one.pdf(y[i]) for g, one in frozen(law, i)))
        for i in range(N_ROWS)
    ]
    assert_allclose(law.log_prob(y), expected)


def test_density_integrates_to_one(single):
    for row in range(3):
        only = MixtureDistribution(
            single.log_gate[[row]],
            [params[[row]] for params in single.params],
            single.dispersions,
            single.likelihoods,
        )
        peaks = sorted(float(params[0]) for params in only.params)
        assert_integrates_to_one(
            lambda y, only=only: np.exp(only.log_prob([y])[0]), -40, 40, points=peaks
        )


def test_density_of_two_outputs_integrates_to_one(multi):
    axis = np.linspace(-22, 22, 441)
    for row in range(2):
        total = 0.0
        for y0 in axis:
            y = np.column_stack([np.full(axis.size, y0), axis])
            density = sum(g * one.pdf(y) for g, one in frozen(multi, row))
            ours = MixtureDistribution(
                np.repeat(multi.log_gate[[row]], axis.size, axis=0),
                [np.repeat(p[[row]], axis.size, axis=0) for p in multi.params],
                multi.dispersions,
                multi.likelihoods,
            ).log_prob(y)
            assert_allclose(np.exp(ours), density, atol=1e-12)
            total += np.exp(ours).sum() * (axis[1] - axis[0]) ** 2
        assert_allclose(total, 1.0, rtol=1e-6)


def test_class_probabilities(classes):
    by_class = np.stack(
        [np.exp(classes.log_prob(np.full(N_ROWS, c))) for c in range(4)], axis=1
    )
    assert_allclose(by_class.sum(axis=1), 1.0)
    assert_allclose(by_class, classes.mean)
    assert_allclose(classes.variance.shape, classes.mean.shape)
    assert_array_equal(classes.mode, by_class.argmax(axis=1))
    below = np.stack([classes.cdf(np.full(N_ROWS, c)) for c in range(4)], axis=1)
    assert_allclose(below, by_class.cumsum(axis=1))
    # p (1 - p) of the pooled law, since a class either comes or does not.
    assert_allclose(
        classes.mean * (1 - classes.mean),
        np.einsum("nk,nkc->nc", classes.gate, classes.means) * (1 - classes.mean),
    )
    assert_allclose(classes.variance, classes.mean * (1 - classes.mean))


@pytest.mark.parametrize("name", ["single", "multi"])
def test_moments_are_those_of_draws(name, request):
    law = request.getfixturevalue(name)
    n_draws = 200_000
    draws = law.sample(n_draws, random_state=1)
    assert draws.shape == (n_draws, *law.mean.shape)
    error = np.sqrt(law.variance / n_draws)
    assert (abs(draws.mean(axis=0) - law.mean) < 5 * error).all()
    assert_allclose(draws.var(axis=0), law.variance, rtol=0.05)


def test_draws_follow_the_cdf(single):
    draws = single.sample(3000, random_state=2)
    for row in range(N_ROWS):
        at = np.linspace(-8, 8, 161)
        cdf = [single.cdf(np.full(N_ROWS, y))[row] for y in at]
        result = stats.ks_1samp(draws[:, row], partial(np.interp, xp=at, fp=cdf))
        assert result.pvalue > 1e-4


def test_draws_of_classes(classes):
    draws = classes.sample(40_000, random_state=3)
    assert draws.shape == (40_000, N_ROWS)
    shares = np.stack([(draws == c).mean(axis=0) for c in range(4)], axis=1)
    assert_allclose(shares, classes.mean, atol=0.015)


def test_draws_follow_log_prob(multi):
    # The mean of the log density over its own draws is minus the entropy; here
    # by importance: the mean of q / p over draws from p is 1 for any density q.
    draws = multi.sample(20_000, random_state=4)
    target = stats.multivariate_normal([0.0, 0.0], 0.2 * np.eye(2))
    for row in range(2):
        log_p = np.log(sum(g * one.pdf(draws[:, row]) for g, one in frozen(multi, row)))
        near = target.pdf(draws[:, row]) / np.exp(log_p)
        assert abs(near.mean() - 1.0) < 6 * near.std() / np.sqrt(near.size)


def test_same_seed_same_draws(single):
    first, second = single.sample(5, random_state=7), single.sample(5, random_state=7)
    assert_array_equal(first, second)
    assert not np.array_equal(first, single.sample(5, random_state=8))


def test_cdf_is_the_integral_of_the_density(single):
    y = np.linspace(-3, 3, N_ROWS)
    h = 1e-5
    slope = (single.cdf(y + h) - single.cdf(y - h)) / (2 * h)
    assert_allclose(slope, np.exp(single.log_prob(y)), rtol=1e-6)
    assert_allclose(single.cdf(np.full(N_ROWS, -1e3)), 0.0, atol=1e-12)
    assert_allclose(single.cdf(np.full(N_ROWS, 1e3)), 1.0)


@pytest.mark.parametrize("spread", [(0.1, 1.0, 4.0), (1.0, 1.0, 1.0), (1e-4, 9.0, 9.0)])
@pytest.mark.parametrize("seed", range(4))
def test_mode_is_the_highest_point_of_a_grid(seed, spread):
    rng = np.random.default_rng(seed)
    means = [1.5 * rng.normal(size=40) for _ in range(3)]
    law = MixtureDistribution(
        make_gate(rng, (40, 3)), means, list(spread), [Gaussian()] * 3
    )
    height = law.log_prob(law.mode)
    grid = np.linspace(-8, 8, 4001)
    highest = np.max([law.log_prob(np.full(40, y)) for y in grid], axis=0)
    assert (height >= highest - 1e-9).all()
    step = 1e-4 * np.sqrt(min(spread))
    for side in (-step, step):
        assert (law.log_prob(law.mode + side) <= height + 1e-12).all()


@pytest.mark.parametrize("kinds", [["full", "diag"], ["diag", "diag", "full"]])
def test_mode_of_several_outputs(rng, kinds):
    law = make_multi(rng, kinds)
    height = law.log_prob(law.mode)
    for _ in range(300):
        other = law.mode + rng.normal(size=law.mode.shape)
        assert (law.log_prob(other) <= height + 1e-9).all()
        near = law.mode + 1e-4 * rng.normal(size=law.mode.shape)
        assert (law.log_prob(near) <= height + 1e-9).all()
    for params in law.params:
        assert (law.log_prob(params) <= height + 1e-9).all()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_mode_in_any_unit(single, scale):
    other = MixtureDistribution(
        single.log_gate,
        [scale * p for p in single.params],
        [scale**2 * d for d in single.dispersions],
        single.likelihoods,
    )
    assert_allclose(other.mode / scale, single.mode, rtol=1e-6)


def test_skipped_experts_take_no_part(single, rng):
    log_gate = np.array(single.log_gate)
    log_gate[:, 1] = -np.inf
    log_gate -= logsumexp(log_gate, axis=1, keepdims=True)
    two = MixtureDistribution(
        log_gate[:, [0, 2]],
        [single.params[0], single.params[2]],
        [0.1, 4.0],
        [Gaussian()] * 2,
    )
    three = MixtureDistribution(
        log_gate, single.params, single.dispersions, single.likelihoods
    )
    y = rng.normal(size=N_ROWS)
    for name in ("mean", "variance", "mode", "top1"):
        assert_allclose(getattr(three, name), getattr(two, name), err_msg=name)
    assert_allclose(three.log_prob(y), two.log_prob(y))
    assert_allclose(three.cdf(y), two.cdf(y))
    assert_allclose(three.responsibilities(y)[:, [0, 2]], two.responsibilities(y))


def test_responsibilities(single, rng):
    y = rng.normal(size=N_ROWS)
    resp = single.responsibilities(y)
    for i in range(N_ROWS):
        joint = np.array([g * one.pdf(y[i]) for g, one in frozen(single, i)])
        assert_allclose(resp[i], joint / joint.sum())


def test_where_every_density_is_zero(single):
    y = np.full(N_ROWS, 1e200)
    assert_array_equal(single.log_prob(y), -np.inf)
    assert_allclose(single.responsibilities(y), single.gate)
    far = single.log_prob(np.full(N_ROWS, 1e100))
    assert np.isfinite(far).all()
    assert (far < -1e190).all()


def test_one_column_is_one_output(single, rng):
    y = rng.normal(size=N_ROWS)
    column = MixtureDistribution(
        single.log_gate,
        [p[:, None] for p in single.params],
        [np.array([[d]]) for d in single.dispersions],
        single.likelihoods,
    )
    assert_allclose(column.log_prob(y[:, None]), single.log_prob(y))
    assert_allclose(column.cdf(y[:, None]), single.cdf(y))
    assert_allclose(column.mode[:, 0], single.mode)
    assert_allclose(column.variance[:, 0], single.variance)


def test_errors(single, multi):
    with pytest.raises(ValueError, match="needs a single output, got 2 outputs"):
        multi.cdf(np.zeros((N_ROWS, 2)))
    with pytest.raises(ValueError, match=r"shape \(7,\), got \(3,\)"):
        single.log_prob(np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(7,\), got \(7, 1\)"):
        single.log_prob(np.zeros((N_ROWS, 1)))
    with pytest.raises(ValueError, match=r"shape \(7, 2\), got \(7,\)"):
        multi.log_prob(np.zeros(N_ROWS))
    with pytest.raises(ValueError, match=r"shape \(7,\), got \(\)"):
        single.log_prob(0.0)


def test_repr_and_length(single, classes):
    assert len(single) == N_ROWS
    assert repr(single) == (
        "MixtureDistribution(n_samples=7, n_experts=3, family=Gaussian)"
    )
    assert "family=Categorical" in repr(classes)


@pytest.mark.parametrize("name", ["single", "multi", "classes"])
def test_top1_follows_the_expert_it_is_told(name, request, rng):
    """The end of a tree's most probable path need not be the most probable leaf."""
    law = request.getfixturevalue(name)
    parts = (law.log_gate, law.params, law.dispersions, law.likelihoods)
    rows, best = np.arange(N_ROWS), law.log_gate.argmax(axis=1)
    assert_array_equal(law.top1, law.means[rows, best])
    winner = rng.integers(0, N_EXPERTS, N_ROWS)
    assert (winner != best).any()
    told = MixtureDistribution(*parts, winner=winner)
    for i in rows:
        assert_array_equal(told.top1[i], law.means[i, winner[i]])
    # Nothing else is another law for it.
    for other in ("mean", "variance", "mode", "skipped_share"):
        assert_array_equal(getattr(told, other), getattr(law, other), err_msg=other)
    y = law.sample(1, random_state=0)[0]
    assert_array_equal(told.log_prob(y), law.log_prob(y))


def test_skipped_share_counts_what_was_not_evaluated(single):
    assert single.skipped_share == 0.0
    log_gate = np.array(single.log_gate)
    log_gate[0, 1:], log_gate[3, 2] = -np.inf, -np.inf
    log_gate[5, 0] = -1000.0  # improbable is not skipped
    parts = (single.params, single.dispersions, single.likelihoods)
    law = MixtureDistribution(log_gate, *parts)
    assert law.skipped_share == pytest.approx(3 / (N_ROWS * N_EXPERTS))
    assert isinstance(law.skipped_share, float)
    assert_array_equal(law.top1[0], single.means[0, 0])


# name: (params of every row, dispersion, family), as many as there are experts
UNLIKE = {
    "zero-inflated counts": [
        (np.zeros(N_ROWS), None, PointMass()),
        (np.linspace(0.5, 9, N_ROWS), None, Poisson()),
        (np.linspace(5, 1, N_ROWS), 1.5, NegativeBinomial()),
    ],
    "zero-adjusted costs": [
        (np.zeros(N_ROWS), None, PointMass()),
        (np.linspace(0.5, 9, N_ROWS), 0.4, Gamma()),
        (np.linspace(2, 3, N_ROWS), 0.1, Gamma()),
    ],
    "noise and lines": [
        (np.tile([-4.0, 6.0], (N_ROWS, 1)), None, Uniform()),
        (np.linspace(-1, 1, N_ROWS), 0.05, Gaussian()),
        (np.column_stack([np.ones(N_ROWS), np.arange(1, 8) / 9]), None, RowGaussian()),
    ],
    "heavy tails": [
        (np.linspace(-1, 1, N_ROWS), np.array([0.2, 5.0]), StudentT()),
        (np.linspace(3, 1, N_ROWS), 0.3, Laplace()),
        (np.zeros(N_ROWS), 2.0, Gaussian()),
    ],
    "successes": [
        (np.column_stack([np.arange(1, 8) / 9, np.arange(7) + 1.0]), None, Binomial()),
        (np.column_stack([np.arange(7, 0, -1) / 9, np.full(7, 9.0)]), None, Binomial()),
        (np.full(N_ROWS, 3.0), None, PointMass()),
    ],
}


@pytest.fixture(params=UNLIKE)
def unlike(request, rng):
    """Return a law of families other than the normal one."""
    params, dispersions, likelihoods = zip(*UNLIKE[request.param], strict=True)
    return MixtureDistribution(make_gate(rng), params, dispersions, likelihoods)


def test_any_family_has_the_moments_of_its_draws(unlike):
    n_draws = 60_000
    draws = unlike.sample(n_draws, random_state=1)
    assert draws.shape == (n_draws, N_ROWS)
    assert draws.dtype == float
    error = np.sqrt(unlike.variance / n_draws)
    assert (abs(draws.mean(axis=0) - unlike.mean) < 5 * error).all()
    assert_allclose(draws.var(axis=0), unlike.variance, rtol=0.06)
    # And the cdf and the quantiles of its draws.
    for y in (0.0, 1.0, 2.5):
        at = unlike.cdf(np.full(N_ROWS, y))
        assert_allclose((draws <= y).mean(axis=0), at, atol=0.011)
    for q in (0.1, 0.5, 0.9):
        quantile = unlike.quantile(q)
        assert ((draws <= quantile + 1e-9).mean(axis=0) >= q - 0.011).all()
        assert ((draws < quantile - 1e-9).mean(axis=0) <= q + 0.011).all()


def test_any_family_pools_its_parts(unlike):
    y = unlike.sample(1, random_state=2)[0]
    parts = zip(unlike.params, unlike.dispersions, unlike.likelihoods, strict=True)
    each = np.stack([f.log_prob(y, p, d) for p, d, f in parts], axis=1)
    with np.errstate(divide="ignore"):
        expected = np.log((unlike.gate * np.exp(each)).sum(axis=1))
    assert_allclose(unlike.log_prob(y), expected)
    resp = unlike.responsibilities(y)
    assert_allclose(resp, unlike.gate * np.exp(each - expected[:, None]))
    assert_allclose(resp.sum(axis=1), 1.0)


def test_mode_of_any_family_is_high(unlike):
    mode = unlike.mode
    assert mode.shape == (N_ROWS,)
    discrete = [family.discrete for family in unlike.likelihoods]
    if any(discrete) and not all(discrete):
        zero = unlike.gate[:, 0] >= 0.5
        assert_array_equal(mode == 0.0, zero)
        return
    height = unlike.log_prob(mode)
    for y in np.linspace(-6, 14, 21):
        assert (unlike.log_prob(np.full(N_ROWS, y)) <= height + 1e-9).all()


def test_quantile_undoes_the_cdf(single):
    levels = [0.001, 0.3, 0.5, 0.975]
    table = single.quantile(levels)
    assert table.shape == (N_ROWS, 4)
    for j, q in enumerate(levels):
        assert_allclose(single.cdf(table[:, j]), q, rtol=1e-12)
        one = single.quantile(q)
        assert one.shape == (N_ROWS,)
        assert_allclose(one, table[:, j], rtol=1e-13)
    assert single.quantile([]).shape == (N_ROWS, 0)
    assert_array_equal(single.quantile([0, 1]), [[-np.inf, np.inf]] * N_ROWS)


def test_quantiles_of_classes(classes):
    for q in (0.0, 0.2, 0.5, 0.9, 1.0):
        code = classes.quantile(q)
        assert code.dtype.kind == "i"
        reached = classes.mean.cumsum(axis=1)[np.arange(N_ROWS), code]
        assert (reached >= q - 1e-12).all()
        before = reached - classes.mean[np.arange(N_ROWS), code]
        assert ((before < q) | (code == 0)).all()
    assert classes.quantile([0.2, 0.5]).shape == (N_ROWS, 2)


def test_quantile_of_one_column(single):
    column = MixtureDistribution(
        single.log_gate,
        [p[:, None] for p in single.params],
        [np.array([[d]]) for d in single.dispersions],
        single.likelihoods,
    )
    assert_allclose(column.quantile([0.1, 0.6]), single.quantile([0.1, 0.6]))


def test_errors_of_quantiles(single, multi):
    with pytest.raises(ValueError, match="quantile needs a single output, got 2"):
        multi.quantile(0.5)
    for bad, said in ((-0.1, "-0.1"), ([0.5, 1.5], "1.5"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=rf"q must lie in \[0, 1\], got {said}"):
            single.quantile(bad)
    with pytest.raises(ValueError, match=r"a list of numbers, got .* \(2, 2\)"):
        single.quantile(np.full((2, 2), 0.5))


def test_no_variance_where_an_expert_has_none(rng):
    params = [np.zeros(N_ROWS), np.ones(N_ROWS)]
    spreads = [np.array([1.0, 1.5]), 0.5]
    families = [StudentT(), Gaussian()]
    log_gate = make_gate(rng, (N_ROWS, 2))
    law = MixtureDistribution(log_gate, params, spreads, families)
    assert_array_equal(law.variance, np.inf)
    # A skipped one does not count.
    log_gate = np.tile([-np.inf, 0.0], (N_ROWS, 1))
    law = MixtureDistribution(log_gate, params, spreads, families)
    assert_allclose(law.variance, 0.5)
    assert_allclose(law.mean, 1.0)


def test_repr_names_each_family_once(rng):
    params, dispersions, families = zip(*UNLIKE["zero-adjusted costs"], strict=True)
    law = MixtureDistribution(make_gate(rng), params, dispersions, families)
    assert "family=PointMass+Gamma" in repr(law)
