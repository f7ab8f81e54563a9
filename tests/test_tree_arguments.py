"""Trees as the user writes them: lists, names, columns, mixtures inside; bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils import get_tags

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe._tree import Tree
from skmoe._tree_arguments import holds_mixture, named_leaves
from skmoe.exceptions import CollapsedExpertWarning, ExpertError
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.sequence import MarkovMixtureOfExpertsRegressor as Markov

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Flat, Hierarchy = MixtureOfExpertsRegressor, HierarchicalMixtureOfExpertsRegressor
QUICK = {"init": "tree", "random_state": 0, "max_iter": 15}
NAMES = ["age", "dose", "site", "time"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(12)
    X = rng.uniform(-2, 2, size=(120, 4))
    return X, np.abs(X[:, 0]) + X[:, 1] + 0.2 * rng.normal(size=120)


def hierarchy(experts=None, **kwargs):
    return Hierarchy(experts, **(QUICK | kwargs))


def flat(experts=None, **kwargs):
    return Flat(experts, **(QUICK | kwargs))


def line():
    return LinearExpert()


# -- lists -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experts", "shape", "names"),
    [
        ([line(), line()], [0, 1], ["expert0", "expert1"]),
        (
            [[line(), Ridge()], line()],
            [[0, 1], 2],
            ["expert0", "expert1", "expert2"],
        ),
        (
            [("a", line()), [("b", line()), [line(), ("c", Ridge())]]],
            [0, [1, [2, 3]]],
            ["a", "b", "expert2", "c"],
        ),
        (
            [[None, None, None], [None, [None, None]]],
            [[0, 1, 2], [3, [4, 5]]],
            [f"expert{k}" for k in range(6)],
        ),
        ((("a", line()), ("b", Ridge())), [0, 1], ["a", "b"]),
        # A name that the library would have given to another leaf.
        ([("expert1", line()), line(), line()], [0, 1, 2], None),
    ],
)
def test_nested_lists(rows, experts, shape, names):
    X, y = rows
    model = hierarchy(experts).fit(X, y)
    assert model.tree_ == Tree.from_nested(shape)
    assert names is None or model.expert_names_ == names
    assert len(set(model.expert_names_)) == model.tree_.n_leaves
    assert model.leaf_proba(X).shape == (120, model.tree_.n_leaves)
    assert model.score(X, y) > 0.5
    # The user's estimators are cloned, never fitted.
    again = clone(model).fit(X, y)
    assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ({}, [[0, 1], [2, 3]]),
        ({"depth": 1}, [0, 1]),
        ({"depth": 1, "branching": 4}, [0, 1, 2, 3]),
        ({"depth": 3}, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
        ({"branching": [3, 2]}, [[0, 1], [2, 3], [4, 5]]),
        ({"branching": (2, 3)}, [[0, 1, 2], [3, 4, 5]]),
        ({"branching": np.array([2, 2])}, [[0, 1], [2, 3]]),
    ],
    ids=repr,
)
def test_depth_and_branching(rows, params, shape):
    X, y = rows
    model = hierarchy(line(), **params).fit(X, y)
    assert model.tree_ == Tree.from_nested(shape)
    assert model.expert_names_ == [f"expert{k}" for k in range(model.tree_.n_leaves)]
    clone(model)


def test_named_leaves():
    a, b = ("a", Ridge()), ("b", Ridge(), [0])
    assert named_leaves([a, [Ridge(), b]]) == [a, b[:2]]
    assert named_leaves((a, b)) == [a, b[:2]]
    assert named_leaves(a) == [a]
    assert named_leaves(Ridge()) == named_leaves(None) == []
    assert holds_mixture([("m", Flat())])
    assert holds_mixture(Hierarchy())
    assert not holds_mixture([a, b])
    assert not holds_mixture(None)


def test_each_leaf_sees_its_own_columns(rows):
    X, y = rows
    tree = [("a", line(), [0]), [("b", Ridge(), slice(1, 3)), ("c", line())]]
    model = hierarchy(tree, gate_features=[3, 0]).fit(X, y)
    assert model.node_.columns == [[0], [1, 2], None]
    assert model.gate_.columns == [[3, 0], [3, 0]]
    assert [e.coef_.size for e in (model.experts_[0], model.experts_[2])] == [1, 4]
    wild = X.copy()
    wild[:, [1, 2]] += 100.0
    assert_array_equal(model.leaf_proba(wild), model.leaf_proba(X))
    moved = model.predict_experts(wild) != model.predict_experts(X)
    assert_array_equal(moved.any(axis=0), [False, True, True])


# -- mixtures inside ---------------------------------------------------------------


def test_a_mixture_inside_is_a_node(rows):
    X, y = rows
    inner = Flat(Ridge(3.0), n_experts=3, gate=ConstantGate())
    model = hierarchy([inner, line()], gate=SoftmaxGate(0.5)).fit(X, y)
    assert model.tree_ == Tree.from_nested([[0, 1, 2], 3])
    assert isinstance(model.gate_.gates[0], SoftmaxGate)
    assert isinstance(model.gate_.gates[1], ConstantGate)
    assert [type(e).__name__ for e in model.experts_] == [
        *["EstimatorExpert"] * 3,
        "LinearExpert",
    ]
    assert all(expert.estimator.alpha == 3.0 for expert in model.experts_[:3])
    assert not hasattr(inner, "node_")


def test_an_unpacked_mixture_is_the_list_of_its_experts(rows):
    """Bit for bit the same fit, whoever holds it."""
    X, y = rows
    lists = hierarchy([[line(), line()], line()]).fit(X, y)
    held = [
        hierarchy([Flat(line(), n_experts=2), line()]),
        hierarchy([Flat([("a", line()), ("b", line())]), line()]),
        hierarchy([Hierarchy(line(), depth=1), line()]),
        hierarchy([Hierarchy([line(), line()]), line()]),
        hierarchy([("m", Flat(n_experts=2)), ("own", None)]),
        flat([("m", Flat(n_experts=2)), ("own", line())]),
        flat([("m", Hierarchy(depth=1)), ("own", line())]),
    ]
    for model in held:
        model.fit(X, y)
        assert model.gate_.tree == lists.tree_
        assert_array_equal(model.objective_trace_, lists.objective_trace_)
        assert_array_equal(model.predict(X), lists.predict(X))
        assert_array_equal(model.log_prob(X, y), lists.log_prob(X, y))


def test_mixtures_in_mixtures_in_mixtures(rows):
    X, y = rows
    deep = Flat([("x", Flat(n_experts=2)), ("y", Hierarchy(branching=[2, 3]))])
    model = hierarchy([("m", deep), [line(), Ridge()]], init="random", n_init=1)
    model.fit(X, y)
    shape = [[[0, 1], [[2, 3, 4], [5, 6, 7]]], [8, 9]]
    assert model.tree_ == Tree.from_nested(shape)
    assert model.expert_names_[0].startswith("m.x.")
    assert model.expert_names_[4].startswith("m.y.")
    assert len(set(model.expert_names_)) == 10


@pytest.mark.parametrize("make", [hierarchy, flat])
@pytest.mark.parametrize("named", [False, True])
def test_a_mixture_is_cloned_like_any_expert(rows, make, named):
    X, y = rows
    inner = Flat([("a", line()), ("b", Ridge())]) if named else Flat(n_experts=2)
    size = {"depth": 1, "branching": 3} if make is hierarchy else {"n_experts": 3}
    model = make(inner, **size).fit(X, y)
    assert model.gate_.tree == Tree.complete([3, 2])
    assert len(set(model.expert_names_)) == 6
    kinds = [type(expert).__name__ for expert in model.experts_]
    assert kinds[:2] == kinds[2:4] == kinds[4:]
    assert (kinds[0] == kinds[1]) != named


@pytest.mark.parametrize("make", [hierarchy, flat])
def test_a_mixture_of_one_is_that_one(rows, make):
    X, y = rows
    held = make([("m", Flat(Ridge(), n_experts=1)), ("own", line())]).fit(X, y)
    plain = make([("m", Ridge()), ("own", line())]).fit(X, y)
    assert_allclose(held.predict(X), plain.predict(X))
    assert len(held.experts_) == 2


def test_a_flat_mixture_of_one_mixture(rows):
    X, y = rows
    model = flat(Flat(n_experts=2), n_experts=1).fit(X, y)
    assert len(model.experts_) == 2
    assert_allclose(model.gate_proba(X).sum(axis=1), 1.0)


def test_inner_columns_are_those_of_the_view(rows):
    """A mixture with columns sees no more; its parts choose among what it sees."""
    X, y = rows
    inner = Flat(
        [("all", line()), ("last", Ridge(), [-1])], gate_features=[0], n_experts=2
    )
    tree = [("m", inner, [3, 1]), ("own", line(), [2])]
    model = hierarchy(tree, gate_features=[0, 2]).fit(X, y)
    assert model.node_.columns == [[3, 1], [1], [2]]
    assert model.gate_.columns == [[0, 2], [3]]
    assert model.expert_names_ == ["m.all", "m.last", "own"]
    frame = pd.DataFrame(X, columns=NAMES)
    inner = Flat([("all", line()), ("last", Ridge(), ["dose"])], gate_features=["time"])
    tree = [("m", inner, ["time", "dose"]), ("own", line(), "site")]
    named = hierarchy(tree, gate_features=["age", "site"]).fit(frame, y)
    assert named.node_.columns == model.node_.columns
    assert named.gate_.columns == model.gate_.columns
    assert_allclose(named.predict(frame), model.predict(X))
    hidden = Flat([("a", line()), ("b", line(), ["age"])])
    with pytest.raises(ValueError, match=r"no column 'age' in X; its columns are"):
        hierarchy([("m", hidden, ["time"]), line()]).fit(frame, y)


def test_parameters_of_a_mixture_inside(rows):
    X, y = rows
    model = hierarchy([("m", Flat(Ridge(), n_experts=2)), ("own", line())])
    model.set_params(m__n_experts=3, m__experts__alpha=8.0, own__alpha=5.0).fit(X, y)
    assert model.tree_ == Tree.from_nested([[0, 1, 2], 3])
    assert [e.estimator.alpha for e in model.experts_[:3]] == [8.0] * 3
    assert model.experts_[3].alpha == 5.0


class NeverFitted(Flat):
    """A mixture that must not be fitted by itself."""

    def fit(self, X, y, sample_weight=None):
        raise AssertionError("a mixture inside is unpacked, not refitted")


def test_a_mixture_inside_is_never_fitted_by_itself(rows):
    X, y = rows
    model = hierarchy([NeverFitted(line(), n_experts=2), line()]).fit(X, y)
    assert model.tree_.n_leaves == 3
    assert flat(NeverFitted(line(), n_experts=2), n_experts=2).fit(X, y).score(X, y)


def test_classifiers_inside(rows):
    X, y = rows
    y = np.array(["low", "mid", "top"])[np.digitize(y, [0.0, 2.0])]
    leaf = LogisticExpert(1.0)
    inner = MixtureOfExpertsClassifier(leaf, n_experts=2, gate=GaussianGate())
    model = HierarchicalMixtureOfExpertsClassifier(
        [("m", inner), [leaf, LogisticRegression()]], **QUICK
    ).fit(X, y)
    assert model.tree_ == Tree.complete([2, 2])
    assert isinstance(model.gate_.gates[1], GaussianGate)
    assert model.predict_proba(X).shape == (120, 3)
    assert model.score(X, y) > 0.6


def test_tags_are_those_of_all_leaves():
    def takes(experts, make=hierarchy, **params):
        tags = get_tags(make(experts, **params)).input_tags
        return tags.sparse, tags.allow_nan

    assert takes(None) == (True, True)
    # A part somewhere below that takes no gaps.
    assert takes([line(), [line(), Ridge()]]) == (True, False)
    assert takes([("a", line()), [("b", line()), SVR()]]) == (True, False)
    assert takes([Flat(n_experts=2), line()]) == (True, True)
    # A part somewhere below that takes no sparse rows.
    assert takes([line(), line()], gate=GaussianGate()) == (False, True)
    assert takes([Flat(gate=GaussianGate()), line()]) == (False, True)
    assert takes([("m", Flat(gate=GaussianGate())), line()]) == (False, True)
    assert takes(Flat(gate=GaussianGate()), make=flat) == (False, True)


# -- bad input: a clear error ------------------------------------------------------

WRONG = {
    "depth 0": ({"depth": 0}, r"'depth' .* Got 0"),
    "depth -1": ({"depth": -1}, r"'depth' .* Got -1"),
    "depth 1.5": ({"depth": 1.5}, r"'depth' .* Got 1.5"),
    "branching 1": ({"branching": 1}, r"'branching' .* Got 1"),
    "branching 0": ({"branching": 0}, r"'branching' .* Got 0"),
    "branching 2.5": ({"branching": 2.5}, r"'branching' .* Got 2.5"),
    "branching word": ({"branching": "two"}, r"'branching' .* Got 'two'"),
    "branching too short": (
        {"branching": [2]},
        r"branching must be a number >= 2, or one for each of depth=2 .* \[2\]",
    ),
    "branching too long": ({"branching": [2, 2, 2]}, r"depth=2 levels, got \[2, 2, 2"),
    "branching with a 1": ({"branching": [2, 1]}, r"number >= 2, .* got \[2, 1\]"),
    "branching fractions": ({"branching": [2.0, 2.0]}, r"got \[2.0, 2.0\]"),
    "branching none": ({"branching": []}, r"branching must be"),
    "path_tol 1": ({"path_tol": 1.0}, r"'path_tol' .* Got 1.0"),
    "path_tol -1": ({"path_tol": -0.1}, r"'path_tol' .* Got -0.1"),
    "annealing 0": ({"annealing": 0.0}, r"'annealing' .* Got 0.0"),
    "annealing 1": ({"annealing": 1.0}, r"'annealing' .* Got 1.0"),
    "algorithm": ({"algorithm": "stack"}, r"'algorithm' .* Got 'stack'"),
    "grow": ({"grow": "quickly"}, r"'grow' .* Got 'quickly'"),
    "grow True": ({"grow": True}, r"'grow' .* Got True"),
    "grow_until": ({"grow_until": "aic"}, r"'grow_until' .* Got 'aic'"),
    "max_leaves": ({"max_leaves": 0}, r"'max_leaves' .* Got 0"),
    "pooling": ({"pooling": "vote"}, r"pooling must be one of .* got 'vote'"),
    "top_k": ({"top_k": 0}, r"'top_k' .* Got 0"),
    "init": ({"init": "magic"}, r"init must be 'auto', one of .* got 'magic'"),
    "gate columns": ({"gate_features": [7]}, "column 7 does not exist in X with 4"),
    "empty tree": ({"experts": []}, "experts is an empty list; give at least two"),
    "empty node": ({"experts": [line(), []]}, r"at least two children, got \[\]"),
    "single child": (
        {"experts": [line(), [Ridge()]]},
        r"at least two children, got \[Ridge\(\)\]; put the child in its parent's",
    ),
    "single leaf": ({"experts": [line()]}, r"at least two children, got \[Linear"),
    "nest of one": ({"experts": [[[line(), line()]]]}, "at least two children"),
    "same name twice": (
        {"experts": [("a", line()), [("a", line()), line()]]},
        r"names of experts must differ, got \['a'\]",
    ),
    "name with __": ({"experts": [("a__b", line()), line()]}, "without '__'"),
    "number as name": ({"experts": [(3, line()), line()]}, "3"),
    "name of a parameter": (
        {"experts": [("depth", line()), line()]},
        r"must not be those of parameters, got \['depth'\]",
    ),
    "column of a leaf": (
        {"experts": [("a", line(), [9]), [line(), line()]]},
        "expert 'a': column 9 does not exist in X with 4 columns",
    ),
    "column name": (
        {"experts": [("a", line(), ["age"]), line()]},
        "column 'age' is a name, but X has no column names",
    ),
    "columns of a mixture": (
        {"experts": [("m", Flat(), []), line()]},
        "mixture 'm': columns is empty",
    ),
    "classifier as a leaf": (
        {"experts": [[line(), LogisticRegression()], line()]},
        "is a classifier, but this mixture needs regressors",
    ),
    "classifiers as a mixture": (
        {"experts": [("m", MixtureOfExpertsClassifier()), line()]},
        "'m' is a classifier, but this mixture needs regressors",
    ),
    "grow with a list": (
        {"experts": [line(), line()], "grow": "posterior"},
        r"grow needs one estimator to clone for new leaves, got a list",
    ),
    "grow with a mixture": (
        {"experts": Flat(), "grow": "fritsch"},
        r"grow needs one estimator to clone",
    ),
    "grow with a start": (
        {"init": np.zeros(120, int), "grow": "posterior"},
        "grow finds its own starts: leave init at 'auto'",
    ),
    "start of another size": (
        {"init": np.full((120, 3), 1 / 3)},
        r"shape \(120, 4\) or labels of shape \(120,\), got shape \(120, 3",
    ),
    "labels too high": ({"init": np.full(120, 4)}, r"integers 0, ..., 3, got values"),
    "shares that sum to 2": ({"init": np.full((120, 4), 0.5)}, "each row must sum to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments(rows, case):
    params, match = WRONG[case]
    X, y = rows
    model = hierarchy().set_params(**params)
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(X, y)
    assert not hasattr(model, "node_")
    assert not hasattr(model, "tree_")


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"experts": [line(), Ridge]}, "must be an estimator with get_params"),
        ({"experts": [line(), "ridge"]}, "must be an estimator .* got 'ridge'"),
        ({"experts": [line(), StandardScaler()]}, "StandardScaler"),
        ({"gate": Ridge()}, "gate must be None, a gate .* got Ridge"),
        ({"gate": SoftmaxGate}, "gate must be an instance, got the class SoftmaxGate"),
        ({"experts": [Flat(gate="soft"), line()]}, "gate must be None, .* got 'soft'"),
        ({"experts": [line(), Markov()]}, "MarkovMixture.* cannot be an expert"),
    ],
)
def test_parts_of_the_wrong_kind(rows, params, match):
    X, y = rows
    with pytest.raises(TypeError, match=match):
        hierarchy().set_params(**params).fit(X, y)


def test_gate_without_sample_weight(rows):
    with pytest.raises((TypeError, ValueError), match=r"KNeighbors.*sample_weight"):
        hierarchy(gate=KNeighborsClassifier()).fit(*rows)


def test_parameters_of_parts_are_checked(rows):
    X, y = rows
    for gate in (SoftmaxGate(-2.0), ConstantGate(-2.0)):
        with pytest.raises((ValueError, ExpertError), match=r"alpha must be .* got -2"):
            hierarchy(gate=gate).fit(X, y)
    inner = Flat(gate=SoftmaxGate(-3.0))
    with pytest.raises((ValueError, ExpertError), match=r"alpha must be .* got -3"):
        hierarchy([inner, line()]).fit(X, y)
    with pytest.raises((ValueError, ExpertError), match=r"alpha must be .* got -1"):
        hierarchy(LinearExpert(-1)).fit(X, y)


@pytest.mark.parametrize("experts", [None, [[line(), line()], [line(), line()]]])
def test_more_leaves_than_rows(rows, experts):
    X, y = rows
    with pytest.raises(ValueError, match=r"n_samples=3 .* fewer than .*4"):
        hierarchy(experts).fit(X[:3], y[:3])
    weight = np.zeros(120)
    weight[:3] = 1.0
    with pytest.raises(ValueError, match="rows of positive weight"):
        hierarchy(experts).fit(X, y, sample_weight=weight)


@pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")
def test_as_many_leaves_as_rows(rows):
    X, y = rows
    model = hierarchy(depth=3).fit(X[:8], y[:8])
    assert 1 <= model.tree_.n_leaves <= 8
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.log_prob(X, y)).all()


@pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")
@pytest.mark.parametrize("value", [0.0, 7.5, -1e12])
def test_constant_response(rows, value):
    X, y = rows
    model = hierarchy().fit(X, np.full(120, value))
    assert_allclose(model.predict(X), value, atol=1e-6 * abs(value))
    assert not np.isnan(model.log_prob(X, y)).any()


@pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning")
@pytest.mark.parametrize("params", [{}, {"depth": 3}, {"grow": "posterior"}], ids=repr)
def test_duplicated_rows_and_columns(rows, params):
    X, y = rows
    wide = np.hstack([X, X, np.ones((120, 1))])
    model = hierarchy(**params).fit(wide, y)
    assert model.score(wide, y) > 0.8
    few = hierarchy(**params).fit(np.repeat(X[:5], 20, axis=0), np.repeat(y[:5], 20))
    assert np.isfinite(few.predict(X)).all()
    assert few.score(X[:5], y[:5]) > 0.5


@pytest.mark.parametrize("task", ["regression", "classes"])
def test_columns_of_any_scale(rows, task):
    X, y = rows
    params = QUICK | {"max_iter": 20}  # before rounding has grown
    make = Hierarchy
    leaf = line()
    if task == "classes":
        make, leaf = HierarchicalMixtureOfExpertsClassifier, LogisticExpert(1.0)
        y = (y > np.median(y)).astype(int)
    scale = np.array([1e-12, 1e12, 1.0, 1e5])
    plain = make(leaf, **params).fit(X, y)
    scaled = make(leaf, **params).fit(X * scale, y)
    assert_allclose(scaled.log_prob(X * scale, y), plain.log_prob(X, y), atol=1e-3)
    assert_array_equal(scaled.apply(X * scale), plain.apply(X))


def test_holes_are_named(rows):
    X, y = rows
    bad = X.copy()
    bad[[5, 7], 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN: first in column 1, row 5 \(2 such"):
        hierarchy([Ridge(), Ridge()]).fit(bad, y)
    model = hierarchy([Ridge(), Ridge()]).fit(X, y)
    for method in ("predict", "apply", "decision_path", "leaf_proba"):
        with pytest.raises(ValueError, match=r"NaN: first in column 1, row 5"):
            getattr(model, method)(bad)
        with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
            getattr(model, method)(X[:, :3])


def test_failed_fits_keep_the_old_one(rows):
    X, y = rows
    model = hierarchy().fit(X, y)
    before, names = model.predict(X), set(vars(model))
    for change in (
        {"experts": [line()]},
        {"depth": 0},
        {"branching": [2]},
        {"experts": [line(), StandardScaler()]},
    ):
        broken = {key: getattr(model, key) for key in change}
        model.set_params(**change)
        with pytest.raises((ValueError, TypeError)):
            model.fit(X, y)
        model.set_params(**broken)
        assert set(vars(model)) == names
        assert_array_equal(model.predict(X), before)


def test_start_that_leaves_a_leaf_without_rows(rows):
    """Labels of a start that never name a leaf: announced, or called back to life."""
    X, y = rows
    labels = np.where(X[:, 0] < 0, 0, 3)
    model = hierarchy(init=labels, algorithm="cem", max_iter=100)
    with pytest.warns(CollapsedExpertWarning, match=r"leaves lost their rows"):
        model.fit(X, y)
    assert model.tree_.n_leaves < 4
    assert model.score(X, y) > 0.8
    soft = hierarchy(init=labels, max_iter=100).fit(X, y)
    assert soft.leaf_weight_.min() >= 1.0
