"""Generators against their stated laws; the tables that ship."""

import sys
from importlib import resources

import numpy as np
import pytest
from scipy import integrate, stats

from skmoe import datasets
from skmoe.datasets import (
    load_census_income,
    load_concrete,
    load_kuairand,
    load_mcycle,
    load_sunspots,
    make_mixture_classification,
    make_mixture_regression,
    make_piecewise_linear,
    make_regimes,
    make_two_valued,
)


def regimes(n_samples, *, random_state, return_truth=True, **kwargs):
    """Give `make_regimes` the calling form of the other generators."""
    table = make_regimes(n_samples, random_state=random_state, **kwargs)
    return table.data, table.target, table.truth


REGRESSIONS = [
    make_piecewise_linear,
    make_mixture_regression,
    make_two_valued,
    regimes,
]
GENERATORS = [*REGRESSIONS, make_mixture_classification]


@pytest.mark.parametrize("make", GENERATORS)
def test_seed_fixes_the_rows(make):
    X, y, _ = make(50, random_state=3, return_truth=True)
    again, y_again, _ = make(50, random_state=3, return_truth=True)
    other, _, _ = make(50, random_state=4, return_truth=True)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, other)
    assert X.shape[0] == y.shape[0] == 50
    from_generator = make(50, random_state=np.random.RandomState(3), return_truth=True)
    np.testing.assert_array_equal(from_generator[0], X)


@pytest.mark.parametrize("make", GENERATORS)
def test_truth_is_left_out_unless_asked_for(make):
    if make is regimes:
        X, y = make_regimes(20, random_state=0, return_X_y=True)
        table = make_regimes(20, random_state=0)
        np.testing.assert_array_equal(table.data, X)
        np.testing.assert_array_equal(table.target, y)
        return
    assert len(make(20, random_state=0)) == 2


@pytest.mark.parametrize("make", REGRESSIONS)
def test_density_integrates_to_one(make):
    X, y, truth = make(5, random_state=1, return_truth=True)
    grid = np.linspace(y.min() - 60, y.max() + 60, 40001)
    for row in X:
        rows = np.broadcast_to(row, (grid.size, row.size))
        total = integrate.trapezoid(np.exp(truth.log_prob(rows, grid)), grid)
        assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("make", REGRESSIONS)
def test_responses_follow_the_stated_density(make):
    """The probability integral transform of the draws must be uniform."""
    X, y, truth = make(400, random_state=5, return_truth=True)
    grid = np.linspace(-1.0, 1.0, 20001) * (np.ptp(y) + 20.0)
    below = []
    for row, value in zip(X, y, strict=True):
        points = value + grid[grid <= 0]
        rows = np.broadcast_to(row, (points.size, row.size))
        density = np.exp(truth.log_prob(rows, points))
        below.append(integrate.trapezoid(density, points))
    assert stats.kstest(below, "uniform").pvalue > 0.01


def centre(truth, X):
    """Return the mean of each row given the expert that it was drawn from."""
    if hasattr(truth, "angle"):
        return np.where(truth.expert == 0, 1, -1) * truth.angle(X)
    if hasattr(truth, "breaks"):
        return truth.mean(X)
    return truth.expert_mean(X)[np.arange(X.shape[0]), truth.expert]


@pytest.mark.parametrize("make", REGRESSIONS)
def test_noise_has_the_stated_size(make):
    X, y, truth = make(20000, random_state=7, return_truth=True)
    noise = np.broadcast_to(truth.noise, truth.expert.max() + 1)[truth.expert]
    error = (y - centre(truth, X)) / noise
    assert abs(error.mean()) < 3.5 / np.sqrt(20000)
    assert abs((error**2).mean() - 1.0) < 3.5 * np.sqrt(2 / 20000)
    assert stats.kstest(error, "norm").pvalue > 0.001


