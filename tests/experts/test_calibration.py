"""Class probabilities from margins and labels."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime, check_grad
from scipy.special import expit, log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skmoe.experts import _calibration as calibration
from skmoe.experts._calibration import (
    Calibration,
    class_codes,
    class_scores,
    fit_calibration,
    score_kind,
)


def problem(rng, n=120, n_classes=3, signal=1.5):
    y = np.arange(n) % n_classes
    score = rng.normal(size=(n, n_classes)) + signal * np.eye(n_classes)[y]
    return score, y, rng.gamma(1.0, size=n)


def two_columns(margin):
    return np.column_stack([-margin / 2, margin / 2])


def test_two_classes_are_platts_sigmoid(rng):
    score, y, _ = problem(rng, n_classes=2)
    margin = score[:, 1] - score[:, 0]
    fitted = fit_calibration(two_columns(margin), y, np.ones(y.size))
    X = margin[:, None]
    judge = CalibratedClassifierCV(
        FrozenEstimator(_Margin().fit(X, y)), method="sigmoid", ensemble=False
    ).fit(X, y)
    ours = np.exp(fitted.log_proba(two_columns(margin)))
    assert_allclose(ours, judge.predict_proba(X), atol=1e-4)
    offset = fitted.offset[1] - fitted.offset[0]
    assert_allclose(ours[:, 1], expit(fitted.slope * margin + offset), rtol=1e-12)


class _Margin(RidgeClassifier):
    def decision_function(self, X):
        return X[:, 0]


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_derivatives_agree_with_finite_differences(rng, n_classes):
    score, y, weight = problem(rng, n_classes=n_classes)
    share = weight / weight.sum()
    target = 0.9 * np.eye(n_classes)[y] + 0.1 / n_classes
    args = (score, target, share)
    theta = rng.normal(size=n_classes + 1)

    def gradient(t, *a):
        return calibration._derivatives(t, *a)[0]

    assert check_grad(calibration._loss, gradient, theta, *args) < 1e-6
    hessian = calibration._derivatives(theta, *args)[1]
    numeric = approx_fprime(theta, gradient, 1e-7, *args)
    assert_allclose(hessian, numeric, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_minimum_is_reached(rng, n_classes):
    score, y, weight = problem(rng, n_classes=n_classes)
    fitted = fit_calibration(1e6 * score + 1e9, y, weight)
    share = weight / weight.sum()
    counts = np.bincount(y, weight)
    own = ((counts + 1) / (counts + n_classes))[y]
    rest = (1 / (counts + n_classes))[y]
    eye = np.eye(n_classes)[y]
    target = own[:, None] * eye + rest[:, None] * (1 - eye)

    def loss(slope, offset):
        log_proba = log_softmax(slope * 1e6 * score + offset, axis=1)
        return -share @ (target * log_proba).sum(axis=1)

    centred = 1e6 * score + 1e9
    centred = centred - centred.mean(axis=1, keepdims=True)
    lowest = loss(fitted.slope, fitted.offset)
    assert_allclose(
        fitted.log_proba(1e6 * score + 1e9),
        log_softmax(fitted.slope * centred + fitted.offset, axis=1),
    )
    for _ in range(20):
        slope = fitted.slope * (1 + 1e-3 * rng.normal())
        assert loss(slope, fitted.offset + 1e-3 * rng.normal(size=n_classes)) > lowest


def test_weight_equals_repetition_and_zero_weight_removal(rng):
    score, y, _ = problem(rng)
    count = rng.integers(0, 4, y.size)
    weighted = fit_calibration(score, y, count.astype(float))
    repeated = fit_calibration(
        np.repeat(score, count, axis=0), np.repeat(y, count), np.ones(count.sum())
    )
    assert_allclose(weighted.slope, repeated.slope, rtol=1e-8)
    assert_allclose(weighted.offset, repeated.offset, atol=1e-8)


def test_separable_and_useless_scores_stay_finite():
    y = np.repeat([0, 1], 20)
    separable = fit_calibration(two_columns(2.0 * y - 1.0), y, np.ones(40))
    proba = np.exp(separable.log_proba(two_columns(2.0 * y - 1.0)))
    assert_allclose(proba[y == 1, 1], 21 / 22, rtol=1e-6)
    useless = fit_calibration(np.zeros((40, 2)), y, 1.0 + y)
    wanted = (20 * 1 / 22 + 40 * 41 / 42) / 60
    assert_allclose(
        np.exp(useless.log_proba(np.zeros((1, 2))))[0, 1], wanted, rtol=1e-6
    )


def test_labels_give_their_smoothed_error_rates(rng):
    y = rng.integers(0, 2, 300)
    label = np.where(rng.random(300) < 0.2, 1 - y, y)
    weight = rng.gamma(2.0, size=300)
    fitted = fit_calibration(np.eye(2)[label], y, weight)
    proba = np.exp(fitted.log_proba(np.eye(2)))
    for said in (0, 1):
        chosen = label == said
        rate = np.average(y[chosen], weights=weight[chosen])
        assert_allclose(proba[said, 1], rate, atol=0.02)


def test_calibration_maps_shifted_scores_to_the_same_probabilities():
    fitted = Calibration(2.0, np.array([0.0, 1.0, -1.0]))
    score = np.arange(6.0).reshape(2, 3)
    assert_allclose(fitted.log_proba(score), fitted.log_proba(score + 17.0))
    assert_allclose(np.exp(fitted.log_proba(score)).sum(axis=1), 1.0)


@pytest.mark.parametrize("loader", [load_breast_cancer, load_wine, load_digits])
@pytest.mark.parametrize(
    "classifier",
    [LinearSVC(C=0.01), SVC(), SVC(decision_function_shape="ovo")],
    ids=repr,
)
def test_calibrated_margins_are_good_probabilities_on_new_rows(loader, classifier):
    X, y = loader(return_X_y=True)
    n_classes = y.max() + 1
    half = np.arange(y.size) % 2 == 0
    model = make_pipeline(StandardScaler(), classifier).fit(X[half], y[half])
    assert score_kind(model) == "margin"
    score = class_scores(model, X, n_classes, "margin")
    assert score.shape == (y.size, n_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_calibration(score[half], y[half], np.ones(half.sum()))
    proba = np.exp(fitted.log_proba(score[~half]))
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    judge.fit(X[half], y[half])
    reference = log_loss(y[~half], judge.predict_proba(X[~half]))
    assert log_loss(y[~half], proba) < 2 * reference + 0.05
    agree = proba.argmax(axis=1) == model.predict(X[~half])
    assert agree.mean() > 0.97


def test_margins_of_pairs_are_summed_to_classes():
    X, y = load_iris(return_X_y=True)
    pairs = SVC(decision_function_shape="ovo").fit(X, y)
    score = class_scores(pairs, X, 3, "margin")
    assert (score.argmax(axis=1) == pairs.predict(X)).mean() > 0.95
    duel = pairs.decision_function(X)
    assert_allclose(score[:, 0], duel[:, 0] + duel[:, 1])
    assert_allclose(score[:, 2], -duel[:, 1] - duel[:, 2])
    nested = OneVsOneClassifier(LinearSVC()).fit(X, y)
    assert_array_equal(
        class_scores(nested, X, 3, "margin"), nested.decision_function(X)
    )


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (KNeighborsClassifier(), "proba"),
        (Perceptron(), "margin"),
        (NearestCentroid(), "proba"),
    ],
)
def test_what_a_classifier_offers(model, kind):
    X, y = load_iris(return_X_y=True)
    model.fit(X, y)
    assert score_kind(model) == kind


class LabelsOnly:
    """Predict by the nearest class mean, and offer nothing else."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict(self, X):
        distance = ((X[:, None] - self.means_) ** 2).sum(axis=2)
        return self.classes_[distance.argmin(axis=1)]


