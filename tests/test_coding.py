"""Tables with categories: what is coded how, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skmoe._coding import TableCoder, code_table, learn_table
from skmoe._gaps import gaps, is_gap
from tests._quick import regressor

pl = pytest.importorskip("polars")

N_ROWS = 90
NAMES = np.array(["amber", "blue", "coral"])


@pytest.fixture
def rows(rng):
    """Return a number, a category and a response that depends on both."""
    code = rng.integers(0, 3, size=N_ROWS)
    x = rng.normal(size=N_ROWS)
    y = np.choose(code, [x, 2.0 - x, 3.0 + 0.0 * x]) + 0.2 * rng.normal(size=N_ROWS)
    return x, code, y


def frame(x, code, kind="pandas"):
    """Return a table of two columns, the second one of categories; -1 is a gap."""
    names = [None if c < 0 else NAMES[c] for c in code]
    if kind == "pandas":
        return pd.DataFrame({"x": x, "c": pd.Categorical(names, categories=NAMES)})
    types = {"polars": pl.Categorical, "enum": pl.Enum(NAMES.tolist())}
    return pl.DataFrame({"x": x, "c": pl.Series(names, dtype=types[kind])})


def quick(**kwargs):
    return regressor(**({"max_iter": 100} | kwargs))


# -- gaps ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT], ids=repr
)
def test_what_is_a_gap(value):
    assert is_gap(value)
    assert_array_equal(
        gaps(np.array([value, "a", 0], dtype=object)), [True, False, False]
    )


def test_what_is_no_gap():
    assert not any(is_gap(value) for value in ("", "nan", 0, 0.0, False, np.inf))
    assert_array_equal(gaps([1, 2]), [False, False])
    assert_array_equal(gaps([[1.0, np.nan]]), [[False, True]])
    days = np.array(["2020-01-01", "NaT"], dtype="datetime64[D]")
    assert_array_equal(gaps(days), [False, True])


# -- the coder alone -------------------------------------------------------------


def positions(columns):
    return [int(c) for c in columns]


def test_codes_are_in_the_order_of_the_categories(rows):
    x, code, _ = rows
    table = frame(x, code)
    coder = TableCoder(table, "from_dtype", positions)
    coder.learn(table, np.ones(N_ROWS, dtype=bool))
    assert coder.columns == [1]
    assert coder.categories == {1: NAMES.tolist()}
    assert_array_equal(coder.code(table), np.column_stack([x, code]))


def test_gaps_and_unseen_categories_are_nan(rows):
    x, code, _ = rows
    table = frame(x, np.where(code == 2, 0, code))
    coder = TableCoder(table, "from_dtype", positions)
    coder.learn(table, np.ones(N_ROWS, dtype=bool))
    assert coder.categories == {1: ["amber", "blue"]}
    new = frame(x[:3], [2, -1, 1])
    assert_array_equal(coder.code(new)[:, 1], [np.nan, np.nan, 1.0])


def test_only_rows_of_weight_are_learnt_from(rows):
    x, code, _ = rows
    table = frame(x, code)
    coder = TableCoder(table, "from_dtype", positions).learn(table, code != 1)
    assert coder.categories == {1: ["amber", "coral"]}
    coded = coder.code(table)[:, 1]
    assert_array_equal(np.isnan(coded), code == 1)
    assert_array_equal(coded[code == 2], 1.0)


def test_numbers_are_what_is_not_coded(rows):
    x, code, _ = rows
    table = frame(x, np.where(code == 0, -1, code))
    coder = TableCoder(table, "from_dtype", positions)
    coder.learn(table, np.ones(N_ROWS, dtype=bool))
    assert_array_equal(coder.numbers(coder.code(table)), np.column_stack([x, 0 * x]))
    plain = TableCoder(table, None, positions)
    coded = np.ones((2, 2))
    assert plain.numbers(coded) is coded


# -- every way of naming the columns ---------------------------------------------


@pytest.mark.parametrize("kind", ["pandas", "polars", "enum"])
@pytest.mark.parametrize(
    "chosen", ["from_dtype", ["c"], [1], [-1], [False, True], np.array([1]), (1, 1)]
)
def test_kinds_of_tables_are_one_fit(rows, kind, chosen):
    x, code, y = rows
    gappy = np.where(np.arange(N_ROWS) % 7 == 0, -1, code)
    wanted = quick().fit(frame(x, gappy), y)
    table = frame(x, gappy, kind)
    model = quick(categorical_features=chosen).fit(table, y)
    assert model.n_features_in_ == 2
    assert list(model.feature_names_in_) == ["x", "c"]
    assert_allclose(model.predict(table), wanted.predict(frame(x, gappy)), atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [
        lambda x, code: np.column_stack([x, code]),
        lambda x, code: np.column_stack([x.astype(object), NAMES[code]]),
        lambda x, code: [[a, str(b)] for a, b in zip(x, NAMES[code], strict=True)],
        lambda x, code: np.column_stack([x, code + 40.5]),
        lambda x, code: pd.DataFrame({"x": x, "c": NAMES[code].astype(object)}),
        lambda x, code: pd.DataFrame({"x": x, "c": pd.Series(NAMES[code])}),
        lambda x, code: pd.DataFrame({"x": x, "c": code}),
    ],
    ids=["codes", "objects", "list", "floats", "object column", "text", "integers"],
)
def test_tables_without_a_categorical_type(rows, make):
    x, code, y = rows
    wanted = quick().fit(frame(x, code), y).predict(frame(x, code))
    table = make(x, code)
    model = quick(categorical_features=[1]).fit(table, y)
    assert_allclose(model.predict(table), wanted, atol=1e-10)
    assert_allclose(model.predict(table[:5]), wanted[:5], atol=1e-10)
    # They are not the numbers that they may look like.
    if np.asarray(table).dtype.kind == "f":
        plain = quick(categorical_features=None).fit(table, y)
        assert abs(plain.predict(table) - wanted).max() > 0.1


@pytest.mark.parametrize("dtype", [object, "string"])
@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_every_kind_of_gap_is_the_same(rows, dtype, gap):
    x, code, y = rows
    gappy = np.where(np.arange(N_ROWS) % 7 == 0, -1, code)
    table = frame(x, gappy)
    wanted = quick().fit(table, y).predict(table)
    names = pd.Series([gap if c < 0 else NAMES[c] for c in gappy], dtype=dtype)
    table = pd.DataFrame({"x": x, "c": names})
    model = quick(categorical_features=["c"]).fit(table, y)
    assert model._coder.categories == {1: NAMES.tolist()}
    assert_allclose(model.predict(table), wanted, atol=1e-10)


def test_mixed_kinds_of_gaps(rows):
    x, code, y = rows
    names = NAMES[code].astype(object)
    names[:4] = [None, np.nan, None, pd.NA]
    table = pd.DataFrame({"x": x, "c": names})
    model = quick(categorical_features=["c"]).fit(table, y)
    coded = code_table(model, table)
    assert_array_equal(np.isnan(coded[:, 1]), np.arange(N_ROWS) < 4)
    assert_array_equal(coded[4:, 1], code[4:])


def test_no_categories(rows):
    x, code, y = rows
    numbers = pd.DataFrame({"x": x, "c": code})
    wanted = quick(categorical_features=None).fit(numbers, y).predict(numbers)
    for none in ([], [False, False], (), np.array([]), "from_dtype"):
        model = quick(categorical_features=none).fit(numbers, y)
        assert_allclose(model.predict(numbers), wanted, atol=1e-12)


def test_columns_of_truth_and_nullable_numbers(rows):
    x, _, y = rows
    table = pd.DataFrame(
        {
            "x": x,
            "b": x > 0,
            "i": pd.Series([pd.NA, *range(N_ROWS - 1)], dtype="Int64"),
            "f": pd.Series([pd.NA] * 9 + [True, False, True] * 27, dtype="boolean"),
        }
    )
    model = quick().fit(table, y)
    numbers = [np.nan, *range(N_ROWS - 1)]
    truth = [np.nan] * 9 + [1.0, 0.0, 1.0] * 27
    expected = np.column_stack([x, x > 0, numbers, truth])
    assert_array_equal(code_table(model, table), expected)
    assert np.isfinite(model.predict(table)).all()


# -- what is refused -------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["c", "auto", 1, 3.5, [[1]]])
def test_what_is_no_list_of_columns(rows, chosen):
    x, code, y = rows
    with pytest.raises(ValueError, match=r'must be "from_dtype", None, or a list'):
        quick(categorical_features=chosen).fit(frame(x, code), y)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["q"], r"categorical_features: no column 'q' in X; its columns are \['x'"),
        ([2], "categorical_features: column 2 does not exist in X with 2 columns"),
        ([True], "categorical_features: a mask of 1 columns for X with 2"),
        ([1.5], "categorical_features: a column must be a name or position"),
    ],
)
def test_columns_that_are_not_there(rows, chosen, message):
    x, code, y = rows
    with pytest.raises(ValueError, match=message):
        quick(categorical_features=chosen).fit(frame(x, code), y)


def test_names_need_a_frame(rows):
    x, code, y = rows
    with pytest.raises(ValueError, match="is a name, but X has no column names"):
        quick(categorical_features=["c"]).fit(np.column_stack([x, code]), y)


@pytest.mark.parametrize(
    "table",
    [
        lambda x, code: pd.DataFrame({"x": x, "c": NAMES[code]}),
        lambda x, code: np.column_stack([x.astype(object), NAMES[code]]),
        lambda x, code: frame(x, code, "polars").cast({"c": pl.String}),
    ],
    ids=["pandas", "objects", "polars"],
)
def test_text_that_is_not_declared(rows, table):
    x, code, y = rows
    with pytest.raises(ValueError, match=r"X holds text .* in categorical_features"):
        quick().fit(table(x, code), y)
    model = quick().fit(pd.DataFrame({"x": x, "c": code}), y)
    with pytest.raises(ValueError, match=r"X holds text .* in categorical_features"):
        model.predict(pd.DataFrame({"x": x, "c": NAMES[code]}))


def test_text_beside_declared_categories(rows):
    x, code, y = rows
    table = frame(x, code).assign(more=NAMES[code].astype(object))
    with pytest.raises(ValueError, match=r"X holds text .* in categorical_features"):
        quick().fit(table, y)


def test_categorical_type_with_categories_switched_off(rows):
    x, code, y = rows
    with pytest.raises(ValueError, match="X holds text"):
        quick(categorical_features=None).fit(frame(x, code), y)


def test_sparse_rows_have_no_categories(rows):
    x, code, y = rows
    X = sparse.csr_array(np.column_stack([x, code]))
    with pytest.raises(ValueError, match="need a dense X, got a sparse one"):
        quick(categorical_features=[1]).fit(X, y)
    assert np.isfinite(quick().fit(X, y).predict(X)).all()


def test_new_tables_must_be_like_the_first(rows):
    x, code, y = rows
    table = frame(x, code)
    model = quick().fit(table, y)
    with pytest.raises(ValueError, match="yet now missing"):
        model.predict(table[["x"]])
    with pytest.raises(ValueError, match="in the same order"):
        model.predict(table[["c", "x"]])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.predict(["amber", "blue"])
    unnamed = quick(categorical_features=[1]).fit(table.to_numpy(), y)
    with pytest.raises(ValueError, match="3 features"):
        unnamed.predict([[1.0, "amber", 2.0]])
    with pytest.raises(ValueError, match="contains infinity"):
        model.predict(table.assign(x=np.inf))


def test_a_list_at_predict(rows):
    x, code, y = rows
    table = frame(x, code)
    model = quick().fit(table, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.predict(
            [[a, str(b)] for a, b in zip(x, NAMES[code], strict=True)]
        )
    assert_allclose(found, model.predict(table), atol=1e-12)


# -- responses -------------------------------------------------------------------


def test_gaps_in_y_are_let_through(rows):
    x, code, y = rows
    model = quick()
    for table in (frame(x, code), np.column_stack([x, code])):
        _, X, found, weight = learn_table(
            model, table, np.where(x > 1, np.nan, y), None
        )
        assert_array_equal(np.isnan(found), x > 1)
        assert_array_equal(weight, 1.0)
        assert X.shape == (N_ROWS, 2)
        labels = np.where(x > 1, None, NAMES[code].astype(object))
        found = learn_table(model, table, labels, None)[2]
        assert_array_equal(gaps(found), x > 1)
        assert not any(one is None for one in found)


def test_lengths_must_agree(rows):
    x, code, y = rows
    for table in (frame(x, code), np.column_stack([x, code])):
        for target in (y[:-1], np.append(y, np.nan)):
            with pytest.raises(ValueError, match="inconsistent numbers of samples"):
                quick().fit(table, target)
    with pytest.raises(ValueError, match="sample_weight"):
        quick().fit(frame(x, code), y, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        quick().fit(frame(x, code), None)