@pytest.mark.parametrize("make", REGRESSIONS)
def test_mean_is_that_of_the_density(make):
    X, y, truth = make(6, random_state=2, return_truth=True)
    grid = np.linspace(y.min() - 60, y.max() + 60, 40001)
    for row, mean in zip(X, truth.mean(X), strict=True):
        rows = np.broadcast_to(row, (grid.size, row.size))
        density = np.exp(truth.log_prob(rows, grid))
        assert integrate.trapezoid(grid * density, grid) == pytest.approx(
            mean, abs=1e-5
        )


def test_piecewise_linear_has_its_pieces():
    X, y, truth = make_piecewise_linear(
        500, n_pieces=5, noise=1e-6, random_state=0, return_truth=True
    )
    assert X.shape == (500, 1)
    assert np.unique(truth.expert).tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(truth.breaks) > 0.4).all()
    np.testing.assert_array_equal(truth.apply(X), truth.expert)
    for piece in range(5):
        rows = truth.expert == piece
        slope = np.polyfit(X[rows, 0], y[rows], 1)
        np.testing.assert_allclose(
            slope, [truth.coef[piece], truth.intercept[piece]], atol=1e-4
        )


def test_noise_of_each_piece():
    _, _, truth = make_piecewise_linear(
        10, n_pieces=2, noise=[0.1, 3.0], random_state=0, return_truth=True
    )
    np.testing.assert_array_equal(truth.noise, [0.1, 3.0])


def test_mixture_regression_log_prob_by_hand():
    X, y, truth = make_mixture_regression(
        40, 2, n_experts=3, noise=[0.3, 1.0, 2.0], random_state=6, return_truth=True
    )
    logit = X @ truth.gate_coef.T + truth.gate_intercept
    gate = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(truth.gate_proba(X), gate)
    mean = X @ truth.coef.T + truth.intercept
    density = (gate * stats.norm(mean, truth.noise).pdf(y[:, None])).sum(axis=1)
    np.testing.assert_allclose(truth.log_prob(X, y), np.log(density))
    np.testing.assert_allclose(truth.gate_coef.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "make", [make_mixture_regression, make_mixture_classification, regimes]
)
def test_experts_are_drawn_from_the_gate(make):
    X, _, truth = make(20000, random_state=8, return_truth=True)
    proba = truth.gate_proba(X)
    n_experts = proba.shape[1]
    drawn = np.eye(n_experts)[truth.expert]
    error = (drawn - proba).sum(axis=0) / np.sqrt((proba * (1 - proba)).sum(axis=0))
    assert np.abs(error).max() < 3.5
    # The draw must follow each row's own probabilities, not their average.
    assert (drawn * proba).sum(axis=1).mean() > (proba.mean(axis=0) ** 2).sum() + 0.1


def test_classes_follow_their_probabilities():
    X, y, truth = make_mixture_classification(
        20000, 2, n_experts=2, n_classes=4, random_state=1, return_truth=True
    )
    proba = truth.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        truth.log_prob(X, y), np.log(proba[np.arange(y.size), y])
    )
    by_hand = np.einsum("nk,nkc->nc", truth.gate_proba(X), truth.expert_proba(X))
    np.testing.assert_allclose(proba, by_hand)
    drawn = np.eye(4)[y]
    error = (drawn - proba).sum(axis=0) / np.sqrt((proba * (1 - proba)).sum(axis=0))
    assert np.abs(error).max() < 3.5
    entropy = -(proba * np.log(proba)).sum(axis=1).mean()
    assert -truth.log_prob(X, y).mean() == pytest.approx(entropy, abs=0.02)


def test_two_valued_answers_reach_the_hand_and_the_mean_does_not():
    X, y, truth = make_two_valued(2000, noise=0.02, random_state=0, return_truth=True)
    reach = np.sqrt(0.5**2 + 0.4**2 + 2 * 0.5 * 0.4 * np.cos(y))
    assert np.abs(reach - X[:, 0]).max() < 0.05
    assert np.abs(truth.mean(X)).max() == 0.0
    assert np.abs(y).min() > 0.5
    assert 0.45 < truth.expert.mean() < 0.55
    assert (truth.log_prob(X, y) > truth.log_prob(X, truth.mean(X))).all()


