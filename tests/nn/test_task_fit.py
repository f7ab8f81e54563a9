"""Losses and training of several tasks."""

import copy
import pickle
from contextlib import closing
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.nn import functional

from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_fit import Epoch, TaskSettings, TaskTrainer, evaluate
from skmoe.nn._task_losses import TaskObjective, pooled, task_losses

N, N_CODES = 200, 12
SETTINGS = TaskSettings(
    batch_size=64, learning_rate=1e-2, weight_decay=0.0, patience=100
)


def made(n_rows=N, seed=0, n_tasks=2):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_rows, 3))
    codes = rng.integers(1, N_CODES, size=(n_rows, 2))
    signal = numbers[:, :1] + 0.5 * (codes[:, :1] > 5)
    labels = (signal + rng.normal(size=(n_rows, n_tasks)) > 0).astype(float)
    return TaskData(
        torch.as_tensor(numbers),
        torch.as_tensor(codes, dtype=torch.int32),
        torch.as_tensor(labels),
        torch.ones(n_rows, n_tasks, dtype=torch.float64),
    )


def objective(data, architecture="mmoe", kinds=("binary", "binary"), **options):
    network_options = {
        name: options.pop(name)
        for name in ("dropout", "gate_dropout", "parents")
        if name in options
    }
    weights = options.pop("task_weights", torch.ones(2))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        rows = TableRows(
            3, 2, N_CODES, size=4, n_copies=2 if architecture == "single" else 1
        )
        net = MMoENetwork(
            rows,
            [1, 1],
            architecture=architecture,
            n_experts=4,
            expert_hidden=(8,),
            tower_hidden=(4,),
            **network_options,
        )
    mean = data.weight.mean(dim=0)
    return TaskObjective(
        net.double(), kinds, mean, 64, weights.double(), **options
    ).double()


def trained(data, n_epochs=3, settings=SETTINGS, seed=0, held_out=None, **options):
    trainer = TaskTrainer(objective(data, **options), settings, seed)
    epochs = trainer.run(data, held_out, n_epochs)
    return trainer, epochs


def state(trainer):
    return trainer.objective.state_dict()


def assert_same(first, second, **tolerance):
    for name, value in state(first).items():
        torch.testing.assert_close(value, state(second)[name], **tolerance)


EXACT = {"rtol": 0, "atol": 0}


def test_losses_are_those_of_their_laws():
    rng = np.random.default_rng(0)
    raw = torch.as_tensor(rng.normal(size=(50, 6)))
    labels = torch.as_tensor(
        np.column_stack(
            [
                rng.integers(0, 2, 50),
                rng.integers(0, 3, 50),
                rng.normal(size=50),
                rng.poisson(3.0, 50),
            ]
        )
    )
    kinds = ("binary", "multiclass", "regression", "count")
    got = task_losses(raw, labels, kinds, (1, 3, 1, 1))
    binary = functional.binary_cross_entropy_with_logits(
        raw[:, 0], labels[:, 0], reduction="none"
    )
    torch.testing.assert_close(got[:, 0], binary)
    law = torch.distributions.Categorical(logits=raw[:, 1:4])
    torch.testing.assert_close(got[:, 1], -law.log_prob(labels[:, 1]))
    normal = torch.distributions.Normal(raw[:, 4], 1.0)
    shift = 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(got[:, 2], -normal.log_prob(labels[:, 2]) - shift)
    poisson = torch.distributions.Poisson(raw[:, 5].exp())
    wanted = -poisson.log_prob(labels[:, 3]) - torch.lgamma(labels[:, 3] + 1)
    torch.testing.assert_close(got[:, 3], wanted)
    several_binary = task_losses(raw[:, :2], labels[:, [0, 0]], ("binary",) * 2, (1, 1))
    torch.testing.assert_close(several_binary[:, 0], binary)


