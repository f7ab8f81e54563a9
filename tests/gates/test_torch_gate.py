"""TorchGate: the protocol, and what it shares with TorchExpert."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmoe import MixtureOfExpertsRegressor
from skmoe.exceptions import ExpertError
from skmoe.experts import LinearExpert
from skmoe.gates import TorchGate
from tests.gates.gate_suite import GateSuite, regions

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def small(**options):
    """One batch a step, in float64: then weights are repetitions, to rounding."""
    options = {"module__hidden": 8, "random_state": 0, "n_epochs": 60} | options
    return TorchGate(precision="float64", batch_size=4096, lr=0.03, **options)


class TestTorchGate(GateSuite):
    weight_tol = 1e-4
    test_sparse_equals_dense = None  # it takes dense rows
    test_order_of_experts_does_not_matter = None  # initial weights differ

    def make_gate(self):
        return small()


def test_learns_a_boundary_that_is_no_plane(rng):
    X = rng.uniform(-2, 2, size=(600, 2))
    inside = (X**2).sum(axis=1) < 2.0
    y = np.where(inside, 3.0 + X[:, 0], -X[:, 1]) + 0.1 * rng.normal(size=600)
    options = {"n_experts": 2, "random_state": 0}
    model = MixtureOfExpertsRegressor(
        LinearExpert(), gate=TorchGate(module__hidden=32), **options
    ).fit(X, y)
    flat = MixtureOfExpertsRegressor(LinearExpert(), **options).fit(X, y)
    assert model.score(X, y) > flat.score(X, y) + 0.2
    chosen = model.apply(X)
    agree = np.mean(chosen == inside)
    assert max(agree, 1 - agree) > 0.95


def test_knows_its_training_rows(rng):
    X, resp, weight = regions(rng)
    gate = small()
    gate.prepare(X, weight, 3)
    gate.m_step(X, resp, weight)
    remembered = gate.log_proba(X)
    assert_array_equal(remembered, gate.log_proba(X.copy()))
    remembered[:] = 0.0  # a copy
    assert np.abs(gate.log_proba(X)).min() > 0.0
    gate.finish()
    assert gate._seen is None
    assert gate._rows is None


def test_snapshot_is_independent(rng):
    X, resp, weight = regions(rng)
    gate = small()
    gate.prepare(X, weight, 3)
    gate.m_step(X, resp, weight)
    kept, before = copy.copy(gate), gate.log_proba(X)
    gate.m_step(X, np.roll(resp, 1, axis=1), weight)
    assert np.abs(gate.log_proba(X) - before).max() > 0.01
    assert_array_equal(kept.log_proba(X), before)


def test_tensors(rng):
    X, resp, weight = (torch.from_numpy(a) for a in regions(rng))
    gate, plain = small(), small()
    gate.prepare(X, weight, 3)
    gate.m_step(X, resp, weight)
    plain.prepare(X.numpy(), weight.numpy(), 3)
    plain.m_step(X.numpy(), resp.numpy(), weight.numpy())
    assert isinstance(gate.log_proba(X), torch.Tensor)
    assert_allclose(gate.log_proba(X).numpy(), plain.log_proba(X.numpy()), rtol=1e-12)
    assert isinstance(pickle.loads(pickle.dumps(gate)).log_proba(X), torch.Tensor)


def test_counts_its_weights(rng):
    X, _, weight = regions(rng)
    gate = TorchGate(module__hidden=5)
    gate.prepare(X, weight, 3)
    assert gate.n_parameters == 3 * 5 + 5 + 5 * 3 + 3
    assert gate.penalty == 0.0


def test_wrong_logits(rng):
    X, _, weight = regions(rng)
    gate = TorchGate(lambda n_inputs: nn.Linear(n_inputs, 2))
    with pytest.raises(ValueError, match=r"outputs of shape \(2, 3\), got \(2, 2\)"):
        gate.prepare(X, weight, 3)


def test_bad_arguments(rng):
    X, _, weight = regions(rng)
    with pytest.raises(ValueError, match="TorchGate: lr must be a positive number"):
        TorchGate(lr=-1).prepare(X, weight, 3)
    with pytest.raises(TypeError, match="TorchGate got unexpected keyword arguments"):
        TorchGate(depth=2)


class Infinite(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        return self.map(X) * (torch.inf if self.training else 1.0)


def test_nan_names_the_gate(rng):
    X = rng.normal(size=(60, 2))
    model = MixtureOfExpertsRegressor(
        n_experts=2, gate=TorchGate(Infinite), random_state=0
    )
    message = "In EM pass 0, 'gate' failed: Diverged: the loss became nan"
    with (
        pytest.warns(UserWarning, match="the learning rate is halved"),
        pytest.raises(ExpertError, match=message),
    ):
        model.fit(X, X[:, 0])
