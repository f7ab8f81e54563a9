"""Long fits: checkpoints, SIGKILL, Ctrl-C."""

import copy
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.em._checkpoint import Checkpoint, Reached
from skmoe.em._fingerprint import fingerprint
from skmoe.experts import LinearExpert, TorchExpert
from skmoe.gates import GaussianGate, TorchGate

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from skmoe.nn import MLP  # noqa: E402

safetensors = pytest.importorskip("safetensors")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(300, 2))
    y = np.where(X[:, 0] > 0, np.sin(3 * X[:, 1]), -X[:, 1])
    return X, y + 0.1 * rng.normal(size=300)


def regressor(**options):
    options = {
        "n_experts": 2,
        "gate": TorchGate(module__hidden=4),
        "random_state": 0,
        "max_iter": 10,
        "tol": 1e-3,
    } | options
    # Dropout: what its masks are drawn from must go on too.
    expert = TorchExpert(module__hidden=8, module__dropout=0.1, n_epochs=2)
    return MixtureOfExpertsRegressor(expert, **options)


class Interrupt:
    """A user's Ctrl-C at the end of a pass."""

    def __init__(self, after):
        self.left = after

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, **_):
        self.left -= context.task_name == "EM pass"
        if self.left == 0:
            raise KeyboardInterrupt
        return False


def interrupted(model, rows, after):
    model.set_callbacks(Interrupt(after))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*rows)
    return model


