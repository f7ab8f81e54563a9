"""Tasks that come one after another, such as click and purchase."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "Transfer",
    "by_output",
    "chained_logits",
    "conditional_logits",
    "in_order",
]


def in_order(parents: Sequence[int]) -> list[int]:
    """Return the tasks with each behind its parent.

    Parameters
    ----------
    parents : sequence of int
        Task in front of each task, -1 for none.

    Raises
    ------
    ValueError
        If the tasks run in a circle.
    """
    order: list[int] = []
    left = list(range(len(parents)))
    while left:
        ready = [t for t in left if parents[t] < 0 or parents[t] in order]
        if not ready:
            raise ValueError(f"the tasks {left} wait for one another in a circle.")
        order += ready
        left = [t for t in left if t not in ready]
    return order


def by_output(parents: Sequence[int], n_outputs: Sequence[int]) -> list[int]:
    """Return the output in front of each output, -1 for none.

    Parameters
    ----------
    parents : sequence of int
        Task in front of each task, -1 for none; chained tasks have one output.
    n_outputs : sequence of int
        Of each task.
    """
    first = [sum(n_outputs[:t]) for t in range(len(n_outputs))]
    fronts = [[first[p] if p >= 0 else -1] for p in parents]
    widths = zip(fronts, n_outputs, strict=True)
    return [one for front, width in widths for one in front + [-1] * (width - 1)]


class Transfer(nn.Module):
    """Information that goes along a chain of tasks, by attention.

    ``z_t = sum_u softmax_u(<h1(u), h2(u)> / sqrt(d)) h3(u)`` over u = the task's own
    vector q_t and what the task in front of it passes on, ``p_t = g_t(z_{t-1})``;
    the first of a chain keeps its own: Xi, D. et al. (2021). Modeling the sequential
    dependence among audience multi-step conversions with multi-task learning in
    targeted display advertising (AITM). KDD, equations 3 to 6.

    Parameters
    ----------
    parents : sequence of int
        Task in front of each task, -1 for none.
    width : int
        Numbers of a task's vector.
    """

    def __init__(self, parents: Sequence[int], width: int) -> None:
        super().__init__()
        self.parents, self.order = list(parents), in_order(parents)
        links = [t for t in self.order if parents[t] >= 0]
        self.passed = nn.ModuleDict({str(t): nn.Linear(width, width) for t in links})
        self.mixed = nn.ModuleDict({str(t): nn.Linear(width, 3 * width) for t in links})
        self.width = width

    def forward(self, own: Tensor) -> Tensor:
        """Turn the vectors of the tasks into those that know of the ones in front.

        Parameters
        ----------
        own : tensor of shape (n_tasks, n_rows, width)

        Returns
        -------
        vectors : tensor of the same shape
        """
        known: dict[int, Tensor] = {}
        for t in self.order:
            parent = self.parents[t]
            if parent < 0:
                known[t] = own[t]
                continue
            came = torch.relu(self.passed[str(t)](known[parent]))
            both = torch.stack([own[t], came], dim=1)
            h1, h2, h3 = self.mixed[str(t)](both).chunk(3, dim=-1)
            score = (h1 * h2).sum(dim=-1, keepdim=True) / self.width**0.5
            known[t] = (score.softmax(dim=1) * h3).sum(dim=1)
        return torch.stack([known[t] for t in range(len(self.parents))])


def chained_logits(logits: Tensor, parents: Sequence[int]) -> Tensor:
    """Return logits of the products of probabilities along each chain.

    A task's own logit is that of its probability given that the one in front of it
    happened; the result is that of both: ``p(buy) = p(click) p(buy | click)``. Ma,
    X. et al. (2018). Entire space multi-task model (ESMM). SIGIR, equation 2.

    Parameters
    ----------
    logits : tensor of shape (..., n_tasks)
    parents : sequence of int
        Task in front of each task, -1 for none.

    Returns
    -------
    logits : tensor of the same shape
    """
    log_proba = nn.functional.logsigmoid(logits)
    known: dict[int, Tensor] = {}
    for t in in_order(parents):
        own = log_proba[..., t]
        known[t] = own if parents[t] < 0 else own + known[parents[t]]
    columns = []
    for t, parent in enumerate(parents):
        columns.append(logits[..., t] if parent < 0 else _logit(known[t]))
    return torch.stack(columns, dim=-1)


def conditional_logits(logits: Tensor, parents: Sequence[int]) -> Tensor:
    """Return the logits that `chained_logits` turns into the given ones.

    A task may be up to 0.99 times as frequent as the one in front of it: one that
    started from a probability of 1 would not learn.

    Parameters
    ----------
    logits : tensor of shape (n_tasks,)
    parents : sequence of int
        Task in front of each task, -1 for none.
    """
    log_proba, own = nn.functional.logsigmoid(logits), logits.clone()
    for t, parent in enumerate(parents):
        if parent >= 0:
            given = (log_proba[t] - log_proba[parent]).clamp(max=math.log(0.99))
            own[t] = _logit(given)
    return own


def _logit(log_proba: Tensor) -> Tensor:
    """Return log(p / (1 - p)) from log p, right at both ends."""
    # Where p rounds to 1 its logit would be infinite, and its gradient NaN.
    log_proba = log_proba.clamp(max=-torch.finfo(log_proba.dtype).eps)
    return log_proba - torch.log(-torch.expm1(log_proba))