@pytest.mark.parametrize(
    ("model", "kind", "unseen"),
    [
        (LogisticRegression(max_iter=1000), "proba", 0.0),
        (LinearSVC(), "margin", None),
        (LabelsOnly(), "label", 0.0),
    ],
)
def test_scores_are_aligned_when_classes_are_missing(model, kind, unseen):
    X, y = load_iris(return_X_y=True)
    seen = y != 1
    model.fit(X[seen], 3 * y[seen] // 2)  # codes 0 and 3 of five
    assert score_kind(model) == kind
    assert_array_equal(class_codes(model, 5), [0, 3])
    score = class_scores(model, X[seen], 5, kind)
    assert_array_equal(score.argmax(axis=1), model.predict(X[seen]))
    for code in (1, 2, 4):
        wanted = score.min(axis=1) if unseen is None else unseen
        assert_array_equal(score[:, code], np.broadcast_to(wanted, seen.sum()))


def test_classes_of_a_prefitted_model_are_matched_by_rank_or_refused():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    assert_array_equal(class_codes(LabelsOnly().fit(X, names), 3), [0, 1, 2])
    assert_array_equal(class_codes(LabelsOnly().fit(X, y + 1), 3), [0, 1, 2])
    some = LabelsOnly().fit(X[y > 0], names[y > 0])
    with pytest.raises(ValueError, match=r"classes \['b', 'c'\].*the 3 classes of y"):
        class_codes(some, 3)
    with pytest.raises(ValueError, match="cannot be matched to the 4 classes"):
        class_codes(LabelsOnly().fit(X, y + 5), 4)
