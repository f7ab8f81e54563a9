"""Forecasts of several steps: exact laws, simulated paths, inputs that are fed back."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from skmoe.gates import ConstantGate
from tests.sequence.regimes import classifier, regressor, switching

N_PATHS = 20_000


@pytest.fixture(scope="module")
def series():
    return switching(np.random.default_rng(0), 150)


@pytest.fixture(scope="module")
def model(series):
    X, y, _ = series
    return regressor().fit(X, y)


@pytest.fixture(scope="module")
def future():
    return np.random.default_rng(9).normal(size=(6, 2))


def test_the_law_of_each_step(model, future):
    found = model.forecast(future, n_paths=5)
    law = model.final_state_proba_[-1]
    for step, matrix in enumerate(model.transition_proba(future)):
        law = law @ matrix
        assert_allclose(found.state_proba[step], law)
    mean = (found.state_proba * model.predict_experts(future)).sum(axis=1)
    assert_allclose(found.mean, mean)
    assert_allclose(found.std**2, found.distribution.variance)
    assert_allclose(found.quantile(0.3), found.distribution.quantile(0.3))
    assert_allclose(found.interval(0.8), found.quantile([0.1, 0.9]))
    assert len(found) == 6
    assert repr(found) == "Forecast(n_steps=6, n_paths=5, laws exact)"


def test_it_is_what_a_longer_series_without_responses_says(model, series, future):
    X, y, _ = series
    both = np.vstack([X, future])
    lacking = np.concatenate([y, np.full(6, np.nan)])
    found = model.forecast(future, n_paths=2)
    assert_allclose(found.state_proba, model.gate_proba(both, lacking)[150:])
    assert_allclose(found.mean, model.predict(both, lacking)[150:])


def test_paths_have_the_laws_of_the_steps(model, future):
    found = model.forecast(future, n_paths=N_PATHS, random_state=0)
    assert found.paths.shape == found.states.shape == (N_PATHS, 6)
    share = np.mean(found.states == 1, axis=0)
    assert_allclose(share, found.state_proba[:, 1], atol=0.02)
    assert_allclose(found.paths.mean(axis=0), found.mean, atol=0.06)
    assert_allclose(found.paths.std(axis=0), found.std, rtol=0.05)
    # And of pairs of steps: how often state 1 is kept, among its paths.
    kept = model.transition_proba(future)[3, 1, 1]
    came = found.states[:, 2] == 1
    assert_allclose(np.mean(found.states[came, 3] == 1), kept, atol=0.03)
    means = model.predict_experts(future)
    for k in (0, 1):
        there = found.states[:, 4] == k
        spread = np.sqrt(model.experts_[k].dispersion)
        mean = found.paths[there, 4].mean()
        assert abs(mean - means[4, k]) < 6.0 * spread / np.sqrt(there.sum())


def test_paths_that_feed_back_nothing_are_those_of_the_law(model, future):
    exact = model.forecast(future, n_paths=2)
    found = model.forecast(
        future, feedback=lambda x, y: x, n_paths=N_PATHS, random_state=0
    )
    assert found.distribution is None
    assert_allclose(found.state_proba, exact.state_proba, atol=0.02)
    assert_allclose(found.mean, exact.mean, atol=0.06)
    assert_allclose(found.std, exact.std, rtol=0.05)
    assert_allclose(found.interval(), exact.interval(), atol=0.3)
    assert found.quantile(0.5).shape == (6,)
    assert "laws from paths" in repr(found)


def test_lags_are_fed_back(rng):
    y = np.zeros(300)
    for t in range(1, 300):
        y[t] = 0.8 * y[t - 1] + 0.5 * rng.normal()
    model = regressor(n_experts=1).fit(y[:-1, None], y[1:])
    seen = []

    def last(x, so_far):
        seen.append(so_far.copy())
        return so_far[:, -1:] if so_far.shape[1] else np.full_like(x, 4.0)

    found = model.forecast(
        np.zeros((8, 1)), feedback=last, n_paths=4000, random_state=1
    )
    assert [one.shape for one in seen] == [(4000, t) for t in range(8)]
    assert_array_equal(seen[-1], found.paths[:, :7])
    slope, level = model.experts_[0].coef_[0], model.experts_[0].intercept_
    expected, at = [], 4.0
    for _ in range(8):
        at = level + slope * at
        expected.append(float(at))
    assert_allclose(found.mean, expected, atol=0.06)
    # The longer ahead, the less is known.
    assert (np.diff(found.std) > -0.02).all()
    assert found.std[-1] > 1.3 * found.std[0]


@pytest.mark.parametrize(
    "table", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"]
)
def test_frames_are_fed_back(table, series, future):
    X, y, _ = series
    names = ["a", "b"]
    kept = {name: X[:, j] for j, name in enumerate(names)}
    model = regressor().fit(table(kept), y)
    ahead = table({name: future[:, j] for j, name in enumerate(names)})
    found = model.forecast(ahead, feedback=lambda x, y: x, n_paths=7, random_state=0)
    plain = (
        regressor()
        .fit(X, y)
        .forecast(future, feedback=lambda x, y: x, n_paths=7, random_state=0)
    )
    assert_allclose(found.paths, plain.paths)
    assert_allclose(
        model.forecast(ahead).mean, regressor().fit(X, y).forecast(future).mean
    )


def test_nothing_to_know_of_the_future(series):
    X, y, _ = series
    model = regressor(gate_features=[], expert_features=[]).fit(X, y)
    found = model.forecast(n_steps=300, n_paths=3)
    matrix = model.transition_proba(X[:1])[0]
    law = np.linalg.matrix_power(matrix.T, 300)[:, 0]
    assert_allclose(found.state_proba[-1], law, atol=1e-6)
    assert found.paths.shape == (3, 300)
    with pytest.raises(ValueError, match="give n_steps, or X_future"):
        model.forecast()


def test_columns_that_no_part_sees_need_not_be_known(series):
    X, y, _ = series
    table = pd.DataFrame(
        {"a": X[:, 0], "b": pd.Categorical(list("uv") * (len(y) // 2))}
    )
    table.loc[3, "a"] = np.nan
    alone = regressor(gate_features=[], expert_features=[])
    expected = alone.fit(X, y).forecast(n_steps=4, random_state=0)
    found = alone.fit(table, y).forecast(n_steps=4, random_state=0)
    assert_allclose(found.mean, expected.mean)
    assert_allclose(found.paths, expected.paths)


@pytest.mark.parametrize(
    "options", [{}, {"gate": ConstantGate()}, {"expert_features": []}]
)
def test_inputs_of_the_future_are_needed(options, series):
    X, y, _ = series
    model = regressor(**options).fit(X, y)
    with pytest.raises(ValueError, match="forecast needs the inputs of the rows to"):
        model.forecast(n_steps=3)


def test_a_feedback_makes_all_inputs(series):
    X, y, _ = series
    model, seen = regressor().fit(X, y), []

    def rows(x, so_far):
        seen.append(x)
        return np.full((len(so_far), 2), 0.1 * so_far.shape[1])

    found = model.forecast(n_steps=5, feedback=rows, n_paths=9, random_state=0)
    assert seen == [None] * 5
    same = np.repeat(0.1 * np.arange(5)[:, None], 2, axis=1)
    plain = model.forecast(same, feedback=lambda x, y: x, n_paths=9, random_state=0)
    assert_allclose(found.paths, plain.paths)
    with pytest.raises(ValueError, match="give n_steps, or X_future"):
        model.forecast(feedback=rows)


@pytest.mark.parametrize(
    ("made", "shape"),
    [(np.zeros((3, 2)), "(3, 2)"), (np.zeros(4), "(4,)"), (None, "()")],
)
def test_a_feedback_that_makes_other_rows(made, shape, model, future):
    message = f"feedback must return .* 4 paths, of shape (4, 2), got shape {shape}"
    message = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=message):
        model.forecast(future, feedback=lambda x, y: made, n_paths=4)


@pytest.mark.parametrize("number", [0, -1, 2.5])
def test_numbers_of_steps_and_paths(number, series, future):
    X, y, _ = series
    model = regressor(gate_features=[], expert_features=[]).fit(X, y)
    with pytest.raises(ValueError, match=f"n_steps must be .* got {number}"):
        model.forecast(n_steps=number)
    with pytest.raises(ValueError, match=f"n_paths must be .* got {number}"):
        model.forecast(future, n_paths=number)


def test_before_the_fit(future):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        regressor().forecast(future)


@pytest.mark.parametrize("n_steps", [0, 7, -1, 2.5])
def test_steps_beyond_the_inputs(n_steps, model, future):
    with pytest.raises(ValueError, match=f"from 1 to the 6 rows .* got {n_steps}"):
        model.forecast(future, n_steps)


def test_fewer_steps_than_rows(model, future):
    found = model.forecast(future, 2, n_paths=4)
    assert len(found) == 2
    assert_allclose(found.mean, model.forecast(future).mean[:2])
    assert model.forecast(future.tolist(), 2).mean.shape == (2,)


def test_from_where_it_goes_on(model, series, future):
    X, y, _ = series
    last = model.filter(X[:40], y[:40])[-1]
    found = model.forecast(future, previous=last, n_paths=2)
    assert_allclose(found.mean, model.predict(future, previous=last))
    sure = model.forecast(
        future, previous=[0.0, 1.0], n_paths=N_PATHS, feedback=lambda x, y: x
    )
    exact = model.forecast(future, previous=[0.0, 1.0])
    assert_allclose(sure.state_proba, exact.state_proba, atol=0.02)
    with pytest.raises(ValueError, match="previous must hold"):
        model.forecast(future, previous=[2.0, 1.0])
    with pytest.raises(ValueError, match="previous must hold"):
        model.forecast(future, previous=[2.0, 1.0], feedback=lambda x, y: x)


def test_the_seed_draws_the_paths(model, future):
    one, other, third = (
        model.forecast(future, n_paths=9, random_state=seed).paths for seed in (0, 0, 1)
    )
    assert_array_equal(one, other)
    assert (one != third).any()


def test_without_a_past(series, future):
    X, y, _ = series
    model = regressor(order=0).fit(X, y)
    found = model.forecast(future, n_paths=N_PATHS, random_state=0)
    assert_allclose(found.mean, model.predict(future))
    assert_allclose(
        np.mean(found.states == 1, axis=0), found.state_proba[:, 1], atol=0.02
    )
    back = model.forecast(future, feedback=lambda x, y: x, n_paths=50, random_state=0)
    assert_allclose(back.state_proba, found.state_proba)


def test_several_outputs(series, future):
    X, y, _ = series
    model = regressor().fit(X, np.column_stack([y, -y]))
    found = model.forecast(future, n_paths=30, random_state=0)
    assert found.paths.shape == (30, 6, 2)
    assert found.mean.shape == (6, 2)
    seen = []
    back = model.forecast(
        future, feedback=lambda x, y: (seen.append(y.shape), x)[1], n_paths=30
    )
    assert back.paths.shape == (30, 6, 2)
    assert seen[1:] == [(30, t, 2) for t in range(1, 6)]


def test_classes(series, future):
    X, y, _ = series
    label = np.where(y > 0, "up", "down")
    model = classifier().fit(X, label)
    found = model.forecast(future, n_paths=4000, random_state=0)
    assert set(found.paths.ravel()) == {"up", "down"}
    assert_allclose(found.mean.sum(axis=1), 1.0)
    share = np.mean(found.paths == model.classes_[1], axis=0)
    assert_allclose(share, found.mean[:, 1], atol=0.04)
    back = model.forecast(future, feedback=lambda x, y: x, n_paths=4000, random_state=0)
    assert_allclose(back.mean, found.mean, atol=0.04)
    for law in (found, back):
        assert list(law.classes) == ["down", "up"]
        with pytest.raises(ValueError, match="classes have no quantiles"):
            law.interval()
        with pytest.raises(ValueError, match="classes have no standard deviation"):
            _ = law.std
