"""The multi-task network: one body for MMoE and its relatives."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skmoe.nn._architectures import ARCHITECTURES, CHAINED, Level, levels_of
from skmoe.nn._arguments import one_of, positive, positives, rate
from skmoe.nn._expert_bank import BatchedLinear, BatchedMLP, ExpertBank
from skmoe.nn._table_rows import TableRows
from skmoe.nn._task_chain import (
    Transfer,
    by_output,
    chained_logits,
    conditional_logits,
)

__all__ = ["MMoENetwork", "TaskOutputs"]


class TaskOutputs(NamedTuple):
    """What a multi-task network makes of rows.

    Attributes
    ----------
    raw : tensor of shape (n_rows, n_members, total number of outputs)
        Logits, means or log rates of the tasks, side by side, by each member of the
        ensemble.
    gates : list of tensors of shape (n_rows, n_gates, n_experts)
        Gate weights of each level, the mean over members; empty where there are no
        gates.
    """

    raw: Tensor
    gates: list[Tensor]


class MMoENetwork(nn.Module):
    """Rows of a table in, raw outputs of several tasks out.

    Vectors of codes and numbers, then experts mixed by a gate for each task, then a
    tower for each task, and for "aitm" and "esmm" a chain of tasks. All experts and
    gates of a level are one matrix product, all towers one batched product.

    Parameters
    ----------
    rows : TableRows
        What turns numbers and codes into rows; with ``n_copies`` = number of tasks
        for "single", else 1.
    n_outputs : sequence of int
        Raw outputs of each task.
    architecture : str, default="mmoe"
        One of "mmoe", "shared_bottom", "omoe", "cgc", "ple", "aitm", "esmm" and
        "single": see `levels_of`.
    n_experts : int, default=8
    n_shared_experts : int, default=2
        Of them, those of all tasks, for "cgc" and "ple".
    n_levels : int, default=2
        For "ple".
    expert_hidden, tower_hidden : sequence of int
        Widths of the layers of an expert, and of a tower.
    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
    dropout : float, default=0.0
        In experts and towers.
    gate_dropout : float, default=0.0
        Share of experts that each gate goes without in a training step.
    normalize_experts : bool, default=False
    parents : sequence of int or None
        Task in front of each task, -1 for none, for "aitm" and "esmm".
    n_members : int, default=1
        Members of an ensemble in one network: all share vectors and experts, and
        each has a scale of its own for every number of a row, and towers of its own.
        Gorishniy, Y., Kotelnikov, A. & Babenko, A. (2025). TabM: advancing tabular
        deep learning with parameter-efficient ensembling. ICLR, section 3.3 (the
        variant "mini").

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        rows: TableRows,
        n_outputs: Sequence[int],
        *,
        architecture: str = "mmoe",
        n_experts: int = 8,
        n_shared_experts: int = 2,
        n_levels: int = 2,
        expert_hidden: Sequence[int] = (32,),
        tower_hidden: Sequence[int] = (16,),
        activation: str = "relu",
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        normalize_experts: bool = False,
        parents: Sequence[int] | None = None,
        n_members: int = 1,
    ) -> None:
        super().__init__()
        owner = "MMoENetwork"
        one_of(owner, "architecture", architecture, ARCHITECTURES)
        self.architecture = architecture
        self.rows = rows
        self.n_outputs = positives(owner, "n_outputs", n_outputs)
        n_tasks = self.n_tasks = len(self.n_outputs)
        self.parents = list(parents) if architecture in CHAINED and parents else None
        self.fronts = by_output(self.parents or [-1] * n_tasks, self.n_outputs)
        bank_options: dict[str, Any] = {
            "activation": activation,
            "dropout": rate(owner, "dropout", dropout),
            "gate_dropout": rate(owner, "gate_dropout", gate_dropout),
            "norm": bool(normalize_experts),
        }
        self.n_members = positive(owner, "n_members", n_members)
        self.member_scale: nn.Parameter | None = None
        if n_members > 1:
            signs = torch.randint(0, 2, (n_members, 1, rows.width)) * 2.0 - 1.0
            self.member_scale = nn.Parameter(signs)
        counts = {
            "n_experts": n_experts,
            "n_shared_experts": n_shared_experts,
            "n_levels": n_levels,
        }
        self.levels = nn.ModuleList()
        width = rows.width
        for level in _checked_levels(architecture, n_tasks, counts, expert_hidden):
            bank = ExpertBank(width, level, **bank_options)
            self.levels.append(bank)
            width = bank.width
        towers = positives(owner, "tower_hidden", tower_hidden)
        n_towers = n_tasks * self.n_members
        self.towers = BatchedMLP(n_towers, width, towers, activation, dropout)
        width = self.towers.width
        transfers = architecture == "aitm" and self.parents
        self.transfer = Transfer(self.parents or [], width) if transfers else None
        self.heads = BatchedLinear(n_towers, width, max(self.n_outputs))
        self.one_each = max(self.n_outputs) == 1

    @property
    def numbers_per_row(self) -> int:
        """Numbers that a row takes in evaluation, about."""
        return self.rows.width * self.n_members

    def start_at(self, raw: Tensor) -> None:
        """Let the network start from constant outputs, such as base rates.

        Parameters
        ----------
        raw : tensor of shape (total number of outputs,)
        """
        if self.architecture == "esmm" and self.parents:
            raw = conditional_logits(raw, self.fronts)
        with torch.no_grad():
            for t, part in enumerate(torch.split(raw, list(self.n_outputs))):
                own = slice(t * self.n_members, (t + 1) * self.n_members)
                self.heads.bias[own, 0, : len(part)] = part

    def forward(self, numbers: Tensor, codes: Tensor) -> TaskOutputs:
        """Return raw outputs and gate weights.

        Parameters
        ----------
        numbers : tensor of shape (n_rows, n_numbers)
        codes : integer tensor of shape (n_rows, n_codes)
        """
        vectors = self.rows(numbers, codes)
        if self.member_scale is not None:
            # Members are rows to the experts, which they share.
            vectors = (vectors[:, None] * self.member_scale).flatten(0, 1)
        gates = []
        for bank in self.levels:
            vectors, weight = bank(vectors)
            if weight is not None:
                gates.append(weight.unflatten(0, (-1, self.n_members)).mean(dim=1))
        if vectors.shape[1] < self.n_tasks:
            vectors = vectors.expand(-1, self.n_tasks, -1)
        # (n_rows * n_members, n_tasks, width) to (n_tasks * n_members, n_rows, width)
        own = vectors.unflatten(0, (-1, self.n_members)).permute(2, 1, 0, 3)
        outputs = self._through_towers(own.flatten(0, 1))
        return TaskOutputs(self._side_by_side(outputs), gates)

    def _through_towers(self, vectors: Tensor) -> Tensor:
        """Return outputs of shape (n_tasks, n_members, n_rows, most outputs)."""
        own = self.towers(vectors)
        if self.transfer is not None:
            by_task = own.unflatten(0, (self.n_tasks, self.n_members))
            n_rows = own.shape[1]
            own = self.transfer(by_task.flatten(1, 2))
            own = own.unflatten(1, (self.n_members, n_rows)).flatten(0, 1)
        # Where products are rounded to bfloat16, what follows them is not.
        outputs: Tensor = self.heads(own).to(self.heads.bias.dtype)
        return outputs.view(self.n_tasks, self.n_members, *outputs.shape[1:])

    def _side_by_side(self, outputs: Tensor) -> Tensor:
        """Turn outputs of the towers into raw outputs, by row and member."""
        by_row = outputs.permute(2, 1, 0, 3)
        if self.one_each:
            raw = by_row[..., 0]
        else:
            several = zip(by_row.unbind(2), self.n_outputs, strict=True)
            raw = torch.cat([part[..., :width] for part, width in several], dim=2)
        if self.architecture == "esmm" and self.parents:
            return chained_logits(raw, self.fronts)
        return raw


def _checked_levels(
    architecture: str, n_tasks: int, counts: dict[str, Any], expert_hidden: Any
) -> list[Level]:
    """Return the levels of an architecture; raise a ValueError if it has none."""
    owner = "MMoENetwork"
    hidden = positives(owner, "expert_hidden", expert_hidden)
    if not hidden:
        raise ValueError(
            f"{owner}: expert_hidden must have at least one layer, got "
            f"{expert_hidden!r}."
        )
    own, shared, n_levels = (positive(owner, k, n) for k, n in counts.items())
    return levels_of(architecture, n_tasks, own, shared, n_levels, hidden)
