"""Frames and arrays as numbers and codes."""

import copy
import json
import math
import pickle
from bisect import bisect_left
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone

from skmoe.multitask._columns import checked_table
from skmoe.multitask._encoder import TableEncoder
from skmoe.multitask._lists import ListSlot, last_entries, padded
from skmoe.multitask._numbers import CLIP, NumberScale

NAN = float("nan")


def encoded(X, again=None, **options):
    encoder = TableEncoder(**options).fit(X)
    return encoder, *encoder.transform(X if again is None else again)


def codes_of(column, new=None, **options):
    """Return codes of one categorical column, fitted to another."""
    frame = pd.DataFrame({"c": column})
    again = frame if new is None else pd.DataFrame({"c": new})
    options = {"categorical_features": ["c"]} | options
    return encoded(frame, again, **options)[2][:, 0].tolist()


def mixed_columns():
    """Return columns of every kind as Python lists, with gaps in each."""
    return {
        "city": ["b", "a", None, "c", "b", "a", "b", "é"],
        "age": [31.0, NAN, 40.0, 18.0, 52.0, 33.5, 31.0, 60.0],
        "item": [3, 2**60 + 1, 3, 7, 16_777_217, 16_777_216, 7, 9],
        "clicked": [True, False, True, None, False, True, True, False],
        "visits": [0, 0, 0, 0, 0, 0, 5, 12],
        "history": [[3, 7], [], None, [2**60 + 1, 9, 3, 7], [7], [8], [7, 7], [9]],
        "words": [["a"], ["b", "a"], None, [], ["zz"], ["a"], ["a", None], ["b"]],
    }


def as_pandas(columns):
    types = {"city": "str", "clicked": "boolean", "item": "int64", "visits": "int64"}
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=types.get(name, object))
            if name != "age"
            else pd.Series(values)
            for name, values in columns.items()
        }
    )


def as_polars(columns):
    frame = pl.DataFrame(columns, strict=False)
    return frame.with_columns(pl.col("age").fill_nan(None))


def as_array(columns):
    out = np.empty((8, len(columns)), dtype=object)
    for j, values in enumerate(columns.values()):
        for i, value in enumerate(values):
            out[i, j] = value
    return out


MIXED = {
    "categorical_features": ["city", "item", "clicked"],
    "list_features": {"history": ("attention", "item"), "words": "sum"},
    "n_bins": 4,
    "max_list_length": 4,
}


@pytest.fixture(scope="module")
def expected():
    return encoded(as_pandas(mixed_columns()), **MIXED)


