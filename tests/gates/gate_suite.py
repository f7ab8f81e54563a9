"""The abstract suite of the Gate protocol: every gate inherits it.

A concrete class (``class TestMyGate(GateSuite)``) defines `make_gate`; pytest
collects the concrete classes only.
"""

import pickle

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.base import clone

from skmoe._protocols import Gate, Parametric


def regions(rng, n_samples=120, n_columns=3, n_experts=3):
    """Rows from overlapping clusters, soft responsibilities, uneven weights."""
    centre = 2.0 * rng.normal(size=(n_experts, n_columns))
    label = rng.integers(n_experts, size=n_samples)
    X = centre[label] + rng.normal(size=(n_samples, n_columns))
    resp = 0.8 * np.eye(n_experts)[label]
    resp += 0.2 * rng.dirichlet(np.ones(n_experts), size=n_samples)
    return X, resp, rng.uniform(0.2, 3.0, size=n_samples)


def awkward(seed):
    """A random problem with ties, dull columns, and experts of few rows."""
    rng = np.random.default_rng(seed)
    n_samples, n_experts = int(rng.integers(8, 90)), int(rng.integers(1, 6))
    n_columns = int(rng.integers(1, 5))
    X, resp, weight = regions(rng, n_samples, n_columns, n_experts)
    if seed % 2:
        X = np.round(X)
    if seed % 3 == 0:
        X = np.column_stack([X, np.full(n_samples, 7.25), X[:, 0]])
    if seed % 5 == 0:
        resp = np.eye(n_experts)[resp.argmax(axis=1)]
    if seed % 7 == 0 and n_experts > 1:
        # The last expert keeps one row, the rest of its mass goes to the first.
        resp[1:, 0] += resp[1:, -1]
        resp[1:, -1] = 0.0
    X = X * 10.0 ** rng.integers(-6, 7, size=X.shape[1])
    weight[rng.random(n_samples) < 0.1] = 0.0
    return X, resp, weight


def objective(gate, X, resp, weight):
    """Return what an exact M-step must not lower."""
    log_joint = gate.log_joint(X)
    # 0 * -inf is no contribution, not a missing value.
    terms = np.where(resp > 0, resp * log_joint, 0.0)
    return float(weight @ terms.sum(axis=1)) + gate.penalty


