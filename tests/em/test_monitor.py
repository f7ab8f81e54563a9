"""The monitor: what is recorded, what counts as a fall, when EM has arrived."""

import numpy as np
import pytest

from skmoe.em._monitor import PLATEAU_GAIN, PLATEAU_PASSES, ROUNDING, Monitor
from skmoe.exceptions import NonMonotoneWarning


def monitor(trace=(), tol=1e-8, weight=100.0, **options):
    out = Monitor(tol, weight, **options)
    for value in trace:
        out.keep(value, f"state at {value}")
    return out


def test_before_the_first_pass():
    empty = monitor()
    assert empty.last == -np.inf
    assert empty.gain() == np.inf
    assert empty.expected_gain() == np.inf
    assert not empty.falls(-1e300)
    assert not empty.on_plateau()
    assert empty.best_state is None
    assert not empty.converged
    assert not empty.stopped


def test_keeps_the_best_pass():
    seen = monitor([-5.0, -2.0, -3.0])
    assert seen.trace == [-5.0, -2.0, -3.0]
    assert seen.last == -3.0
    assert (seen.best, seen.best_state) == (-2.0, "state at -2.0")
    seen.keep(-2.0, "later")  # among equals the later one
    assert seen.best_state == "later"


@pytest.mark.parametrize("size", [0.0, 1.0, -1e7])
def test_a_fall_is_more_than_rounding(size):
    seen = monitor([size])
    slack = ROUNDING * (1.0 + abs(size))
    assert not seen.falls(size)
    assert not seen.falls(size - 0.5 * slack)
    assert seen.falls(size - 2.0 * slack)
    assert not seen.falls(size + 1.0)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_what_is_not_a_number_falls(value):
    assert monitor([1.0]).falls(value)
    assert monitor([]).falls(np.nan)


@pytest.mark.parametrize("ratio", [0.6, 0.9, 0.999])
def test_aitken_sums_the_geometric_rest(ratio):
    """Of gains that shrink by c the rest is ``gain c / (1 - c)``, exactly."""
    passes = np.arange(6)
    trace = -(ratio**passes) / (1.0 - ratio)
    seen = monitor(trace)
    assert seen.expected_gain() == pytest.approx(-trace[-1], rel=1e-9)
    assert seen.gain() < seen.expected_gain()


def test_a_fast_series_counts_its_last_gain():
    seen = monitor([-10.0, -1.0, -0.9])
    assert seen.expected_gain() == pytest.approx(0.1)


def test_growing_gains_promise_more():
    assert monitor([-10.0, -9.0, -7.0]).expected_gain() == np.inf


def test_no_gain_expects_none():
    assert monitor([-3.0, -1.0, -1.0]).expected_gain() == 0.0


@pytest.mark.parametrize("size", [0.0, -1e6])
def test_negligible_is_in_nats_per_row(size):
    """Not relative to the objective, which moves with the unit of y."""
    seen = monitor([size], tol=1e-6, weight=100.0)
    assert seen.negligible(0.5e-6 * 101.0)
    assert not seen.negligible(2e-6 * 101.0)
    assert not monitor([size], tol=0.0).negligible(0.0)


def test_plateau_counts_gains_in_units_of_weight():
    gain = PLATEAU_GAIN * 100.0
    rising = -5.0 + gain * np.arange(12)
    assert not monitor(rising).on_plateau()
    assert monitor(rising, weight=1000.0).on_plateau()
    flat = np.concatenate([rising, np.full(PLATEAU_PASSES, rising[-1])])
    assert monitor(flat).on_plateau()
    assert not monitor(flat[:-1]).on_plateau()


def test_a_wandering_trace_is_a_plateau_once_its_best_is_old():
    trace = [-9.0, -1.0, -4.0, -3.0, -5.0, -4.0]
    assert not monitor(trace).on_plateau()
    assert monitor([*trace, -2.0]).on_plateau()
    assert not monitor([*trace, -0.5]).on_plateau()


def test_the_callback_stops():
    heard = []

    def on_pass(objective):
        heard.append(objective)
        return objective > -2.0

    seen = monitor([-3.0], on_pass=on_pass)
    assert not seen.stopped
    seen.keep(-1.0, None)
    assert seen.stopped
    assert heard == [-3.0, -1.0]


def test_a_fall_is_announced_with_both_values():
    seen = monitor([-1.25])
    seen.n_passes = 7
    with pytest.warns(NonMonotoneWarning, match=r"from -1\.25 to -2\.5 in pass 7"):
        seen.end_fall(-2.5)