def test_rows_without_labels_have_no_gradient_at_all():
    data = made()
    data.weight[:80, 0] = 0.0
    data.weight[40:60, 1] = 0.0
    numbers = data.numbers.clone().requires_grad_()
    loss = objective(data)
    each, _ = loss(numbers, data.codes, data.labels, data.weight)
    (first,) = torch.autograd.grad(each[0], numbers, retain_graph=True)
    (both,) = torch.autograd.grad(each.sum(), numbers)
    assert bool((first[:80] == 0).all())
    assert bool((first[80:] != 0).any(dim=1).all())
    assert bool((both[40:60] == 0).all())


def test_what_stands_for_a_missing_label_does_not_matter():
    data = made()
    data.weight[:80, 0] = 0.0
    other = copy.deepcopy(data)
    other.labels[:80, 0] = 1.0 - data.labels[:80, 0]
    first, _ = trained(data, 2)
    second, _ = trained(other, 2)
    assert_same(first, second, **EXACT)


def test_masked_rows_count_as_if_they_were_not_there():
    data = made()
    data.weight[:80] = 0.0
    whole = objective(data)(*data.parts)[0] * 64 / len(data)
    kept = data.taken(slice(80, None))
    alone = objective(kept)(*kept.parts)[0] * 64 / len(kept)
    torch.testing.assert_close(whole, alone)


def test_an_epoch_counts_each_label_once():
    """The batches' objectives add up to the mean loss of all labels."""
    data = made()
    data.weight[::3, 1] = 0.0
    loss = objective(data)
    generator = torch.Generator().manual_seed(0)
    total = sum(
        loss(*batch.parts)[0] for batch in data.batches(64, generator, slice(None))
    )
    raw = evaluate(loss, data)
    losses = task_losses(raw, data.labels, loss.kinds, (1, 1)) * data.weight
    mean = losses.sum(dim=0) / data.weight.sum(dim=0)
    torch.testing.assert_close(total * 64 / len(data), mean)


def test_learned_weights_are_those_of_the_formula():
    data = made()
    plain, learned = objective(data), objective(data, learned=True)
    with torch.no_grad():
        learned.log_variance.copy_(torch.tensor([0.5, -1.0]))
    each = plain(*data.parts)[0]
    s = torch.tensor([0.5, -1.0], dtype=torch.float64)
    torch.testing.assert_close(
        learned(*data.parts)[0], (-s).exp() * each + s / 2 * (N / 64)
    )


def test_penalties_vanish_for_even_gates_and_count_uneven_ones():
    data = made()
    loss = objective(data, gate_entropy=2.0, load_balance=3.0)
    joint = loss.network.levels[0].joint
    with torch.no_grad():
        joint.weight[-8:] = 0.0
        joint.bias[-8:] = 0.0
    assert loss(*data.parts)[1].item() == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():
        joint.bias[-8:] = torch.tensor([50.0, 0, 0, 0] * 2)
    wanted = 2.0 * np.log(4) + 3.0 * (4 - 1)
    assert loss(*data.parts)[1].item() == pytest.approx(wanted * N / 64)


def test_chain_penalty_is_the_excess_over_the_task_in_front():
    data = made()
    loss = objective(data, "aitm", parents=[-1, 0], chain_penalty=0.6)
    proba = evaluate(loss, data).sigmoid()
    excess = (proba[:, 1] - proba[:, 0]).clamp(min=0).sum()
    assert loss(*data.parts)[1].item() == pytest.approx(0.6 * float(excess) / 64)


def test_two_trainings_are_equal_to_the_last_bit_and_touch_nothing_global():
    data = made()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, _ = trained(data, dropout=0.2, gate_dropout=0.2)
    second, _ = trained(data, dropout=0.2, gate_dropout=0.2)
    assert_same(first, second, **EXACT)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    other, _ = trained(data, seed=1, dropout=0.2, gate_dropout=0.2)
    assert not torch.equal(
        state(first)["network.heads.weight"], state(other)["network.heads.weight"]
    )


def test_training_lowers_the_loss():
    _, epochs = trained(made(1000), 10)
    assert sum(epochs[-1].train_loss) < sum(epochs[0].train_loss) - 0.05


