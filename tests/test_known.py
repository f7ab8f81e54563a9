"""Offsets, exposures and trials inside mixtures: columns of X and arrays beside it."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skmoe import HierarchicalMixtureOfExpertsRegressor
from skmoe.experts import (
    BinomialExpert,
    GammaExpert,
    LinearExpert,
    NegativeBinomialExpert,
    PointMassExpert,
    PoissonExpert,
)
from skmoe.gates import ConstantGate, GaussianGate
from tests._asserts import assert_climbs
from tests._quick import regressor

N_ROWS = 150


@pytest.fixture
def counts(rng):
    """Return a frame of x and hours, and counts of two regimes."""
    x, hours = rng.normal(size=N_ROWS), rng.uniform(0.5, 3.0, size=N_ROWS)
    rate = np.exp(np.where(x > 0, 1.0 + 0.3 * x, 0.2 - 0.5 * x))
    return pd.DataFrame({"x": x, "hours": hours}), rng.poisson(hours * rate) * 1.0


def quick(experts=None, **kwargs):
    return regressor(experts, **({"max_iter": 200} | kwargs))


def tree(experts, **kwargs):
    kwargs = {"depth": 1, "init": "kmeans", "max_iter": 200} | kwargs
    return HierarchicalMixtureOfExpertsRegressor(experts, random_state=0, **kwargs)


# -- columns and arrays are the same ---------------------------------------------


@pytest.mark.parametrize("make", [quick, tree])
@pytest.mark.parametrize("family", [PoissonExpert, NegativeBinomialExpert])
def test_columns_and_arrays_are_one_fit(counts, make, family):
    X, y = counts
    log_hours = np.log(X["hours"])
    beside = make(family()).fit(X[["x"]], y, offset=log_hours)
    wanted = beside.predict(X[["x"]], offset=log_hours)
    fits = [
        (family(exposure="hours"), X),
        (family(exposure=1), X.to_numpy()),
        (family(exposure=-1), X.to_numpy()),
        (family(offset="hours"), X.assign(hours=log_hours)),
        (family(offset=0), np.column_stack([log_hours, X["x"]])),
    ]
    for expert, table in fits:
        model = make(expert).fit(table, y)
        assert_climbs(model.objective_trace_)
        assert_allclose(model.objective_trace_[-1], beside.objective_trace_[-1])
        assert_allclose(model.predict(table), wanted, rtol=1e-6)
        assert_allclose(
            model.log_likelihood(table, y),
            beside.log_likelihood(X[["x"]], y, offset=log_hours),
        )


def test_trials_as_column_and_array(counts, rng):
    X, _ = counts
    trials = rng.integers(1, 12, size=N_ROWS).astype(float)
    success = rng.binomial(trials.astype(int), 1 / (1 + np.exp(-2 * X["x"]))) * 1.0
    table = X[["x"]].assign(n=trials)
    beside = quick(BinomialExpert()).fit(X[["x"]], success, trials=trials)
    wanted = beside.predict(X[["x"]], trials=trials)
    for expert, rows in (
        (BinomialExpert(trials="n"), table),
        (BinomialExpert(trials=1), table.to_numpy()),
    ):
        model = quick(expert).fit(rows, success)
        assert_allclose(model.predict(rows), wanted, rtol=1e-6)
    twice = model.predict(np.column_stack([X["x"], 2.0 * trials]))
    assert_allclose(twice, 2.0 * wanted, rtol=1e-6)
    both = quick(BinomialExpert(offset="o", trials="n"))
    both.fit(table.assign(o=0.5 * X["x"]), success)
    given = quick(BinomialExpert()).fit(
        X[["x"]], success, trials=trials, offset=0.5 * X["x"]
    )
    assert_allclose(both.objective_trace_[-1], given.objective_trace_[-1])


def test_one_expert_is_the_expert_alone(counts):
    X, y = counts
    model = quick(PoissonExpert(alpha=0, exposure="hours"), n_experts=1).fit(X, y)
    alone = PoissonExpert(alpha=0, exposure="hours").fit(X, y)
    assert_allclose(model.predict(X), alone.predict(X), rtol=1e-5)
    # Under the protocol known quantities are the last columns.
    rows = np.column_stack([X["x"], np.log(X["hours"])])
    assert_allclose(model.log_prob(X, y), alone.log_prob(rows, y), atol=1e-5)


@pytest.mark.parametrize("make", [quick, tree])
def test_predictions_scale_with_the_exposure(counts, make):
    X, y = counts
    model = make(PoissonExpert(exposure="hours")).fit(X, y)
    other = X.assign(hours=3.0 * X["hours"])
    assert_allclose(model.predict(other), 3.0 * model.predict(X))
    law = model.predict_distribution(other)
    assert_allclose(law.mean, 3.0 * model.predict(X))
    assert_allclose(model.predict_experts(other), 3.0 * model.predict_experts(X))


def test_gates_see_no_known_columns(counts):
    X, y = counts
    other = X.assign(hours=X["hours"][::-1].to_numpy())
    for gate in (None, GaussianGate()):
        model = quick(PoissonExpert(exposure="hours"), gate=gate).fit(X, y)
        assert_array_equal(model.gate_proba(other), model.gate_proba(X))
        assert_array_equal(model.apply(other), model.apply(X))
    named = quick(PoissonExpert(exposure="hours"), gate_features=["hours"]).fit(X, y)
    assert abs(named.gate_proba(other) - named.gate_proba(X)).max() > 0.0
    # Beside X they are not needed to ask the gate.
    beside = quick(PoissonExpert()).fit(X[["x"]], y, offset=np.log(X["hours"]))
    assert_allclose(beside.gate_proba(X[["x"]]).sum(axis=1), 1.0)
    assert beside.apply(X[["x"]]).shape == (N_ROWS,)


def test_experts_of_several_kinds(counts):
    X, y = counts
    experts = [
        ("zero", PointMassExpert()),
        ("hours", PoissonExpert(exposure="hours")),
        ("plain", NegativeBinomialExpert()),
    ]
    model = quick(experts, init="auto", max_iter=100)
    y[::7] = 0.0
    model.fit(X, y)
    names = model._plan.engine_names()
    views = [
        [names[j] for j in columns or range(len(names))]
        for columns in model.node_.columns
    ]
    assert views[1] == ["x", "log hours"]
    assert views[2] == ["x", "hours"]
    assert np.isfinite(model.predict(X)).all()


def test_weight_zero_rows_and_their_exposure(counts):
    X, y = counts
    weight = np.ones(N_ROWS)
    weight[:3] = 0.0
    bad = X.assign(hours=np.where(weight > 0, X["hours"], -1.0))
    start = (X["x"] > 0).astype(int).to_numpy()
    model = quick(PoissonExpert(exposure="hours"), init=start).fit(bad, y, weight)
    rest = quick(PoissonExpert(exposure="hours"), init=start[3:]).fit(X[3:], y[3:])
    assert_allclose(model.predict(X), rest.predict(X), rtol=1e-8)


def test_with_groups(counts):
    X, y = counts
    names = np.arange(N_ROWS) // 3
    offset = np.log(X["hours"])
    column = quick(PoissonExpert(exposure="hours")).fit(X, y, groups=names)
    beside = quick(PoissonExpert()).fit(X[["x"]], y, offset=offset, groups=names)
    assert_allclose(column.objective_trace_[-1], beside.objective_trace_[-1])
    assert_allclose(
        column.bic(X, y, groups=names),
        beside.bic(X[["x"]], y, groups=names, offset=offset),
    )
    assert_allclose(
        column.responsibilities(X, y, groups=names),
        beside.responsibilities(X[["x"]], y, groups=names, offset=offset),
        atol=1e-6,
    )


def test_behind_a_transformer(counts):
    X, y = counts
    log_hours = np.log(X["hours"])
    kwargs = {"max_iter": 400}
    steps = PolynomialFeatures(2, include_bias=False)
    model = quick(make_pipeline(steps, PoissonExpert(exposure="hours")), **kwargs)
    model.fit(X, y)
    beside = quick(make_pipeline(steps, PoissonExpert()), **kwargs)
    beside.fit(X[["x"]], y, offset=log_hours)
    wanted = beside.predict(X[["x"]], offset=log_hours)
    assert_allclose(model.predict(X), wanted, rtol=1e-5)
    other = X.assign(hours=2.0 * X["hours"])
    assert_allclose(model.predict(other), 2.0 * model.predict(X))


# -- what is refused -------------------------------------------------------------

POISSON = PoissonExpert(exposure="hours")


@pytest.mark.parametrize(
    ("experts", "offset", "message"),
    [
        (PoissonExpert(), lambda h: h[:-1], r"offset must be of shape \(150,\)"),
        (PoissonExpert(), lambda h: h.to_frame(), r"got shape \(150, 1\)"),
        (
            PoissonExpert(),
            lambda h: np.where(np.arange(N_ROWS) == 4, np.nan, h),
            "offset must be finite, got nan in row 4",
        ),
        (
            PoissonExpert(),
            lambda h: np.where(np.arange(N_ROWS) == 4, np.inf, h),
            "offset must be finite, got inf in row 4",
        ),
        (POISSON, lambda h: h, r"the offset is given 2 times \(\['exposure', 'an"),
        (
            PoissonExpert(offset="x", exposure="hours"),
            lambda h: None,
            r"the offset is given 2 times \(\['offset', 'exposure'\]\)",
        ),
        (LinearExpert(), lambda h: h, "offset was given, but no expert takes it"),
        (
            PoissonExpert(exposure="days"),
            lambda h: None,
            r"exposure of expert 'expert0': no column 'days' in X",
        ),
        (
            PoissonExpert(exposure=5),
            lambda h: None,
            "exposure of expert 'expert0': column 5 does not exist",
        ),
    ],
)
def test_bad_offsets(counts, experts, offset, message):
    X, y = counts
    with pytest.raises(ValueError, match=message):
        quick(experts).fit(X, y, offset=offset(X["hours"]))


def test_trials_that_no_expert_takes(counts):
    X, y = counts
    with pytest.raises(ValueError, match="trials was given, but no expert takes it"):
        quick(PoissonExpert()).fit(X, y, trials=X["hours"])


def test_what_predict_must_be_given(counts):
    X, y = counts
    offset = np.log(X["hours"])
    beside = quick(PoissonExpert()).fit(X[["x"]], y, offset=offset)
    calls = [
        lambda **known: beside.predict(X[["x"]], **known),
        lambda **known: beside.score(X[["x"]], y, **known),
        lambda **known: beside.log_prob(X[["x"]], y, **known),
        lambda **known: beside.predict_distribution(X[["x"]], **known),
        lambda **known: beside.bic(X[["x"]], y, **known),
        lambda **known: beside.predict_experts(X[["x"]], **known),
        lambda **known: beside.responsibilities(X[["x"]], y, **known),
    ]
    for call in calls:
        call(offset=offset)
        with pytest.raises(ValueError, match=r"fit got \['offset'\] beside X, so give"):
            call()
        with pytest.raises(ValueError, match=r"offset must be of shape \(150,\)"):
            call(offset=offset[:2])
        with pytest.raises(ValueError, match=r"got \['offset', 'trials'\]"):
            call(offset=offset, trials=offset)
    column = quick(POISSON).fit(X, y)
    with pytest.raises(ValueError, match="fit got neither offset nor trials beside X"):
        column.predict(X, offset=offset)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_exposures_must_be_positive(counts, value):
    X, y = counts
    bad = X.assign(hours=np.where(np.arange(N_ROWS) == 7, value, X["hours"]))
    message = "column 'hours', .* must be positive in every row; it is not in row 7"
    with pytest.raises(ValueError, match=message):
        quick(POISSON).fit(bad, y)
    # Rows are counted as the user does.
    weight = (np.arange(N_ROWS) > 2).astype(float)
    with pytest.raises(ValueError, match=message):
        quick(POISSON).fit(bad, y, weight)
    model = quick(POISSON).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.predict(bad)


def test_offset_columns_must_have_no_gaps(counts):
    X, y = counts
    bad = X.assign(hours=np.where(np.arange(N_ROWS) == 7, np.nan, X["hours"]))
    with pytest.raises(ValueError, match="must be a finite number in every row"):
        quick(PoissonExpert(offset="hours")).fit(bad, y)


@pytest.mark.parametrize(
    ("expert", "spoil", "message"),
    [
        (PoissonExpert(), -1.0, r"needs counts y >= 0. Got y = -1 in row 5"),
        (NegativeBinomialExpert(), -2.0, r"needs counts y >= 0. Got y = -2 in row 5"),
        (GammaExpert(), 0.0, r"needs responses y > 0. Got y = 0 in row 5"),
        (BinomialExpert(), 99.0, r"0 <= y <= trials. Got y = 99 in row 5"),
    ],
)
def test_responses_that_cannot_be(counts, expert, spoil, message):
    X, y = counts
    y = np.where(np.arange(N_ROWS) == 5, spoil, y + 1.0)
    trials = {"trials": np.full(N_ROWS, 90.0)}
    beside = trials if isinstance(expert, BinomialExpert) else {}
    with pytest.raises(ValueError, match=message):
        quick(expert).fit(X, y, **beside)
    weight = (np.arange(N_ROWS) > 2).astype(float)  # the row keeps its number
    with pytest.raises(ValueError, match=message):
        quick(expert).fit(X, y, weight, **beside)
    weight[5] = 0.0  # a row of no weight may be anything
    quick(expert).fit(X, y, weight, **beside)


def test_no_expert_for_a_whole_group(counts):
    X, y = counts
    y = y + 0.5
    y[::2] = 0.0
    experts = [("zero", PointMassExpert()), ("more", GammaExpert())]
    alone = quick(experts, init="auto").fit(X, y)
    assert np.isfinite(alone.predict(X)).all()
    with pytest.raises(
        ValueError, match="explain all rows of one group: that of row 0"
    ):
        quick(experts, init="auto").fit(X, y, groups=np.arange(N_ROWS) // 2)
    whole = np.where(y == 0, 0, 1 + np.arange(N_ROWS) // 30)
    quick(experts, init="auto").fit(X, y, groups=whole)


def test_columns_that_cannot_be_known(counts):
    X, y = counts
    kinds = pd.Categorical(np.where(X["hours"] > 1, 1, 2))
    with pytest.raises(ValueError, match=r"'hours' of X .* it is categorical"):
        quick(POISSON).fit(X.assign(hours=kinds), y)
    with pytest.raises(ValueError, match=r"'x1' of X .* it is sparse"):
        quick(PoissonExpert(exposure=1)).fit(sparse.csr_array(X.to_numpy()), y)
    with pytest.raises(ValueError, match=r"\['offset'\] need a dense X"):
        quick(PoissonExpert()).fit(sparse.csr_array(X.to_numpy()), y, offset=y)
    with pytest.raises(ValueError, match="no column of X is left for the gate"):
        quick(POISSON).fit(X[["hours"]], y)
    alone = quick(POISSON, gate=ConstantGate()).fit(X[["hours"]], y)
    assert alone.predict(X[["hours"]]).std() > 0.1


# -- around a fit ----------------------------------------------------------------


def test_columns_go_through_validation(counts):
    X, y = counts
    scores = cross_validate(quick(POISSON), X, y, cv=3, error_score="raise")
    assert scores["test_score"].mean() > 0.2
    search = GridSearchCV(quick(POISSON), {"n_experts": [1, 2]}, error_score="raise")
    assert search.fit(X, y).predict(X).shape == (N_ROWS,)


def test_arrays_are_routed(counts):
    X, y = counts
    offset, names = np.log(X["hours"]), np.arange(N_ROWS) // 2
    with config_context(enable_metadata_routing=True):
        model = quick(PoissonExpert())
        model.set_fit_request(offset=True, groups=True).set_score_request(offset=True)
        params = {"offset": offset, "groups": names}
        scores = cross_validate(
            model, X[["x"]], y, cv=GroupKFold(3), params=params, error_score="raise"
        )
        by_hand = []
        for train, test in GroupKFold(3).split(X, y, names):
            fold = quick(PoissonExpert()).fit(
                X[["x"]].iloc[train],
                y[train],
                offset=offset[train],
                groups=names[train],
            )
            by_hand.append(
                fold.score(X[["x"]].iloc[test], y[test], offset=offset[test])
            )
        assert_allclose(scores["test_score"], by_hand, rtol=1e-10)
        search = GridSearchCV(model, {"n_experts": [1, 2]}, cv=3, error_score="raise")
        search.fit(X[["x"]], y, **params)
        asks = quick(PoissonExpert()).set_fit_request(offset=True)
        asks.set_predict_request(offset=True)
        pipe = make_pipeline(StandardScaler(), asks).fit(X[["x"]], y, offset=offset)
        assert np.isfinite(pipe.predict(X[["x"]], offset=offset)).all()


def test_a_failed_fit_leaves_all_as_it_was(counts):
    X, y = counts
    model = quick(POISSON).fit(X, y)
    wanted = model.predict(X)
    with pytest.raises(ValueError, match="must be positive"):
        model.fit(X.assign(hours=-1.0), y)
    assert_array_equal(model.predict(X), wanted)
