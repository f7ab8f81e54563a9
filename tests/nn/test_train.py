"""Training: batched parts take the steps that each would take alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from skmoe.nn import MLP  # noqa: E402
from skmoe.nn._heads import CategoricalHead, GaussianHead, SoftHead  # noqa: E402
from skmoe.nn._joint import Group, train_mixture  # noqa: E402
from skmoe.nn._optimiser import Optimiser, Settings  # noqa: E402
from skmoe.nn._stack import Stack  # noqa: E402
from skmoe.nn._state import build_module, first_state  # noqa: E402
from skmoe.nn._train import (  # noqa: E402
    Diverged,
    Task,
    _own_rows,
    _Run,
    evaluate,
    train,
)

CPU = torch.device("cpu")


def settings(**options):
    plain = {"n_epochs": 2, "batch_size": 32, "optimizer": torch.optim.AdamW}
    rates = {"lr": 0.01, "weight_decay": 0.1}
    return Settings(**{**plain, "options": rates, **options})


def problem(rng, size=3, n_rows=100, head=None):
    """Modules, their states, and what they are to learn, in float64."""
    head = head or GaussianHead(
        torch.zeros(1).double(), torch.ones(1).double(), (5.0, 0.05), True
    )
    modules = [
        build_module(MLP, {"hidden": 8}, 3, head.n_raw, k).double() for k in range(size)
    ]
    # One generator for all: then each part alone sees the same batches.
    states = [first_state(m, head.start(), 7) for m in modules]
    X = torch.from_numpy(rng.normal(size=(n_rows, 3)))
    y = torch.sin(X[:, :1])
    if isinstance(head, CategoricalHead):
        y = (X[:, 0] > 0).long()
    weight = torch.from_numpy(rng.uniform(size=(n_rows, size)))
    return modules[0], states, Task(X, y, weight, head)


def alone(task, k):
    return Task(task.X, task.y, task.weight[:, k : k + 1].clone(), task.head)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_norm": 0.01},
        {"optimizer": torch.optim.SGD, "options": {"lr": 0.1, "momentum": 0.9}},
        {"optimizer": torch.optim.RMSprop, "options": {"lr": 0.01}},
        {"validation": 0.25, "n_epochs": 6},
    ],
    ids=["adamw", "clipped", "sgd", "rmsprop", "held out"],
)
@pytest.mark.parametrize("classes", [False, True])
def test_together_equals_one_by_one(rng, options, classes):
    head = CategoricalHead(2) if classes else None
    module, states, task = problem(rng, head=head)
    how = settings(**options)
    together, raw = train(module, states, task, how)
    together, raw = train(module, together, task, how)
    for k, state in enumerate(states):
        one, own = train(module, [state], alone(task, k), how)
        one, own = train(module, one, alone(task, k), how)
        assert_allclose(own[0], raw[k], rtol=1e-8, atol=1e-10)
        for name, tensor in one[0].tensors().items():
            assert_allclose(together[k].tensors()[name], tensor, rtol=1e-7, atol=1e-9)


def test_equals_a_plain_loop(rng):
    """Steps of AdamW on the weighted mean loss, written out."""
    module, states, task = problem(rng, size=1, n_rows=64)
    how = settings(n_epochs=1)
    (state,), raw = train(module, states, task, how)
    plain = build_module(MLP, {"hidden": 8}, 3, 1, 0).double()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    generator = torch.Generator().manual_seed(7)
    torch.randint(2**31, (1,), generator=generator)  # the seed of dropout
    order = torch.randperm(64, generator=generator)
    weight = task.weight[:, 0] / task.weight.mean()
    for index in order.split(32):
        optimizer.zero_grad()
        error = plain(task.X[index]) - task.y[index]
        (weight[index] * 0.5 * error[:, 0] ** 2).mean().backward()
        optimizer.step()
    assert_allclose(raw[0], plain(task.X).detach(), rtol=1e-9)
    expected = (task.weight * (raw[0] - task.y) ** 2).sum() + 5.0 * 0.05
    expected = expected / (task.weight.sum() + 5.0)
    assert_allclose(float(state.shape.exp()), float(expected), rtol=1e-9)


class Unused(nn.Module):
    """Has a parameter that no output depends on."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)
        self.spare = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        return self.map(X)


