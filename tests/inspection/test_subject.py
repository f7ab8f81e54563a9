"""Models behind pictures: alone, in pipelines, in searches."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import HierarchicalMixtureForestRegressor
from skmoe.inspection import (
    ExpertUsageDisplay,
    GateProfileDisplay,
    GateRegionDisplay,
    PredictiveBandDisplay,
)
from skmoe.inspection._subject import Subject
from tests._quick import regressor
from tests.sequence.regimes import regressor as in_time


def test_a_mixture_alone(flat, plane):
    X, y = plane
    subject = Subject(flat, "Some")
    assert subject.mixture is flat
    assert_allclose(subject.gate(X), flat.gate_proba(X))
    assert_allclose(subject.law(X).mean, flat.predict(X))
    assert_allclose(subject.responsibilities(X, y), flat.responsibilities(X, y))
    assert subject.expert_names == ["expert0", "expert1", "expert2"]
    assert not subject.classifies


def test_the_end_of_a_pipeline_is_asked_in_its_own_columns(piped, plane):
    X, _ = plane
    subject = Subject(piped, "Some")
    assert subject.mixture is piped[-1]
    assert_allclose(subject.law(X).mean, piped.predict(X))
    assert_allclose(subject.gate(X), piped[-1].gate_proba(piped[0].transform(X)))


def test_pipelines_in_searches_in_pipelines(plane):
    X, y = plane
    inner = GridSearchCV(
        make_pipeline("passthrough", regressor(max_iter=5, tol=1.0)),
        {"mixtureofexpertsregressor__n_experts": [2]},
        cv=2,
    )
    model = make_pipeline(StandardScaler(), inner).fit(X, y)
    subject = Subject(model, "Some")
    assert subject.mixture is model[-1].best_estimator_[-1]
    assert subject.before == [model[0]]
    assert_allclose(subject.law(X).mean, model.predict(X))


def test_classes(sorter, classes):
    X, _ = classes
    subject = Subject(sorter, "Some")
    assert subject.classifies
    assert_allclose(subject.class_proba(X), sorter.predict_proba(X))
    with pytest.raises(TypeError, match=r"Some draws the law of a number, .* see that"):
        subject.check_numbers("Some", "see that")


def test_made_up_rows_follow_no_others(plane):
    X, y = plane
    late = in_time().fit(X, y)
    for draw in (GateProfileDisplay, GateRegionDisplay, PredictiveBandDisplay):
        with pytest.raises(TypeError, match=f"{draw.__name__} draws made up rows"):
            draw.from_estimator(late, X)
        draw.from_estimator(in_time(order=0).fit(X, y), X)


def test_a_gate_in_time_is_told_of_sequences(plane):
    X, y = plane
    where = {"lengths": [80, 120]}
    model = in_time().fit(X, y, **where)
    found = ExpertUsageDisplay.from_estimator(model, X, y, **where)
    assert_allclose(found.gate, model.gate_proba(X, **where).mean(axis=0))
    assert_allclose(found.resp, model.smooth(X, y, **where).mean(axis=0))
    assert abs(found.gate - model.gate_proba(X).mean(axis=0)).max() > 1e-6


def test_names_of_outputs(flat, several):
    pd = pytest.importorskip("pandas")
    assert Subject(flat, "Some").output_name(None, 0) == "y"
    assert Subject(several, "Some").output_name(np.zeros((3, 2)), 1) == "y1"
    assert Subject(flat, "Some").output_name(pd.Series([1.0], name="load"), 0) == "load"
    table = pd.DataFrame({"up": [1.0], "down": [2.0]})
    assert Subject(several, "Some").output_name(table, 1) == "down"


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [LinearRegression(), make_pipeline(LinearRegression()), "model"], ids=str
)
def test_what_is_no_mixture(model):
    with pytest.raises(TypeError, match="Some draws mixtures of experts, such as"):
        Subject(model, "Some")


def test_what_is_not_fitted():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Subject(regressor(), "Some")
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Subject(make_pipeline(StandardScaler(), regressor()), "Some")


def test_a_forest_has_laws_but_no_gate(plane):
    X, y = plane
    forest = HierarchicalMixtureForestRegressor(2, depth=1, random_state=0).fit(X, y)
    subject = Subject(forest, "Some", "predict_distribution")
    assert_allclose(subject.law(X).mean, forest.predict(X))
    with pytest.raises(TypeError, match="draw one of its estimators_"):
        Subject(forest, "Some")
    assert Subject(forest.estimators_[0], "Some").gate(X).shape == (200, 2)