def test_averaged_weights_are_those_of_the_formula():
    data, seen = made(), []
    settings = TaskSettings(64, 1e-2, 0.0, 100, decay=0.9)
    last = TaskTrainer(objective(data), TaskSettings(64, 1e-2, 0.0, 100), 0)
    step = last.optimizer.step

    def watched():
        step()
        seen.append(copy.deepcopy(state(last)))

    mean = copy.deepcopy(state(last))
    last.optimizer.step = watched
    last.run(data, None, 30)
    for t, weights in enumerate(seen, 1):
        share = 1 - min(0.9, t / (t + 10))
        mean = {k: v + share * (weights[k] - v) for k, v in mean.items()}
    assert len(seen) > 100
    averaged, _ = trained(data, 30, settings)
    for name, value in state(averaged).items():
        torch.testing.assert_close(value, mean[name], rtol=1e-6, atol=1e-7)


def test_averaging_keeps_the_best_average():
    data, held_out = made(60), made(60, 1)
    settings = TaskSettings(16, 5e-2, 0.0, 1000, decay=0.9)
    trainer = TaskTrainer(objective(data), settings, 0)
    epochs = trainer.run(data, held_out, 40)
    raw = evaluate(trainer.objective, held_out)
    losses = task_losses(raw, held_out.labels, ("binary",) * 2, (1, 1)).mean(dim=0)
    assert -float(losses.sum()) == pytest.approx(max(e.score for e in epochs))


def test_vectors_are_penalised_by_their_squares():
    """One step of Adam moves by the learning rate against the gradient's sign."""
    data = made()
    data.weight[:] = 0.0
    settings = TaskSettings(N, 1e-3, 0.0, 100, embedding_penalty=0.1)
    before = objective(data)
    trainer = TaskTrainer(objective(data), settings, 0)
    trainer.run(data, None, 1)
    name = "network.rows.table.weight"
    old, new = before.state_dict()[name], state(trainer)[name]
    step = 1e-3 * 0.2 * old / (0.2 * old.abs() + 1e-8)
    torch.testing.assert_close(new, old - step)
    others = {k: v for k, v in before.state_dict().items() if k != name}
    assert all(torch.equal(value, state(trainer)[k]) for k, value in others.items())


def test_members_are_pooled_by_probabilities_means_and_rates():
    raw = torch.randn(30, 3, 6, dtype=torch.float64)
    kinds = ("binary", "multiclass", "regression", "count")
    got = pooled(raw, kinds, (1, 3, 1, 1))
    mean = raw[:, :, 0].sigmoid().mean(dim=1)
    torch.testing.assert_close(got[:, 0].sigmoid(), mean)
    mean = raw[:, :, 1:4].softmax(dim=2).mean(dim=1)
    torch.testing.assert_close(got[:, 1:4].softmax(dim=1), mean)
    torch.testing.assert_close(got[:, 4], raw[:, :, 4].mean(dim=1))
    torch.testing.assert_close(got[:, 5].exp(), raw[:, :, 5].exp().mean(dim=1))


