"""Simulated sequences whose regime depends on the inputs and on the regime before."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.utils import Bunch, check_random_state

from skmoe._checks import check_count, check_noise

__all__ = ["SwitchingRegression", "make_switching"]

LOG_2PI = float(np.log(2.0 * np.pi))
# Centimetres moved for each centimetre of push, and of pressure, by regime.
MOVEMENT = {"free": (1.0, 0.0), "sliding": (0.5, -0.1), "stuck": (0.0, 0.0)}
INITIAL = np.array([0.6, 0.3, 0.1])
# For each regime before, the logits of the next: slopes for push, pressure; intercept.
NEXT = np.array(
    [
        [[0.0, 0.0, 0.0], [0.0, 15.0, -7.0], [-8.0, 12.0, -11.0]],
        [[0.0, -15.0, -7.0], [0.0, 0.0, 0.0], [-15.0, 15.0, -7.0]],
        [[0.0, -15.0, -9.0], [15.0, -12.0, -7.0], [0.0, 0.0, 0.0]],
    ]
)
PAUSE = 0.2

SWITCHING_DESCR = """A tool pushed over a workpiece, with regimes of contact (simulated)

push      centimetres along the surface that the tool is told to move, 0 or more
pressure  centimetres towards the surface that it is told to move; negative: lifted
movement  centimetres along the surface that it moves (target)