@pytest.mark.parametrize("size", [1, 2])
def test_parameters_that_are_not_used_stay(rng, size):
    _, _, task = problem(rng, size=size)
    modules = [Unused(3, 1).double() for _ in range(size)]
    states = [first_state(m, task.head.start(), 7) for m in modules]
    how = settings(options={"lr": 0.01, "weight_decay": 0.0})
    after, _ = train(modules[0], states, task, how)
    for old, new in zip(states, after, strict=True):
        assert torch.equal(new.params["spare.weight"], old.params["spare.weight"])
        assert not torch.equal(new.params["map.weight"], old.params["map.weight"])
    gate, experts, weight = mixture(rng)
    experts.module, experts.states = modules[0], states[:1] * 3
    groups = train_mixture(gate, [experts], weight, ["a", "b", "c"])
    new, old = groups[1][0], states[0]
    assert not torch.equal(new.params["map.weight"], old.params["map.weight"])


def test_last_step_that_goes_too_far_is_taken_back(rng):
    """No loss follows it: the outputs tell."""
    module, states, task = problem(rng)
    how = settings(
        n_epochs=1,
        batch_size=100,
        optimizer=torch.optim.SGD,
        options={"lr": 1e200},
    )
    message = r"nan after the last step with gradient norm [\d.e+-]+\. A smaller lr"
    with (
        pytest.warns(UserWarning, match="nan after the last step. The weights are"),
        pytest.raises(Diverged, match=message),
    ):
        train(module, states, task, how)


def test_joint_last_step_that_goes_too_far_is_taken_back(rng):
    gate, experts, weight = mixture(rng)
    experts.settings = settings(
        batch_size=120, n_epochs=1, optimizer=torch.optim.SGD, options={"lr": 1e200}
    )
    message = r"nan after the last step, with gradient norm [\d.e+-]+\. A smaller lr"
    with (
        pytest.warns(UserWarning, match="nan after the last step. The weights are"),
        pytest.raises(Diverged, match=message),
    ):
        train_mixture(gate, [experts], weight, ["a", "b", "c"])


def test_held_out_rows_are_the_same_whichever_are_seen(rng):
    module, states, task = problem(rng, size=1, n_rows=400)
    held_out, learned = set(), set()
    for _ in range(6):
        weight = (rng.uniform(size=(400, 1)) < 0.5).astype(float)
        part = Task(task.X, task.y, torch.from_numpy(weight), task.head)
        run = _Run(Stack(module, states, CPU), part, settings(validation=0.25), 32)
        assert 0.15 < run.held_out.numel() / weight.sum() < 0.35
        assert run.held_out.numel() + run.rows.numel() == weight.sum()
        held_out |= set(run.held_out.tolist())
        learned |= set(run.rows.tolist())
    assert not held_out & learned


def hard_weights(rng, n_rows, size):
    return torch.from_numpy(np.eye(size)[rng.integers(size, size=n_rows)])


def test_own_rows_are_each_visited_once(rng):
    size, n_rows, batch = 5, 503, 50
    weight = hard_weights(rng, n_rows, size)
    weight[:7] = 0.2  # some rows of all
    order = torch.from_numpy(rng.permutation(n_rows))
    inverse = 1.0 / weight.mean(dim=0)
    steps = _own_rows(weight, order, inverse, batch)
    assert len(steps) == 11
    assert len({step.shape for step in steps}) == 1
    for k in range(size):
        seen = torch.cat([step[k] for step in steps])
        seen = seen[seen >= 0]
        expected = torch.nonzero(weight[:, k] > 0)[:, 0]
        assert torch.equal(seen.sort()[0], expected)
        # In the order of the permutation, spread evenly over the steps.
        place = torch.argsort(order)[seen]
        assert torch.equal(place, place.sort()[0])
        counts = torch.tensor([int((step[k] >= 0).sum()) for step in steps])
        assert int(counts.max() - counts.min()) <= 1


