"""Rows that differ in few columns: arrays, data frames, categories."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skmoe.inspection._probe import Probe, check_others, spread_rows
from skmoe.inspection._subject import Subject
from tests._quick import regressor


@pytest.fixture
def array(flat, plane):
    return Probe(plane[0], Subject(flat, "Some"))


@pytest.fixture
def table(coded, mixed):
    return Probe(mixed[0], Subject(coded, "Some"))


def test_rows_are_spread_over_all():
    assert spread_rows(5, None).tolist() == [0, 1, 2, 3, 4]
    assert spread_rows(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert spread_rows(101, 3).tolist() == [0, 50, 100]


def test_what_is_done_about_other_columns():
    assert check_others("average") == "average"
    with pytest.raises(ValueError, match='others must be "median" or "average", got'):
        check_others("mean")


# -- names -------------------------------------------------------------------------


def test_names(array, table, flat, plane, coded, mixed):
    assert array.names == ["x0", "x1"]
    assert table.names == ["age", "kind", "flag"]
    given = Probe(plane[0], Subject(flat, "Some"), ["a", "b"])
    assert given.names == ["a", "b"]
    with pytest.raises(ValueError, match=r"each of the 2 columns, got 1: \['a'\]"):
        Probe(plane[0], Subject(flat, "Some"), ["a"])


def test_names_that_the_model_saw(plane):
    pd = pytest.importorskip("pandas")
    X, y = plane
    model = regressor().fit(pd.DataFrame(X, columns=["up", "out"]), y)
    assert Probe(X, Subject(model, "Some")).names == ["up", "out"]


def test_positions(table):
    assert [table.position(f) for f in ("kind", 1, -2, np.int64(1))] == [1, 1, 1, 1]


@pytest.mark.parametrize("feature", ["size", 3, -4, 1.0, True, None, ["age"]], ids=str)
def test_no_such_column(table, feature):
    with pytest.raises(ValueError, match=r"X has no column .* below 3 or one of"):
        table.position(feature)


# -- kinds of columns --------------------------------------------------------------


def test_categories_are_words_types_and_two_values(table):
    assert table.categorical == [False, True, True]
    assert table.values(1) == ["c", "a", "b"]  # the order of the type
    assert table.values(2) == [0, 1]


def test_categories_that_the_model_was_told(plane):
    X = np.column_stack([plane[0], np.arange(200) % 4])
    model = regressor(categorical_features=[2]).fit(X, plane[1])
    probe = Probe(X, Subject(model, "Some"))
    assert probe.categorical == [False, False, True]
    assert probe.values(2) == [0.0, 1.0, 2.0, 3.0]


def test_numbers_leave_gaps_out(table, mixed):
    assert table.numbers(0).size == 149
    assert_allclose(np.sort(table.numbers(0)), np.sort(mixed[0]["age"].dropna()))


# -- rows --------------------------------------------------------------------------


def test_typical_rows_of_an_array(array, plane):
    rows = array.typical(3)
    assert_allclose(rows, np.tile(np.median(plane[0], axis=0), (3, 1)))


def test_typical_rows_of_a_data_frame(table, mixed, coded):
    X, _ = mixed
    rows = table.typical(2)
    assert rows["kind"].tolist() == ["b", "b"]
    assert rows["kind"].dtype == X["kind"].dtype
    assert rows["age"].tolist() == [X["age"].median()] * 2
    assert rows["flag"].tolist() == [X["flag"].mode()[0]] * 2
    assert coded.predict(rows).shape == (2,)


def test_each_row_meets_each_value(array, plane):
    X, _ = plane
    rows = array.crossed(np.array([4, 7]), {1: np.array([-1.0, 0.0, 1.0])})
    assert_allclose(rows[:, 0], np.repeat(X[[4, 7], 0], 3))
    assert_allclose(rows[:, 1], [-1.0, 0.0, 1.0] * 2)


def test_values_of_the_typical_row(array, plane):
    rows = array.crossed(None, {0: np.array([5.0, 6.0])})
    assert_allclose(rows[:, 0], [5.0, 6.0])
    assert_allclose(rows[:, 1], np.median(plane[0][:, 1]))


def test_categories_keep_their_type(table, mixed):
    X, _ = mixed
    values = np.array(table.values(1), dtype=object)
    rows = table.crossed(np.array([0, 1]), {1: values})
    assert rows["kind"].dtype == X["kind"].dtype
    assert rows["kind"].tolist() == ["c", "a", "b"] * 2
    assert_allclose(rows["age"], np.repeat(X["age"].to_numpy()[:2], 3))


def test_the_table_is_left_alone(table, mixed):
    before = mixed[0].copy()
    table.crossed(np.array([0, 1]), {0: np.array([99.0])})
    table.replaced(mixed[0], {0: 99.0, 1: "a"})
    assert before.equals(mixed[0])
    X = np.arange(6.0).reshape(3, 2)
    Probe(X, Subject(regressor().fit(np.eye(3)[:, :2], [0, 1, 2]), "Some")).typical(3)
    assert_array_equal(X, np.arange(6.0).reshape(3, 2))


def test_polars_frames(mixed):
    pl = pytest.importorskip("polars")
    X, y = mixed
    frame = pl.DataFrame(
        {
            "age": X["age"].to_numpy(),
            "kind": pl.Series(X["kind"].tolist(), dtype=pl.Categorical),
            "flag": X["flag"].to_numpy(),
        }
    )
    model = regressor().fit(frame, y)
    probe = Probe(frame, Subject(model, "Some"))
    assert probe.categorical == [False, True, True]
    assert probe.values(1) == ["a", "b", "c"]
    rows = probe.crossed(np.array([0, 1]), {0: np.array([30.0, 40.0])})
    assert isinstance(rows, pl.DataFrame)
    assert rows["age"].to_list() == [30.0, 40.0] * 2
    rows = probe.crossed(None, {1: np.array(["a", "b"], dtype=object)})
    assert rows["kind"].dtype == pl.Categorical
    assert rows["kind"].to_list() == ["a", "b"]
    assert model.predict(rows).shape == (2,)


def test_columns_without_a_name(plane):
    pd = pytest.importorskip("pandas")
    X, y = plane
    frame = pd.DataFrame(X)
    probe = Probe(frame, Subject(regressor().fit(frame, y), "Some"))
    assert probe.names == ["0", "1"]
    rows = probe.crossed(None, {1: np.array([2.0, 3.0])})
    assert rows[1].tolist() == [2.0, 3.0]


def test_sparse_tables(flat):
    with pytest.raises(TypeError, match="needs a dense X, got a sparse one"):
        Probe(sparse.eye_array(3, 2).tocsr(), Subject(flat, "Some"))
