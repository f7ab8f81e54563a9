"""The network of a multi-task estimator as an ONNX model, by torch's exporter.

Imported by an export alone: it needs torch, onnx and onnxscript.
"""

import copy
import logging
import warnings
from contextlib import contextmanager

import torch
from torch import nn

from skmoe.multitask._labels import MOST_LOG_RATE
from skmoe.nn._task_losses import pooled

__all__ = ["OPSET", "network_model"]

OPSET = 18
# Loggers of the exporter, which tell of operators that are not installed.
LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
ROWS = 3


class Predictions(nn.Module):
    """Numbers and codes in, what estimators predict out, a tensor a task.

    Parameters
    ----------
    network : MMoENetwork
    tasks : list of Task
    """

    def __init__(self, network, tasks):
        super().__init__()
        self.network, self.tasks = network, tasks
        self.kinds = [task.kind for task in tasks]

    def forward(self, numbers, codes):
        """Return probabilities (n_rows, n_classes), means and rates (n_rows,)."""
        raw = self.network(numbers, codes)[0]
        raw = pooled(raw, self.kinds, self.network.n_outputs)
        parts = torch.split(raw, list(self.network.n_outputs), dim=1)
        return tuple(map(_predicted, self.tasks, parts))


def _predicted(task, raw):
    if task.kind == "multiclass":
        return raw.softmax(dim=1)
    if task.kind == "binary":
        return torch.cat([torch.sigmoid(-raw), torch.sigmoid(raw)], dim=1)
    # A mean of 1e6 with a deviation of 1 is no float32.
    raw = raw[:, 0].double()
    if task.kind == "count":
        return raw.clamp(max=MOST_LOG_RATE).exp()
    # The exporter makes a number of Python a float32.
    center, scale = torch.tensor([task.center, task.scale], dtype=torch.float64)
    return center + scale * raw


def network_model(network, tasks, n_codes):
    """Return an ONNX model with the inputs "numbers" and "codes".

    Parameters
    ----------
    network : MMoENetwork
        Stays as it is; the model computes in float32.
    tasks : list of Task
    n_codes : int
        Columns of codes, those of the lists among them.

    Returns
    -------
    model : onnx.ModelProto
        Its outputs are named "0", "1", ... in the order of the tasks.
    """
    network = copy.deepcopy(network).to(device="cpu", dtype=torch.float32)
    numbers = torch.zeros(ROWS, network.rows.n_numbers)
    codes = torch.zeros(ROWS, n_codes, dtype=torch.int64)
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            Predictions(network, tasks).eval(),
            (numbers, codes),
            input_names=["numbers", "codes"],
            output_names=[str(t) for t in range(len(tasks))],
            dynamic_shapes=({0: "batch"}, {0: "batch"}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


@contextmanager
def _silence():
    """Keep the exporter from telling about itself."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