def test_soft_weights_visit_all_rows(rng):
    weight = torch.from_numpy(rng.dirichlet(np.ones(4), size=200))
    order, inverse = torch.arange(200), 1.0 / weight.mean(dim=0)
    assert _own_rows(weight, order, inverse, 50) is None
    assert _own_rows(hard_weights(rng, 200, 4), order, inverse, 200) is None
    assert _own_rows(torch.ones(200, 1), order, torch.ones(1), 50) is None


def test_own_rows_learn_what_all_rows_teach(rng, monkeypatch):
    """The same epochs with and without the rows that say nothing."""
    module, states, task = problem(rng, size=4, n_rows=400)
    task.weight = hard_weights(rng, 400, 4)
    how = settings(n_epochs=150, options={"lr": 0.01, "weight_decay": 0.0})
    _, own = train(module, states, task, how)
    monkeypatch.setattr("skmoe.nn._train.OWN_ROWS", 0.0)
    _, dense = train(module, states, task, how)
    for raw in (own, dense):
        error = (task.weight * (raw[..., 0].T - task.y) ** 2).sum(dim=0)
        assert float((error / task.weight.sum(dim=0)).max()) < 0.05
    mine = task.weight.T > 0
    assert_allclose(own[mine], dense[mine], atol=0.3)


def test_own_rows_do_less_work(rng):
    class Counting(nn.Module):
        rows = 0

        def __init__(self, n_inputs, n_outputs):
            super().__init__()
            self.map = nn.Linear(n_inputs, n_outputs)

        def forward(self, X):
            if self.training:
                Counting.rows += X.shape[0]  # of each of the parts, under vmap
            return self.map(X)

    _, _, task = problem(rng, size=8, n_rows=4000)
    module = Counting(3, 1).double()
    states = [first_state(module, task.head.start(), 7)] * 8
    task.weight = hard_weights(rng, 4000, 8)
    train(module, states, task, settings(n_epochs=1, batch_size=400))
    assert 500 <= Counting.rows < 700  # of 4000


def test_weights_count_relative_to_their_mean(rng):
    module, states, task = problem(rng)
    _, raw = train(module, states, task, settings())
    task.weight = 1e-6 * task.weight
    _, light = train(module, states, task, settings())
    assert_allclose(light, raw, rtol=1e-6)


def test_part_without_weight_is_left_alone_but_for_decay(rng):
    module, states, task = problem(rng)
    task.weight[:, 1] = 0.0
    how = settings(options={"lr": 0.01, "weight_decay": 0.0})
    after, _ = train(module, states, task, how)
    for name, tensor in states[1].params.items():
        assert torch.equal(after[1].params[name], tensor)
    assert not torch.equal(
        after[0].params["body.0.weight"], states[0].params["body.0.weight"]
    )


def test_evaluate_in_blocks(rng, monkeypatch):
    module, states, task = problem(rng)
    stack = Stack(module, states, CPU)
    whole = evaluate(stack, task.X)
    monkeypatch.setattr("skmoe.nn._train.CPU_BLOCK", 7)
    assert_allclose(evaluate(stack, task.X), whole, rtol=1e-12)


def test_evaluate_survives_a_lack_of_memory(rng, monkeypatch):
    module, states, task = problem(rng)
    stack = Stack(module, states, CPU)
    whole, raw = evaluate(stack, task.X), stack.raw

    def greedy(X, **options):
        if len(X) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return raw(X, **options)

    monkeypatch.setattr(stack, "raw", greedy)
    assert_allclose(evaluate(stack, task.X), whole, rtol=1e-12)


def test_moments_are_split_and_joined(rng):
    module, states, task = problem(rng)
    after, _ = train(module, states, task, settings())
    stack = Stack(module, after, CPU)
    joined = Optimiser(stack, settings())
    for k, part in enumerate(joined.moments()):
        for name, known in part.items():
            for key, tensor in known.items():
                assert torch.equal(tensor, after[k].moments[name][key])


