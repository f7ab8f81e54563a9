"""Bad input: a clear error that says what, which value and what to do, or a right
answer; and a fit that fails leaves the estimator as it was."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skmoe.exceptions import CollapsedExpertWarning, ExpertError
from skmoe.experts import EstimatorExpert, LinearExpert
from skmoe.gates import SoftmaxGate
from tests._quick import classifier, regressor

pd = pytest.importorskip("pandas")


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(80, 3))
    return X, np.abs(X[:, 0]) + 0.2 * rng.normal(size=80)


# -- the rows ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("when", ["fit", "predict"])
def test_holes_in_x_name_their_column(rows, value, word, named, when):
    X, y = rows
    bad = X.copy()
    bad[[5, 7], 1] = value
    if named:
        X, bad = (pd.DataFrame(part, columns=["a", "b", "c"]) for part in (X, bad))
    column = "'b'" if named else "1"
    match = rf"contains {word}: first in column {column}, row 5 \(2 such values"
    model = regressor(Ridge())  # which takes no gaps
    if when == "predict":
        model.fit(X, y)
    with pytest.raises(ValueError, match=match):
        model.fit(bad, y) if when == "fit" else model.predict(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_holes_in_y(rows, value):
    X, y = rows
    model = regressor().fit(X, y)
    y[3] = value
    with pytest.raises(ValueError, match=r"Input y contains (NaN|infinity)"):
        regressor().fit(X, y)
    with pytest.raises(ValueError, match=r"Input y contains NaN or infinity.*row 3"):
        model.log_prob(X, y)


def test_words_as_numbers(rows):
    X, y = rows
    with pytest.raises(ValueError, match="y must be numeric for a regressor"):
        regressor().fit(X, ["one"] * len(y))


def test_a_single_class(rows):
    X, _ = rows
    with pytest.raises(ValueError, match="at least two classes, got one class: 'x'"):
        classifier().fit(X, ["x"] * 80)
    weight = np.r_[np.ones(40), np.zeros(40)]
    with pytest.raises(ValueError, match="at least two classes, got one class: 0"):
        classifier().fit(X, np.repeat([0, 1], 40), sample_weight=weight)


def test_numbers_as_classes(rows):
    X, y = rows
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X, y)


def test_fewer_rows_than_experts(rows):
    X, y = rows
    with pytest.raises(ValueError, match=r"n_samples=3 .* fewer than n_experts=4"):
        regressor(n_experts=4).fit(X[:3], y[:3])
    weight = np.zeros(80)
    weight[:3] = 1.0
    with pytest.raises(ValueError, match="rows of positive weight"):
        regressor(n_experts=4).fit(X, y, sample_weight=weight)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.full(80, -1.0), "[Nn]egative"),
        (np.zeros(80), "zero"),
        (np.full(80, np.nan), "NaN"),
        (np.ones(79), r"\(79,\), expected \(80,\)"),
        (np.ones((80, 2)), "1D"),
    ],
)
def test_weights(rows, weight, match):
    X, y = rows
    with pytest.raises(ValueError, match=match):
        regressor().fit(X, y, sample_weight=weight)


def test_before_fit(rows):
    X, y = rows
    for name in ("predict", "gate_proba", "apply", "predict_experts"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(regressor(), name)(X)
    for name in ("log_prob", "responsibilities", "bic", "score"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(regressor(), name)(X, y)


def test_another_number_of_columns(rows):
    X, y = rows
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* expecting 3"):
        model.predict(X[:, :2])


def test_responses_of_another_shape(rows):
    X, y = rows
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match="X has 80 rows and y has 79"):
        model.log_prob(X, y[1:])
    with pytest.raises(ValueError, match=r"y must be of shape \(n_samples\) as in fit"):
        model.log_prob(X, np.column_stack([y, y]))
    pair = regressor().fit(X, np.column_stack([y, -y + X[:, 1]]))
    with pytest.raises(ValueError, match=r"shape \(n_samples, 2\) as in fit, got \(80"):
        pair.responsibilities(X, y)


# -- right answers on awkward rows -------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
@pytest.mark.parametrize("value", [0.0, 7.5, -1e12, 1e-12])
def test_constant_y(rows, expert, value):
    X, y = rows
    model = regressor(expert).fit(X, np.full(80, value))
    assert_allclose(model.predict(X), value, atol=1e-6 * abs(value))
    assert not np.isnan(model.log_prob(X, y)).any()


def test_variance_at_its_floor_is_announced(rows):
    X, _ = rows
    exact = np.where(X[:, 0] < 0, -X[:, 0], 2 * X[:, 0])
    expert = LinearExpert(alpha=0.0, variance_prior=None)
    model = regressor(expert, init=(X[:, 0] > 0).astype(int), gate=SoftmaxGate(1.0))
    with pytest.warns(CollapsedExpertWarning, match="fell to its floor"):
        model.fit(X, exact)
    best = abs(model.predict_experts(X) - exact[:, None]).min(axis=1)
    assert_allclose(best, 0.0, atol=1e-4)


def test_duplicated_rows_and_columns(rows):
    X, y = rows
    wide = np.hstack([X, X, np.ones((80, 1))])
    model = regressor().fit(wide, y)
    assert np.isfinite(model.predict(wide)).all()
    assert model.score(wide, y) > 0.8
    same = regressor().fit(np.repeat(X[:4], 20, axis=0), np.tile(y[:20], 4))
    assert np.isfinite(same.predict(X)).all()


@pytest.mark.parametrize("task", ["regression", "classes"])
def test_columns_of_any_scale(rows, task):
    X, y = rows
    make = regressor if task == "regression" else classifier
    y = y if task == "regression" else (y > 1).astype(int)
    scale = np.array([1e-12, 1e12, 1.0])
    plain, scaled = make().fit(X, y), make().fit(X * scale, y)
    assert_allclose(scaled.log_prob(X * scale, y), plain.log_prob(X, y), atol=1e-4)
    assert_allclose(scaled.gate_proba(X * scale), plain.gate_proba(X), atol=1e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_response_of_any_scale(rows, scale):
    X, y = rows
    plain, scaled = regressor().fit(X, y), regressor().fit(X, y * scale)
    assert_allclose(scaled.predict(X) / scale, plain.predict(X), atol=5e-3)
    assert_allclose(
        scaled.log_prob(X, y * scale) + np.log(scale), plain.log_prob(X, y), atol=2e-2
    )


# -- constructor arguments ---------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_experts": 0}, r"'n_experts' .* Got 0"),
        ({"n_experts": -2}, r"'n_experts' .* Got -2"),
        ({"n_experts": 2.5}, r"'n_experts' .* Got 2.5"),
        ({"top_k": 0}, r"'top_k' .* Got 0"),
        ({"max_iter": 0}, r"'max_iter' .* Got 0"),
        ({"tol": -1.0}, r"'tol' .* Got -1.0"),
        ({"n_init": 0}, r"'n_init' .* Got 0"),
        ({"algorithm": "mcmc"}, r"'algorithm' .* Got 'mcmc'"),
        ({"acceleration": "warp"}, r"'acceleration' .* Got 'warp'"),
        ({"pooling": "median"}, r"pooling must be one of .*'mode'.* got 'median'"),
        ({"pooling": "vote"}, "got 'vote'"),
        ({"init": "magic"}, "init must be 'auto', one of .*'kmeans'.* got 'magic'"),
        ({"gate_features": []}, "gate_features: columns is empty"),
        ({"gate_features": slice(3, None)}, "gate_features: columns is empty"),
        ({"gate_features": [3]}, "column 3 does not exist in X with 3 columns"),
        ({"gate_features": [-4]}, "column -4 does not exist"),
        ({"gate_features": ["age"]}, "'age' is a name, but X has no column names"),
        ({"gate_features": [1.5]}, "must be a name or position: 1.5"),
        ({"gate_features": [True, False]}, "a mask of 2 columns for X with 3"),
        ({"experts": []}, "empty list"),
        ({"experts": [Ridge()]}, "list of .name, estimator.*got the entry Ridge"),
        ({"experts": [("a", Ridge(), 0, 0)]}, "got the entry"),
        ({"experts": [("a", Ridge()), ("a", Ridge())]}, r"must differ, got \['a'\]"),
        ({"experts": [("a__b", Ridge())]}, "without '__', got .'a__b'"),
        ({"experts": [(1, Ridge())]}, "must be strings"),
        ({"experts": [("gate", Ridge())]}, r"not be those of parameters, got \['gate'"),
        ({"experts": [("a", Ridge(), [9])]}, "expert 'a': column 9 does not exist"),
        ({"experts": LogisticRegression()}, "is a classifier.*needs regressors"),
        ({"init": np.zeros((80, 3))}, r"shape \(80, 2\) or labels.*got shape \(80, 3"),
        ({"init": np.zeros((80, 2))}, "each row must sum to 1"),
        ({"init": np.full((80, 2), np.nan)}, "must be finite numbers"),
        ({"init": np.tile([2.0, -1.0], (80, 1))}, "non-negative"),
        ({"init": np.zeros(79)}, r"labels of shape \(80,\), got shape \(79,\)"),
        ({"init": np.full(80, 2)}, "integers 0, ..., 1, got values .2"),
        ({"init": np.full(80, 0.5)}, "integers 0, ..., 1"),
        ({"init": ["a"] * 80}, "must be finite numbers, got .'a'"),
        ({"init": lambda *args: np.zeros(3)}, r"got shape \(3,\)"),
    ],
)
def test_arguments(rows, params, match):
    X, y = rows
    model = regressor().set_params(**params)
    with pytest.raises(ValueError, match=match):
        model.fit(X, y)
    assert not hasattr(model, "node_")


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"experts": Ridge}, "must be an estimator with get_params.*got <class"),
        ({"experts": "ridge"}, "must be an estimator .* got 'ridge'"),
        ({"experts": StandardScaler()}, "StandardScaler"),
        ({"experts": KMeans()}, "KMeans"),
        ({"experts": [("a", 5)]}, "expert 'a' must be an estimator .* got 5"),
        ({"gate": Ridge()}, "gate must be None, a gate .* got Ridge"),
        ({"gate": SoftmaxGate}, "gate must be an instance, got the class SoftmaxGate"),
        ({"gate": "softmax"}, "gate must be None"),
    ],
)
def test_parts_of_the_wrong_kind(rows, params, match):
    X, y = rows
    with pytest.raises(TypeError, match=match):
        regressor().set_params(**params).fit(X, y)


def test_regressor_as_expert_of_a_classifier(rows):
    X, y = rows
    with pytest.raises(ValueError, match=r"is a regressor, but .* needs classifiers"):
        classifier(Ridge()).fit(X, y > 1)


def test_gate_without_sample_weight(rows):
    X, y = rows
    with pytest.raises((TypeError, ValueError), match=r"KNeighbors.*sample_weight"):
        regressor(gate=KNeighborsClassifier()).fit(X, y)


def test_unknown_names_of_columns(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"no column 'd' in X; its columns are .'a'"):
        regressor(gate_features=["a", "d"]).fit(frame, y)


def test_parameters_of_parts_are_checked(rows):
    X, y = rows
    with pytest.raises((ValueError, ExpertError), match=r"alpha must be .* got -1"):
        regressor(LinearExpert(alpha=-1)).fit(X, y)
    with pytest.raises((ValueError, ExpertError), match=r"alpha must be .* got -2"):
        regressor(gate=SoftmaxGate(alpha=-2)).fit(X, y)


def test_too_few_passes_are_announced(rows):
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=2"):
        regressor(max_iter=2, tol=0.0).fit(*rows)


# -- a fit that fails leaves the estimator as it was -------------------------------


class Flaky(Ridge):
    """Raise once ``fuse`` fits are used up; ``None`` never."""

    fuse = None
    error = RuntimeError("out of luck")

    def fit(self, X, y, sample_weight=None):
        if Flaky.fuse is not None:
            Flaky.fuse -= 1
            if Flaky.fuse < 0:
                raise Flaky.error
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.fixture
def flaky():
    yield Flaky
    Flaky.fuse, Flaky.error = None, RuntimeError("out of luck")


def state_of(model, X, y):
    public = {k: v for k, v in vars(model).items() if k.endswith("_")}
    return set(vars(model)), public, model.predict(X), model.log_prob(X, y)


def assert_unchanged(model, before, X, y):
    names, public, predicted, log_prob = before
    assert set(vars(model)) == names
    assert all(vars(model)[key] is value for key, value in public.items())
    assert_array_equal(model.predict(X), predicted)
    assert_array_equal(model.log_prob(X, y), log_prob)


def test_expert_that_raises_in_pass_7(rows, flaky):
    X, y = rows
    model = regressor(flaky(), tol=0.0)
    # The M-step before pass p + 1 makes fits 2 p + 1 and 2 p + 2.
    flaky.fuse = 2 * 7
    match = r"In EM pass 7, 'expert0' failed: RuntimeError: out of luck.*left as it was"
    with pytest.raises(ExpertError, match=match) as caught:
        model.fit(X, y)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not hasattr(model, "node_")
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt(), MemoryError("no")]
)
@pytest.mark.parametrize("fuse", [0, 5, 13])
def test_failed_refit_keeps_the_old_fit(rows, flaky, error, fuse):
    X, y = rows
    model = regressor(flaky(), warm_start=fuse == 5).fit(X, y)
    before, copy = state_of(model, X, y), pickle.dumps(model)
    flaky.fuse, flaky.error = fuse, error
    raised = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ExpertError
    with pytest.raises(raised):
        model.fit(X[:40] + 1.0, y[:40])
    flaky.fuse = None
    assert_unchanged(model, before, X, y)
    assert len(pickle.dumps(model)) == len(copy)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda X, y: (np.where(X > 1, np.inf, X), y),
        lambda X, y: (X[:, :2], y[:-1]),
        lambda X, y: (X[:1, :2], y[:1]),
        lambda X, y: (pd.DataFrame(X[:1], columns=list("abc")), y[:1]),
    ],
    ids=["holes", "lengths", "too few", "frame"],
)
def test_refused_data_keep_the_old_fit(rows, spoil):
    X, y = rows
    model = regressor().fit(X, y)
    before = state_of(model, X, y)
    with pytest.raises(ValueError, match=r"infinity|inconsistent|fewer"):
        model.fit(*spoil(X, y))
    assert_unchanged(model, before, X, y)


def test_refused_classes_keep_the_old_fit(rows):
    X, y = rows
    labels = np.where(y > 1, "high", "low")
    model = classifier().fit(X, labels)
    before = state_of(model, X, labels)
    with pytest.raises(ValueError, match="at least two classes"):
        model.fit(X[:, :2], ["other"] * 80)
    assert_unchanged(model, before, X, labels)


@pytest.mark.parametrize(
    "change", ["features", "experts", "outputs"], ids=lambda name: name
)
def test_warm_start_needs_the_same_kind_of_data(rows, change):
    X, y = rows
    model = regressor(warm_start=True).fit(X, y)
    before = state_of(model, X, y)
    other = {"features": (X[:, :2], y), "outputs": (X, np.column_stack([y, y]))}
    if change == "experts":
        model.set_params(n_experts=3)
    with pytest.raises(ValueError, match="warm_start: the last fit is of another kind"):
        model.fit(*other.get(change, (X, y)))
    assert_unchanged(model, before, X, y)


def test_warm_start_needs_the_same_classes(rows):
    X, y = rows
    model = classifier(warm_start=True).fit(X, np.digitize(y, [0.5, 1.0]))
    with pytest.raises(ValueError, match=r"were \(3, 2, \(0, 1, 2\)\), now"):
        model.fit(X, (y > 1).astype(int))


def test_expert_that_returns_nan(rows):
    X, y = rows

    class Hole(Ridge):
        def predict(self, X):
            return np.full(len(X), np.nan)

    with pytest.raises(ExpertError, match=r"expert0.*(NaN|finite)"):
        regressor(EstimatorExpert(Hole())).fit(X, y)