In the air the tool moves as it is told (free). Pressed on, it touches the surface,
which takes half of the push (sliding); pressed harder with little push it does not
move at all (stuck). A stronger push frees it, and lifting ends the contact. In pauses
push and pressure are 0, no regime moves, and only the past tells which one holds.
"""


@dataclass(frozen=True)
class SwitchingRegression:
    """Law of sequences with a hidden regime that depends on the one before.

    ``P(k_1) = initial_k``, ``P(k_t = j | k_{t-1} = i, x_t)`` is the softmax over j of
    ``next_coef[i, j] x_t + next_intercept[i, j]``, and
    ``y_t | x_t, k_t ~ N(coef_k' x_t, noise ** 2)``.

    Attributes
    ----------
    initial : ndarray of shape (n_experts,)
    next_coef : ndarray of shape (n_experts, n_experts, n_features)
    next_intercept : ndarray of shape (n_experts, n_experts)
    coef : ndarray of shape (n_experts, n_features)
    noise : float
        Standard deviation, in the unit of y.
    """

    initial: np.ndarray
    next_coef: np.ndarray
    next_intercept: np.ndarray
    coef: np.ndarray
    noise: float

    def transition_proba(self, X):
        """Return the law of a row's regime for each one before, (n_samples, K, K)."""
        logit = np.einsum("ijd,...d->...ij", self.next_coef, X) + self.next_intercept
        return np.exp(log_softmax(logit, axis=-1))

    def expert_mean(self, X):
        """Return the mean of y in each regime, (n_samples, n_experts)."""
        return X @ self.coef.T

    def filter(self, X, y, lengths=None):
        """Return the law of each regime given y up to the row, (n_samples, K)."""
        return self._forward(X, y, lengths)[0]

    def log_prob(self, X, y, lengths=None):
        """Return the log density of each y given those before it, (n_samples,)."""
        return self._forward(X, y, lengths)[1]

    def _forward(self, X, y, lengths):
        lengths = [len(y)] if lengths is None else lengths
        if self.noise == 0:
            raise ValueError("Without noise there is no density: draw with noise > 0.")
        error = (y[:, None] - self.expert_mean(X)) / self.noise
        log_density = -0.5 * (LOG_2PI + error**2) - np.log(self.noise)
        step = self.transition_proba(X)
        filtered, log_prob = np.empty_like(error), np.empty(len(y))
        starts = set(np.cumsum(lengths) - lengths)
        for row in range(len(y)):
            law = self.initial if row in starts else filtered[row - 1] @ step[row]
            with np.errstate(divide="ignore"):
                joint = np.log(law) + log_density[row]
            log_prob[row] = logsumexp(joint)
            filtered[row] = np.exp(joint - log_prob[row])
        return filtered, log_prob


def make_switching(n_sequences=20, length=100, *, noise=0.05, random_state=None):
    """Draw sequences of a tool's movement, in the air and in contact.

    A sequence is made of strokes, of 5 rows on average; in one stroke of five the
    tool pauses, with push and pressure 0. In the others push is uniform on (0, 1) and
    pressure on (-1, 1), both times a factor uniform on (0.8, 1.2) in each row. The
    regime of a row depends on its inputs and on the regime before; the movement is
    linear in the inputs, with normal noise. In pauses, and to a degree where the push
    is small, the row alone does not tell its regime. An analogue of the fine motion
    with contacts in Meila and Jordan (1996), whose simulator is not at hand.

    Parameters
    ----------
    n_sequences, length : int
        Sequences, and rows of each.
    noise : float, default=0.05
        Standard deviation of the movement, in centimetres; 0 is allowed.
    random_state : int, RandomState instance or None

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 2), in the order of time within each
          sequence, where ``n_samples = n_sequences * length``;
        - ``target``: ndarray of shape (n_samples,), the movement in centimetres;
        - ``lengths``: ndarray of int, of shape (n_sequences,);
        - ``groups``: ndarray of int, of shape (n_samples,), the sequence of each row;
        - ``states``: ndarray of int, of shape (n_samples,), the regime of each row;
        - ``feature_names``, ``target_names``, ``state_names``: lists of str;
        - ``truth``: the law, with ``transition_proba(X)``, ``expert_mean(X)``,
          ``filter(X, y, lengths)`` and ``log_prob(X, y, lengths)``, experts in the
          order of ``state_names``;
        - ``DESCR``: str, the columns and what the regimes are.

    References
    ----------
    Meila, M. and Jordan, M. I. (1996). Learning fine motion by Markov mixtures of
    experts. NIPS 8.
    """
    check_count("n_sequences", n_sequences)
    check_count("length", length)
    check_noise("noise", noise)
    rng = check_random_state(random_state)
    X = _draw_strokes(rng, n_sequences, length)
    truth = SwitchingRegression(
        initial=INITIAL,
        next_coef=NEXT[..., :2],
        next_intercept=NEXT[..., 2],
        coef=np.array(list(MOVEMENT.values())),
        noise=float(noise),
    )
    states = _draw_states(rng, truth, X)
    X, states = X.reshape(-1, 2), states.ravel()
    y = truth.expert_mean(X)[np.arange(states.size), states]
    return Bunch(
        data=X,
        target=y + noise * rng.standard_normal(y.size),
        lengths=np.full(n_sequences, length),
        groups=np.repeat(np.arange(n_sequences), length),
        states=states,
        feature_names=["push", "pressure"],
        target_names=["movement"],
        state_names=list(MOVEMENT),
        truth=truth,
        DESCR=SWITCHING_DESCR,
    )


def _draw_strokes(rng, n_sequences, length):
    """Draw push and pressure of every row, (n_sequences, length, 2)."""
    shape = (n_sequences, length)
    begins = rng.uniform(size=shape) < 0.2
    begins[:, 0] = True
    stroke = begins.cumsum().reshape(shape) - 1
    n_strokes = stroke[-1, -1] + 1
    commanded = rng.uniform([0.0, -1.0], [1.0, 1.0], size=(n_strokes, 2))
    commanded[rng.uniform(size=n_strokes) < PAUSE] = 0.0
    return commanded[stroke] * rng.uniform(0.8, 1.2, size=(*shape, 2))


def _draw_states(rng, truth, X):
    """Draw the regime of every row of sequences of equal length, by inversion."""
    n_sequences, length = X.shape[:2]
    draw = rng.uniform(size=(length, n_sequences, 1))
    above = truth.transition_proba(X).cumsum(axis=-1)[..., :-1]
    states = np.empty((n_sequences, length), dtype=int)
    states[:, 0] = (draw[0] >= truth.initial.cumsum()[:-1]).sum(axis=1)
    for t in range(1, length):
        limits = above[np.arange(n_sequences), t, states[:, t - 1]]
        states[:, t] = (draw[t] >= limits).sum(axis=1)
    return states