def test_numbers_of_heads_neither_decay_nor_count_in_the_norm(rng):
    module, states, _ = problem(rng)
    how = settings(
        optimizer=torch.optim.SGD, options={"lr": 1.0, "weight_decay": 0.5}, max_norm=1
    )
    stack = Stack(module, states, CPU)
    stack.shape = torch.full_like(stack.shape, 2.0)
    optimiser = Optimiser(stack, how, shapes=True)
    before = [param.detach().clone() for param in optimiser.params]
    gradients = [torch.full_like(param, 1e-3) for param in before]
    gradients[-1] += 1e3
    optimiser.apply(gradients)
    for old, param in zip(before[:-1], optimiser.params[:-1], strict=True):
        assert_allclose(param.detach(), 0.5 * old - 1e-3)
    assert_allclose(stack.shape.detach(), before[-1] - gradients[-1])


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.AdamW, {"foreach": True}),  # which the fused kernel excludes
        (torch.optim.Rprop, {}),  # which has no weight decay
    ],
)
def test_arguments_of_optimisers(rng, optimizer, options):
    module, states, task = problem(rng)
    rates = {"lr": 0.01, "weight_decay": 0.1}
    how = settings(optimizer=optimizer, options=rates | options)
    after, _ = train(module, states, task, how)
    for name, tensor in after[0].params.items():
        assert not torch.equal(tensor, states[0].params[name])


# -- gate and experts together ---------------------------------------------------------


def mixture(rng, n_rows=120):
    module, states, task = problem(rng, size=3, n_rows=n_rows)
    gate_module = build_module(MLP, {"hidden": 4}, 3, 3, 9).double()
    gate_state = first_state(gate_module, torch.zeros(0).double(), 5)
    how = settings(batch_size=n_rows, n_epochs=1)
    gate = Group(gate_module, [gate_state], task.X, None, SoftHead(3), how, [0])
    experts = Group(module, states, task.X, task.y, task.head, how, [2, 0, 1])
    weight = torch.from_numpy(rng.uniform(0.5, 2.0, size=n_rows))
    return gate, experts, weight


def objective(gate, experts, weight):
    """Return the penalised log-likelihood, and the joint log densities."""
    raw = evaluate(Stack(gate.module, gate.states, CPU), gate.X)[0]
    log_gate = torch.log_softmax(raw, dim=-1).T
    stack = Stack(experts.module, experts.states, CPU)
    shape = stack.shape
    log_prob = experts.head.log_prob(experts.y, evaluate(stack, experts.X), shape)
    joint = log_gate[experts.members] + log_prob
    total = (weight * torch.logsumexp(joint, dim=0)).sum()
    return float(total + experts.head.penalty(shape).sum()), joint


def test_joint_step_is_that_of_the_likelihood(rng):
    """A tiny step of plain SGD moves the objective by its squared gradient."""
    gate, experts, weight = mixture(rng)
    how = settings(
        batch_size=120,
        n_epochs=1,
        optimizer=torch.optim.SGD,
        options={"lr": 1e-6},
    )
    gate.settings = experts.settings = how
    before, _ = objective(gate, experts, weight)
    start = [*gate.states, *experts.states]
    groups = train_mixture(gate, [experts], weight, ["a", "b", "c"])
    after = [state for group in groups for state in group]
    square = 0.0
    for old, new in zip(start, after, strict=True):
        for name, tensor in old.params.items():
            square += float((new.params[name] - tensor).square().sum()) / 1e-12
        square += float((new.shape - old.shape).square().sum()) / 1e-12
    gate.states, experts.states = groups
    gained, _ = objective(gate, experts, weight)
    # The loss is the objective per unit of weight.
    expected = 1e-6 * square * float(weight.sum())
    assert_allclose(gained - before, expected, rtol=1e-3)


def test_joint_training_climbs(rng):
    gate, experts, weight = mixture(rng)
    trace = [objective(gate, experts, weight)[0]]
    for _ in range(150):
        gate.states, experts.states = train_mixture(
            gate, [experts], weight, ["a", "b", "c"]
        )
        trace.append(objective(gate, experts, weight)[0])
    assert trace[-1] > trace[0] + 60.0


def test_joint_training_takes_nan_back(rng):
    gate, experts, weight = mixture(rng)
    experts.y = experts.y.clone()
    experts.y[3] = torch.nan
    with (
        pytest.warns(UserWarning, match="the gate and a, b, c: the loss became nan"),
        pytest.raises(FloatingPointError, match="with gradient norm nan"),
    ):
        train_mixture(gate, [experts], weight, ["a", "b", "c"])
