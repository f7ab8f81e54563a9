"""Padding that is NaN in every training row, as it happens in cross-validation."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skmoe import MixtureOfExpertsClassifier
from skmoe.experts import HMMExpert, LogisticExpert
from tests.experts.test_hmm import kinds, make_mixture


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_steps_that_no_training_row_has(rng):
    X, _, y = kinds(120, rng)
    wide = np.column_stack([X, np.full((120, 6), np.nan)])
    narrow = make_mixture(X.shape[1]).fit(X, y)
    model = make_mixture(wide.shape[1]).fit(wide, y)
    np.testing.assert_allclose(
        model.predict_proba(wide), narrow.predict_proba(X), atol=1e-8
    )
    wide[:, -6:] = 0.5  # a longer new sequence: these steps count
    assert np.abs(model.predict_proba(wide) - narrow.predict_proba(X)).max() > 1e-3


def test_cross_validation(rng):
    X, _, y = kinds(120, rng)
    longest = X[:, -1] == X[:, -1]
    X[np.flatnonzero(longest)[1:], -2:] = np.nan  # one sequence alone is as long
    scores = cross_val_score(make_mixture(X.shape[1]), X, y, cv=StratifiedKFold(3))
    assert scores.mean() > 0.7


def test_other_experts_still_refuse_them(rng):
    X, _, y = kinds(60, rng)
    X[:, -1] = np.nan
    with pytest.raises(ValueError, match="missing in every row"):
        MixtureOfExpertsClassifier(LogisticExpert(), n_experts=2).fit(X, y)
    assert HMMExpert.reads_steps


def test_a_list_of_sequences_is_no_table():
    sequences = [np.zeros((n, 1)) for n in (3, 4, 5, 6)]
    model = MixtureOfExpertsClassifier(HMMExpert(), n_experts=2)
    with pytest.raises(ValueError, match=r"a mixture takes a table: give .*pad_seq"):
        model.fit(sequences, [0, 1, 0, 1])
