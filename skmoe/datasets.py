"""Data with regimes or several tasks: generators with a known truth, real tables.

Every generator states its law and takes `random_state`; with
``return_truth=True`` it also returns the law as an object, whose ``log_prob(X, y)``
is the exact log density that a fitted mixture is to be measured against. Two classic
experiments have no density to return: the robot arm and the two spirals. Nothing is
downloaded.
"""

import numpy as np
from scipy.special import log_softmax
from sklearn.utils import Bunch, check_random_state

from skmoe._checks import check_count, check_positive
from skmoe._classics import make_robot_arm, make_two_spirals
from skmoe._correlated import make_correlated_tasks
from skmoe._simulated import make_claims, make_visits
from skmoe._switching import make_switching
from skmoe._tables import load_concrete, load_mcycle, load_sunspots
from skmoe._task_tables import load_census_income, load_kuairand
from skmoe._truth import LinearMixture, LogisticMixture, PiecewiseLinear, TwoLinkArm

__all__ = [
    "load_census_income",
    "load_concrete",
    "load_kuairand",
    "load_mcycle",
    "load_sunspots",
    "make_claims",
    "make_correlated_tasks",
    "make_mixture_classification",
    "make_mixture_regression",
    "make_piecewise_linear",
    "make_regimes",
    "make_robot_arm",
    "make_switching",
    "make_two_spirals",
    "make_two_valued",
    "make_visits",
]


def _draw_rows(rng, proba):
    """Draw one index for each row of probabilities."""
    cumulative = proba.cumsum(axis=1)
    draw = rng.uniform(size=(proba.shape[0], 1)) * cumulative[:, -1:]
    return (draw >= cumulative).sum(axis=1)


def _draw_gate(rng, X, n_experts, gate_scale):
    """Draw a centred softmax gate, and the expert of each row."""
    n_features = X.shape[1]
    coef = rng.standard_normal((n_experts, n_features)) * gate_scale
    coef = (coef - coef.mean(axis=0)) / np.sqrt(n_features)
    intercept = 0.2 * gate_scale * rng.standard_normal(n_experts)
    intercept -= intercept.mean()
    logit = X @ coef.T + intercept
    return coef, intercept, _draw_rows(rng, np.exp(log_softmax(logit, axis=1)))


def make_piecewise_linear(
    n_samples=300,
    *,
    n_pieces=4,
    noise=0.3,
    random_state=None,
    return_truth=False,
):
    """Draw rows around a broken line whose pieces differ in slope and level.

    The only column is uniform on (0, n_pieces); breaks are at the integers moved
    by up to 0.25 at random. Slopes are normal with standard deviation 3, levels
    in the middle of a piece normal with standard deviation 2, and

        y ~ N(intercept_k + coef_k x, noise ** 2)    on piece k.

    Parameters
    ----------
    n_samples, n_pieces : int
    noise : float or array-like of shape (n_pieces,), default=0.3
        Standard deviation of y around the line, for all pieces or each.
    random_state : int, RandomState instance or None
    return_truth : bool, default=False

    Returns
    -------
    X : ndarray of shape (n_samples, 1)
    y : ndarray of shape (n_samples,)
    truth : PiecewiseLinear
        Only if `return_truth`.
    """
    check_count("n_samples", n_samples)
    check_count("n_pieces", n_pieces)
    noise = _check_noise(noise, n_pieces)
    rng = check_random_state(random_state)
    breaks = np.arange(n_pieces + 1.0)
    breaks[1:-1] += rng.uniform(-0.25, 0.25, size=n_pieces - 1)
    coef = 3.0 * rng.standard_normal(n_pieces)
    level = 2.0 * rng.standard_normal(n_pieces)
    intercept = level - coef * (breaks[1:] + breaks[:-1]) / 2.0
    X = rng.uniform(0.0, n_pieces, size=(n_samples, 1))
    piece = np.searchsorted(breaks[1:-1], X[:, 0], side="right")
    truth = PiecewiseLinear(breaks, coef, intercept, noise, piece)
    y = truth.mean(X) + noise[piece] * rng.standard_normal(n_samples)
    return (X, y, truth) if return_truth else (X, y)


def _check_noise(noise, n_experts):
    """Return one standard deviation for each expert."""
    values = np.asarray(noise, dtype=float)
    shaped = values.ndim == 0 or values.shape == (n_experts,)
    if not shaped or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"noise must be a positive number or {n_experts} of them, got {noise!r}."
        )
    return np.broadcast_to(values, (n_experts,)).copy()


