"""What tells the best epoch, other than the loss."""

import warnings

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

__all__ = ["AUCMonitor"]


class AUCMonitor:
    """The mean over tasks of the area under the ROC curve of held-out rows.

    A task with several classes counts by the mean over its classes, each against
    the others. A class that no held-out row has is left out, and so is a task with
    fewer than two classes among them, with one warning.

    Parameters
    ----------
    tasks : list of Task
    weight : array of shape (n_tasks,)
        Of the tasks in the mean.

    Raises
    ------
    ValueError
        If a task has no classes.
    """

    def __init__(self, tasks, weight):
        others = [t.name for t in tasks if t.kind not in ("binary", "multiclass")]
        if others:
            raise ValueError(
                f"monitor='auc' needs tasks with classes, and {others} have none: use "
                "monitor='loss'."
            )
        self.tasks, self.weight, self.warned = tasks, np.asarray(weight), False

    def __call__(self, raw, held_out):
        """Return {"score": [mean], "auc": areas of the tasks}.

        Parameters
        ----------
        raw : tensor of shape (n_rows, total number of outputs)
        held_out : TaskData
        """
        raw = raw.cpu().numpy()
        labels, weight = held_out.labels.cpu().numpy(), held_out.weight.cpu().numpy()
        ends = np.cumsum([task.n_outputs for task in self.tasks])
        parts = np.split(raw, ends[:-1], axis=1)
        areas = np.array(
            [_area(labels[:, t], part, weight[:, t]) for t, part in enumerate(parts)]
        )
        counts = self.weight > 0
        told = np.isfinite(areas) & counts
        if not told.any():
            raise ValueError(
                "monitor='auc': no task has two classes among the validation rows; "
                "give more of them, or use monitor='loss'."
            )
        self._warn_of(counts & ~told)
        mean = np.average(areas[told], weights=self.weight[told])
        return {"score": [float(mean)], "auc": areas.tolist()}

    def _warn_of(self, silent):
        """Warn of tasks that say nothing, the first time that there are any."""
        if self.warned or not silent.any():
            return
        self.warned = True
        names = [t.name for t, one in zip(self.tasks, silent, strict=True) if one]
        warnings.warn(
            f"the validation rows have fewer than two classes of {names}: the best "
            "epoch is told by the other tasks.",
            UndefinedMetricWarning,
            stacklevel=2,
        )


def _area(labels, raw, weight):
    """Return the area of one task, NaN where it is not defined."""
    known = weight > 0
    labels, raw, weight = labels[known], raw[known], weight[known]
    if raw.shape[1] == 1:
        columns = [(labels == 1, raw[:, 0])]
    else:
        raw = log_softmax(raw, axis=1)
        columns = [(labels == k, raw[:, k]) for k in range(raw.shape[1])]
    areas = [
        roc_auc_score(is_class, score, sample_weight=weight)
        for is_class, score in columns
        if is_class.any() and not is_class.all()
    ]
    return float(np.mean(areas)) if areas else np.nan
