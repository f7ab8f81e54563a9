"""Fits and predictions where the rows are: in their library, on their device."""

import copy
import pickle
from itertools import pairwise

import array_api_strict
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe._blocks import FormedRows
from skmoe._xp import is_foreign, to_numpy
from skmoe.em import _fit, _ridge
from skmoe.em._fused import FusedNode
from skmoe.em._sums import Group
from skmoe.exceptions import HostCopyWarning, SmallerBlocksWarning
from skmoe.experts import (
    GammaExpert,
    HeteroscedasticExpert,
    LinearExpert,
    LogisticExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
    UniformExpert,
)
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate

DEVICE = array_api_strict.Device("device1")


def strict(array):
    return array_api_strict.asarray(np.asarray(array), device=DEVICE)


def cuda(array):
    return torch.asarray(np.asarray(array), device="cuda")


LIBRARIES = [
    pytest.param(torch.asarray, id="torch"),
    pytest.param(strict, id="strict"),
    pytest.param(cuda, id="cuda", marks=pytest.mark.gpu),
]


@pytest.fixture(scope="module")
def table():
    """Return rows of four regimes along two columns, with all kinds of responses."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, size=(400, 3))
    where = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    slope = np.array([[2.0, 0, 1], [-2, 1, 0], [0, 3, 1], [0, -3, -1]])
    eta = 2.0 * where + (X * slope[where]).sum(axis=1)
    rate = np.exp(np.clip(0.3 * eta, -2, 3))
    return {
        "X": X,
        "number": eta + 0.2 * rng.normal(size=400),
        "two": np.column_stack([eta, -eta]) + 0.2 * rng.normal(size=(400, 2)),
        "class": np.digitize(eta + 0.3 * rng.normal(size=400), [0.0, 4.0]) * 3,
        "count": rng.poisson(rate).astype(float),
        "positive": rng.gamma(5.0, rate / 5.0),
        "weight": rng.integers(0, 3, size=400).astype(float),
    }


def flat(expert=None, n_experts=2, **options):
    return MixtureOfExpertsRegressor(expert, n_experts, n_init=2, **options)


MODELS = {
    "lines": (flat(), "number"),
    "four lines": (flat(n_experts=4, gate=SoftmaxGate(alpha=1.0)), "number"),
    "two outputs": (flat(), "two"),
    "two outputs, diagonal": (flat(LinearExpert(covariance="diag")), "two"),
    "constant gate": (flat(gate=ConstantGate()), "number"),
    "bound": (flat(gate=SoftmaxGate(solver="bound", alpha=1.0)), "number"),
    "lasso": (flat(gate=SoftmaxGate(alpha=1.0, l1_ratio=1.0)), "number"),
    "Gaussian gate": (flat(gate=GaussianGate()), "number"),
    "one variance": (flat(shared_dispersion=True), "number"),
    "top expert": (flat(pooling="top1"), "number"),
    "mode": (flat(pooling="mode"), "number"),
    "first of four": (flat(n_experts=4, top_k=1), "number"),
    "hard": (flat(algorithm="cem"), "number"),
    "unlike": (flat([("line", LinearExpert()), ("noise", UniformExpert())]), "number"),
    "own columns": (
        flat([("a", LinearExpert(), [0, 1]), ("b", LinearExpert(), [2, 1])]),
        "number",
    ),
    "Poisson": (flat(PoissonExpert()), "count"),
    "negative binomial": (flat(NegativeBinomialExpert()), "count"),
    "Gamma": (flat(GammaExpert()), "positive"),
    "t": (flat(RobustLinearExpert()), "number"),
    "variances": (flat(HeteroscedasticExpert()), "number"),
    "tree": (
        HierarchicalMixtureOfExpertsRegressor(
            depth=2, gate=SoftmaxGate(alpha=1.0), n_init=1
        ),
        "number",
    ),
    "tree, top path": (
        HierarchicalMixtureOfExpertsRegressor(
            depth=1, branching=3, pooling="top1", n_init=1
        ),
        "number",
    ),
    "classes": (MixtureOfExpertsClassifier(n_experts=2, n_init=2), "class"),
    "votes": (
        MixtureOfExpertsClassifier(LogisticExpert(1.0), 2, pooling="vote", n_init=2),
        "class",
    ),
    "tree of classes": (
        HierarchicalMixtureOfExpertsClassifier(LogisticExpert(1.0), depth=1, n_init=1),
        "class",
    ),
}


def results(model, X, y):
    """Return everything that a fitted model says of some rows."""
    found = {
        name: getattr(model, name)(X)
        for name in ("predict", "gate_proba", "apply", "predict_experts")
    }
    for name in ("log_prob", "responsibilities"):
        found[name] = getattr(model, name)(X, y)
    for name in ("score", "log_likelihood", "aic", "bic", "icl"):
        found[name] = getattr(model, name)(X, y)
    if hasattr(model, "predict_proba"):
        found["predict_proba"] = model.predict_proba(X)
    elif model.pooling != "mode":
        found["std"] = model.predict(X, return_std=True)[1]
    return found


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_all_libraries_agree(table, name, make):
    model, kind = MODELS[name]
    X, y, weight = table["X"], table[kind], table["weight"]
    plain = clone(model).fit(X, y, sample_weight=weight)
    rows = make(X), make(y)
    fitted = clone(model).fit(*rows, sample_weight=make(weight))
    assert type(fitted._training_rows.X) is type(rows[0])
    assert_allclose(
        to_numpy(fitted.objective_trace_)[-1], plain.objective_trace_[-1], rtol=1e-10
    )
    expected = results(plain, X, y)
    for what, value in results(fitted, *rows).items():
        if np.ndim(expected[what]):
            assert type(value) is type(rows[0]), what
            assert value.device == rows[0].device, what
        close = {"rtol": 1e-6, "atol": 1e-6}
        assert_allclose(to_numpy(value), expected[what], err_msg=what, **close)


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize("name", ["lines", "tree", "classes", "Gaussian gate", "t"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_passes_agree_to_the_last_digits(table, name, make):
    model, kind = MODELS[name]
    X, y = table["X"], table[kind]
    model = clone(model).set_params(max_iter=6, acceleration=None)
    plain = clone(model).fit(X, y)
    fitted = clone(model).fit(make(X), make(y))
    for what, value in results(fitted, make(X), make(y)).items():
        expected = results(plain, X, y)[what]
        assert_allclose(to_numpy(value), expected, rtol=1e-8, atol=1e-8, err_msg=what)


@pytest.mark.parametrize("make", LIBRARIES)
def test_float32_rows_give_the_fit_of_float64(table, make):
    X, y = table["X"].astype(np.float32), table["number"].astype(np.float32)
    model, _ = MODELS["lines"]
    plain = clone(model).fit(X.astype(float), y.astype(float))
    fitted = clone(model).fit(make(X), make(y))
    total = float(to_numpy(fitted.objective_trace_)[-1])
    assert_allclose(total, plain.objective_trace_[-1], rtol=1e-9)
    predicted = fitted.predict(make(X))
    assert predicted.dtype == make(X.astype(float)).dtype
    assert_allclose(to_numpy(predicted), plain.predict(X), rtol=1e-8)


@pytest.fixture
def trips(monkeypatch):
    """Return a list that notes the sizes of strict arrays that go through NumPy."""
    seen, convert = [], np.from_dlpack

    def noted(array):
        found = convert(array)
        seen.append(found.shape)
        return found

    monkeypatch.setattr(np, "from_dlpack", noted)
    return seen


@pytest.mark.parametrize("name", ["lines", "tree", "classes", "unlike"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_row_goes_through_numpy_but_a_sample(table, name, trips, monkeypatch):
    monkeypatch.setattr(_fit, "RACE_ROWS", 150)
    monkeypatch.setattr(_ridge, "MAX_ROWS", 150)
    model, kind = MODELS[name]
    if name == "unlike":  # a general node is raced with all of its rows
        model = clone(model).set_params(init=(table["X"][:, 0] > 0).astype(int))
    X, y = strict(table["X"]), strict(table[kind])
    fitted = clone(model).fit(X, y)
    results(fitted, X, y)
    long = [shape for shape in trips if 400 in shape]
    # Whether a response is possible is asked once; the answer is one bit a row.
    assert all(len(shape) == 1 for shape in long), long
    assert len(long) <= 4


def test_weights_of_zero_take_rows_out(table):
    X, y, keep = table["X"], table["number"], table["weight"] > 0
    model = MODELS["lines"][0]
    weighted = clone(model).fit(
        torch.asarray(X), torch.asarray(y), sample_weight=torch.asarray(1.0 * keep)
    )
    fewer = clone(model).fit(torch.asarray(X[keep]), torch.asarray(y[keep]))
    assert weighted._training_rows.X.shape == (keep.sum(), 3)
    assert_allclose(weighted.predict(X), fewer.predict(X), rtol=1e-9)


def test_results_return_from_a_named_device(table):
    X, y = table["X"], table["number"]
    model = clone(MODELS["lines"][0]).set_params(device="cpu").fit(X, y)
    assert isinstance(model._training_rows.X, torch.Tensor)
    assert_allclose(model.predict(X), clone(MODELS["lines"][0]).fit(X, y).predict(X))
    assert type(model.predict(X)) is np.ndarray
    assert isinstance(model.predict(torch.asarray(X)), torch.Tensor)
    holes = X.copy()
    holes[3, 1] = np.nan
    assert np.isfinite(model.predict(holes)).all()


def test_gaps_and_categories_go_to_a_named_device(table):
    X, y = table["X"].copy(), table["number"]
    X[::9, 1] = np.nan
    X[:, 2] = np.round(X[:, 2])
    plain = clone(MODELS["lines"][0]).set_params(categorical_features=[2])
    there = clone(plain).set_params(device="cpu").fit(X, y)
    assert isinstance(there._training_rows.X, torch.Tensor)
    assert_allclose(there.predict(X), plain.fit(X, y).predict(X), rtol=1e-8)


def test_gaps_in_tensors_are_filled_on_the_host(table):
    X, y = table["X"].copy(), table["number"]
    X[::9, 1] = np.nan
    plain = clone(MODELS["lines"][0]).fit(X, y)
    fitted = clone(plain).fit(torch.asarray(X), torch.asarray(y))
    assert isinstance(fitted._training_rows.X, torch.Tensor)
    predicted = fitted.predict(torch.asarray(X))
    assert_allclose(predicted.numpy(), plain.predict(X), rtol=1e-8)


# -- what a fit leaves behind ------------------------------------------------------


def test_what_judges_a_fit_takes_its_rows_home(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0]).fit(X, y)
    plain = clone(model).fit(table["X"], table["number"])
    assert_allclose(
        model.summary().to_frame()["estimate"],
        plain.summary().to_frame()["estimate"],
        rtol=1e-6,
    )
    assert str(model.diagnose()) == str(plain.diagnose())
    law = model.predict_distribution(X)
    assert type(law.quantile(0.5)) is np.ndarray
    assert isinstance(model.predict_interval(X), torch.Tensor)


def test_pickles_and_copies(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0]).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert again._training_rows is None
    assert torch.equal(again.predict(X), model.predict(X))
    assert_allclose(again.predict(table["X"]), model.predict(X).numpy())
    assert torch.equal(copy.deepcopy(model).predict(X), model.predict(X))


def test_warm_start(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0]).set_params(warm_start=True).fit(X, y)
    first = float(model.objective_trace_[-1])
    model.fit(X, y)
    assert model.n_iter_ < 20
    assert_allclose(float(model.objective_trace_[-1]), first, rtol=1e-8)


# -- the memory of the device ------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """What torch raises, by name."""


@pytest.mark.parametrize("times", [1, 2])
def test_blocks_are_halved_when_the_memory_is_used_up(table, times, monkeypatch):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0])
    expected = clone(model).fit(X, y).predict(X)
    carry_out, refused = FusedNode._pass, []

    def scarce(self, resp):
        if is_foreign(self.weight) and len(refused) < times:
            refused.append(self.block_rows)
            raise OutOfMemoryError("CUDA out of memory")
        return carry_out(self, resp)

    monkeypatch.setattr(FusedNode, "_pass", scarce)
    with pytest.warns(SmallerBlocksWarning, match=r"blocks of \d+ rows"):
        model.fit(X, y)
    assert [a // b for a, b in pairwise(refused)] == [2] * (times - 1)
    assert_allclose(model.predict(X).numpy(), expected.numpy(), rtol=1e-8)


@pytest.mark.parametrize("name", ["lines", "constant gate", "tree", "classes", "t"])
def test_a_design_that_does_not_fit_is_formed_by_blocks(table, name, monkeypatch):
    model, kind = MODELS[name]
    X, y = torch.asarray(table["X"]), torch.asarray(table[kind])
    expected = clone(model).fit(X, y)
    monkeypatch.setattr("skmoe._blocks.free_bytes", lambda X: 1000.0)
    monkeypatch.setattr(_fit, "RACE_ROWS", 100)
    kept = []
    look = FusedNode.e_step

    def watched(self, resp=None):
        if is_foreign(self.weight):
            kept.extend(group.matrix for group in self.groups)
        return look(self, resp)

    monkeypatch.setattr(FusedNode, "e_step", watched)
    formed = clone(model).fit(X, y)
    assert any(isinstance(matrix, FormedRows) for matrix in kept)
    log_prob = formed.log_prob(X, y).mean()
    assert log_prob > expected.log_prob(X, y).mean() - 0.2  # starts of 100 rows
    given = clone(model).set_params(init=np.arange(400) % 2, max_iter=5)
    if name != "tree":
        with pytest.warns(ConvergenceWarning):
            few = given.fit(X, y).predict(X)
        monkeypatch.undo()
        with pytest.warns(ConvergenceWarning):
            assert_allclose(few, given.fit(X, y).predict(X), rtol=1e-8)


@pytest.mark.parametrize("name", ["lines", "bound", "tree", "classes", "t", "Poisson"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_aligned_rows_change_nothing(table, name, monkeypatch):
    model, kind = MODELS[name]
    model = clone(model).set_params(max_iter=4, acceleration=None)
    X, y = torch.asarray(table["X"]), torch.asarray(table[kind])
    expected = model.fit(X, y).log_prob(X, y)
    monkeypatch.setattr("skmoe._xp.pads_rows", lambda array: True)
    seen = []
    add_rows = Group.add_rows

    def watched(self, design, gram_rows, score_rows):
        if is_foreign(design):
            seen.append((design.stride(0), score_rows.stride(0), design.shape[1]))
        add_rows(self, design, gram_rows, score_rows)

    monkeypatch.setattr(Group, "add_rows", watched)
    found = model.fit(X, y).log_prob(X, y)
    assert any(strides == (512, 512, 400) for strides in seen)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_other_errors_of_a_pass_are_not_swallowed(table, monkeypatch):
    def broken(self, resp):
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(FusedNode, "_pass", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        clone(MODELS["lines"][0]).fit(
            torch.asarray(table["X"]), torch.asarray(table["number"])
        )


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.to(torch.int64), "convert it to floats"),
        (lambda X: X[:, 0], "Expected 2D array, got 1D array"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:, :0], "0 feature"),
        (lambda X: X.clone().index_fill_(0, torch.tensor([7]), torch.inf), "row 7"),
        (lambda X: X[:-1], "inconsistent numbers of samples"),
    ],
    ids=["integers", "one axis", "no rows", "no columns", "infinite", "a row less"],
)
def test_bad_rows(table, change, message):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    with pytest.raises(ValueError, match=message):
        clone(MODELS["lines"][0]).fit(change(X), y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"must be of shape \(400,\), got \(3,\)"),
        (-np.ones(400), "Negative values"),
        (np.zeros(400), "All sample weights are zero"),
        (np.full(400, np.nan), "contains NaN"),
    ],
    ids=["three", "negative", "zero", "NaN"],
)
def test_bad_weights(table, weight, message):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    with pytest.raises(ValueError, match=message):
        clone(MODELS["lines"][0]).fit(X, y, sample_weight=torch.asarray(weight))


def test_arrays_on_two_devices(table):
    X, y = strict(table["X"]), array_api_strict.asarray(table["number"])
    with pytest.raises(ValueError, match="one device"):
        clone(MODELS["lines"][0]).fit(X, y)
    # What another library holds follows X, as scikit-learn's checks have it.
    mixed = clone(MODELS["lines"][0]).fit(X, torch.asarray(table["number"]))
    plain = clone(mixed).fit(X, strict(table["number"]))
    assert_allclose(to_numpy(mixed.predict(X)), to_numpy(plain.predict(X)))


def test_columns_and_labels_of_the_fit(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["class"])
    model = clone(MODELS["classes"][0]).fit(X, y)
    assert_array_equal(model.classes_, [0, 3, 6])
    with pytest.raises(ValueError, match="X has 2 features, but MixtureOfExpertsC"):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match=r"not seen in fit: \[5\]"):
        model.log_prob(X, torch.full_like(y, 5))
    with pytest.raises(ValueError, match="at least two classes"):
        clone(model).fit(X, torch.zeros_like(y))


def test_a_device_that_is_not_there(table):
    X, y = table["X"], table["number"]
    absent = "cuda:17"
    with pytest.raises(ValueError, match=r"device='cuda:17' cannot be used here"):
        clone(MODELS["lines"][0]).set_params(device=absent).fit(X, y)
    model = clone(MODELS["lines"][0]).fit(X, y).set_params(device=absent)
    assert np.isfinite(model.predict(X)).all()  # fitted elsewhere, loaded here


def test_parts_that_need_numpy(table):
    X, y = strict(table["X"]), strict(table["number"])
    options = {"init": (table["X"][:, 0] > 0).astype(int), "max_iter": 2}
    with pytest.raises(ValueError, match="Ridge work in NumPy alone"):
        flat(Ridge(), device="cpu").fit(table["X"], table["number"])
    words = "copied from .*device1.* to the host"
    with (
        pytest.warns(ConvergenceWarning),
        pytest.warns(HostCopyWarning, match=words),
    ):
        model = flat(Ridge(), **options).fit(X, y)
    assert type(model._training_rows.X) is np.ndarray
    with pytest.warns(HostCopyWarning):
        assert type(model.predict(X)) is type(X)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"balance": 5.0}, "balance"), ({"algorithm": "sem"}, "algorithm='sem'")],
)
def test_settings_that_need_numpy(table, options, word):
    model = clone(MODELS["lines"][0]).set_params(device="cpu", **options)
    with pytest.raises(ValueError, match=word):
        model.fit(table["X"], table["number"])
