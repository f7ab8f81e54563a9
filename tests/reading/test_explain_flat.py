"""Why a flat mixture predicts so: two ways for each column, and sums that add up."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, special
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, SplineTransformer

from skmoe import MixtureOfExpertsRegressor
from skmoe.datasets import make_regimes
from skmoe.experts import BinomialExpert, LinearExpert, PoissonExpert
from skmoe.gates import ConstantGate, GaussianGate
from skmoe.reading._explain_flat import MixtureExplanation, mean_row
from tests._quick import classifier, regressor

pd = pytest.importorskip("pandas")

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SHORT = {"n_experts": 3, "tol": 1e-3, "max_iter": 30}
TOL = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 3)) * [1.0, 3.0, 0.2] + [0.0, 10.0, 5.0]
    y = 8 * np.abs(X[:, 0]) + 0.5 * (X[:, 1] - 10.0) ** 2 + 3 * X[:, 2]
    return X, y + 0.5 * rng.normal(size=150)


@pytest.fixture(scope="module")
def classes(rows):
    X, y = rows
    return X, np.array(["low", "mid", "top"])[
        np.digitize(y, np.quantile(y, [0.3, 0.7]))
    ]


def total(why):
    within, gate = why.contributions.sum(axis=1), why.gate_contributions.sum(axis=1)
    return why.baseline + within + gate + why.rest


# -- regressors --------------------------------------------------------------------

EXPERTS = {
    "linear": None,
    "spline": make_pipeline(SplineTransformer(n_knots=4), LinearExpert()),
    "quadratic": make_pipeline(PolynomialFeatures(2), LinearExpert()),
    "ridge": Ridge(),
    "forest": RandomForestRegressor(5, max_depth=3, random_state=0),
}


@pytest.mark.parametrize("pooling", ["mean", "top1", "mode"])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("name", EXPERTS)
def test_sums_equal_predictions(rows, name, n_outputs, pooling):
    X, y = rows
    y = y if n_outputs == 1 else np.c_[y, 0.1 * y**2]
    model = regressor(EXPERTS[name], pooling=pooling, **SHORT).fit(X, y)
    why = model.explain(X)
    assert why.contributions.shape == (*X.shape, *y.shape[1:])
    assert why.gate_contributions.shape == why.contributions.shape
    assert why.baseline.shape == y.shape[1:]
    assert_array_equal(why.prediction, model.predict(X))
    assert_array_equal(why.gate_proba, model.gate_proba(X))
    assert_array_equal(why.expert_prediction, model.predict_experts(X))
    assert_allclose(total(why), model.predict(X), **TOL)
    if name == "forest":
        assert not why.contributions.any()
        assert why.gate_contributions.any()
    elif name != "quadratic" and pooling != "mode":
        # The rest is what the sums leave: that it is zero is the claim.
        assert_allclose(why.rest, 0.0, **TOL)


def test_the_two_ways_are_what_they_are_said_to_be(rows):
    X, y = rows
    model = regressor(**SHORT).fit(X, y)
    why, center = model.explain(X), X.mean(axis=0)[None]
    gate, start = model.gate_proba(X), model.predict_experts(center)[0]
    assert_allclose(why.baseline, model.predict(center)[0], **TOL)
    slopes = np.array([expert.coef_ for expert in model.experts_])
    assert_allclose(why.contributions, gate @ slopes * (X - center), **TOL)
    moved = (gate - model.gate_proba(center)) @ start
    assert_allclose(why.gate_contributions.sum(axis=1), moved, **TOL)


def test_a_column_that_the_gate_does_not_see_does_nothing_through_it(rows):
    X, y = rows
    model = regressor(gate_features=[2, 0], **SHORT).fit(X, y)
    why = model.explain(X)
    assert not why.gate_contributions[:, 1].any()
    assert why.gate_contributions[:, 0].any()
    assert_allclose(why.rest, 0.0, **TOL)


def test_one_column_of_the_gate_has_the_whole_change(rows):
    X, y = rows
    model = regressor(gate_features=[0], **SHORT).fit(X, y)
    why, center = model.explain(X), X.mean(axis=0)[None]
    change = model.gate_proba(X) - model.gate_proba(center)
    moved = change @ model.predict_experts(center)[0]
    assert_allclose(why.gate_contributions[:, 0], moved, **TOL)


def test_experts_with_columns_of_their_own(rows):
    X, y = rows
    experts = [("a", LinearExpert(), [2, 0]), ("b", LinearExpert(), [1])]
    model = regressor(experts, gate=ConstantGate()).fit(X, y)
    why = model.explain(X)
    assert not why.gate_contributions.any()
    assert_allclose(why.rest, 0.0, **TOL)
    (a, b), share = model.experts_, model.gate_.weights_
    slope = [share[0] * a.coef_[1], share[1] * b.coef_[0], share[0] * a.coef_[0]]
    assert_allclose(why.contributions, (X - X.mean(axis=0)) * slope, **TOL)
    assert why.expert_names == ["a", "b"]


def test_the_winner_is_explained_alone(rows):
    X, y = rows
    model = regressor(pooling="top1", **SHORT).fit(X, y)
    why, center = model.explain(X), X.mean(axis=0)[None]
    winner, before = model.apply(X), model.apply(center)[0]
    start = model.predict_experts(center)[0]
    assert_allclose(why.baseline, start[before], **TOL)
    gate = why.gate_contributions.sum(axis=1)
    assert_allclose(gate, start[winner] - start[before], **TOL)
    assert not why.gate_contributions[winner == before].any()
    slopes = np.array([expert.coef_ for expert in model.experts_])
    assert_allclose(why.contributions, slopes[winner] * (X - center), **TOL)
    # Shared as the log odds of new and old winner are.
    i = np.flatnonzero(winner != before)[0]
    slope = model.gate_.coef_[winner[i]] - model.gate_.coef_[before]
    odds = (X[i] - center[0]) * slope
    share = why.gate_contributions[i] / gate[i]
    assert_allclose(share, odds / odds.sum(), **TOL)


def test_a_mean_row_that_sees_no_difference_has_no_part_of_the_gate():
    X = np.linspace(-1.0, 1.0, 101)[:, None]
    why = regressor(LinearExpert(alpha=0.0)).fit(X, np.abs(X[:, 0])).explain(X)
    # At zero both arms say the same: who is chosen matters within the experts alone.
    assert np.abs(why.gate_contributions).max() < 0.05
    assert_allclose(why.contributions[:, 0], np.abs(X[:, 0]), atol=0.1)


def test_few_experts_are_asked_and_the_rest_says_so(rows):
    X, y = rows
    whole = regressor(**SHORT).fit(X, y)
    model = clone(whole).set_params(top_k=1).fit(X, y)
    why, every = model.explain(X), whole.explain(X)
    assert_allclose(total(why), model.predict(X), **TOL)
    assert_allclose(why.gate_contributions, every.gate_contributions, **TOL)
    gate, start = model.gate_proba(X), model.predict_experts(X.mean(0)[None])[0]
    winner = np.eye(3)[gate.argmax(axis=1)]
    assert_allclose(why.rest, (winner - gate) @ start, **TOL)


@pytest.mark.parametrize(
    "gate",
    [
        GaussianGate(),
        GaussianGate("diag"),
        make_pipeline(SplineTransformer(n_knots=4), LogisticRegression(max_iter=500)),
        RandomForestClassifier(5, max_depth=2, random_state=0),
    ],
    ids=["gaussian", "diag", "splines", "forest"],
)
def test_other_gates(rows, gate):
    X, y = rows
    model = regressor(gate=gate, **SHORT).fit(X, y)
    why = model.explain(X)
    assert_allclose(total(why), model.predict(X), **TOL)
    if isinstance(gate, GaussianGate):
        assert_allclose(why.rest, 0.0, atol=1e-9)
    if isinstance(gate, RandomForestClassifier):
        assert not why.gate_contributions.any()
        assert why.rest.any()


def test_a_mixture_inside_a_mixture(rows):
    X, y = rows
    inner = MixtureOfExpertsRegressor(n_experts=2)
    model = regressor([("inner", inner), ("line", LinearExpert())]).fit(X, y)
    why = model.explain(X)
    assert why.gate_proba.shape == (150, 3)
    assert_allclose(total(why), model.predict(X), **TOL)
    assert_allclose(why.rest, 0.0, **TOL)


def test_sparse_rows_start_at_zero(rows):
    X, y = rows
    X = sparse.csr_array(np.where(np.abs(X - X.mean(0)) > X.std(0), X, 0.0))
    model = regressor(**SHORT).fit(X, y)
    why = model.explain(X[:20])
    assert sparse.issparse(why.data)
    assert_allclose(why.baseline, model.predict(sparse.csr_array((1, 3)))[0], **TOL)
    assert_allclose(why.rest, 0.0, **TOL)
    assert "prediction = " in str(why)


def test_weights_move_the_mean_row(rows):
    X, y = rows
    weight = np.random.default_rng(0).uniform(size=150)
    weight[:30] = 0.0
    model = regressor(**SHORT).fit(X, y, sample_weight=weight)
    center = (weight @ X / weight.sum())[None]
    why = model.explain(X)
    assert_allclose(why.baseline, model.predict(center)[0], **TOL)
    assert_allclose(why.rest, 0.0, **TOL)


def test_mean_rows():
    X = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    assert_allclose(mean_row(X, np.array([3.0, 1.0])), [[1.5, 5.0, 0.0]])
    X = sparse.csr_array(np.ones((2, 3)))
    assert_array_equal(mean_row(X, np.ones(2)).toarray(), np.zeros((1, 3)))


# -- counts, known quantities, gaps ------------------------------------------------


def test_counts_with_an_offset(rows):
    X, _ = rows
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(0)
    offset = rng.uniform(-1.0, 1.0, size=150)
    y = rng.poisson(np.exp(np.abs(X[:, 0]) + offset))
    model = regressor(PoissonExpert(), tol=1e-3).fit(X, y, offset=offset)
    why = model.explain(X, offset=offset)
    assert why.feature_names[-1] == "offset"
    assert_allclose(total(why), model.predict(X, offset=offset), **TOL)
    assert_allclose(why.rest, 0.0, atol=1e-8)
    start = model.predict(np.zeros((1, 3)), offset=np.zeros(1))
    assert_allclose(why.baseline, start[0], rtol=1e-9)
    with pytest.raises(ValueError, match="explain: fit got"):
        model.explain(X)


def test_trials(rows):
    X, _ = rows
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 9, size=150)
    y = rng.binomial(trials, special.expit(X[:, 0]))
    model = regressor(BinomialExpert(), tol=1e-3).fit(X, y, trials=trials)
    why = model.explain(X, trials=trials)
    assert_allclose(why.rest, 0.0, atol=1e-8)
    assert_allclose(total(why), model.predict(X, trials=trials), **TOL)


def test_gaps_and_categories_have_names_of_their_own(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.loc[::7, "b"] = np.nan
    frame["kind"] = pd.Categorical(np.where(X[:, 0] > 0, "up", "down"))
    model = regressor(**SHORT).fit(frame, y)
    why = model.explain(frame)
    assert {"b is missing", "a"} < set(why.feature_names)
    assert_allclose(total(why), model.predict(frame), **TOL)
    assert_allclose(why.rest, 0.0, **TOL)


def test_what_has_no_mean_starts_at_zero(rows):
    X, y = rows
    X = np.c_[X, np.random.default_rng(0).integers(0, 3, size=150)]
    encode = make_column_transformer((OneHotEncoder(), [3]), remainder="passthrough")
    gate = make_pipeline(encode, LogisticRegression(max_iter=1000))
    model = regressor(make_pipeline(encode, Ridge()), gate=gate, **SHORT).fit(X, y)
    why = model.explain(X)  # the encoder knows no 1.1
    assert_allclose(total(why), model.predict(X), **TOL)
    assert why.contributions[:, 0].any()


# -- classifiers -------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "top1", "vote"])
@pytest.mark.parametrize(
    "expert",
    [None, LogisticRegression(max_iter=500), RandomForestClassifier(5, max_depth=2)],
    ids=["native", "adapted", "forest"],
)
def test_probabilities_add_up(classes, expert, pooling):
    X, y = classes
    model = classifier(expert, pooling=pooling, **SHORT).fit(X, y)
    why = model.explain(X)
    assert why.contributions.shape == (150, 3, 3)
    assert why.labels == ["low", "mid", "top"]
    assert_allclose(total(why), model.predict_proba(X), **TOL)
    # What one class gains the others lose.
    for part in (why.contributions, why.gate_contributions):
        assert_allclose(part.sum(axis=2), 0.0, **TOL)
    if expert is None and pooling != "vote":
        assert_allclose(why.rest, 0.0, **TOL)


def test_classes_start_at_the_mean_row(classes):
    X, y = classes
    model = classifier(**SHORT).fit(X, y)
    start = model.predict_proba(X.mean(axis=0)[None])[0]
    assert_allclose(model.explain(X).baseline, start, **TOL)


# -- what is shown -----------------------------------------------------------------


@pytest.fixture(scope="module")
def regimes():
    table = make_regimes(300, random_state=0)
    X = pd.DataFrame(table.data, columns=table.feature_names)
    X.index = [f"day{i}" for i in range(300)]
    return X, table.target


def test_text_shows_both_ways(regimes):
    X, y = regimes
    model = regressor(n_experts=3).fit(X, y)
    why = model.explain(X)
    text = why.to_text(n_rows=1, max_columns=4)
    lines = text.splitlines()
    assert lines[0] == (
        "Explanation of 300 rows, pooling='mean'; contributions in the unit of y."
    )
    assert lines[2] == f"row day0: predicted {model.predict(X[:1])[0]:.4g}"
    assert lines[3].startswith("  expert")
    head = lines[4]
    said = f"prediction = {why.prediction[0]:.1f} in experts by the gate"
    assert " ".join(head.split()) == said
    table = [line for line in lines if line.startswith("    ")]
    assert len(table) == 5  # the baseline, and each column
    shown = dict(line.strip().split("  ", 1) for line in table)
    assert float(shown.pop("baseline")) == pytest.approx(why.baseline, abs=0.05)
    for name, numbers in shown.items():
        j = why.feature_names.index(name.split(" = ")[0])
        wanted = why.contributions[0, j], why.gate_contributions[0, j]
        assert [float(one) for one in numbers.split()] == pytest.approx(
            wanted, abs=0.05
        )
    assert lines[-1] == "... and 299 more rows."
    assert repr(why) == str(why) == why.to_text(3, 5)
    assert len(why) == 300


def test_text_names_who_is_asked(regimes):
    X, y = regimes
    why = regressor(n_experts=3).fit(X, y).explain(X)
    order = np.argsort(-why.gate_proba[0])
    first, says = order[0], why.expert_prediction[0]
    line = why.to_text(1).splitlines()[3]
    start = f"  expert{first} ({why.gate_proba[0, first]:.2f}) says {says[first]:.4g}"
    assert line.startswith(start)
    hidden = int((why.gate_proba[0] < 0.005).sum())
    assert line.endswith(f"; {hidden} more") == (hidden > 0)


def test_text_of_classes_and_of_several_outputs(classes, rows):
    X, y = classes
    why = classifier(**SHORT).fit(X, y).explain(X)
    label = why.labels[why.prediction[0].argmax()]
    assert f"probability of '{label}' = " in why.to_text(1)
    assert "contributions in probability" in str(why)
    X, y = rows
    text = regressor(**SHORT).fit(X, np.c_[y, -y]).explain(X).to_text(1)
    assert "  y0 = " in text
    assert "  y1 = " in text


def test_frame(regimes):
    X, y = regimes
    why = regressor(n_experts=2).fit(X, y).explain(X)
    frame = why.to_frame()
    assert frame.index.tolist() == X.index.tolist()
    assert frame.columns.tolist() == [
        "prediction",
        "gate_expert0",
        "gate_expert1",
        "says_expert0",
        "says_expert1",
        "baseline",
        *(f"contribution_{name}" for name in X),
        *(f"gate_contribution_{name}" for name in X),
        "rest",
    ]
    summed = frame.filter(regex="^(baseline|contribution|gate_contribution|rest)")
    assert_allclose(summed.sum(axis=1), frame["prediction"], **TOL)


def test_frame_of_classes(classes):
    X, y = classes
    why = classifier(**SHORT).fit(X, y).explain(X)
    frame = why.to_frame()
    assert_allclose(frame["prediction[top]"], why.prediction[:, 2])
    assert_allclose(frame["says_expert1[low]"], why.expert_prediction[:, 1, 0])
    assert frame["baseline[mid]"].nunique() == 1
    assert_allclose(frame["gate_contribution_x2[mid]"], why.gate_contributions[:, 2, 1])


def test_before_fit_and_another_number_of_columns(rows):
    X, y = rows
    with pytest.raises(NotFittedError):
        regressor().explain(X)
    with pytest.raises(ValueError, match="features"):
        regressor().fit(X, y).explain(X[:, :2])


def test_the_class_is_documented_attribute_by_attribute():
    doc = inspect.getdoc(MixtureExplanation)
    for name in MixtureExplanation.__dataclass_fields__:
        assert f"\n{name}" in doc, name
