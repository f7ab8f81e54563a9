"""Whether tasks help or hinder one another in the network that they share."""

import numpy as np

from skmoe.multitask._columns import checked_table
from skmoe.multitask._training import read_rows

__all__ = ["TaskAffinity"]


class TaskAffinity:
    """What the gradients of a fitted multi-task estimator say of its tasks."""

    def task_affinity(self, X, y, sample_weight=None, *, kind="gradient"):
        """Return how much each task helps the others in what they share.

        - "gradient": the cosine between the gradients of two tasks, on the parameters
          that get one from both: 1 where the tasks pull the network the same way,
          -1 where each undoes what the other learns, 0 where they do not meet.
        - "lookahead": ``1 - L_j(theta - rate g_i) / L_j(theta)``, the part of the loss
          of task j that goes away by one step along the gradient of task i on shared
          parameters, with ``rate`` = ``learning_rate``: Fifty, C. et al. (2021).
          Efficiently identifying task groupings for multi-task learning. NeurIPS,
          equation 1; they average it over a training. Positive where task i helps
          task j. It is not symmetric, and all values are small: compare them.

        Both are means over batches of ``batch_size`` rows in the order given, weighted
        by their rows, without dropout and penalties. The gradient of each task comes
        through a tower and a gate of its own, so tasks with the same labels may have
        less than 1. At the end of a training the gradients of all tasks cancel out on
        the rows that it saw, whatever the tasks are: give rows that it did not see, or
        ask a network of few epochs. The network is not changed.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``
            Labels may be missing, and a batch counts for the pairs of tasks of which
            it has labels.
        kind : {"gradient", "lookahead"}, default="gradient"

        Returns
        -------
        affinity : array of shape (n_tasks, n_tasks)
            Of task i (row) for task j (column), in the order of ``task_names_``. NaN
            where no batch has labels of both. Where tasks share nothing, as for
            ``architecture="single"``, or the tower of one lets no gradient through,
            NaN by "gradient" and 0 by "lookahead".

        Raises
        ------
        ValueError
            If ``kind`` is another one, or the data do not go with those of the fit.
        """
        if kind not in ("gradient", "lookahead"):
            raise ValueError(f"kind must be 'gradient' or 'lookahead', got {kind!r}.")
        numbers, codes, model = self._encoded(X)
        table = checked_table(self, X, reset=False)
        rows = read_rows(self, table, y, sample_weight, self._fitted)
        # A short step changes a loss by less than float32 tells, and a copy is
        # nobody else's.
        model = model.precise()
        parts = (numbers, codes, rows.labels, rows.weight)
        data = model.data(*(part[rows.used] for part in parts))
        total, count = np.zeros((2, self.n_tasks_, self.n_tasks_))
        for start in range(0, len(data), self.batch_size):
            batch = data.taken(slice(start, start + self.batch_size))
            if kind == "gradient":
                affinity = _cosines(model, batch)
            else:
                affinity = _lookahead(model, batch, self.learning_rate)
            affinity = affinity.cpu().numpy()
            told = np.isfinite(affinity)
            total[told] += len(batch) * affinity[told]
            count[told] += len(batch)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _cosines(model, batch):
    """Return the cosines of the tasks' gradients, NaN where one has no length."""
    _, gradients = model.task_gradients(batch)
    product = square = 0.0
    for gradient in gradients.values():
        # The towers of all tasks are one parameter: what is shared is told number by
        # number. square[i, j] is of task i where task j has a gradient too.
        flat = gradient.flatten(1)
        product = product + flat @ flat.T
        square = square + flat.square() @ (flat != 0).to(flat.dtype).T
    return (product / (square * square.T).sqrt()).clamp(-1.0, 1.0)


def _lookahead(model, batch, rate):
    """Return what a step of each task does to the losses of all."""
    before, gradients = model.task_gradients(batch)
    params = dict(model.network.named_parameters())
    affinity = []
    for i, labelled in enumerate(batch.weight.any(dim=0).tolist()):
        moved = {}
        for name, gradient in gradients.items():
            shared = (gradient != 0).sum(dim=0) > 1
            moved[name] = params[name].detach() - rate * shared * gradient[i]
        after = model.task_losses(batch, moved)
        gone = 1.0 - after / before
        affinity.append(gone if labelled else gone * np.nan)
    return before.new_tensor([gone.tolist() for gone in affinity])
