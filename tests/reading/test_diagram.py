"""The diagram in notebooks: gate beside experts, shares, log-likelihood; not large."""

import re

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.utils import estimator_html_repr

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.experts import EstimatorExpert, LinearExpert, LogisticExpert
from skmoe.gates import GaussianGate, SoftmaxGate
from skmoe.reading._diagram import MAX_DRAWN, diagram
from tests._quick import classifier, regressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

Tree = HierarchicalMixtureOfExpertsRegressor


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    return X, np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=200)


def parts(block):
    """Return the labels and the boxes of a block of gate and experts."""
    assert block.kind == "parallel"
    assert block.names[0] == "gate"
    return list(block.names), list(block.estimators)


def fitted_parts(model):
    """Return the box on the fit, and the block of gate and experts."""
    block = model._sk_visual_block_()
    assert block.kind == "serial"
    return block.estimators


# -- before fit --------------------------------------------------------------------


def test_clones_are_counted_before_fit():
    labels, boxes = parts(MixtureOfExpertsRegressor(n_experts=7)._sk_visual_block_())
    assert labels == ["gate", "experts: 7 × LinearExpert"]
    assert isinstance(boxes[0], SoftmaxGate)
    assert isinstance(boxes[1], LinearExpert)
    _, boxes = parts(
        MixtureOfExpertsClassifier(gate=GaussianGate())._sk_visual_block_()
    )
    assert isinstance(boxes[0], GaussianGate)
    assert isinstance(boxes[1], LogisticExpert)
    labels, _ = parts(Tree(Ridge(), depth=3)._sk_visual_block_())
    assert labels == ["gate", "experts: 8 × Ridge"]


def test_named_experts_before_fit():
    gate = LogisticRegression()
    model = MixtureOfExpertsRegressor(
        [("line", LinearExpert()), ("ridge", Ridge(), [0])], gate=gate
    )
    labels, boxes = parts(diagram(model))
    assert labels == ["gate", "line", "ridge"]
    assert isinstance(boxes[0], LogisticRegression)
    assert isinstance(boxes[2], Ridge)


def test_an_explicit_tree_before_fit():
    model = Tree([("line", LinearExpert()), [("a", Ridge()), LinearExpert()]])
    block = diagram(model)
    labels, boxes = parts(block)
    assert labels == ["gate", "line", None]
    labels, _ = parts(boxes[2])
    assert labels == ["gate", "a", "LinearExpert"]
    assert boxes[2].dash_wrapped
    assert not block.dash_wrapped


def test_long_lists_are_cut_before_fit():
    model = MixtureOfExpertsRegressor([(f"e{k}", Ridge()) for k in range(300)])
    labels, boxes = parts(diagram(model))
    assert len(labels) == MAX_DRAWN + 2
    assert boxes[-1].names == f"{300 - MAX_DRAWN} more"
    assert len(estimator_html_repr(model)) < 150_000


def test_what_cannot_be_drawn_is_left_to_scikit_learn():
    html = estimator_html_repr(MixtureOfExpertsRegressor(gate=3))
    assert "MixtureOfExpertsRegressor(gate=3)" in html


# -- after fit ---------------------------------------------------------------------


def test_shares_and_formulas(rows):
    X, y = rows
    model = regressor().fit(X, y)
    _, block = fitted_parts(model)
    labels, boxes = parts(block)
    share = model.responsibilities(X, y).mean(axis=0)
    for k in range(2):
        assert labels[k + 1] == f"experts: expert{k}, {100 * share[k]:.0f} % of rows"
        assert boxes[k + 1] is model.experts_[k]
        intercept = model.experts_[k].intercept_
        assert block.name_details[k + 1].startswith(f"y = {intercept:.3f}")
    assert boxes[0] is model.gate_


def test_log_likelihood_is_that_of_the_rows(rows):
    X, y = rows
    model = regressor().fit(X, y)
    box, _ = fitted_parts(model)
    assert box.kind == "single"
    said = re.fullmatch(r"log-likelihood (-?[\d,]+\.\d) nats", box.names)
    value = float(said[1].replace(",", ""))
    assert value == pytest.approx(model.log_likelihood(X, y), abs=0.06)
    assert f"parameters  {model.n_parameters_}" in box.name_details
    assert f"EM          {model.n_iter_} passes, converged" in box.name_details


