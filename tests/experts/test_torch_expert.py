"""TorchExpert: the protocol, its arguments, its errors, its copies."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.exceptions import ExpertError
from skmoe.experts import LinearExpert, TorchExpert
from tests.experts.expert_suite import ExpertSuite

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from skmoe.nn import MLP  # noqa: E402


def small(**options):
    """One batch a step, in float64: then weights are repetitions, to rounding."""
    options = {"module__hidden": 8, "random_state": 0, "n_epochs": 40} | options
    return TorchExpert(precision="float64", batch_size=4096, lr=0.02, **options)


class TorchSuite(ExpertSuite):
    """The suite, but for what random initial weights and dense rows rule out."""

    weight_tol = 1e-5
    test_order_of_outputs_or_classes = None
    test_sparse_equals_dense = None

    def make_expert(self):
        return small()


class TestGaussian(TorchSuite):
    pass


class TestSeveralOutputs(TorchSuite):
    n_outputs = 3


class TestCategorical(TorchSuite):
    n_classes = 3


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(400, 2))
    return X, np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=400)


def prepared(rows, module=None, **options):
    X, y = rows
    expert = small(**options)
    if module is not None:
        expert = TorchExpert(module, random_state=0, precision="float64", **options)
    expert.prepare(X, y, np.ones(len(y)))
    return expert


# -- heads -----------------------------------------------------------------------------


def test_student_learns_tails_and_scale(rng):
    X = rng.normal(size=(3000, 1))
    y = 5.0 + 40.0 * X[:, 0] + 20.0 * rng.standard_t(3.0, size=3000)
    expert = TorchExpert(head="student", random_state=0, n_epochs=30).fit(X, y)
    square, df = expert.dispersion
    assert 2.2 < df < 4.2
    assert 0.8 < np.sqrt(square) / 20.0 < 1.2
    law = stats.t(df, loc=expert.predict(X), scale=np.sqrt(square))
    np.testing.assert_allclose(expert.log_prob(X, y), law.logpdf(y), rtol=1e-9)


def test_student_of_normal_noise_is_nearly_normal(rng):
    X = rng.normal(size=(2000, 1))
    y = X[:, 0] + rng.normal(size=2000)
    expert = TorchExpert(head="student", random_state=0, n_epochs=30).fit(X, y)
    assert expert.dispersion[1] > 15.0


def test_student_update_is_near_the_maximum(rng):
    heads = pytest.importorskip("skmoe.nn._heads")
    error = torch.from_numpy(1.5 * rng.standard_t(4.0, size=4000))[None, :, None]
    head = heads.StudentHead(torch.zeros(1), torch.ones(1), (0.0, 0.0), True)
    y, weight = torch.zeros_like(error), torch.ones(1, 4000, dtype=torch.float64)
    shape = head.start()[None]
    for _ in range(20):
        shape = head.update(y, error, weight, shape)
    best = stats.t.fit(error.numpy().ravel(), floc=0.0)
    expected = [np.log(best[2] ** 2), np.log(best[0])]
    np.testing.assert_allclose(shape[0].numpy(), expected, atol=0.02)


def test_poisson(rng):
    X = rng.normal(size=(2000, 1))
    rate = 50.0 * np.exp(0.7 * X[:, 0])
    y = rng.poisson(rate).astype(float)
    expert = TorchExpert(head="poisson", random_state=0, n_epochs=20).fit(X, y)
    assert np.corrcoef(expert.predict(X), rate)[0, 1] > 0.99
    expected = stats.poisson(expert.predict(X)).logpmf(y)
    np.testing.assert_allclose(expert.log_prob(X, y), expected, rtol=1e-9)
    assert expert.dispersion is None


def test_poisson_refuses_negative_counts(rows):
    X, y = rows
    model = MixtureOfExpertsRegressor(TorchExpert(head="poisson"), n_experts=2)
    with pytest.raises(ValueError, match="needs counts y >= 0"):
        model.fit(X, y)


def test_poisson_alone_refuses_negative_counts(rows, rng):
    X, y = rows[0], rng.poisson(3.0, size=400).astype(float)
    y[[3, 5]] = -2.5, -1.0
    expert = TorchExpert(head="poisson", random_state=0, n_epochs=3)
    for arrays in ((X, y), (torch.from_numpy(X), torch.from_numpy(y[:, None]))):
        with pytest.raises(ValueError, match=r"counts y >= 0. Got y = -2.5 in row 3"):
            expert.fit(*arrays)
    with pytest.raises(ValueError, match="No row of positive weight has one"):
        expert.prepare(X, y, (y < 0).astype(float))
    expert.fit(X, y, sample_weight=(y >= 0).astype(float))
    density = expert.log_prob(X, y)
    assert np.flatnonzero(np.isneginf(density)).tolist() == [3, 5]
    expected = stats.poisson(expert.predict(X)).logpmf(y)
    np.testing.assert_allclose(density, expected, rtol=1e-9)


def test_poisson_beside_an_expert_of_all_numbers(rng):
    X = rng.uniform(-2, 2, size=(300, 1))
    y = np.where(X[:, 0] > 0, rng.poisson(4.0, size=300), -5.0 + rng.normal(size=300))
    counts = TorchExpert(head="poisson", n_epochs=3)
    experts = [("counts", counts), ("line", LinearExpert())]
    model = MixtureOfExpertsRegressor(experts, max_iter=5, random_state=0)
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, y)
    resp = model.responsibilities(X, y)
    assert resp[y < 0, 0].max() == 0.0
    assert resp[y >= 0, 0].mean() > 0.5


def test_column_of_counts(rows, rng):
    X, y = rows[0], rng.poisson(np.exp(0.5 * rows[0][:, 0])).astype(float)
    expert = TorchExpert(head="poisson", random_state=0, n_epochs=3)
    expected = clone(expert).fit(X, y).log_prob(X, y)
    expert.fit(X, y[:, None])
    np.testing.assert_array_equal(expert.log_prob(X, y[:, None]), expected)


def test_one_output_only(rows):
    X, y = rows
    with pytest.raises(ValueError, match=r"head='student' models one output, got y"):
        small(head="student").prepare(X, np.c_[y, y], np.ones(len(y)))


def test_variance_is_the_posterior_mode(rows):
    X, y = rows
    weight = np.linspace(0.1, 2.0, len(y))
    expert = small(variance_prior=(7.0, 0.2))
    expert.prepare(X, y, weight)
    expert.m_step(X, y, weight)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    error = weight @ (y - expert.predict_params(X)) ** 2
    expected = (error + 7.0 * 0.2 * spread) / (weight.sum() + 7.0)
    np.testing.assert_allclose(expert.dispersion, expected, rtol=1e-9)
    np.testing.assert_allclose(expert.scatter / expert.mass, expected, rtol=1e-9)


def test_strings_are_classes_and_numbers_are_not(rows):
    X, _ = rows
    labels = np.where(X[:, 0] > 0, "right", "left")
    expert = TorchExpert(random_state=0, n_epochs=20).fit(X, labels)
    assert expert.score(X, labels) > 0.97
    assert expert.classes_.tolist() == ["left", "right"]
    np.testing.assert_allclose(expert.predict_proba(X).sum(axis=1), 1.0)
    assert expert.log_prob(X, labels).mean() > -0.2
    with pytest.raises(ValueError, match="class 'up', which fit did not see"):
        expert.log_prob(X, np.full(len(X), "up"))
    assert not hasattr(TorchExpert(), "predict_proba")


# -- an estimator ----------------------------------------------------------------------


def test_fits_alone(rows):
    X, y = rows
    expert = TorchExpert(random_state=0).fit(X, y, sample_weight=np.ones(len(y)))
    assert expert.score(X, y) > 0.95
    assert 0.005 < expert.dispersion < 0.02
    again = TorchExpert(random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), expert.predict(X))


def test_parameters_of_module_and_optimizer():
    expert = TorchExpert(module__hidden=3, optimizer__betas=(0.8, 0.9))
    assert repr(expert) == (
        "TorchExpert(module__hidden=3, optimizer__betas=(0.8, 0.9))"
    )
    params = clone(expert).get_params()
    assert params["module__hidden"] == 3
    assert params["optimizer__betas"] == (0.8, 0.9)
    mixture = MixtureOfExpertsRegressor(expert)
    mixture.set_params(experts__module__hidden=5, experts__lr=0.1)
    assert mixture.experts.get_params()["module__hidden"] == 5
    assert clone(mixture).get_params()["experts__module__hidden"] == 5
    with pytest.raises(TypeError, match=r"unexpected keyword arguments \['hidden'\]"):
        TorchExpert(hidden=3)


def test_grid_search_over_the_module(rows):
    model = MixtureOfExpertsRegressor(
        TorchExpert(n_epochs=2, module__hidden=4), n_experts=2, max_iter=6, tol=1e9
    )
    grid = {"experts__module__hidden": [2, 16]}
    with pytest.warns(UserWarning, match="did not converge"):
        search = GridSearchCV(model.set_params(random_state=0), grid, cv=2).fit(*rows)
    tried = search.cv_results_["param_experts__module__hidden"]
    assert tried.tolist() == [2, 16]
    hidden = search.best_params_["experts__module__hidden"]
    layer = search.best_estimator_.experts_[0].module_.body[0]
    assert layer.out_features == hidden
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0.0


def test_needs_no_torch_to_exist():
    """In a fresh process where torch cannot be imported."""
    code = """
