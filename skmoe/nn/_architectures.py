"""How each multi-task architecture lays out its experts and gates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ARCHITECTURES", "CHAINED", "Level", "levels_of"]

ARCHITECTURES = (
    "aitm",
    "cgc",
    "esmm",
    "mmoe",
    "omoe",
    "ple",
    "shared_bottom",
    "single",
)
CHAINED = ("aitm", "esmm")


@dataclass(frozen=True)
class Level:
    """Experts of one level, and which of them each gate may use.

    Attributes
    ----------
    n_streams : int
        Kinds of rows that come in.
    expert_stream : tuple of int
        Which of them each expert sees.
    open_to : tensor of bool of shape (n_gates, n_experts)
    hidden : tuple of int
        Widths of the layers of an expert.
    """

    n_streams: int
    expert_stream: tuple[int, ...]
    open_to: Tensor
    hidden: tuple[int, ...]


def levels_of(
    architecture: str,
    n_tasks: int,
    n_experts: int,
    n_shared: int,
    n_levels: int,
    hidden: Sequence[int],
) -> list[Level]:
    """Return the levels of an architecture, all of about the same size.

    ``n_experts`` counts the experts of a level. Where an architecture has fewer
    networks, they are as wide as the experts together: one for "shared_bottom", one
    a task for "aitm" and "esmm" (sharing the vectors of the codes) and, each of full
    width, for "single" (sharing nothing).

    Parameters
    ----------
    architecture : str
    n_tasks, n_experts : int
    n_shared : int
        Experts that belong to all tasks, for "cgc" and "ple": the others are dealt
        out evenly, at least one a task.
    n_levels : int
        For "ple".
    hidden : sequence of int
        Widths of the layers of an expert.
    """
    everyone = torch.ones(n_tasks, n_experts, dtype=torch.bool)
    own = torch.eye(n_tasks, dtype=torch.bool)
    if architecture in ("mmoe", "omoe"):
        open_to = everyone if architecture == "mmoe" else everyone[:1]
        return [Level(1, (0,) * n_experts, open_to, tuple(hidden))]
    if architecture == "shared_bottom":
        return [Level(1, (0,), everyone[:1, :1], _wider(hidden, n_experts))]
    if architecture == "single":
        streams = tuple(range(n_tasks))
        return [Level(n_tasks, streams, own, _wider(hidden, n_experts))]
    if architecture in CHAINED:
        times = max(1, n_experts // n_tasks)
        return [Level(1, (0,) * n_tasks, own, _wider(hidden, times))]
    return _progressive(
        n_tasks,
        max(1, (n_experts - n_shared) // n_tasks),
        n_shared,
        n_levels if architecture == "ple" else 1,
        tuple(hidden),
    )


def _wider(hidden: Sequence[int], times: int) -> tuple[int, ...]:
    return tuple(width * times for width in hidden)


def _progressive(
    n_tasks: int, n_own: int, n_shared: int, n_levels: int, hidden: tuple[int, ...]
) -> list[Level]:
    """Return levels of experts that belong to one task each, and of shared ones.

    Tang, H. et al. (2020). Progressive layered extraction (PLE). RecSys, sections
    4.1 and 4.2: a task's gate sees its own experts and the shared ones; below the
    last level a further gate over all experts feeds the shared ones of the next.
    """
    groups = [t for t in range(n_tasks) for _ in range(n_own)] + [n_tasks] * n_shared
    group = torch.tensor(groups)
    tasks = torch.arange(n_tasks)[:, None]
    open_to = (group == tasks) | (group == n_tasks)
    between = torch.cat([open_to, torch.ones_like(open_to[:1])])
    levels = []
    for level in range(n_levels):
        n_streams = 1 if level == 0 else n_tasks + 1
        streams = tuple(groups) if level else (0,) * len(groups)
        last = level == n_levels - 1
        levels.append(Level(n_streams, streams, open_to if last else between, hidden))
    return levels