class TestKindsOfTables:
    @pytest.mark.parametrize("make", [as_pandas, as_polars])
    @pytest.mark.parametrize("fitted_to", [as_pandas, as_polars])
    def test_frames_are_equal(self, make, fitted_to, expected):
        encoder = TableEncoder(**MIXED).fit(fitted_to(mixed_columns()))
        numbers, codes = encoder.transform(make(mixed_columns()))
        assert encoder.describe() == expected[0].describe()
        assert_array_equal(numbers, expected[1])
        assert_array_equal(codes, expected[2])

    def test_object_array_equals_frame(self, expected):
        options = MIXED | {
            "categorical_features": [0, 2, 3],
            "list_features": {5: ("attention", 2), 6: "sum"},
        }
        encoder, numbers, codes = encoded(as_array(mixed_columns()), **options)
        assert_array_equal(numbers, expected[1])
        assert_array_equal(codes, expected[2])
        assert [slot.name for slot in encoder.lists_] == [5, 6]

    def test_types_and_layout(self, expected):
        encoder, numbers, codes = expected
        assert numbers.dtype == np.float64
        assert codes.dtype == np.int32
        assert numbers.flags.c_contiguous
        assert codes.flags.c_contiguous
        # age, visits and the gaps of age; city, age, item, clicked, visits.
        assert encoder.n_numbers_ == numbers.shape[1] == 3
        assert encoder.n_columns_ == 5
        assert encoder.lists_ == (
            ListSlot("history", 5, 4, "attention", 2),
            ListSlot("words", 9, 2, "sum", None),
        )
        assert codes.shape == (8, 11)
        assert codes[:, :5].min() > 0
        assert codes.max() == encoder.n_codes_ - 1

    @pytest.mark.parametrize("make", [as_pandas, as_polars])
    def test_columns_by_their_types(self, make):
        columns = mixed_columns()
        encoder = TableEncoder().fit(make(columns))
        kinds = {c["name"]: c["kind"] for c in encoder.describe()["columns"]}
        assert kinds == {
            "city": "category",
            "age": "number",
            "item": "number",
            "clicked": "category",
            "visits": "number",
            "history": "list",
            "words": "list",
        }
        assert [slot.pooling for slot in encoder.lists_] == ["mean", "mean"]

    @pytest.mark.parametrize(
        "series",
        [
            pl.Series(["x", None, "y"], dtype=pl.Categorical),
            pl.Series(["x", None, "y"], dtype=pl.Enum(["z", "y", "x"])),
            pl.Series(["x", None, "y"]),
            pd.Series(["x", None, "y"], dtype="category"),
            pd.Series(
                ["x", None, "y"],
                dtype=pd.CategoricalDtype(["z", "y", "x"], ordered=True),
            ),
            pd.Series(["x", pd.NA, "y"], dtype="string"),
            pd.Series(["x", NAN, "y"], dtype=object),
        ],
        ids=str,
    )
    def test_kinds_of_text(self, series):
        frame = (pd if isinstance(series, pd.Series) else pl).DataFrame({"c": series})
        encoder, _, codes = encoded(frame)
        assert codes[:, 0].tolist() == [3, 2, 4]
        assert encoder.n_codes_ == 5
        plain = pd.DataFrame({"c": ["z", "y", None]})
        assert encoder.transform(plain)[1][:, 0].tolist() == [1, 4, 2]
        assert encoder.transform(frame[:0])[1].shape == (0, 1)

    @pytest.mark.parametrize("dtype", ["Int64", "Int8", "UInt32", "Float64", "float32"])
    def test_nullable_numbers(self, dtype):
        frame = pd.DataFrame({"a": pd.Series([1, None, 3], dtype=dtype)})
        _, numbers, _ = encoded(frame)
        assert_allclose(numbers, [[-1, 0], [0, 1], [1, 0]])
        kind = {"Int64": pl.Int64, "Int8": pl.Int8, "UInt32": pl.UInt32}
        frame = pl.DataFrame({"a": [1, None, 3]}).cast(kind.get(dtype, pl.Float32))
        assert_allclose(encoded(frame)[1], numbers)

    def test_decimals_of_polars_and_booleans_in_an_array(self):
        frame = pl.DataFrame({"a": ["1.5", None, "2.5"]}).cast(pl.Decimal(10, 2))
        assert_allclose(encoded(frame)[1], [[-1, 0], [0, 1], [1, 0]])
        _, numbers, _ = encoded(np.array([[True], [False]]))
        assert_allclose(numbers, [[1], [-1]])

    def test_numbers_as_objects(self):
        X = np.empty((4, 2), dtype=object)
        X[:, 0] = [1, Decimal("3"), None, np.float32(2)]
        X[:, 1] = [True, np.True_, False, pd.NA]
        encoder, numbers, _ = encoded(X)
        assert encoder.describe()["columns"][0]["mean"] == 2.0
        assert_allclose(numbers[:, 2:], [[0, 0], [0, 0], [1, 0], [0, 1]])
        assert_allclose(numbers[:3, 1], np.array([1, 1, -2]) / 2**0.5)

    @pytest.mark.parametrize("library", [pd, pl])
    def test_nothing_but_gaps_as_a_number(self, library):
        frame = library.DataFrame({"a": [None, None]})
        _, numbers, _ = encoded(frame, categorical_features=None)
        assert numbers.tolist() == [[0, 1], [0, 1]]

    def test_mask_and_none(self):
        frame = pd.DataFrame({"a": [True, False], "b": [5, 6]})
        encoder, numbers, codes = encoded(
            frame, categorical_features=[False, True], numeric_encoding="standard"
        )
        assert_allclose(numbers, [[1], [-1]])
        assert codes.tolist() == [[3], [4]]
        for none in (None, [False, False], []):
            encoder = TableEncoder(none, numeric_encoding="standard").fit(frame)
            assert (encoder.n_numbers_, encoder.n_columns_) == (2, 0)
            assert encoder.n_codes_ == 1

    def test_a_name_wins_over_a_type(self):
        frame = pd.DataFrame({"c": [(1, 2), (3,), (1, 2)]})
        assert encoded(frame)[2].tolist() == [[3, 4], [5, 0], [3, 4]]
        _, _, codes = encoded(frame, categorical_features=["c"])
        assert codes.tolist() == [[3], [4], [3]]


