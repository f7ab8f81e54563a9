"""The abstract suite of the Expert protocol: every expert inherits it.

A concrete class (``class TestMyExpert(ExpertSuite)``) defines `make_expert` and
says what its responses are; pytest collects the concrete classes only.
"""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.utils import get_tags

from skmoe._protocols import Expert, Likelihood, Parametric, PoolsDispersion
from tests._asserts import (
    assert_climbs,
    assert_integrates_to_one,
    assert_order_of_rows_is_nothing,
    assert_same_density,
    assert_weight_is_repetition,
    assert_zero_weight_is_removal,
)


def objective(expert, X, y, weight):
    """Return what an exact M-step must not lower."""
    return float(weight @ expert.log_prob(X, y)) + expert.penalty


class ExpertSuite:
    """What every expert must do. Override `make_expert`; `n_outputs` or `n_classes`.

    With ``n_classes=None`` the responses are numbers, of shape (n_samples,) for
    ``n_outputs=None``; else they are class codes.
    """

    n_outputs = None
    n_classes = None
    # How near two fits to the same weighted rows must be.
    weight_tol = 1e-8

    def make_expert(self):
        """Return an unfitted expert."""
        raise TypeError(f"{type(self).__name__} must define make_expert.")

    @pytest.fixture
    def rng(self):
        return np.random.default_rng(11)

    def rows(self, rng, n_samples=90, n_columns=3):
        """Return X, y and uneven weights."""
        X = rng.normal(size=(n_samples, n_columns)) + [2.0, -1.0, 0.0][:n_columns]
        weight = rng.uniform(0.2, 3.0, size=n_samples)
        if self.n_classes is not None:
            logit = X @ rng.normal(size=(n_columns, self.n_classes))
            logit += rng.gumbel(size=logit.shape)
            y = logit.argmax(axis=1)
            y[: self.n_classes] = np.arange(self.n_classes)
            return X, y, weight
        coef = rng.normal(size=(n_columns, self.n_outputs or 1))
        noise = rng.normal(size=(n_samples, coef.shape[1]))
        noise[:, -1] += 0.8 * noise[:, 0]
        y = X @ coef + 3.0 + 0.5 * noise
        return X, y if self.n_outputs else y[:, 0], weight

    def awkward(self, seed):
        """Return a random problem with ties, dull columns, scales, few rows."""
        rng = np.random.default_rng(seed)
        n_columns = int(rng.integers(1, 4))
        X, y, weight = self.rows(rng, int(rng.integers(8, 60)), n_columns)
        if seed % 2:
            X = np.round(X)
        if seed % 3 == 0:
            X = np.column_stack([X, np.full(X.shape[0], 7.25), X[:, 0]])
        if seed % 4 == 0 and self.n_classes is None:
            y = np.round(y) * 10.0 ** rng.integers(-6, 7)
        if seed % 5 == 0:
            weight = rng.dirichlet(np.full(X.shape[0], 0.05)) * X.shape[0]
        weight[rng.random(X.shape[0]) < 0.1] = 0.0
        return X * 10.0 ** rng.integers(-6, 7, size=X.shape[1]), y, weight

    def prepared(self, X, y, weight):
        expert = self.make_expert()
        expert.prepare(X, y, weight, self.n_classes)
        return expert

    def fitted(self, X, y, weight, n_steps=2):
        """Return an expert prepared on the rows, after some M-steps."""
        expert = self.prepared(X, y, weight)
        for _ in range(n_steps):
            expert.m_step(X, y, weight)
        return expert

    def summary(self, X, y):
        """Return a function of weighted rows: what a fit says of X and y."""

        def fit(rows, target, weight):
            expert = self.fitted(rows, target, weight)
            return expert.log_prob(X, y), expert.penalty

        return fit

    # -- the protocol ------------------------------------------------------------

    def test_is_an_expert(self, rng):
        expert = self.fitted(*self.rows(rng))
        assert isinstance(expert, Expert)
        assert isinstance(expert.likelihood, Likelihood)
        assert isinstance(expert.exact_m_step, bool)
        assert expert.n_parameters >= 0
        assert np.isfinite(expert.penalty)
        assert (expert.dispersion is None) == (self.n_classes is not None)

    def test_shapes(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        log_prob, params = expert.log_prob(X, y), expert.predict_params(X)
        assert log_prob.shape == (X.shape[0],)
        wide = y.shape if self.n_classes is None else (X.shape[0], self.n_classes)
        assert params.shape == wide
        expected = expert.likelihood.log_prob(y, params, expert.dispersion)
        assert_same_density(log_prob, expected)

    def test_usable_before_the_first_m_step(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.prepared(X, y, weight)
        assert np.isfinite(expert.penalty)
        expert.m_step(X, y, weight)
        assert np.isfinite(expert.log_prob(X, y)).all()

    def test_density_equals_scipy(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        params, spread = expert.predict_params(X), np.asarray(expert.dispersion)
        if self.n_classes is not None:
            law = [stats.multinomial(1, row / row.sum()) for row in np.exp(params)]
            point = np.eye(self.n_classes, dtype=int)[y]
            expected = np.array([p.logpmf(t) for p, t in zip(law, point, strict=True)])
        elif self.n_outputs is None:
            expected = stats.norm(params, np.sqrt(spread)).logpdf(y)
        else:
            matrix = spread if spread.ndim == 2 else np.diag(spread)
            expected = stats.multivariate_normal(cov=matrix).logpdf(y - params)
        assert_same_density(expert.log_prob(X, y), expected, rtol=1e-9)

    def test_density_integrates_to_one(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        if self.n_classes is not None:
            each = [
                expert.log_prob(X, np.full(X.shape[0], c))
                for c in range(self.n_classes)
            ]
            np.testing.assert_allclose(np.exp(each).sum(axis=0), 1.0, rtol=1e-10)
            return
        row = X[:1]
        mean = np.atleast_1d(expert.predict_params(row)[0])
        # Of several outputs: along the last, given the mean of the others; their
        # own normalising constant is that of a normal density at its mean.
        matrix = np.atleast_2d(expert.dispersion)
        matrix = matrix if matrix.shape[0] == mean.size else np.diag(matrix.ravel())
        rest = matrix[:-1, :-1]
        constant = 0.5 * np.linalg.slogdet(2.0 * np.pi * rest)[1] if rest.size else 0.0

        def density(value):
            point = mean.copy()
            point[-1] = value
            point = point if self.n_outputs is None else point[None]
            return float(np.exp(expert.log_prob(row, point)[0] + constant))

        width = 10.0 * np.sqrt(matrix[-1, -1])
        assert_integrates_to_one(
            density, mean[-1] - width, mean[-1] + width, [mean[-1]]
        )

    # -- weights and order -------------------------------------------------------

    def test_integer_weight_is_repetition(self, rng):
        X, y, _ = self.rows(rng)
        count = rng.integers(1, 4, size=X.shape[0])
        fit = self.summary(X, y)
        assert_weight_is_repetition(fit, X, y, count, atol=self.weight_tol)

    def test_zero_weight_is_removal(self, rng):
        X, y, weight = self.rows(rng)
        weight[5::4] = 0.0
        X[5::4] += 30.0
        fit = self.summary(X, y)
        assert_zero_weight_is_removal(fit, X, y, weight, atol=self.weight_tol)

    def test_order_of_rows(self, rng):
        X, y, weight = self.rows(rng)
        fit = self.summary(X, y)
        assert_order_of_rows_is_nothing(fit, X, y, weight, rng, atol=self.weight_tol)

    def test_order_of_outputs_or_classes(self, rng):
        X, y, weight = self.rows(rng)
        if self.n_classes is not None:
            order = np.roll(np.arange(self.n_classes), 1)
            permuted = order[y]
        elif self.n_outputs is not None:
            permuted = np.ascontiguousarray(y[:, ::-1])
        else:
            X, permuted = X[:, ::-1], y
        one = self.fitted(*self.rows(np.random.default_rng(11)))
        other = self.fitted(X, permuted, weight)
        assert_same_density(
            other.log_prob(X, permuted),
            one.log_prob(*self.rows(np.random.default_rng(11))[:2]),
            atol=self.weight_tol,
        )

    # -- the M-step --------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(25))
    def test_m_step_raises_the_objective(self, seed):
        X, y, weight = self.awkward(seed)
        rng = np.random.default_rng(seed)
        expert = self.prepared(X, y, weight)
        # Other responsibilities first, so that it starts from elsewhere.
        expert.m_step(X, y, weight * rng.uniform(size=weight.size))
        resp = rng.uniform(size=weight.size) ** 3 * weight
        values = [objective(expert, X, y, resp)]
        for _ in range(3):
            expert.m_step(X, y, resp)
            values.append(objective(expert, X, y, resp))
        assert np.isfinite(values).all()
        if expert.exact_m_step:
            assert_climbs(values, 1e-9)

    def test_learns(self, rng):
        X, y, weight = self.rows(rng, 400)
        expert = self.fitted(X, y, weight, n_steps=10)
        got = np.average(expert.log_prob(X, y), weights=weight)
        if self.n_classes is not None:
            count = np.bincount(y, weights=weight) / weight.sum()
            assert got > count @ np.log(count) + 0.05
            return
        flat = np.average(y, axis=0, weights=weight)
        spread = np.average((y - flat) ** 2, axis=0, weights=weight)
        alone = stats.norm(flat, np.sqrt(spread)).logpdf(y).reshape(weight.size, -1)
        assert got > np.average(alone.sum(axis=1), weights=weight) + 0.3

    def test_fewer_rows_than_columns(self, rng):
        X = rng.normal(size=(6, 20))
        _, y, weight = self.rows(rng, 6)
        expert = self.fitted(X, y, weight, n_steps=4)
        assert np.isfinite(expert.log_prob(X, y)).all()
        assert np.isfinite(expert.penalty)

    @pytest.mark.parametrize("share", [0.0, 1e-300, 1e-12])
    def test_expert_without_rows(self, rng, share):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        expert.m_step(X, y, share * weight)
        assert np.isfinite(expert.log_prob(X, y)).all()
        assert np.isfinite(expert.penalty)
        # It can be called back.
        expert.m_step(X, y, weight)
        expert.m_step(X, y, weight)
        assert np.isfinite(expert.log_prob(X, y)).all()

    def test_one_row_only(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        expert.m_step(X, y, np.eye(weight.size)[7])
        assert np.isfinite(expert.log_prob(X, y)).all()

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_scale_of_a_column(self, rng, scale):
        X, y, weight = self.rows(rng)
        X[:, 1] *= scale
        assert np.isfinite(self.fitted(X, y, weight).log_prob(X, y)).all()

    # -- state -------------------------------------------------------------------

    def test_parameters_round_trip(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        if not isinstance(expert, Parametric):
            return
        before, log_prob = np.array(expert.parameters), expert.log_prob(X, y)
        assert before.ndim == 1
        assert np.isfinite(before).all()
        expert.m_step(X, y, weight * rng.uniform(size=weight.size) ** 4)
        assert np.abs(expert.log_prob(X, y) - log_prob).max() > 1e-6
        expert.parameters = before
        np.testing.assert_allclose(expert.parameters, before, atol=1e-10)
        np.testing.assert_allclose(expert.log_prob(X, y), log_prob, atol=1e-9)

    def test_any_parameters_give_a_density(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        if not isinstance(expert, Parametric):
            return
        start = np.array(expert.parameters)
        for size in (0.1, 3.0):
            expert.parameters = start + size * rng.normal(size=start.size)
            assert np.isfinite(expert.log_prob(X, y)).all()
            assert np.isfinite(expert.penalty)
        moved = objective(expert, X, y, weight)
        for _ in range(3):
            expert.m_step(X, y, weight)
        assert objective(expert, X, y, weight) >= moved

    def test_snapshot_is_independent(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        kept, log_prob = copy.copy(expert), expert.log_prob(X, y)
        vector = np.array(expert.parameters) if isinstance(expert, Parametric) else None
        expert.m_step(X, y, weight * rng.uniform(size=weight.size) ** 4)
        assert np.abs(expert.log_prob(X, y) - log_prob).max() > 1e-6
        if vector is None:  # the engine keeps copies of parts without a vector
            np.testing.assert_array_equal(kept.log_prob(X, y), log_prob)
        else:
            expert.parameters = vector
            np.testing.assert_allclose(expert.log_prob(X, y), log_prob, atol=1e-9)

    def test_arguments_are_left_alone(self, rng):
        arrays = self.rows(rng)
        copies = [array.copy() for array in arrays]
        for array in arrays:
            array.flags.writeable = False
        expert = self.make_expert()
        given = repr(expert.get_params())
        expert.prepare(*arrays, self.n_classes)
        expert.m_step(*arrays)
        assert expert.log_prob(*arrays[:2]).flags.writeable
        assert repr(expert.get_params()) == given
        for array, before in zip(arrays, copies, strict=True):
            np.testing.assert_array_equal(array, before)

    def test_result_is_not_a_view_of_the_state(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        first = expert.log_prob(X, y)
        kept = first.copy()
        first += 5.0
        np.testing.assert_array_equal(expert.log_prob(X, y), kept)

    def test_clone_forgets_and_repeats(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        again = clone(expert)
        again.prepare(X, y, weight, self.n_classes)
        for _ in range(2):
            again.m_step(X, y, weight)
        np.testing.assert_array_equal(again.log_prob(X, y), expert.log_prob(X, y))

    def test_pickle(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        again = pickle.loads(pickle.dumps(expert))
        np.testing.assert_array_equal(again.log_prob(X, y), expert.log_prob(X, y))
        again.m_step(X, y, weight)
        assert np.isfinite(again.log_prob(X, y)).all()

    def test_sparse_equals_dense(self, rng):
        X, y, weight = self.rows(rng)
        X = np.where(np.abs(X) < 0.7, 0.0, X)
        expert = self.make_expert()
        assert get_tags(expert).input_tags.sparse
        dense = self.fitted(X, y, weight)
        rows = sparse.csr_array(X)
        thin = self.fitted(rows, y, weight)
        np.testing.assert_allclose(
            thin.log_prob(rows, y), dense.log_prob(X, y), atol=self.sparse_tol
        )

    # Penalties on columns that are scaled but not centred act alike.
    sparse_tol = 1e-8

    def test_pools_dispersion(self, rng):
        """The dispersion is ``scatter / mass``, and can be set."""
        if self.n_classes is not None:
            return
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        assert isinstance(expert, PoolsDispersion)
        own = np.asarray(expert.scatter) / expert.mass
        np.testing.assert_allclose(own, expert.dispersion, rtol=1e-12)
        expert.dispersion = 4.0 * np.asarray(expert.dispersion)
        np.testing.assert_allclose(expert.dispersion, 4.0 * own, rtol=1e-12)
        params = expert.predict_params(X)
        expected = expert.likelihood.log_prob(y, params, 4.0 * own)
        assert_same_density(expert.log_prob(X, y), expected)
