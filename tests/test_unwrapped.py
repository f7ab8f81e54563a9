"""What is found inside of pipelines, searches and frozen estimators."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe._unwrapped import transformed_by, unwrapped

X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30.0)


def searched(model):
    return GridSearchCV(model, {}, cv=2)


@pytest.mark.parametrize(
    ("model", "n_before"),
    [
        (Ridge(), 0),
        (make_pipeline(StandardScaler(), Ridge()), 1),
        (make_pipeline("passthrough", StandardScaler(), None, Ridge()), 1),
        (searched(make_pipeline(StandardScaler(), Ridge())), 1),
        (make_pipeline(StandardScaler(), searched(Ridge())), 1),
        (make_pipeline(StandardScaler(), Pipeline([("r", Ridge())])), 1),
    ],
)
@pytest.mark.parametrize("wrap", [lambda model: model, FrozenEstimator])
def test_the_last_estimator_gets_transformed_rows(model, n_before, wrap):
    model = wrap(model.fit(X, y))
    before, last = unwrapped(model)
    assert len(before) == n_before
    assert type(last) is Ridge
    found = last.predict(transformed_by(before, X))
    np.testing.assert_allclose(found, model.predict(X))
