"""From arguments to networks: architectures, epochs, skill."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.metrics import d2_log_loss_score, mean_poisson_deviance, r2_score

from skmoe.multitask import MMoEClassifier, MMoERegressor
from skmoe.multitask._labels import Task
from skmoe.multitask._plan import LEAST_EPOCHS, MOST_EPOCHS, STEPS, epochs_for
from skmoe.multitask._skill import mean_score, skill
from tests.multitask._small import classifier, mixed, raw, regressor, rows


@pytest.mark.parametrize(
    "architecture",
    ["mmoe", "shared_bottom", "omoe", "cgc", "ple", "aitm", "esmm", "single"],
)
def test_every_architecture_learns_and_tells_its_gates(architecture):
    X, y = rows(400)
    model = classifier(architecture=architecture, learning_rate=0.02, max_epochs=15)
    model.fit(X, y)
    assert model.score(X, y) > 0.85
    weight = model.gate_weights(X[:7])
    assert weight.shape[:2] == (7, 2)
    assert_allclose(weight.sum(axis=2), 1.0)
    n_numbers = sum(p.numel() for p in model.network_.parameters())
    assert model.n_parameters_ == n_numbers


def test_untrained_network_predicts_the_means():
    X, y = rows()
    segment = np.digitize(X[:, 2], [-0.5, 1.0])
    labels = {"click": y[:, 0], "segment": segment, "visits": segment * 2}
    kinds = {"click": "binary", "segment": "multiclass", "visits": "count"}
    model = mixed(tasks=kinds, learning_rate=1e-12, max_epochs=1).fit(X, labels)
    outputs = raw(model, X).mean(axis=0)
    assert_allclose(expit(outputs[0]), y[:, 0].mean(), atol=0.1)
    share = np.exp(outputs[1:4]) / np.exp(outputs[1:4]).sum()
    assert_allclose(share, np.bincount(segment) / 200, atol=0.1)
    assert_allclose(np.exp(outputs[4]), 2 * segment.mean(), rtol=0.3)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "epochs"),
    [
        (1_000_000, 1024, LEAST_EPOCHS),
        (10, 1024, MOST_EPOCHS),
        (40 * 1024, 1024, -(-STEPS // 40)),
        (40 * 1024 + 1, 1024, -(-STEPS // 41)),
    ],
)
def test_epochs_make_enough_steps(n_rows, batch_size, epochs):
    model = MMoERegressor(batch_size=batch_size)
    assert epochs_for(model, n_rows) == epochs
    assert epochs_for(MMoEClassifier(max_epochs=7), n_rows) == 7


@pytest.mark.parametrize("encoding", ["bins", "standard", "piecewise", "periodic"])
def test_numbers_can_be_read_in_four_ways(encoding):
    X, _ = rows(400)
    model = regressor(numeric_encoding=encoding, learning_rate=0.02, max_epochs=40)
    assert model.fit(X, X[:, :2] ** 2).score(X, X[:, :2] ** 2) > 0.6


def test_members_share_one_estimator():
    X, y = rows()
    model = classifier(n_members=3, learning_rate=0.02, max_epochs=10).fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.n_parameters_ > classifier().fit(X, y).n_parameters_


# -- skill -------------------------------------------------------------------------


def test_skill_is_what_scikit_learn_calls_it(rng):
    weight = rng.uniform(0.5, 2.0, size=50)
    hidden = np.where(np.arange(50) % 5 == 0, 0.0, weight)
    known = hidden > 0
    y, z = rng.normal(size=50), rng.normal(size=(50, 1))
    expected = r2_score(y[known], z[known], sample_weight=hidden[known])
    assert_allclose(skill(Task("a", "regression"), y, z, hidden), expected)
    labels = rng.integers(2, size=50)
    proba = np.column_stack([1 - expit(z[:, 0]), expit(z[:, 0])])
    expected = d2_log_loss_score(labels, proba, sample_weight=weight)
    task = Task("a", "binary", np.array([0, 1]))
    assert_allclose(skill(task, labels.astype(float), z, weight), expected)
    counts = rng.poisson(2.0, size=50).astype(float)
    constant = np.full(50, np.average(counts, weights=weight))
    ratio = mean_poisson_deviance(
        counts, np.exp(z[:, 0]), sample_weight=weight
    ) / mean_poisson_deviance(counts, constant, sample_weight=weight)
    assert_allclose(skill(Task("a", "count"), counts, z, weight), 1 - ratio)


@pytest.mark.parametrize("kind", ["regression", "count"])
def test_skill_of_nothing_is_not_a_number(kind):
    raw_outputs = np.zeros((4, 1))
    task = Task("a", kind)
    assert np.isnan(skill(task, np.zeros(4), raw_outputs, np.ones(4)))
    assert np.isnan(skill(task, np.ones(4), raw_outputs, np.zeros(4)))


def test_mean_of_scores_leaves_out_what_is_not_defined():
    assert mean_score([0.5, np.nan, 1.0]) == 0.75
    assert mean_score([0.5, np.nan, 1.0], np.array([3.0, 1.0, 1.0])) == 0.625
    assert mean_score([0.5, 1.0], np.array([1.0, 0.0])) == 0.5
