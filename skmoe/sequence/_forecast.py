"""Forecasts of several steps: the law at each step, and paths through all of them."""

from functools import cached_property
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmoe.em._chains import Chains
from skmoe.em._forward_backward import moved
from skmoe.em._law import law_given
from skmoe.law._levels import check_level, check_levels
from skmoe.sequence._place import read_previous
from skmoe.sequence._states import Rows

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
        self._check_numbers("standard deviation")
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

        Raises
        ------
        ValueError
            If the responses are classes, which have no order.
        """
        self._check_numbers("quantiles")
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

    def _check_numbers(self, what):
        """Raise a ValueError if the responses are classes."""
        if self.classes is not None:
            raise ValueError(
                f"classes have no {what}; see the class "
                "probabilities, `mean`, or count labels in `paths`."
            )


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
            Inputs of the rows to come. None where no part of the model has inputs, or
            ``feedback`` makes all of them.
        n_steps : int, default=None
            None: the rows of X_future.
        previous : array-like of shape (n_experts,), default=None
            Law of the expert in the last row that was seen; None: at the end of the
            last training sequence, ``final_state_proba_[-1]``. To go on from other
            rows: ``filter(X, y)[-1]``.
        feedback : callable, default=None
            For inputs that depend on earlier responses, such as lags:
            ``feedback(x, y)`` gets the rows of the step, of shape (n_paths,
            n_features), None without X_future, and the responses on each path so far,
            of shape (n_paths, steps so far[, n_outputs]), and returns the rows to use.
        n_paths : int, default=1000
            Simulated paths, at least one.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        forecast : Forecast
            With ``state_proba, mean, std, quantile, interval``, simulated ``paths`` and
            their ``states``, and the ``distribution`` of each step.

        Raises
        ------
        ValueError
            If the inputs of the rows to come are needed and not given, or an argument
            is not as described.
        """
        check_is_fitted(self, "node_")
        _check_count(n_paths, "n_paths")
        X, n_steps = self._future(X_future, n_steps, feedback)
        if previous is None:
            previous = self.final_state_proba_[-1]
        previous = read_previous(previous, 1, len(self.experts_))[:, 0]
        rng = check_random_state(random_state)
        if feedback is not None:
            return self._fed_back(X, n_steps, previous, feedback, n_paths, rng)
        rows = self._to_come(X, n_steps, previous)
        log_law = self._log_law(rows)
        law = law_given(self.node_, rows.X, np.ascontiguousarray(log_law.T))
        states = self._state_paths(rows, n_paths, rng)
        paths = self._labels(law.sample_given(states, rng))
        classes = vars(self).get("classes_")
        return Forecast(np.exp(log_law).T, states, paths, law, classes)

    def _future(self, X, n_steps, feedback):
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
            if not blind and feedback is None:
                raise ValueError(
                    "forecast needs the inputs of the rows to come: gates or experts "
                    "see columns of X. Give X_future, with a feedback for columns "
                    "that hold earlier responses."
                )
            if n_steps is None:
                raise ValueError("forecast: give n_steps, or X_future.")
            _check_count(n_steps, "n_steps")
            return None, n_steps
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        n_steps = n_rows if n_steps is None else n_steps
        if not isinstance(n_steps, Integral) or not 1 <= n_steps <= n_rows:
            raise ValueError(
                f"n_steps must be from 1 to the {n_rows} rows of X_future, got "
                f"{n_steps!r}."
            )
        return X[:n_steps], n_steps

    def _to_come(self, X, n_steps, previous):
        """Return the rows to come as the engine has them; None are seen by no part."""
        if X is not None:
            return self._rows(X, None, "forecast", None, None, None, previous)
        chains = Chains.single(n_steps)
        chains.previous = previous[:, None]
        return Rows(np.zeros((n_steps, len(self._plan.columns))), None, chains)

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
            rows = self._check_fed(given, n_paths)
            law = self._step_law(rows, states[:, step - 1] if step else None, previous)
            states[:, step] = _drawn(law, rng)
            proba[step] = np.exp(law).mean(axis=0)
            drawn = law_given(node, rows, law).sample_given(states[None, :, step], rng)
            drawn = self._labels(drawn[0])
            if paths is None:
                paths = np.empty((n_paths, n_steps, *drawn.shape[1:]), drawn.dtype)
            paths[:, step] = drawn
        return Forecast(proba, states, paths, None, vars(self).get("classes_"))

    def _check_fed(self, given, n_paths):
        """Return the rows that a feedback made, one for each path, as an array."""
        shape = np.shape(given)
        if len(shape) != 2 or shape[0] != n_paths:
            raise ValueError(
                f"feedback must return a row of inputs for each of {n_paths} paths, "
                f"of shape ({n_paths}, {self.n_features_in_}), got shape {shape}."
            )
        return self._check_new(given, "forecast")

    def _step_law(self, rows, states, previous):
        """Return log laws of the next expert of each path, (n_paths, n_experts)."""
        gate, n_paths = self.node_.gate, rows.shape[0]
        if gate.initial is None:
            return gate.log_blind(rows).T
        logs = gate.log_transition(rows)
        logs = np.broadcast_to(logs, (*logs.shape[:2], n_paths))
        if states is not None:
            return logs[states, :, np.arange(n_paths)]
        return moved(previous[:, None], logs).T

    def _labels(self, drawn):
        """Return responses as the user has them: labels for codes."""
        if self._n_classes() is None:
            return drawn
        return self.classes_[np.asarray(drawn, dtype=np.intp)]


def _check_count(number, name):
    """Raise a ValueError unless a number is a whole one, at least 1."""
    if not isinstance(number, Integral) or number < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {number!r}.")


def _drawn(log_law, rng):
    """Draw an expert for each row of log probabilities."""
    cumulative = np.exp(log_law).cumsum(axis=1)
    level = rng.random_sample((len(log_law), 1)) * cumulative[:, -1:]
    return (level > cumulative).sum(axis=1)


def _repeated(X, step, n_paths):
    """Return one row of a table, once for each path; None of no table."""
    if X is None:
        return None
    if hasattr(X, "iloc"):
        return X.iloc[[step] * n_paths].reset_index(drop=True)
    if hasattr(X, "to_numpy"):
        return X[[step] * n_paths]
    return np.repeat(np.asarray(X)[step : step + 1], n_paths, axis=0)
