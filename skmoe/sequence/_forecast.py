"""Forecasts of several steps: the law at each step, and paths through all of them."""

from functools import cached_property

import numpy as np
from sklearn.utils import check_random_state

from skmoe.em._chain_scan import log_sum
from skmoe.em._law import law_given
from skmoe.law._levels import check_level, check_levels
from skmoe.sequence._place import read_previous

__all__ = ["Forecast", "Forecaster"]


class Forecast:
    """What comes after the last row: a law for each step, and paths.

    Parameters
    ----------
    state_proba : array of shape (n_steps, n_experts)
        Law of the expert at each step; of simulated paths where there is feedback.
    states : array of int of shape (n_paths, n_steps)
        Experts of the simulated paths.
    paths : array of shape (n_paths, n_steps[, n_outputs])
        Responses of the simulated paths; labels of a classifier.
    distribution : MixtureDistribution or None
        The exact law of each step by itself; None where inputs are fed back.
    classes : array of shape (n_classes,) or None
        Labels of a classifier.
    """

    def __init__(self, state_proba, states, paths, distribution, classes=None):
        self.state_proba = state_proba
        self.states = states
        self.paths = paths
        self.distribution = distribution
        self.classes = classes

    def __len__(self):
        return len(self.state_proba)

    def __repr__(self):
        exact = "from paths" if self.distribution is None else "exact"
        n_paths, n_steps = self.states.shape
        return f"Forecast(n_steps={n_steps}, n_paths={n_paths}, laws {exact})"

    @cached_property
    def mean(self):
        """Expected response of each step; of a classifier, its class probabilities."""
        if self.distribution is not None:
            return self.distribution.mean
        if self.classes is None:
            return self.paths.mean(axis=0)
        return (self.paths[..., None] == self.classes).mean(axis=0)

    @cached_property
    def std(self):
        """Standard deviation of each step's response, same unit as y."""
        if self.distribution is not None:
            return self.distribution.variance**0.5
        return self.paths.std(axis=0)

    def quantile(self, q):
        """Return quantiles of the response of each step.

        Parameters
        ----------
        q : float or array-like of shape (n_levels,)
            Levels in [0, 1].

        Returns
        -------
        quantile : array of shape (n_steps,) or (n_steps, n_levels)
        """
        if self.distribution is not None:
            return self.distribution.quantile(q)
        found = np.quantile(self.paths, check_levels(q), axis=0)
        return np.moveaxis(found, 0, 1) if np.ndim(q) else found

    def interval(self, level=0.9):
        """Return where the response of each step lies with a given probability.

        Parameters
        ----------
        level : float, default=0.9
            Probability in (0, 1), the same outside on both sides.

        Returns
        -------
        interval : array of shape (n_steps, 2)
        """
        outside = 0.5 * (1.0 - check_level(level))
        return self.quantile([outside, 1.0 - outside])


