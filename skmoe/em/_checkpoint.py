"""What a running fit has reached: kept for Ctrl-C, and written to a file."""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._xp import like, to_numpy
from skmoe.em._build import settle
from skmoe.em._monitor import Monitor
from skmoe.em._search import Run, SearchReport

__all__ = ["Checkpoint", "Progress", "Reached", "check_served"]

Hook = Callable[[Run, float], bool]
FORMAT = "skmoe checkpoint 1"


@dataclass
class Reached:
    """Where a run stood when it was written.

    Attributes
    ----------
    phase : {"em", "gradient"}
    start : str
        Name of the start.
    trace : array of shape (n_passes,)
        Objective of each pass, the last one included.
    earlier : array of shape (n_earlier,)
        That of the phase before.
    now, best : list of dict
        Tensors of each part: where it stood, and at the best pass; the latter is
        empty where that is the last one.
    """

    phase: str
    start: str
    trace: NDArray[np.float64]
    earlier: NDArray[np.float64]
    now: list[dict[str, Any]]
    best: list[dict[str, Any]]

    def run(self, problem: Any) -> Run:
        """Return the run, ready to find its last pass again and go on."""
        now, trace = _unpacked(problem, self.now), self.trace.tolist()
        run = Run(self.start, -np.inf, now, np.zeros(0), trace)
        run.before = self._hand_over(self.best_of(problem))
        return run

    def best_of(self, problem: Any) -> Any:
        """Return the state of the best pass."""
        return _unpacked(problem, self.best or self.now)

    def _hand_over(self, best: Any) -> Callable[[Monitor], None]:
        passes = self.trace[:-1].tolist()

        def hand_over(monitor: Monitor) -> None:
            monitor.trace, monitor.n_passes = list(passes), len(passes)
            if passes:
                monitor.best, monitor.best_state = max(passes), best

        return hand_over


