"""The flat mixture from outside: every method, and what must not depend on what."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
)
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.datasets import load_concrete, load_mcycle
from skmoe.experts import EstimatorExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate

QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0}


def regressor(experts=None, **kwargs):
    return MixtureOfExpertsRegressor(experts, **(QUICK | kwargs))


def classifier(experts=None, **kwargs):
    return MixtureOfExpertsClassifier(experts, **(QUICK | kwargs))


@pytest.fixture(scope="module")
def bent():
    """Rows on two lines that meet, x and an idle column, and their response."""
    rng = np.random.default_rng(3)
    X = rng.uniform(-2, 2, size=(120, 2))
    y = np.where(X[:, 0] < 0, -3 * X[:, 0], 0.5 * X[:, 0]) + 0.3 * rng.normal(size=120)
    return X, y


def responses(y, kind):
    """Return y as the kind of target a case asks for."""
    edges = np.quantile(y, [1 / 3, 2 / 3])
    return {
        "single": y,
        "column": y[:, None],
        "multi": np.column_stack([y, -y + 0.1 * y**2]),
        "binary": (y > np.median(y)).astype(int),
        "multiclass": np.digitize(y, edges) * 10,
        "strings": np.array(["low", "mid", "top"])[np.digitize(y, edges)],
    }[kind]


KINDS = ["single", "column", "multi", "binary", "multiclass", "strings"]


def fitted(X, y, kind, **kwargs):
    make = regressor if kind in KINDS[:3] else classifier
    y = responses(y, kind)
    return make(**kwargs).fit(X, y), y


# -- every method, for every kind of target ----------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_methods_agree_with_each_other(bent, kind):
    X, y = bent
    model, y = fitted(X, y, kind)
    n, law = len(X), model.predict_distribution(X)
    gate, resp = model.gate_proba(X), model.responsibilities(X, y)
    codes = np.searchsorted(model.classes_, y) if hasattr(model, "classes_") else y
    assert gate.shape == resp.shape == (n, 2)
    assert_allclose(gate.sum(axis=1), 1.0)
    assert_allclose(resp.sum(axis=1), 1.0)
    assert_array_equal(model.apply(X), gate.argmax(axis=1))
    assert_allclose(model.log_prob(X, y), law.log_prob(codes))
    assert_allclose(law.gate, gate)
    assert_allclose(law.means, model.predict_experts(X))
    parts = np.stack(
        [expert.log_prob(X, codes) for expert in model.experts_], axis=1
    ) + np.log(gate)
    assert_allclose(np.logaddexp.reduce(parts, axis=1), model.log_prob(X, y))
    assert_allclose(np.exp(parts - model.log_prob(X, y)[:, None]), resp, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_criteria(bent, kind):
    X, y = bent
    model, y = fitted(X, y, kind)
    fit, k = model.log_likelihood(X, y), model.n_parameters_
    weight = np.arange(len(X)) % 3
    assert_allclose(fit, model.log_prob(X, y).sum())
    assert_allclose(model.log_likelihood(X, y, weight), model.log_prob(X, y) @ weight)
    assert_allclose(model.aic(X, y), 2 * k - 2 * fit)
    assert_allclose(model.bic(X, y), k * np.log(len(X)) - 2 * fit)
    entropy = stats.entropy(model.responsibilities(X, y), axis=1)
    assert_allclose(model.icl(X, y), model.bic(X, y) + 2 * entropy.sum())
    repeated = np.repeat(np.arange(len(X)), weight)
    for name in ("aic", "bic", "icl"):
        value = getattr(model, name)
        again = value(X[repeated], y[repeated])
        assert_allclose(value(X, y, sample_weight=weight), again, err_msg=name)
    assert np.diff(model.objective_trace_).min() >= -1e-8 * abs(fit)
    assert model.objective_trace_.ndim == 1
    assert model.search_.names == ["kmeans"]
    assert model.search_.n_reached_best == 1


@pytest.mark.parametrize("kind", KINDS[:3])
def test_regression_predictions(bent, kind):
    X, y = bent
    model, y = fitted(X, y, kind)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    assert_array_equal(mean, model.predict(X))
    law = model.predict_distribution(X)
    experts, gate = model.predict_experts(X), model.gate_proba(X)
    assert experts.shape == (len(X), 2, *y.shape[1:])
    assert_allclose(mean, np.einsum("nk,nk...->n...", gate, experts))
    draws = law.sample(4000, random_state=0)
    assert draws.shape == (4000, *y.shape)
    assert_allclose(draws.mean(axis=0), mean, atol=6 * std.max() / np.sqrt(4000))
    assert_allclose(draws.std(axis=0), std, rtol=0.1)
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("kind", KINDS[3:])
def test_class_predictions(bent, kind):
    X, y = bent
    model, y = fitted(X, y, kind)
    proba = model.predict_proba(X)
    assert_array_equal(model.classes_, np.unique(y))
    assert proba.shape == (len(X), model.classes_.size)
    assert_allclose(proba.sum(axis=1), 1.0)
    assert_allclose(np.exp(model.predict_log_proba(X)), proba)
    assert_array_equal(model.predict(X), model.classes_[proba.argmax(axis=1)])
    assert model.predict_experts(X).shape == (len(X), 2, model.classes_.size)
    assert model.score(X, y) > 0.6
    with pytest.raises(ValueError, match="not seen in fit"):
        model.log_prob(X[:2], ["other", "none"] if kind == "strings" else [77, 78])


def test_pooling_of_a_regressor(bent):
    X, y = bent
    model = regressor(gate=ConstantGate()).fit(X, y)
    rows = np.arange(len(X))
    top = model.predict_experts(X)[rows, model.apply(X)]
    mean = model.predict(X)
    assert_array_equal(model.set_params(pooling="top1").predict(X), top)
    peak = model.set_params(pooling="mode").predict(X)
    law = model.predict_distribution(X)
    for other in (top, mean):
        assert (law.log_prob(peak) >= law.log_prob(other) - 1e-9).all()
    assert abs(peak - mean).max() > 0.1


def test_pooling_of_a_classifier(bent):
    X, y = bent
    y = responses(y, "strings")
    model = classifier(n_experts=3).fit(X, y)
    gate, experts = model.gate_proba(X), model.predict_experts(X)
    mean = model.predict_proba(X)
    assert_allclose(mean, np.einsum("nk,nkc->nc", gate, experts))
    assert_allclose(model.set_params(pooling="mode").predict_proba(X), mean)
    top = model.set_params(pooling="top1").predict_proba(X)
    assert_array_equal(top, experts[np.arange(len(X)), gate.argmax(axis=1)])
    votes = model.set_params(pooling="vote").predict_proba(X)
    by_hand = np.zeros_like(votes)
    for k in range(3):
        np.add.at(by_hand, (np.arange(len(X)), experts[:, k].argmax(1)), gate[:, k])
    assert_allclose(votes, by_hand)


class CountingExpert(LinearExpert):
    """Remember how many rows it was asked about."""

    rows_seen = 0

    def predict_params(self, X):
        type(self).rows_seen += X.shape[0]
        return super().predict_params(X)


@pytest.mark.parametrize("top_k", [1, 2, 3, 7])
def test_top_k_skips_experts(bent, top_k):
    X, y = bent
    model = regressor(CountingExpert(), n_experts=3, top_k=top_k).fit(X, y)
    CountingExpert.rows_seen = 0
    law = model.predict_distribution(X)
    kept = min(top_k, 3)
    assert CountingExpert.rows_seen == kept * len(X)
    assert_array_equal((law.gate > 0).sum(axis=1), kept)
    assert_allclose(law.gate.sum(axis=1), 1.0)
    full = model.gate_proba(X)
    rows = np.arange(len(X))
    for rank in range(kept):
        order = np.argsort(-full, axis=1)[:, rank]
        ratio = law.gate[rows, order] / full[rows, order]
        assert_allclose(ratio, 1 / np.sort(full)[:, -kept:].sum(axis=1))
    assert_allclose(model.log_prob(X, y), law.log_prob(y))
    resp = model.responsibilities(X, y)
    assert_allclose(resp.sum(axis=1), 1.0)
    assert (resp[law.gate == 0] == 0).all()


def test_top_1_equals_pooling_top1(bent):
    X, y = bent
    model = regressor(top_k=1).fit(X, y)
    assert_allclose(model.predict(X), model.set_params(pooling="top1").predict(X))


# -- what a fit must not depend on -------------------------------------------------

EXACT = {
    "default": lambda: regressor(),
    "ridge": lambda: regressor(Ridge()),
    "constant": lambda: regressor(gate=ConstantGate()),
    "gaussian": lambda: regressor(gate=GaussianGate()),
    "shared": lambda: regressor(shared_dispersion=True),
    "cem": lambda: regressor(algorithm="cem"),
    "mixed": lambda: MixtureOfExpertsRegressor(
        [("flat", Ridge(alpha=1e4)), ("line", LinearExpert())]
    ),
    "portfolio": lambda: MixtureOfExpertsRegressor(n_experts=2, random_state=0),
    "classes": lambda: classifier(),
    "logistic": lambda: classifier(LogisticRegression()),
}


def law_of(model, X, y, weight=None):
    return np.exp(model.fit(X, y, sample_weight=weight).log_prob(X, y))


@pytest.mark.parametrize("case", EXACT)
def test_weight_is_repetition(bent, case):
    X, y = bent[0][:60], bent[1][:60]
    if hasattr(EXACT[case](), "predict_proba"):
        y = responses(y, "binary")
    count = 1 + np.arange(60) % 3
    rows = np.repeat(np.arange(60), count)
    order = np.random.default_rng(0).permutation(rows.size)
    weighted = law_of(EXACT[case](), X, y, count)
    repeated = law_of(EXACT[case](), X[rows][order], y[rows][order])
    back = np.empty_like(repeated)
    back[order] = repeated
    assert_allclose(weighted, back[np.cumsum(count) - 1], rtol=1e-6)


@pytest.mark.parametrize("case", EXACT)
def test_zero_weight_is_removal(bent, case):
    X, y = bent[0][:90], bent[1][:90]
    keep = np.arange(90) % 3 > 0
    wild = np.where(keep, y, 1e3)
    model, other = EXACT[case](), EXACT[case]()
    if hasattr(model, "predict_proba"):
        y = wild = responses(y, "binary")
    model.fit(X, wild, sample_weight=keep.astype(float))
    other.fit(X[keep], y[keep])
    assert_allclose(model.predict(X), other.predict(X), rtol=1e-6, atol=1e-6)
    assert_allclose(model.log_prob(X, y), other.log_prob(X, y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "expert",
    [LinearExpert(alpha=0.0), Ridge(alpha=3.0), LinearRegression(), SVR()],
    ids=lambda e: type(e).__name__,
)
def test_one_expert_is_the_bare_regressor(bent, expert):
    X, y = bent
    model = MixtureOfExpertsRegressor(expert, n_experts=1).fit(X, y)
    assert_allclose(model.predict(X), clone(expert).fit(X, y).predict(X), rtol=1e-9)
    assert_array_equal(model.gate_proba(X), 1.0)


def test_one_expert_is_the_bare_classifier(bent):
    X, y = bent
    y = responses(y, "strings")
    expert = LogisticExpert(alpha=0.5)
    model = MixtureOfExpertsClassifier(expert, n_experts=1).fit(X, y)
    bare = clone(expert).fit(X, y)
    assert_allclose(model.predict_proba(X), bare.predict_proba(X), atol=1e-4)


def test_plain_least_squares_is_reached(bent):
    X, y = bent
    expert = LinearExpert(alpha=0.0, variance_prior=None)
    model = MixtureOfExpertsRegressor(expert, n_experts=1).fit(X, y)
    error = y - LinearRegression().fit(X, y).predict(X)
    variance = np.mean(error**2)
    assert_allclose(model.experts_[0].dispersion, variance)
    best = stats.norm.logpdf(error, scale=np.sqrt(variance)).sum()
    assert_allclose(model.log_likelihood(X, y), best)
    assert model.n_parameters_ == 3 + 1


@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_permuted_labels_give_the_permuted_model(bent, expert):
    X, y = bent
    labels = np.digitize(X[:, 0], [-0.7, 0.7])
    turn = np.array([2, 0, 1])
    first = regressor(expert, n_experts=3, init=labels).fit(X, y)
    second = regressor(expert, n_experts=3, init=turn[labels]).fit(X, y)
    assert_allclose(first.log_prob(X, y), second.log_prob(X, y), atol=1e-6)
    assert_allclose(first.gate_proba(X), second.gate_proba(X)[:, turn], atol=1e-5)
    assert_allclose(
        first.predict_experts(X), second.predict_experts(X)[:, turn], atol=1e-4
    )


@pytest.mark.parametrize("shape", ["labels", "responsibilities", "callable", "named"])
def test_kinds_of_init(bent, shape):
    X, y = bent
    labels = (X[:, 0] > 0).astype(int)
    resp = np.eye(2)[labels] * 0.9 + 0.05

    def start(X, y, n_experts, random_state):
        assert n_experts == 2
        return (X[:, 0] > 0).astype(int)

    init = {
        "labels": labels,
        "responsibilities": resp,
        "callable": start,
        "named": "segments",
    }[shape]
    model = regressor(init=init).fit(X, y)
    assert model.score(X, y) > 0.8
    weight = np.ones(len(X))
    weight[:5] = 0.0
    assert regressor(init=init).fit(X, y, sample_weight=weight).score(X, y) > 0.9


@pytest.mark.parametrize("algorithm", ["em", "cem", "sem", "stack"])
def test_algorithms_survive_a_pickle(bent, algorithm):
    X, y = bent
    model = regressor(algorithm=algorithm).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert model.n_iter_ >= 1
    assert np.isfinite(model.objective_trace_).all()


@pytest.mark.parametrize("kind", ["single", "strings"])
def test_same_seed_same_model(bent, kind):
    X, y = bent
    kwargs = {"init": "random", "n_init": 2}
    first, target = fitted(X, y, kind, **kwargs)
    second, _ = fitted(X, y, kind, **kwargs)
    assert_array_equal(first.log_prob(X, target), second.log_prob(X, target))


@pytest.mark.parametrize(
    ("expert", "kwargs"),
    [
        (None, {"init": "random", "n_init": 4}),
        (Ridge(), {}),
        (DecisionTreeRegressor(max_depth=2), {}),
    ],
    ids=["starts", "threads", "trees"],
)
def test_n_jobs_changes_nothing(bent, expert, kwargs):
    X, y = bent
    alone = regressor(expert, **kwargs).fit(X, y)
    both = regressor(expert, n_jobs=2, **kwargs).fit(X, y)
    assert_allclose(both.predict(X), alone.predict(X), rtol=1e-10)
    assert both.n_iter_ == alone.n_iter_


def test_warm_start_goes_on(bent):
    X, y = bent
    model = regressor(warm_start=True).fit(X, y)
    passes, before = model.n_iter_, model.log_prob(X, y)
    model.fit(X, y)
    assert model.search_.names == ["warm"]
    assert model.n_iter_ < passes
    assert_allclose(model.log_prob(X, y), before, atol=1e-3)
    rows = np.arange(len(X)) % 2 == 0
    model.fit(X[rows], y[rows])
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_verbose_prints(bent, verbose, capsys):
    X, y = bent
    model = regressor(verbose=verbose).fit(X, y)
    out = capsys.readouterr().out
    assert ("start 'kmeans'" in out) == (verbose > 0)
    assert (f"done, {model.n_iter_} passes" in out) == (verbose > 0)
    assert out.count("pass: objective") == (
        len(model.objective_trace_) if verbose > 1 else 0
    )


# -- life among scikit-learn's tools -----------------------------------------------


@pytest.mark.parametrize(
    ("experts", "grid"),
    [
        (None, {"n_experts": [1, 2], "gate__alpha": [0.01, 10.0]}),
        (Ridge(), {"experts__alpha": [0.1, 1e4]}),
        (LinearExpert(), {"experts__alpha": [0.1, 1e4], "pooling": ["mean", "top1"]}),
        (
            [("line", Ridge()), ("own", LinearExpert(), [0])],
            {"line__alpha": [0.1, 1e5], "own": [LinearExpert(alpha=9.0)]},
        ),
    ],
    ids=["default", "bare", "native", "named"],
)
def test_grid_search(bent, experts, grid):
    X, y = bent
    model = regressor(experts, gate=SoftmaxGate())
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(X, y) > 0.8
    if "experts__alpha" in grid:
        assert search.best_params_["experts__alpha"] == 0.1
    if "own" in grid:
        assert search.best_estimator_.experts_[1].alpha == 9.0
        assert search.best_estimator_.experts[1][2] == [0]


def test_inside_a_pipeline(bent):
    X, y = bent
    pipe = make_pipeline(StandardScaler(), regressor(Ridge()))
    assert cross_val_score(pipe, X, y, cv=3).min() > 0.8
    pipe.set_params(mixtureofexpertsregressor__experts__alpha=5.0).fit(X, y)
    assert pipe[-1].experts_[0].estimator_.alpha == 5.0


def test_pipelines_as_experts(bent):
    X, y = bent
    inner = make_pipeline(SplineTransformer(n_knots=4), Ridge(alpha=0.1))
    assert regressor(inner).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("tool", ["pickle", "joblib", "clone"])
@pytest.mark.parametrize(
    "experts", [None, Ridge(), [("a", Ridge(), [0]), ("b", SVR())]], ids=str
)
def test_copies(bent, tool, experts, tmp_path):
    X, y = bent
    model = regressor(experts).fit(X, y)
    if tool == "joblib":
        joblib.dump(model, tmp_path / "model")
        again = joblib.load(tmp_path / "model")
    elif tool == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        again = clone(model).fit(X, y)
    assert_array_equal(again.log_prob(X, y), model.log_prob(X, y))
    # The training rows are not carried along.
    assert len(pickle.dumps(model)) < 40 * X.nbytes


def test_parameters_round_trip():
    model = MixtureOfExpertsRegressor([("a", Ridge(2.0)), ("b", SVR(), [0, 1])])
    params = model.get_params()
    assert params["a__alpha"] == 2.0
    assert params["b"] is model.experts[1][1]
    model.set_params(a__alpha=7.0, b=Ridge(3.0))
    assert model.experts[0][1].alpha == 7.0
    assert model.experts[1] == ("b", model.experts[1][1], [0, 1])
    assert model.get_params()["b__alpha"] == 3.0
    model.set_params(experts=[("c", Lasso())], c__alpha=0.5)
    assert model.get_params()["c__alpha"] == 0.5
    again = MixtureOfExpertsRegressor().set_params(**model.get_params(deep=False))
    assert str(again) == str(model)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        model.set_params(nothing=1)


@pytest.mark.parametrize("is_fitted", [False, True])
@pytest.mark.parametrize("experts", [None, Ridge(), [("a", Ridge()), ("b", SVR())]])
def test_html(bent, experts, is_fitted):
    model = regressor(experts, gate=SoftmaxGate())
    if is_fitted:
        model.fit(*bent)
    html = model._repr_html_() if hasattr(model, "_repr_html_") else ""
    assert "MixtureOfExpertsRegressor" in html
    assert "SoftmaxGate" in html


# -- scikit-learn's estimators as experts, on real tables --------------------------

REGRESSORS = {
    "Ridge": Ridge(),
    "LinearRegression": LinearRegression(),
    "Lasso": Lasso(alpha=0.1),
    "BayesianRidge": BayesianRidge(),
    "Huber": HuberRegressor(max_iter=1000),
    "SVR": make_pipeline(StandardScaler(), SVR(C=10)),
    "tree": DecisionTreeRegressor(max_depth=3),
    "forest": EstimatorExpert(RandomForestRegressor(10), cross_fit=3),
    "extra trees": EstimatorExpert(ExtraTreesRegressor(10), cross_fit=3),
    "boosting": GradientBoostingRegressor(n_estimators=10),
    "histogram": EstimatorExpert(
        HistGradientBoostingRegressor(max_iter=15), cross_fit=True
    ),
    "neighbours": EstimatorExpert(KNeighborsRegressor(), cross_fit=True),
    "kernel": make_pipeline(StandardScaler(), KernelRidge(kernel="rbf", alpha=1.0)),
    "process": make_pipeline(
        StandardScaler(), GaussianProcessRegressor(RBF(), normalize_y=True)
    ),
}


@pytest.fixture(scope="module")
def tables():
    """Real tables, cut down: name to training X, y and held-out X, y."""
    concrete, cycle = load_concrete(), load_mcycle()
    found = {
        "diabetes": load_diabetes(return_X_y=True),
        "concrete": (concrete.data[::4], concrete.target[::4]),
        "mcycle": (cycle.data, cycle.target),
    }
    return {
        name: train_test_split(np.asarray(X, float), np.asarray(y), random_state=0)
        for name, (X, y) in found.items()
    }


TABLES = ["concrete", "diabetes", "mcycle"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*takes no sample_weight.*:UserWarning")
@pytest.mark.parametrize(
    ("name", "table"), list(zip(REGRESSORS, TABLES * 5, strict=False))
)
def test_regressors_as_experts(tables, name, table):
    X, X_new, y, y_new = tables[table]
    model = regressor(REGRESSORS[name], max_iter=6).fit(X, y)
    assert model.score(X_new, y_new) > (0.05 if table == "diabetes" else 0.25)
    law = model.predict_distribution(X_new[:5])
    assert np.isfinite(model.log_prob(X_new, y_new)).all()
    # Trapezoids over a range that leaves out nothing that counts.
    width = 12 * max(np.sqrt(law.variance).max(), np.ptp(y))
    grid = np.linspace(y.mean() - width, y.mean() + width, 40_001)
    rows = np.zeros(5)
    density = np.stack([np.exp(law.log_prob(rows + value)) for value in grid])
    assert_allclose(np.trapezoid(density, grid, axis=0), 1.0, atol=1e-3)
    mean = model.predict(X_new)
    assert np.mean((y_new - mean) ** 2) < np.mean((y_new - y.mean()) ** 2)


CLASSIFIERS = {
    "LogisticRegression": LogisticRegression(),
    "GaussianNB": GaussianNB(),
    "tree": DecisionTreeClassifier(max_depth=3),
    "forest": EstimatorExpert(RandomForestClassifier(10), cross_fit=3),
    "boosting": GradientBoostingClassifier(n_estimators=5),
    "SVC": SVC(),
    "LinearSVC": LinearSVC(),
    "neighbours": EstimatorExpert(KNeighborsClassifier(), cross_fit=True),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*takes no sample_weight.*:UserWarning")
@pytest.mark.parametrize(
    ("name", "load"),
    list(zip(CLASSIFIERS, [load_wine, load_breast_cancer] * 4, strict=True)),
)
def test_classifiers_as_experts(name, load):
    X, y = load(return_X_y=True)
    X, X_new, y, y_new = train_test_split(
        StandardScaler().fit_transform(X), y, random_state=0, stratify=y
    )
    model = classifier(CLASSIFIERS[name], max_iter=5).fit(X, y)
    assert model.score(X_new, y_new) > 0.85
    proba = model.predict_proba(X_new)
    assert_allclose(proba.sum(axis=1), 1.0)
    shares = np.bincount(y) / y.size
    assert model.log_prob(X_new, y_new).mean() > np.log(shares)[y_new].mean()


def test_frozen_experts_only_learn_the_gate(bent):
    X, y = bent
    left = X[:, 0] < 0
    low = LinearRegression().fit(X[left], y[left])
    high = LinearRegression().fit(X[~left], y[~left])
    model = MixtureOfExpertsRegressor(
        [("low", FrozenEstimator(low)), ("high", FrozenEstimator(high))]
    ).fit(X, y)
    assert_allclose(model.predict_experts(X)[:, 0], low.predict(X))
    assert_allclose(model.predict_experts(X)[:, 1], high.predict(X))
    assert model.score(X, y) > 0.95
    assert (model.apply(X) == ~left).mean() > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*takes no sample_weight.*:UserWarning")
def test_mixed_list_with_own_columns(tables):
    X, X_new, y, y_new = tables["concrete"]
    model = MixtureOfExpertsRegressor(
        [
            ("line", Ridge()),
            ("forest", RandomForestRegressor(10), [0, 3, 7]),
            ("svr", make_pipeline(StandardScaler(), SVR(C=30.0)), slice(0, 4)),
            ("own", LinearExpert(), np.arange(8) > 3),
        ],
        gate_features=[7],
        max_iter=5,
        tol=1e-3,
        random_state=0,
    ).fit(X, y)
    assert model.expert_names_ == ["line", "forest", "svr", "own"]
    assert model.experts_[1].estimator_.n_features_in_ == 3
    assert model.experts_[2].estimator_.n_features_in_ == 4
    assert model.experts_[3].coef_.shape == (4,)
    assert model.gate_.coef_.shape == (4, 1)
    assert model.score(X_new, y_new) > 0.5


def test_only_what_it_offers():
    assert not hasattr(MixtureOfExpertsRegressor(), "predict_proba")
    assert issubclass(MixtureOfExpertsRegressor, RegressorMixin)
    assert issubclass(MixtureOfExpertsClassifier, ClassifierMixin)