class TestCategories:
    def test_unseen_and_missing(self):
        assert codes_of(["a", "b", "a"], ["b", "q", None, NAN, pd.NA]) == [
            4,
            1,
            2,
            2,
            2,
        ]
        assert codes_of([5, 9, 5], [9, 7, 4, 10, -(2**63), 2**63 - 1]) == [4] + [1] * 5

    def test_columns_have_their_own_rows(self):
        frame = pd.DataFrame({"a": ["x", "y"], "b": ["y", None]})
        encoder, _, codes = encoded(frame)
        assert codes.tolist() == [[3, 7], [4, 6]]
        assert encoder.n_codes_ == 8

    @pytest.mark.parametrize("scattered", [False, True], ids=["table", "search"])
    def test_large_ids_survive(self, scattered):
        ids = [16_777_216, 16_777_217, 2**53, 2**53 + 1, 2**60, 2**60 + 1]
        if not scattered:
            ids = [2**60 + i for i in range(6)]
        frame = pd.DataFrame({"c": np.array(ids)})
        for again in (
            frame,
            frame.astype("Int64"),
            frame.astype("uint64"),
            frame.astype(object),
            frame.astype("category"),
            pl.DataFrame({"c": ids}),
            pl.DataFrame({"c": [None, *ids]})[1:],
            np.array(ids)[:, None],
        ):
            _, _, codes = encoded(frame, again, categorical_features=[0])
            assert codes[:, 0].tolist() == [3, 4, 5, 6, 7, 8]

    def test_ids_beyond_signed_integers(self):
        ids = [2**64 - 1, 2**63, 3, 2**63 + 1]
        new = [2**63 + 2, *ids]
        for make in (lambda x: np.array(x, dtype=np.uint64), lambda x: x):
            got = codes_of(make(ids), make(new))
            assert got[0] == 1
            assert sorted(got[1:]) == [3, 4, 5, 6]
        assert codes_of(np.array(ids, dtype=np.uint64), [-1, -(2**63)]) == [1, 1]
        assert codes_of([-1, -(2**63)], np.array(ids, dtype=np.uint64)) == [1] * 4
        wide = pd.Series([2**63, None], dtype="UInt64")
        assert codes_of(ids, wide)[1] == 2
        assert codes_of(ids, wide)[0] == codes_of(ids)[1]

    def test_lowest_and_highest_integers_are_not_confused(self):
        ends = [-(2**63), 2**63 - 1]
        assert codes_of(ends, [*ends, 0, -1]) == [3, 4, 1, 1]
        assert codes_of([-3, 5], [5, -3, -4, 6, 3]) == [4, 3, 1, 1, 1]
        many = np.arange(5_000)
        assert codes_of(many, np.array([*ends, 0] * 5_000))[:3] == [1, 1, 3]

    @pytest.mark.parametrize(
        "new",
        [
            np.array([1, 3, 2], dtype=np.int32),
            np.array([1, 3, 2], dtype=np.uint8),
            np.array([1.0, 3.0, 2.0]),
            np.array([1, 3, 2.0], dtype=object),
            [True, 3, np.float32(2)],
            pd.Series([1, 3, 2], dtype="category"),
        ],
        ids=["int32", "uint8", "float", "object", "bool", "category"],
    )
    def test_equal_values_of_other_types(self, new):
        assert codes_of([3, 1, 2, 3], new) == [3, 5, 4]
        assert codes_of(new, [3, 1, 2]) == [5, 3, 4]

    def test_text_is_no_number(self):
        mixed = ["1", 1, 2.5, "x", 1.0, None, (1, 2)]
        assert codes_of(mixed) == [4, 3, 6, 5, 3, 2, 7]
        assert codes_of(mixed, ["2.5", 2.5, True, "1", (1, 2)]) == [1, 6, 3, 4, 7]

    def test_floats(self):
        assert codes_of([0.5, NAN, 1.0, -2.25], [1, 0.5, 0.25, NAN, -2.25]) == [
            3,
            5,
            1,
            2,
            4,
        ]

    def test_floats_beyond_integers(self):
        values = [1e300, 2.0**63, 3.0, -(2.0**63), np.inf]
        assert sorted(codes_of(values)) == [3, 4, 5, 6, 7]
        assert codes_of(values, [-(2**63), 3, 2**63]) == codes_of(values)[3:0:-1]

    def test_missing_integers(self):
        with_gaps = pd.Series([7, None, 0], dtype="Int64")
        assert codes_of(with_gaps) == [4, 2, 3]
        assert codes_of([7.0, NAN, 0.0]) == [4, 2, 3]
        assert codes_of(pd.Series([True, None, False], dtype="boolean")) == [4, 2, 3]

    @pytest.mark.parametrize("empty", [[None, None], [NAN, NAN], [pd.NA, None]])
    def test_all_missing(self, empty):
        assert codes_of(empty) == [2, 2]
        assert codes_of(empty, ["a", 3]) == [1, 1]
        _, _, codes = encoded(pl.DataFrame({"c": [None, None]}))
        assert codes.tolist() == [[2], [2]]

    def test_rare_ones_are_unseen(self):
        assert codes_of([4, 5, 4, 6, 6, None], min_frequency=2) == [3, 1, 3, 4, 4, 2]
        assert codes_of(list("abac"), min_frequency=2) == [3, 1, 3, 1]

    def test_weights_below_one_keep_categories(self):
        frame = pd.DataFrame({"c": ["a", "b"], "id": [7, 8]})
        encoder = TableEncoder(["c", "id"]).fit(frame, [0.1, 0.2])
        assert encoder.transform(frame)[1].tolist() == [[3, 7], [4, 8]]

    def test_unused_categories_of_a_type_have_no_row(self):
        column = pd.Series(["b"], dtype=pd.CategoricalDtype(["a", "b"]))
        assert codes_of(column, ["a", "b"]) == [1, 3]