class Checkpoint:
    """A file that a fit writes after each pass, and a later one goes on from.

    It is replaced as a whole: a process killed at any moment leaves the last one.

    Parameters
    ----------
    path : path-like
    mark : str
        `fingerprint` of settings and data.

    Raises
    ------
    ValueError
        If no file can be at this path.
    """

    def __init__(self, path: Any, mark: str) -> None:
        self.path, self.mark = Path(path), mark
        # A fit may take hours to its first pass, which would be lost.
        if not os.fspath(path) or self.path.is_dir():
            raise ValueError(
                f"checkpoint must be the path of a file, got {os.fspath(path)!r}, a "
                "folder or nothing; add a file name, such as 'fit.safetensors'."
            )
        if not self.path.parent.is_dir():
            raise ValueError(
                f"checkpoint={str(self.path)!r}: there is no folder "
                f"{str(self.path.parent)!r}. Make it, or give another path."
            )

    def load(self) -> Reached | None:
        """Return what the file holds, or None where there is none.

        Raises
        ------
        ValueError
            If it is no checkpoint, or that of another fit.
        """
        if not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is no checkpoint: {error}. Give "
                "another path, or remove the file."
            ) from error
        if about.get("format") != FORMAT or about.get("fingerprint") != self.mark:
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to another fit: other "
                "settings, or other data. Give another path, or remove the file."
            )
        n_parts = json.loads(about["n_parts"])
        return Reached(
            about["phase"],
            about["start"],
            flat["trace"].numpy(),
            flat["earlier"].numpy(),
            [_of(flat, f"now.{k}.") for k in range(n_parts)],
            [
                _of(flat, f"best.{k}.")
                for k in range(n_parts)
                if about["best"] == "kept"
            ],
        )

    def save(self, reached: Reached) -> None:
        """Write atomically: a temporary file, synchronised, takes the place."""
        import torch
        from safetensors.torch import save

        flat = {
            # Copies: siblings share storage, which the format refuses.
            f"{when}.{k}.{name}": tensor.detach().cpu().clone().contiguous()
            for when in ("now", "best")
            for k, part in enumerate(getattr(reached, when))
            for name, tensor in part.items()
        }
        flat["trace"] = torch.from_numpy(np.array(reached.trace, dtype=float))
        flat["earlier"] = torch.from_numpy(np.array(reached.earlier, dtype=float))
        about = {
            "format": FORMAT,
            "fingerprint": self.mark,
            "phase": reached.phase,
            "start": reached.start,
            "n_parts": json.dumps(len(reached.now)),
            "best": "kept" if reached.best else "now",
        }
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with open(fresh, "wb") as file:
                file.write(save(flat, about))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file: the fit is done."""
        self.path.unlink(missing_ok=True)


def _of(flat: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in flat.items()
        if name.startswith(prefix)
    }


class Progress:
    """Watches the passes of a fit.

    Parameters
    ----------
    on_pass : callable
        ``on_pass(problem, node)`` returns the hook of a long run, or None.
    checkpoint : Checkpoint or None
    keeps : bool
        Whether the best pass is to be kept for Ctrl-C.
    """

    def __init__(
        self,
        on_pass: Callable[[Any, Any], Hook | None],
        checkpoint: Checkpoint | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        self.inner, self.checkpoint, self.keeps = on_pass, checkpoint, keeps
        self.problem: Any = None
        self.node: Any = None
        self.best_state: Any = None
        self.best = -np.inf
        self.trace: list[float] = []
        self.earlier: list[float] = []
        # Runs of the problem and their traces, by the runs' ids.
        self.runs: dict[int, tuple[Run, list[float]]] = {}
        self.best_run: Any = None
        self.keep: Any = None  # what takes a node into the estimator
        self.loaded = None if checkpoint is None else checkpoint.load()

    def on_pass(self, problem: Any, node: Any) -> Hook | None:
        """Return the hook of a long run of a problem."""
        inner = self.inner(problem, node)
        if self.checkpoint is None and not self.keeps:
            return inner

        watched = None

        def watch(run: Run, objective: float) -> bool:
            nonlocal watched
            if run is not watched:
                watched = run
                self._begin(problem, run)
            self._note(problem, node, run, objective)
            return inner is not None and inner(run, objective)

        return watch

    def resumed(self, phase: str, problem: Any) -> Run | None:
        """Return the run of a phase that the checkpoint holds, or None."""
        if self.loaded is None or self.loaded.phase != phase:
            return None
        loaded, self.loaded = self.loaded, None
        self.problem, self.earlier = problem, loaded.earlier.tolist()
        run = loaded.run(problem)
        self.runs, self.best_run = {id(run): (run, [])}, run
        if run.trace[:-1]:
            self.best, self.best_state = max(run.trace[:-1]), loaded.best_of(problem)
        return run

    def skipped(self, problem: Any) -> list[Run]:
        """Return the end of EM as a run, if the checkpoint is past it; else []."""
        if self.loaded is None or self.loaded.phase == "em":
            return []
        trace = self.loaded.earlier.tolist()
        state = problem.state()  # not needed: what comes next has its own
        run = Run(self.loaded.start, max(trace), state, np.zeros(0), trace)
        run.n_passes, run.history, run.converged = len(trace), list(trace), True
        return [run]

    def _begin(self, problem: Any, run: Run) -> None:
        """Prepare for the passes of a run: a new one, or one that goes on."""
        if problem is not self.problem:
            phases = self.phase_of(self.problem), self.phase_of(problem)
            goes_on = phases == ("em", "gradient") and self.best_run is not None
            self.earlier = self.runs[id(self.best_run)][1] if goes_on else []
            self.problem, self.best, self.runs = problem, -np.inf, {}
        # The first pass of a run that goes on only finds the place again.
        self.trace = run.trace[:-1] if id(run) in self.runs else []
        self.runs[id(run)] = (run, self.trace)

    def _note(self, problem: Any, node: Any, run: Run, objective: float) -> None:
        self.node = node
        self.trace.append(objective)
        state = problem.state()
        if objective >= self.best:
            self.best, self.best_state, self.best_run = objective, state, run
        if self.checkpoint is not None:
            self.checkpoint.save(
                Reached(
                    self.phase_of(problem),
                    run.name,
                    np.array(self.trace),
                    np.array(self.earlier),
                    _packed(state),
                    [] if self.best_state is state else _packed(self.best_state),
                )
            )

    @staticmethod
    def phase_of(problem: Any) -> str:
        """Return which phase of a fit a problem is."""
        return getattr(problem, "phase", "em")

    def rescue(self) -> bool:
        """Keep the best pass of an interrupted fit; False where there is none."""
        if not self.keeps or self.keep is None or id(self.best_run) not in self.runs:
            return False
        settle(self.problem, self.node, self.best_state)
        best, trace = self.runs[id(self.best_run)]
        run = Run(best.name, self.best, self.best_state, self.problem.mass)
        # As in a run that goes on, the first pass of gradient training is EM's last.
        run.trace = run.history = self.earlier + trace[1 if self.earlier else 0 :]
        run.n_passes, run.stopped = len(run.trace), True
        self.keep(self.node, SearchReport.from_runs([run], []), run)
        return True

    def done(self) -> None:
        """Remove the checkpoint of a fit that has come to its end."""
        if self.checkpoint is not None:
            self.checkpoint.remove()


def _packed(state: list[Any]) -> list[dict[str, Any]]:
    """Return the state of all parts as tensors."""
    import torch

    return [
        {"parameters": torch.from_numpy(np.array(to_numpy(kept), dtype=float))}
        if not hasattr(kept, "checkpoint_state")
        else kept.checkpoint_state()
        for kept in state
    ]


def _unpacked(problem: Any, packed: list[dict[str, Any]]) -> Any:
    """Return a state of a problem from what `_packed` returned."""
    state: list[Any] = []
    for kept, tensors in zip(problem.state(), packed, strict=True):
        if "parameters" in tensors and not hasattr(kept, "restore_checkpoint"):
            state.append(like(kept, tensors["parameters"].numpy().copy()))
            continue
        part = copy.copy(kept)
        part.restore_checkpoint(tensors)
        state.append(part)
    return state


def check_served(node: Any, algorithm: str, n_init: int | None) -> None:
    """Raise a ValueError if a fit cannot be written to a checkpoint.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    """
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "checkpoint needs safetensors: pip install 'skmoe[torch]'"
        ) from (error)
    other = [
        name for name, part in node.experts if not hasattr(part, "checkpoint_state")
    ]
    # Before it is prepared a gate has no parameters: its class says whether it will.
    gate: Any = type(node.gate)
    if other or not (hasattr(gate, "parameters") or hasattr(gate, "checkpoint_state")):
        raise ValueError(
            "checkpoint serves long fits of TorchExperts, with a TorchGate or a gate "
            f"of parameters; got the experts {other} and the gate {node.gate!r}. Leave "
            "checkpoint=None."
        )
    if algorithm in ("sem", "stack") or n_init not in (None, 1):
        raise ValueError(
            "checkpoint serves a single start of algorithm 'em', 'cem', 'gradient' or "
            f"'em+gradient', got algorithm={algorithm!r} and n_init={n_init!r}."
        )
