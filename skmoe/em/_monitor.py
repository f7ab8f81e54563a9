"""The objective of every pass, and when to stop."""

import math
import warnings
from collections.abc import Callable
from typing import Any

from skmoe.exceptions import NonMonotoneWarning

__all__ = ["Monitor"]

# A fall of this relative size is rounding; a larger one with exact M-steps is
# a fault, which is announced.
ROUNDING = 8e-9
# A fall up to this relative size that no shorter step mends ends the run at its
# best pass without more ado: near-singular covariances resolve no better.
ROUNDING_END = 1e-6
# Parts without an exact M-step may wander: stop once the objective has gained
# less than this many nats per unit of weight over so many passes.
PLATEAU_GAIN = 1e-4
PLATEAU_PASSES = 5


class Monitor:
    """Record the objective that EM climbs, and say when it has arrived.

    Parameters
    ----------
    tol : float
        Stop when the gain still to be expected falls below ``tol`` nats times
        ``1 + total_weight``.
    total_weight : float
        Sum of the sample weights.
    exact : bool
        Whether every part has an exact M-step, so that a fall is a fault.
    on_pass : callable, default=None
        Called with the objective after each accepted pass; True stops the fit.

    Attributes
    ----------
    trace : list of float
        Objective (nats) of each accepted pass.
    n_passes : int
        Passes over the rows, rejected trials included.
    stopped, failed : bool
        Whether the callback asked to stop; whether a fall ended the run.
    """

    def __init__(
        self,
        tol: float,
        total_weight: float,
        *,
        exact: bool = True,
        on_pass: Callable[[float], bool] | None = None,
    ) -> None:
        self.tol = tol
        self.total_weight = total_weight
        self.exact = exact
        self.on_pass = on_pass
        self.trace: list[float] = []
        self.n_passes = 0
        self.converged = False
        self.stopped = False
        self.failed = False
        self.best = -float("inf")
        self.best_state: Any = None
        self._first = 0

    def begin_round(self) -> None:
        """Start to compare anew: the objective has become another one."""
        self._first = len(self.trace)
        self.best, self.best_state = -float("inf"), None
        self.converged = False

    @property
    def last(self) -> float:
        """Objective of the last accepted pass of this round."""
        return self.trace[-1] if len(self.trace) > self._first else -float("inf")

    def falls(self, objective: float) -> bool:
        """Return whether an objective lies below the last one, or is not finite."""
        if not math.isfinite(objective):
            return True
        return objective < self.last - ROUNDING * (1.0 + abs(objective))

    def keep(self, objective: float, state: Any) -> None:
        """Record an accepted pass, its state if best, and tell the callback."""
        if objective >= self.best:
            self.best, self.best_state = objective, state
        self.trace.append(objective)
        if self.on_pass is not None and self.on_pass(objective):
            self.stopped = True

    def gain(self) -> float:
        """Return what the last pass gained."""
        if len(self.trace) - self._first < 2:
            return float("inf")
        return self.trace[-1] - self.trace[-2]

    def expected_gain(self) -> float:
        """Return Aitken's estimate of what further passes would gain.

        Gains of EM shrink geometrically near its end: with ratio c of two
        successive ones the rest of the series is ``gain * c / (1 - c)``.
        """
        if len(self.trace) - self._first < 3:
            return float("inf")
        gain, before = self.gain(), self.trace[-2] - self.trace[-3]
        if gain <= 0.0:
            return 0.0
        if max(gain, abs(before)) < 1e-13 * (1.0 + abs(self.last)):
            return gain  # rounding: such gains form no series
        if not 0.0 < gain < before:
            return float("inf")
        ratio = gain / before
        return gain * max(1.0, ratio / (1.0 - ratio))

    def negligible(self, gain: float) -> bool:
        """Return whether a gain is below the tolerance.

        It is measured in nats per row, not by the objective: that one moves with
        the unit of y.
        """
        return gain < self.tol * (1.0 + self.total_weight)

    def on_plateau(self) -> bool:
        """Return whether parts without exact M-steps have stopped climbing."""
        trace = self.trace[self._first :]
        if len(trace) <= PLATEAU_PASSES:
            return False
        recent = max(trace[-PLATEAU_PASSES:])
        before = max(trace[:-PLATEAU_PASSES])
        return recent - before < PLATEAU_GAIN * self.total_weight

    def end_fall(self, objective: float) -> None:
        """End a run whose last step fell and could not be shortened.

        A tiny fall is the end of what the arithmetic resolves; a larger one,
        with exact M-steps, is a fault and is announced.
        """
        if objective >= self.last - ROUNDING_END * (1.0 + abs(self.last)):
            self.converged = True
            return
        self.failed = True
        warnings.warn(
            f"EM with exact M-steps lowered its objective from {self.last!r} to "
            f"{objective!r} in pass {self.n_passes}; the parameters before the "
            "fall are kept. Look for columns of wildly different scale, or fit "
            "with a larger alpha or a variance_prior.",
            NonMonotoneWarning,
            stacklevel=2,
        )
