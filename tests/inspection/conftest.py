"""What the tests of pictures share: small fitted mixtures, figures that are closed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import HierarchicalMixtureOfExpertsRegressor
from skmoe.datasets import make_mixture_classification, make_mixture_regression
from tests._quick import classifier, regressor


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def plane():
    """Return rows of two columns that follow three rules."""
    return make_mixture_regression(200, 2, random_state=1)


@pytest.fixture(scope="session")
def flat(plane):
    return regressor(n_experts=3).fit(*plane)


@pytest.fixture(scope="session")
def piped(plane):
    X, y = plane
    return make_pipeline(StandardScaler(), regressor(n_experts=3)).fit(X, y)


@pytest.fixture(scope="session")
def tree(plane):
    return HierarchicalMixtureOfExpertsRegressor(
        depth=2, init="kmeans", random_state=0
    ).fit(*plane)


@pytest.fixture(scope="session")
def classes():
    """Return rows of two columns and three classes with names."""
    X, y = make_mixture_classification(200, 2, n_experts=2, n_classes=3, random_state=3)
    return X, np.array(["low", "mid", "top"])[y]


@pytest.fixture(scope="session")
def sorter(classes):
    return classifier().fit(*classes)


@pytest.fixture(scope="session")
def mixed():
    """Return a data frame with a number, a word, a flag and a gap, and responses."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "age": rng.uniform(20.0, 60.0, 150),
            "kind": pd.Categorical(
                rng.choice(["b", "a", "c"], 150, p=[0.6, 0.3, 0.1]), ["c", "a", "b"]
            ),
            "flag": rng.integers(2, size=150),
        }
    )
    y = np.where(table["kind"] == "a", 5.0, 0.1 * table["age"]) + table["flag"]
    table.loc[3, "age"] = np.nan
    return table, y.to_numpy() + 0.1 * rng.standard_normal(150)


@pytest.fixture(scope="session")
def several(plane):
    """Return a mixture of two outputs, the second one twice the first."""
    X, y = plane
    return regressor(n_experts=3).fit(X, np.column_stack([y, 2.0 * y + 1.0]))


@pytest.fixture(scope="session")
def coded(mixed):
    return regressor().fit(*mixed)