import sys
from importlib.abc import MetaPathFinder

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            raise ImportError("no torch here")

sys.meta_path.insert(0, NoTorch())
import numpy as np, skmoe, skmoe.experts, skmoe.gates
from sklearn.base import clone
expert = clone(skmoe.experts.TorchExpert(module__hidden=2))
expert.get_params(), repr(expert), clone(skmoe.gates.TorchGate())
try:
    expert.fit(np.zeros((4, 1)), np.zeros(4))
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "TorchExpert needs torch: pip install 'skmoe[torch]'\n"


def test_importing_the_parts_does_not_import_torch():
    code = "import sys, skmoe.experts, skmoe.gates; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- the M-step ------------------------------------------------------------------------


def test_warm_weights_and_moments(rows):
    X, y = rows
    expert, ones = prepared(rows, n_epochs=3), np.ones(len(y))
    before = expert._state
    expert.m_step(X, y, ones)
    middle = expert._state
    assert middle is not before
    (step,) = {float(known["step"]) for known in middle.moments.values()}
    expert.m_step(X, y, ones)
    (further,) = {float(known["step"]) for known in expert._state.moments.values()}
    assert (step, further) == (3.0, 6.0)
    # Two steps of three epochs are one of six, but for the variance in between.
    other = prepared(rows, n_epochs=6)
    other.m_step(X, y, ones)
    np.testing.assert_allclose(
        other.predict_params(X), expert.predict_params(X), atol=1e-2
    )