# -- going on --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({}, 1),
        ({}, 6),
        ({"gate": None}, 6),
        ({"algorithm": "cem"}, 4),
        ({"algorithm": "gradient"}, 6),
        ({"algorithm": "em+gradient"}, 6),
        ({"algorithm": "em+gradient"}, 14),
    ],
)
def test_goes_on_to_the_same_result(rows, tmp_path, options, after):
    X, y = rows
    path = tmp_path / "fit.safetensors"
    whole = regressor(**options).fit(X, y)
    broken = interrupted(regressor(**options, checkpoint=path), rows, after)
    assert not hasattr(broken, "node_")
    assert path.exists()
    model = regressor(**options, checkpoint=str(path)).fit(X, y)
    assert_array_equal(model.objective_trace_, whole.objective_trace_)
    assert_array_equal(model.predict(X), whole.predict(X))
    assert model.n_iter_ == whole.n_iter_
    for one, other in zip(model.experts_, whole.experts_, strict=True):
        for name, tensor in one._state.tensors().items():
            assert torch.equal(tensor, other._state.tensors()[name]), name
    assert not list(tmp_path.iterdir())  # a finished fit leaves nothing behind


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_a_gate_of_transformed_parameters_goes_on_to_rounding(rows, tmp_path):
    X, y = rows
    options = {"gate": GaussianGate(), "checkpoint": tmp_path / "a"}
    interrupted(regressor(**options), rows, 6)
    model = regressor(**options).fit(X, y)
    whole = regressor(gate=GaussianGate()).fit(X, y)
    assert_allclose(model.objective_trace_, whole.objective_trace_, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_best_pass_is_kept_over_a_break(rows, tmp_path):
    """Wild steps: the best pass lies before the break."""
    options = {"max_iter": 12}
    model = regressor(**options, checkpoint=tmp_path / "a")
    model.set_params(experts__lr=0.3)
    whole = clone(model).set_params(checkpoint=None).fit(*rows)
    best = int(whole.objective_trace_.argmax())
    assert best < len(whole.objective_trace_) - 1
    interrupted(clone(model), rows, best + 2)
    assert_array_equal(model.fit(*rows).predict(rows[0]), whole.predict(rows[0]))


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_more_passes_may_be_asked_for(rows, tmp_path):
    path = tmp_path / "a"
    interrupted(regressor(checkpoint=path, max_iter=6), rows, 5)
    model = regressor(checkpoint=path, max_iter=9).fit(*rows)
    whole = regressor(max_iter=9).fit(*rows)
    assert_array_equal(model.objective_trace_, whole.objective_trace_)


SCRIPT = """
import sys, time, warnings
import numpy as np, torch
from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import TorchExpert
from skmoe.gates import TorchGate
from torch import nn

warnings.simplefilter("ignore")

class Slow(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_inputs, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, n_outputs)
        )

    def forward(self, X):
        time.sleep(float(sys.argv[3]))
        return self.body(X)

rng = np.random.default_rng(5)
X = rng.normal(size=(300, 2))
y = np.where(X[:, 0] > 0, np.sin(3 * X[:, 1]), -X[:, 1]) + 0.1 * rng.normal(size=300)
model = MixtureOfExpertsRegressor(
    TorchExpert(Slow, n_epochs=1), n_experts=2, gate=TorchGate(module__hidden=4),
    random_state=0, max_iter=25, tol=1e-3, algorithm=sys.argv[4],
    checkpoint=None if sys.argv[1] == "-" else sys.argv[1],
).fit(X, y)
np.savez(sys.argv[2], trace=model.objective_trace_, predicted=model.predict(X))
"""


def run(tmp_path, *arguments):
    script = tmp_path / "fit.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment)


@pytest.mark.parametrize("algorithm", ["em", "gradient"])
def test_killed_at_a_random_moment(tmp_path, algorithm):
    """SIGKILL leaves no time for anything: the last whole file must do."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path, moment = folder / "fit", random.Random().uniform(0.0, 0.5)
    process = run(tmp_path, path, tmp_path / "none.npz", 0.02, algorithm)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "it ended before its first pass"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"it was over after {moment} seconds"
    assert path.exists()
    assert not (tmp_path / "none.npz").exists()
    assert run(tmp_path, path, tmp_path / "resumed.npz", 0, algorithm).wait() == 0
    assert run(tmp_path, "-", tmp_path / "whole.npz", 0, algorithm).wait() == 0
    with (
        np.load(tmp_path / "resumed.npz") as one,
        np.load(tmp_path / "whole.npz") as two,
    ):
        assert_array_equal(one["trace"], two["trace"])
        assert_array_equal(one["predicted"], two["predicted"])
    assert not path.exists()


# -- whose checkpoint it is ------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"n_experts": 3},
        {"experts__lr": 0.01},
        {"experts__module__hidden": 4},
        {"algorithm": "gradient"},
        {"gate__module__hidden": 5},
    ],
)
def test_other_settings(rows, tmp_path, change):
    path = tmp_path / "a"
    interrupted(regressor(checkpoint=path), rows, 2)
    other = regressor(checkpoint=path).set_params(**change)
    with pytest.raises(ValueError, match="belongs to another fit: other settings, or"):
        other.fit(*rows)
    assert path.exists()  # it is not ours to remove


def test_other_data(rows, tmp_path):
    X, y = rows
    path = tmp_path / "a"
    interrupted(regressor(checkpoint=path), rows, 2)
    for other in ((X[:-1], y[:-1]), (X + 1e-9, y), (X, np.r_[y[:-1], 0.0])):
        with pytest.raises(ValueError, match="belongs to another fit"):
            regressor(checkpoint=path).fit(*other)


def test_no_checkpoint_at_all(rows, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a checkpoint, but dear to somebody" * 9)
    with pytest.raises(ValueError, match=r"is no checkpoint: .* Give another path"):
        regressor(checkpoint=path).fit(*rows)
    assert path.read_text().startswith("not a checkpoint")


def test_fingerprint_is_the_same_in_each_process(rows):
    X, y = rows
    model = regressor(checkpoint="a", verbose=0)
    mark = fingerprint(model, X, y)
    assert mark == fingerprint(clone(model).set_params(checkpoint="b"), X.copy(), y)
    assert mark != fingerprint(model.set_params(experts__lr=1.0), X, y)
    assert "0x" not in repr(mark)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (partial(MLP, hidden=4), partial(MLP, hidden=8)),
        (partial(MLP, 2), partial(MLP, 3)),
        (nn.Linear(2, 1), nn.Linear(2, 1)),  # other weights
        (nn.Linear(2, 1), nn.Linear(2, 1, bias=False)),
        (nn.Sequential(MLP(2, 1), nn.Tanh()), nn.Sequential(MLP(2, 1), nn.GELU())),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_fingerprint_tells_modules_apart(rows, one, other, listed):
    def mark(module):
        expert = TorchExpert(copy.deepcopy(module))
        experts = [expert] * 2 if listed else expert
        return fingerprint(regressor().set_params(experts=experts), *rows)

    assert mark(one) == mark(one)
    assert mark(one) != mark(other)


def test_tensors_of_another_module(rows):
    one, other = (
        TorchExpert(module__hidden=hidden, n_epochs=1).fit(*rows) for hidden in (4, 5)
    )
    with pytest.raises(ValueError, match=r"to another fit: .*param\..* Give an"):
        one.restore_checkpoint(other.checkpoint_state())
    missing = one.checkpoint_state()
    del missing["shape"]
    with pytest.raises(ValueError, match=r"other tensors \['shape'\]"):
        one.restore_checkpoint(missing)
    one.restore_checkpoint(one.checkpoint_state())


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_replay_below_an_earlier_pass(rows, tmp_path):
    """Another machine finds the best pass again a little lower, and no better one."""
    path = tmp_path / "a"
    model = interrupted(regressor(checkpoint=path, max_iter=4), rows, 3)
    with safetensors.safe_open(path, framework="pt") as file:
        checkpoint = Checkpoint(path, file.metadata()["fingerprint"])
    reached = checkpoint.load()
    reached.trace[1], reached.best = 1e6, []
    checkpoint.save(reached)
    model.set_callbacks(Interrupt(-1)).fit(*rows)
    assert model.objective_trace_[1] == 1e6
    now = reached.now[1]["param." + next(iter(model.experts_[0]._state.params))]
    assert torch.equal(next(iter(model.experts_[0]._state.params.values())), now)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", r"must be the path of a file, got '', a folder or nothing"),
        (".", r"must be the path of a file, got '.*', a folder or nothing; add a file"),
        ("none/a", r"there is no folder '.*none'. Make it, or give another path"),
        ("file/a", r"there is no folder '.*file'. Make it, or give another path"),
    ],
)
def test_paths_are_checked_before_the_first_pass(rows, tmp_path, path, message):
    (tmp_path / "file").write_text("")
    path = str(tmp_path / path) if path else path
    model = regressor(checkpoint=path).set_callbacks(Interrupt(1))
    with pytest.raises(ValueError, match=message):
        model.fit(*rows)


def test_a_write_that_fails_leaves_the_last_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    checkpoint = Checkpoint(path, "mark")
    part = [{"shape": torch.arange(3.0)}]
    checkpoint.save(Reached("em", "kmeans", np.ones(2), np.ones(0), part, []))

    def failing(_):
        raise OSError("the disk is full")

    monkeypatch.setattr("skmoe.em._checkpoint.os.fsync", failing)
    with pytest.raises(OSError, match="disk is full"):
        checkpoint.save(Reached("em", "kmeans", np.ones(3), np.ones(0), part, []))
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    loaded = checkpoint.load()
    assert_array_equal(loaded.trace, np.ones(2))
    assert torch.equal(loaded.now[0]["shape"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": LinearExpert()}, r"TorchExperts.* got the experts \['expert0'"),
        ({"n_init": 3}, "a single start of .* and n_init=3"),
        ({"algorithm": "sem"}, "got algorithm='sem'"),
    ],
)
def test_what_it_serves(rows, tmp_path, options, message):
    model = regressor(checkpoint=tmp_path / "a").set_params(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(*rows)


# -- Ctrl-C ----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["em", "gradient"])
def test_interrupt_keeps_the_best_pass_with_warm_start(rows, algorithm):
    X, y = rows
    model = interrupted(regressor(warm_start=True, algorithm=algorithm), rows, 5)
    assert model.n_iter_ == 5
    assert not model.converged_
    reached = model.log_likelihood(X, y) + model.node_.penalty
    assert_allclose(reached, model.objective_trace_.max(), rtol=1e-5)
    assert "_progress" not in vars(model)


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_interrupted_trace_has_each_pass_once(rows, tmp_path, checkpoint):
    options = {"algorithm": "em+gradient", "warm_start": True}
    whole = regressor(**options).fit(*rows).objective_trace_
    path = tmp_path / "a" if checkpoint else None
    model = interrupted(regressor(**options, checkpoint=path), rows, 14)
    assert_array_equal(model.objective_trace_, whole[:13])
    if checkpoint:  # and once more, after going on
        model = interrupted(regressor(**options, checkpoint=path), rows, 3)
        assert_array_equal(model.objective_trace_, whole[:15])


def test_interrupted_trace_is_that_of_one_start(rows):
    model = regressor(warm_start=True, n_init=4, max_iter=10, tol=1e-12)
    interrupted(model, rows, 12)  # in the second pass of the second start
    assert model.n_iter_ in (2, 10)
    reached = model.log_likelihood(*rows) + model.node_.penalty
    assert_allclose(reached, model.objective_trace_.max(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_next_fit_begins_with_the_weights(rows):
    X, y = rows
    model = interrupted(regressor(warm_start=True), rows, 8)
    before = model.objective_trace_.max()
    model.set_callbacks(Interrupt(-1)).fit(X, y)
    cold = regressor().fit(X, y).objective_trace_
    assert model.objective_trace_[0] > max(before - 20.0, cold[4])


def test_interrupt_without_warm_start_leaves_the_estimator(rows):
    model = interrupted(regressor(), rows, 5)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_interrupt_leaves_native_parts_as_they_were(rng):
    X = rng.normal(size=(200, 2))
    y = np.where(X[:, 0] + 0.3 * rng.normal(size=200) > 0, "a", "b")
    model = MixtureOfExpertsClassifier(
        n_experts=2, init="kmeans", warm_start=True, random_state=0
    )
    interrupted(model, (X, y), 4)
    assert not hasattr(model, "node_")