class TestNumbers:
    def test_standardised(self):
        X = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 2))
        encoder, numbers, codes = encoded(X, numeric_encoding="standard")
        assert_allclose(numbers, (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-12)
        assert codes.shape == (200, 0)
        assert encoder.lists_ == ()

    def test_constant_is_zero_for_good(self):
        encoder = TableEncoder().fit(np.full((5, 1), 0.1))
        numbers, codes = encoder.transform(np.array([[0.1], [7.0], [NAN]]))
        assert_array_equal(numbers, np.zeros((3, 1)))
        assert codes[:, 0].tolist() == [2, 2, 1]

    def test_missing_is_zero_with_an_indicator(self):
        X = np.array([[1.0, 1.0], [NAN, 2.0], [3.0, 3.0]])
        encoder, numbers, _ = encoded(X)
        assert encoder.n_numbers_ == 3
        assert_allclose(numbers[:, [0, 2]], [[-1, 0], [0, 1], [1, 0]])
        numbers, codes = encoder.transform(np.array([[1.0, NAN]]))
        assert numbers[0, 1] == 0.0
        assert codes[0].tolist() == [2, 4]  # missing is the first row of a column

    def test_all_missing_number(self):
        encoder, numbers, codes = encoded(np.full((3, 1), NAN))
        assert numbers.tolist() == [[0, 1]] * 3
        assert codes.tolist() == [[1]] * 3
        assert encoder.n_codes_ == 3
        weighted = TableEncoder().fit(np.full((3, 1), NAN), [1.0, 2.0, 3.0])
        assert weighted.describe() == encoder.describe()

    def test_tails_are_cut(self):
        X = np.zeros((10_000, 1))
        X[0] = 1e5
        encoder, numbers, _ = encoded(X)
        assert numbers.max() == CLIP
        assert encoder.transform(-X)[0].min() == -CLIP

    @pytest.mark.parametrize("unit", [1e-200, 1e200, 1e306])
    def test_extreme_units(self, unit):
        X = np.array([[1.0], [2.0], [6.0]])
        _, numbers, codes = encoded(X * unit)
        assert_allclose(numbers, encoded(X)[1], rtol=1e-12)
        assert codes[:, 0].tolist() == [2, 3, 4]

    def test_few_values_have_a_bin_each(self):
        encoder, _, codes = encoded(np.array([[1.0], [2.0], [10.0], [2.0]]), n_bins=3)
        assert codes[:, 0].tolist() == [2, 3, 4, 3]
        new = np.array([[-9.0], [1.49], [1.51], [5.9], [6.1], [99.0]])
        assert encoder.transform(new)[1][:, 0].tolist() == [2, 2, 3, 3, 4, 4]

    def test_bins_are_quantiles(self):
        x = np.random.default_rng(0).permutation(1000).astype(float)
        scale = NumberScale(x, None, 10)
        assert_array_equal(np.bincount(scale.bins(x)), np.full(10, 100))
        assert_array_equal(scale.edges, np.arange(1, 10) * 100 - 0.5)

    @pytest.mark.parametrize("n_bins", [2, 3, 5, 16])
    def test_bins_are_filled_and_no_more_than_asked_for(self, n_bins):
        rng = np.random.default_rng(n_bins)
        for _ in range(20):
            x = np.round(rng.standard_t(1, size=300), 1) * (rng.random(300) < 0.3)
            filled = np.bincount(NumberScale(x, None, n_bins).bins(x))
            assert filled.min() > 0
            assert len(filled) <= n_bins

    def test_a_heavy_value_takes_one_bin(self):
        x = np.concatenate([np.zeros(9_000), np.arange(1, 1_001)])
        filled = np.bincount(NumberScale(x, None, 11).bins(x))
        assert filled[0] <= 9_100
        assert len(filled) == 11
        assert_allclose(filled[1:], 100, atol=10)

    def test_neighbouring_doubles_are_told_apart(self):
        x = np.array([1.0, np.nextafter(1.0, 2), np.nextafter(1.0, 0)])
        assert NumberScale(x, None, 8).bins(x).tolist() == [1, 2, 0]


class TestLists:
    def test_padded_on_the_right(self):
        frame = pd.DataFrame({"h": [[1, 2, 3], None, [2], ()]})
        encoder, _, codes = encoded(frame)
        assert codes.tolist() == [[3, 4, 5], [0, 0, 0], [4, 0, 0], [0, 0, 0]]
        assert encoder.lists_ == (ListSlot("h", 0, 3, "mean", None),)
        new = pd.DataFrame({"h": [[9, 8, 3, 2, 7], np.array([1]), [None, 1]]})
        # The last three; unseen; missing.
        assert encoder.transform(new)[1].tolist() == [[5, 4, 1], [3, 0, 0], [2, 3, 0]]

    @pytest.mark.parametrize("library", [pd, pl])
    def test_long_ones_keep_their_end(self, library):
        frame = library.DataFrame({"h": [[1, 2, 3, 4], [5], [6, 7, 8]]})
        encoder = TableEncoder(max_list_length=2)
        with pytest.warns(UserWarning, match=r"^2 of the lists in column 'h' of X"):
            encoder.fit(frame)
        _, codes = encoder.transform(frame)
        # 1, 2 and 6 were cut before they could become categories.
        assert codes.tolist() == [[3, 4], [5, 0], [6, 7]]

    def test_attention_shares_the_codes_of_the_item(self):
        frame = pd.DataFrame({"h": [[7, 4], [2**60 + 1]], "item": [4, 5]})
        encoder, _, codes = encoded(
            frame,
            categorical_features=["item"],
            list_features={"h": ("attention", "item")},
        )
        assert encoder.n_codes_ == 7
        assert encoder.lists_ == (ListSlot("h", 1, 2, "attention", 0),)
        assert codes.tolist() == [[3, 5, 3], [4, 6, 0]]
        new = pd.DataFrame({"h": [[5, 99]], "item": [2**60 + 1]})
        assert encoder.transform(new)[1].tolist() == [[6, 4, 1]]

    def test_frequency_counts_item_and_lists(self):
        frame = pd.DataFrame({"h": [[7, 4], [8]], "item": [4, 8]})
        options = {
            "categorical_features": ["item"],
            "list_features": {"h": ("attention", "item")},
            "min_frequency": 2,
        }
        _, _, codes = encoded(frame, **options)
        assert codes.tolist() == [[3, 1, 3], [4, 4, 0]]
        encoder = TableEncoder(**options).fit(frame, [2, 1])
        assert encoder.transform(frame)[1].tolist() == [[3, 4, 3], [5, 5, 0]]

    @pytest.mark.parametrize(
        "frame",
        [
            pl.DataFrame({"h": [[1, 2], [2, 3]]}, schema={"h": pl.Array(pl.Int64, 2)}),
            pl.DataFrame({"h": [["1", "2"], ["2", "3"]]}),
            pd.DataFrame({"h": [np.array([1, 2]), (2, np.int8(3))]}),
            pd.DataFrame({"h": [[1, "x"], [pd.NA, 1.5]]}).iloc[:0:-1],
        ],
        ids=["polars-array", "text", "pandas-arrays", "mixed"],
    )
    def test_kinds_of_lists(self, frame):
        encoder, _, codes = encoded(frame)
        if len(frame) == 2:
            assert codes.tolist() == [[3, 4], [4, 5]]
        else:
            assert codes.tolist() == [[2, 3]]
        assert encoder.transform(frame[:0])[1].shape == (0, 2)

    @pytest.mark.parametrize("library", [pd, pl])
    def test_all_empty(self, library):
        frame = library.DataFrame({"h": [None, None]})
        encoder, _, codes = encoded(frame, list_features={"h": "mean"})
        assert codes.tolist() == [[0], [0]]
        again = library.DataFrame({"h": [[3], []]})
        assert encoder.transform(again)[1].tolist() == [[1], [0]]

    def test_parts(self):
        lengths = np.array([3, 0, 1])
        assert last_entries(lengths, 2).tolist() == [False, True, True, True]
        rows = padded(np.array([5, 6, 7]), lengths, 2)
        assert rows.tolist() == [[5, 6], [0, 0], [7, 0]]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    n = 120
    frame = pd.DataFrame(
        {
            "c": rng.choice(list("abcdefgh"), n),
            "id": rng.integers(0, 40, n) * 10**12,
            "x": np.where(rng.random(n) < 0.1, NAN, rng.normal(size=n)),
            "z": rng.poisson(0.3, n).astype(float) ** 3,
            "h": [rng.integers(0, 20, k).tolist() for k in rng.integers(0, 4, n)],
        }
    )
    options = {
        "categorical_features": ["c", "id"],
        "min_frequency": 9,
        "n_bins": 7,
    }
    return frame, rng.integers(0, 4, n), options


class TestWeights:
    def test_integer_weights_repeat_rows(self, rows):
        frame, weight, options = rows
        weighted = TableEncoder(**options).fit(frame, weight)
        repeated = TableEncoder(**options).fit(frame.loc[frame.index.repeat(weight)])
        assert_same(weighted, repeated, frame)

    @pytest.mark.parametrize("library", [pd, pl])
    def test_zero_weight_is_removal(self, rows, library):
        frame, weight, options = rows
        weight = (weight > 0).astype(float)
        kept = TableEncoder(**options).fit(frame[weight > 0])
        table = library.DataFrame(frame.to_dict(orient="list"))
        weighted = TableEncoder(**options).fit(table, weight)
        assert weighted.describe() == kept.describe()

    def test_bad_rows_of_weight_zero_do_not_matter(self):
        X = np.array([[1.0], [np.inf], [2.0]])
        encoder = TableEncoder().fit(X, [1, 0, 1])
        assert_allclose(encoder.transform(X[::2])[0], [[-1], [1]])


def assert_same(encoder, other, frame):
    one, two = encoder.describe(), other.describe()
    for a, b in zip(one["columns"], two["columns"], strict=True):
        for key in ("mean", "factor"):
            assert_allclose(a.pop(key, 0.0), b.pop(key, 0.0), rtol=1e-12)
    assert one == two
    assert_array_equal(encoder.transform(frame)[1], other.transform(frame)[1])


class TestExtend:
    def test_old_codes_stay_and_new_ones_are_last(self):
        frame = as_pandas(mixed_columns())
        encoder, numbers, codes = encoded(frame, **MIXED)
        n_codes = encoder.n_codes_
        new = frame.iloc[:3].copy()
        new["city"] = ["b", "new", "newer"]
        new["item"] = [-5, 3, 2**60]
        new["history"] = [[3, 44], [], [2**60, 44]]
        new["words"] = [["a"], ["q"], None]
        assert encoder.extend(new) == 6
        assert encoder.n_codes_ == n_codes + 6
        numbers_now, codes_now = encoder.transform(frame)
        assert_array_equal(numbers, numbers_now)
        assert_array_equal(codes, codes_now)
        _, codes = encoder.transform(new)
        assert codes[1:, 0].tolist() == [n_codes, n_codes + 1]
        # -5, 44 and 2**60 in rising order.
        assert codes[[0, 2], 2].tolist() == [n_codes + 2, n_codes + 4]
        assert codes[2, 5:8].tolist() == [n_codes + 4, n_codes + 3, 0]
        assert encoder.extend(new) == 0

    def test_frequency_and_weight(self):
        frame = pd.DataFrame({"c": ["a", "a"]})
        encoder = TableEncoder(min_frequency=2).fit(frame)
        new = pd.DataFrame({"c": ["b", "x", "x", "y"]})
        assert encoder.extend(new, [2, 1, 0, 1]) == 1
        assert encoder.transform(new)[1][:, 0].tolist() == [4, 1, 1, 1]
        assert encoder.extend(new) == 1

    def test_from_nothing(self):
        encoder = TableEncoder([0]).fit(np.array([[None], [None]], dtype=object))
        assert encoder.extend(np.array([[3], ["a"]], dtype=object)) == 2
        new = np.array([["a"], [3], [4]], dtype=object)
        assert encoder.transform(new)[1][:, 0].tolist() == [4, 3, 1]


def serve(description, row):
    """Encode a row from nothing but a description, as a serving program would."""
    numbers = [0.0] * description["n_numbers"]
    lists = [c for c in description["columns"] if c["kind"] == "list"]
    width = description["n_columns"] + sum(c["length"] for c in lists)
    codes = [description["padding"]] * width
    for column, value in zip(description["columns"], row, strict=True):
        if column["kind"] == "number":
            serve_number(column, value, description["clip"], numbers, codes)
            continue
        vocabulary = description["vocabularies"][column["vocabulary"]]
        if column["kind"] == "category":
            codes[column["column"]] = serve_code(vocabulary, value)
        else:
            for i, entry in enumerate((value or [])[-column["length"] :]):
                codes[column["start"] + i] = serve_code(vocabulary, entry)
    return numbers, codes


def serve_number(column, value, clip, numbers, codes):
    gap = value != value
    if not gap:
        z = (value - column["mean"]) * column["factor"]
        numbers[column["number"]] = max(-clip, min(clip, z))
    if column["indicator"] is not None:
        numbers[column["indicator"]] = float(gap)
    if "column" in column:
        place = 0 if gap else bisect_left(column["edges"], value)
        start = column["missing"] if gap else column["first_bin"]
        codes[column["column"]] = start + place


def serve_code(vocabulary, value):
    if value is None:
        return vocabulary["missing"]
    known = dict(zip(vocabulary["categories"], vocabulary["codes"], strict=True))
    return known.get(value, vocabulary["unseen"])


class TestDescription:
    @pytest.mark.parametrize("numeric_encoding", ["bins", "standard"])
    def test_a_serving_program_gets_the_same(self, numeric_encoding):
        columns, new = mixed_columns(), mixed_columns()
        new["city"][:2] = ["nowhere", "b"]
        new["item"][:2] = [16_777_218, 2**60]
        new["age"][:3] = [1e9, 36.2, -5.0]
        new["history"][:2] = [[1, 2, 3, 7, 9, 2**60 + 1], [None, 3]]
        options = MIXED | {"numeric_encoding": numeric_encoding}
        encoder = TableEncoder(**options).fit(as_pandas(columns))
        encoder.extend(as_pandas(columns | {"city": [*"bbbbbbb", "later"]}))
        numbers, codes = encoder.transform(as_pandas(new))
        description = json.loads(json.dumps(encoder.describe(), allow_nan=False))
        for i, row in enumerate(zip(*new.values(), strict=True)):
            own_numbers, own_codes = serve(description, row)
            assert_array_equal(own_numbers, numbers[i])
            assert own_codes == codes[i].tolist()

    def test_categories_of_other_types_are_text(self):
        encoder = TableEncoder(["c"]).fit(pd.DataFrame({"c": [(1, 2), "a", 1.5]}))
        (vocabulary,) = encoder.describe()["vocabularies"]
        assert vocabulary == {
            "unseen": 1,
            "missing": 2,
            "categories": ["a", 1.5, "(1, 2)"],
            "codes": [3, 4, 5],
        }


class TestObject:
    def test_copies_encode_alike(self):
        frame = as_pandas(mixed_columns())
        encoder, numbers, codes = encoded(frame, **MIXED)
        for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
            assert_array_equal(other.transform(frame)[0], numbers)
            assert_array_equal(other.transform(frame)[1], codes)
            other.extend(frame.assign(city="elsewhere"))
            assert other.n_codes_ == encoder.n_codes_ + 1

    def test_arguments_stay(self):
        encoder = clone(TableEncoder(**MIXED))
        encoder.fit(as_pandas(mixed_columns()))
        assert encoder.get_params()["list_features"] == MIXED["list_features"]
        assert "n_bins=4" in repr(encoder)


TEXT = pd.DataFrame({"a": [1.0, 2.0], "s": ["x", "y"]})


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "options", "message"),
        [
            (
                TEXT,
                {"categorical_features": None},
                "^column 's' of X is numeric, got 'x'",
            ),
            (TEXT, {"categorical_features": ["t"]}, "no column 't' in X"),
            (TEXT, {"categorical_features": [2]}, "column 2 does not exist"),
            (TEXT, {"categorical_features": [True]}, "a mask of 1 columns"),
            (TEXT, {"categorical_features": [0.5]}, "a name or position: 0.5"),
            (TEXT.to_numpy(), {"categorical_features": ["s"]}, "X has no column names"),
            (
                TEXT,
                {"categorical_features": "some"},
                "'categorical_features' parameter",
            ),
            (TEXT, {"n_bins": 1}, "'n_bins' parameter"),
            (TEXT, {"numeric_encoding": "none"}, "'numeric_encoding' parameter"),
            (TEXT, {"min_frequency": 0}, "'min_frequency' parameter"),
            (TEXT, {"max_list_length": 0}, "'max_list_length' parameter"),
            (TEXT, {"list_features": {"t": "mean"}}, "no column 't' in X"),
            (TEXT, {"list_features": {"s": "mean"}}, "^column 's' of X is a list"),
            (
                pl.DataFrame({"s": ["x"]}),
                {"list_features": {"s": "mean"}},
                "^column 's' of X is a list column, got 'x'",
            ),
            (
                pd.DataFrame({"a": [1.0, np.inf]}),
                {},
                "^column 'a' of X contains infinity, first in row 1",
            ),
            (np.array([[1.0], [-np.inf]]), {}, "^column 0 of X contains infinity"),
            (
                pd.DataFrame({"d": pd.to_datetime(["2020-01-01"])}),
                {},
                "^column 'd' of X holds times",
            ),
            (
                pd.DataFrame({"d": pd.to_datetime(["2020-01-01"])}),
                {"categorical_features": ["d"]},
                "^column 'd' of X holds times",
            ),
            (
                pd.DataFrame({"d": pd.to_datetime(["2020-01-01"], utc=True)}),
                {"categorical_features": ["d"]},
                "^column 'd' of X holds times",
            ),
            (
                pd.DataFrame({"d": pd.to_timedelta(["1h", None])}),
                {"categorical_features": [False]},
                "^column 'd' of X holds times",
            ),
            (np.array([[1j]]), {}, "^Complex data not supported: column 0 of X"),
            (
                np.array([[np.str_("3")]], dtype=object),
                {},
                "^column 0 of X is numeric, got .*'3'",
            ),
            (
                pl.DataFrame({"d": [date(2020, 1, 1)]}),
                {},
                "^column 'd' of X holds times",
            ),
            (
                np.array([["2020-01-01"]], dtype="datetime64[D]"),
                {"categorical_features": [0]},
                "^column 0 of X holds times",
            ),
            (
                pd.DataFrame({"c": ["a", {"b": 1}]}),
                {},
                "^column 'c' of X is categorical and holds a value that cannot",
            ),
            (
                np.array([[1, {}]], dtype=object),
                {"categorical_features": [1]},
                "^column 1 of X is categorical and holds a value that cannot",
            ),
            (
                pd.DataFrame({"h": [[1], [[2]]]}),
                {},
                "^column 'h' of X is categorical and holds a value that cannot",
            ),
            (pd.DataFrame({"h": [[1], 2]}), {}, "is a list column, got 2: every"),
        ],
    )
    def test_fit(self, X, options, message):
        with pytest.raises(ValueError, match=message):
            TableEncoder(**options).fit(X)

    @pytest.mark.parametrize(
        ("pooling", "message"),
        [
            ("max", "must be 'mean', 'sum' or .*, got 'max'"),
            ("attention", "target column.*got 'attention'"),
            (("mean", "a"), "got 'mean' with 'a'"),
            (("attention", "zz"), "no column 'zz' in X"),
            (("attention", "a"), "attends to column 'a', which is a number column"),
            (("attention", "h"), "attends to column 'h', which is a list column"),
        ],
    )
    def test_poolings(self, pooling, message):
        frame = pd.DataFrame({"a": [1.0], "h": [[1]]})
        with pytest.raises(ValueError, match=message):
            TableEncoder(list_features={"h": pooling}).fit(frame)

    def test_transform(self):
        encoder = TableEncoder(["s"]).fit(TEXT)
        with pytest.raises(ValueError, match="column 'a' of X is numeric, got 'one'"):
            encoder.transform(TEXT.assign(a=["one", "2"]))
        with pytest.raises(ValueError, match="column 'a' of X is numeric, got '1'"):
            encoder.transform(TEXT.astype({"a": object}).assign(a=["1", 2.0]))
        with pytest.raises(ValueError, match="contains infinity"):
            encoder.transform(TEXT.assign(a=-math.inf))
        for method in (encoder.transform, encoder.extend):
            with pytest.raises(ValueError, match=r"X has 1 columns, but .* to 2"):
                method(np.ones((3, 1)))