def test_state_is_replaced_not_written_into(rows):
    X, y = rows
    expert = prepared(rows)
    expert.m_step(X, y, np.ones(len(y)))
    kept = copy.copy(expert)
    tensors = {name: t.clone() for name, t in expert._state.tensors().items()}
    expert.m_step(X, y, np.linspace(0, 1, len(y)))
    for name, tensor in kept._state.tensors().items():
        assert torch.equal(tensor, tensors[name]), name


def test_seeds_leave_torch_alone(rows):
    X, y = rows
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    expert = small(module__dropout=0.3).fit(X, y)
    assert torch.equal(torch.rand(2), expected)
    again = small(module__dropout=0.3).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), expert.predict(X))
    other = small(module__dropout=0.3, random_state=1).fit(X, y)
    assert np.abs(other.predict(X) - expert.predict(X)).max() > 1e-4


def test_rows_of_no_weight_are_not_visited(rows):
    class Counting(nn.Module):
        visited = 0

        def __init__(self, n_inputs, n_outputs):
            super().__init__()
            self.map = nn.Linear(n_inputs, n_outputs)

        def forward(self, X):
            if self.training:
                Counting.visited += len(X)
            return self.map(X)

    X, y = rows
    expert = prepared(rows, module=Counting, n_epochs=1)
    weight = np.zeros(len(y))
    weight[:30] = 1.0
    expert.m_step(X, y, weight)
    assert Counting.visited == 30


