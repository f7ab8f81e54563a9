"""How the estimators train: labels, weights, held-out rows, and going on."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, r2_score, roc_auc_score

from skmoe.multitask import MMoEClassifier, MMoERegressor
from skmoe.multitask._table import BaseTable
from tests.multitask._small import (
    assert_same_state,
    classifier,
    mixed,
    raw,
    regressor,
    rows,
    state,
)

# -- what a fit leaves alone -------------------------------------------------------


def test_two_fits_are_equal_to_the_last_bit_and_touch_nothing(
    capfd, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    X, y = rows()
    kept_X, kept_y = X.copy(), y.copy()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  it is what is tested
    torch_state = torch.get_rng_state()
    options = {"dropout": 0.3, "gate_dropout": 0.3, "column_dropout": 0.3}
    models = [
        classifier(early_stopping=True, **options).fit(X, y).partial_fit(X, y)
        for _ in range(2)
    ]
    assert_same_state(*map(state, models))
    assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(X, kept_X)
    assert_array_equal(y, kept_y)
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_seeds_matter():
    X, y = rows()
    one, other = (classifier(random_state=seed).fit(X, y) for seed in (0, 1))
    assert np.abs(raw(one, X) - raw(other, X)).max() > 0


def test_random_state_instance_goes_on():
    X, y = rows()
    rng = np.random.RandomState(0)
    one, other = (classifier(random_state=rng).fit(X, y) for _ in range(2))
    assert np.abs(raw(one, X) - raw(other, X)).max() > 0


def test_verbose_prints_a_line_an_epoch(capsys):
    X, y = rows()
    model = classifier(verbose=1, early_stopping=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    last = model.history_["validation_loss"][-1]
    assert lines[-1] == (
        f"MMoEClassifier: epoch 3: validation loss y0 {last[0]:.4f}, y1 {last[1]:.4f}"
    )


# -- faults that others have -------------------------------------------------------


def test_dropout_stays_on_behind_the_first_validation_pass():
    X, y = rows()
    modes = []

    class Listen:
        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, *, fitted_estimator, **_):
            if context.task_name == "epoch" and not modes:
                modes.append("heard")
                fitted_estimator.network_.register_forward_pre_hook(
                    lambda network, _: modes.append(network.training)
                )
            return False

    model = classifier(dropout=0.5).set_callbacks(Listen())
    model.fit(X, y, X_val=X, y_val=y)
    # 200 rows in batches of 64, and one pass over the held-out rows.
    assert modes[1:] == [True, True, True, True, False] * 2
    assert not model.network_.training


@pytest.mark.parametrize("patience", [2, 1000])
@pytest.mark.parametrize("decay", [0.0, 0.998])
def test_the_weights_of_the_best_epoch_come_back(patience, decay):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 3))
    y = (X[:, :2] + 2.0 * rng.normal(size=(120, 2)) > 0).astype(int)
    model = classifier(
        max_epochs=40,
        n_iter_no_change=patience,
        learning_rate=0.05,
        weight_averaging=decay,
    )
    model.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    history = model.history_
    best = history["score"].argmax()
    assert 0 < best < model.n_iter_ - 1
    assert model.best_epoch_ == best + 1
    assert model.n_iter_ == (40 if patience == 1000 else best + 1 + patience)
    losses = [
        log_loss(y[60:, t], proba)
        for t, proba in enumerate(model.predict_proba(X[60:]))
    ]
    assert_allclose(losses, history["validation_loss"][best], rtol=1e-6)
    assert_allclose(sum(losses), -history["score"][best], rtol=1e-6)


def test_area_under_the_curve_is_that_of_each_task():
    X, y = rows()
    y[:, 1] = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
    y_val = y.copy()
    y_val[::3, 0] = np.nan
    weight = np.arange(200) % 3 + 1.0
    model = classifier(monitor="auc", learning_rate=0.02)
    model.fit(X, y, X_val=X, y_val=y_val, sample_weight_val=weight)
    known = np.isfinite(y_val[:, 0])
    click, segment = model.predict_proba(X)
    areas = [
        roc_auc_score(y[known, 0], click[known, 1], sample_weight=weight[known]),
        np.mean(
            [
                roc_auc_score(y[:, 1] == k, segment[:, k], sample_weight=weight)
                for k in range(3)
            ]
        ),
    ]
    history, best = model.history_, model.best_epoch_ - 1
    assert history["validation_auc"].shape == (3, 2)
    assert_allclose(history["validation_auc"][best], areas, rtol=1e-12)
    assert_allclose(history["score"][best], np.mean(areas), rtol=1e-12)
    assert best == history["score"].argmax()


@pytest.mark.parametrize("architecture", ["mmoe", "shared_bottom"])
def test_no_task_is_dead_from_the_start(architecture):
    # Elsewhere one start in nine leaves a task with a constant prediction.
    X, y = rows()
    for seed in range(20):
        model = MMoEClassifier(
            architecture, max_epochs=10, batch_size=64, random_state=seed
        ).fit(X, y)
        for t, proba in enumerate(model.predict_proba(X)):
            assert roc_auc_score(y[:, t], proba[:, 1]) > 0.8, seed


@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_batch_of_one_left_over_row(make):
    X, y = rows(65)
    model = make(normalize_experts=True, dropout=0.2).fit(X, y)
    assert np.isfinite(raw(model, X)).all()
    # A row is predicted as it is among others.
    assert_allclose(raw(model, X[:1]), raw(model, X)[:1], rtol=1e-12)


# -- labels ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["(n,)", "(n, 1)", "(n, T)"])
def test_shapes_of_y(shape):
    X, y = rows()
    if shape == "(n, T)":
        model = classifier().fit(X, y)
        assert [c.tolist() for c in model.classes_] == [[0, 1], [0, 1]]
        assert [p.shape for p in model.predict_proba(X)] == [(200, 2)] * 2
        assert model.predict(X).shape == regressor().fit(X, y).predict(X).shape
        assert model.task_names_ == ["y0", "y1"]
        return
    if shape == "(n,)":
        model = classifier().fit(X, y[:, 0])
    else:
        with pytest.warns(UserWarning, match="column-vector y"):
            model = classifier().fit(X, y[:, :1])
    assert model.classes_.tolist() == [0, 1]
    assert model.predict(X).shape == (200,)
    assert model.predict_proba(X).shape == (200, 2)


def test_labels_come_back_as_they_were():
    X, y = rows()
    words = np.where(y[:, 0] > 0, "yes", "no")
    both = np.empty((200, 2), dtype=object)
    both[:, 0], both[:, 1] = words, np.where(y[:, 1] > 0, 7, 3)
    both[5, 0] = None
    model = classifier(learning_rate=0.05, max_epochs=20).fit(X, both)
    assert model.classes_[0].tolist() == ["no", "yes"]
    assert model.classes_[1].tolist() == [3, 7]
    found = model.predict(X)
    assert found.dtype == object
    assert (found[:, 0] == words).mean() > 0.8
    assert set(found[:, 1]) == {3, 7}
    assert classifier().fit(X, words).predict(X).dtype == words.dtype
    assert classifier().fit(X, y > 0).predict(X).dtype == bool


def test_score_is_the_mean_accuracy_of_labelled_rows():
    X, y = rows()
    y[:, 1] = np.digitize(X[:, 1], [-0.5, 0.5])
    y[:50, 0] = np.nan
    model = classifier(learning_rate=0.02).fit(X, y)
    right = model.predict(X) == y
    mean = (right[50:, 0].mean() + right[:, 1].mean()) / 2
    assert_allclose(model.score(X, y), mean)
    weight = np.arange(200.0)
    parts = [
        np.average(right[50:, 0], weights=weight[50:]),
        np.average(right[:, 1], weights=weight),
    ]
    assert_allclose(model.score(X, y, weight), np.mean(parts))


def test_score_of_a_regression_is_r_squared_of_labelled_rows():
    X, _ = rows()
    y = X[:, :2].copy()
    y[:50, 0] = np.nan
    model = regressor(learning_rate=0.02).fit(X, y)
    found = model.predict(X)
    parts = [r2_score(y[50:, 0], found[50:, 0]), r2_score(y[:, 1], found[:, 1])]
    assert_allclose(model.score(X, y), np.mean(parts))


@pytest.mark.parametrize("make", [classifier, regressor, mixed])
def test_what_stands_where_a_label_is_missing_does_not_matter(make):
    X, y = rows()
    gap = np.random.default_rng(5).random((200, 2)) < 0.3
    with_gaps = np.where(gap, np.nan, y)
    model = make().fit(X, with_gaps)
    nothing = np.where(gap, None, y)
    assert_same_state(state(make().fit(X, nothing)), state(model))
    # A label of weight zero is no label, even one of a class that does not exist.
    wrong = np.where(gap, 99.0, y)
    weighted = make().fit(X, wrong, sample_weight=np.where(gap, 0.0, 1.0))
    assert_same_state(state(weighted), state(model))
    assert_array_equal(weighted.history_["train_loss"], model.history_["train_loss"])


def test_a_task_with_few_labels_is_learned_beside_the_other():
    X, y = rows(1000)
    few = y.copy()
    few[np.arange(1000) % 10 > 0, 1] = np.nan
    model = classifier(learning_rate=0.02, max_epochs=15).fit(X, few)
    click, buy = model.predict_proba(X)
    assert roc_auc_score(y[:, 0], click[:, 1]) > 0.95
    hidden = np.isnan(few[:, 1])
    assert roc_auc_score(y[hidden, 1], buy[hidden, 1]) > 0.9


def test_one_label_of_a_task_is_enough():
    X, _ = rows()
    y = X[:, :2].copy()
    y[1:, 1] = np.nan
    model = regressor(early_stopping=True).fit(X, y)
    assert_allclose(model.predict(X)[:, 1], y[0, 1], atol=1.0)


# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, regressor])
def test_rows_of_weight_zero_might_as_well_not_be_there(make):
    X, y = rows()
    weight = (np.arange(200) % 4 > 0).astype(float)
    far = X.copy()
    far[weight == 0] = 1e6
    model = make().fit(far, y, sample_weight=weight)
    without = make().fit(X[weight > 0], y[weight > 0])
    assert_same_state(state(model), state(without))
    unlabelled = np.where(weight[:, None] > 0, y, np.nan)
    assert_same_state(state(make().fit(far, unlabelled)), state(without))


def test_weights_of_rows_are_those_of_all_their_labels():
    X, y = rows()
    weight = np.random.default_rng(5).uniform(0.5, 2.0, size=200)
    model = classifier().fit(X, y, sample_weight=weight)
    both = classifier().fit(X, y, sample_weight=np.column_stack([weight, weight]))
    assert_same_state(state(model), state(both))
    one = classifier().fit(X, y, sample_weight=np.column_stack([weight, weight**2]))
    assert np.abs(raw(one, X) - raw(model, X)).max() > 0


def test_balanced_classes_are_weights_of_labels():
    # Categories only: weights of rows would move the scales of numbers.
    rng = np.random.default_rng(0)
    X = rng.integers(4, size=(200, 2))
    y = np.column_stack([X[:, 0] > 2, X[:, 1] > 0]).astype(int)
    common = {"categorical_features": [0, 1]}
    model = classifier(class_weight="balanced", **common).fit(X, y)
    share = y.mean(axis=0)
    weight = np.where(y == 1, 0.5 / share, 0.5 / (1 - share))
    by_hand = classifier(**common).fit(X, y, sample_weight=weight)
    assert_allclose(raw(model, X), raw(by_hand, X), rtol=1e-9)
    each = [{0: 0.5 / (1 - s), 1: 0.5 / s} for s in share]
    listed = classifier(class_weight=each, **common).fit(X, y)
    assert_allclose(raw(listed, X), raw(by_hand, X), rtol=1e-9)
    plain = classifier(**common).fit(X, y)
    assert np.abs(raw(plain, X) - raw(model, X)).max() > 0.1


def test_task_weights_by_place_and_by_name():
    X, y = rows()
    listed = classifier(task_weights=[1, 3]).fit(X, y)
    named = classifier(task_weights={"y1": 3, "y0": 1}).fit(X, y)
    assert_same_state(state(listed), state(named))
    assert np.abs(raw(listed, X) - raw(classifier().fit(X, y), X)).max() > 0


def test_task_of_weight_zero_teaches_nothing():
    X, y = rows()
    other = y.copy()
    other[:, 1] = np.roll(y[:, 1], 50)
    one, two = (classifier(task_weights=[1, 0]).fit(X, labels) for labels in (y, other))
    assert_same_state(state(one), state(two))


def test_uncertain_tasks_get_less_weight():
    X, _ = rows()
    noise = np.random.default_rng(9).normal(size=200)
    y = np.column_stack([X[:, 0], noise])
    model = regressor(task_weights="uncertainty", max_epochs=30, learning_rate=0.02)
    model.fit(X, y)
    sure, unsure = model._fitted.model.trainer.objective.log_variance.tolist()
    assert sure < unsure - 0.5


# -- held-out rows -----------------------------------------------------------------


def test_early_stopping_is_what_the_argument_says(monkeypatch):
    X, y = rows()
    few = classifier().fit(X, y)
    assert "score" not in few.history_
    assert few.best_epoch_ == 3
    monkeypatch.setattr(BaseTable, "_stops_above", 199)
    many = classifier().fit(X, y)
    assert many.history_["validation_loss"].shape == (3, 2)
    assert_same_state(state(many), state(classifier(early_stopping=True).fit(X, y)))
    never = classifier(early_stopping=False).fit(X, y)
    assert_same_state(state(never), state(few))


def test_given_rows_are_held_out_in_place_of_others():
    X, y = rows()
    model = classifier(early_stopping=True, max_epochs=3).fit(X, y, X_val=X, y_val=y)
    # None of X is held out: the same steps as without.
    assert model.best_epoch_ == 3
    assert_same_state(state(model), state(classifier().fit(X, y)))


def test_rare_classes_are_on_both_sides():
    X, y = rows()
    y[:, 1] = 0.0
    y[::20, 1] = 1.0
    for seed in range(5):
        model = classifier(monitor="auc", early_stopping=True, random_state=seed)
        model.fit(X, y)
        assert np.isfinite(model.history_["validation_auc"]).all()


def test_a_task_without_held_out_positives_is_told_and_the_other_decides():
    X, y = rows()
    y_val = y.copy()
    y_val[:, 1] = 0.0
    with pytest.warns(UserWarning, match=r"fewer than two classes of \['y1'\]"):
        model = classifier(monitor="auc").fit(X, y, X_val=X, y_val=y_val)
    areas = model.history_["validation_auc"]
    assert np.isnan(areas[:, 1]).all()
    assert_array_equal(model.history_["score"], areas[:, 0])
    # The loss needs no second class.
    assert np.isfinite(
        classifier().fit(X, y, X_val=X, y_val=y_val).history_["score"]
    ).all()


def test_a_task_of_weight_zero_is_no_reason_to_warn():
    X, y = rows()
    y_val = y.copy()
    y_val[:, 1] = np.nan
    model = classifier(monitor="auc", task_weights=[1, 0])
    model.fit(X, y, X_val=X, y_val=y_val)
    assert_array_equal(model.history_["score"], model.history_["validation_auc"][:, 0])


# -- going on ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, regressor, mixed])
def test_warm_start_goes_on_where_the_last_fit_ended(make):
    X, y = rows()
    # Without an average, which starts anew with each fit.
    model = make(warm_start=True, weight_averaging=0.0, dropout=0.2).fit(X, y)
    model.fit(X, y)
    longer = make(weight_averaging=0.0, dropout=0.2, max_epochs=6).fit(X, y)
    assert_same_state(state(model), state(longer))
    assert model.history_["epoch"].tolist() == [4, 5, 6]
    assert model.n_iter_ == 3
    assert model.best_epoch_ == 6


def test_partial_fit_as_the_first_call_is_one_epoch():
    X, y = rows()
    model = classifier().partial_fit(X, y)
    assert_same_state(state(model), state(classifier(max_epochs=1).fit(X, y)))
    assert model.partial_fit(X, y).history_["epoch"].tolist() == [2]


def test_later_days_may_lack_a_task():
    X, y = rows()
    model = classifier().fit(X, y)
    day = y[:50].copy()
    day[:, 1] = np.nan
    before = raw(model, X)
    model.partial_fit(X[:50], day)
    assert np.abs(raw(model, X) - before)[:, 0].max() > 0
    assert np.isfinite(raw(model, X)).all()


def test_classes_of_later_days_can_be_declared():
    X, y = rows()
    first = np.zeros_like(y)
    model = classifier().partial_fit(X, first, classes=[[0, 1], [0, 1, 2]])
    assert [c.tolist() for c in model.classes_] == [[0, 1], [0, 1, 2]]
    model.partial_fit(X, y)
    assert model.predict_proba(X)[1].shape == (200, 3)
    named = mixed(tasks={"a": "binary", "b": "regression"})
    named.partial_fit(X, {"a": first[:, 0], "b": X[:, 0]}, classes={"a": [0, 1]})
    assert named.classes_["a"].tolist() == [0, 1]


def test_new_categories_leave_the_vectors_of_the_old_ones_alone():
    pd = pytest.importorskip("pandas")
    X, y = rows()
    old = pd.DataFrame({"a": X[:, 0], "c": np.where(X[:, 1] > 0, "u", "v")})
    new = old.assign(c=np.where(X[:, 1] > 1, "w", old["c"]))
    model = classifier(learning_rate=0.02).fit(old, y)
    table = model.network_.rows.table.weight.detach().numpy().copy()
    before = raw(model, old)
    model.set_params(learning_rate=1e-12).partial_fit(new, y)
    grown = model.network_.rows.table.weight.detach().numpy()
    assert len(grown) == len(table) + 1
    assert_allclose(grown[:-1], table, atol=1e-9)
    assert_allclose(raw(model, old), before, atol=1e-7)
    assert np.abs(grown[-1]).min() > 0
    # The new one is learned from now on.
    model.set_params(learning_rate=0.02).partial_fit(new, y)
    only_new = new[new["c"] == "w"]
    as_unseen = only_new.assign(c="never")
    assert np.abs(raw(model, only_new) - raw(model, as_unseen)).max() > 0


# -- numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precisions_agree(precision):
    X, y = rows()
    # Without bins: the trainings would part where rounding decides.
    options = {"numeric_encoding": "standard", "max_epochs": 2}
    exact = classifier(precision="float64", **options).fit(X, y)
    model = classifier(precision=precision, **options).fit(X, y)
    assert next(exact.network_.parameters()).dtype == torch.float64
    assert next(model.network_.parameters()).dtype == torch.float32
    assert raw(model, X).dtype == np.float64
    atol = 1e-4 if precision == "float32" else 2e-2
    assert_allclose(raw(model, X), raw(exact, X), atol=atol)
    assert_same_state(state(classifier(**options).fit(X, y)), state(exact))


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_a_network_of_another_structure_is_not_gone_on_with(way):
    X, y = np.random.default_rng(0).normal(size=(2, 60, 2))
    model = MMoERegressor(n_experts=2, max_epochs=1, warm_start=True).fit(X, y)
    model.set_params(n_experts=3)
    with pytest.raises(ValueError, match="has n_experts=2, and n_experts is 3 now"):
        getattr(model, way)(X, y)
    model.set_params(n_experts=2, dropout=0.0, learning_rate=1e-3)
    getattr(model, way)(X, y)


def test_partial_fit_does_not_forget_categories_that_do_not_occur():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"item": pd.Categorical(rng.choice(list("abc"), size=400))})
    y = (X["item"] == "c").to_numpy().astype(int)
    model = MMoEClassifier(random_state=0).fit(X, y)
    before = model.predict_proba(X)
    kept = X["item"] != "c"
    for _ in range(5):
        model.partial_fit(X[kept], y[kept], classes=[0, 1])
    after = model.predict_proba(X)
    assert before[~kept, 1].min() > 0.9
    assert after[~kept, 1].min() > 0.5