class GateSuite:
    """What every gate must do. Override `make_gate`; tolerances if needed."""

    # How near two fits to the same weighted rows must be.
    weight_tol = 1e-9
    # Share of the uniform gate's cross-entropy that a fitted gate may leave.
    cross_entropy_left = 0.9

    def make_gate(self):
        """Return an unfitted gate."""
        raise TypeError(f"{type(self).__name__} must define make_gate.")

    def fitted(self, X, resp, weight, n_steps=2):
        """Return a gate prepared on the rows, after some M-steps."""
        gate = self.make_gate()
        gate.prepare(X, weight, resp.shape[1])
        for _ in range(n_steps):
            gate.m_step(X, resp, weight)
        return gate

    @pytest.fixture
    def rng(self):
        return np.random.default_rng(20)

    def test_is_a_gate(self, rng):
        gate = self.fitted(*regions(rng))
        assert isinstance(gate, Gate)
        assert isinstance(gate.exact_m_step, bool)
        assert gate.n_parameters >= 0
        assert np.isfinite(gate.penalty)

    @pytest.mark.parametrize("n_steps", [0, 1, 3])
    def test_rows_sum_to_one(self, rng, n_steps):
        X, resp, weight = regions(rng)
        log_proba = self.fitted(X, resp, weight, n_steps).log_proba(X)
        assert log_proba.shape == resp.shape
        assert (log_proba <= 1e-12).all()
        np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0, rtol=1e-12)

    @pytest.mark.parametrize("distance", [1e3, 1e8, 1e30, -1e12])
    def test_far_from_the_data(self, rng, distance):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        direction = rng.normal(size=(20, X.shape[1]))
        log_proba = gate.log_proba(X[:20] + distance * direction)
        assert not np.isnan(log_proba).any()
        np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0, rtol=1e-12)

    def test_learns_the_regions(self, rng):
        X, resp, weight = regions(rng, 600)
        limit = self.cross_entropy_left * np.log(resp.shape[1])
        gate = self.fitted(X, resp, weight, n_steps=30)
        cross_entropy = -np.average((resp * gate.log_proba(X)).sum(1), weights=weight)
        assert cross_entropy <= limit

    def test_joint_is_proba_up_to_a_row_constant(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        np.testing.assert_allclose(
            log_softmax(gate.log_joint(X), axis=1), gate.log_proba(X), atol=1e-9
        )

    def test_integer_weight_is_repetition(self, rng):
        X, resp, _ = regions(rng)
        count = rng.integers(1, 4, size=X.shape[0])
        weighted = self.fitted(X, resp, count.astype(float))
        repeated = self.fitted(
            np.repeat(X, count, axis=0),
            np.repeat(resp, count, axis=0),
            np.ones(count.sum()),
        )
        self.assert_same(weighted, repeated, X)

    def test_zero_weight_is_removal(self, rng):
        X, resp, weight = regions(rng)
        X[::4] += 50.0
        weight[::4] = 0.0
        kept = weight > 0
        full = self.fitted(X, resp, weight)
        part = self.fitted(X[kept], resp[kept], weight[kept])
        self.assert_same(full, part, X)

    def assert_same(self, one, other, X):
        np.testing.assert_allclose(
            one.log_proba(X), other.log_proba(X), atol=self.weight_tol
        )
        assert one.penalty == pytest.approx(other.penalty, abs=self.weight_tol)

    def test_order_of_experts_does_not_matter(self, rng):
        X, resp, weight = regions(rng)
        order = np.array([2, 0, 1])
        gate = self.fitted(X, resp, weight)
        permuted = self.fitted(X, resp[:, order], weight)
        np.testing.assert_allclose(
            permuted.log_proba(X), gate.log_proba(X)[:, order], atol=self.weight_tol
        )

    @pytest.mark.parametrize("seed", range(30))
    def test_m_step_raises_the_objective(self, seed):
        X, resp, weight = awkward(seed)
        gate = self.make_gate()
        gate.prepare(X, weight, resp.shape[1])
        rng = np.random.default_rng(seed)
        values = []
        # A second set of responsibilities makes the gate start from elsewhere.
        other = rng.dirichlet(np.ones(resp.shape[1]), size=X.shape[0])
        gate.m_step(X, other, weight)
        for _ in range(3):
            values.append(objective(gate, X, resp, weight))
            gate.m_step(X, resp, weight)
        values.append(objective(gate, X, resp, weight))
        assert np.isfinite(values).all()
        if gate.exact_m_step:
            size = 1.0 + np.abs(values).max()
            assert np.diff(values).min() >= -1e-10 * size

    def test_one_expert(self, rng):
        X, _, weight = regions(rng)
        gate = self.fitted(X, np.ones((X.shape[0], 1)), weight)
        np.testing.assert_allclose(gate.log_proba(X), 0.0, atol=1e-12)

    def test_expert_without_rows(self, rng):
        X, resp, weight = regions(rng)
        resp = np.column_stack([resp, np.zeros(X.shape[0])])
        gate = self.fitted(X, resp, weight, n_steps=4)
        log_proba = gate.log_proba(X)
        assert np.isfinite(log_proba).all()
        assert np.exp(log_proba[:, -1]).max() < 0.5

    @pytest.mark.parametrize("scale", [1e-12, 1e12])
    def test_scale_of_a_column(self, rng, scale):
        X, resp, weight = regions(rng)
        X[:, 1] *= scale
        gate = self.fitted(X, resp, weight)
        assert np.isfinite(gate.log_joint(X)).all()
        np.testing.assert_allclose(np.exp(gate.log_proba(X)).sum(axis=1), 1.0)

    def test_single_precision_rows(self, rng):
        X, resp, weight = regions(rng)
        X = X.astype(np.float32)
        single = self.fitted(X, resp, weight).log_proba(X)
        double = self.fitted(X.astype(float), resp, weight).log_proba(X.astype(float))
        np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)

    def test_parameters_round_trip(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        if not isinstance(gate, Parametric):
            return
        before, log_joint = np.array(gate.parameters), gate.log_joint(X)
        assert before.ndim == 1
        assert np.isfinite(before).all()
        gate.m_step(X, np.roll(resp, 1, axis=1), weight)
        gate.parameters = before
        np.testing.assert_allclose(gate.parameters, before, atol=1e-10)
        np.testing.assert_allclose(gate.log_joint(X), log_joint, atol=1e-9)

    def test_any_parameters_give_a_gate(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        if not isinstance(gate, Parametric):
            return
        start = np.array(gate.parameters)
        for size in (0.1, 3.0, 1e4):
            gate.parameters = start + size * rng.normal(size=start.size)
            total = np.exp(gate.log_proba(X)).sum(axis=1)
            np.testing.assert_allclose(total, 1.0, rtol=1e-10)
        gate.parameters = start + 0.1
        moved = objective(gate, X, resp, weight)
        for _ in range(3):
            gate.m_step(X, resp, weight)
        assert objective(gate, X, resp, weight) >= moved - 1e-9 * abs(moved)

    def test_arguments_are_left_alone(self, rng):
        X, resp, weight = regions(rng)
        copies = X.copy(), resp.copy(), weight.copy()
        for array in (X, resp, weight):
            array.flags.writeable = False
        gate = self.make_gate()
        given = repr(gate.get_params())
        gate.prepare(X, weight, resp.shape[1])
        gate.m_step(X, resp, weight)
        assert gate.log_proba(X).flags.writeable
        assert gate.log_joint(X).flags.writeable
        assert repr(gate.get_params()) == given
        for array, copy in zip((X, resp, weight), copies, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_result_is_not_a_view_of_the_state(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        first = gate.log_joint(X)
        kept = first.copy()
        first += 5.0
        np.testing.assert_array_equal(gate.log_joint(X), kept)

    def test_clone_forgets_and_repeats(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        again = clone(gate)
        assert repr(again.get_params()) == repr(gate.get_params())
        again.prepare(X, weight, resp.shape[1])
        for _ in range(2):
            again.m_step(X, resp, weight)
        np.testing.assert_array_equal(again.log_proba(X), gate.log_proba(X))

    def test_pickle(self, rng):
        X, resp, weight = regions(rng)
        gate = self.fitted(X, resp, weight)
        again = pickle.loads(pickle.dumps(gate))
        np.testing.assert_array_equal(again.log_joint(X), gate.log_joint(X))
        again.m_step(X, resp, weight)
        gate.m_step(X, resp, weight)
        np.testing.assert_array_equal(again.log_joint(X), gate.log_joint(X))