def test_early_stopping_keeps_the_best_epoch(rng):
    X = rng.normal(size=(60, 10))
    y = X[:, 0] + rng.normal(size=60)
    options = {"module__hidden": 64, "n_epochs": 300, "head": "gaussian"}
    fresh = rng.normal(size=(500, 10))
    target = fresh[:, 0] + rng.normal(size=500)
    plain = small(**options).fit(X, y)
    early = small(**options, validation_fraction=0.3, patience=10).fit(X, y)
    steps = {float(known["step"]) for known in early._state.moments.values()}
    assert max(steps) < 300
    assert early.score(fresh, target) > plain.score(fresh, target) + 0.1


def test_clipping_bounds_the_steps(rows):
    X, y = rows
    plain, clipped = (
        prepared(rows, optimizer="sgd", max_norm=norm, weight_decay=0.0, n_epochs=1)
        for norm in (None, 1e-3)
    )
    before = plain.predict_params(X)
    for expert in (plain, clipped):
        expert.m_step(X, y, np.ones(len(y)))
    moved = [np.abs(e.predict_params(X) - before).max() for e in (plain, clipped)]
    assert moved[1] < 0.01 * moved[0]


def test_optimizer_class_and_keywords(rows):
    expert = prepared(rows, optimizer=torch.optim.RMSprop, optimizer__alpha=0.9)
    X, y = rows
    expert.m_step(X, y, np.ones(len(y)))
    assert set(next(iter(expert._state.moments.values()))) >= {"square_avg"}
    assert expert.log_prob(X, y).mean() > -1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_epochs": 0}, "n_epochs must be 'auto' or an integer >= 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be an integer >= 1, got 2.5"),
        ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
        ({"lr": np.inf}, "lr must be a positive number, got inf"),
        ({"weight_decay": -1.0}, "weight_decay must be a number >= 0, got -1.0"),
        ({"max_norm": 0}, "max_norm must be None or a positive number, got 0"),
        ({"patience": None}, "patience must be an integer >= 1, got None"),
        ({"validation_fraction": 1.0}, "between 0 and 1, got 1.0"),
        ({"precision": "half"}, "precision must be 'float32', 'float64' or 'bfloat16'"),
        ({"head": "gamma"}, "head must be 'auto' or one of .*, got 'gamma'"),
        ({"optimizer": "adagrad"}, "optimizer must be one of .*, got 'adagrad'"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS does not"),
        ({"device": "tpu"}, "device must be None, 'auto' or a device of torch"),
        ({"variance_prior": (1.0,)}, "variance_prior must be None or two numbers"),
    ],
)
def test_bad_arguments(rows, options, message):
    X, y = rows
    with pytest.raises(ValueError, match=message):
        TorchExpert(**options).fit(X, y)


# -- modules ---------------------------------------------------------------------------


class Wrong(nn.Linear):
    def forward(self, X):
        return torch.cat([X, X], dim=1)


def test_wrong_shape_of_the_module(rows):
    message = r"module Wrong must turn rows of shape \(2, 2\) .* \(2, 1\), got \(2, 4\)"
    with pytest.raises(ValueError, match=message):
        TorchExpert(Wrong(2, 1)).fit(*rows)


