"""Gate weights, expert usage, and the warning of gates that are polarised."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from skmoe.exceptions import PolarizedGateWarning
from skmoe.multitask import MMoEClassifier, MMoERegressor, MultiTaskMMoE

torch = pytest.importorskip("torch")

N, TASKS, EXPERTS, SHARED = 120, 3, 8, 2
OWN = (EXPERTS - SHARED) // TASKS
QUICK = {
    "n_experts": EXPERTS,
    "n_shared_experts": SHARED,
    "expert_hidden": (4,),
    "tower_hidden": (4,),
    "n_bins": 4,
    "embedding_size": 2,
    "max_epochs": 2,
    "random_state": 0,
}
SHAPES = {
    "mmoe": EXPERTS,
    "omoe": EXPERTS,
    "cgc": OWN * TASKS + SHARED,
    "ple": OWN * TASKS + SHARED,
    "shared_bottom": 1,
    "single": TASKS,
    "aitm": TASKS,
    "esmm": TASKS,
}


def rows(n_rows=N, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4))
    first = X[:, 0] + rng.normal(size=n_rows) > 0
    second = first & (X[:, 1] + rng.normal(size=n_rows) > -1)
    third = second & (rng.random(n_rows) < 0.7)
    return X, np.column_stack([first, second, third]).astype(int)


def fitted(architecture="mmoe", n_rows=N, **options):
    model = MMoEClassifier(architecture, **(QUICK | options))
    return model.fit(*rows(n_rows))


@pytest.fixture(scope="module", params=SHAPES)
def each(request):
    return request.param, fitted(request.param)


def own_or_shared():
    """Return which experts of "cgc" and "ple" a task may use, written by hand."""
    return np.array(
        [
            [1, 1, 0, 0, 0, 0, 1, 1],
            [0, 0, 1, 1, 0, 0, 1, 1],
            [0, 0, 0, 0, 1, 1, 1, 1],
        ],
        dtype=bool,
    )


# -- all architectures -------------------------------------------------------------


def test_gate_weights_are_shares(each):
    architecture, model = each
    X, _ = rows(37, seed=1)
    weight = model.gate_weights(X)
    assert weight.shape == (37, TASKS, SHAPES[architecture])
    assert weight.dtype == np.float64
    assert weight.flags.writeable
    assert weight.min() >= 0.0
    assert_allclose(weight.sum(axis=2), 1.0, rtol=1e-6)


def test_usage_is_the_mean_gate_weight(each):
    architecture, model = each
    X, _ = rows(37, seed=1)
    usage = model.expert_usage(X)
    assert usage.shape == (TASKS, SHAPES[architecture])
    assert_allclose(usage, model.gate_weights(X).mean(axis=0))


def test_a_row_of_weight_two_counts_twice(each):
    _, model = each
    X, _ = rows(30, seed=2)
    weight = np.arange(30) % 3
    repeated = model.expert_usage(np.repeat(X, weight, axis=0))
    assert_allclose(model.expert_usage(X, sample_weight=weight), repeated, rtol=1e-6)


def test_gates_do_not_see_the_other_rows(each):
    _, model = each
    X, _ = rows(20, seed=3)
    alone = np.concatenate([model.gate_weights(X[i : i + 1]) for i in range(20)])
    assert_allclose(model.gate_weights(X), alone, rtol=1e-5, atol=1e-9)


def test_reading_draws_nothing_and_changes_nothing():
    model = fitted(gate_dropout=0.4, dropout=0.3, column_dropout=0.3)
    before = {k: v.clone() for k, v in model.network_.state_dict().items()}
    state = torch.random.get_rng_state()
    X, _ = rows()
    assert_array_equal(model.gate_weights(X), model.gate_weights(X))
    assert torch.equal(state, torch.random.get_rng_state())
    for name, value in model.network_.state_dict().items():
        assert torch.equal(value, before[name])


# -- what is special in some -------------------------------------------------------


def test_gate_weights_of_mmoe_by_hand():
    model, (X, _) = fitted(), rows()
    encoded = model._fitted.encoder.transform(X)
    inputs = [torch.as_tensor(part) for part in encoded]
    bank = model.network_.levels[0]
    with torch.no_grad():
        vectors = model.network_.rows(inputs[0], inputs[1])[:, 0]
        gates = slice(EXPERTS * 4, None)
        logits = vectors @ bank.joint.weight[gates].T + bank.joint.bias[gates]
        wanted = logits.view(N, TASKS, EXPERTS).softmax(dim=2)
    assert_allclose(model.gate_weights(X), wanted.numpy(), rtol=1e-10)
    # Each task has a gate of its own.
    assert np.ptp(model.gate_weights(X), axis=1).max() > 0.01


def test_one_gate_stands_for_all_tasks():
    weight = fitted("omoe").gate_weights(rows()[0])
    assert_array_equal(weight[:, 0], weight[:, 1])
    assert_array_equal(weight[:, 0], weight[:, 2])
    assert np.ptp(weight[:, 0], axis=0).max() > 0  # and yet it reads the rows


@pytest.mark.parametrize("architecture", ["cgc", "ple"])
def test_experts_of_others_get_exactly_nothing(architecture):
    weight = fitted(architecture).gate_weights(rows()[0])
    closed = np.broadcast_to(~own_or_shared(), weight.shape)
    assert_array_equal(weight[closed], 0.0)
    assert (weight[~closed] > 0.0).all()


def test_levels_of_ple():
    model, (X, _) = fitted("ple", n_levels=3), rows()
    levels = [model.gate_weights(X, level=level) for level in range(3)]
    for level, weight in enumerate(levels):
        # The gate of the shared experts, behind those of the tasks, is left out.
        assert weight.shape == (N, TASKS, EXPERTS)
        assert_array_equal(weight[:, ~own_or_shared()], 0.0)
        assert_array_equal(weight, model.gate_weights(X, level=level - 3))
        usage = model.expert_usage(X, level=level)
        assert_allclose(usage, weight.mean(axis=0))
    assert np.abs(levels[0] - levels[2]).max() > 1e-3
    assert_array_equal(model.gate_weights(X), levels[2])


@pytest.mark.parametrize("architecture", ["single", "aitm", "esmm"])
def test_one_network_a_task(architecture):
    weight = fitted(architecture).gate_weights(rows(5)[0])
    assert_array_equal(weight, np.broadcast_to(np.eye(TASKS), (5, TASKS, TASKS)))


def test_one_network_for_all():
    weight = fitted("shared_bottom").gate_weights(rows(5)[0])
    assert_array_equal(weight, np.ones((5, TASKS, 1)))


def test_members_are_averaged():
    model = fitted(n_members=3)
    weight = model.gate_weights(rows()[0])
    assert weight.shape == (N, TASKS, EXPERTS)
    assert_allclose(weight.sum(axis=2), 1.0, rtol=1e-6)


def test_one_task():
    X, y = rows()
    model = MMoERegressor(**QUICK).fit(X, y[:, 0].astype(float))
    assert model.gate_weights(X).shape == (N, 1, EXPERTS)
    assert model.expert_usage(X).shape == (1, EXPERTS)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_give_what_arrays_give(library):
    frames = pytest.importorskip(library)
    X, y = rows()
    frame = frames.DataFrame({f"x{j}": X[:, j] for j in range(4)})
    tasks = {"view": y[:, 0], "click": y[:, 1], "buy": y[:, 2]}
    model = MultiTaskMMoE(dict.fromkeys(tasks, "binary"), **QUICK).fit(frame, tasks)
    assert model.task_names_ == ["view", "click", "buy"]
    plain = MultiTaskMMoE(dict.fromkeys(tasks, "binary"), **QUICK).fit(X, tasks)
    assert_allclose(model.gate_weights(frame), plain.gate_weights(X), rtol=1e-6)
    assert_allclose(model.expert_usage(frame), plain.expert_usage(X), rtol=1e-6)


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, -2, 0.0, "last", None])
@pytest.mark.parametrize("method", ["gate_weights", "expert_usage"])
def test_no_such_level(method, level):
    model = fitted()
    match = rf"integer from -1 to 0: the network has 1, got {level!r}"
    with pytest.raises(ValueError, match=match):
        getattr(model, method)(rows()[0], level=level)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(N), r"[Nn]egative"),
        (np.full(N, np.nan), "NaN"),
        (np.zeros(N), "non-zero"),
        (np.ones(3), r"sample_weight.shape == \(3,\)"),
    ],
)
def test_bad_weights(weight, match):
    with pytest.raises(ValueError, match=match):
        fitted().expert_usage(rows()[0], sample_weight=weight)


@pytest.mark.parametrize("name", ["gate_weights", "expert_usage"])
def test_before_fit(name):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(MMoEClassifier(), name)(rows()[0])
    assert not hasattr(MMoEClassifier(), "task_names_")


def test_other_columns():
    with pytest.raises(ValueError, match="3 features, but MMoEClassifier is expecting"):
        fitted().gate_weights(rows()[0][:, :3])


# -- the warning -------------------------------------------------------------------

MANY = 1_000


def with_bias(model, gate, logits):
    """Write biases of a gate into a fitted network."""
    bank = model.network_.levels[-1]
    with torch.no_grad():
        start = bank.n_experts * bank.first_width + gate * bank.n_experts
        bias = torch.as_tensor(logits, dtype=bank.joint.bias.dtype)
        bank.joint.bias[start : start + bank.n_experts] = bias
    return model


def found(model, n_rows=MANY):
    """Return what a further epoch warns of."""
    model.set_params(learning_rate=1e-6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.partial_fit(*rows(n_rows))
    return [entry for entry in caught if entry.category is PolarizedGateWarning]


LOUD = np.where(np.arange(EXPERTS) == 5, 20.0, 0.0)
MUTE = np.where(np.arange(EXPERTS) == 5, -20.0, 0.0)


@pytest.mark.parametrize("architecture", ["mmoe", "omoe", "cgc", "ple"])
def test_no_warning_of_healthy_gates(architecture):
    assert found(fitted(architecture, MANY)) == []


@pytest.mark.parametrize("architecture", ["shared_bottom", "single", "aitm", "esmm"])
def test_no_warning_where_there_is_nothing_to_weigh(architecture):
    assert found(fitted(architecture, MANY)) == []


def test_a_gate_that_uses_one_expert():
    (warning,) = found(with_bias(fitted(n_rows=MANY), 1, LOUD))
    message = str(warning.message)
    assert message.startswith("the gates of y1 (100% on expert 5) use one expert only:")
    assert "gate_dropout=0.1" in message
    assert "no task uses" not in message
    # It points to the line of the user that trained.
    assert warning.filename == __file__


def test_an_expert_that_no_task_uses():
    model = fitted(n_rows=MANY)
    for gate in range(TASKS):
        # One task is enough to keep an expert in use.
        assert found(model) == []
        with_bias(model, gate, MUTE)
    (warning,) = found(model)
    assert str(warning.message).startswith("no task uses the experts [5]: try")


def test_the_one_gate_of_all_tasks():
    (warning,) = found(with_bias(fitted("omoe", MANY), 0, LOUD))
    message = str(warning.message)
    assert "no task uses the experts [0, 1, 2, 3, 4, 6, 7] and the gates of" in message
    assert "of all tasks (100% on expert 5)" in message


def test_few_rows_make_no_warning():
    model = with_bias(fitted(n_rows=MANY), 1, LOUD)
    assert found(model, MANY - 1) == []
    assert len(found(model, MANY)) == 1


def test_rows_of_all_parts_count():
    """Rows that begin with ten thousand alike: the gates are read from end to end."""
    n_rows = 20_000
    rng = np.random.default_rng(0)
    X = np.repeat([[1.0], [-1.0]], n_rows // 2, axis=0)
    y = (rng.random((n_rows, 2)) < 0.5).astype(int)
    options = QUICK | {"n_experts": 2, "numeric_encoding": "standard", "batch_size": N}
    options |= {"early_stopping": False, "max_epochs": 1, "learning_rate": 1e-8}
    model = MMoEClassifier(**options).fit(X, y)
    bank = model.network_.levels[0]
    with torch.no_grad():
        # Each half of the rows goes to an expert of its own.
        bank.joint.weight[-4:, 0] = torch.tensor([9.0, -9.0, 9.0, -9.0])
        bank.joint.bias[-4:] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(learning_rate=1e-8).partial_fit(X, y)
    assert_allclose(model.expert_usage(X), 0.5, atol=0.01)


def test_a_warning_made_an_error_leaves_the_model_as_it_was():
    model = with_bias(fitted(n_rows=MANY), 1, LOUD)
    before = model._fitted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PolarizedGateWarning, match="use one expert only"):
            model.partial_fit(*rows(MANY))
    assert model._fitted is before


def test_fit_points_to_its_caller():
    """A fit that ends with a polarised gate says so where it was called."""
    model = with_bias(fitted(n_rows=MANY), 1, LOUD)
    model.set_params(warm_start=True, max_epochs=1, learning_rate=1e-6)
    with pytest.warns(PolarizedGateWarning, match="y1") as caught:
        model.fit(*rows(MANY))
    assert caught[0].filename == __file__
