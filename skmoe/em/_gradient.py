"""Gradient training of a mixture of neural parts, as a problem of the loop of EM."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe.em._node import Node
from skmoe.em._node_problem import NodeProblem, in_pass
from skmoe.em._search import Run, continue_run
from skmoe.exceptions import ExpertError

__all__ = ["GradientProblem", "check_neural", "polish_by_gradient"]

Array = NDArray[np.float64]


def check_neural(node: Node, algorithm: str) -> None:
    """Raise a ValueError unless gate and experts have gradients, and rows are plain."""
    if node.units is not None:
        raise ValueError(
            f"algorithm={algorithm!r}: groups, rows without a response and a balance "
            "need algorithm='em'."
        )
    parts = [("gate", node.gate), *node.experts]
    other = [
        f"{name}: {type(part).__name__}"
        for name, part in parts
        if not hasattr(part, "gradient_group")
    ]
    if other:
        raise ValueError(
            f"algorithm={algorithm!r} trains TorchExpert and TorchGate, got {other}; "
            "use these, or algorithm='em'."
        )
    _check_stopping(parts, algorithm)


def _check_stopping(parts: list[tuple[str, Any]], algorithm: str) -> None:
    """Raise a ValueError if a part wants to stop its own M-steps early."""
    early = [name for name, part in parts if part.validation_fraction is not None]
    if early and algorithm == "gradient":
        raise ValueError(
            f"algorithm='gradient' trains all parts together: {early} cannot hold out "
            "rows of their own. Leave validation_fraction=None, and stop by a callback."
        )


class GradientProblem(NodeProblem):
    """A node whose pass is an epoch of gradient ascent on the mixture's likelihood.

    It starts as EM does, from parts fitted to the responsibilities of a start: experts
    that begin alike would stay alike. What is climbed,

        sum_i w_i log sum_k g_k(x_i) p_k(y_i | x_i) + penalty,

    has at the current parameters the gradient of EM's own M-step objective.

    Parameters
    ----------
    node : Node
        Prepared.
    X, y, weight : the rows, validated
    """

    phase = "gradient"

    @property
    def exact_m_step(self) -> bool:
        """False: an epoch may lower the objective."""
        return False

    def m_step(self) -> None:
        """Train gate and experts together for a pass over the rows."""
        node: Any = self.node
        groups = self._groups()
        members = [[node.experts[k][1] for k in group] for group in groups]
        gate = node.gate.gradient_group([node.gate], node.gate_view(self.X), None, [0])
        bundles = [
            parts[0].gradient_group(parts, node.view(self.X, own[0]), self.y, own)
            for parts, own in zip(members, groups, strict=True)
        ]
        with in_pass(self.n_passes):
            try:
                names = [name for name, _ in node.experts]
                node.gate.train_with(gate, bundles, self.weight, members, names)
            except FloatingPointError as error:
                raise ExpertError(f"gradient training failed: {error}") from error

    def _groups(self) -> list[list[int]]:
        """Return the experts that can be one batched module, by their numbers."""
        groups: list[list[int]] = []
        for k, (_, expert) in enumerate(self.node.experts):
            for group in groups:
                other: Any = self.node.experts[group[0]][1]
                same = self.node.columns[k] == self.node.columns[group[0]]
                if same and other.alike([other, expert]):
                    group.append(k)
                    break
            else:
                groups.append([k])
        return groups


def polish_by_gradient(problem: Any, best: Run, options: Any) -> Run:
    """Let gradient training go on where EM has ended; the trace grows.

    Parameters
    ----------
    problem : NodeProblem
        As EM leaves it; its node is then at the best pass.
    best : Run
        Of EM.
    options : FitOptions
    """
    node = problem.node
    check_neural(node, options.algorithm)
    by_gradient = GradientProblem(node, problem.X, problem.y, problem.weight)
    run = options.progress.resumed("gradient", by_gradient)
    if run is None:
        run = Run("gradient", best.objective, best.state, best.mass)
    hook = options.on_pass(by_gradient, node)
    run = continue_run(
        by_gradient, run, options.max_iter, False, None, options.tol, hook
    )
    # The first pass only found the place again.
    run.trace, run.history = best.trace + run.trace[1:], best.history + run.history[1:]
    run.n_passes += best.n_passes
    run.name = best.name
    problem.restore(run.state)
    return run