def test_module_of_any_kind(rows):
    X, y = rows
    instance = nn.Linear(2, 1)
    first = instance.weight.detach().clone()
    one = TorchExpert(instance, random_state=0, n_epochs=2).fit(X, y)
    assert torch.equal(instance.weight, first)  # it was copied
    assert one.module_.weight is not instance.weight
    factory = TorchExpert(lambda n_outputs: nn.Linear(2, n_outputs)).fit(X, y)
    assert factory.n_parameters == 4
    with pytest.raises(ValueError, match=r"takes no arguments any more, got \['x'\]"):
        TorchExpert(instance, module__x=1).fit(X, y)
    with pytest.raises(TypeError, match=r"must return an nn\.Module, got 3"):
        TorchExpert(lambda: 3).fit(X, y)
    with pytest.raises(TypeError, match=r"module must be an nn\.Module, its class"):
        TorchExpert(3).fit(X, y)


def test_trained_module_sees_standardised_columns(rows):
    X, y = rows
    expert = TorchExpert(random_state=0, n_epochs=5).fit(X * 1e3 + 7.0, y)
    columns = torch.from_numpy(((X - X.mean(0)) / X.std(0)).astype(np.float32))
    raw = expert.module_(columns).detach().numpy()[:, 0]
    mean = raw * y.std() + y.mean()
    np.testing.assert_allclose(mean, expert.predict(X * 1e3 + 7.0), atol=1e-4)


def test_codes_of_categories_are_left_alone(rng):
    codes = rng.integers(0, 4, size=500).astype(float)
    X = np.c_[rng.normal(size=500), codes]
    y = np.array([3.0, -1.0, 0.5, 9.0])[codes.astype(int)] + 0.1 * rng.normal(size=500)
    expert = TorchExpert(module__categories={1: 4}, random_state=0, n_epochs=40)
    assert expert.fit(X, y).score(X, y) > 0.98


def test_each_module_learns_from_rows_once(rng):
    class Learner(nn.Module):
        taught = 0

        def __init__(self, n_inputs, n_outputs):
            super().__init__()
            self.map = nn.Linear(n_inputs, n_outputs)
            self.ready = nn.Parameter(torch.zeros(1), requires_grad=False)
            self.register_buffer("top", torch.zeros(n_inputs))
            self.register_buffer("own", torch.randn(n_inputs))

        def learn(self, X, weight=None):
            Learner.taught += 1
            self.ready.data.fill_(1.0)
            self.top.copy_(X.amax(dim=0))

        def forward(self, X):
            return self.map(X * self.own / self.top)

    X = rng.normal(size=(100, 2))
    model = MixtureOfExpertsRegressor(
        TorchExpert(Learner, n_epochs=1), n_experts=3, max_iter=2, random_state=0
    )
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, X[:, 0])
    assert Learner.taught == 3
    assert len({float(expert.module_.own[0]) for expert in model.experts_}) == 3
    top = ((X - X.mean(0)) / X.std(0)).max(axis=0)
    for expert in model.experts_:
        np.testing.assert_allclose(expert.module_.top.numpy(), top, rtol=1e-5)
        assert float(expert.module_.ready.detach()) == 1.0


def test_modules_of_the_package_learn_from_rows_together(rows, monkeypatch):
    taught, learn = [], MLP.learn

    def spy(self, X, weight=None):
        taught.append(self)
        return learn(self, X, weight)

    monkeypatch.setattr(MLP, "learn", spy)
    X, y = rows
    expert = TorchExpert(module__numeric="piecewise", n_epochs=1)
    model = MixtureOfExpertsRegressor(expert, n_experts=3, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, y)
    assert len(taught) == 1
    first = dict(model.experts_[0].module_.named_buffers())
    assert first
    for expert in model.experts_[1:]:
        for name, buffer in expert.module_.named_buffers():
            assert torch.equal(buffer, first[name])


