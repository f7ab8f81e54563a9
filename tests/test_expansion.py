"""What experts and gates behind a transformer share."""

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from skmoe._expansion import (
    check_transformer,
    fitted_transformer,
    is_prefit,
    set_seeds,
    split_last,
    transformed,
)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), rng.uniform(0.5, 3.0, size=60)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scaler: scaler,
        lambda scaler: make_pipeline(FunctionTransformer(), scaler),
        lambda scaler: make_union(MinMaxScaler(), scaler),
    ],
    ids=["alone", "pipeline", "union"],
)
def test_weights_reach_the_part_that_takes_them(rows, wrap):
    X, weight = rows
    given = StandardScaler()
    fitted = fitted_transformer(wrap(given), X, None, weight)
    center = np.average(X, axis=0, weights=weight)
    Z = fitted.transform(X)[:, -3:]
    np.testing.assert_allclose(np.average(Z, axis=0, weights=weight), 0.0, atol=1e-12)
    assert np.abs(Z.mean(axis=0)).max() > 1e-3
    assert not hasattr(given, "mean_")
    assert np.abs(center).max() > 1e-3


def test_an_explicit_refusal_stands(rows):
    X, weight = rows
    with config_context(enable_metadata_routing=True):
        refused = StandardScaler().set_fit_request(sample_weight=False)
    for scaler in (FrozenEstimator(StandardScaler().fit(X)), refused):
        fitted = fitted_transformer(scaler, X, None, weight)
        np.testing.assert_allclose(fitted.transform(X).mean(axis=0), 0.0, atol=1e-12)


def test_parts_without_weights_are_fitted_without(rows):
    X, weight = rows
    fitted = fitted_transformer(PCA(2), X, None, weight)
    check_is_fitted(fitted)
    np.testing.assert_allclose(fitted.mean_, X.mean(axis=0))


def test_seeds_are_the_same_for_every_clone(rows):
    X, weight = rows
    given = RBFSampler(n_components=4)
    one, two = (fitted_transformer(given, X, None, weight) for _ in range(2))
    np.testing.assert_array_equal(one.transform(X), two.transform(X))
    assert given.random_state is None
    chosen = fitted_transformer(RBFSampler(random_state=5), X, None, weight)
    assert chosen.random_state == 5


def test_seeds_leave_frozen_parts_alone():
    frozen = make_pipeline(FrozenEstimator(RBFSampler()), RBFSampler())
    set_seeds(frozen, np.random.RandomState(0))
    assert frozen[0].estimator.random_state is None
    assert isinstance(frozen[1].random_state, int)


def test_prefit_means_every_part():
    frozen = FrozenEstimator(StandardScaler())
    assert is_prefit(frozen)
    assert is_prefit(Pipeline([("a", "passthrough"), ("b", frozen)]))
    assert not is_prefit(make_pipeline(frozen, StandardScaler()))


def test_last_step_of_a_pipeline():
    scaler, pca, last = StandardScaler(), PCA(), LogisticRegression()
    assert split_last(make_pipeline(last)) == (None, last)
    assert split_last(make_pipeline(scaler, last)) == (scaler, last)
    front, end = split_last(make_pipeline(scaler, pca, last))
    assert isinstance(front, Pipeline)
    assert [step for _, step in front.steps] == [scaler, pca]
    assert end is last
    front, _ = split_last(Pipeline([("skip", "passthrough"), ("last", last)]))
    assert isinstance(front, Pipeline)


def test_sparse_output_becomes_csr(rows):
    X, _ = rows
    made = FunctionTransformer(sparse.coo_matrix).fit(X)
    out = transformed(made, X, "Owner")
    assert isinstance(out, sparse.csr_array)
    np.testing.assert_array_equal(out.toarray(), X)
    whole = FunctionTransformer(lambda X: (X > 0).astype(np.int8)).fit(X)
    assert transformed(whole, X, "Owner").dtype == np.float64


@pytest.mark.parametrize("thin", [False, True])
def test_values_that_are_not_finite(rows, thin):
    X, _ = rows
    bad = X.copy()
    bad[0, 0], bad[1, 1] = np.nan, np.inf
    same = FunctionTransformer(sparse.csr_array if thin else None).fit(X)
    message = "Owner: FunctionTransformer returned 2 values that are NaN or infinite"
    with pytest.raises(ValueError, match=message):
        transformed(same, bad, "Owner")
    with pytest.raises(ValueError, match="returned 1 values that are infinite"):
        transformed(same, bad, "Owner", allow_nan=True)
    bad[1, 1] = 0.0
    out = transformed(same, bad, "Owner", allow_nan=True)
    assert np.isnan(out[0, 0])


def test_rows_that_get_lost(rows):
    X, _ = rows
    half = FunctionTransformer(lambda X: X[::2]).fit(X)
    with pytest.raises(ValueError, match=r"Owner: .* 30 rows for 60; use a trans"):
        transformed(half, X, "Owner")


@pytest.mark.parametrize("given", [None, PCA, LogisticRegression(), "scale"])
def test_no_transformer(given):
    with pytest.raises(TypeError, match="Owner: transformer must be an instance with"):
        check_transformer(given, "Owner")
