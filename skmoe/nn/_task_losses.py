"""Losses of several tasks, where labels may be missing."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from skmoe.nn._mmoe import MMoENetwork

__all__ = ["TaskObjective", "labelled_mean", "pooled", "task_losses"]

# An overflow would make the gradient NaN even of a row that has no label.
TANGENT_FROM = 40.0


def task_losses(
    raw: Tensor, labels: Tensor, kinds: Sequence[str], n_outputs: Sequence[int]
) -> Tensor:
    """Return the loss of each row and task, in nats up to constants of the labels.

    - "binary": ``log(1 + e^z) - y z``;
    - "multiclass": ``log sum_c e^{z_c} - z_y``;
    - "regression": ``(y - z)^2 / 2``, with y in standard deviations;
    - "count": ``e^z - y z``, the Poisson law's; above z = 40 on the tangent of e^z,
      which does not overflow.

    Parameters
    ----------
    raw : tensor of shape (n_rows, total number of outputs)
    labels : tensor of shape (n_rows, n_tasks)
        Numbers of classes, standardised values, counts; anything finite where there
        is no label.
    kinds : sequence of str
    n_outputs : sequence of int

    Returns
    -------
    losses : tensor of shape (n_rows, n_tasks)
    """
    if all(kind == "binary" for kind in kinds):
        return functional.softplus(raw) - labels * raw
    columns = []
    parts = torch.split(raw, list(n_outputs), dim=1)
    for t, (kind, part) in enumerate(zip(kinds, parts, strict=True)):
        y, z = labels[:, t], part[:, 0]
        if kind == "binary":
            columns.append(functional.softplus(z) - y * z)
        elif kind == "multiclass":
            columns.append(functional.cross_entropy(part, y.long(), reduction="none"))
        elif kind == "regression":
            columns.append(0.5 * (y - z).square())
        else:
            low = z.clamp(max=TANGENT_FROM)
            columns.append(low.exp() * (1.0 + (z - low)) - y * z)
    return torch.stack(columns, dim=1)


def labelled_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Return the mean loss of each task, of shape (n_tasks,); 0 without labels.

    Parameters
    ----------
    losses, weight : tensors of shape (n_rows, n_tasks)
    """
    total = weight.sum(dim=0)
    return (losses * weight).sum(dim=0) / total.where(total > 0, 1.0)


def pooled(raw: Tensor, kinds: Sequence[str], n_outputs: Sequence[int]) -> Tensor:
    """Return the raw outputs of an ensemble from those of its members.

    Probabilities, means and rates are averaged, not logits and logs.

    Parameters
    ----------
    raw : tensor of shape (n_rows, n_members, total number of outputs)
    kinds : sequence of str
    n_outputs : sequence of int

    Returns
    -------
    raw : tensor of shape (n_rows, total number of outputs)
    """
    if raw.shape[1] == 1:
        return raw[:, 0]
    columns = []
    parts = torch.split(raw, list(n_outputs), dim=2)
    for kind, part in zip(kinds, parts, strict=True):
        if kind == "binary":
            yes = functional.logsigmoid(part).logsumexp(dim=1)
            columns.append(yes - functional.logsigmoid(-part).logsumexp(dim=1))
        elif kind == "multiclass":
            columns.append(part.log_softmax(dim=2).logsumexp(dim=1))
        elif kind == "count":
            columns.append(part.logsumexp(dim=1) - math.log(part.shape[1]))
        else:
            columns.append(part.mean(dim=1))
    return torch.cat(columns, dim=1)


