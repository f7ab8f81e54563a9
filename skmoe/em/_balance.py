"""Keeping experts busy: a prior on their usage, or a cap on what each may take.

The twins, in EM, of the load-balancing losses and capacity factors of sparsely gated
networks.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from skmoe.em._node import Assign, hard_assignment, posterior

__all__ = ["Capacity", "UsagePrior"]

Array = NDArray[np.float64]

DUAL_STEPS = 500
SLACK = 50.0  # nats


@dataclass
class UsagePrior:
    """Dirichlet prior on the usage of the experts, ``u_k = sum_i w_i g_ik / sum w``.

    Its log density is ``rows / K * sum_k log(K u_k)``, zero where all are used
    alike. By Jensen's inequality, with c = rows / K and U_k = sum_i w_i g_ik at the
    current gate,

        c log U_k  >=  sum_i (c w_i g_ik / U_k) log g_ik + constant,

    with equality at the current gate. So the prior adds ``c w_i g_ik / U_k`` to what
    expert k gets of row i, and the gate's own M-step raises the penalised objective.

    Attributes
    ----------
    rows : float
        How many rows the prior is worth, spread evenly over the experts.
    """

    rows: float

    def log_density(self, log_proba: Array, weight: Array) -> float:
        """Return the log prior density of a gate's usage, in nats.

        Parameters
        ----------
        log_proba : array of shape (n_experts, n_units)
        weight : array of shape (n_units,)
        """
        usage = np.exp(log_proba) @ weight / weight.sum()
        n_experts = usage.size
        log_usage = np.log(np.maximum(n_experts * usage, 1e-300))
        return float(self.rows / n_experts * log_usage.sum())

    def augmented(
        self, resp: Array, log_proba: Array, weight: Array
    ) -> tuple[Array, Array]:
        """Return responsibilities and weights for the gate, the prior included.

        Parameters
        ----------
        resp, log_proba : arrays of shape (n_experts, n_units)
        weight : array of shape (n_units,)
        """
        used = np.exp(log_proba) * weight
        share = used / np.maximum(used.sum(axis=1, keepdims=True), 1e-300)
        target = resp * weight + self.rows / resp.shape[0] * share
        total = target.sum(axis=0)
        return target / total, total


@dataclass
class Capacity:
    """A cap on the rows of each expert: ``sum_i w_i r_ik <= factor * W / K``.

    The E-step maximises ``sum_i w_i sum_k r_ik (joint_ik - log r_ik)`` under the
    caps. The maximum is ``r_ik ~ exp(joint_ik - price_k)`` with prices that are zero
    where the cap does not bind (a Sinkhorn scaling of the columns); they minimise the
    convex dual ``sum_i w_i logsumexp_k(joint_ik - price_k) + sum_k cap_k price_k``.
    EM then climbs that bound of the likelihood (Ganchev, K. et al. 2010. Posterior
    regularization for structured latent variable models. JMLR 11). Hard assignments
    are filled by deferred acceptance, so there the ascent is not guaranteed.

    Attributes
    ----------
    factor : float
        At least 1; 1 gives every expert the same share.
    """

    factor: float
    price: Array = field(default_factory=lambda: np.zeros(0), compare=False)

    def assign(
        self, joint: Array, weight: Array, assign: Assign
    ) -> tuple[Array, Array]:
        """Return responsibilities within the caps, and what EM climbs of each unit.

        Parameters
        ----------
        joint : array of shape (n_experts, n_units)
        weight : array of shape (n_units,)
        assign : callable
            What the E-step makes of joint log densities otherwise.
        """
        cap = self.factor * float(weight.sum()) / joint.shape[0]
        if assign is hard_assignment:
            resp = _filled(joint, weight, cap)
            return resp, (resp * np.where(resp > 0, joint, 0.0)).sum(axis=0)
        self._find_prices(joint, weight, cap)
        priced = joint - self.price[:, None]
        resp, log_lik = assign(priced)
        return resp, log_lik + self.price @ resp

    def _find_prices(self, joint: Array, weight: Array, cap: float) -> None:
        """Minimise the dual from the last prices; afterwards no cap is exceeded."""
        if self.price.size != joint.shape[0]:
            self.price = np.zeros(joint.shape[0])

        def dual(price: Array) -> tuple[float, Array]:
            resp, log_lik = posterior(joint - price[:, None])
            value = float(weight @ log_lik) + cap * float(price.sum())
            return value / scale, (cap - resp @ weight) / scale

        scale = float(weight.sum())
        # Above this no row would be left to pay it. Only caps that cannot be met,
        # where experts exclude rows, drive a price there, instead of to infinity.
        seen = joint[np.isfinite(joint)]
        highest = float(np.ptp(seen)) + SLACK if seen.size else SLACK
        found = optimize.minimize(
            dual,
            self.price,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, highest)] * joint.shape[0],
            options={"maxiter": DUAL_STEPS, "ftol": 1e-15, "gtol": 1e-10},
        )
        self.price = np.asarray(found.x)


def _filled(joint: Array, weight: Array, cap: float) -> Array:
    """Give each unit wholly to one expert, no expert more than its cap.

    All units ask their best expert; an expert with too many keeps those that would
    lose most with their next one, and the others ask on (Gale and Shapley's deferred
    acceptance, so a later unit may take the place of an earlier one).
    """
    n_experts, n_units = joint.shape
    if n_experts == 1:
        return np.ones_like(joint)
    units = np.arange(n_units)
    open_joint = joint.copy()
    choice = open_joint.argmax(axis=0)
    limit = cap * (1.0 + 1e-9)
    homeless = np.zeros(n_units, dtype=bool)
    asking = True
    while asking:
        load = np.bincount(choice, np.where(homeless, 0.0, weight), n_experts)
        for k in np.flatnonzero(load > limit):
            own = np.flatnonzero((choice == k) & ~homeless)
            others = np.delete(open_joint[:, own], k, axis=0).max(axis=0)
            own = own[np.argsort(others - open_joint[k, own], kind="stable")]
            open_joint[k, own[np.cumsum(weight[own]) > limit]] = -np.inf
        turned_away = np.flatnonzero((open_joint[choice, units] == -np.inf) & ~homeless)
        choice[turned_away] = open_joint[:, turned_away].argmax(axis=0)
        homeless[turned_away] = open_joint[choice, units][turned_away] == -np.inf
        asking = turned_away.size > 0
    resp = np.zeros_like(joint)
    resp[choice, units] = ~homeless
    room = cap - resp @ weight
    # Weights that fit nowhere go where most room is left.
    for i in np.flatnonzero(homeless):
        roomiest = int(room.argmax())
        resp[roomiest, i] = 1.0
        room[roomiest] -= weight[i]
    return resp


def balance_of(given: Any, capacity: float) -> Capacity | UsagePrior | None:
    """Return what a mixture's ``balance`` and ``capacity`` ask for."""
    if given is None:
        return None
    return Capacity(float(capacity)) if given == "cap" else UsagePrior(float(given))
