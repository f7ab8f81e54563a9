"""Known quantities of a row: gathered from arrays and columns, appended, split."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from skmoe.experts._known import append_known, gather_known, split_known

X = np.arange(12.0).reshape(4, 3) + 1.0


def expert(**params):
    given = {"offset": None, "exposure": None, "trials": None, **params}
    return SimpleNamespace(**given)


@pytest.mark.parametrize("rows", [X, sparse.csr_array(X)])
def test_columns_leave_the_features(rows):
    features, known = gather_known(expert(exposure=1, trials=-1), rows)
    assert list(known) == ["offset", "trials"]
    np.testing.assert_allclose(known["offset"], np.log(X[:, 1]))
    np.testing.assert_allclose(known["trials"], X[:, 2])
    dense = features.toarray() if sparse.issparse(features) else features
    np.testing.assert_array_equal(dense, X[:, :1])


@pytest.mark.parametrize("rows", [X, sparse.csr_array(X)])
def test_append_and_split(rows):
    known = {"trials": np.ones(4), "offset": np.array([0.0, 1.0, -2.0, 3.0])}
    wide = append_known(rows, known)
    assert wide.shape == (4, 5)
    assert sparse.issparse(wide) == sparse.issparse(rows)
    features, again = split_known(wide, ("trials", "offset"))
    assert features.shape == X.shape
    assert list(again) == list(known)
    for name in known:
        np.testing.assert_array_equal(again[name], known[name])


def test_nothing_known():
    features, known = gather_known(expert(), X, offset=None)
    assert known == {}
    assert append_known(X, known) is X
    assert split_known(X, ())[0] is X
    np.testing.assert_array_equal(features, X)
    # An expert without such arguments takes arrays alone.
    assert gather_known(SimpleNamespace(), X)[1] == {}


@pytest.mark.parametrize(
    ("params", "given", "message"),
    [
        ({"offset": 3}, {}, "one of the 3 columns of X, got 3"),
        ({"offset": -4}, {}, "got -4. An array goes to fit"),
        ({"trials": "n"}, {}, "trials='n' is not a column of X; X has no column names"),
        ({"offset": 0, "exposure": 1}, {}, "the offset is given 2 times"),
        ({"trials": 0}, {"trials": np.ones(4)}, "the trials is given 2 times"),
        ({}, {"offset": np.ones(3)}, r"offset must be of shape \(4,\)"),
        ({}, {"trials": np.full(4, np.nan)}, "trials must be finite, got nan in row 0"),
    ],
)
def test_bad_input(params, given, message):
    with pytest.raises(ValueError, match=message):
        gather_known(expert(**params), X, **given)


def test_exposure_must_be_positive():
    rows = X.copy()
    rows[2, 0] = 0.0
    with pytest.raises(
        ValueError, match=r"exposure must be positive, got 0\.0 in row 2"
    ):
        gather_known(expert(exposure=0), rows)