def test_share_of_the_elbow_up():
    _, y, truth = make_two_valued(4000, up_share=0.9, random_state=0, return_truth=True)
    assert 0.88 < (y > 0).mean() < 0.92
    np.testing.assert_array_equal(truth.expert == 0, y > 0)
    x, angle = np.full((1, 1), 0.6), truth.angle(np.full((1, 1), 0.6))
    up, down = truth.log_prob(x, angle), truth.log_prob(x, -angle)
    assert np.exp(up - down) == pytest.approx(9.0)
    assert truth.mean(x) == pytest.approx(0.8 * angle)


def test_regimes_tell_their_story():
    table = make_regimes(8000, random_state=0)
    assert table.data.shape == (8000, 4)
    assert table.feature_names == ["temperature", "wind", "daylight", "working_day"]
    assert table.regime_names == ["heating", "mild", "cooling", "closed"]
    assert min((table.regime == name).mean() for name in table.regime_names) > 0.05
    temperature, working = table.data[:, 0], table.data[:, 3]
    assert set(working) == {0.0, 1.0}
    middle = [temperature[table.regime == n].mean() for n in table.regime_names[:3]]
    assert middle == sorted(middle)
    assert (table.regime[working == 0] == "closed").mean() > 0.6
    assert (table.regime[working == 1] == "closed").mean() < 0.02
    assert table.target.min() > 0
    np.testing.assert_array_equal(
        np.array(table.regime_names)[table.truth.expert], table.regime
    )
    assert "megawatts" in table.DESCR


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (make_piecewise_linear, {"n_samples": 0}, "n_samples .* >= 1, got 0"),
        (make_piecewise_linear, {"n_pieces": 2.0}, "n_pieces .* got 2.0"),
        (make_piecewise_linear, {"noise": 0.0}, "noise must be a positive .* got 0.0"),
        (make_piecewise_linear, {"noise": [1.0, 2.0]}, "or 4 of them, got"),
        (make_mixture_regression, {"noise": np.nan}, "noise must be .* got nan"),
        (make_mixture_regression, {"n_features": 0}, "n_features .* got 0"),
        (make_mixture_regression, {"n_experts": True}, "n_experts .* got True"),
        (make_mixture_regression, {"gate_scale": -1}, "gate_scale .* got -1"),
        (make_mixture_classification, {"n_classes": 1}, "n_classes .* >= 2, got 1"),
        (make_mixture_classification, {"coef_scale": 0}, "coef_scale .* got 0"),
        (make_two_valued, {"up_share": 1.0}, "up_share .* below 1, got 1.0"),
        (make_two_valued, {"noise": "big"}, "noise .* got 'big'"),
        (make_regimes, {"n_samples": -3}, "n_samples .* got -3"),
    ],
)
def test_bad_arguments(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


TABLES = {
    load_mcycle: ((133, 1), "accel", "milliseconds"),
    load_concrete: ((1030, 8), "compressive_strength", "CC BY 4.0"),
    load_sunspots: ((309, 1), "sunspots", "SIDC"),
}


@pytest.mark.parametrize("load", TABLES)
def test_tables(load):
    shape, target, phrase = TABLES[load]
    table = load()
    assert table.data.shape == shape
    assert table.target.shape == shape[:1]
    assert table.data.dtype == table.target.dtype == np.float64
    assert np.isfinite(table.data).all()
    assert np.isfinite(table.target).all()
    assert len(table.feature_names) == shape[1]
    assert table.target_names == [target]
    assert phrase in table.DESCR
    assert "#" not in table.DESCR
    assert table.frame is None
    X, y = load(return_X_y=True)
    np.testing.assert_array_equal(X, table.data)
    np.testing.assert_array_equal(y, table.target)
    assert X.flags.c_contiguous
    assert y.flags.c_contiguous


@pytest.mark.parametrize("load", TABLES)
def test_tables_as_frames(load):
    plain, table = load(), load(as_frame=True)
    assert list(table.data.columns) == plain.feature_names
    assert table.target.name == plain.target_names[0]
    assert list(table.frame.columns) == plain.feature_names + plain.target_names
    np.testing.assert_array_equal(table.data.to_numpy(), plain.data)
    X, y = load(return_X_y=True, as_frame=True)
    assert X.equals(table.data)
    assert y.equals(table.target)


@pytest.mark.parametrize("load", TABLES)
def test_frames_need_pandas(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert load().frame is None
    with pytest.raises(ImportError, match="as_frame=True needs pandas"):
        load(as_frame=True)


def test_mcycle_is_the_published_table():
    X, y = load_mcycle(return_X_y=True)
    assert (X[0, 0], y[0]) == (2.4, 0.0)
    assert (X[-1, 0], y[-1]) == (57.6, 10.7)
    assert (np.diff(X[:, 0]) >= 0).all()
    assert np.unique(X).size == 94
    assert (y.min(), y.max()) == (-134.0, 75.0)


def test_concrete_is_the_published_table():
    table = load_concrete()
    first = [540.0, 0.0, 0.0, 162.0, 2.5, 1040.0, 676.0, 28.0]
    assert table.data[0].tolist() == first
    assert table.target[0] == 79.99
    column = dict(zip(table.feature_names, table.data.T, strict=True))
    assert (column["age"].min(), column["age"].max()) == (1.0, 365.0)
    assert (column["cement"].min(), column["cement"].max()) == (102.0, 540.0)
    assert (column["water"].min(), column["water"].max()) == (121.8, 247.0)
    assert (table.target.min(), table.target.max()) == (2.33, 82.6)
    # More cement, stronger concrete; more water, weaker.
    assert np.corrcoef(column["cement"], table.target)[0, 1] > 0.4
    assert np.corrcoef(column["water"], table.target)[0, 1] < -0.2


def test_sunspots_are_the_classical_series():
    table = load_sunspots()
    np.testing.assert_array_equal(table.years, np.arange(1700, 2009))
    np.testing.assert_array_equal(table.data[:, 0], table.years)
    year = dict(zip(table.years.tolist(), table.target, strict=True))
    # The revised series of 2015 has 269.3 in 1957 and 218.9 in 1980.
    assert (year[1700], year[1957], year[1980], year[2008]) == (5.0, 190.2, 154.6, 2.9)
    assert (table.target.min(), table.target.max()) == (0.0, 190.2)
    # The variance that the papers divide errors by.
    assert table.target[:280].var() == pytest.approx(1495.594, abs=1e-3)


def test_sunspots_with_lags():
    series = load_sunspots().target
    table = load_sunspots(12)
    assert table.data.shape == (297, 12)
    assert table.data.flags.c_contiguous
    assert table.years[0] == 1712
    np.testing.assert_array_equal(table.target, series[12:])
    for row in (0, 7, 296):
        np.testing.assert_array_equal(table.data[row], series[row : row + 12][::-1])
    assert table.feature_names == [f"lag_{lag}" for lag in range(1, 13)]
    X, y = load_sunspots(308, return_X_y=True)
    np.testing.assert_array_equal(X, series[:308][None, ::-1])
    np.testing.assert_array_equal(y, series[308:])


def test_sunspots_as_frame_are_indexed_by_year():
    table, plain = load_sunspots(2, as_frame=True), load_sunspots(2)
    assert list(table.frame.columns) == ["lag_1", "lag_2", "sunspots"]
    np.testing.assert_array_equal(table.frame.index, plain.years)
    np.testing.assert_array_equal(table.data, plain.data)
    assert table.target.loc[1957] == 190.2
    assert table.data.loc[1957, "lag_1"] == plain.target[1956 - 1702]


@pytest.mark.parametrize(
    ("n_lags", "message"),
    [
        (-1, "n_lags must be an integer >= 0, got -1"),
        (1.5, "n_lags must be an integer >= 0, got 1.5"),
        (309, "n_lags must be below the 309 years of the series, got 309"),
    ],
)
def test_sunspots_with_bad_lags(n_lags, message):
    with pytest.raises(ValueError, match=message):
        load_sunspots(n_lags)


def test_census_income_is_a_sample_with_the_tasks_of_the_paper():
    table, test = load_census_income(), load_census_income(subset="test")
    assert table.data.shape == (20000, 38)
    assert test.data.shape == (6000, 38)
    assert list(table.data.dtypes) == list(test.data.dtypes)
    kinds = table.data.dtypes.astype(str)
    assert (kinds == "float64").sum() == 7
    assert (kinds == "category").sum() == 31
    assert not {"education", "marital_status", "income"} & set(table.feature_names)
    assert table.target_names == ["income", "college", "never_married"]
    assert set(np.unique(table.target)) == {0, 1}
    # Shares and correlation of the whole table: 6.2 %, 43.4 % and -0.178.
    assert table.target["income"].mean() == pytest.approx(0.062, abs=0.004)
    assert table.target["never_married"].mean() == pytest.approx(0.434, abs=0.01)
    correlation = np.corrcoef(table.target["income"], table.target["never_married"])
    assert correlation[0, 1] == pytest.approx(-0.178, abs=0.02)
    degrees = table.frame["education"][table.target["college"] == 1]
    assert "Doctorate degree(PhD EdD)" in set(degrees)
    assert "High school graduate" not in set(degrees)
    assert table.data["migration_msa"].isna().mean() == pytest.approx(0.5, abs=0.02)
    assert "?" not in set(table.data["migration_msa"])
    assert (table.data["age"].min(), table.data["age"].max()) == (0.0, 90.0)
    assert "instance weight" in table.DESCR
    assert "#" not in table.DESCR


def test_kuairand_is_a_log_in_order_of_time():
    table = load_kuairand()
    assert table.data.shape == (41828, 4)
    assert table.target.shape == (41828, 6)
    assert table.frame["date"].is_monotonic_increasing
    assert table.frame["date"].nunique() == 14
    assert table.data["user_id"].nunique() == 664
    assert table.data["hour"].between(0, 23).all()
    duration = table.data["duration_ms"]
    assert duration.min() > 0
    assert duration.isna().mean() == pytest.approx(0.185, abs=0.001)
    reactions = table.target.drop(columns="play_time_ms")
    assert set(np.unique(reactions)) == {0, 1}
    assert reactions["is_follow"].sum() == 304
    played = table.target["play_time_ms"].groupby(reactions["is_click"]).median()
    assert played[1] > 5 * played[0]
    assert "CC BY-SA 4.0" in table.DESCR


@pytest.mark.parametrize("load", [load_census_income, load_kuairand])
def test_task_tables_as_pairs(load):
    table = load()
    X, y = load(return_X_y=True)
    assert X.equals(table.data)
    assert y.equals(table.target)
    assert list(X) == table.feature_names
    assert list(y) == table.target_names


@pytest.mark.parametrize("load", [load_census_income, load_kuairand])
def test_task_tables_need_pandas(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=f"{load.__name__} needs pandas"):
        load()


def test_unknown_subset():
    with pytest.raises(ValueError, match="subset must be 'train' or 'test', got 'all'"):
        load_census_income(subset="all")


def test_every_table_has_its_origin_and_licence_stated():
    folder = resources.files("skmoe") / "data"
    notice = (folder / "README.md").read_text(encoding="utf-8")
    tables = [item.name for item in folder.iterdir() if ".csv" in item.name]
    assert sorted(tables) == [
        "census_income.csv.gz",
        "concrete.csv",
        "kuairand.csv.gz",
        "mcycle.csv",
        "sunspots.csv",
    ]
    for name in tables:
        assert f"`{name}`" in notice
    assert "CC BY 4.0" in notice
    assert "CC BY-SA 4.0" in notice


def test_public_names():
    assert sorted(datasets.__all__) == datasets.__all__
    assert all(hasattr(datasets, name) for name in datasets.__all__)
