"""Faults of the training of several tasks that were found in a review."""

import os
import subprocess
import sys
from contextlib import closing, contextmanager
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.nn import functional

from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn._task_chain import chained_logits, conditional_logits
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_fit import TaskSettings, TaskTrainer, _carried, evaluate
from skmoe.nn._task_losses import task_losses
from skmoe.nn._weight_average import BestWeights
from tests.multitask._small import assert_same_state, classifier, raw, regressor, rows
from tests.multitask._small import state as numbers_of
from tests.nn.test_task_fit import SETTINGS, _free_port, made, objective, state, trained

# -- losses and penalties ----------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "options"), [("ple", {}), ("mmoe", {"gate_dropout": 0.3})]
)
def test_entropy_has_a_gradient_where_experts_are_left_out(architecture, options):
    trainer, _ = trained(
        made(), 2, architecture=architecture, gate_entropy=0.1, **options
    )
    assert all(bool(value.isfinite().all()) for value in state(trainer).values())


def test_rates_without_end_leave_rows_without_labels_alone():
    outputs = torch.tensor([[200.0], [0.5]], requires_grad=True)
    weight = torch.tensor([[0.0], [1.0]])
    losses = task_losses(outputs, torch.zeros(2, 1), ("count",), (1,))
    (losses * weight).sum().backward()
    assert losses.isfinite().all()
    assert outputs.grad.tolist() == [[0.0], [pytest.approx(np.exp(0.5))]]


def test_loss_of_counts_goes_on_along_its_tangent():
    outputs = torch.tensor([[40.0], [42.0]], dtype=torch.float64, requires_grad=True)
    losses = task_losses(outputs, torch.zeros(2, 1), ("count",), (1,))
    losses.sum().backward()
    rate = np.exp(40.0)
    assert losses.tolist() == [[pytest.approx(rate)], [pytest.approx(3 * rate)]]
    assert outputs.grad.flatten().tolist() == pytest.approx([rate, rate])


def test_learned_weight_of_a_task_without_labels_stays():
    data = made()
    loss = objective(data, learned=True)
    data.weight[:, 1] = 0.0
    loss.mean_weight = data.weight.mean(dim=0)
    each, penalty = loss(*data.parts)
    (each.sum() + penalty).backward()
    assert loss.log_variance.grad[1] == 0.0
    assert loss.log_variance.grad[0] != 0.0


@pytest.mark.parametrize("options", [{"learned": True}, {"gate_entropy": 1.0}])
def test_a_part_of_a_batch_counts_as_a_part(options):
    """What batches add up to does not depend on how large the last one is."""
    data = made()
    loss = objective(data, **options)
    if loss.log_variance is not None:
        with torch.no_grad():
            loss.log_variance.fill_(0.7)

    def total(size):
        parts = [data.taken(slice(i, i + size)) for i in range(0, len(data), size)]
        return sum(sum(part.sum() for part in loss(*p.parts)) for p in parts)

    torch.testing.assert_close(total(100), total(199))


# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("weight", [2.0**-1000, 2.0**-140, 2.0**130, 2.0**1000])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_weights_of_any_size_are_weights(weight, precision):
    X, y = rows()
    given = np.full(len(X), weight)
    options = {"precision": precision, "embedding_penalty": 0.0}
    one, other = (
        classifier(**options).fit(X, y, w, X_val=X, y_val=y, sample_weight_val=w)
        for w in (None, given)
    )
    assert_same_state(numbers_of(one), numbers_of(other))
    for name, values in one.history_.items():
        np.testing.assert_array_equal(values, other.history_[name], err_msg=name)


def test_tiny_weights_leave_all_to_the_prior_of_vectors():
    X, y = rows()
    model = classifier(precision="float32").fit(X, y, np.full(len(X), 1e-300))
    assert np.isfinite(raw(model, X)).all()


# -- going on ----------------------------------------------------------------------


def test_a_later_day_without_any_label_is_an_error():
    X, y = rows()
    model = classifier().fit(X, y)
    with pytest.raises(ValueError, match="y has no label: all are missing"):
        model.partial_fit(X, np.full_like(y, np.nan))


def test_a_copy_for_another_device_changes_nothing():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    seed = _carried(generator, torch.device("cuda"))
    assert isinstance(seed, int)
    assert torch.equal(generator.get_state(), before)


# -- the best epoch ----------------------------------------------------------------


