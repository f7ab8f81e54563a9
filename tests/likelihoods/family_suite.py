"""What every family of densities of one number must do, against SciPy.

A subclass names the family and lists cases: (params, dispersion, laws), where
``laws`` holds SciPy's frozen distribution of each row.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe._protocols import Likelihood
from tests._asserts import assert_integrates_to_one

LEVELS = np.array([1e-6, 0.01, 0.1, 0.3, 0.5, 0.77, 0.9, 0.999, 1 - 1e-9])
SEEDS = [np.random.RandomState(0), np.random.default_rng(1)]


def row(params, dispersion, i):
    """Return the parameters of one row, as arrays of one row."""
    return params[[i]], dispersion


class FamilySuite:
    """Tests of a family; `DensitySuite` and `CountSuite` add what is their own."""

    family = None
    cases = ()
    # Of log densities, beside their own size: SciPy cancels digits in places.
    rtol, atol = 1e-11, 1e-11

    def each_row(self):
        for params, dispersion, laws in self.cases:
            assert len(laws) == params.shape[0] > 1
            for i, law in enumerate(laws):
                yield *row(params, dispersion, i), law

    def points(self, law):
        """Return numbers of which most can occur under a law."""
        return np.unique(law.ppf(LEVELS))

    def at(self, method, y, params, dispersion):
        """Call a method of (y, params, dispersion) for several y of one row."""
        many = np.repeat(params, len(y), axis=0)
        return getattr(self.family, method)(y, many, dispersion)

    def test_keeps_the_protocol(self):
        assert isinstance(self.family, Likelihood)
        assert self.family == type(self.family)()
        assert isinstance(self.family.discrete, bool)
        with pytest.raises(AttributeError):
            self.family.anything = 1

    def test_log_prob_equals_scipy(self):
        for params, dispersion, law in self.each_row():
            y = self.points(law)
            expected = law.logpmf(y) if self.family.discrete else law.logpdf(y)
            found = self.at("log_prob", y, params, dispersion)
            assert_allclose(found, expected, rtol=self.rtol, atol=self.atol)

    def test_rows_have_parameters_of_their_own(self):
        for params, dispersion, laws in self.cases:
            y = np.array([law.ppf(0.4) for law in laws])
            n = len(laws)
            kind = "logpmf" if self.family.discrete else "logpdf"
            found = {
                kind: self.family.log_prob(y, params, dispersion),
                "cdf": self.family.cdf(y, params, dispersion),
                "ppf": self.family.quantile(0.4, params, dispersion),
                "mean": self.family.mean(params, dispersion),
                "var": self.family.variance(params, dispersion),
            }
            for name, values in found.items():
                arguments = {"ppf": [0.4] * n, "mean": None, "var": None}.get(name, y)
                expected = [
                    getattr(law, name)(*([] if arguments is None else [arguments[i]]))
                    for i, law in enumerate(laws)
                ]
                assert values.shape == (n,), name
                assert_allclose(values, expected, rtol=1e-9, atol=1e-12, err_msg=name)
            assert self.family.mode(params, dispersion).shape == (n,)
            assert self.family.support(y, params, dispersion).shape == (n,)

    def test_cdf_and_quantile_equal_scipy(self):
        for params, dispersion, law in self.each_row():
            y = self.points(law)
            found = self.at("cdf", y, params, dispersion)
            assert_allclose(found, law.cdf(y), rtol=1e-9, atol=1e-14)
            levels = LEVELS[:-1]
            many = np.repeat(params, levels.size, axis=0)
            quantile = self.family.quantile(levels, many, dispersion)
            assert_allclose(quantile, law.ppf(levels), rtol=1e-8, atol=1e-8)

    def test_quantile_takes_several_levels_of_each_row(self):
        for params, dispersion, _ in self.cases:
            table = self.family.quantile(LEVELS[:, None], params, dispersion)
            assert table.shape == (LEVELS.size, params.shape[0])
            for level, line in zip(LEVELS, table, strict=True):
                one = self.family.quantile(level, params, dispersion)
                assert_array_equal(line, one)
            assert (np.diff(table, axis=0) >= 0).all()

    def test_ends_of_the_support(self):
        for params, dispersion, law in self.each_row():
            low, high = law.support()
            ends = [self.family.quantile(q, params, dispersion)[0] for q in (0.0, 1.0)]
            assert_allclose(ends, [low, high])

    def test_log_prob_is_finite_where_the_support_is(self):
        for params, dispersion, law in self.each_row():
            y = np.array([-np.inf, -1e3, -1.0, 0.0, 0.5, 1.0, 2.0, 7.0, 1e3, np.inf])
            y = np.concatenate([y, self.points(law)])
            log_prob = self.at("log_prob", y, params, dispersion)
            inside = self.at("support", y, params, dispersion)
            assert inside.dtype == bool
            assert_array_equal(log_prob > -np.inf, inside)
            assert not np.isnan(log_prob).any()
            cdf = self.at("cdf", np.sort(y), params, dispersion)
            assert (np.diff(cdf) >= 0).all()
            assert_allclose(cdf[[0, -1]], [0.0, 1.0])

    @pytest.mark.parametrize("rng", SEEDS, ids=["RandomState", "Generator"])
    def test_draws_follow_the_law(self, rng):
        n_draws = 2000
        for params, dispersion, laws in self.cases:
            draws = self.family.sample(params, dispersion, n_draws, rng)
            assert draws.shape == (n_draws, params.shape[0])
            assert draws.dtype == float
            for i, law in enumerate(laws):
                assert self.p_value(draws[:, i], law) > 1e-4


class DensitySuite(FamilySuite):
    """A family with a density."""

    def p_value(self, draws, law):
        return stats.kstest(draws, law.cdf).pvalue

    def test_is_continuous(self):
        assert not self.family.discrete

    def test_integrates_to_one(self):
        for params, dispersion, law in self.each_row():
            cuts = law.ppf([1e-9, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-9])

            def density(y, params=params, dispersion=dispersion):
                at = np.array([y])
                return np.exp(self.family.log_prob(at, params, dispersion)[0])

            assert_integrates_to_one(density, cuts[0], cuts[-1], cuts[1:-1], rtol=1e-6)

    def test_quantile_undoes_the_cdf(self):
        for params, dispersion, _ in self.cases:
            for level in LEVELS:
                y = self.family.quantile(level, params, dispersion)
                cdf = self.family.cdf(y, params, dispersion)
                assert_allclose(cdf, level, rtol=1e-9, atol=1e-13)

    def test_cdf_is_the_integral_of_the_density(self):
        for params, dispersion, laws in self.cases:
            y = np.array([law.ppf(0.37) for law in laws])
            step = 1e-5 * np.array([law.ppf(0.6) - law.ppf(0.4) for law in laws])
            above = self.family.cdf(y + step, params, dispersion)
            below = self.family.cdf(y - step, params, dispersion)
            density = np.exp(self.family.log_prob(y, params, dispersion))
            assert_allclose((above - below) / (2 * step), density, rtol=1e-5)

    def test_mode_is_the_highest_point(self):
        for params, dispersion, law in self.each_row():
            mode = self.family.mode(params, dispersion)
            highest = self.family.log_prob(mode, params, dispersion)
            others = self.at("log_prob", self.points(law), params, dispersion)
            assert (others <= highest + 1e-12).all()
            if not self.family.support(mode, params, dispersion)[0]:
                pytest.fail("give this case a test of its own")


class CountSuite(FamilySuite):
    """A family of counts."""

    def p_value(self, draws, law):
        """Chi-square with cells of at least twenty expected draws."""
        cuts = np.unique(law.ppf(np.linspace(0.05, 0.95, 10)))
        below = np.concatenate([[0.0], law.cdf(cuts), [1.0]])
        expected = draws.size * np.diff(below)
        found = np.bincount(np.searchsorted(cuts, draws), minlength=cuts.size + 1)
        kept = expected > 20
        expected = np.append(expected[kept], expected[~kept].sum() + 1e-9)
        found = np.append(found[kept], found[~kept].sum())
        expected *= found.sum() / expected.sum()
        assert np.array_equal(draws, np.floor(draws))
        if kept.sum() < 2 and expected[-1] < 20:
            return 1.0 if found[-1] < 60 else 0.0
        return stats.chisquare(found, expected).pvalue

    def points(self, law):
        low, high = law.ppf([1e-6, 1 - 1e-9])
        return np.unique(np.floor(np.linspace(low, high, 40)))

    def test_is_discrete(self):
        assert self.family.discrete

    def test_sums_to_one(self):
        for params, dispersion, law in self.each_row():
            y = np.arange(law.ppf(1e-14), law.ppf(1 - 1e-14) + 1.0)
            log_prob = self.at("log_prob", y, params, dispersion)
            assert_allclose(np.exp(log_prob).sum(), 1.0, rtol=1e-10)
            cdf = self.at("cdf", y, params, dispersion)
            assert_allclose(np.cumsum(np.exp(log_prob)), cdf, atol=1e-10)

    def test_quantile_is_the_smallest_count_that_reaches_the_level(self):
        for params, dispersion, law in self.each_row():
            y = self.points(law)
            cdf = self.at("cdf", y, params, dispersion)
            y, cdf = y[(cdf > 0) & (cdf < 1)], cdf[(cdf > 0) & (cdf < 1)]
            many = np.repeat(params, y.size, axis=0)
            at_level = self.family.quantile(cdf, many, dispersion)
            assert (at_level <= y).all()
            reached = self.family.cdf(at_level, many, dispersion)
            assert (reached >= cdf).all()
            short = self.family.cdf(at_level - 1.0, many, dispersion)
            assert (short < cdf).all()

    def test_between_two_counts_the_cdf_is_flat(self):
        for params, dispersion, law in self.each_row():
            y = self.points(law)
            flat = self.at("cdf", y + 0.7, params, dispersion)
            assert_array_equal(flat, self.at("cdf", y, params, dispersion))

    def test_mode_is_the_most_probable_count(self):
        for params, dispersion, law in self.each_row():
            mode = self.family.mode(params, dispersion)
            assert mode == np.floor(mode)
            highest = self.family.log_prob(mode, params, dispersion)
            near = np.maximum(mode + np.array([-1.0, 1.0]), 0.0)
            others = np.concatenate([near, self.points(law)])
            log_prob = self.at("log_prob", others, params, dispersion)
            assert (log_prob <= highest + 1e-12).all()