@pytest.mark.parametrize(
    "settings",
    [
        {"gate": GaussianGate()},
        {"algorithm": "cem"},
        {"algorithm": "stack"},
        {"balance": 10.0},
    ],
)
def test_what_else_em_climbs_is_called_objective(rows, settings):
    box, _ = fitted_parts(regressor(**settings).fit(*rows))
    assert box.names.startswith("objective ")


def test_a_tree_that_models_x_climbs_an_objective_too(rows):
    short = {"init": "kmeans", "random_state": 0, "tol": 1e-3}
    box, _ = fitted_parts(Tree(gate=GaussianGate(), **short).fit(*rows))
    assert box.names.startswith("objective ")
    tree = Tree(**short).fit(*rows)
    box, _ = fitted_parts(tree)
    assert box.names == f"log-likelihood {tree.log_likelihood(*rows):,.1f} nats"


def test_starts_are_told(rows):
    model = regressor(init="auto").fit(*rows)
    box, _ = fitted_parts(model)
    report = model.search_
    assert f"starts      {len(report.names)}\n" in box.name_details
    assert f"at best     {report.n_reached_best}" in box.name_details
    assert ("next best" in box.name_details) == bool(report.next_maxima)


def test_a_fit_that_was_cut_short(rows):
    box, _ = fitted_parts(regressor(max_iter=2).fit(*rows))
    assert "not converged" in box.name_details


def test_adapted_parts_are_what_the_user_gave(rows):
    experts = [("ridge", Ridge()), ("same", EstimatorExpert(Ridge()))]
    model = regressor(experts, gate=LogisticRegression()).fit(*rows)
    labels, boxes = parts(fitted_parts(model)[1])
    assert [label.split(":")[0] for label in labels] == ["gate", "ridge", "same"]
    assert [type(box) for box in boxes] == [LogisticRegression, Ridge, Ridge]
    assert hasattr(boxes[1], "coef_")
    curved = make_pipeline(SplineTransformer(), LinearExpert())
    assert "SplineTransformer" in estimator_html_repr(regressor(curved).fit(*rows))


def test_a_tree_is_drawn_as_one(rows):
    tree = Tree(depth=2, prune=False, init="kmeans", random_state=0).fit(*rows)
    labels, boxes = parts(fitted_parts(tree)[1])
    assert labels == ["gate", None, None]
    assert boxes[0] is tree.gate_.gates[0]
    for i in (1, 2):
        assert boxes[i].dash_wrapped
        inner, leaves = parts(boxes[i])
        assert leaves[0] is tree.gate_.gates[i]
        assert leaves[1:] == tree.experts_[2 * i - 2 : 2 * i]
        assert inner[1].startswith(f"experts: expert{2 * i - 2}, ")


def test_hundreds_of_experts_make_no_megabyte(rows):
    X, y = rows
    X, y = np.tile(X, (5, 1)), np.tile(y, 5)
    settings = {"n_init": 1, "max_iter": 2, "tol": 1e-2, "random_state": 0}
    tree = Tree(depth=8, prune=False, **settings).fit(X, y)
    assert len(tree.experts_) == 256
    labels, boxes = parts(fitted_parts(tree)[1])
    assert boxes[0].names == "255 gates"
    assert boxes[-1].names == f"{256 - MAX_DRAWN} more"
    drawn = [int(re.search(r"expert(\d+),", label)[1]) for label in labels[1:-1]]
    largest = np.argsort(-tree.leaf_weight_, kind="stable")[:MAX_DRAWN]
    assert drawn == sorted(largest.tolist())
    assert len(estimator_html_repr(tree)) < 200_000


# -- in a notebook -----------------------------------------------------------------


def test_html_names_parameters_as_the_user_sets_them(rows):
    html = regressor().fit(*rows)._repr_html_()
    assert 'data-param-prefix="gate__"' in html
    assert 'data-param-prefix="experts__"' in html
    experts = [("line", LinearExpert()), ("ridge", Ridge())]
    html = regressor(experts).fit(*rows)._repr_html_()
    assert 'data-param-prefix="line__"' in html
    assert "% of rows" in html


def test_it_stands_inside_a_pipeline(rows):
    model = make_pipeline(StandardScaler(), regressor()).fit(*rows)
    html = model._repr_html_()
    assert "log-likelihood" in html
    assert "SoftmaxGate" in html


def test_labels_are_escaped(rows):
    model = classifier([("<b>one</b>", LogisticExpert()), ("two", LogisticExpert())])
    html = model.fit(rows[0], rows[1] > 0)._repr_html_()
    assert "<b>one" not in html
    assert "&lt;b&gt;one" in html