class TaskObjective(nn.Module):
    """Weighted losses of the tasks of a batch, and penalties on its gates.

    With weights w of rows and tasks (0 where there is no label) the loss of task t
    is ``sum_i w_it l_it / (n m_t)``, where m_t is the mean of w_it over *all* rows
    and n the size of a full batch: over an epoch each label counts by its weight,
    however many others its batch holds.

    Parameters
    ----------
    network : MMoENetwork
    kinds : sequence of str
    mean_weight : tensor of shape (n_tasks,)
        m_t.
    batch_size : float
    task_weights : tensor of shape (n_tasks,)
        What the losses are multiplied by.
    learned : bool
        Whether the weights are learned besides: ``e^{-s_t} l + s_t / 2`` for each
        label, Kendall, A., Gal, Y. & Cipolla, R. (2018). Multi-task learning using
        uncertainty to weigh losses. CVPR, equations 7 and 10.
    gate_entropy, load_balance : float
        Penalties: the mean of ``log K - entropy`` of the gates, in nats, and K times
        the sum of squares of the experts' mean weights, less 1 (both 0 where all
        experts get the same). A part of a batch counts as that part.
    chain_penalty : float
        Of chained tasks: what the probability of a task exceeds that of the one in
        front of it, as the calibrator of AITM, equation 8.
    """

    mean_weight: Tensor
    task_weights: Tensor
    # Whether a CUDA device can record a step: nothing waits for the host.
    recordable = True

    def __init__(
        self,
        network: MMoENetwork,
        kinds: Sequence[str],
        mean_weight: Tensor,
        batch_size: float,
        task_weights: Tensor,
        *,
        learned: bool = False,
        gate_entropy: float = 0.0,
        load_balance: float = 0.0,
        chain_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.kinds = network, tuple(kinds)
        self.batch_size = batch_size
        self.register_buffer("mean_weight", mean_weight, persistent=False)
        self.register_buffer("task_weights", task_weights, persistent=False)
        start = torch.zeros_like(mean_weight)
        self.log_variance = nn.Parameter(start) if learned else None
        self.gate_entropy, self.load_balance = gate_entropy, load_balance
        self.chain_penalty = chain_penalty if network.transfer is not None else 0.0

    def forward(
        self, numbers: Tensor, codes: Tensor, labels: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the objective of each task, of shape (n_tasks,), and the penalties.

        The plain sum of both is what is minimised.
        """
        raw, gates = self.network(numbers, codes)
        raw = raw.to(labels.dtype)
        losses = self.mean_losses(raw, labels)
        # A task without labels among the rows has nothing to say.
        mean = self.mean_weight.where(self.mean_weight > 0, torch.inf)
        scale = self.task_weights / (mean * self.batch_size)
        each = (losses * weight).sum(dim=0) * scale
        if self.log_variance is not None:
            # Of the labels alone: a task that has none here keeps its weight.
            share = weight.sum(dim=0) * scale
            each = (-self.log_variance).exp() * each + 0.5 * share * self.log_variance
        return each, self._penalty(raw, gates)

    def mean_losses(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Return the losses of rows and tasks, the mean over members."""
        members, n_outputs = raw.shape[1], self.network.n_outputs
        if members == 1:
            return task_losses(raw[:, 0], labels, self.kinds, n_outputs)
        repeated = labels.repeat_interleave(members, dim=0)
        losses = task_losses(raw.flatten(0, 1), repeated, self.kinds, n_outputs)
        return losses.view(len(labels), members, -1).mean(dim=1)

    def _penalty(self, raw: Tensor, gates: list[Tensor]) -> Tensor:
        total = raw.new_zeros(())
        for gate in gates:
            if self.gate_entropy:
                total = total + self.gate_entropy * _lost_entropy(gate)
            if self.load_balance:
                usage = gate.mean(dim=(0, 1))
                uneven = usage.square().sum() * len(usage) - 1.0
                total = total + self.load_balance * uneven
        total = total * (raw.shape[0] / self.batch_size)
        if self.chain_penalty and self.network.parents:
            links = [(t, p) for t, p in enumerate(self.network.fronts) if p >= 0]
            later, earlier = (list(side) for side in zip(*links, strict=True))
            proba = raw.sigmoid()
            excess = functional.relu(proba[..., later] - proba[..., earlier])
            excess = excess.mean(dim=1)
            total = total + self.chain_penalty * excess.sum() / self.batch_size
        return total


def _lost_entropy(gate: Tensor) -> Tensor:
    """Return how far gates fall short of even weights, in nats a row and gate."""
    # The slope at 0 is infinite, and an expert that is left out would make it NaN.
    entropy = torch.special.entr(gate.clamp(min=torch.finfo(gate.dtype).tiny))
    entropy = entropy.sum(dim=-1)
    open_to = (gate.detach() > 0).any(dim=0).sum(dim=-1)
    return torch.mean(open_to.to(gate.dtype).log() - entropy)