def test_sgd_without_momentum_has_long_first_m_steps_only(rows):
    X, y = rows
    expert = prepared(rows, optimizer="sgd", n_epochs="auto")
    epochs = [expert._settings(len(y)).n_epochs]
    expert.m_step(X, y, np.ones(len(y)))
    assert not any(expert._state.moments.values())
    epochs.append(expert._settings(len(y)).n_epochs)
    assert epochs == [200, 20]
    again = prepared(rows, optimizer="sgd", n_epochs="auto")
    again.restore_checkpoint(expert.checkpoint_state())
    assert again._settings(len(y)).n_epochs == 20


def test_predictions_in_threads(rows):
    X, y = rows
    model = MixtureOfExpertsRegressor(
        TorchExpert(n_epochs=2), n_experts=2, max_iter=2, random_state=0
    )
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, y)
    many = np.tile(X, (50, 1))
    expected = model.predict(many)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: model.predict(many), range(24)):
            np.testing.assert_array_equal(got, expected)


# -- tensors and devices ---------------------------------------------------------------


def test_tensors_in_tensors_out(rows):
    X, y = rows
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    expert = TorchExpert(random_state=0, n_epochs=3)
    expert.fit(*tensors)
    assert isinstance(expert.predict(tensors[0]), torch.Tensor)
    assert isinstance(expert.log_prob(*tensors), torch.Tensor)
    assert expert.log_prob(*tensors).dtype == torch.float64
    plain = TorchExpert(random_state=0, n_epochs=3).fit(X, y)
    np.testing.assert_array_equal(expert.predict(tensors[0]), plain.predict(X))
    assert isinstance(expert.predict(X), np.ndarray)


def test_classes_of_tensors_are_tensors(rows):
    X, y = torch.from_numpy(rows[0]), torch.from_numpy(rows[1] > 0).long() + 4
    expert = TorchExpert(head="categorical", random_state=0, n_epochs=3).fit(X, y)
    labels, proba = expert.predict(X), expert.predict_proba(X)
    assert isinstance(labels, torch.Tensor)
    assert labels.dtype == y.dtype
    assert isinstance(proba, torch.Tensor)
    assert torch.equal(labels, proba.argmax(dim=1) + 4)
    assert expert.score(X, y) == (labels == y).double().mean()
    words = np.where(rows[1] > 0, "up", "down")
    expert.fit(X, words)
    assert set(expert.predict(X)) == {"up", "down"}
    assert isinstance(expert.predict(rows[0]), np.ndarray)


