"""What the gates of a multi-task network do with its experts."""

import warnings

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmoe.exceptions import PolarizedGateWarning

__all__ = ["GateReadings", "warn_of_polarised_gates"]

# An expert below LITTLE of the weight of all tasks is unused, a gate that gives MUCH
# to one expert is polarised. Few rows make such gates by chance.
LITTLE, MUCH, ENOUGH_ROWS = 0.01, 0.95, 1_000
SAMPLE = 10_000


class GateReadings:
    """Gate weights of a fitted multi-task estimator, and what they say."""

    def gate_weights(self, X, *, level=-1):
        """Return how the gates of the tasks weigh the experts of each row.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        level : int, default=-1
            Of ``architecture="ple"``: -1 is the last, which the tasks see.

        Returns
        -------
        weight : array of shape (n_samples, n_tasks, n_experts)
            Each gate's weights sum to 1. Where an architecture has nothing to weigh
            they are constant: one expert of all tasks for "shared_bottom", one of
            each task for "single", "aitm" and "esmm".

        Raises
        ------
        ValueError
            If there is no such level.
        """
        numbers, codes, model = self._encoded(X)
        n_levels, n_tasks = len(model.network.levels), self.n_tasks_
        if not -n_levels <= level < n_levels:
            raise ValueError(
                f"level must be from {-n_levels} to {n_levels - 1}: the network has "
                f"{n_levels}, got {level!r}."
            )
        weight = model.gates(numbers, codes, level)
        if weight is None:
            open_to = model.network.levels[level].open_to.cpu().numpy()
            weight = np.broadcast_to(
                open_to.astype(float), (len(numbers), *open_to.shape)
            )
        # One gate of all tasks, or one more than tasks below the last level of PLE.
        if weight.shape[1] == 1:
            weight = np.broadcast_to(weight, (len(weight), n_tasks, weight.shape[2]))
        return np.array(weight[:, :n_tasks])

    def expert_usage(self, X, *, level=-1, sample_weight=None):
        """Return the mean gate weight of each expert, task by task.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        level : int, default=-1
            As in ``gate_weights``.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        usage : array of shape (n_tasks, n_experts)
            Rows sum to 1.
        """
        weight = self.gate_weights(X, level=level)
        return np.average(weight, axis=0, weights=sample_weight)

    @property
    def task_names_(self):
        """Names of the tasks, in the order of the columns of y."""
        check_is_fitted(self, "_fitted")
        return [task.name for task in self._fitted.tasks]


def warn_of_polarised_gates(names, model, data):
    """Warn of experts that no task uses, and of gates that use one.

    Parameters
    ----------
    names : list of str
        Of the tasks.
    model : TaskModel
    data : TaskData
        What it was trained on.
    """
    if len(data) < ENOUGH_ROWS:
        return
    weight = model.gates_of(data.taken(slice(0, SAMPLE)), -1)
    if weight is None or weight.shape[2] == 1:
        return
    usage = weight.mean(axis=0)
    unused = np.flatnonzero(usage.max(axis=0) < LITTLE)
    most = usage.max(axis=1)
    polarised = [
        f"{name} ({share:.0%} on expert {usage[t].argmax()})"
        for t, (name, share) in enumerate(zip(names, most, strict=False))
        if share > MUCH
    ]
    found = []
    if len(unused):
        found.append(f"no task uses the experts {unused.tolist()}")
    if polarised:
        found.append(f"the gates of {', '.join(polarised)} use one expert only")
    if found:
        warnings.warn(
            f"{' and '.join(found)}: try gate_dropout=0.1, normalize_experts=True "
            "with activation='silu', load_balance=0.01, or fewer experts.",
            PolarizedGateWarning,
            stacklevel=4,
        )
