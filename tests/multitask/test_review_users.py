"""What a first user may run into: gaps in lists, orders, scales, changed settings."""

from decimal import Decimal

import numpy as np
import pytest

from skmoe.multitask import (
    MMoEClassifier,
    MMoERegressor,
    MultiTaskMMoE,
    make_task_scorer,
    multitask_log_loss,
)

pytest.importorskip("torch")

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
AMOUNT = X[:, 0] + 0.1 * RNG.normal(size=N)
CLICK, LIKE = (X[:, 0] > 0).astype(int), (X[:, 1] > 0).astype(int)
FAST = {"max_epochs": 3, "n_bins": 4, "random_state": 0}


def test_log_loss_takes_classes_in_the_order_of_the_columns():
    y, proba = ["a", "b", "a"], np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    loss = multitask_log_loss(y, proba, classes=["b", "a"])
    assert loss == pytest.approx(-np.log([0.9, 0.8, 0.7]).mean())


def test_log_loss_of_one_task_takes_lists():
    y, proba = ["a", "b"], [[0.9, 0.1], [0.2, 0.8]]
    right = pytest.approx(-np.log([0.9, 0.8]).mean())
    assert multitask_log_loss(y, proba) == right
    assert multitask_log_loss(y, [proba], classes=[["a", "b"]]) == right
    assert multitask_log_loss(y, np.array(proba), task_weights=[2.0]) == right
    one = multitask_log_loss(["a"], [[0.9, 0.1]], classes=["a", "b"])
    assert one == pytest.approx(-np.log(0.9))


@pytest.mark.parametrize("gap", [np.nan, None])
def test_a_gap_in_a_list_of_text_is_no_label(gap):
    y = ["yes" if one else "no" for one in CLICK]
    y[0] = gap
    assert MMoEClassifier(**FAST).fit(X, y).classes_.tolist() == ["no", "yes"]
    model = MultiTaskMMoE(**FAST).fit(X, {"answer": y, "amount": AMOUNT})
    assert model.classes_["answer"].tolist() == ["no", "yes"]
    rows = [[one, int(like)] for one, like in zip(y, LIKE, strict=True)]
    classes = MMoEClassifier(**FAST).fit(X, rows).classes_
    assert [one.tolist() for one in classes] == [["no", "yes"], [0, 1]]


def test_decimals_are_amounts():
    y = {"amount": [Decimal(f"{a:.2f}") for a in AMOUNT], "click": CLICK}
    model = MultiTaskMMoE(**FAST).fit(X, y)
    assert model.tasks_ == {"amount": "regression", "click": "binary"}


def test_task_scorer_finds_tasks_by_name_whatever_their_order():
    pd = pytest.importorskip("pandas")
    y = pd.DataFrame({"click": CLICK, "like": LIKE})
    model = MMoEClassifier(**FAST).fit(X, y)
    for task in y:
        scorer = make_task_scorer("roc_auc", task)
        assert scorer(model, X, y[["like", "click"]]) == scorer(model, X, y)
    search = make_pipeline_of(model)
    scorer = make_task_scorer("roc_auc", "click")
    assert scorer(search, X, y[["like", "click"]]) == scorer(search, X, y)


def make_pipeline_of(model):
    """Return a fitted pipeline with a fitted model."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer().fit(X), model)


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss"])
@pytest.mark.parametrize("task", [None, "amount"])
def test_a_metric_of_classes_says_which_task_has_none(metric, task):
    y = {"click": CLICK, "amount": AMOUNT}
    model = MultiTaskMMoE(**FAST).fit(X, y)
    with pytest.raises(ValueError, match="for classes, and task 'amount' has none"):
        make_task_scorer(metric, task)(model, X, y)


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e200, 1e300])
def test_units_of_a_regression_do_not_matter(unit):
    plain = MMoERegressor(**FAST).fit(X, AMOUNT).predict(X)
    scaled = MMoERegressor(**FAST).fit(X, AMOUNT * unit).predict(X)
    np.testing.assert_allclose(scaled / unit, plain, rtol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"task_weights": [1, 0]},
        {"gate_entropy": 1.0},
        {"load_balance": 1.0},
        {"n_bins": 5},
        {"min_frequency": 2},
        {"max_list_length": 3},
        {"categorical_features": [0]},
    ],
)
def test_going_on_with_what_a_network_cannot_change_is_an_error(changed):
    y = np.column_stack([AMOUNT, X[:, 1]])
    model = MMoERegressor(warm_start=True, **FAST).fit(X, y)
    model.set_params(**changed)
    with pytest.raises(ValueError, match=f"the last fit has {next(iter(changed))}="):
        model.fit(X, y)
    with pytest.raises(ValueError, match=f"the last fit has {next(iter(changed))}="):
        model.partial_fit(X, y)


def test_going_on_with_the_same_settings_in_other_types():
    model = MMoERegressor(warm_start=True, task_weights=[1.0], **FAST).fit(X, AMOUNT)
    model.set_params(
        expert_hidden=[32], n_experts=np.int64(8), task_weights=np.array([1.0])
    )
    assert model.fit(X, AMOUNT).history_["epoch"].tolist() == [4, 5, 6]


@pytest.mark.parametrize("class_weight", [{0: 1, 1: 10}, "balanced"])
def test_class_weights_count_in_rows_given_for_validation(class_weight):
    rare = (X[:, 0] > 1).astype(int)
    given = {"X_val": X[60:], "y_val": rare[60:]}
    fitted = MMoEClassifier(class_weight=class_weight, **FAST)
    loss = fitted.fit(X[:60], rare[:60], **given).history_["validation_loss"]
    share = rare[60:].mean()
    heavy = 10.0 if class_weight != "balanced" else (1 - share) / share
    weight = np.where(rare[60:] == 1, heavy, 1.0)
    chosen = fitted.predict_proba(X[60:])[np.arange(60), rare[60:]]
    best = loss[fitted.best_epoch_ - 1, 0]
    assert best == pytest.approx(-np.average(np.log(chosen), weights=weight))


def test_min_frequency_counts_rows():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"c": ["x"] * 5 + ["y"] * (N - 5)})
    model = MMoERegressor(min_frequency=5, **FAST).fit(table, AMOUNT)
    seen, new = model.predict(pd.DataFrame({"c": ["x", "never seen"]}))
    assert seen != new


def test_classes_of_a_regression():
    model = MultiTaskMMoE({"click": "binary", "amount": "regression"}, **FAST)
    y = {"click": CLICK, "amount": AMOUNT}
    with pytest.raises(ValueError, match="classes names task 'amount', which has none"):
        model.partial_fit(X, y, classes={"amount": [1, 2]})


def test_complex_columns():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="Complex data not supported: column 'a'"):
        MMoERegressor(**FAST).fit(pd.DataFrame({"a": X[:, 0] + 1j}), AMOUNT)


def test_labels_that_are_no_classes_are_named_as_they_print():
    with pytest.raises(ValueError, match=r"got 0\.5: use a regressor"):
        MMoEClassifier(**FAST).fit(X, np.full(N, 0.5))