def test_bad_tensors(rows):
    X, y = (torch.from_numpy(array.copy()) for array in rows)
    expert = TorchExpert(random_state=0, n_epochs=1)
    hole, endless = y.clone(), X.clone()
    hole[7], endless[3, 1] = torch.nan, torch.inf
    for bad, message in (
        ((X, hole), "y contains NaN or infinity"),
        ((X, hole.numpy()), "y contains NaN or infinity"),
        ((X, y[:5]), r"X has 400 rows and y is of shape \(5,\); give one response"),
        ((endless, y), "X contains infinity; clip or drop"),
        ((X[:, 0], y), r"Expected 2D array of .* got X of shape \(400,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            expert.fit(*bad)
    expert.fit(X, y.tolist())
    for method in (expert.predict, lambda X: expert.log_prob(X, y)):
        with pytest.raises(ValueError, match="X has 1 features, but TorchExpert is"):
            method(X[:, :1])
        with pytest.raises(ValueError, match="Expected 2D array"):
            method(X[0])


def test_integer_tensor(rows):
    X = torch.arange(8).reshape(4, 2)
    with pytest.raises(ValueError, match=r"tensor of torch.int64; convert .* X.float"):
        TorchExpert().fit(X, torch.zeros(4))


def test_two_devices(rows):
    X = torch.zeros(4, 2)
    y = torch.zeros(4, device="meta")
    with pytest.raises(ValueError, match="X is on cpu, but y on meta; move them"):
        TorchExpert().prepare(X, y, torch.ones(4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_no_cuda(rows):
    with pytest.raises(ValueError, match="device='cuda', but torch finds 0 CUDA"):
        TorchExpert(device="cuda").fit(*rows)
    expert = TorchExpert(device="auto", n_epochs=1, random_state=0).fit(*rows)
    # As if it had been fitted where there is a GPU.
    expert.device = "cuda"
    assert expert.predict(rows[0]).shape == (400,)


def test_bfloat16_is_near_float32(rows):
    X, y = rows
    plain = TorchExpert(random_state=0, n_epochs=30).fit(X, y)
    half = TorchExpert(random_state=0, n_epochs=30, precision="bfloat16").fit(X, y)
    assert {p.dtype for p in half._state.params.values()} == {torch.float32}
    np.testing.assert_allclose(half.predict(X), plain.predict(X), atol=0.2)
    assert half.score(X, y) > 0.9


def test_pickle_and_deep_copy(rows):
    X, y = rows
    expert = prepared(rows)
    expert.m_step(X, y, np.ones(len(y)))
    expected = expert.log_prob(X, y)
    packed = pickle.dumps(expert)
    assert len(packed) < 60_000  # without its rows
    for other in (pickle.loads(packed), copy.deepcopy(expert)):
        assert other._rows is None
        assert other._seen is None
        np.testing.assert_allclose(other.log_prob(X, y), expected, rtol=1e-12)
        other.m_step(X, y, np.ones(len(y)))
    expert.m_step(X, y, np.ones(len(y)))
    np.testing.assert_array_equal(other.predict_params(X), expert.predict_params(X))


# -- what goes wrong -------------------------------------------------------------------


class Fragile(nn.Module):
    """Returns NaN in training after some calls: ``breaks`` of them, from ``after``."""

    left = 0
    after = 0

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        if self.training:
            Fragile.after -= 1
        out = self.map(X)
        if self.training and Fragile.after < 0 and Fragile.left > 0:
            Fragile.left -= 1
            return out * torch.nan
        return out


def test_first_nan_rolls_back_and_halves_the_rate(rows):
    X, y = rows
    Fragile.after, Fragile.left = 3, 1
    expert = prepared(rows, module=Fragile, n_epochs=10)
    with pytest.warns(UserWarning, match="the learning rate is halved"):
        expert.m_step(X, y, np.ones(len(y)))
    assert expert._state.lr_scale == 0.5
    assert np.isfinite(expert.predict_params(X)).all()


def test_second_nan_is_an_error_that_says_where(rows):
    X, y = rows
    Fragile.after, Fragile.left = 3, 1000
    expert = prepared(rows, module=Fragile, n_epochs=10)
    before = expert.predict_params(X)
    message = "became nan in step 1 of an epoch, with gradient norm nan.*A smaller lr"
    with (
        pytest.warns(UserWarning, match="weights are those before"),
        pytest.raises(FloatingPointError, match=message),
    ):
        expert.m_step(X, y, np.ones(len(y)))
    np.testing.assert_array_equal(expert.predict_params(X), before)


def test_nan_names_expert_and_pass(rows):
    Fragile.after, Fragile.left = 40, 10_000
    model = MixtureOfExpertsRegressor(
        TorchExpert(Fragile, n_epochs=10, random_state=0), n_experts=2, random_state=0
    )
    message = r"In EM pass \d+, 'expert0' failed: the loss became nan in step"
    with (
        pytest.warns(UserWarning, match="expert0, expert1: the loss became nan"),
        pytest.raises(ExpertError, match=message),
    ):
        model.fit(*rows)
    assert not hasattr(model, "node_")


class Greedy(nn.Module):
    """Runs out of memory for batches of more than 100 rows."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        if self.training and len(X) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.map(X)


def test_out_of_memory_halves_the_batch(rows):
    X, y = rows
    expert = TorchExpert(Greedy, batch_size=300, n_epochs=2, random_state=0)
    with pytest.warns(
        UserWarning, match="out of memory; going on with batches of"
    ) as w:
        expert.fit(X, y)
    said = [str(warning.message) for warning in w]
    assert ["batch_size=150" in said[0], "batch_size=75" in said[1]] == [True, True]


def test_mixture_of_classes(rng):
    X = rng.uniform(-1, 1, size=(400, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    model = MixtureOfExpertsClassifier(
        TorchExpert(module__hidden=16), n_experts=2, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.95
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def tiny(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.Tanh(), nn.Linear(8, n_outputs))


CHECKED = {
    "n_epochs": 200,
    "lr": 0.01,
    "batch_size": 4096,
    "precision": "float64",
    "random_state": 0,
}


@parametrize_with_checks(
    [
        TorchExpert(tiny, head="gaussian", **CHECKED),
        TorchExpert(tiny, head="categorical", **CHECKED),
    ],
    expected_failed_checks=lambda _: {
        "check_do_not_raise_errors_in_init_or_set_params": (
            "it takes the name of **module_params for that of a parameter"
        )
    },
)
def test_estimator_checks(estimator, check):
    check(estimator)


# -- warm starts -----------------------------------------------------------------------


def going_on(rows, fitted, **options):
    """An expert prepared on rows to go on from a fitted one."""
    X, y = rows
    expert = clone(fitted).set_params(**options)
    expert.continue_from(fitted)
    expert.prepare(X, y, np.ones(len(y)), None)
    return expert


def same_weights(one, other):
    pairs = zip(one._state.params.items(), other._state.params.items(), strict=True)
    return all(
        a == b and p.shape == q.shape and torch.equal(p, q) for (a, p), (b, q) in pairs
    )


@pytest.mark.parametrize(
    ("options", "remembers"),
    [
        ({}, True),
        ({"lr": 0.5, "batch_size": 7, "n_epochs": 1, "weight_decay": 0.0}, True),
        ({"variance_prior": None, "max_norm": 1.0, "patience": 2}, True),
        ({"optimizer": "sgd"}, False),
        ({"optimizer__betas": (0.5, 0.9)}, False),
    ],
)
def test_goes_on_with_other_settings(rows, options, remembers):
    X, y = rows
    fitted = small().fit(X, y)
    expert = going_on((X + 1e-9, y * (1 + 1e-12)), fitted, **options)
    assert same_weights(expert, fitted)
    assert bool(expert._state.moments) is remembers
    expert.m_step(X, y, np.ones(len(y)))  # what is remembered fits the optimizer


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda X, y: (X, y), {"module__hidden": 9}, "since the module changed"),
        (lambda X, y: (X, y), {"precision": "float32"}, "since the precision changed"),
        (lambda X, y: (X, y), {"head": "student"}, "since the head changed"),
        (
            lambda X, y: (X + 9, y),
            {},
            "since the scale of the columns changed; the",
        ),
        (
            lambda X, y: (X * 2, y * 2),
            {},
            "the scale of the columns and the scale of y changed; .* anew. Leave these",
        ),
    ],
)
def test_says_why_it_begins_anew(rows, change, options, message):
    fitted = small().fit(*rows)
    with pytest.warns(UserWarning, match=message):
        expert = going_on(change(*rows), fitted, **options)
    assert not expert._state.moments


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_mixture_goes_on_at_another_rate(rows):
    X, y = rows
    model = MixtureOfExpertsRegressor(
        small(n_epochs=5), n_experts=2, max_iter=8, warm_start=True, random_state=0
    ).fit(X, y)
    before = model.objective_trace_
    model.set_params(experts__lr=1e-5).fit(X, y)
    assert model.objective_trace_[0] > before.max() - 0.1 * np.ptp(before)
