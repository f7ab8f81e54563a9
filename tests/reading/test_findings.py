"""Findings: each is there in a case where it was planted, and not in a healthy one."""

from dataclasses import replace

import numpy as np
import pytest

from skmoe import HierarchicalMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from skmoe.datasets import make_mixture_classification, make_mixture_regression
from skmoe.experts import LinearExpert, RobustLinearExpert, UniformExpert
from skmoe.gates import ConstantGate, SoftmaxGate
from skmoe.reading._case import Case
from skmoe.reading._findings import CHECKS
from tests._quick import classifier, regressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

KINDS = {
    "not converged",
    "collapsed",
    "idle",
    "redundant",
    "hard gate",
    "gate ignores x",
    "rival maximum",
    "uneven noise",
    "unexplained rows",
}


def found(model, kind):
    """Return the finding of a kind, or None."""
    findings = [f for f in model.diagnose().findings if f.kind == kind]
    assert len(findings) <= 1
    return findings[0] if findings else None


@pytest.fixture(scope="module")
def lines():
    """Two crossing lines, which one depends softly on x."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(400, 1))
    label = (rng.uniform(size=400) < 1 / (1 + np.exp(-3 * X[:, 0]))).astype(int)
    y = np.where(label, 4.0 - X[:, 0], 2.0 * X[:, 0]) + 0.3 * rng.normal(size=400)
    return X, y, label


def fit(data, experts=None, **kwargs):
    X, y, label = data
    return regressor(experts, **({"init": label} | kwargs)).fit(X, y)


def test_a_healthy_fit_has_no_finding(lines):
    assert fit(lines).diagnose().findings == []
    X, y = make_mixture_regression(800, random_state=0)
    assert MixtureOfExpertsRegressor(n_experts=3).fit(X, y).diagnose().findings == []
    X, y = make_mixture_classification(800, random_state=0)
    assert classifier(n_experts=3).fit(X, y).diagnose().findings == []


def test_kinds_are_these():
    assert len(CHECKS) == len(KINDS)


def test_not_converged(lines):
    model = fit(lines, max_iter=2, init="random")
    finding = found(model, "not converged")
    assert finding.severity == "problem"
    assert finding.message == (
        f"EM stopped after {model.n_iter_} passes before it had converged: raise "
        "max_iter (or tol)."
    )


def test_collapsed(lines):
    X, y, label = lines
    y = np.where(label, 4.0 - X[:, 0], y)
    free = LinearExpert(alpha=0.0, variance_prior=None)
    finding = found(fit((X, y, label), free), "collapsed")
    assert finding.severity == "problem"
    assert finding.experts == ["expert1"]
    assert finding.message.startswith("The noise of expert1 fell to its floor")


def test_idle(lines):
    X, y, label = lines
    rare = np.argsort(X[:, 0])[-5:]
    label, y = label.copy(), y.copy()
    label[rare], y[rare] = 2, -30.0 + 0.3 * np.arange(5)
    model = fit((X, y, label), n_experts=3)
    finding = found(model, "idle")
    assert finding.experts == ["expert2"]
    assert finding.message.startswith("expert2 is nearly idle (1 % of the rows)")


def test_an_idle_expert_is_not_told_as_redundant_too(lines):
    X, y, label = lines
    label = label.copy()
    label[np.argsort(X[:, 0])[-8:]] = 2  # rows of the same line
    flat = LinearExpert(alpha=0.0)
    model = fit((X, y, label), flat, n_experts=3, max_iter=1)
    assert found(model, "idle").experts == ["expert2"]
    lost, gap = Case(model, model._training_rows).costs_of_merging(2)
    assert lost[1] < 5.0
    assert gap[1] < 0.25
    assert found(model, "redundant") is None


def test_redundant_pair():
    rng = np.random.default_rng(0)
    X = rng.uniform(-3.0, 3.0, size=(600, 1))
    label = np.digitize(X[:, 0], [-1.0, 1.0])
    y = np.where(label == 1, 5.0, X[:, 0]) + 0.3 * rng.normal(size=600)
    finding = found(fit((X, y, label), n_experts=3), "redundant")
    assert finding.experts == ["expert0", "expert2"]
    assert finding.severity == "notice"
    assert finding.message.startswith("expert0 and expert2 say nearly the same (0.")
    assert "standard deviations apart)" in finding.message
    assert "fewer experts" in finding.message


def test_redundant_set(lines):
    X, _, _ = lines
    y = X[:, 0] + 0.3 * np.random.default_rng(1).normal(size=400)
    label = np.digitize(X[:, 0], [-1.0, 0.0, 1.0])
    model = fit((X, y, label), n_experts=4, max_iter=2)  # before EM moves them
    finding = found(model, "redundant")
    assert finding.experts == [f"expert{k}" for k in range(4)]
    assert "expert0, expert1, expert2 and expert3 say" in finding.message


def test_same_mean_and_other_noise_is_not_redundant():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(400, 1))
    label = (X[:, 0] > 0).astype(int)
    y = X[:, 0] + np.where(label, 1.0, 0.2) * rng.normal(size=400)
    assert found(fit((X, y, label)), "redundant") is None


def test_few_rows_are_no_proof_that_experts_say_the_same():
    rng = np.random.default_rng(0)
    X = np.linspace(0.0, 1.0, 40)[:, None]
    label = (X[:, 0] > 0.8).astype(int)
    y = 0.6 * label + 0.3 * rng.normal(size=40)
    model = fit((X, y, label), LinearExpert(alpha=1e6), max_iter=2)
    case = Case(model, model._training_rows)
    lost, gap = case.costs_of_merging(1)
    assert lost[0] < case.worth(4)
    assert gap[0] > 1.0
    assert found(model, "redundant") is None


def test_many_rows_tell_experts_apart_that_say_nearly_the_same():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(8000, 1))
    label = (X[:, 0] > 0).astype(int)
    y = X[:, 0] + 0.4 * label + rng.normal(size=8000)
    model = fit((X, y, label), max_iter=2)
    case = Case(model, model._training_rows)
    lost, gap = case.costs_of_merging(1)
    assert lost[0] > 100.0
    assert gap[0] < 0.1
    assert found(model, "redundant") is None


def test_redundant_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = rng.uniform(size=400) < 1 / (1 + np.exp(-2 * X[:, 0]))
    model = classifier(init=(X[:, 1] > 0).astype(int)).fit(X, y)
    finding = found(model, "redundant")
    # Without noise in numbers there is no distance to tell.
    assert finding.message.startswith("expert0 and expert1 say nearly the same: where")


@pytest.fixture(scope="module")
def apart():
    """Two lines on two stretches of x, with a gap between them."""
    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    X = rng.uniform(0.0, 1.0, size=(400, 1)) + 3.0 * label[:, None]
    y = np.where(label, 4.0 - X[:, 0], 2.0 * X[:, 0]) + 0.1 * rng.normal(size=400)
    return X, y, label


def test_hard_gate_without_penalty(apart):
    finding = found(fit(apart, gate=SoftmaxGate(alpha=0.0)), "hard gate")
    assert finding.severity == "problem"
    assert "99 % sure of 100 % of the rows" in finding.message
    assert "a standard deviation of x0 moves its log odds by" in finding.message
    assert finding.message.endswith(
        "standard errors mean nothing: set the gate's alpha."
    )


def test_hard_gate_with_a_penalty(apart):
    finding = found(fit(apart), "hard gate")
    assert finding.severity == "notice"
    assert finding.message.endswith(
        "Read its borders, not the size of its coefficients."
    )


def test_hard_gates_of_a_tree(apart):
    X, y, _ = apart
    tree = HierarchicalMixtureOfExpertsRegressor(
        depth=2, gate=SoftmaxGate(alpha=0.0), init="kmeans", random_state=0
    )
    finding = found(tree.fit(X, y), "hard gate")
    assert "; a standard deviation moves its log odds" in finding.message


def test_a_soft_gate_without_penalty_is_fine(lines):
    assert found(fit(lines, gate=SoftmaxGate(alpha=0.0)), "hard gate") is None


def test_gate_ignores_x(lines):
    X, _, _ = lines
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, size=400)
    y = np.where(label, 4.0 + X[:, 0], -X[:, 0]) + 0.3 * rng.normal(size=400)
    finding = found(fit((X, y, label)), "gate ignores x")
    assert finding.severity == "notice"
    assert "are worth 3.0 by BIC. Use ConstantGate()" in finding.message
    assert found(fit((X, y, label), gate=ConstantGate()), "gate ignores x") is None


def test_rival_maximum(lines):
    model = fit(lines)
    report = model.search_
    for behind, expected in ((1.5, True), (2.5, False)):
        maxima = [report.objectives[0] - behind]
        model.search_ = replace(report, next_maxima=maxima)
        finding = found(model, "rival maximum")
        assert (finding is not None) == expected
        assert not expected or "only 1.5 nats lower" in finding.message


def test_uneven_noise(lines):
    X, y, label = lines
    rng = np.random.default_rng(0)
    y = np.where(label, 4.0 + 0.02 * rng.normal(size=400), y)
    flat = LinearExpert(alpha=0.0, variance_prior=None)
    finding = found(fit((X, y, label), flat), "uneven noise")
    assert finding.experts == ["expert1", "expert0"]
    assert "The noise of expert0 is 1" in finding.message
    tied = fit((X, y, label), flat, shared_dispersion=True)
    assert found(tied, "uneven noise") is None


def test_unexplained_rows(lines):
    X, y, label = lines
    y = y.copy()
    y[[7, 123]] += [15.0, -12.0]
    finding = found(fit((X, y, label)), "unexplained rows")
    assert finding.message.startswith("2 rows lie five standard deviations or more")
    assert "7, 123. If they are outliers" in finding.message
    y[123] += 12.0
    finding = found(fit((X, y, label)), "unexplained rows")
    assert finding.message.startswith("1 row lies")


def test_many_unexplained_rows_are_cut_short(lines):
    model = fit(lines)
    X, y, _ = lines
    y = y.copy()
    y[:9] += 100.0
    findings = model.diagnose(X, y).findings
    assert [f.kind for f in findings] == ["unexplained rows"]
    assert findings[0].message.startswith("9 rows lie")
    assert ", ...." in findings[0].message


def test_outliers_that_have_an_expert_are_explained(lines):
    X, y, label = lines
    y = y.copy()
    y[[7, 123]] += [3.5, -3.0]
    assert found(fit((X, y, label)), "unexplained rows") is not None
    model = fit((X, y, label), RobustLinearExpert())
    assert found(model, "unexplained rows") is None
    experts = [("a", LinearExpert()), ("b", LinearExpert()), ("noise", UniformExpert())]
    label = label.copy()
    label[[7, 123]] = 2
    assert found(fit((X, y, label), experts), "unexplained rows") is None


def test_labels_that_no_expert_believes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = rng.uniform(size=400) < 1 / (1 + np.exp(-2 * X[:, 0]))
    model = classifier().fit(X, y)
    findings = model.diagnose([[0.0, 0.0], [30.0, 0.0]], [True, False]).findings
    assert [f.message for f in findings if f.kind == "unexplained rows"] == [
        "1 row has a class that no expert gives one chance in 100,000: 1. Look at the "
        "labels."
    ]


def test_several_outputs_have_a_wider_limit(lines):
    X, y, label = lines
    Y = np.c_[y, y + 0.3 * np.random.default_rng(0).normal(size=400)]
    model = fit((X, Y, label))
    assert found(model, "unexplained rows") is None
    Y[5] += [20.0, -20.0]
    finding = [f.kind for f in model.diagnose(X, Y).findings]
    assert finding == ["unexplained rows"]


def test_a_single_expert_has_no_gate_and_no_twin(lines):
    X, y, _ = lines
    diagnosis = regressor(n_experts=1).fit(X, y).diagnose()
    assert diagnosis.findings == []
    assert str(diagnosis).startswith("1 expert on 400 rows (expert0 100 %), in effect")
