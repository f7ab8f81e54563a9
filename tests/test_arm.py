"""Dynamics of an arm against mechanics done another way; the data of the robot."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from skmoe._arm import GRAVITY, Arm, _lump, puma_560
from skmoe.datasets import make_robot_arm
from tests._asserts import assert_gradient

ARM = puma_560()


def states(n_samples, seed=0):
    """Return angles, velocities and torques of rows of the data set."""
    X, _ = make_robot_arm(n_samples, random_state=seed, return_X_y=True)
    return np.split(X, 3, axis=1)


def poses(arm, angle):
    """Return 4 by 4 transforms from each link's frame to the base, for one row.

    Written from the definition of the frames, one elementary motion at a time, and
    not with the code under test.
    """
    transform, found = np.eye(4), []
    for i, turn in enumerate(angle):
        tilt, spin = np.eye(4), np.eye(4)
        sine, cosine = np.sin(arm.twist[i]), np.cos(arm.twist[i])
        tilt[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
        tilt[0, 3] = arm.length[i]
        spin[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        spin[2, 3] = arm.offset[i]
        transform = transform @ tilt @ spin
        found.append(transform)
    return np.array(found)


def potential(arm, angle):
    """Return the potential energy of one row, joules."""
    heights = np.einsum("ij,ij->i", poses(arm, angle)[:, 2, :3], arm.centre)
    return GRAVITY * arm.mass @ (heights + poses(arm, angle)[:, 2, 3])


def kinetic(arm, angle, velocity, step=1e-5):
    """Return the kinetic energy of one row, joules, from differences of its poses."""
    here = poses(arm, angle)
    ahead, behind = (poses(arm, angle + s * velocity) for s in (step, -step))
    rate = (ahead - behind) / (2.0 * step)
    centre = np.c_[arm.centre, np.ones(arm.n_joints)]
    linear = np.einsum("kij,kj->ki", rate, centre)[:, :3]
    energy = 0.5 * arm.mass @ (linear**2).sum(axis=1)
    for k in range(arm.n_joints):
        # The turning of a frame is the skew part of R' dR/dt, in the frame itself.
        skew = here[k, :3, :3].T @ rate[k, :3, :3]
        spin = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
        energy += 0.5 * spin @ arm.inertia[k] @ spin
    return energy


def test_mass_matrix_is_symmetric_and_positive_definite():
    matrix = ARM.mass_matrix(states(500)[0])
    assert matrix.shape == (500, 4, 4)
    np.testing.assert_allclose(matrix, matrix.transpose(0, 2, 1), atol=1e-13)
    assert np.linalg.eigvalsh(matrix).min() > 1e-3


def test_kinetic_energy_is_the_quadratic_form_of_the_mass_matrix():
    angle, velocity, _ = states(20)
    matrix = ARM.mass_matrix(angle)
    form = 0.5 * np.einsum("ni,nij,nj->n", velocity, matrix, velocity)
    energy = [kinetic(ARM, q, v) for q, v in zip(angle, velocity, strict=True)]
    np.testing.assert_allclose(form, energy, rtol=1e-7)


def test_torque_at_rest_is_the_gradient_of_the_potential():
    rng = np.random.default_rng(0)
    rest = np.zeros(4)
    for angle in states(6)[0]:
        torque = ARM.inverse_dynamics(angle, rest, rest)
        assert_gradient(lambda q: potential(ARM, q), torque, angle, rng)
    np.testing.assert_array_equal(
        ARM.inverse_dynamics(angle, rest, rest, gravity=0.0), rest
    )


def test_velocity_terms_follow_from_the_kinetic_energy():
    """Lagrange: C(q, q') is dM/dt q' minus half the gradient of q' M q' in q."""
    angle, velocity, _ = states(10)
    found = ARM.inverse_dynamics(angle, velocity, np.zeros(4), gravity=0.0)
    step = 1e-5

    def momentum(q):
        return np.einsum("nij,nj->ni", ARM.mass_matrix(q), velocity)

    forward = momentum(angle + step * velocity) - momentum(angle - step * velocity)
    expected = forward / (2.0 * step)
    for j, unit in enumerate(np.eye(4)):
        energy = [
            0.5 * (velocity * momentum(angle + s * unit)).sum(axis=1)
            for s in (step, -step)
        ]
        expected[:, j] -= (energy[0] - energy[1]) / (2.0 * step)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_work_of_the_torques_becomes_energy():
    """Along a motion with constant torques: d/dt (kinetic + potential) = q'' torque."""
    angle, velocity, torque = (block[:4] for block in states(4, seed=1))
    step = 1e-3

    def slope(state):
        q, v = np.split(state, 2, axis=1)
        return np.hstack([v, ARM.forward_dynamics(q, v, torque)])

    state = np.hstack([angle, velocity])
    energy, work = [], [np.zeros(4)]
    for _ in range(40):
        q, v = np.split(state, 2, axis=1)
        energy.append(
            [kinetic(ARM, a, b) + potential(ARM, a) for a, b in zip(q, v, strict=True)]
        )
        # Runge and Kutta's step, of fourth order; constant torques work along q.
        k1 = slope(state)
        k2 = slope(state + 0.5 * step * k1)
        k3 = slope(state + 0.5 * step * k2)
        k4 = slope(state + step * k3)
        after = state + step / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        work.append(work[-1] + (torque * (after - state)[:, :4]).sum(axis=1))
        state = after
    energy, work = np.array(energy), np.array(work[:-1])
    power = (energy[2:] - energy[:-2]) / (2.0 * step)
    rate = (work[2:] - work[:-2]) / (2.0 * step)
    assert np.abs(rate).min(axis=0).max() > 1.0
    np.testing.assert_allclose(power, rate, atol=1e-4)
    np.testing.assert_allclose(energy - energy[0], work, atol=1e-6)


def test_inverse_dynamics_undoes_forward_dynamics():
    angle, velocity, torque = states(1000)
    acceleration = ARM.forward_dynamics(angle, velocity, torque)
    back = ARM.inverse_dynamics(angle, velocity, acceleration)
    np.testing.assert_allclose(back, torque, atol=1e-11)
    one_by_one = [
        ARM.inverse_dynamics(*row)
        for row in zip(angle[:5], velocity[:5], acceleration[:5], strict=True)
    ]
    np.testing.assert_allclose(one_by_one, torque[:5], atol=1e-11)


# Torques of the Robotics Toolbox for Python 1.4 (Corke) for the six-joint arm with
# these parameters, joints 5 and 6 held at a right angle and at zero.
TOOLBOX = [
    ([0, 0, 0, 0], [0] * 4, [0] * 4, [0.0, -37.01406195, 0.22067595, 0.0]),
    (
        [0.3, -0.7, 1.1, 0.4],
        [1.0, -2.0, 0.5, 3.0],
        [2.0, 1.0, -4.0, 10.0],
        [3.15643625608, -34.8227503539, -5.10500125141, 0.0261456954478],
    ),
    (
        [-1.2, 1.4, -0.9, -1.5],
        [-3.0, 1.5, 2.5, -1.0],
        [-5.0, 8.0, 3.0, -20.0],
        [-3.62323954592, 5.32716309432, -4.07303689430, -0.0504959761893],
    ),
]


@pytest.mark.parametrize(("angle", "velocity", "acceleration", "torque"), TOOLBOX)
def test_torques_equal_those_of_another_program(angle, velocity, acceleration, torque):
    state = (np.array(part, dtype=float) for part in (angle, velocity, acceleration))
    np.testing.assert_allclose(ARM.inverse_dynamics(*state), torque, atol=1e-10)


def test_two_links_in_a_plane_by_hand():
    """Two point masses at the ends of rods: the example of every textbook."""
    mass, length = np.array([1.5, 0.7]), np.array([0.5, 0.3])
    tips = np.column_stack([length, np.zeros(2), np.zeros(2)])
    arm = Arm(
        twist=np.zeros(2),
        length=np.array([0.0, length[0]]),
        offset=np.zeros(2),
        mass=mass,
        centre=tips,
        inertia=np.zeros((2, 3, 3)),
    )
    rng = np.random.default_rng(0)
    angle, velocity = rng.uniform(-2, 2, (2, 30, 2))
    bend = np.cos(angle[:, 1]) * mass[1] * length[0] * length[1]
    far = np.full(30, mass[1] * length[1] ** 2)
    near = mass.sum() * length[0] ** 2 + far + 2.0 * bend
    matrix = np.array([[near, far + bend], [far + bend, far]])
    np.testing.assert_allclose(arm.mass_matrix(angle), matrix.transpose(2, 0, 1))
    drag = np.sin(angle[:, 1]) * mass[1] * length[0] * length[1]
    first, second = velocity.T
    by_hand = np.c_[-drag * (2.0 * first + second) * second, drag * first**2]
    # The axes are upright, so gravity turns nothing.
    found = arm.inverse_dynamics(angle, velocity, np.zeros(2))
    np.testing.assert_allclose(found, by_hand, atol=1e-13)


def test_lumped_parts_move_as_the_parts_did():
    rng = np.random.default_rng(0)
    mass, centre = rng.uniform(0.1, 2.0, 3), rng.standard_normal((3, 3))
    inertia = np.array([np.diag(row) for row in rng.uniform(1.0, 1.5, (3, 3))])
    total, common, lumped = _lump(mass, centre, inertia)
    for _ in range(5):
        velocity, spin = rng.standard_normal((2, 3))
        whole = total * ((velocity + np.cross(spin, common)) ** 2).sum()
        whole += spin @ lumped @ spin
        parts = mass @ ((velocity + np.cross(spin, centre)) ** 2).sum(axis=1)
        parts += sum(spin @ part @ spin for part in inertia)
        assert whole == pytest.approx(parts)


def test_the_arm_is_the_published_one():
    np.testing.assert_allclose(ARM.mass, [0.0, 17.4, 4.8, 0.82 + 0.34 + 0.09])
    assert ARM.inertia[0, 2, 2] == 0.35
    np.testing.assert_array_equal(np.diag(ARM.inertia[2]), [0.066, 0.0125, 0.086])
    upright = poses(ARM, np.zeros(4))
    # At zero the wrist stands above the elbow, which is level with the shoulder.
    shoulder, elbow, wrist = upright[1:, :3, 3]
    np.testing.assert_allclose(elbow - shoulder, [0.4318, -0.0934, 0.0], atol=1e-12)
    np.testing.assert_allclose(wrist - elbow, [-0.0203, 0.0, 0.4331], atol=1e-12)
    # The bent hand's centre of mass lies beside the axis of joint 4.
    assert ARM.centre[3, 0] == pytest.approx(0.09 * 0.032 / 1.25)


def test_rows_of_the_robot_arm():
    table = make_robot_arm(3000, random_state=0)
    assert table.data.shape == (3000, 12)
    assert table.target.shape == (3000, 4)
    assert len(table.feature_names) == len(set(table.feature_names)) == 12
    assert table.feature_names[::4] == ["angle_1", "velocity_1", "torque_1"]
    assert table.target_names[3] == "acceleration_4"
    assert "Armstrong" in table.DESCR
    limit = [*np.repeat([np.pi / 2, np.pi], 4), 15.0, 30.0, 10.0, 0.05]
    largest = np.abs(table.data).max(axis=0) / limit
    assert largest.max() <= 1.0
    assert largest.min() > 0.99
    angle, velocity, torque = np.split(table.data, 3, axis=1)
    np.testing.assert_array_equal(
        table.arm.forward_dynamics(angle, velocity, torque), table.target
    )
    X, y = make_robot_arm(3000, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, table.data)
    np.testing.assert_array_equal(y, table.target)
    assert make_robot_arm(random_state=0).target.shape == (20000, 4)


def test_seed_fixes_the_rows_of_the_robot_arm():
    X, y = make_robot_arm(50, random_state=3, return_X_y=True)
    again, y_again = make_robot_arm(50, random_state=3, return_X_y=True)
    other, _ = make_robot_arm(50, random_state=4, return_X_y=True)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, other)
    generator = np.random.RandomState(3)
    from_generator, _ = make_robot_arm(50, random_state=generator, return_X_y=True)
    np.testing.assert_array_equal(from_generator, X)
    # More rows go on where fewer stop.
    more, y_more = make_robot_arm(80, random_state=3, return_X_y=True)
    np.testing.assert_array_equal(more[:50], X)
    np.testing.assert_allclose(y_more[:50], y, rtol=1e-12, atol=1e-12)


def test_only_the_base_angle_does_nothing():
    table = make_robot_arm(50, random_state=0)
    for j in range(12):
        moved = table.data.copy()
        moved[:, j] *= 0.5
        after = table.arm.forward_dynamics(*np.split(moved, 3, axis=1))
        change = np.abs(after - table.target).max()
        assert change < 1e-9 if j == 0 else change > 0.01


def test_robot_arm_is_as_hard_as_stated():
    X, y = make_robot_arm(random_state=0, return_X_y=True)
    train, test = slice(15000), slice(15000, None)

    def relative_error(model, columns):
        predicted = model.fit(X[train], y[train, columns]).predict(X[test])
        spread = ((y[test, columns] - y[test, columns].mean(axis=0)) ** 2).sum(axis=0)
        return ((predicted - y[test, columns]) ** 2).sum(axis=0) / spread

    linear = relative_error(LinearRegression(), slice(None))
    assert linear.mean() == pytest.approx(0.31, abs=0.015)
    tree = DecisionTreeRegressor(min_samples_leaf=5, random_state=0)
    errors = [relative_error(tree, j) for j in range(4)]
    assert np.mean(errors) == pytest.approx(0.16, abs=0.015)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
def test_robot_arm_needs_a_number_of_rows(count):
    with pytest.raises(
        ValueError, match=f"n_samples must be an integer .* got {count}"
    ):
        make_robot_arm(count)