def make_mixture_regression(
    n_samples=1000,
    n_features=3,
    *,
    n_experts=3,
    noise=0.5,
    gate_scale=4.0,
    random_state=None,
    return_truth=False,
):
    """Draw rows from a softmax-gated mixture of linear Gaussian experts.

    Columns are standard normal. Gate slopes are normal with standard deviation
    ``gate_scale / sqrt(n_features)``, centred over the experts; the experts'
    slopes are normal with standard deviation 1, their intercepts with 2, and

        k ~ softmax(gate_coef x + gate_intercept),
        y ~ N(coef_k' x + intercept_k, noise_k ** 2).

    Parameters
    ----------
    n_samples, n_features, n_experts : int
    noise : float or array-like of shape (n_experts,), default=0.5
        Standard deviation of y around an expert's mean.
    gate_scale : float, default=4.0
        Sharpness of the borders between experts: spread of the gate's logits.
    random_state : int, RandomState instance or None
    return_truth : bool, default=False

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    truth : LinearMixture
        Only if `return_truth`.
    """
    check_count("n_samples", n_samples)
    check_count("n_features", n_features)
    check_count("n_experts", n_experts)
    check_positive("gate_scale", gate_scale)
    noise = _check_noise(noise, n_experts)
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_samples, n_features))
    gate = _draw_gate(rng, X, n_experts, gate_scale)
    coef = rng.standard_normal((n_experts, n_features))
    intercept = 2.0 * rng.standard_normal(n_experts)
    gate_coef, gate_intercept, expert = gate
    truth = LinearMixture(gate_coef, gate_intercept, coef, intercept, expert, noise)
    mean = truth.expert_mean(X)[np.arange(n_samples), expert]
    y = mean + noise[expert] * rng.standard_normal(n_samples)
    return (X, y, truth) if return_truth else (X, y)


def make_mixture_classification(
    n_samples=1000,
    n_features=3,
    *,
    n_experts=3,
    n_classes=2,
    gate_scale=4.0,
    coef_scale=4.0,
    random_state=None,
    return_truth=False,
):
    """Draw rows from a softmax-gated mixture of multinomial logistic experts.

    Columns are standard normal, the gate as in `make_mixture_regression`. The
    slopes of an expert's class logits are normal with standard deviation
    ``coef_scale / sqrt(n_features)``, their intercepts with 1, and

        k ~ softmax(gate_coef x + gate_intercept),
        y ~ softmax(coef_k x + intercept_k).

    Parameters
    ----------
    n_samples, n_features, n_experts, n_classes : int
    gate_scale, coef_scale : float, default=4.0
        Spread of the logits of gate and experts: sharpness of their borders.
    random_state : int, RandomState instance or None
    return_truth : bool, default=False

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Classes 0, ..., n_classes - 1.
    truth : LogisticMixture
        Only if `return_truth`.
    """
    check_count("n_samples", n_samples)
    check_count("n_features", n_features)
    check_count("n_experts", n_experts)
    check_count("n_classes", n_classes, low=2)
    check_positive("gate_scale", gate_scale)
    check_positive("coef_scale", coef_scale)
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_samples, n_features))
    gate_coef, gate_intercept, expert = _draw_gate(rng, X, n_experts, gate_scale)
    coef = rng.standard_normal((n_experts, n_classes, n_features))
    coef *= coef_scale / np.sqrt(n_features)
    intercept = rng.standard_normal((n_experts, n_classes))
    truth = LogisticMixture(gate_coef, gate_intercept, coef, intercept, expert)
    y = _draw_rows(rng, truth.expert_proba(X)[np.arange(n_samples), expert])
    return (X, y, truth) if return_truth else (X, y)


def make_two_valued(
    n_samples=300,
    *,
    up_share=0.5,
    noise=0.1,
    random_state=None,
    return_truth=False,
):
    """Draw an inverse problem with two answers, where the mean is neither.

    A hand is seen at distance x from the shoulder of an arm with links of 0.5 m
    and 0.4 m; what is the angle of the elbow? By the law of cosines it is plus
    or minus ``a(x) = arccos((x ** 2 - 0.41) / 0.4)``, elbow up or elbow down:

        x ~ uniform(0.25, 0.85),
        y ~ up_share N(a(x), noise ** 2) + (1 - up_share) N(-a(x), noise ** 2).

    With equal shares the mean is 0, the straight arm, which reaches none of
    these points.

    Parameters
    ----------
    n_samples : int
    up_share : float, default=0.5
        Probability of elbow up.
    noise : float, default=0.1
        Standard deviation of the angle, in radians.
    random_state : int, RandomState instance or None
    return_truth : bool, default=False

    Returns
    -------
    X : ndarray of shape (n_samples, 1)
        Distance of the hand, in metres.
    y : ndarray of shape (n_samples,)
        Angle of the elbow, in radians.
    truth : TwoLinkArm
        Only if `return_truth`.
    """
    check_count("n_samples", n_samples)
    check_positive("up_share", up_share, high=1.0)
    check_positive("noise", noise)
    rng = check_random_state(random_state)
    X = rng.uniform(0.25, 0.85, size=(n_samples, 1))
    down = (rng.uniform(size=n_samples) >= up_share).astype(int)
    truth = TwoLinkArm((0.5, 0.4), float(up_share), float(noise), down)
    y = (1 - 2 * down) * truth.angle(X) + noise * rng.standard_normal(n_samples)
    return (X, y, truth) if return_truth else (X, y)


