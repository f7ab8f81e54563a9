"""The estimators inside scikit-learn: checks, searches, copies, callbacks."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.multitask._small import assert_same_state, raw, state
from tests.neural._small import (
    classifier,
    leaf_classifier,
    leaf_regressor,
    regressor,
    rows,
)

MAKERS = [classifier, regressor, leaf_classifier, leaf_regressor]
# The checks ask how well a model fits their few rows.
CHECKED = {"learning_rate": 0.02, "max_epochs": 60, "batch_size": 1024}
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
OF_ROWS = {
    WEIGHTS: "noise is drawn, and the losses of routing are means, over rows as they "
    "are: see test_weights_are_repetitions_where_no_loss_or_noise_is_of_rows"
}


@parametrize_with_checks(
    [
        classifier(**CHECKED),
        regressor(**CHECKED),
        leaf_classifier(**CHECKED),
        leaf_regressor(**CHECKED),
    ],
    expected_failed_checks=lambda estimator: OF_ROWS,
)
def test_passes_the_checks(estimator, check):
    check(estimator)


# What a variant changes is how it behaves, not what it accepts.
BEHAVIOUR = {
    "check_dict_unchanged",
    "check_estimators_pickle",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
}


def of_behaviour(estimators, names):
    mark = parametrize_with_checks(estimators)
    wanted = [case for case in mark.args[1] if check_name(case) in names]
    assert {check_name(case) for case in wanted} == names
    return pytest.mark.parametrize(mark.args[0], wanted, **mark.kwargs)


def check_name(case):
    check = getattr(case, "values", case)[1]
    return getattr(check, "func", check).__name__


@of_behaviour(
    [
        regressor(router="topk"),
        regressor(router="switch", capacity_factor=1.0, overflow="next"),
        regressor(router="expert_choice"),
        regressor(router="dense", stem_hidden=(8,), linear=False),
        regressor(router="hash"),
        classifier(router="random"),
        leaf_regressor(master_leaf_width=4),
    ],
    BEHAVIOUR,
)
def test_variant_passes_the_checks_of_behaviour(estimator, check):
    check(estimator)


@of_behaviour(
    [
        regressor(router="topk", router_losses={}),
        classifier(router="topk", router_losses={"z": 0.0}, stem_hidden=(8,)),
        regressor(router="dense"),
        regressor(router="hash"),
        leaf_regressor(hardening=0.0, load_balance=0.0, region_leak=0.0),
        leaf_classifier(
            hardening=0.0, load_balance=0.0, region_leak=0.0, master_leaf_width=4
        ),
    ],
    {WEIGHTS},
)
def test_weights_are_repetitions_where_no_loss_or_noise_is_of_rows(estimator, check):
    check(estimator)


@pytest.mark.parametrize("make", MAKERS)
def test_rows_of_weight_zero_are_left_out_of_all(make):
    X, y = rows()
    weight = np.ones(200)
    weight[150:] = 0.0
    one = make().fit(X, y, sample_weight=weight)
    other = make().fit(X[:150], y[:150])
    assert_same_state(state(one), state(other))


def test_kinds_of_estimators():
    assert is_classifier(classifier())
    assert is_classifier(leaf_classifier())
    assert is_regressor(regressor())
    assert is_regressor(leaf_regressor())


@pytest.mark.parametrize("make", MAKERS)
def test_copies_predict_the_same_and_go_on_alike(make):
    X, y = rows()
    model = make().fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(raw(copy, X), raw(model, X))
    assert_same_state(state(copy.partial_fit(X, y)), state(model.partial_fit(X, y)))
    assert not hasattr(clone(model), "history_")


@pytest.mark.parametrize("make", MAKERS)
def test_fits_in_threads_equal_fits_in_turn(make):
    X, y = rows()
    models = [make(random_state=seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda model: raw(model.fit(X, y), X), models))
    for seed, found in enumerate(at_once):
        assert_array_equal(found, raw(make(random_state=seed).fit(X, y), X))


def test_search_over_routers_and_sizes():
    X, y = rows()
    grid = {"router": ["topk", "dense"], "n_experts": [2, 4]}
    search = GridSearchCV(classifier(), grid, cv=2, scoring="neg_log_loss").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    params = search.best_params_
    assert search.best_estimator_.gate_weights(X).shape == (200, params["n_experts"])


@pytest.mark.parametrize("make", [leaf_classifier, classifier])
def test_cross_validation(make):
    X, y = rows()
    scores = cross_val_score(make(), X, y, cv=2, scoring="roc_auc")
    assert np.isfinite(scores).all()


def test_callback_sees_epochs_and_stops_them():
    X, y = rows()

    class Watch:
        seen = 0

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(
            self, estimator, context, *, X, y, metadata, fitted_estimator
        ):
            if context.task_name == "epoch":
                Watch.seen += 1
                assert fitted_estimator.predict(X).shape == y.shape
            return Watch.seen == 2

    model = classifier(max_epochs=9).set_callbacks(Watch()).fit(X, y)
    assert model.n_iter_ == 2


def test_leaks_are_drawn_from_the_state_that_is_given():
    X, y = rows()
    one = raw(leaf_classifier(region_leak=0.3).fit(X, y), X)
    torch.rand(3)  # the global generator has no part in it
    assert_array_equal(raw(leaf_classifier(region_leak=0.3).fit(X, y), X), one)
    other = raw(leaf_classifier(region_leak=0.0).fit(X, y), X)
    assert np.abs(one - other).max() > 1e-3


# -- what it learns ----------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, leaf_classifier])
def test_learns_what_no_line_tells(make):
    X, y = rows(2000)
    model = make(max_epochs=30, learning_rate=0.02).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > 0.85
    assert model.predict_proba(X).shape == (2000, 2)


@pytest.mark.parametrize("make", [regressor, leaf_regressor])
def test_several_outputs_at_once(make):
    X, _ = rows(1000)
    y = np.column_stack([np.abs(X[:, 0]), 100.0 + X[:, 1], X[:, 0] * X[:, 2]])
    model = make(max_epochs=40, learning_rate=0.02).fit(X[:600], y[:600])
    assert model.predict(X).shape == (1000, 3)
    assert model.score(X[600:], y[600:]) > 0.7
    single = make().fit(X, y[:, 0])
    assert single.predict(X).shape == (1000,)


@pytest.mark.parametrize("make", [classifier, leaf_classifier])
def test_frames_with_categories_and_gaps(make):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=300), "b": rng.choice(["x", "y", "z"], size=300)}
    )
    y = np.where((frame["b"] == "x") ^ (frame["a"] > 0), "yes", "no")
    frame.loc[::7, "a"] = np.nan
    model = make(max_epochs=40, learning_rate=0.02).fit(frame, y)
    assert model.score(frame, y) > 0.78
    assert_array_equal(model.classes_, ["no", "yes"])
    assert_array_equal(model.feature_names_in_, ["a", "b"])


def test_class_weights_move_the_probabilities():
    X, _ = rows()
    y = (X[:, 0] > 1.0).astype(int)
    plain = classifier().fit(X, y).predict_proba(X)[:, 1].mean()
    even = classifier(class_weight="balanced").fit(X, y).predict_proba(X)[:, 1].mean()
    assert even > plain + 0.2


def test_warm_start_goes_on():
    X, y = rows()
    model = classifier(warm_start=True).fit(X, y).fit(X, y)
    assert model.history_["epoch"].tolist() == [4, 5, 6]
    with pytest.raises(ValueError, match="network of the last fit has n_experts=4"):
        model.set_params(n_experts=3).fit(X, y)


def test_held_out_rows_tell_the_best_epoch():
    X, y = rows(400)
    model = classifier(early_stopping=True, n_iter_no_change=2, max_epochs=30)
    model.fit(X, y)
    score = model.history_["score"]
    assert model.best_epoch_ == score.argmax() + 1
    assert model.n_iter_ == len(score)


def test_many_rows_stop_early_by_default():
    X, y = rows(1100)
    assert "score" in classifier(max_epochs=1).fit(X, y).history_
    assert "score" not in classifier(max_epochs=1).fit(X[:1000], y[:1000]).history_


@pytest.mark.parametrize("make", [classifier, leaf_classifier])
def test_bfloat16_is_near_float32(make):
    X, y = rows()
    fine = make(precision="float32").fit(X, y)
    coarse = make(precision="bfloat16").fit(X, y)
    # Rounding may send a row on the border to the next leaf.
    same = fine.apply(X) == coarse.apply(X)
    assert same.mean() > 0.98
    apart = np.abs(coarse.predict_proba(X) - fine.predict_proba(X))[same]
    assert 0 < apart.max() < 0.05