def test_scores_that_are_not_numbers_are_not_the_best():
    module = torch.nn.Linear(1, 1)
    best = BestWeights(module)
    kept = []
    for score in (float("nan"), -float("inf"), 1.0, float("nan"), 0.5):
        with torch.no_grad():
            module.weight += 1.0
        kept.append(module.weight.item())
        best.offer(score)
    best.put_back()
    assert module.weight.item() == kept[2]
    assert best.waited == 2


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [([np.nan, 1.0, 0.0], 2), ([np.nan, -np.inf, np.nan], 3), ([0.0, 2.0, np.nan], 2)],
)
def test_best_epoch_is_the_one_that_was_kept(monkeypatch, scores, wanted):
    left = iter(scores)

    def judged(self, epoch, held_out, score):
        epoch.score = next(left)

    monkeypatch.setattr(TaskTrainer, "_judge", judged)
    X, y = rows()
    model = classifier(early_stopping=True).fit(X, y)
    assert model.best_epoch_ == wanted


def test_validation_rows_out_of_all_bounds_are_told():
    held_out = made(50, 1)
    held_out.numbers[3] = torch.inf
    message = "of validation rows are not finite in epoch 1: look for extreme numbers"
    with pytest.raises(FloatingPointError, match=message):
        trained(made(), 2, held_out=held_out)


def test_loss_without_end_of_a_validation_row_is_no_best_epoch():
    X, _ = rows()
    far = X[:, 0].copy()
    far[0] = 1e30
    model = regressor(precision="float32").fit(X, X[:, 0], X_val=X, y_val=far)
    assert (model.history_["score"] == -np.inf).all()
    assert model.best_epoch_ == model.n_iter_ == 3


# -- aggregators -------------------------------------------------------------------


def test_aggregators_do_without_codes_and_touch_nothing_global():
    aggregation = pytest.importorskip("torchjd.aggregation")
    X, y = rows()
    before = torch.get_rng_state()
    given = aggregation.Random()
    models = [
        classifier(aggregator=given, numeric_encoding="standard").fit(X, y)
        for _ in range(2)
    ]
    assert_same_state(*map(numbers_of, models))
    assert torch.equal(torch.get_rng_state(), before)


def test_aggregators_are_for_one_process():
    X, y = rows()
    model = classifier(aggregator=lambda matrix: matrix.sum(dim=0), distributed=True)
    with (
        one_process(),
        pytest.raises(ValueError, match="leave one of the two out"),
    ):
        model.fit(X, y)


# -- chains and bfloat16 -----------------------------------------------------------


def chained_network(n_members=1):
    rows_ = TableRows(3, 2, 12, size=4)
    return MMoENetwork(
        rows_, [1, 1], architecture="esmm", parents=[-1, 0], n_members=n_members
    )


def test_a_chain_starts_from_the_rates_that_it_is_told():
    logits = torch.tensor([-1.0, -2.0, -4.0, 0.0], dtype=torch.float64)
    parents = [-1, 0, 1, -1]
    again = chained_logits(conditional_logits(logits, parents)[None], parents)[0]
    torch.testing.assert_close(again, logits)
    net = chained_network(n_members=2)
    with torch.no_grad():
        net.heads.weight.zero_()
    net.start_at(torch.tensor([-1.0, -2.0]))
    data = made(20)
    outputs, _ = net(data.numbers.float(), data.codes)
    torch.testing.assert_close(outputs, torch.tensor([-1.0, -2.0]).expand(20, 2, 2))
    more_often = conditional_logits(torch.tensor([-2.0, -1.0]), [-1, 0])
    assert more_often[1].sigmoid() == pytest.approx(0.99)


def test_products_of_a_chain_are_not_rounded_to_bfloat16():
    net = chained_network()
    with torch.no_grad():
        net.heads.weight.zero_()
    net.start_at(torch.tensor([8.0, 0.0]))
    data = made(20)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = net(data.numbers.float(), data.codes)
    assert outputs.dtype == torch.float32
    own = net.heads.bias[:, 0, 0].bfloat16().float()
    wanted = functional.logsigmoid(own).sum().exp()
    torch.testing.assert_close(
        outputs[:, 0, 1].sigmoid(), wanted.detach().expand(20), rtol=1e-5, atol=0
    )


# -- memory ------------------------------------------------------------------------