def test_dropout_stays_on_behind_a_validation_pass():
    data, modes = made(), []
    trainer = TaskTrainer(objective(data, dropout=0.3), SETTINGS, 0)
    part = trainer.objective.network.levels[0].act.dropout
    part.register_forward_hook(lambda module, *_: modes.append(module.training))
    trainer.run(data, made(50, 1), 3)
    steps = -(-N // 64)
    assert modes == ([True] * steps + [False]) * 3
    assert not trainer.objective.training


def test_the_weights_of_the_best_epoch_come_back():
    data, held_out = made(60), made(60, 1)
    seen = []

    def keep(epoch):
        seen.append((epoch.score, copy.deepcopy(state(trainer))))
        return False

    settings = TaskSettings(16, 5e-2, 0.0, patience=4)
    trainer = TaskTrainer(objective(data), settings, 0)
    epochs = trainer.run(data, held_out, 200, on_epoch=keep)
    scores = [epoch.score for epoch in epochs]
    best = int(np.argmax(scores))
    assert len(epochs) == best + 1 + 4 < 200
    for name, value in seen[best][1].items():
        assert torch.equal(state(trainer)[name], value)


def test_the_best_epoch_comes_back_when_patience_is_never_used_up():
    data, held_out = made(60), made(60, 1)
    settings = TaskSettings(16, 5e-2, 0.0, patience=1000)
    trainer = TaskTrainer(objective(data), settings, 0)
    epochs = trainer.run(data, held_out, 40)
    raw = evaluate(trainer.objective, held_out)
    losses = task_losses(raw, held_out.labels, ("binary",) * 2, (1, 1)).mean(dim=0)
    assert -float(losses.sum()) == pytest.approx(max(e.score for e in epochs))
    assert max(e.score for e in epochs) > epochs[-1].score


def test_a_callback_can_stop_and_a_score_can_be_given():
    data = made()
    trainer = TaskTrainer(objective(data), SETTINGS, 0)

    def score(raw, held_out):
        return {"score": [float(len(held_out))], "extra": [1.0, 2.0]}

    epochs = trainer.run(
        data, made(50, 1), 10, score=score, on_epoch=lambda epoch: epoch.number == 2
    )
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[0].score == 50.0
    assert epochs[0].held_out["extra"] == [1.0, 2.0]
    assert isinstance(epochs[0], Epoch)


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "to"])
def test_training_goes_on_where_a_copy_left_off(way):
    data = made()
    first, _ = trained(data, 2, dropout=0.2)
    copies = {
        "pickle": lambda: pickle.loads(pickle.dumps(first)),
        "deepcopy": lambda: copy.deepcopy(first),
        "to": lambda: first.to(torch.device("cpu")),
    }
    second = copies[way]()
    before = copy.deepcopy(state(first))
    second.run(data, None, 2)
    for name, value in before.items():
        assert torch.equal(state(first)[name], value)
    first.run(data, None, 2)
    assert_same(first, second, **EXACT)
    assert second.n_epochs == 4


def test_a_table_grows_in_the_middle_of_training():
    data = made()
    trainer, _ = trained(data, 1)
    twin = copy.deepcopy(trainer)
    table = trainer.objective.network.rows.table
    old = table.weight
    table.grow(N_CODES + 3)
    trainer.replace(old, table.weight)
    trainer.run(data, None, 1)
    twin.run(data, None, 1)
    name = "network.rows.table.weight"
    torch.testing.assert_close(
        state(trainer)[name][:N_CODES], state(twin)[name], rtol=1e-12, atol=1e-12
    )
    pickle.loads(pickle.dumps(trainer)).run(data, None, 1)


def test_divergence_is_told():
    data = made()
    data.numbers[3] = torch.inf
    with pytest.raises(FloatingPointError, match=r"in epoch 1: lower learning_rate"):
        trained(data, 1)


def test_surgery_with_the_sum_is_plain_training():
    aggregation = pytest.importorskip("torchjd.aggregation")
    data = made()
    plain, _ = trained(data, 2)
    settings = TaskSettings(64, 1e-2, 0.0, 100, aggregator=aggregation.Sum())
    other, _ = trained(data, 2, settings)
    assert_same(plain, other, rtol=1e-9, atol=1e-9)
    settings = TaskSettings(64, 1e-2, 0.0, 100, aggregator=aggregation.PCGrad())
    trained(data, 2, settings, load_balance=0.1)


def _worker(rank, port, queue):
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    settings = TaskSettings(64, 1e-2, 0.0, 100, distributed=True)
    trainer, _ = trained(made(), 2, settings)
    result = {name: value.numpy() for name, value in state(trainer).items()}
    queue.put((rank, result))
    torch.distributed.destroy_process_group()


def _free_port():
    import socket

    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_two_processes_train_the_network_of_one():
    context = get_context("spawn")
    queue, port = context.Queue(), _free_port()
    workers = [
        context.Process(target=_worker, args=(rank, port, queue)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    alone, _ = trained(made(), 2)
    for name, value in state(alone).items():
        np.testing.assert_allclose(results[0][name], value, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(results[0][name], results[1][name])
