"""Rigid-body dynamics of a serial arm, and a published arm: the PUMA 560.

The equation of motion of an arm with revolute joints is

    M(q) q'' + C(q, q') + g(q) = torque.

The recursive Newton-Euler equations give its left-hand side without forming any
term: outwards from the base the motion of each link, inwards from the tip the
forces between them (Luh, Walker & Paul 1980, in the form of Craig 1989, chapter
6). The mass matrix is read off column by column, from unit accelerations of one
joint at a time without velocity and gravity (Walker & Orin 1982). All is done for
many samples at once: only links and joints are looped over.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Arm", "puma_560"]

GRAVITY = 9.81  # metres per second squared, downwards along the first joint's axis
AXIS = np.array([0.0, 0.0, 1.0])  # a joint turns its link about the link's z axis


@dataclass(frozen=True, eq=False)
class Arm:
    """Serial arm of rigid links, in modified Denavit-Hartenberg frames.

    Frame i is fixed to link i, its z axis is the axis of joint i; it comes from
    frame i - 1 by a turn of ``twist`` about x, a shift of ``length`` along x, a
    turn of the joint's angle about the new z, and a shift of ``offset`` along z
    (Craig 1989, chapter 3). The base frame's z axis points upwards.

    Attributes
    ----------
    twist : ndarray of shape (n_joints,)
        In radians.
    length, offset : ndarray of shape (n_joints,)
        In metres.
    mass : ndarray of shape (n_joints,)
        In kilograms.
    centre : ndarray of shape (n_joints, 3)
        Centre of mass of each link in its frame, in metres.
    inertia : ndarray of shape (n_joints, 3, 3)
        Inertia about the centre of mass, axes as the frame's, in kg m^2.
    """

    twist: np.ndarray
    length: np.ndarray
    offset: np.ndarray
    mass: np.ndarray
    centre: np.ndarray
    inertia: np.ndarray

    @property
    def n_joints(self):
        """Number of joints, and of links."""
        return self.twist.size

    @property
    def origin(self):
        """Origin of each frame in the one before it, (n_joints, 3), in metres."""
        sine, cosine = np.sin(self.twist), np.cos(self.twist)
        return np.column_stack([self.length, -sine * self.offset, cosine * self.offset])

    def inverse_dynamics(self, angle, velocity, acceleration, gravity=GRAVITY):
        """Return the torques that cause given accelerations.

        Parameters
        ----------
        angle, velocity, acceleration : ndarray of shape (..., n_joints)
            In radians, rad/s and rad/s^2; they are broadcast.
        gravity : float, default=9.81
            In m/s^2.

        Returns
        -------
        torque : ndarray of shape (..., n_joints)
            In newton metres.
        """
        shape = np.broadcast_shapes(angle.shape, velocity.shape, acceleration.shape)
        rotations = [
            _link_rotation(self.twist[i], angle[..., i]) for i in range(self.n_joints)
        ]
        forces = self._forces(rotations, velocity, acceleration, gravity)
        torque = np.empty(shape)
        force = moment = np.zeros((*shape[:-1], 3))
        for i in range(self.n_joints - 1, -1, -1):
            # What the link's own motion asks for, and what it hands on to the next.
            own_force, own_moment = forces[i]
            moment = own_moment + moment + np.cross(self.centre[i], own_force)
            force = own_force + force
            torque[..., i] = moment[..., 2]
            force = _rotate(rotations[i], force)
            moment = _rotate(rotations[i], moment) + np.cross(self.origin[i], force)
        return torque

    def _forces(self, rotations, velocity, acceleration, gravity):
        """Return force and moment at each centre of mass that its motion needs.

        Newton's and Euler's laws, ``F = m a`` and ``N = I w' + w x (I w)``, link by
        link from the base. Gravity is a base that accelerates upwards.
        """
        spin = spin_rate = np.zeros(3)
        linear = gravity * AXIS
        forces = []
        for i, rotation in enumerate(rotations):
            linear = linear + _rigid(spin, spin_rate, self.origin[i])
            linear = _rotate_back(rotation, linear)
            spin = _rotate_back(rotation, spin)
            joint = velocity[..., i, None] * AXIS
            spin_rate = (
                _rotate_back(rotation, spin_rate)
                + np.cross(spin, joint)
                + acceleration[..., i, None] * AXIS
            )
            spin = spin + joint
            at_centre = linear + _rigid(spin, spin_rate, self.centre[i])
            momentum = spin @ self.inertia[i]
            moment = spin_rate @ self.inertia[i] + np.cross(spin, momentum)
            forces.append((self.mass[i] * at_centre, moment))
        return forces

    def mass_matrix(self, angle):
        """Return the mass matrix M(q).

        Parameters
        ----------
        angle : ndarray of shape (n_samples, n_joints)
            In radians.

        Returns
        -------
        mass_matrix : ndarray of shape (n_samples, n_joints, n_joints)
            Symmetric positive definite, in kg m^2.
        """
        unit = np.eye(self.n_joints)[:, None, :]
        columns = self.inverse_dynamics(angle, np.zeros_like(unit), unit, gravity=0.0)
        return np.moveaxis(columns, 0, -1)

    def forward_dynamics(self, angle, velocity, torque):
        """Return the accelerations ``M(q)^-1 (torque - C(q, q') - g(q))``.

        Parameters
        ----------
        angle, velocity, torque : ndarray of shape (n_samples, n_joints)
            In radians, rad/s and newton metres.

        Returns
        -------
        acceleration : ndarray of shape (n_samples, n_joints)
            In rad/s^2.
        """
        bias = self.inverse_dynamics(angle, velocity, np.zeros(self.n_joints))
        matrix = self.mass_matrix(angle)
        return np.linalg.solve(matrix, (torque - bias)[..., None])[..., 0]


def _link_rotation(twist, angle):
    """Return the rotations from a link's frame to the one before it.

    Parameters
    ----------
    twist : float
    angle : ndarray of shape (...,)
        Of the link's joint, in radians.

    Returns
    -------
    rotation : ndarray of shape (..., 3, 3)
    """
    sine, cosine = np.sin(angle), np.cos(angle)
    rotation = np.zeros((*np.shape(angle), 3, 3))
    rotation[..., 0, 0], rotation[..., 0, 1] = cosine, -sine
    rotation[..., 1, 0], rotation[..., 1, 1] = sine, cosine
    rotation[..., 2, 2] = 1.0
    sine, cosine = np.sin(twist), np.cos(twist)
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    return tilt @ rotation


def _rotate(rotation, vector):
    return (rotation @ vector[..., None])[..., 0]


def _rotate_back(rotation, vector):
    return (vector[..., None, :] @ rotation)[..., 0, :]


def _rigid(spin, spin_rate, place):
    """Return the acceleration of a place of a turning body against its origin."""
    return np.cross(spin_rate, place) + np.cross(spin, np.cross(spin, place))


def _lump(mass, centre, inertia):
    """Return mass, centre of mass and inertia of parts fixed to each other.

    All in one frame; inertias about the own centre of each part on entry and about
    the common one on return (parallel axis theorem).
    """
    total = mass.sum()
    common = mass @ centre / total
    lever = centre - common
    square = (lever**2).sum(axis=1)[:, None, None] * np.eye(3)
    shifted = mass[:, None, None] * (square - lever[:, :, None] * lever[:, None, :])
    return total, common, (inertia + shifted).sum(axis=0)


def puma_560():
    """Return the first four joints of a PUMA 560, its wrist bent and locked.

    Masses, centres and principal inertias as measured by Armstrong, Khatib &
    Burdick (1986), in their frames. Link 1 only turns about the vertical: its one
    inertia is all that matters, and all that was measured.

    Returns
    -------
    arm : Arm
        With four joints.
    """
    mass = np.array([0.0, 17.40, 4.80, 0.82, 0.34, 0.09])
    centre = np.zeros((6, 3))
    centre[1] = 0.068, 0.006, -0.016
    centre[2] = 0.0, -0.070, 0.014
    centre[3] = 0.0, 0.0, -0.019
    centre[5] = 0.0, 0.0, 0.032
    principal = [
        [0.0, 0.0, 0.35],
        [0.130, 0.524, 0.539],
        [0.066, 0.0125, 0.086],
        [1.8e-3, 1.8e-3, 1.3e-3],
        [0.3e-3, 0.3e-3, 0.4e-3],
        [0.15e-3, 0.15e-3, 0.04e-3],
    ]
    inertia = np.array([np.diag(moments) for moments in principal])
    twist = np.array([0.0, -np.pi / 2, 0.0, np.pi / 2, -np.pi / 2, np.pi / 2])
    # The wrist's three frames have one origin, so its links need only be turned:
    # joint 5 stands at a right angle, joint 6 at zero.
    fifth = _link_rotation(twist[4], np.pi / 2)
    to_fourth = np.array([np.eye(3), fifth, fifth @ _link_rotation(twist[5], 0.0)])
    hand = _lump(
        mass[3:],
        _rotate(to_fourth, centre[3:]),
        to_fourth @ inertia[3:] @ to_fourth.transpose(0, 2, 1),
    )
    return Arm(
        twist=twist[:4],
        length=np.array([0.0, 0.0, 0.4318, -0.0203]),
        offset=np.array([0.0, 0.2435, -0.0934, 0.4331]),
        mass=np.append(mass[:3], hand[0]),
        centre=np.vstack([centre[:3], hand[1]]),
        inertia=np.concatenate([inertia[:3], hand[2][None]]),
    )
