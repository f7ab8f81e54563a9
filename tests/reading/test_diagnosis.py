"""The diagnosis: a paragraph in plain words, and the numbers behind it."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skmoe import HierarchicalMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from skmoe.datasets import make_mixture_regression, make_visits
from skmoe.experts import PoissonExpert
from skmoe.reading._diagnosis import Diagnosis
from tests._quick import regressor

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings(
    "ignore::skmoe.exceptions.CollapsedExpertWarning"
)


@pytest.fixture(scope="module")
def data():
    return make_mixture_regression(800, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    return MixtureOfExpertsRegressor(n_experts=3, random_state=0).fit(*data)


def test_a_paragraph_on_a_healthy_fit(model, data):
    text = str(model.diagnose())
    share = model.responsibilities(*data).mean(axis=0)
    first = share.argmax()
    assert text.startswith(
        f"3 experts on 800 rows (expert{first} {100 * share[first]:.0f} %, expert"
    )
    assert f"EM converged in {model.n_iter_} passes." in text
    report = model.search_
    assert (
        f"Of {len(report.names)} starts {sum(report.finished)} ran to the end, "
        f"{report.n_reached_best} of them to the best maximum"
    ) in text
    assert text.endswith("Nothing stands out.")
    assert "\n" not in text
    assert repr(model.diagnose()) == text


def test_numbers(model, data):
    diagnosis = model.diagnose()
    assert diagnosis.log_likelihood == pytest.approx(model.log_likelihood(*data))
    assert diagnosis.share.sum() == pytest.approx(1.0)
    assert 2.0 < diagnosis.effective_number < 3.0
    assert diagnosis.certainty == pytest.approx(
        model.gate_proba(data[0]).max(axis=1).mean()
    )
    assert diagnosis.expert_names == model.expert_names_


def test_findings_end_the_paragraph_problems_first(data):
    X, y = data
    y = y.copy()
    y[3] += 1e3
    with pytest.warns(UserWarning, match="did not converge"):
        bad = regressor(n_experts=3, max_iter=2).fit(X, y)
    diagnosis = bad.diagnose()
    kinds = [f.kind for f in diagnosis.findings]
    severities = [f.severity for f in diagnosis.findings]
    assert kinds[0] == "not converged"
    assert severities == sorted(severities, key=lambda s: s != "problem")
    assert str(diagnosis).endswith(diagnosis.findings[-1].message)
    assert "EM converged" not in str(diagnosis)


def test_frame(model, data):
    X, y = data
    frame = model.diagnose().to_frame()
    assert frame.columns.tolist() == ["kind", "severity", "experts", "message"]
    assert frame.empty
    y = y.copy()
    y[0] = 1e4
    frame = model.diagnose(X, y).to_frame()
    assert frame["kind"].tolist() == ["unexplained rows"]
    assert isinstance(frame, pd.DataFrame)


def test_other_rows_and_weights(model, data):
    X, y = data
    some = model.diagnose(X[:100], y[:100])
    assert "3 experts on 100 rows" in str(some)
    weight = np.r_[np.ones(100), np.zeros(700)]
    same = model.diagnose(X, y, sample_weight=weight)
    assert str(same) == str(some)
    assert some.log_likelihood == pytest.approx(same.log_likelihood)


def test_groups():
    table = make_visits(60, random_state=0)
    X, y, patient = table.data, table.target, table.groups
    model = regressor(n_experts=3).fit(X, y, groups=patient)
    own, given = model.diagnose(), model.diagnose(X, y, groups=patient)
    assert str(own) == str(given)
    assert "3 experts on 60 groups (" in str(own)
    assert own.log_likelihood == pytest.approx(
        model.log_likelihood(X, y, groups=patient)
    )


def test_known_quantities():
    rng = np.random.default_rng(0)
    X, offset = rng.normal(size=(200, 1)), rng.normal(size=200)
    y = rng.poisson(np.exp(np.abs(X[:, 0]) + offset))
    model = regressor(PoissonExpert()).fit(X, y, offset=offset)
    own, given = model.diagnose(), model.diagnose(X, y, offset=offset)
    assert own.log_likelihood == pytest.approx(given.log_likelihood)


def test_a_tree(data):
    tree = HierarchicalMixtureOfExpertsRegressor(init="kmeans", random_state=0)
    diagnosis = tree.fit(*data).diagnose()
    assert isinstance(diagnosis, Diagnosis)
    assert "4 experts on 800 rows" in str(diagnosis)
    assert diagnosis.log_likelihood == pytest.approx(tree.log_likelihood(*data))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_experts_are_not_all_named(data):
    model = regressor(n_experts=9, max_iter=5, tol=1e-2).fit(*data)
    n_named = min(6, len(model.experts_))
    assert f" and {len(model.experts_) - n_named} more), in effect" in str(
        model.diagnose()
    )


def test_a_single_start_tells_of_no_others(data):
    text = str(regressor(n_init=1).fit(*data).diagnose())
    assert "starts" not in text


def test_a_pickled_model_has_no_rows(model, data):
    travelled = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=r"give them, diagnose\(X, y\)"):
        travelled.diagnose()
    assert str(travelled.diagnose(*data)) == str(model.diagnose())


@pytest.mark.parametrize("given", [{"X": np.ones((3, 1))}, {"y": np.ones(3)}])
def test_one_of_two(model, given):
    with pytest.raises(ValueError, match="needs both X and y"):
        model.diagnose(**given)


def test_before_fit():
    with pytest.raises(NotFittedError):
        regressor().diagnose()
