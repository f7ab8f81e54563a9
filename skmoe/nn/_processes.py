"""Processes that share the rows of each batch: torch's default group."""

import atexit
import os
from typing import Any

import torch
from torch import distributed

__all__ = ["join", "of_first", "place"]


def join(shared: bool) -> None:
    """Join the other processes that torchrun has started, if work is to be shared.

    A process takes the CUDA device of its own number on the machine. A group that
    there is already is used as it is.

    Raises
    ------
    RuntimeError
        If work is to be shared and there is no group of processes.
    """
    if not shared or distributed.is_initialized():
        return
    if not distributed.is_torchelastic_launched():
        raise RuntimeError(
            "distributed=True needs a group of processes: start the script by "
            "torchrun, or call torch.distributed.init_process_group() in front of fit."
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group()
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def place(shared: bool) -> tuple[int, int]:
    """Return number and count of the processes that share the work."""
    if not shared:
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def of_first(value: Any, shared: bool) -> Any:
    """Return a value that all processes have: that of the first."""
    if not shared:
        return value
    known = [value]
    distributed.broadcast_object_list(known, src=0)
    return known[0]