class Forecaster:
    """Adds forecasts to a fitted Markov mixture."""

    def forecast(
        self,
        X_future=None,
        n_steps=None,
        *,
        previous=None,
        feedback=None,
        n_paths=1000,
        random_state=None,
    ):
        """Forecast the rows that come next.

        Parameters
        ----------
        X_future : array-like of shape (>= n_steps, n_features), default=None
            Inputs of the rows to come. None where no part of the model has inputs.
        n_steps : int, default=None
            None: the rows of X_future.
        previous : array-like of shape (n_experts,), default=None
            Law of the expert in the last row that was seen; None: at the end of the
            last training sequence, ``final_state_proba_[-1]``. To go on from other
            rows: ``filter(X, y)[-1]``.
        feedback : callable, default=None
            For inputs that depend on earlier responses, such as lags:
            ``feedback(x, y)`` gets the rows of the step, of shape (n_paths,
            n_features), and the responses on each path so far, of shape (n_paths,
            steps so far[, n_outputs]), and returns the rows to use.
        n_paths : int, default=1000
            Simulated paths.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        forecast : Forecast
            With ``state_proba, mean, std, quantile, interval``, simulated ``paths`` and
            their ``states``, and the ``distribution`` of each step.

        Raises
        ------
        ValueError
            If the inputs of the rows to come are needed and not given.
        """
        X, n_steps = self._future(X_future, n_steps)
        if previous is None:
            previous = self.final_state_proba_[-1]
        previous = read_previous(previous, 1, len(self.experts_))[:, 0]
        rng = check_random_state(random_state)
        if feedback is not None:
            return self._fed_back(X, n_steps, previous, feedback, n_paths, rng)
        rows = self._rows(X, None, "forecast", None, None, None, previous)
        log_law = self._log_law(rows)
        law = law_given(self.node_, rows.X, np.ascontiguousarray(log_law.T))
        states = self._state_paths(rows, n_paths, rng)
        paths = self._labels(law.sample_given(states, rng))
        return Forecast(np.exp(log_law).T, states, paths, law)

    def _future(self, X, n_steps):
        """Return inputs of the rows to come and their number.

        Raises
        ------
        ValueError
            If they are too few, or missing where some part sees inputs.
        """
        if X is None:
            blind = self.gate_.is_constant and all(
                columns is not None and len(columns) == 0
                for columns in self.node_.columns
            )
            if not blind:
                raise ValueError(
                    "forecast needs the inputs of the rows to come: gates or experts "
                    "see columns of X. Give X_future, with a feedback for columns "
                    "that hold earlier responses."
                )
            if n_steps is None:
                raise ValueError("forecast: give n_steps, or X_future.")
            return np.zeros((n_steps, self.n_features_in_)), n_steps
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        n_steps = n_rows if n_steps is None else n_steps
        if not 1 <= n_steps <= n_rows:
            raise ValueError(
                f"n_steps must be from 1 to the {n_rows} rows of X_future, got "
                f"{n_steps!r}."
            )
        return X[:n_steps], n_steps

    def _state_paths(self, rows, n_paths, rng):
        """Return simulated experts, (n_paths, n_steps)."""
        node, n_rows = self.node_, rows.X.shape[0]
        first = node.log_first(rows.X, rows.chains)[:, 0]
        if node.gate.initial is None:
            logs = node.gate.log_blind(rows.X)[None]
        else:
            logs = node.gate.log_transition(rows.X)
        states = np.empty((n_paths, n_rows), dtype=np.intp)
        law = np.broadcast_to(first, (n_paths, first.size))
        for step in range(n_rows):
            if step:
                at = logs[..., min(step, logs.shape[-1] - 1)]
                law = at[states[:, step - 1] % len(at)]
            states[:, step] = _drawn(law, rng)
        return states

    def _fed_back(self, X, n_steps, previous, feedback, n_paths, rng):
        """Return a forecast whose inputs depend on the responses of each path."""
        node, n_experts = self.node_, len(self.experts_)
        states = np.empty((n_paths, n_steps), dtype=np.intp)
        proba, paths = np.empty((n_steps, n_experts)), None
        for step in range(n_steps):
            so_far = np.empty((n_paths, 0)) if paths is None else paths[:, :step]
            given = feedback(_repeated(X, step, n_paths), so_far)
            rows = self._check_new(given, "forecast")
            law = self._step_law(rows, states[:, step - 1] if step else None, previous)
            states[:, step] = _drawn(law, rng)
            proba[step] = np.exp(law).mean(axis=0)
            drawn = law_given(node, rows, law).sample_given(states[None, :, step], rng)
            drawn = self._labels(drawn[0])
            if paths is None:
                paths = np.empty((n_paths, n_steps, *drawn.shape[1:]), drawn.dtype)
            paths[:, step] = drawn
        return Forecast(proba, states, paths, None, vars(self).get("classes_"))

    def _step_law(self, rows, states, previous):
        """Return log laws of the next expert of each path, (n_paths, n_experts)."""
        gate, n_paths = self.node_.gate, rows.shape[0]
        if gate.initial is None:
            return gate.log_blind(rows).T
        logs = gate.log_transition(rows)
        logs = np.broadcast_to(logs, (*logs.shape[:2], n_paths))
        if states is not None:
            return logs[states, :, np.arange(n_paths)]
        with np.errstate(divide="ignore"):
            came = np.log(previous)
        return log_sum(came[:, None, None] + logs, axis=0).T

    def _labels(self, drawn):
        """Return responses as the user has them: labels for codes."""
        if self._n_classes() is None:
            return drawn
        return self.classes_[np.asarray(drawn, dtype=np.intp)]


def _drawn(log_law, rng):
    """Draw an expert for each row of log probabilities."""
    cumulative = np.exp(log_law).cumsum(axis=1)
    level = rng.random_sample((len(log_law), 1)) * cumulative[:, -1:]
    return (level > cumulative).sum(axis=1)


def _repeated(X, step, n_paths):
    """Return one row of a table, once for each path."""
    if hasattr(X, "iloc"):
        return X.iloc[[step] * n_paths].reset_index(drop=True)
    if hasattr(X, "to_numpy"):
        return X[[step] * n_paths]
    return np.repeat(np.asarray(X)[step : step + 1], n_paths, axis=0)
