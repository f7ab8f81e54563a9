"""Training of several tasks on a CUDA device: run with ``-m gpu``."""

import copy
import pickle

import numpy as np
import pytest
import torch

from skmoe.multitask import MMoEClassifier, MultiTaskMMoE
from skmoe.nn._code_table import CodeTable
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_fit import TaskSettings, TaskTrainer
from skmoe.nn._task_step import GraphedStep
from tests.nn.test_task_fit import assert_same, made, objective

pytestmark = pytest.mark.gpu
SETTINGS = TaskSettings(32, 1e-2, 0.0, 100, decay=0.9)


def moved(data):
    return TaskData(*(part.cuda() for part in data.parts))


def graphed(data, n_epochs, **options):
    trainer = TaskTrainer(objective(data, **options).cuda(), SETTINGS, 0)
    epochs = trainer.run(moved(data), None, n_epochs)
    return trainer, epochs


def test_a_recorded_step_is_the_step(monkeypatch):
    data = made(500)
    fast, epochs = graphed(data, 3)
    calls = []
    step_by_step = GraphedStep.__call__

    def plain(self, batch):
        calls.append(self.graph)
        return self.step(batch)

    monkeypatch.setattr(GraphedStep, "__call__", plain)
    slow, same = graphed(data, 3)
    assert step_by_step is not plain
    assert calls
    assert_same(fast, slow, rtol=1e-9, atol=1e-9)
    assert epochs[-1].train_loss == pytest.approx(same[-1].train_loss, rel=1e-9)


def test_steps_are_recorded(monkeypatch):
    seen = []
    record = GraphedStep._record

    def counted(self, batch):
        seen.append(len(batch))
        record(self, batch)

    monkeypatch.setattr(GraphedStep, "_record", counted)
    graphed(made(500), 2)
    assert seen == [32]


def test_two_trainings_on_a_gpu_are_equal_to_the_last_bit():
    options = {"dropout": 0.2, "gate_dropout": 0.2}
    first, _ = graphed(made(500), 3, **options)
    second, _ = graphed(made(500), 3, **options)
    assert_same(first, second, rtol=0, atol=0)


def test_a_model_of_a_gpu_goes_on_anywhere():
    data = made(500)
    trainer, _ = graphed(data, 2)
    on_cpu = pickle.loads(pickle.dumps(trainer))
    assert on_cpu.device == torch.device("cpu")
    on_cpu.run(data, None, 1)
    back = copy.deepcopy(trainer).to(torch.device("cuda"))
    back.run(moved(data), None, 1)


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_estimators_fit_on_a_gpu_and_predict_anywhere(precision):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 5))
    y = np.column_stack([X[:, 0] > 0, X[:, 1] * X[:, 2] > 0]).astype(int)
    options = {"precision": precision, "random_state": 0, "max_epochs": 60}
    there = MMoEClassifier(device="cuda", **options).fit(X, y)
    here = pickle.loads(pickle.dumps(there)).set_params(device=None)
    tolerance = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-1}[precision]
    for one, other in zip(there.predict_proba(X), here.predict_proba(X), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)
    assert there.score(X, y) > 0.9
    there.partial_fit(X, y)


def test_mixed_tasks_on_a_gpu():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    y = {
        "click": X[:, 0] > 0,
        "kind": np.digitize(X[:, 1], [-0.5, 0.5]),
        "watch": X[:, 2] + 0.1 * rng.normal(size=2000),
        "visits": rng.poisson(np.exp(X[:, 3])),
    }
    model = MultiTaskMMoE(
        tasks={
            "click": "binary",
            "kind": "multiclass",
            "watch": "regression",
            "visits": "count",
        },
        device="cuda",
        random_state=0,
        n_members=2,
    ).fit(X, y)
    assert min(model.task_scores(X, y).values()) > 0.3


def test_lookup_kernels_are_those_of_torch():
    generator = torch.Generator("cuda").manual_seed(0)
    for size in (1, 5, 8, 24):
        codes = torch.randint(
            0, 50, (1000, 7), generator=generator, device="cuda", dtype=torch.int32
        )
        table = CodeTable(50, size, 1.0).cuda()
        grad = torch.randn(1000, 7, size, generator=generator, device="cuda")
        vectors = table(codes)
        assert torch.equal(vectors, table.weight[codes.long()])
        vectors.backward(grad)
        exact = torch.zeros(50, size, dtype=torch.float64, device="cuda")
        exact.index_add_(0, codes.flatten().long(), grad.double().flatten(0, 1))
        torch.testing.assert_close(
            table.weight.grad.double(), exact, rtol=1e-6, atol=1e-6
        )
        first = table.weight.grad.clone()
        table.weight.grad = None
        table(codes).backward(grad)
        assert torch.equal(first, table.weight.grad)
        table.weight.grad = None
        table(codes).backward(torch.zeros_like(grad))
        assert not table.weight.grad.any()
        grad[3, 2] = torch.nan
        table(codes).backward(grad)
        assert table.weight.grad.isnan().any()
