"""What the gates of a multi-task network do with its experts."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import check_sample_weight
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

        Tasks are in the order of ``task_names_``. For "cgc" and "ple" the experts of
        the first task come first, then those of the second, and last the shared ones;
        a task gives 0 to those of others. Nothing is dropped out, and of an ensemble
        the members are averaged.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        level : int, default=-1
            Of ``architecture="ple"``: -1 is the last, which the tasks see.

        Returns
        -------
        weight : array of shape (n_samples, n_tasks, n_experts)
            Each gate's weights sum to 1. The one gate of "omoe" stands for all tasks.
            Where an architecture has nothing to weigh they are constant: one expert
            of all tasks for "shared_bottom", one of each task for "single", "aitm"
            and "esmm".

        Raises
        ------
        ValueError
            If there is no such level.
        """
        open_to = self._open_to(level)
        numbers, codes, model = self._encoded(X)
        weight = model.gates(numbers, codes, level)
        if weight is None:
            weight = open_to.astype(float)[None]
        # One gate of all tasks, or one more than tasks below the last level of PLE.
        shape = (len(numbers), *open_to.shape)
        return np.array(np.broadcast_to(weight[:, : self.n_tasks_], shape))

    def _open_to(self, level):
        """Return which experts each task may use, of shape (n_tasks, n_experts)."""
        check_is_fitted(self, "_fitted")
        levels = self.network_.levels
        n_levels = len(levels)
        if not (isinstance(level, Integral) and -n_levels <= level < n_levels):
            raise ValueError(
                f"level must be an integer from {-n_levels} to {n_levels - 1}: the "
                f"network has {n_levels}, got {level!r}."
            )
        open_to = levels[level].open_to[: self.n_tasks_].cpu().numpy()
        return np.broadcast_to(open_to, (self.n_tasks_, open_to.shape[1]))

    def expert_usage(self, X, *, level=-1, sample_weight=None):
        """Return the mean gate weight of each expert, task by task.

        An expert that all tasks give next to nothing is wasted; a task that gives
        nearly everything to one expert has no mixture. `TaskExpertsDisplay` of
        `skmoe.inspection` draws it.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        level : int, default=-1
            As in ``gate_weights``, which also tells the order of the experts.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        usage : array of shape (n_tasks, n_experts)
            Rows sum to 1.

        Raises
        ------
        ValueError
            If there is no such level, or weights are negative or not finite.
        """
        weight = self.gate_weights(X, level=level)
        row_weight = check_sample_weight(sample_weight, weight[:, 0])
        return np.tensordot(row_weight / row_weight.sum(), weight, axes=1)

    @property
    def task_names_(self):
        """Names of the tasks, in the order of the columns of y."""
        check_is_fitted(self, "_fitted")
        return [task.name for task in self._fitted.tasks]


def warn_of_polarised_gates(names, model, data):
    """Warn of experts that no task uses, and of gates that use one.

    Of the last level, which the tasks see, after a training on enough rows.

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
    # From end to end: rows in some order may begin with those of one kind.
    every = -(-len(data) // SAMPLE)
    weight = model.gates_of(data.taken(slice(None, None, every)), -1)
    if weight is None or weight.shape[2] == 1:
        return
    usage = weight.mean(axis=0)
    names = names if len(usage) == len(names) else ["all tasks"]
    unused = np.flatnonzero(usage.max(axis=0) < LITTLE)
    most = usage.max(axis=1)
    polarised = [
        f"{name} ({share:.0%} on expert {usage[t].argmax()})"
        for t, (name, share) in enumerate(zip(names, most, strict=True))
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
            stacklevel=9,  # the call of fit or partial_fit
        )
