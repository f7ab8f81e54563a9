"""The multi-task network against its formulas, written out one expert at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from skmoe.nn._architectures import ARCHITECTURES, Level, levels_of
from skmoe.nn._code_table import CodeTable
from skmoe.nn._expert_bank import ExpertBank
from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._noise import ColumnDropout, Dropout, GateDropout, set_generator
from skmoe.nn._table_rows import ListPooling, TableRows
from skmoe.nn._task_chain import Transfer, chained_logits, in_order

N, N_NUMBERS, N_COLUMNS, N_CODES, SIZE = 40, 3, 4, 30, 5


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def table_rows(**options):
    return TableRows(N_NUMBERS, N_COLUMNS, N_CODES, size=SIZE, **options)


def inputs():
    codes = torch.randint(1, N_CODES, (N, N_COLUMNS)).int()
    return torch.randn(N, N_NUMBERS), codes


def network(architecture="mmoe", n_outputs=(1, 3), **options):
    copies = len(n_outputs) if architecture == "single" else 1
    chained = architecture in ("aitm", "esmm")
    options = {"parents": [-1, 0] if chained else None} | options
    outputs = (1,) * len(n_outputs) if chained else n_outputs
    rows = table_rows(n_copies=copies)
    return MMoENetwork(rows, outputs, architecture=architecture, **options)


def bank(open_to, hidden=(6,), **options):
    options = {"activation": "relu", "dropout": 0.0, "gate_dropout": 0.0} | options
    level = Level(1, (0,) * open_to.shape[1], open_to, hidden)
    return ExpertBank(7, level, norm=False, **options)


def test_lookup_has_the_gradient_of_an_embedding():
    table = CodeTable(N_CODES, SIZE, 1.0)
    codes = torch.randint(0, N_CODES, (N, N_COLUMNS))
    grad = torch.randn(N, N_COLUMNS, SIZE)
    (table(codes.int()) * grad).sum().backward()
    weight = table.weight.detach().clone().requires_grad_()
    (functional.embedding(codes, weight) * grad).sum().backward()
    torch.testing.assert_close(table.weight.grad, weight.grad)


def test_table_grows_at_the_end():
    table = CodeTable(4, SIZE, 1.0)
    old = table.weight.detach().clone()
    table.grow(7)
    assert table.weight.shape == (7, SIZE)
    assert torch.equal(table.weight[:4], old)
    assert bool((table.weight[4:] != 0).all())


def test_a_mixture_equals_its_formula():
    """z_g = sum_k softmax_k(gate logits) relu(x W_k + b_k), expert by expert."""
    layer = bank(torch.ones(2, 3, dtype=torch.bool))
    X = torch.randn(N, 1, 7)
    pooled, weight = layer(X)
    W, b = layer.joint.weight, layer.joint.bias
    experts = [
        torch.relu(X[:, 0] @ W[6 * k : 6 * k + 6].T + b[6 * k : 6 * k + 6])
        for k in range(3)
    ]
    for g in range(2):
        rows = slice(18 + 3 * g, 21 + 3 * g)
        gate = (X[:, 0] @ W[rows].T + b[rows]).softmax(dim=1)
        torch.testing.assert_close(weight[:, g], gate)
        wanted = sum(gate[:, k, None] * experts[k] for k in range(3))
        torch.testing.assert_close(pooled[:, g], wanted)


def test_deeper_experts_equal_a_loop():
    layer = bank(torch.ones(1, 2, dtype=torch.bool), hidden=(6, 4))
    X = torch.randn(N, 1, 7)
    pooled, weight = layer(X)
    first, second = layer.joint, layer.deeper.body[0]
    outputs = []
    for k in range(2):
        rows = slice(6 * k, 6 * k + 6)
        hidden = torch.relu(X[:, 0] @ first.weight[rows].T + first.bias[rows])
        outputs.append(torch.relu(hidden @ second.weight[k] + second.bias[k]))
    wanted = sum(weight[:, 0, k, None] * outputs[k] for k in range(2))
    torch.testing.assert_close(pooled[:, 0], wanted)


def test_split_layers_have_the_right_gradient():
    layer = bank(torch.tensor([[True, True, False], [False, True, True]]))
    X = torch.randn(5, 1, 7, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: layer(rows)[0], (X,))


def test_gates_see_only_the_experts_that_are_open_to_them():
    open_to = torch.tensor([[True, False, True], [False, True, True]])
    _, weight = bank(open_to)(torch.randn(N, 1, 7))
    torch.testing.assert_close(weight.sum(dim=2), torch.ones(N, 2))
    assert bool((weight[:, ~open_to] == 0).all())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_have_the_right_shape(architecture):
    net = network(architecture)
    raw, gates = net(*inputs())
    assert raw.shape == (N, 1, sum(net.n_outputs))
    n_gates = {"mmoe": 2, "omoe": 1, "cgc": 2, "ple": 2}.get(architecture, 0)
    if n_gates:
        assert gates[-1].shape[:2] == (N, n_gates)
        torch.testing.assert_close(gates[-1].sum(dim=2), torch.ones(N, n_gates))
    else:
        assert gates == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_is_that_of_finite_differences(architecture):
    net = network(architecture, expert_hidden=(3, 2), tower_hidden=(2,), n_experts=5)
    numbers, codes = inputs()
    numbers, codes = numbers[:3].requires_grad_(), codes[:3]
    assert torch.autograd.gradcheck(lambda rows: net(rows, codes).raw, (numbers,))


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"single"}))
def test_tasks_share_the_table(architecture):
    net = network(architecture, (1, 1))
    raw, _ = net(*inputs())
    grads = [
        torch.autograd.grad(
            raw[:, 0, t].sum(), net.rows.table.weight, retain_graph=True
        )
        for t in range(2)
    ]
    assert all(bool(grad[0].any()) for grad in grads)


def test_single_tasks_share_nothing():
    net = network("single", (1, 1))
    raw, _ = net(*inputs())
    params = list(net.parameters())
    first, second = (
        torch.autograd.grad(raw[:, 0, t].sum(), params, retain_graph=True)
        for t in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert not bool(((one != 0) & (other != 0)).any())


def test_progressive_levels_belong_to_tasks():
    first, last = levels_of("ple", 2, 8, 2, 2, (4,))
    assert (first.n_streams, last.n_streams) == (1, 3)
    assert last.expert_stream == (0, 0, 0, 1, 1, 1, 2, 2)
    assert first.open_to.shape == (3, 8)
    assert bool(first.open_to[2].all())
    own = [[True] * 3 + [False] * 3, [False] * 3 + [True] * 3]
    assert last.open_to.tolist() == [own[0] + [True] * 2, own[1] + [True] * 2]


@pytest.mark.parametrize(
    "architecture", ["omoe", "shared_bottom", "cgc", "aitm", "esmm"]
)
def test_experts_of_all_architectures_are_of_about_one_size(architecture):
    def size(name):
        return sum(p.numel() for p in network(name, (1, 1)).levels.parameters())

    assert size(architecture) == pytest.approx(size("mmoe"), rel=0.1)


@pytest.mark.parametrize("pooling", ["mean", "sum", "attention"])
def test_lists_are_pooled_row_by_row(pooling):
    pool = ListPooling(pooling, 2, 3, 1, SIZE)
    if pool.match is not None:
        torch.nn.init.normal_(pool.match)
    codes = torch.tensor([[1, 2, 3, 4, 0], [1, 5, 0, 0, 0], [2, 2, 7, 7, 8]])
    vectors = torch.randn(3, 5, 1, SIZE)
    got = pool(codes, vectors)
    for row, length in enumerate([2, 0, 3]):
        keys = vectors[row, 2 : 2 + length, 0]
        if length == 0:
            wanted = torch.zeros(SIZE)
        elif pooling == "attention":
            query = vectors[row, 1, 0] @ pool.match / SIZE**0.5
            wanted = (keys @ query).softmax(dim=0) @ keys
        else:
            wanted = keys.mean(dim=0) if pooling == "mean" else keys.sum(dim=0)
        torch.testing.assert_close(got[row, 0], wanted)


def test_lists_and_copies_make_the_width_that_is_promised():
    slots = [SimpleNamespace(pooling="mean", start=4, length=3, target=None)]
    for copies in (1, 2):
        for numbers in ("standard", "piecewise", "periodic"):
            rows = TableRows(
                3, 4, N_CODES, slots, size=SIZE, numbers=numbers, n_copies=copies
            )
            codes = torch.randint(0, N_CODES, (N, 7))
            out = rows(torch.randn(N, 3), codes)
            assert out.shape == (N, copies, rows.width)


@pytest.mark.parametrize(("n_columns", "width"), [(12, 63), (13, 72), (20, 104)])
def test_wide_rows_are_filled_up_with_zeros(n_columns, width):
    rows = TableRows(3, n_columns, N_CODES, size=SIZE)
    codes = torch.randint(1, N_CODES, (N, n_columns))
    out = rows(torch.randn(N, 3), codes)
    assert out.shape == (N, 1, width)
    assert rows.width == width
    filled = 3 + n_columns * SIZE
    assert bool((out[..., filled:] == 0).all())
    assert bool((out[..., :filled] != 0).all())


def test_rows_of_numbers_or_codes_alone():
    alone = TableRows(3, 0, 1)(torch.randn(N, 3), torch.empty(N, 0).int())
    assert alone.shape == (N, 1, 3)
    codes = torch.randint(1, 9, (N, 2)).int()
    assert TableRows(0, 2, 9)(torch.empty(N, 0), codes).shape == (N, 1, 16)


def test_gate_dropout_leaves_weights_that_sum_to_one():
    layer = bank(torch.tensor([[True, False, True, True]]), gate_dropout=0.9)
    set_generator(layer, torch.Generator().manual_seed(0))
    layer.train()
    _, weight = layer(torch.randn(2000, 1, 7))
    torch.testing.assert_close(weight.sum(dim=2), torch.ones(2000, 1))
    assert bool((weight[:, :, 1] == 0).all())
    counts = (weight > 0).sum(dim=2).flatten().bincount(minlength=4) / 2000
    # All three are out with probability .9^3, and then all stay.
    wanted = [0.0, 3 * 0.1 * 0.81, 3 * 0.01 * 0.9, 0.001 + 0.729]
    np.testing.assert_allclose(counts, wanted, atol=0.03)
    layer.eval()
    assert bool((layer(torch.randn(5, 1, 7))[1][:, :, [0, 2, 3]] > 0).all())


def test_dropout_keeps_the_mean_and_only_trains():
    drop = Dropout(0.25)
    set_generator(drop, torch.Generator().manual_seed(0))
    values = torch.ones(20_000)
    got = drop(values)
    assert float((got == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(got.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(drop.eval()(values), values)


@pytest.mark.parametrize("part", [Dropout(0.5), GateDropout(0.5)])
def test_noise_draws_from_its_own_generator(part):
    set_generator(part, torch.Generator().manual_seed(3))
    state = torch.get_rng_state()
    first = part(torch.zeros(4, 5, 6) + 1.0)
    assert torch.equal(torch.get_rng_state(), state)
    set_generator(part, torch.Generator().manual_seed(3))
    assert torch.equal(part(torch.zeros(4, 5, 6) + 1.0), first)


def test_chained_logits_are_those_of_products():
    logits = torch.randn(N, 4) * 3
    parents = [2, -1, 1, -1]
    proba = logits.sigmoid()
    wanted = proba.clone()
    wanted[:, 2] = proba[:, 1] * proba[:, 2]
    wanted[:, 0] = wanted[:, 2] * proba[:, 0]
    torch.testing.assert_close(chained_logits(logits, parents).sigmoid(), wanted)


@pytest.mark.parametrize("extreme", [-500.0, -40.0, 40.0, 500.0])
def test_chained_logits_are_finite_at_the_ends(extreme):
    logits = torch.full((1, 2), extreme, requires_grad=True)
    out = chained_logits(logits, [-1, 0])
    out.sum().backward()
    assert bool(out.isfinite().all())
    assert bool(logits.grad.isfinite().all())


def test_transfer_equals_its_formula():
    transfer = Transfer([-1, 0], SIZE)
    own = torch.randn(2, N, SIZE)
    got = transfer(own)
    torch.testing.assert_close(got[0], own[0])
    passed = torch.relu(transfer.passed["1"](own[0]))
    scores, values = [], []
    for vector in (own[1], passed):
        h1, h2, h3 = transfer.mixed["1"](vector).chunk(3, dim=1)
        scores.append((h1 * h2).sum(dim=1) / SIZE**0.5)
        values.append(h3)
    share = torch.stack(scores).softmax(dim=0)[:, :, None]
    torch.testing.assert_close(got[1], (share * torch.stack(values)).sum(dim=0))


def test_tasks_stand_behind_their_parents():
    assert in_order([1, 2, -1]) == [2, 1, 0]
    with pytest.raises(ValueError, match="in a circle"):
        in_order([1, 0, -1])


def test_network_starts_from_what_it_is_told():
    net = network(tower_hidden=(4,))
    with torch.no_grad():
        net.heads.weight.zero_()
    net.start_at(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    raw, _ = net(*inputs())
    assert torch.equal(raw[:, 0], torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(N, 4))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_members_are_networks_that_share_experts(architecture):
    """Member m is the network with its scales, and its towers, alone."""
    options = {"tower_hidden": (4,), "n_experts": 4}
    both = network(architecture, n_members=2, **options)
    alone = network(architecture, **options)
    numbers, codes = inputs()
    raw, gates = both(numbers, codes)
    assert raw.shape == (N, 2, sum(both.n_outputs))
    alone_gates = []
    for m in range(2):
        shared = {
            k: v[m::2] if k.startswith(("towers", "heads")) else v
            for k, v in both.state_dict().items()
            if k != "member_scale"
        }
        alone.load_state_dict(shared)
        scale = both.member_scale[m]
        alone.rows.register_forward_hook(lambda *args, s=scale: args[2] * s)
        got, own = alone(numbers, codes)
        alone_gates.append(own)
        torch.testing.assert_close(got[:, 0], raw[:, m])
        alone.rows._forward_hooks.clear()
    for gate, *own in zip(gates, *alone_gates, strict=True):
        torch.testing.assert_close(gate, sum(own) / 2)


def test_column_dropout_leaves_out_whole_vectors():
    drop = ColumnDropout(0.25)
    set_generator(drop, torch.Generator().manual_seed(0))
    got = drop(torch.ones(5000, 4, 3))
    assert bool((got == got[:, :, :1]).all())
    assert float((got == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(got.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "moe"}, "architecture must be one of"),
        ({"n_experts": 0}, "n_experts must be an integer >= 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\)"),
        ({"expert_hidden": (8, -1)}, "expert_hidden must be an integer >= 1"),
        ({"expert_hidden": ()}, "expert_hidden must have at least one layer"),
        ({"activation": "swish"}, "activation must be one of"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MMoENetwork(table_rows(), (1, 1), **options)