class Model(BaseEstimator):
    def __init__(self, categorical_features="from_dtype", list_features=None):
        self.categorical_features = categorical_features
        self.list_features = list_features


class TestCheckedTable:
    @pytest.mark.parametrize("library", [pd, pl])
    def test_frames_stay_and_names_are_compared(self, library):
        frame, model = library.DataFrame({"a": [1, 2], "b": ["x", None]}), Model()
        assert checked_table(model, frame, reset=True) is frame
        assert model.feature_names_in_.tolist() == ["a", "b"]
        with pytest.raises(ValueError, match="feature names should match"):
            checked_table(model, frame[["b", "a"]], reset=False)
        with pytest.raises(ValueError, match="feature names should match"):
            checked_table(model, frame[["a"]], reset=False)
        with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 2\)\)"):
            checked_table(model, frame[:0], reset=False)

    def test_frame_without_columns(self):
        frame = pd.DataFrame(index=[0, 1])
        with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(2, 0\)\)"):
            checked_table(Model(), frame, reset=True)

    def test_lazy_frame(self):
        with pytest.raises(TypeError, match=r"give X.collect\(\)"):
            checked_table(Model(), pl.LazyFrame({"a": [1]}), reset=True)

    def test_arrays(self):
        ids = np.array([[2**60 + 1, 3]])
        assert checked_table(Model(), ids, reset=True).dtype == np.int64
        assert checked_table(Model(), [[1.5, NAN]], reset=True).dtype == np.float64
        with pytest.raises(ValueError, match="Expected 2D array"):
            checked_table(Model(), [1.0, 2.0], reset=True)
        with pytest.raises(ValueError, match="could not convert"):
            checked_table(Model(), np.array([["a", 1]], dtype=object), reset=True)

    def test_text_beside_numbers(self):
        model = Model(categorical_features=[1])
        table = checked_table(model, [[1.5, "a"], [2.5, "b"]], reset=True)
        _, numbers, codes = encoded(table, categorical_features=[1])
        assert_allclose(numbers, [[-1], [1]])
        assert codes.tolist() == [[2, 6], [3, 7]]
