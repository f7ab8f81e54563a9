import numpy as np
import pytest
from scipy import stats

from skmoe.datasets import make_switching


def loop_log_prob(truth, X, y):
    """The forward recursion of one sequence, densities and all, in plain numbers."""
    law, steps = truth.initial, []
    for row, value in enumerate(y):
        density = stats.norm(X[row] @ truth.coef.T, truth.noise).pdf(value)
        steps.append(np.log(law @ density))
        law = law * density / (law @ density)
        if row + 1 < len(y):
            law = law @ truth.transition_proba(X[row + 1])
    return np.array(steps)


def test_seed_fixes_the_rows_and_sizes_are_as_asked():
    table = make_switching(3, 40, random_state=0)
    again = make_switching(3, 40, random_state=0)
    other = make_switching(3, 40, random_state=1)
    np.testing.assert_array_equal(table.data, again.data)
    np.testing.assert_array_equal(table.target, again.target)
    np.testing.assert_array_equal(table.states, again.states)
    assert not np.array_equal(table.data, other.data)
    assert table.data.shape == (120, 2)
    assert table.target.shape == table.states.shape == (120,)
    np.testing.assert_array_equal(table.lengths, [40, 40, 40])
    np.testing.assert_array_equal(table.groups, np.repeat([0, 1, 2], 40))
    assert table.state_names == ["free", "sliding", "stuck"]
    assert table.feature_names == ["push", "pressure"]
    assert all(name in table.DESCR for name in [*table.state_names, "movement"])


def test_inputs_are_strokes_with_pauses():
    X = make_switching(50, 200, random_state=0).data
    pause = (X == 0).all(axis=1)
    assert pause.mean() == pytest.approx(0.2, abs=0.02)
    assert np.array_equal(pause, (X == 0).any(axis=1))
    assert X[:, 0].min() == 0
    assert np.abs(X).max() < 1.2
    # A pause begins with a stroke, which ends in each row with probability 0.2; the
    # next stroke is a pause again with probability 0.2.
    stays = pause[1:][pause[:-1]].mean()
    assert stays == pytest.approx(0.8 + 0.2 * 0.2, abs=0.02)


def test_regimes_follow_the_transition_law():
    table = make_switching(400, 100, random_state=0)
    states = table.states.reshape(400, 100)
    first = np.bincount(states[:, 0], minlength=3) / 400
    np.testing.assert_allclose(first, table.truth.initial, atol=0.08)
    proba = table.truth.transition_proba(table.data)
    np.testing.assert_allclose(proba.sum(axis=2), 1.0)
    steps = proba.reshape(400, 100, 3, 3)[:, 1:]
    before, after = states[:, :-1], states[:, 1:]
    for i in range(3):
        for j in range(3):
            expected = steps[..., i, j][before == i]
            seen = (after == j)[before == i]
            error = np.sqrt((expected * (1 - expected)).sum()) + 1e-9
            assert abs(seen.sum() - expected.sum()) < 4 * error


def test_movement_is_that_of_the_regime():
    table = make_switching(20, 200, noise=0.0, random_state=0)
    push, pressure = table.data.T
    by_state = np.column_stack([push, 0.5 * push - 0.1 * pressure, 0 * push])
    rows = np.arange(push.size)
    np.testing.assert_allclose(table.target, by_state[rows, table.states])
    noisy = make_switching(20, 200, noise=0.3, random_state=0)
    np.testing.assert_array_equal(noisy.states, table.states)
    assert (noisy.target - table.target).std() == pytest.approx(0.3, rel=0.05)


def test_log_prob_equals_a_plain_loop_for_each_sequence():
    table = make_switching(3, 30, random_state=2)
    ours = table.truth.log_prob(table.data, table.target, table.lengths)
    for one in range(3):
        rows = table.groups == one
        plain = loop_log_prob(table.truth, table.data[rows], table.target[rows])
        np.testing.assert_allclose(ours[rows], plain)
    alone = table.truth.log_prob(table.data[:30], table.target[:30])
    np.testing.assert_allclose(alone, ours[:30])


def test_the_past_tells_the_regime_and_the_filter_is_calibrated():
    table = make_switching(100, 100, random_state=0)
    law = table.truth.filter(table.data, table.target, table.lengths)
    np.testing.assert_allclose(law.sum(axis=1), 1.0)
    assert (law.argmax(axis=1) != table.states).mean() < 0.04
    pause = table.data[:, 0] == 0
    # In a pause the most frequent regime would be wrong in about half of the rows.
    assert (law.argmax(axis=1) != table.states)[pause].mean() < 0.1
    sure = law.max(axis=1)
    hits = law.argmax(axis=1) == table.states
    unsure = (sure > 0.6) & (sure < 0.9)
    assert hits[unsure].mean() == pytest.approx(sure[unsure].mean(), abs=0.08)


def test_noise_free_rows_have_no_density():
    table = make_switching(1, 10, noise=0, random_state=0)
    with pytest.raises(ValueError, match="draw with noise > 0"):
        table.truth.log_prob(table.data, table.target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_sequences": 0}, "n_sequences must be an integer >= 1, got 0"),
        ({"length": 2.5}, "length must be an integer >= 1, got 2.5"),
        ({"noise": -0.1}, "noise must be a finite number >= 0, got -0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_switching(**arguments)
