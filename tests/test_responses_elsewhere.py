"""Rows in other libraries: responses of all kinds, bad input, little memory."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone

from skmoe import HierarchicalMixtureForestRegressor
from skmoe._xp import to_numpy
from skmoe.em import _law
from skmoe.em._fused import FusedNode
from skmoe.exceptions import HostCopyWarning, SmallerBlocksWarning
from skmoe.experts import PoissonExpert
from skmoe.model_selection import MixtureOfExpertsSearch
from tests.test_rows_stay import MODELS, OutOfMemoryError, flat, strict, table

__all__ = ["table"]  # the fixture


# -- shapes, kinds and places of responses -----------------------------------------


def words(table):
    return np.array(["low", "mid", "high"])[table["class"] // 3]


def test_a_named_device_takes_tensors_without_weights(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0]).set_params(device="cpu").fit(X, y)
    assert isinstance(model.predict(X), torch.Tensor)
    model.fit(X, y, sample_weight=[1.0] * 400)
    with pytest.raises(ValueError, match="'meta' cannot be used here"):
        model.set_params(device="meta").fit(X, y)


@pytest.mark.parametrize(
    "kind", [np.asarray, pd.Series, list], ids=lambda k: k.__name__
)
def test_words_beside_rows_elsewhere(table, kind):
    X, y = table["X"], kind(words(table).astype(object))
    plain = clone(MODELS["classes"][0]).fit(X, y)
    there = clone(plain).set_params(device="cpu").fit(X, y)
    tensors = clone(plain).fit(torch.asarray(X), y)
    for model, rows in ((there, X), (tensors, torch.asarray(X))):
        assert_array_equal(model.classes_, ["high", "low", "mid"])
        for name in ("log_likelihood", "bic", "score"):
            expected = getattr(plain, name)(X, y)
            assert_allclose(getattr(model, name)(rows, y), expected, rtol=1e-6)
        assert_array_equal(model.predict(rows), plain.predict(X))


def test_classes_that_are_true_and_false(table):
    X, y = table["X"], table["class"] > 0
    plain = clone(MODELS["classes"][0]).fit(X, y)
    model = clone(plain).fit(torch.asarray(X), torch.asarray(y))
    assert_array_equal(model.classes_, [False, True])
    assert_allclose(
        model.log_likelihood(torch.asarray(X), torch.asarray(y)),
        plain.log_likelihood(X, y),
        rtol=1e-8,
    )
    assert model.score(torch.asarray(X), torch.asarray(y)) == plain.score(X, y)


def test_scores_know_the_shape_of_y(table):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    model = clone(MODELS["lines"][0]).fit(X, y)
    assert model.score(X, y[:, None]) == pytest.approx(model.score(X, y))
    with pytest.raises(ValueError, match="y has 2 outputs and the predictions have 1"):
        model.score(X, torch.stack([y, y], dim=1))
    with pytest.raises(ValueError, match="contains NaN or infinity"):
        model.score(X, torch.where(y == y[3], torch.nan, y))
    codes = torch.asarray(table["class"])
    classifier = clone(MODELS["classes"][0]).fit(X, codes)
    right = classifier.score(X, codes)
    assert classifier.score(X, codes[:, None]) == right
    assert classifier.score(X, codes.double()) == right
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier.score(X, codes[:1])
    with pytest.raises(ValueError, match="should be a 1d array"):
        clone(classifier).fit(X, torch.stack([codes, codes], dim=1))
    with pytest.raises(ValueError, match="contains NaN"):
        clone(classifier).fit(X, torch.where(codes > 3, torch.nan, codes.double()))


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}], ids=["tensors", "named"])
def test_missing_responses_are_worked_on_in_numpy(table, options):
    X, y = table["X"], table["number"].copy()
    y[::9] = np.nan
    model = clone(MODELS["Gaussian gate"][0]).set_params(**options)
    if options:
        with pytest.raises(ValueError, match="rows without a response"):
            model.fit(X, y)
        return
    plain = clone(model).fit(X, y)
    for given in (y, torch.asarray(y)):
        predicted = clone(model).fit(torch.asarray(X), given).predict(torch.asarray(X))
        assert_allclose(predicted, plain.predict(X), rtol=1e-6)


def test_known_columns_are_checked_in_prediction(table):
    exposure = np.exp(0.3 * table["X"][:, :1])
    X = np.hstack([table["X"], exposure])
    model = flat(PoissonExpert(exposure=3)).fit(
        torch.asarray(X), torch.asarray(table["count"])
    )
    with pytest.raises(ValueError, match="must be positive in every row"):
        model.predict(torch.asarray(X - 2.0))


def test_offsets_beside_rows_elsewhere(table):
    X, y, offset = table["X"], table["count"], 0.1 * table["X"][:, 0]
    model = flat(PoissonExpert()).fit(X, y, offset=offset)
    assert_allclose(model.gate_proba(torch.asarray(X)), model.gate_proba(X))
    with pytest.raises(ValueError, match=r"fit got .'offset'. beside X"):
        model.predict(torch.asarray(X))
    with pytest.warns(HostCopyWarning, match="offset beside X"):
        predicted = model.predict(strict(X), offset=strict(offset))
    assert_allclose(to_numpy(predicted), model.predict(X, offset=offset))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda X: torch.asarray(X).to_sparse(), "layout torch.sparse_coo"),
        (lambda X: torch.asarray(X).to_sparse_csr(), "give a dense one"),
    ],
    ids=["coo", "csr"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_tensors(table, rows, message):
    with pytest.raises(ValueError, match=message):
        clone(MODELS["lines"][0]).fit(rows(table["X"]), torch.asarray(table["number"]))


def test_odd_rows(table):
    X, y = table["X"], table["number"]
    model = clone(MODELS["lines"][0])
    with pytest.raises(ValueError, match="sparse rows are worked on in SciPy"):
        clone(model).set_params(device="cpu").fit(sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="complex"):
        clone(model).fit(torch.asarray(X), torch.asarray(y).to(torch.complex128))
    with pytest.raises(ValueError, match=r"Got y = -1 in row"):
        flat(PoissonExpert()).fit(strict(X), strict(np.full(400, -1.0)))
    frozen, reverse = X.copy(), y.astype(">f8")
    frozen.flags.writeable = False
    there = clone(model).set_params(device="cpu").fit(frozen, reverse)
    assert np.isfinite(there.log_prob(frozen, reverse)).all()
    short = torch.asarray(X).to(torch.bfloat16)
    assert clone(model).fit(short, torch.asarray(y)).score(short, y) > 0.5


def test_what_works_in_numpy_takes_tensors_home(table):
    X, y = table["X"], table["number"]
    forest = HierarchicalMixtureForestRegressor(n_estimators=2, depth=1, random_state=0)
    plain = clone(forest).fit(X, y)
    with pytest.warns(HostCopyWarning, match="a forest works in NumPy"):
        there = clone(forest).fit(strict(X), strict(y))
    assert_allclose(there.predict(X), plain.predict(X))
    law = clone(MODELS["lines"][0]).fit(X, y).predict_distribution(X)
    assert_allclose(law.log_prob(strict(y)), law.log_prob(y))
    assert_allclose(law.cdf(torch.asarray(y)), law.cdf(y))
    search = MixtureOfExpertsSearch(flat(), [1, 2, 3], method="dendrogram")
    search.fit(torch.asarray(X), torch.asarray(y))
    assert search.best_n_experts_ in (1, 2, 3)


@pytest.mark.parametrize("what", ["predict", "log_prob", "warm"])
def test_the_memory_may_run_out_anywhere(table, what, monkeypatch):
    X, y = torch.asarray(table["X"]), torch.asarray(table["number"])
    monkeypatch.setattr("skmoe.em._law.LEAST_ROWS", 50)
    model = clone(MODELS["lines"][0]).set_params(warm_start=True).fit(X, y)
    expected = model.log_prob(X, y)
    refused = []

    def scarce(work):
        def once(*args):
            if not refused:
                refused.append(1)
                raise OutOfMemoryError("CUDA out of memory")
            return work(*args)

        return once

    if what == "warm":
        monkeypatch.setattr(FusedNode, "_gate_pass", scarce(FusedNode._gate_pass))
    else:
        monkeypatch.setattr("skmoe.em._law.law", scarce(_law.law))
    act = {
        "warm": lambda: model.fit(X, y).log_prob(X, y),
        "log_prob": lambda: model.log_prob(X, y),
        "predict": lambda: model.predict(X),
    }
    with pytest.warns(SmallerBlocksWarning, match="memory of the device"):
        found = act[what]()
    if what == "predict":
        expected = model.predict(X)
    assert_allclose(found, expected, rtol=1e-2, atol=1e-2)
