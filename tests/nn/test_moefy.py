"""Upcycling: what is found, that the output stays, training, and bad input."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skmoe.nn import (
    MLP,
    ExpertList,
    MLPExperts,
    MoELayer,
    RowTransformer,
    SmallViT,
    SwitchRouter,
    TopKRouter,
    auxiliary_loss,
    moefy,
)
from tests.nn.foreign_modules import (
    HIDDEN,
    WIDTH,
    Bert,
    Careless,
    Clip,
    Gpt,
    Llama,
    OneHead,
    Phi,
)

ROUTERS = ("topk", "noisy_topk", "dense")


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        yield


def sequence(act=None, dropout=0.0):
    act = nn.GELU() if act is None else act
    parts = [nn.Linear(WIDTH, HIDDEN), act, nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(HIDDEN, WIDTH))


def encoder(n_layers=2, kind=nn.TransformerEncoderLayer, **options):
    options = {"activation": "gelu", "batch_first": True, **options}
    layer = kind(WIDTH, 2, HIDDEN, **options)
    layers = [copy.deepcopy(layer) for _ in range(n_layers)]
    for param in [p for one in layers for p in one.parameters()]:
        nn.init.normal_(param, 0.1, 0.2)
    if kind is nn.TransformerDecoderLayer:
        return nn.ModuleList(layers)
    nested = options["activation"] in ("relu", "gelu") and not layer.norm_first
    whole = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=nested)
    whole.layers = nn.ModuleList(layers)
    return whole


def mixtures(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, MoELayer)}


FOUND = {
    "sequence": (sequence, ["0"]),
    "relu": (lambda: sequence(nn.ReLU()), ["0"]),
    "silu": (lambda: sequence(nn.SiLU()), ["0"]),
    "tanh": (lambda: sequence(nn.Tanh()), ["0"]),
    "inside": (lambda: nn.Sequential(nn.LayerNorm(WIDTH), *sequence()), ["1"]),
    "nested": (lambda: nn.ModuleDict({"a": sequence()})["a"], ["0"]),
    "encoder": (encoder, ["layers.0.linear2", "layers.1.linear2"]),
    "norm first": (
        lambda: encoder(norm_first=True, activation="relu"),
        ["layers.0.linear2", "layers.1.linear2"],
    ),
    "gpt": (lambda: nn.Sequential(Gpt(), Gpt()), ["0.0", "1.0"]),
    "llama": (lambda: nn.Sequential(Llama(), Llama()), ["0", "1"]),
    "geglu": (lambda: nn.Sequential(Llama(nn.GELU())), ["0"]),
    "phi": (lambda: nn.Sequential(Phi(), Phi(first=False)), ["0", "1"]),
    "clip": (lambda: nn.Sequential(Clip(), Clip(F.gelu)), ["0", "1"]),
    "bert": (lambda: nn.Sequential(Bert()), ["0.output.dense"]),
    "mixed": (lambda: nn.Sequential(OneHead(), Clip(), OneHead()), ["1"]),
    "whole": (Clip, [""]),
}


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("name", FOUND)
def test_output_is_unchanged(name, router):
    make, expected = FOUND[name]
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        model = make().eval().to(dtype)
        x = torch.randn(3, 5, WIDTH, dtype=dtype)
        before = model(x).detach()
        mixed = moefy(model, n_experts=4, router=router)
        layers = mixtures(mixed)
        assert list(layers) == expected
        assert all(type(m.experts) is not ExpertList for m in layers.values())
        assert mixed is model or expected == [""]
        error = (mixed(x) - before).abs().max() / before.abs().max()
        assert error <= close


@pytest.mark.parametrize(
    "act",
    [nn.GELU(approximate="tanh"), nn.ELU(), nn.PReLU(), nn.Softmax(dim=-1)],
    ids=lambda act: type(act).__name__,
)
def test_other_activations_become_deep_copies(act):
    models = [sequence(act), encoder(activation=act)]
    if not list(act.parameters()):
        models.append(Gpt(act))
    for model in models:
        x = torch.randn(4, 5, WIDTH)
        before = model.eval()(x)
        mixed = moefy(model, n_experts=3)
        layer = next(iter(mixtures(mixed).values()))
        assert isinstance(layer.experts, ExpertList)
        torch.testing.assert_close(mixed(x), before, rtol=1e-5, atol=1e-5)
        first, second = layer.experts.experts[:2]
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        assert all(one is not other for one, other in pairs)


def test_functional_dropout_is_kept_by_copies():
    model = moefy(nn.Sequential(Careless()), n_experts=2)
    assert isinstance(model[0].experts, ExpertList)
    x = torch.randn(8, WIDTH)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_own_blocks():
    for model, x in (
        (SmallViT(36, 3, width=8, depth=3, heads=2), torch.randn(5, 36)),
        (RowTransformer(6, 3, width=8, heads=2), torch.randn(5, 6)),
    ):
        model = model.double()
        before = model(x.double())
        names = set(model.state_dict())
        moefy(model, n_experts=2)
        torch.testing.assert_close(model(x.double()), before, rtol=1e-11, atol=1e-12)
        gone = names - set(model.state_dict())
        assert {name.split(".")[-2] for name in gone} == {"widen", "narrow"}
    mlp = MLP(6, 3, hidden=8)
    x = torch.randn(5, 6)
    before = mlp(x)
    torch.testing.assert_close(moefy(mlp)(x), before, rtol=1e-5, atol=1e-6)


def test_decoder_layers():
    layers = encoder(kind=nn.TransformerDecoderLayer, activation="relu").eval()
    x, memory = torch.randn(2, 5, WIDTH), torch.randn(2, 3, WIDTH)
    before = [layer(x, memory) for layer in layers]
    moefy(layers, n_experts=3)
    assert list(mixtures(layers)) == ["0.linear2", "1.linear2"]
    for layer, expected in zip(layers, before, strict=True):
        torch.testing.assert_close(layer(x, memory), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("where", [None, "every other"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_in_evaluation_without_gradient(where, norm_first):
    """Where torch would take its fused kernel, and nested tensors for padding."""
    model, x = encoder(2, activation="relu").eval(), torch.randn(3, 6, WIDTH)
    if norm_first:
        model = encoder(2, activation="relu", norm_first=True).eval()
    padded = torch.arange(6) >= torch.tensor([[6], [4], [3]])
    kept = ~padded[:, :, None]
    with torch.no_grad():
        before = model(x), model(x, src_key_padding_mask=padded)
        moefy(model, where, n_experts=3)
        after = model(x), model(x, src_key_padding_mask=padded)
    torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[1] * kept, before[1] * kept, rtol=1e-4, atol=1e-5)
    called = []
    for layer in mixtures(model).values():
        layer.register_forward_hook(lambda *call: called.append(1))
    with torch.no_grad():
        model(x)
    assert len(called) == len(mixtures(model)) == (2 if where is None else 1)


@pytest.mark.parametrize("router", ROUTERS)
def test_experts_part_ways_in_training(router):
    model = moefy(
        nn.Sequential(sequence(), nn.Linear(WIDTH, 3)), n_experts=4, router=router
    )
    x = torch.randn(300, WIDTH)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses, reached = [], torch.zeros(4)
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        (loss + auxiliary_loss(model)).backward()
        experts = model[0][0].experts
        reached += experts.w1.grad.abs().sum((1, 2))
        assert model[0][0].router.weight.grad is not None
        optimiser.step()
        losses.append(loss.item())
    assert reached.min() > 0
    assert losses[-1] < 0.5 * losses[0]
    apart = torch.cdist(experts.w1.flatten(1), experts.w1.flatten(1))
    assert apart[~torch.eye(4, dtype=torch.bool)].min() > 1e-2

    # A slow loop over rows and their experts.
    model.eval()
    mixture, rows = model[0][0], x[:20]
    gates = torch.softmax(rows @ mixture.router.weight.T, dim=1)
    k = 4 if router == "dense" else 2
    best = gates.topk(k, dim=1)
    expected = torch.stack(
        [
            sum(
                gate
                / best.values[t].sum()
                * (
                    F.gelu(rows[t] @ experts.w1[e] + experts.b1[e]) @ experts.w2[e]
                    + experts.b2[e]
                )
                for gate, e in zip(best.values[t], best.indices[t], strict=True)
            )
            for t in range(20)
        ]
    )
    torch.testing.assert_close(mixture(rows), expected, rtol=1e-4, atol=1e-5)


def test_dropout_inside_is_kept():
    plain = nn.Sequential(sequence(dropout=0.5))
    experts = moefy(plain, n_experts=2)[0][0].experts
    assert experts.dropout == 0.5
    with torch.no_grad():
        experts.w1.zero_()
        experts.b1.fill_(10.0)  # gelu(10) = 10
        experts.w2.copy_(torch.eye(HIDDEN)[None, :, :WIDTH])
        experts.b2.zero_()
    out = plain(torch.randn(2000, WIDTH)).detach()
    # Two experts, whose hidden numbers are dropped apart: both, one or none.
    assert out.mean().item() == pytest.approx(10.0, rel=0.02)
    assert (out == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (out > 19.999).double().mean().item() == pytest.approx(0.25, abs=0.01)
    plain.eval()
    out = plain(torch.randn(100, WIDTH))
    torch.testing.assert_close(out, torch.full_like(out, 10.0), rtol=1e-4, atol=1e-4)


def test_dropout_behind_is_kept():
    model = moefy(nn.Sequential(Gpt(dropout=0.25)), n_experts=2)
    assert type(model[0][0].experts) is MLPExperts
    assert isinstance(model[0][1], nn.Dropout)
    assert model[0][1].p == 0.25
    layer = encoder(1, dropout=0.3).layers[0]
    moefy(layer, n_experts=2)
    assert layer.linear2.experts.dropout == pytest.approx(0.3)
    assert layer.dropout2.p == 0.3


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, ["1.0", "2.0", "3.0", "4.0"]),
        ("every other", ["2.0", "4.0"]),
        ("3", ["3.0"]),
        (["4", "1"], ["1.0", "4.0"]),
        ("[12]", ["1.0", "2.0"]),
        ("*", ["1.0", "2.0", "3.0", "4.0", "5.0"]),
        ("5", ["5.0"]),
        ("0", ["0"]),
        (["0", "3"], ["0", "3.0"]),
        (lambda name, module: isinstance(module, nn.Linear) and name < "2", None),
        (lambda name, module: name == "2", ["2.0"]),
    ],
)
def test_where(where, expected):
    head = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 2))
    parts = [sequence() for _ in range(4)]
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), *parts, head).double()
    x = torch.randn(6, WIDTH, dtype=torch.float64)
    before = model(x)
    moefy(model, where, n_experts=3)
    torch.testing.assert_close(model(x), before, rtol=1e-11, atol=1e-12)
    found = list(mixtures(model))
    assert found == (["0", "1.0", "1.3"] if expected is None else expected)


def test_all_layers_where_none_returns_what_it_gets():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))
    mixed = moefy(model, n_experts=4)
    assert mixed is model
    assert mixed(torch.randn(5, 20)).shape == (5, 3)
    assert list(mixtures(model)) == ["0"]


def test_shared_modules_stay_shared():
    shared = Clip()
    model, x = nn.Sequential(shared, nn.Tanh(), shared), torch.randn(5, WIDTH)
    before = model(x)
    moefy(model, n_experts=2)
    assert model[0] is model[2]
    assert isinstance(model[0], MoELayer)
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)


def test_mixtures_are_not_mixed_again():
    model = moefy(nn.Sequential(sequence(nn.ELU()), sequence()), n_experts=2)
    with pytest.raises(ValueError, match="no feed-forward layer that is recognised"):
        moefy(model)


def test_noise_parts_the_experts():
    def change(noise):
        torch.manual_seed(0)
        model, x = nn.Sequential(sequence()), torch.randn(50, WIDTH)
        before = model(x)
        moefy(model, n_experts=4, noise=noise)
        return (model(x) - before).abs().max().item()

    assert change(0.0) < 1e-5
    assert 1e-3 < change(0.01) < 0.2
    assert change(0.1) > 5 * change(0.01)


def test_modes_devices_and_types_are_those_of_the_layer():
    model = nn.Sequential(sequence(dropout=0.1), sequence()).bfloat16().eval()
    model[1].requires_grad_(False)
    moefy(model, n_experts=2)
    first, second = model[0][0], model[1][0]
    assert not first.training
    assert not first.experts.training
    assert first.experts.w1.dtype == torch.bfloat16
    assert first.router.weight.dtype == torch.float32
    assert first.experts.w1.requires_grad
    assert not any(param.requires_grad for param in second.experts.parameters())
    assert second.router.weight.requires_grad
    assert model(torch.randn(4, WIDTH).bfloat16()).dtype == torch.bfloat16
    assert moefy(nn.Sequential(sequence()), n_experts=2)[0][0].training


@pytest.mark.parametrize("make", [encoder, lambda: nn.Sequential(Gpt(), sequence())])
def test_round_trips(make):
    first, second = moefy(make(), n_experts=3).eval(), moefy(make(), n_experts=3).eval()
    x = torch.randn(2, 5, WIDTH)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    for other in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(first(x), other(x))


def test_torch_random_numbers_go_to_routers_only():
    """Looking for layers draws nothing: two equal calls make equal models."""
    model = nn.Sequential(sequence(), Clip())
    copies = [copy.deepcopy(model) for _ in range(2)]
    for one in copies:
        torch.manual_seed(7)
        moefy(one, n_experts=3)
    for one, other in zip(*(m.state_dict().values() for m in copies), strict=True):
        assert torch.equal(one, other)


def test_tells_what_it_did(capsys):
    model = nn.Sequential(sequence(), sequence(nn.ELU()))
    moefy(model, n_experts=4)
    assert capsys.readouterr().out == ""
    moefy(nn.Sequential(sequence(), sequence(nn.ELU())), n_experts=4, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    size = 2 * WIDTH * HIDDEN + WIDTH + HIDDEN
    assert lines[0] == (
        f"0: perceptron 16-24-16 gelu -> 4 experts; {size:,} -> {4 * size + 64:,} "
        "parameters"
    )
    assert lines[1].startswith("1: Sequential 16-16 -> 4 experts")


def test_a_router_of_ones_own():
    model = nn.Sequential(sequence())
    moefy(model, n_experts=4, router=lambda n, e: TopKRouter(n, e, 3))
    assert model[0][0].router.top_k == 3
    moefy(nn.Sequential(sequence()), router=SwitchRouter)


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        (None, {"router": "switch"}, "do not sum to one, .* use 'topk'"),
        (None, {"router": "expert_choice"}, "router='expert_choice' the weights"),
        (None, {"router": "best"}, "router must be one of 'topk', .*, got 'best'"),
        (None, {"router": TopKRouter(16, 8)}, "moefy: router must be one of"),
        (None, {"top_k": 9}, "top_k must be an integer from 1 to n_experts=8, got 9"),
        (None, {"n_experts": 0}, "moefy: n_experts must be an integer >= 1, got 0"),
        (None, {"noise": -1.0}, "moefy: noise must be a number > 0, got -1.0"),
        ("2", {}, "no module has a name that fits '2'. .* are: '0', '1'."),
        ([], {}, r"no layer to replace for where=\[\]. Feed-forward layers"),
        (lambda name, module: False, {}, "no layer to replace .* are: '0', '1'."),
        ("0.1", {}, r"0.1 \(GELU\) cannot be an expert: .*, told by a linear layer\)"),
        (
            lambda name, module: isinstance(module, OneHead),
            {},
            r"2 \(OneHead\) cannot be an expert: .* shape \(n_rows, 16\) into",
        ),
    ],
)
def test_refuses_bad_arguments(where, options, message):
    model = nn.Sequential(sequence(), sequence())
    if callable(where):
        model.append(OneHead())
    before = str(model)
    with pytest.raises(ValueError, match=message):
        moefy(model, where, **options)
    assert str(model) == before


def test_says_what_there_is_where_nothing_is_recognised():
    model = nn.Sequential(nn.Linear(3, 3), OneHead())
    with pytest.raises(ValueError, match=r"'0' \(Linear\), '1' \(OneHead\)"):
        moefy(model)
    with pytest.raises(ValueError, match="of these: none"):
        moefy(nn.Linear(3, 3))
