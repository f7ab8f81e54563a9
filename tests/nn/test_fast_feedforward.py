"""Fast feedforward layers against loops written from the papers."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from skmoe.nn._fast_feedforward import FastFeedforward
from skmoe.nn._tree_walk import ACTIVATIONS, Tree, gathered_leaves, hard_leaves
from skmoe.nn.routing._routed_module import auxiliary_loss

SHAPES = [(0, 4), (1, 1), (3, 5), (9, 2)]


def layer_of(depth=3, leaf_width=4, *, dtype=torch.float64, **options):
    torch.manual_seed(0)
    layer = FastFeedforward(6, 3, depth=depth, leaf_width=leaf_width, **options)
    # Far from balance at the start, so that leaves differ in their rows.
    with torch.no_grad():
        layer.node_weight.mul_(3.0)
    return layer.to(dtype)


def rows_of(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, 6, generator=generator, dtype=torch.float64).to(dtype)


def parts(layer):
    splits = (layer.node_weight, layer.node_bias)
    return Tree(*splits, layer.w1, layer.b1, layer.w2, layer.b2)


def leaf_output(layer, number, row):
    hidden = ACTIVATIONS[layer.activation](layer.w1[number] @ row + layer.b1[number])
    return hidden @ layer.w2[number] + layer.b2[number]


def recursive(layer, row, node=0):
    """Return the forward pass of one row, by the recursion of the 2023 paper."""
    if node >= layer.n_leaves - 1:
        return leaf_output(layer, node - layer.n_leaves + 1, row)
    choice = torch.sigmoid(layer.node_weight[node] @ row + layer.node_bias[node])
    left, right = (recursive(layer, row, 2 * node + 1 + side) for side in (0, 1))
    return (1 - choice) * left + choice * right


def walked(layer, row):
    """Return the leaf of one row, by the descent of the 2023 paper."""
    node = 0
    while node < layer.n_leaves - 1:
        right = layer.node_weight[node] @ row + layer.node_bias[node] > 0
        node = 2 * node + 1 + int(right)
    return node - layer.n_leaves + 1


@pytest.mark.parametrize(("depth", "leaf_width"), SHAPES)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_training_is_the_recursion_of_the_paper(depth, leaf_width, activation):
    layer = layer_of(depth, leaf_width, activation=activation)
    x = rows_of(2)
    slow = torch.stack([recursive(layer, row) for row in x])
    torch.testing.assert_close(layer(x), slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("depth", "leaf_width"), SHAPES)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n_rows", [1, 2, 700])
def test_evaluation_is_the_descent_of_the_paper(depth, leaf_width, activation, n_rows):
    layer = layer_of(depth, leaf_width, activation=activation).eval()
    x = rows_of(n_rows)
    leaves = [walked(layer, row) for row in x]
    assert layer.leaf_of(x).tolist() == leaves
    pairs = zip(leaves, x, strict=True)
    slow = torch.stack([leaf_output(layer, number, row) for number, row in pairs])
    torch.testing.assert_close(layer(x), slow, rtol=1e-12, atol=1e-12)
    plain, leaf = gathered_leaves(x, parts(layer), layer.activation)
    assert leaf.tolist() == leaves
    torch.testing.assert_close(plain, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", [0, 4])
@pytest.mark.parametrize("n_rows", [1, 300])
def test_evaluation_equals_hard_training_to_the_last_bit(dtype, depth, n_rows):
    layer = layer_of(depth, dtype=dtype, master_leaf_width=4)
    x = rows_of(n_rows, dtype=dtype)
    hard = layer.forward_hard(x)
    assert hard.requires_grad
    with torch.no_grad():
        found = layer.eval()(x)
    assert found.dtype == dtype
    assert torch.equal(found, hard)


def test_soft_becomes_hard_as_scores_grow():
    layer = layer_of()
    with torch.no_grad():
        layer.node_weight.mul_(1e6)
        layer.node_bias.mul_(1e6)
    x = rows_of(50)
    torch.testing.assert_close(layer(x), layer.eval()(x), rtol=1e-10, atol=1e-10)


def test_output_bias_counts_in_evaluation():
    layer = layer_of().eval()
    x = rows_of(20)
    before = layer(x)
    with torch.no_grad():
        layer.b2.add_(1.0)
    torch.testing.assert_close(layer(x), before + 1.0)


@pytest.mark.parametrize("n_rows", [1, 5, 200])
def test_evaluation_reads_only_the_leaves_and_splits_of_its_paths(n_rows):
    layer = layer_of(depth=9).eval()
    x = rows_of(1).expand(n_rows, -1) + 1e-9 * rows_of(n_rows)
    leaf = layer.leaf_of(x).unique().tolist()
    assert len(leaf) == 1
    expected = layer(x)
    others = torch.ones(layer.n_leaves, dtype=torch.bool)
    others[leaf] = False
    with torch.no_grad():
        for part in (layer.w1, layer.b1, layer.w2, layer.b2):
            part[others] = torch.nan
        # Levels near the root are scored at once; below, the path alone is read.
        node, path = leaf[0] + layer.n_leaves - 1, []
        while node:
            node = (node - 1) // 2
            path.append(node)
        off_path = torch.ones(layer.n_leaves - 1, dtype=torch.bool)
        off_path[path] = False
        off_path[: 0 if n_rows == 1 else 127] = False
        layer.node_weight[off_path] = torch.nan
    assert len(path) == 9
    assert torch.equal(layer(x), expected)


def test_leading_dimensions_are_kept():
    layer = layer_of()
    x = rows_of(2, 5)
    for training in (True, False):
        layer.train(training)
        out = layer(x)
        assert out.shape == (2, 5, 3)
        torch.testing.assert_close(out, layer(x.flatten(0, 1)).reshape(2, 5, 3))
    assert layer.leaf_of(x).shape == (2, 5)
    assert layer.leaf_proba(x).shape == (2, 5, 8)
    assert layer(rows_of()).shape == (3,)
    assert layer(x[:, :0]).shape == (2, 0, 3)
    assert layer.train()(x[:, :0]).shape == (2, 0, 3)
    assert auxiliary_loss(layer) == 0


def test_gradients_by_finite_differences():
    x = rows_of(7).requires_grad_()
    options = {"activation": "gelu", "load_balance": 0.5, "master_leaf_width": 2}
    layer = layer_of(2, **options)
    names = [name for name, _ in layer.named_parameters()]

    def soft(x, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, given, (x,)), auxiliary_loss(layer)

    assert torch.autograd.gradcheck(soft, (x, *layer.parameters()))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n_rows", [1, 9])
def test_gradients_of_hard_choices_by_finite_differences(activation, n_rows):
    layer = layer_of(2, activation=activation)
    tree = parts(layer)
    x = rows_of(n_rows).requires_grad_()

    def hard(x, *leaves):
        return hard_leaves(x, Tree(*tree[:2], *leaves), activation)[0]

    assert torch.autograd.gradcheck(hard, (x, *tree[2:]))
    layer.forward_hard(x).sum().backward()
    assert layer.node_weight.grad is None


def test_operation_keeps_the_rules_of_torch():
    layer = layer_of(2, dtype=torch.float32)
    x = rows_of(9, dtype=torch.float32).requires_grad_()
    given = (x, *parts(layer), layer.activation)
    torch.library.opcheck(torch.ops.skmoe.fast_feedforward, given)


def test_losses_are_those_of_the_papers():
    layer = layer_of(2, hardening=2.0, load_balance=0.3)
    x = rows_of(40)
    layer(x)
    choice = torch.sigmoid(x @ layer.node_weight.T + layer.node_bias)
    entropy = -choice * choice.log() - (1 - choice) * (1 - choice).log()
    proba = layer.leaf_proba(x)
    torch.testing.assert_close(proba.sum(1), torch.ones(40, dtype=x.dtype))
    share = torch.bincount(layer.leaf_of(x), minlength=4) / 40
    expected = {
        "hardening": 2.0 * entropy.mean(),
        "load_balance": 0.3 * 4 * (share * proba.mean(0)).sum(),
    }
    assert layer.losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(layer.losses[name], value, check_dtype=False)
    total = sum(expected.values())
    torch.testing.assert_close(
        auxiliary_loss(nn.Sequential(layer)), total, check_dtype=False
    )
    statistics = layer.statistics
    torch.testing.assert_close(statistics["load"], 40 * share, check_dtype=False)
    torch.testing.assert_close(statistics["importance"], proba.sum(0))
    torch.testing.assert_close(statistics["entropy"], entropy.mean())
    assert statistics["dropped"] == 0
    layer.eval()(x)
    assert layer.losses == {}
    assert layer.statistics == {}
    assert auxiliary_loss(layer) == 0


def test_losses_of_extreme_scores_are_finite():
    layer = layer_of(3, load_balance=1.0, dtype=torch.float32)
    with torch.no_grad():
        layer.node_weight.mul_(1e4)
    layer(rows_of(20, dtype=torch.float32))
    loss = auxiliary_loss(layer)
    loss.backward()
    assert loss.isfinite()
    assert 0 <= layer.losses["hardening"] < 1e-2
    assert layer.node_weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "options", [{"hardening": 0.0}, {"depth": 0, "load_balance": 1.0}]
)
def test_losses_without_weight_or_splits_are_left_out(options):
    layer = layer_of(**options)
    layer(rows_of(4))
    assert layer.losses == {}
    assert layer.statistics["load"].sum() == 4


def trained(layer, x, n_steps, lr=0.05):
    """Train on the losses that the layer keeps; return its statistics at the end."""
    optimiser = torch.optim.Adam(layer.parameters(), lr)
    for _ in range(n_steps):
        optimiser.zero_grad()
        layer(x)
        auxiliary_loss(layer).backward()
        optimiser.step()
    layer(x)
    return layer.statistics


def test_hardening_drives_the_entropy_down():
    layer = layer_of(3, hardening=1.0)
    x = rows_of(100)
    layer(x)
    before = layer.statistics["entropy"]
    after = trained(layer, x, 100)["entropy"]
    assert after < 0.2 * before


def test_load_balance_evens_out_the_leaves():
    layer = layer_of(2, hardening=0.0, load_balance=1.0)
    with torch.no_grad():
        layer.node_bias.add_(4.0)
    x = rows_of(400)
    layer(x)
    assert layer.statistics["load"].max() > 350
    assert layer.losses["load_balance"] > 3
    load = trained(layer, x, 300)["load"]
    assert load.max() < 1.3 * 100
    assert load.min() > 0.7 * 100


@pytest.mark.parametrize("depth", [0, 2])
def test_master_leaf_is_mixed_in(depth):
    layer = layer_of(depth, master_leaf_width=7)
    x = rows_of(5)
    share = torch.sigmoid(torch.tensor(0.5, dtype=x.dtype))
    tree = torch.stack([recursive(layer, row) for row in x])
    both = share * tree + (1 - share) * layer.master(x)
    torch.testing.assert_close(layer(x), both)
    layer(x).sum().backward()
    assert layer.master_logit.grad != 0
    hard, _ = gathered_leaves(x, parts(layer), layer.activation)
    both = share * hard + (1 - share) * layer.master(x)
    torch.testing.assert_close(layer.eval()(x), both)


def test_region_leak_transposes_children_in_training_only():
    layer = layer_of(1, region_leak=0.25)
    with torch.no_grad():
        layer.node_weight.zero_()
        layer.node_bias.fill_(1e6)
    x = rows_of(1).expand(4000, -1)
    left, right = leaf_output(layer, 0, x[0]), leaf_output(layer, 1, x[0])
    out = layer(x)
    leaked = (out - left).abs().amax(1) < 1e-9
    assert leaked.double().mean() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(out[~leaked], right.expand(int((~leaked).sum()), -1))
    torch.testing.assert_close(layer.eval()(x), right.expand(4000, -1))
    # What is counted is where rows go, not where they leaked to.
    assert layer.train()(x) is not None
    assert layer.statistics["load"].tolist() == [0, 4000]


def test_bfloat16_is_close_to_float32():
    wide = layer_of(4, dtype=torch.float32)
    x = rows_of(200, dtype=torch.float32).bfloat16()
    narrow = copy.deepcopy(wide).bfloat16()
    wide = copy.deepcopy(narrow).float()
    soft = narrow(x)
    assert soft.dtype == torch.bfloat16
    torch.testing.assert_close(soft.float(), wide(x.float()), rtol=0.05, atol=0.02)
    auxiliary_loss(narrow).backward()
    wide.eval(), narrow.eval()
    leaf = narrow.leaf_of(x)
    same = leaf == wide.leaf_of(x.float())
    assert same.float().mean() > 0.97
    hard, exact = narrow(x)[same].float(), wide(x.float())[same]
    torch.testing.assert_close(hard, exact, rtol=0.05, atol=0.02)


def test_autocast_in_both_modes():
    layer = layer_of(2, dtype=torch.float32, master_leaf_width=2)
    x = rows_of(5, dtype=torch.float32)
    exact = layer(x), layer.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        hard, soft = layer(x), layer.train()(x)
    torch.testing.assert_close(soft.float(), exact[0], rtol=0.1, atol=0.05)
    torch.testing.assert_close(hard.float(), exact[1], rtol=0.1, atol=0.05)


def test_state_copies_and_pickles():
    layer = layer_of(2, load_balance=1.0, master_leaf_width=2)
    x = rows_of(4)
    layer(x)
    other = FastFeedforward(6, 3, depth=2, leaf_width=4, master_leaf_width=2).double()
    other.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert twin.losses == {}
        assert torch.equal(twin(x), layer(x))
    assert len(layer.losses) == 2
    assert "depth=2" in repr(layer)


def test_reset_draws_anew():
    layer = layer_of(2, master_leaf_width=2)
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]) == (name == "master_logit"), name


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_break(dynamic):
    torch._dynamo.reset()
    layer = layer_of(3, load_balance=0.1, master_leaf_width=2, dtype=torch.float32)
    twin = copy.deepcopy(layer)
    fast = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    x = rows_of(17, dtype=torch.float32)
    for model, auxiliary in ((fast, layer), (twin, twin)):
        (model(x).square().mean() + auxiliary_loss(auxiliary)).backward()
    assert layer.losses.keys() == twin.losses.keys()
    for one, other in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    layer.eval(), twin.eval()
    torch.testing.assert_close(fast(x), twin(x))
    with torch.no_grad():
        torch.testing.assert_close(fast(x[:9]), twin(x[:9]))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 3])
def test_evaluation_is_exported_to_operations_of_torch(depth):
    layer = layer_of(depth, master_leaf_width=2, dtype=torch.float32).eval()
    x = rows_of(8, dtype=torch.float32)
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(layer, (x,), dynamic_shapes=(rows,))
    used = {str(node.target) for node in program.graph.nodes}
    assert not any("skmoe" in name for name in used)
    other = rows_of(31, dtype=torch.float32)
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_inputs": 0}, "n_inputs must be an integer >= 1, got 0"),
        ({"n_outputs": 1.5}, "n_outputs must be an integer >= 1, got 1.5"),
        ({"depth": -1}, "depth must be an integer >= 0, got -1"),
        ({"depth": True}, "depth must be an integer >= 0, got True"),
        ({"leaf_width": 0}, "leaf_width must be an integer >= 1, got 0"),
        ({"activation": "sin"}, "activation must be one of 'gelu', .*, got 'sin'"),
        ({"hardening": -1.0}, "hardening must be a number >= 0, got -1.0"),
        ({"hardening": None}, "hardening must be a number >= 0, got None"),
        ({"load_balance": math.inf}, "load_balance must be a number >= 0, got inf"),
        ({"master_leaf_width": 0.5}, "master_leaf_width must be an integer >= 0"),
        ({"region_leak": 1.0}, r"region_leak must be a number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=f"FastFeedforward: {message}"):
        FastFeedforward(**{"n_inputs": 6, "n_outputs": 3, **options})


@pytest.mark.parametrize("method", ["forward", "forward_hard", "leaf_of", "leaf_proba"])
def test_bad_rows(method):
    message = r"rows must have n_inputs=6 columns, got a tensor of shape \(4, 5\)"
    with pytest.raises(ValueError, match=message):
        getattr(layer_of(), method)(torch.zeros(4, 5))


@pytest.mark.gpu
@pytest.mark.parametrize("n_rows", [1, 77, 5000])
@pytest.mark.parametrize(
    ("depth", "activation"),
    [(0, "relu"), (1, "relu"), (5, "relu"), (5, "gelu"), (5, "silu"), (5, "tanh")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_are_the_plain_path(activation, n_rows, depth, dtype):
    torch.manual_seed(0)
    for n_inputs, width, n_outputs in ((300, 32, 70), (7, 5, 1), (20, 100, 3)):
        layer = FastFeedforward(
            n_inputs, n_outputs, depth=depth, leaf_width=width, activation=activation
        )
        layer = layer.to("cuda", dtype).eval()
        x = torch.randn(n_rows, n_inputs, device="cuda", dtype=dtype)
        plain = Tree(*(part.detach().double() for part in parts(layer)))
        exact, leaf = gathered_leaves(x.double(), plain, activation)
        hard = layer.forward_hard(x)
        with torch.no_grad():
            assert torch.equal(layer(x), hard)
            assert torch.equal(layer(x), hard), "two calls differ"
        same = layer.leaf_of(x) == leaf
        assert same.double().mean() > 0.998
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(
            hard[same].double(), exact[same], rtol=tolerance, atol=tolerance
        )


@pytest.mark.gpu
def test_evaluation_on_a_gpu_waits_for_nothing():
    layer = layer_of(5, dtype=torch.float32).cuda().eval()
    for n_rows in (64, 5000):
        x = rows_of(n_rows, dtype=torch.float32).cuda()
        with torch.no_grad():
            expected = layer(x)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = layer(x)
            graph.replay()
        assert torch.equal(out, expected)


@pytest.mark.gpu
def test_gradients_of_hard_choices_on_a_gpu():
    layer = layer_of(3, dtype=torch.float32)
    x = rows_of(50, dtype=torch.float32)
    layer.forward_hard(x).square().sum().backward()
    there = copy.deepcopy(layer).cuda()
    there.zero_grad()
    there.forward_hard(x.cuda()).square().sum().backward()
    for one, other in zip(layer.parameters(), there.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad.cpu())


def test_a_master_leaf_in_autocast():
    torch.manual_seed(0)
    layer = FastFeedforward(6, 3, depth=2, master_leaf_width=4)
    # `fully_shard` takes no scalars.
    assert all(param.ndim for param in layer.parameters())
    x = torch.randn(9, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    torch.testing.assert_close(low.float(), layer(x), rtol=5e-2, atol=2e-2)


def test_leaks_transpose_the_children_of_a_split():
    layer = layer_of(2, region_leak=0.4)
    layer.generator = torch.Generator().manual_seed(3)
    x = rows_of(5)
    out = layer(x)
    draws = torch.Generator().manual_seed(3)
    leaks = torch.empty(5, 3, dtype=x.dtype).bernoulli_(0.4, generator=draws)
    assert 0 < leaks.sum() < 15
    for row, leak, got in zip(x, leaks, out, strict=True):
        scores = layer.node_weight @ row + layer.node_bias
        first, left, right = torch.sigmoid(torch.where(leak > 0, -scores, scores))
        proba = [
            (1 - first) * (1 - left),
            (1 - first) * left,
            first * (1 - right),
            first * right,
        ]
        by_hand = sum(p * leaf_output(layer, i, row) for i, p in enumerate(proba))
        torch.testing.assert_close(got, by_hand)
    assert not torch.equal(layer(x), out)
    assert torch.equal(layer.eval()(x), layer(x))


def test_leaks_leave_losses_and_evaluation_as_they_are():
    x = rows_of(20)
    plain, leaky = layer_of(), layer_of(region_leak=0.3)
    plain(x), leaky(x)
    torch.testing.assert_close(auxiliary_loss(leaky), auxiliary_loss(plain))
    assert torch.equal(leaky.eval()(x), plain.eval()(x))
