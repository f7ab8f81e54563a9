"""Data of two classic experiments on mixtures of experts."""

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skmoe._arm import puma_560
from skmoe._checks import check_count, check_noise, check_positive

__all__ = ["make_robot_arm", "make_two_spirals"]

# Half widths of the ranges, joint by joint: radians, rad/s, newton metres. A
# quarter turn and half a turn a second let gravity and the velocity terms bend the
# accelerations about as much as these torques move them: a linear model is left
# with a relative error of 0.31, as in the 1994 experiment. The first three
# torques are of the size of the arm's own, the last is that of a wrist which weighs
# 1.25 kg but whose inertia about its axis is 0.002 kg m^2.
ANGLE_RANGE = np.full(4, np.pi / 2)
VELOCITY_RANGE = np.full(4, np.pi)
TORQUE_RANGE = np.array([15.0, 30.0, 10.0, 0.05])

ROBOT_ARM_DESCR = """Forward dynamics of a four-joint robot arm in space (simulated)

angle_1 ... angle_4                radians, within a quarter turn of zero
velocity_1 ... velocity_4          rad/s, within half a turn a second
torque_1 ... torque_4              newton metres, within 15, 30, 10 and 0.05
acceleration_1 ... acceleration_4  rad/s^2 (targets)

The experiment of Jordan & Jacobs (1994, section 4), whose own arm was not published.
Here it is the first four joints of a PUMA 560 with the masses, centres of mass and
inertias of Armstrong, Khatib & Burdick (1986). Joint 5 is locked at a right angle and
joint 6 at zero, so that the wrist is one body; motors, gears and friction are left out.
At zero angles the upper arm is level and the forearm stands upright on it. There is no
noise. The angle of joint 1 has no influence, since gravity is along its axis.
"""

OUTER_RADIUS, INNER_RADIUS = 6.5, 0.5

SPIRALS_DESCR = """Two intertwined spirals (Lang & Witbrock 1988)

x, y    coordinates in the plane
spiral  1, or 0 for the same points turned by half a turn (target)

A test of what a learner can separate: no small set of straight borders will do.
"""


def make_robot_arm(n_samples=20000, *, random_state=None, return_X_y=False):
    """Draw states of a robot arm and the accelerations that follow from them.

    The forward dynamics of a rigid arm with four joints in three dimensions, after
    the experiment of Jordan & Jacobs (1994), who trained on 15,000 rows and tested
    on 5,000:

        acceleration = M(q)^-1 (torque - C(q, q') - g(q)).

    The arm is the first four joints of a PUMA 560 as measured by Armstrong, Khatib
    & Burdick (1986), with wrist joint 5 locked at a right angle and joint 6 at zero
    (links 4 to 6 are one body), without the inertia of motors and gears. Inputs are
    independent and uniform: angles within pi / 2 rad of zero, velocities within pi
    rad/s, torques within 15, 30, 10 and 0.05 N m. There is no noise.

    The paper does not print its arm and ranges. These torques were chosen so that a
    linear model has the paper's relative error: squared error over that of
    predicting the mean, averaged over the outputs, 0.31. A regression tree for each
    output has 0.15 to 0.16 (paper: 0.17).

    Parameters
    ----------
    n_samples : int
    random_state : int, RandomState instance or None
    return_X_y : bool, default=False

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 12), four angles (radians), four
          velocities (rad/s), four torques (newton metres);
        - ``target``: ndarray of shape (n_samples, 4), accelerations in rad/s^2;
        - ``feature_names``, ``target_names``: lists of str;
        - ``arm``: the arm, with the methods ``forward_dynamics``,
          ``inverse_dynamics`` and ``mass_matrix``;
        - ``DESCR``: str, the columns and where the arm comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts and
    the EM algorithm. Neural Computation 6.

    Armstrong, B., Khatib, O. and Burdick, J. (1986). The explicit dynamic model and
    inertial parameters of the PUMA 560 arm. IEEE International Conference on
    Robotics and Automation.

    Corke, P. I. and Armstrong-Helouvry, B. (1994). A search for consensus among
    model parameters reported for the PUMA 560 robot. IEEE International Conference
    on Robotics and Automation.
    """
    check_count("n_samples", n_samples)
    rng = check_random_state(random_state)
    half_width = np.concatenate([ANGLE_RANGE, VELOCITY_RANGE, TORQUE_RANGE])
    X = rng.uniform(-1.0, 1.0, size=(n_samples, half_width.size)) * half_width
    arm = puma_560()
    y = arm.forward_dynamics(*np.split(X, 3, axis=1))
    if return_X_y:
        return X, y
    columns = ("angle", "velocity", "torque")
    return Bunch(
        data=X,
        target=y,
        feature_names=[f"{name}_{i}" for name in columns for i in range(1, 5)],
        target_names=[f"acceleration_{i}" for i in range(1, 5)],
        arm=arm,
        DESCR=ROBOT_ARM_DESCR,
    )


def make_two_spirals(
    n_samples=194,
    *,
    turns=3.0,
    noise=0.0,
    random_state=None,
    return_X_y=False,
):
    """Draw two intertwined spirals, one a class.

    At share t of its way the first spiral has turned by ``2 pi turns t`` and its
    radius has shrunk from 6.5 to 0.5, evenly; the second is the first turned by
    half a turn. Without noise t is evenly spaced on [0, 1], and the defaults are
    the 194 points of Lang & Witbrock (1988): 97 a class, 32 a turn. With noise t is
    uniform on (0, 1), drawn for each class, and normal displacements are added to
    both coordinates.

    Parameters
    ----------
    n_samples : int
        Even: half of them a class.
    turns : float, default=3.0
        Arms of different classes are ``3 / turns`` apart.
    noise : float, default=0.0
        Standard deviation of the displacement, same unit as the coordinates.
    random_state : int, RandomState instance or None
        Without effect unless there is noise.
    return_X_y : bool, default=False

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (n_samples, 2), coordinates in the plane;
        - ``target``: ndarray of shape (n_samples,), 1 and 0 in turn;
        - ``feature_names``, ``target_names``: lists of str;
        - ``DESCR``: str, the columns and where the problem comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    References
    ----------
    Lang, K. J. and Witbrock, M. J. (1988). Learning to tell two spirals apart.
    Proceedings of the 1988 Connectionist Models Summer School.
    """
    check_count("n_samples", n_samples, low=4, even=True)
    check_positive("turns", turns)
    check_noise("noise", noise)
    rng = check_random_state(random_state)
    share = np.repeat(np.linspace(0.0, 1.0, n_samples // 2), 2)
    if noise > 0:
        share = rng.uniform(size=n_samples)
    y = np.tile([1, 0], n_samples // 2)
    angle = 2.0 * np.pi * turns * share
    radius = OUTER_RADIUS + (INNER_RADIUS - OUTER_RADIUS) * share
    X = np.column_stack([radius * np.sin(angle), radius * np.cos(angle)])
    X *= np.where(y == 1, 1.0, -1.0)[:, None]
    if noise > 0:
        X += noise * rng.standard_normal(X.shape)
    if return_X_y:
        return X, y
    return Bunch(
        data=X,
        target=y,
        feature_names=["x", "y"],
        target_names=["spiral"],
        DESCR=SPIRALS_DESCR,
    )