def test_wide_rows_are_evaluated_in_small_blocks(monkeypatch):
    data = made()
    loss = objective(data)
    whole, sizes = evaluate(loss, data), []
    blocks = TaskData.blocks

    def watched(self, size):
        sizes.append(size)
        return blocks(self, size)

    monkeypatch.setattr(TaskData, "blocks", watched)
    monkeypatch.setattr("skmoe.nn._task_fit.MOST_NUMBERS", 500)
    torch.testing.assert_close(evaluate(loss, data), whole)
    assert sizes == [500 // loss.network.rows.width]
    monkeypatch.setattr("skmoe.nn._task_fit.MOST_NUMBERS", 1)
    torch.testing.assert_close(evaluate(loss, data.taken(slice(9))), whole[:9])


# -- several processes -------------------------------------------------------------


@contextmanager
def one_process():
    """Make a group of one process."""
    address = f"tcp://127.0.0.1:{_free_port()}"
    torch.distributed.init_process_group(
        "gloo", init_method=address, rank=0, world_size=1
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_processes_train_without_codes():
    X, y = rows()
    with one_process():
        model = classifier(distributed=True, numeric_encoding="standard").fit(X, y)
    alone = classifier(numeric_encoding="standard").fit(X, y)
    np.testing.assert_allclose(raw(model, X), raw(alone, X), rtol=1e-9, atol=1e-9)


def test_a_share_without_rows_is_a_silent_row():
    data, generator = made(9), torch.Generator().manual_seed(0)
    shares = [
        list(data.batches(4, generator.manual_seed(0), slice(rank, None, 2)))
        for rank in range(2)
    ]
    assert [len(batch) for batch in shares[0]] == [2, 2, 1]
    assert [len(batch) for batch in shares[1]] == [2, 2, 1]
    assert shares[0][-1].weight.any()
    assert not shares[1][-1].weight.any()


def _worker(rank, port, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    settings = TaskSettings(64, 1e-2, 0.0, 100, distributed=True)
    # The second process has no row of the last batch, and 32 of each other.
    last, _ = trained(made(193), 2, settings)
    # Shares of 5 and 4 rows: dropout draws more in one process.
    noisy, _ = trained(made(201), 2, settings, dropout=0.3)
    held_out = made(50, 1)
    stopped = TaskTrainer(objective(made()), settings, 0).run(
        made(), held_out, 9, on_epoch=lambda epoch: rank == 0 and epoch.number == 2
    )
    X, y = rows(400)
    model = classifier(distributed=True, early_stopping=True, random_state=None)
    model.fit(X, y)
    found = {
        "last": {name: value.numpy() for name, value in state(last).items()},
        "generator": noisy.generator.get_state().numpy(),
        "epochs": len(stopped),
        "score": model.history_["score"],
    }
    queue.put((rank, found))
    torch.distributed.destroy_process_group()


def test_processes_stay_together():
    context = get_context("spawn")
    queue, port = context.Queue(), _free_port()
    with closing(queue):
        workers = [
            context.Process(target=_worker, args=(rank, port, queue))
            for rank in range(2)
        ]
        for worker in workers:
            worker.start()
        found = dict(queue.get(timeout=120) for _ in workers)
        for worker in workers:
            worker.join()
    alone, _ = trained(made(193), 2, SETTINGS)
    for name, value in state(alone).items():
        np.testing.assert_allclose(found[0]["last"][name], value, rtol=1e-9, atol=1e-9)
    for name in ("generator", "score"):
        np.testing.assert_array_equal(found[0][name], found[1][name])
    assert found[0]["epochs"] == found[1]["epochs"] == 2


SCRIPT = """
import os, sys
import numpy as np, torch
from skmoe.multitask import MMoEClassifier

torch.set_num_threads(1)
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 3))
y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0]).astype(int)
shared = "RANK" in os.environ
model = MMoEClassifier(
    distributed=shared, batch_size=64, max_epochs=3, n_experts=2, random_state=0
).fit(X, y)
np.save(sys.argv[1] + os.environ.get("RANK", ""), model.predict_proba(X)[0])
"""


def test_torchrun_needs_no_more_than_the_script(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = [sys.executable, "train.py", "alone"]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    several += ["--nproc-per-node", "2", "train.py", "process"]
    for command in (alone, several):
        subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True
        )
    wanted = np.load(tmp_path / "alone.npy")
    for rank in range(2):
        got = np.load(tmp_path / f"process{rank}.npy")
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_a_group_of_processes_is_asked_for():
    X, y = rows(50)
    with pytest.raises(RuntimeError, match="needs a group of processes: start the"):
        classifier(distributed=True).fit(X, y)
