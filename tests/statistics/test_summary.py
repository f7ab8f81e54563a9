"""The summary: its numbers, its names, its text."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.exceptions import UnidentifiedWarning
from skmoe.experts import (
    HeteroscedasticExpert,
    LinearExpert,
    LogisticExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
    UniformExpert,
)
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.statistics import Summary
from tests.statistics.problems import ML, lines, mixture, with_sex


@pytest.fixture(scope="module")
def fitted():
    X, y = lines()
    return mixture().fit(X, y), X, y


@pytest.fixture(scope="module")
def summary(fitted):
    return fitted[0].summary()


def frame_of(summary, part):
    frame = summary.to_frame()
    return frame[frame.part == part].set_index("term")


# -- numbers -----------------------------------------------------------------------


def test_one_expert_is_ordinary_least_squares():
    X, y = lines()
    found = frame_of(mixture(n_experts=1).fit(X, y).summary(), "expert0")
    Z = np.column_stack([np.ones(len(X)), X])
    ols = LinearRegression().fit(X, y)
    variance = np.mean((y - ols.predict(X)) ** 2)
    covariance = variance * np.linalg.inv(Z.T @ Z)
    np.testing.assert_allclose(
        found.estimate, [ols.intercept_, *ols.coef_, variance], rtol=1e-6
    )
    expected = np.sqrt([*np.diag(covariance), 2.0 * variance**2 / len(y)])
    np.testing.assert_allclose(found.std_error, expected, rtol=1e-6)
    z = found.estimate / found.std_error
    np.testing.assert_allclose(found.z[:3], z[:3])
    assert np.isnan(found.z["variance"])
    np.testing.assert_allclose(found.p_value[:3], 2 * stats.norm.sf(np.abs(z[:3])))
    low = found.estimate - stats.norm.ppf(0.975) * found.std_error
    np.testing.assert_allclose(found.lower[:3], low[:3])
    half = stats.norm.ppf(0.975) * found.std_error["variance"] / variance
    np.testing.assert_allclose(found.upper["variance"], variance * np.exp(half))


def test_sandwich_of_one_expert_is_that_of_white():
    X, y = lines()
    found = mixture(n_experts=1).fit(X, y).summary(covariance="sandwich")
    Z = np.column_stack([np.ones(len(X)), X])
    error = y - LinearRegression().fit(X, y).predict(X)
    bread = np.linalg.inv(Z.T @ Z)
    white = bread @ (Z.T * error**2) @ Z @ bread
    # Coefficients and variance are orthogonal in the observed information.
    np.testing.assert_allclose(found.std_errors[:3], np.sqrt(np.diag(white)), rtol=1e-6)


def test_constant_gate_is_the_share_of_the_rows():
    X = np.random.default_rng(0).normal(size=(300, 1))
    y = np.where(np.arange(300) % 3 == 0, -100.0, 100.0) + X[:, 0] ** 2
    model = mixture(gate=ConstantGate()).fit(X, y)
    found = model.summary()
    share = model.gate_proba(X[:1])[0]
    gate = found.to_frame().iloc[0]
    assert gate.part == "gate"
    np.testing.assert_allclose(gate.estimate, np.log(share[1] / share[0]))
    expected = np.sqrt(1 / (300 * share[0] * share[1]))
    np.testing.assert_allclose(gate.std_error, expected, rtol=1e-6)


def test_estimates_are_those_of_the_parts(fitted, summary):
    model = fitted[0]
    for k, expert in enumerate(model.experts_):
        found = frame_of(summary, f"expert{k}").estimate
        expected = [expert.intercept_, *expert.coef_, expert.dispersion]
        np.testing.assert_allclose(found, expected)
    gate = frame_of(summary, "gate")
    slope = model.gate_.coef_[1] - model.gate_.coef_[0]
    start = model.gate_.intercept_[1] - model.gate_.intercept_[0]
    np.testing.assert_allclose(gate.estimate, [start, *slope])
    assert list(gate.output) == ["expert1"] * 3
    assert list(gate.index) == ["intercept", "age", "dose"]


def test_criteria_are_the_model_s_own(fitted, summary):
    model, X, y = fitted
    assert summary.fit.log_likelihood == pytest.approx(model.log_likelihood(X, y))
    for name in ("aic", "bic", "icl"):
        assert getattr(summary.fit, name) == pytest.approx(getattr(model, name)(X, y))
    shares = model.responsibilities(X, y).mean(axis=0)
    np.testing.assert_allclose([row.share for row in summary.experts], shares)


def test_units_of_the_columns_only_rescale(fitted, summary):
    _, X, y = fitted
    other = mixture().fit(X * [10.0, 0.001], 1000.0 * y).summary()
    ours, theirs = summary.to_frame(), other.to_frame()
    np.testing.assert_allclose(theirs.z, ours.z, rtol=1e-3, atol=1e-3)
    variance = ours.term == "variance"
    np.testing.assert_allclose(
        theirs.std_error[variance], 1e6 * ours.std_error[variance], rtol=1e-3
    )


def test_kinds_agree_where_the_model_is_true():
    X, y = lines(n=6000)
    model = mixture().fit(X, y)
    observed = model.summary().std_errors
    for kind in ("opg", "sandwich"):
        other = model.summary(covariance=kind).std_errors
        np.testing.assert_allclose(other, observed, rtol=0.15)


def test_weights_are_repetitions():
    X, y = lines(n=150)
    count = np.random.default_rng(0).integers(1, 4, 150)
    weighted = mixture().fit(X, y, sample_weight=count).summary()
    index = np.repeat(np.arange(150), count)
    repeated = mixture().fit(X.iloc[index], y[index]).summary()
    np.testing.assert_allclose(weighted.std_errors, repeated.std_errors, rtol=1e-4)
    assert weighted.fit.bic == pytest.approx(repeated.fit.bic)
    assert "of weight" in str(weighted)


def test_given_rows_may_be_others(fitted):
    model, X, y = fitted
    same = model.summary(X, y)
    np.testing.assert_allclose(same.std_errors, model.summary().std_errors)
    weight = np.where(np.arange(len(y)) < 200, 1.0, 0.0)
    some = model.summary(X, y, weight)
    part = model.summary(X[:200], y[:200])
    np.testing.assert_allclose(some.std_errors, part.std_errors)
    assert some.fit.n_units == 200


def test_groups_are_the_units():
    X, y = lines(n=300, group=3)
    groups = np.repeat(np.arange(100), 3)
    model = mixture(gate=ConstantGate()).fit(X, y, groups=groups)
    found = model.summary()
    assert found.fit.n_units == 100
    assert "100 groups" in str(found)
    assert found.fit.bic == pytest.approx(model.bic(X, y, groups=groups))
    again = model.summary(X, y, groups=groups)
    np.testing.assert_allclose(found.std_errors, again.std_errors)
    alone = model.summary(X, y)
    assert alone.fit.n_units == 300


def test_one_dispersion_counts_once():
    X, y = lines()
    model = mixture(shared_dispersion=True).fit(X, y)
    frame = model.summary().to_frame()
    spread = frame[frame.term == "variance"]
    assert spread.estimate.nunique() == 1
    np.testing.assert_allclose(spread.std_error, spread.std_error.iloc[0])
    assert model.summary().covariance.shape == (len(frame), len(frame))


def test_level_widens_intervals(fitted):
    model = fitted[0]
    wide, narrow = model.summary(level=0.99), model.summary(level=0.5)
    assert (np.diff(wide.intervals) > np.diff(narrow.intervals)).all()


def test_bootstrap_agrees_with_the_information():
    X, y = lines(n=600)
    model = mixture().fit(X, y)
    found = model.summary(covariance="bootstrap", n_bootstrap=60, random_state=0)
    assert found.draws.shape == (60, len(found.estimates))
    np.testing.assert_allclose(found.std_errors, model.summary().std_errors, rtol=0.4)
    np.testing.assert_allclose(
        found.intervals, np.quantile(found.draws, [0.025, 0.975], axis=0).T
    )
    again = model.summary(covariance="bootstrap", n_bootstrap=60, random_state=0)
    np.testing.assert_array_equal(found.draws, again.draws)
    assert "60 refits" in str(found)


# -- families and shapes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("expert", "terms"),
    [
        (PoissonExpert(alpha=0), []),
        (NegativeBinomialExpert(), ["theta"]),
        (HeteroscedasticExpert(), []),
        (RobustLinearExpert(), ["scale2", "df"]),
    ],
)
def test_families(expert, terms):
    X, y = lines()
    if "oisson" in type(expert).__name__ or "Binomial" in type(expert).__name__:
        y = np.random.default_rng(0).poisson(np.exp(0.5 * y.clip(-3, 3))).astype(float)
    model = mixture(expert, gate=SoftmaxGate(), init="kmeans", tol=1e-7).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnidentifiedWarning)
        frame = model.summary().to_frame()
    own = frame[(frame.part == "expert0") & (frame.kind == "shape")]
    assert list(own.term) == terms
    assert (frame.estimate[frame.kind == "shape"] > 0).all()
    assert len(frame) == model.n_parameters_
    if isinstance(expert, HeteroscedasticExpert):
        assert set(frame[frame.part == "expert0"].output) == {"", "log variance"}


def test_classes_are_compared_with_the_first():
    X, y = lines()
    y = np.array(["low", "mid", "top"])[np.digitize(y, [-2.0, 1.5])]
    model = MixtureOfExpertsClassifier(
        LogisticExpert(alpha=1.0), n_experts=2, init="kmeans", random_state=0
    ).fit(X, y)
    frame = frame_of(model.summary(), "expert1")
    assert list(frame.output) == ["mid"] * 3 + ["top"] * 3
    coef = model.experts_[1].coef_
    np.testing.assert_allclose(
        frame.estimate["age"], [coef[1, 0] - coef[0, 0], coef[2, 0] - coef[0, 0]]
    )
    assert len(model.summary().to_frame()) == model.n_parameters_


def test_outputs_have_names():
    X, y = lines()
    Y = np.column_stack([y, -y + np.random.default_rng(0).normal(size=len(y))])
    model = mixture().fit(X, Y)
    frame = model.summary().to_frame()
    own = frame[frame.part == "expert0"]
    assert list(own.output[own.kind == "slope"]) == ["y0", "y0", "y1", "y1"]
    shapes = own[own.kind == "shape"]
    assert list(shapes.term) == ["variance", "covariance with output 1", "variance"]
    assert list(shapes.output) == ["y0", "y0", "y1"]
    covariance = model.experts_[0].dispersion
    np.testing.assert_allclose(shapes.estimate, covariance[np.triu_indices(2)])


def test_categories_are_compared_with_the_first():
    X, y = lines()
    X = with_sex(X)
    y = y + np.where(X.sex == "m", 1.0, 0.0)
    model = mixture().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # indicators and intercept are collinear
        summary = model.summary()
    frame = frame_of(summary, "expert0")
    assert list(frame.index) == [
        "intercept",
        "age",
        "dose",
        "sex=m",
        "sex=x",
        "variance",
    ]
    # The same model in treatment coding.
    dummies = pd.get_dummies(X, columns=["sex"], drop_first=True, dtype=float)
    other = mixture(init=model.responsibilities(X, y)).fit(dummies, y).summary()
    np.testing.assert_allclose(other.estimates, summary.estimates, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(other.std_errors, summary.std_errors, rtol=1e-3)
    assert any("sex=f" in note for note in summary.notes)


def test_tree_has_a_table_for_each_gate():
    X, y = lines()
    model = HierarchicalMixtureOfExpertsRegressor(random_state=0, init="kmeans")
    frame = model.fit(X, y).summary().to_frame()
    gates = [part for part in frame.part.unique() if part.startswith("gate")]
    assert gates == [f"gate of node {j}" for j in model.tree_.inner]
    assert set(frame[frame.part == gates[0]].output) == {"node 2"}
    assert set(frame[frame.part == gates[-1]].output) == {"expert3"}
    assert len(frame) == model.n_parameters_


def test_transformed_columns_are_named_by_the_transformer():
    X, y = lines()
    spline = make_pipeline(SplineTransformer(n_knots=3), LinearExpert())
    bent = make_pipeline(StandardScaler(), SoftmaxGate())
    model = mixture(spline, gate=bent).fit(X, y)
    frame = model.summary().to_frame()
    assert "age_sp_0" in set(frame.term[frame.part == "expert0"])
    assert list(frame.term[frame.part == "gate"]) == ["intercept", "age", "dose"]
    assert len(frame) == model.n_parameters_


def test_other_estimators_are_held_fixed():
    X, y = lines()
    model = mixture([("line", ML), ("ridge", Ridge()), ("noise", UniformExpert())])
    summary = model.fit(X, y).summary()
    frame = frame_of(summary, "ridge")
    assert list(frame.index) == ["intercept", "age", "dose", "variance"]
    assert frame.std_error.isna().all()
    assert np.isfinite(frame_of(summary, "line").std_error).all()
    assert frame_of(summary, "noise").empty
    assert any("ridge is held fixed" in note for note in summary.notes)
    assert " - " in str(summary) or "-" in str(summary)


def test_bootstrap_serves_any_linear_estimator():
    X, y = lines(n=150)
    model = mixture(Ridge(), gate=GaussianGate(covariance="tied"), max_iter=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = model.fit(X, y).summary(
            covariance="bootstrap", n_bootstrap=12, random_state=0
        )
    assert np.isfinite(summary.std_errors).all()
    assert set(summary.to_frame().part) == {"gate", "expert0", "expert1"}
    assert not any("held fixed" in note for note in summary.notes)


# -- what is not identified ----------------------------------------------------------


def test_repeated_columns_are_named_and_the_rest_is_told():
    X, y = lines()
    plain = mixture().fit(X, y).summary()
    twice = X.assign(again=X.dose)
    model = mixture().fit(twice, y)
    with pytest.warns(UnidentifiedWarning, match=r"do not tell .*expert0 dose"):
        summary = model.summary()
    frame = frame_of(summary, "expert0")
    assert frame.std_error[["dose", "again"]].isna().all()
    expected = frame_of(plain, "expert0").std_error
    for term in ("intercept", "age", "variance"):
        assert frame.std_error[term] == pytest.approx(expected[term], rel=1e-3)
    assert any("Not identified" in note for note in summary.notes)


def test_constant_column_is_named():
    X, y = lines()
    model = mixture().fit(X.assign(one=1.0), y)
    with pytest.warns(UnidentifiedWarning, match="expert1 one"):
        frame = frame_of(model.summary(), "gate")
    assert np.isnan(frame.std_error["one"])
    assert np.isfinite(frame.std_error["age"])


def test_separated_gate_is_named():
    X, y = lines(n=200)
    y = np.where(X.age > 40.0, 50.0, -50.0) + X.dose.to_numpy()
    y = y + np.random.default_rng(0).normal(size=200)
    model = mixture(tol=1e-14, max_iter=5000).fit(X, y)
    with pytest.warns(UnidentifiedWarning, match=r"gate \[expert1\] age"):
        summary = model.summary()
    assert np.isnan(frame_of(summary, "gate").std_error["age"])
    assert np.isfinite(frame_of(summary, "expert0").std_error).all()


def test_ridge_identifies_all():
    X, y = lines()
    model = MixtureOfExpertsRegressor(n_experts=2, init="kmeans", random_state=0)
    summary = model.fit(X.assign(again=X.dose), y).summary()
    assert np.isfinite(summary.std_errors).all()
    assert any("Priors are on" in note for note in summary.notes)


# -- text, frames, pickles -----------------------------------------------------------


def test_text_has_all_there_is(summary):
    text = str(summary)
    for word in ("log-likelihood", "AIC", "BIC", "ICL", "age", "dose", "variance"):
        assert word in text
    assert "gate (log odds against expert0)" in text
    assert "Intervals: 95 %" in text
    assert "< 0.001" in text
    assert repr(summary) == text
    assert summary._repr_html_().startswith("<pre>")
    assert max(map(len, text.splitlines())) < 100


def test_latex_and_frames(summary):
    latex = summary.to_latex()
    assert latex.startswith("\\begin{tabular}")
    assert "std\\_error" in latex
    assert len(summary.experts_frame()) == 2
    assert summary.to_latex(float_format="%.1f") != latex
    assert isinstance(summary, Summary)


def test_names_of_plain_arrays_are_numbered():
    X, y = lines(names=None)
    frame = frame_of(mixture().fit(X, y).summary(), "gate")
    assert list(frame.index) == ["intercept", "x0", "x1"]


def test_rows_do_not_travel(fitted):
    model, X, y = fitted
    thawed = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=r"give them, summary\(X, y\)"):
        thawed.summary()
    np.testing.assert_allclose(
        thawed.summary(X, y).std_errors, model.summary().std_errors
    )
    assert thawed._training_rows is None


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"level": 1.0}, r"level must be one number in \(0, 1\), got 1.0"),
        ({"level": 95}, "got 95"),
        ({"level": "high"}, "got 'high'"),
        ({"covariance": "robust"}, "covariance must be one of"),
        ({"covariance": "bootstrap", "n_bootstrap": 3}, "at least 10, got 3"),
        ({"X": np.zeros((3, 2))}, "X is given without y"),
    ],
)
def test_bad_arguments(fitted, kwargs, match):
    with pytest.raises(ValueError, match=match):
        fitted[0].summary(**kwargs)


def test_hard_em_says_so():
    X, y = lines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnidentifiedWarning)
        summary = mixture(algorithm="cem").fit(X, y).summary()
    assert any("does not end at a maximum" in note for note in summary.notes)


def test_stack_has_no_bootstrap():
    X, y = lines(n=100)
    model = mixture([("a", Ridge()), ("b", LinearRegression())], algorithm="stack")
    model = model.set_params(gate=SoftmaxGate()).fit(X, y)
    with pytest.raises(ValueError, match="refits by EM"):
        model.summary(covariance="bootstrap")


def test_sparse_tables_are_described_like_dense_ones():
    X, y = lines(names=None)
    X = X - [40.0, 2.0]
    X[np.abs(X) < 0.2] = 0.0
    dense = mixture().fit(X, y)
    again = mixture(init=np.asarray(dense.responsibilities(X, y)))
    sparse_fit = again.fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(
        sparse_fit.summary().std_errors, dense.summary().std_errors, rtol=1e-3
    )


def test_gaps_have_coefficients_of_their_own():
    X, y = lines()
    X = X.where(np.random.default_rng(0).random(X.shape) > 0.1)
    model = MixtureOfExpertsRegressor(n_experts=2, init="kmeans", random_state=0)
    frame = model.fit(X, y).summary().to_frame()
    assert "age is missing" in set(frame.term[frame.part == "expert0"])
    assert len(frame) == model.n_parameters_
