"""Gate and experts trained together on the likelihood of their mixture."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._heads import Head
from skmoe.nn._optimiser import Optimiser, Settings
from skmoe.nn._stack import Stack
from skmoe.nn._state import PartState, seeded
from skmoe.nn._train import Diverged, evaluate, persistently

__all__ = ["Group", "train_mixture"]

States = list[PartState]


@dataclass
class Group:
    """Alike parts and the rows that they see.

    Attributes
    ----------
    module : nn.Module
    states : list of PartState
    X : tensor of shape (n_rows, n_columns)
        Standardised.
    y : tensor of shape (n_rows, ...) or None
        Coded; None for a gate.
    head : Head
    settings : Settings
    members : list of int
        Which experts these are.
    """

    module: nn.Module
    states: States
    X: Tensor
    y: Any
    head: Head
    settings: Settings
    members: list[int]


def train_mixture(
    gate: Group, experts: list[Group], weight: Tensor, names: list[str]
) -> list[States]:
    """Climb ``sum_i w_i log sum_k g_k(x_i) p_k(y_i | x_i) + penalty`` for a pass.

    A pass has the epochs and batches that the first experts' settings say; each group
    takes the steps of its own optimiser. As in an M-step, losses that are not finite
    are taken back once, with half the learning rates.

    Parameters
    ----------
    gate : Group
    experts : list of Group
    weight : tensor of shape (n_rows,)
    names : list of str
        Of the experts, for messages.

    Returns
    -------
    states : list of list of PartState
        Of the gate, then of each group of experts.

    Raises
    ------
    Diverged
    """
    groups = [gate, *experts]
    sizes = [len(group.states) for group in groups]

    def attempt(flat: States, batch: int, careful: bool) -> list[States]:
        split = [list(part) for part in _split(flat, sizes)]
        return _Joint(groups, split, weight, batch).run(careful)

    flat = [state for group in groups for state in group.states]
    owner = f"the gate and {', '.join(names)}"
    batch = experts[0].settings.batch_size
    return persistently(owner, flat, batch, attempt)


def _split(flat: States, sizes: list[int]) -> list[States]:
    parts, start = [], 0
    for size in sizes:
        parts.append(flat[start : start + size])
        start += size
    return parts


class _Joint:
    """One pass over the rows."""

    def __init__(
        self, groups: list[Group], states: list[States], weight: Tensor, batch: int
    ) -> None:
        self.groups, self.batch = groups, batch
        device = groups[0].X.device
        self.stacks = [
            Stack(group.module, own, device, group.settings.bfloat16)
            for group, own in zip(groups, states, strict=True)
        ]
        pairs = list(zip(self.stacks, groups, strict=True))
        self.optimisers = [
            Optimiser(stack, group.settings, shapes=True) for stack, group in pairs
        ]
        self.params = [p for own in self.optimisers for p in own.params]
        self.generator = torch.Generator()
        self.generator.set_state(states[0][0].generator)
        self.rows = torch.nonzero(weight > 0)[:, 0]
        self.weight = weight
        self.total = float(weight.sum())
        self.last, self.norm = self.rows[: self.batch], ""

    def run(self, careful: bool) -> list[States]:
        """Run the epochs; return the states of each group."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        with seeded(seed, self.weight.device):
            for _ in range(self.groups[1].settings.n_epochs):
                self._epoch(careful)
        for stack, group in zip(self.stacks, self.groups, strict=True):
            with torch.no_grad():
                stack.shape = group.head.bounded(stack.shape)
        self._check_outcome()
        generator = self.generator.get_state()
        return [
            stack.split(own.moments(), generator)
            for stack, own in zip(self.stacks, self.optimisers, strict=True)
        ]

    def _epoch(self, careful: bool) -> None:
        order = torch.randperm(self.rows.numel(), generator=self.generator)
        order = self.rows[order.to(self.rows.device)]
        total = torch.zeros((), dtype=torch.float64, device=self.weight.device)
        for step, index in enumerate(torch.split(order, self.batch)):
            loss, self.last = self._loss(index), index
            gradients = torch.autograd.grad(loss, self.params, materialize_grads=True)
            loss = loss.detach()
            if careful:
                self._check(loss, step, gradients)
            total += loss
            for own in self.optimisers:
                own.apply(gradients[: len(own.params)])
                gradients = gradients[len(own.params) :]
        self._check(total)

    def _loss(self, index: Tensor) -> Tensor:
        """Return minus the mean objective of a batch, in nats per row."""
        weight = self.weight[index]
        raw = self.stacks[0].raw(self.groups[0].X[index], train=True)[0]
        joint = torch.log_softmax(raw, dim=-1).T
        # Experts of a group lie together, in the order of the groups.
        order = [k for group in self.groups[1:] for k in group.members]
        density, penalty = [], torch.zeros((), device=weight.device)
        for stack, group in zip(self.stacks[1:], self.groups[1:], strict=True):
            raw = stack.raw(group.X[index], train=True)
            shape = stack.shape.to(raw.dtype)
            density.append(group.head.log_prob(group.y[index], raw, shape))
            density[-1] = density[-1] - group.head.log_unit
            penalty = penalty + group.head.penalty(stack.shape).sum()
        log_lik = torch.logsumexp(joint[order] + torch.cat(density), dim=0)
        scale = self.total * min(self.batch, self.rows.numel()) / self.rows.numel()
        return -(weight * log_lik).sum() / scale - penalty / self.total

    def _check_outcome(self) -> None:
        """Raise Diverged if the last step, which no loss follows, went too far.

        The rows of that step tell it; an evaluation of all would cost as much as a
        third of an epoch.
        """
        for stack, group in zip(self.stacks, self.groups, strict=True):
            raw = evaluate(stack, group.X[self.last])
            finite = torch.isfinite(raw).all() & torch.isfinite(stack.shape).all()
            if not bool(finite):
                worst = float(raw.abs().max())
                raise Diverged(
                    0, f"the outputs became {worst:.3g} after the last step{self.norm}."
                )

    def _check(
        self, loss: Tensor, step: int | None = None, gradients: Any = ()
    ) -> None:
        finite = torch.isfinite(loss)
        if gradients:
            size = torch.stack([part.double().square().sum() for part in gradients])
            size = size.sum().sqrt()
            finite &= torch.isfinite(size)
            self.norm = f", with gradient norm {float(size):.3g}"
        if bool(finite):
            return
        where = "" if step is None else f" in step {step + 1} of an epoch"
        raise Diverged(0, f"the loss became {float(loss):.3g}{where}{self.norm}.")
