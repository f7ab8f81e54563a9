"""Task affinity: gradients of tasks against loops written by hand."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from skmoe.multitask import MMoEClassifier, MMoERegressor, MultiTaskMMoE

torch = pytest.importorskip("torch")
functional = torch.nn.functional

N = 160
QUICK = {
    "n_experts": 4,
    "expert_hidden": (6,),
    "tower_hidden": (4,),
    "n_bins": 4,
    "embedding_size": 2,
    "max_epochs": 2,
    "batch_size": 64,
    "random_state": 0,
}
KINDS = ["gradient", "lookahead"]


def rows(n_rows=N, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4))
    noise = rng.normal(size=(n_rows, 3))
    y = {
        "click": (X[:, 0] + noise[:, 0] > 0).astype(float),
        "watch": X[:, 0] + X[:, 1] + noise[:, 1],
        "visits": rng.poisson(np.exp(0.5 * X[:, 2])).astype(float),
        "segment": np.digitize(X[:, 0] + noise[:, 2], [-0.7, 0.7]).astype(float),
    }
    return X, y


DECLARED = {
    "click": "binary",
    "watch": "regression",
    "visits": "count",
    "segment": "multiclass",
}


def mixed(architecture="mmoe", **options):
    model = MultiTaskMMoE(DECLARED, architecture=architecture, **(QUICK | options))
    return model.fit(*rows())


def classifier(y, architecture="mmoe", **options):
    X, _ = rows(len(y))
    return MMoEClassifier(architecture, **(QUICK | options)).fit(X, y)


@pytest.fixture(scope="module")
def four():
    return mixed()


# -- by hand -----------------------------------------------------------------------


def losses_by_hand(model, network, X, y, weight):
    """Return the mean loss of each of the four tasks, written out."""
    numbers, codes = model._fitted.encoder.transform(X)
    raw = network(torch.as_tensor(numbers), torch.as_tensor(codes)).raw[:, 0]
    watch = model._fitted.tasks[1]
    y = {name: torch.as_tensor(np.nan_to_num(column)) for name, column in y.items()}
    standard = (y["watch"] - watch.center) / watch.scale
    visits = y["visits"]
    constant = torch.xlogy(visits, visits) - visits
    each = torch.stack(
        [
            functional.binary_cross_entropy_with_logits(
                raw[:, 0], y["click"], reduction="none"
            ),
            (raw[:, 1] - standard) ** 2 / 2,
            raw[:, 2].exp() - visits * raw[:, 2] + constant,
            functional.cross_entropy(raw[:, 3:], y["segment"].long(), reduction="none"),
        ],
        dim=1,
    )
    weight = torch.as_tensor(weight)
    return (each * weight).sum(dim=0) / weight.sum(dim=0)


def flat_gradients(network, losses):
    """Return the gradient of each loss as one long vector."""
    params = list(network.parameters())
    result = []
    for loss in losses:
        grads = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
        parts = zip(grads, params, strict=True)
        filled = [p * 0 if g is None else g for g, p in parts]
        result.append(torch.cat([part.detach().reshape(-1) for part in filled]))
    return torch.stack(result).numpy()


def cosines_by_hand(model, X, y, weight):
    network = copy.deepcopy(model.network_)
    losses = losses_by_hand(model, network, X, y, weight)
    gradients = flat_gradients(network, losses)
    wanted = np.empty((len(losses), len(losses)))
    for i, first in enumerate(gradients):
        for j, second in enumerate(gradients):
            both = (first != 0) & (second != 0)
            u, v = first[both], second[both]
            wanted[i, j] = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    return wanted


def lookahead_by_hand(model, X, y, weight):
    network = copy.deepcopy(model.network_)
    losses = losses_by_hand(model, network, X, y, weight)
    gradients = flat_gradients(network, losses)
    shared = (gradients != 0).sum(axis=0) >= 2
    wanted = []
    for gradient in gradients:
        other = copy.deepcopy(network)
        start = torch.nn.utils.parameters_to_vector(other.parameters()).detach()
        moved = start - model.learning_rate * torch.as_tensor(gradient * shared)
        torch.nn.utils.vector_to_parameters(moved, other.parameters())
        with torch.no_grad():
            after = losses_by_hand(model, other, X, y, weight)
        wanted.append((1 - after / losses).detach().numpy())
    return np.array(wanted)


BY_HAND = {"gradient": cosines_by_hand, "lookahead": lookahead_by_hand}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["mmoe", "shared_bottom", "omoe", "ple"])
def test_by_hand(architecture, kind):
    X, y = rows(64, seed=5)
    model = mixed(architecture, n_experts=6)
    got = model.task_affinity(X, y, kind=kind)
    wanted = BY_HAND[kind](model, X, y, np.ones((64, 4)))
    assert got.shape == (4, 4)
    assert_allclose(got, wanted, rtol=1e-6, atol=1e-12)
    # Towers and gates of a task's own are out: all tasks share something all the same.
    assert (np.abs(got) > 1e-12).all()


@pytest.mark.parametrize("kind", KINDS)
def test_missing_labels_and_weights_by_hand(four, kind):
    X, y = rows(64, seed=6)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, size=(64, 4)).astype(float)
    for t, column in enumerate(y.values()):
        column[rng.random(64) < 0.3] = np.nan
        weight[np.isnan(column), t] = 0.0
    got = four.task_affinity(X, y, weight, kind=kind)
    wanted = BY_HAND[kind](four, X, y, weight)
    assert_allclose(got, wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_over_batches_in_order(four, kind):
    X, y = rows(150, seed=7)
    got = four.task_affinity(X, y, kind=kind)
    wanted = np.zeros((4, 4))
    for start in (0, 64, 128):
        part = slice(start, min(start + 64, 150))
        batch = {name: column[part] for name, column in y.items()}
        n_rows = part.stop - start
        one = BY_HAND[kind](four, X[part], batch, np.ones((n_rows, 4)))
        wanted += n_rows / 150 * one
    assert_allclose(got, wanted, rtol=1e-6, atol=1e-12)


def test_a_short_step_goes_by_the_product_of_gradients(four):
    X, y = rows(64, seed=8)
    model = copy.deepcopy(four).set_params(learning_rate=1e-5)
    losses = losses_by_hand(model, model.network_, X, y, np.ones((64, 4)))
    gradients = flat_gradients(model.network_, losses)
    gradients *= (gradients != 0).sum(axis=0) >= 2
    wanted = 1e-5 * gradients @ gradients.T / losses.detach().numpy()
    got = model.task_affinity(X, y, kind="lookahead")
    assert_allclose(got, wanted, rtol=1e-3, atol=1e-9)


def test_each_class_weighs_as_in_training():
    X, _ = rows(64)
    y = (np.column_stack([X[:, 0], X[:, 1] + X[:, 0]]) > 0.8).astype(int)
    model = classifier(y, class_weight="balanced")
    counts = [np.bincount(column) for column in y.T]
    parts = zip(y.T, counts, strict=True)
    balanced = np.column_stack([32 / count[column] for column, count in parts])
    plain = copy.deepcopy(model).set_params(class_weight=None)
    got = model.task_affinity(X, y)
    assert_allclose(got, plain.task_affinity(X, y, balanced))
    assert np.abs(got - plain.task_affinity(X, y)).max() > 1e-3


# -- tasks whose affinity is known -------------------------------------------------


def two_towers_alike(model, scale=1.0):
    """Give task 1 the tower of task 0, its head scaled."""
    network = model.network_
    with torch.no_grad():
        for layer in [network.towers.body[0], network.heads]:
            layer.weight[1] = layer.weight[0]
            layer.bias[1] = layer.bias[0]
        network.heads.weight *= scale
        network.heads.bias *= scale
    return model


def test_equal_tasks():
    X, y = rows(64)
    y = np.column_stack([y["click"]] * 2)
    model = two_towers_alike(classifier(y, "shared_bottom"))
    assert_allclose(model.task_affinity(X, y), 1.0, atol=1e-12)
    ahead = model.task_affinity(X, y, kind="lookahead")
    assert_allclose(ahead, ahead[0, 0], rtol=1e-9)
    assert ahead[0, 0] > 0


def test_opposed_tasks():
    """At probabilities of 1/2 what one task learns the other unlearns."""
    X, y = rows(64)
    y = np.column_stack([y["click"], 1 - y["click"]])
    model = two_towers_alike(classifier(y, "shared_bottom"), 1e-3)
    affinity = model.task_affinity(X, y)
    assert_allclose(affinity, [[1, -1], [-1, 1]], atol=1e-2)
    ahead = model.task_affinity(X, y, kind="lookahead")
    assert ahead[0, 0] > 0
    assert ahead[1, 1] > 0
    assert ahead[0, 1] < 0
    assert ahead[1, 0] < 0


def test_unrelated_tasks():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4_000, 2))
    y = (X + rng.normal(size=X.shape) > 0).astype(int)
    options = {"numeric_encoding": "standard", "batch_size": 1_000}
    model = MMoEClassifier("shared_bottom", **(QUICK | options)).fit(X, y)
    even_and_linear(model.network_)
    affinity = model.task_affinity(X, y)
    assert abs(affinity[0, 1]) < 0.05
    # The same network, and tasks that are the same: not that it never finds any.
    assert affinity[0, 0] == pytest.approx(1.0)
    assert model.task_affinity(X, y[:, [0, 0]])[0, 1] > 0.5


def even_and_linear(network):
    """Make both tasks the same sum of open units, of probability 1/2 where x is 0."""
    bank = network.levels[0].joint
    with torch.no_grad():
        bank.weight *= 0.01
        bank.bias[:] = 1.0
        for layer in (network.towers.body[0], network.heads):
            layer.weight[:] = 0.1
            layer.bias[:] = 0.0
        nothing = torch.zeros(1, 2, dtype=bank.weight.dtype)
        codes = torch.zeros(1, 0, dtype=torch.int32)
        network.heads.bias -= network(nothing, codes).raw[0, 0, 0]


# -- what does not count -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_not_changed(kind):
    model, (X, y) = mixed(dropout=0.3, gate_dropout=0.3), rows()
    before = copy.deepcopy(model.network_.state_dict())
    state = torch.random.get_rng_state()
    generator = model._fitted.model.trainer.generator.get_state()
    for param in model.network_.parameters():
        param.grad = None
    predicted = model._raw(X)
    first = model.task_affinity(X, y, kind=kind)
    assert_array_equal(first, model.task_affinity(X, y, kind=kind))
    for name, value in model.network_.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(param.grad is None for param in model.network_.parameters())
    assert_array_equal(predicted, model._raw(X))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(generator, model._fitted.model.trainer.generator.get_state())
    assert not model.network_.training


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_labels_do_not_count(four, kind):
    X, y = rows(100, seed=9)
    wanted = four.task_affinity(X, y, kind=kind)
    more_X, more_y = rows(100, seed=10)
    X = np.stack([X, more_X], axis=1).reshape(200, -1)
    y = {name: np.stack([y[name], np.full(100, np.nan)], axis=1).ravel() for name in y}
    assert_array_equal(four.task_affinity(X, y, kind=kind), wanted)
    known = {name: np.nan_to_num(y[name]) for name in more_y}
    weight = np.tile([1.0, 0.0], 100)
    assert_array_equal(four.task_affinity(X, known, weight, kind=kind), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_labels_is_unknown(four, kind):
    X, y = rows()
    y["visits"][:] = np.nan
    affinity = four.task_affinity(X, y, kind=kind)
    unknown = np.zeros((4, 4), dtype=bool)
    unknown[2] = unknown[:, 2] = True
    assert_array_equal(np.isnan(affinity), unknown)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_without_labels_of_a_task_are_left_out(four, kind):
    X, y = rows(128)
    y["visits"][:64] = np.nan
    affinity = four.task_affinity(X, y, kind=kind)
    last = {name: column[64:] for name, column in y.items()}
    wanted = four.task_affinity(X[64:], last, kind=kind)
    assert_allclose(affinity[2], wanted[2])
    assert_allclose(affinity[:, 2], wanted[:, 2])
    assert abs(affinity[0, 1] - wanted[0, 1]) > 1e-9


def test_tasks_that_share_nothing():
    X, y = rows()
    model = mixed("single")
    off = ~np.eye(4, dtype=bool)
    gradient = model.task_affinity(X, y)
    assert np.isnan(gradient[off]).all()
    assert_allclose(np.diag(gradient), 1.0)
    assert_array_equal(model.task_affinity(X, y, kind="lookahead"), 0.0)


def test_a_dead_tower():
    X, y = rows()
    model = mixed()
    with torch.no_grad():
        model.network_.towers.body[0].bias[1] = -1e3
    with_dead = np.isnan(model.task_affinity(X, y))
    assert_array_equal(with_dead[1], [True, False, True, True])
    assert_array_equal(with_dead[:, 1], with_dead[1])
    assert with_dead.sum() == 6
    ahead = model.task_affinity(X, y, kind="lookahead")
    assert_array_equal(ahead[1], 0.0)
    assert_array_equal(ahead[:, 1], 0.0)


@pytest.mark.parametrize("architecture", ["aitm", "esmm", "cgc"])
def test_other_architectures(architecture):
    X, y = rows()
    both = np.column_stack([y["click"], y["click"] * (y["watch"] > 0)])
    model = classifier(both, architecture)
    affinity = model.task_affinity(X, both)
    assert_allclose(affinity, affinity.T)
    assert_allclose(np.diag(affinity), 1.0)
    assert np.abs(affinity).max() <= 1.0
    assert abs(affinity[0, 1]) > 1e-6


def test_members_of_an_ensemble():
    X, y = rows()
    affinity = mixed(n_members=3).task_affinity(X, y)
    assert_allclose(np.diag(affinity), 1.0)
    assert np.isfinite(affinity).all()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_networks_are_read_in_float64(kind):
    """The change of a loss by a short step would be lost in float32."""
    X, y = rows()
    model = mixed(precision="float32")
    twin = copy.deepcopy(model)
    twin._fitted.model = twin._fitted.model.precise()
    assert next(twin.network_.parameters()).dtype == torch.float64
    got = model.task_affinity(X, y, kind=kind)
    assert next(model.network_.parameters()).dtype == torch.float32
    assert_array_equal(got, twin.task_affinity(X, y, kind=kind))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_give_what_arrays_give(library, four):
    frames = pytest.importorskip(library)
    X, y = rows()
    names = [f"x{j}" for j in range(4)]
    table = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = MultiTaskMMoE(DECLARED, **QUICK).fit(table, frames.DataFrame(y))
    got = model.task_affinity(table, frames.DataFrame(y))
    assert_allclose(got, four.task_affinity(X, y), rtol=1e-6, atol=1e-9)


def test_one_task():
    X, y = rows()
    model = MMoERegressor(**QUICK).fit(X, y["watch"])
    assert_allclose(model.task_affinity(X, y["watch"]), [[1.0]])
    assert_allclose(model.task_affinity(X, y["watch"], kind="lookahead"), [[0.0]])


# -- bad input ---------------------------------------------------------------------


def test_no_such_kind(four):
    with pytest.raises(ValueError, match="'gradient' or 'lookahead', got 'cosine'"):
        four.task_affinity(*rows(), kind="cosine")


def test_before_fit():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        MMoEClassifier().task_affinity(*rows())


def test_labels_of_other_rows(four):
    X, y = rows()
    with pytest.raises(ValueError, match="X has 80, y has 160"):
        four.task_affinity(X[:80], y)


def test_labels_that_fit_has_not_seen(four):
    X, y = rows()
    y["segment"][3] = 7.0
    with pytest.raises(ValueError, match=r"segment.*7"):
        four.task_affinity(X, y)
