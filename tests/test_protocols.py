"""What parts can do is asked of the instance: before `prepare` they cannot yet."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from skmoe._protocols import has_fixed_law, is_parametric, pools_dispersion
from skmoe.experts import (
    ExpandedExpert,
    LinearExpert,
    PoissonExpert,
    UniformExpert,
)


class Composite:
    """It has the attribute, and says that it is no free vector."""

    parameters = np.zeros(2)
    parametric = False


def fitted(expert):
    X, y = np.arange(20.0)[:, None], np.arange(20.0) % 3
    expert.prepare(X, y, np.ones(20))
    expert.m_step(X, y, np.ones(20))
    return expert


def test_unprepared_parts_have_no_parameters():
    assert not is_parametric(LinearExpert())
    assert not has_fixed_law(LinearExpert())
    assert is_parametric(fitted(LinearExpert()))
    assert not has_fixed_law(fitted(LinearExpert()))


def test_composites_may_say_no():
    assert not is_parametric(Composite())


def test_fixed_laws_have_an_empty_vector():
    assert has_fixed_law(UniformExpert())


@pytest.mark.parametrize(
    ("expert", "pools"),
    [
        (LinearExpert(), True),
        (ExpandedExpert(StandardScaler(), LinearExpert()), True),
        (PoissonExpert(), False),
        (ExpandedExpert(StandardScaler(), PoissonExpert()), False),
    ],
    ids=["linear", "expanded", "poisson", "expanded poisson"],
)
def test_dispersions_are_tied_where_there_are_some(expert, pools):
    assert pools_dispersion(fitted(expert)) == pools