# One row a regime: slopes of the gate's logits and of the load for temperature,
# wind, daylight and working day, then the intercept. The logits pass from heating
# to mild near 13 degrees and from mild to cooling near 22; on days off only frost
# below about -6 degrees calls the heating back.
REGIMES = {
    "heating": ((-0.8, 0.05, 0.0, 0.0, 10.4), (-1.5, 0.4, -0.5, 9.0, 58.0), 2.0),
    "mild": ((0.0, 0.0, 0.0, 0.0, 0.0), (0.1, 0.0, -0.6, 12.0, 40.0), 1.0),
    "cooling": ((1.0, 0.0, 0.0, 0.0, -22.0), (1.6, -0.3, 0.2, 10.0, 2.0), 2.5),
    "closed": ((0.0, 0.0, 0.0, -20.0, 15.0), (-0.3, 0.1, -0.2, 0.0, 26.0), 1.0),
}

REGIMES_DESCR = """Electric load of an office district, with four regimes (simulated)

temperature  degrees Celsius: yearly wave of 11 around 11, and weather
wind         metres per second
daylight     hours between sunrise and sunset
working_day  1 from Monday to Friday, else 0
load         megawatts (target)

In the cold the load falls with temperature (heating), in the heat it rises
(cooling), between them it depends on work and light (mild); on days off the offices
stand empty and hardly feel the weather (closed), unless there is hard frost. Which
regime holds is drawn from a softmax of the columns, so borders are soft.
"""


def make_regimes(n_samples=1000, *, random_state=None, return_X_y=False):
    """Draw an energy table whose rows follow one of four named regimes.

    Days are uniform over the year, five of seven are working days. Daylight is
    ``12 + 4.5 s`` hours and temperature ``11 + 11 s' + N(0, 4 ** 2)`` degrees, with
    s and s' yearly waves that peak on 21 June and on 20 July; wind is
    gamma-distributed with mean 4 m/s. A softmax of the columns draws the regime
    (heating, mild, cooling, closed), and the load is linear in the columns with
    normal noise within each, so the law is a `LinearMixture`.

    Parameters
    ----------
    n_samples : int
    random_state : int, RandomState instance or None
    return_X_y : bool, default=False

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 4);
        - ``target``: ndarray of shape (n_samples,), load in megawatts;
        - ``feature_names``, ``target_names``: lists of str;
        - ``regime``: ndarray of str, of shape (n_samples,), the regime that each row
          was drawn from;
        - ``regime_names``: list of str;
        - ``truth``: LinearMixture, the law, experts in the order of ``regime_names``;
        - ``DESCR``: str, the columns and what the regimes are.

        If `return_X_y`, the tuple ``(data, target)`` instead.
    """
    check_count("n_samples", n_samples)
    rng = check_random_state(random_state)
    day = rng.uniform(0.0, 365.0, size=n_samples)
    yearly = 2.0 * np.pi * (day[:, None] - [171.0, 200.0]) / 365.0
    light, warmth = np.cos(yearly).T
    temperature = 11.0 + 11.0 * warmth + 4.0 * rng.standard_normal(n_samples)
    wind = rng.gamma(4.0, 1.0, size=n_samples)
    working = (rng.uniform(size=n_samples) < 5 / 7).astype(float)
    X = np.column_stack([temperature, wind, 12.0 + 4.5 * light, working])
    gate, load = (np.array([law[i] for law in REGIMES.values()]) for i in (0, 1))
    noise = np.array([law[2] for law in REGIMES.values()])
    logit = X @ gate[:, :-1].T + gate[:, -1]
    expert = _draw_rows(rng, np.exp(log_softmax(logit, axis=1)))
    truth = LinearMixture(
        gate[:, :-1], gate[:, -1], load[:, :-1], load[:, -1], expert, noise
    )
    mean = truth.expert_mean(X)[np.arange(n_samples), expert]
    y = mean + noise[expert] * rng.standard_normal(n_samples)
    if return_X_y:
        return X, y
    names = list(REGIMES)
    return Bunch(
        data=X,
        target=y,
        feature_names=["temperature", "wind", "daylight", "working_day"],
        target_names=["load"],
        regime=np.array(names)[expert],
        regime_names=names,
        truth=truth,
        DESCR=REGIMES_DESCR,
    )
