"""From constructor arguments and tasks to the plan of a network."""

import numpy as np

from skmoe._torch_part import needs_torch
from skmoe.multitask._chains import parents_of

__all__ = [
    "ENCODING",
    "NETWORK",
    "PENALTIES",
    "check_architecture",
    "check_structure",
    "dtype_name",
    "epochs_for",
    "plan_for",
    "structure_of",
]

# Up to so many rows float64 costs next to nothing, and results do not depend on how
# rows are batched.
FEW_ROWS = 10_000
# Steps that a network needs to get anywhere; and bounds of the epochs they take.
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 2_000, 20, 200
PENALTIES = ("gate_entropy", "load_balance", "chain_penalty")
NETWORK = (
    "architecture",
    "n_experts",
    "n_shared_experts",
    "n_levels",
    "expert_hidden",
    "tower_hidden",
    "activation",
    "dropout",
    "gate_dropout",
    "normalize_experts",
    "n_members",
)
ENCODING = (
    "categorical_features",
    "numeric_encoding",
    "n_bins",
    "min_frequency",
    "list_features",
    "max_list_length",
)
# What a fitted network has for good besides.
SETTLED = ("chain", "embedding_size", "column_dropout", "task_weights")


def check_architecture(estimator, tasks):
    """Return the task in front of each task, -1 for none; None without a chain.

    Raises
    ------
    ValueError
        If the architecture and the tasks do not go together.
    """
    name = estimator.architecture
    chained = name in ("aitm", "esmm")
    if not chained:
        if estimator.chain is not None:
            raise ValueError(
                f"chain={estimator.chain!r} is for architecture='aitm' or 'esmm', got "
                f"architecture={name!r}: leave chain out, or choose one of the two."
            )
        return None
    others = [task.name for task in tasks if task.kind != "binary"]
    parents = parents_of(estimator.chain, [task.name for task in tasks], others)
    if not any(parent >= 0 for parent in parents):
        raise ValueError(
            f"architecture={name!r} needs a chain of at least two binary tasks, got "
            f"the tasks {[(task.name, task.kind) for task in tasks]}."
        )
    return parents


def structure_of(estimator):
    """Return the arguments that a fitted network has for good."""
    names = (
        *estimator._of_network,
        *SETTLED,
        *ENCODING,
        *estimator._of_penalties,
    )
    return {name: _plain(getattr(estimator, name)) for name in names}


def _plain(value):
    """Return a copy in Python's own types, with tuples for all sequences."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return value
    return tuple(map(_plain, value))


def check_structure(estimator, structure):
    """Raise a ValueError if a fit is to go on with a network of another structure."""
    for name, value in structure_of(estimator).items():
        if repr(value) != repr(structure[name]):
            raise ValueError(
                f"the network of the last fit has {name}={structure[name]!r}, and "
                f"{name} is {value!r} now: with warm_start=True and in partial_fit the "
                "network goes on as it is. Put the old value back, or fit anew with "
                "warm_start=False."
            )


def dtype_name(estimator, n_rows, device_type):
    """Return "float64" or "float32", the type of the network's numbers."""
    if estimator.precision != "auto":
        return "float64" if estimator.precision == "float64" else "float32"
    return "float64" if n_rows <= FEW_ROWS and device_type == "cpu" else "float32"


def epochs_for(estimator, n_rows):
    """Return the most epochs of a fit."""
    if estimator.max_epochs != "auto":
        return estimator.max_epochs
    steps = -(-n_rows // min(estimator.batch_size, n_rows))
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, -(-STEPS // steps)))


def plan_for(estimator, encoder, tasks, labels, weight, parents):
    """Return the plan of a network, as `skmoe.nn._task_model.TaskModel` takes it.

    Parameters
    ----------
    estimator : multi-task estimator
    encoder : fitted TableEncoder
    tasks : list of Task
    labels, weight : arrays of shape (n_samples, n_tasks)
        The weight is 0 where a label is missing.
    parents : list of int or None
    """
    plan = needs_torch(type(estimator).__name__, "_task_model").TaskPlan
    alone = estimator.architecture == "single"
    embedded = estimator.numeric_encoding in ("piecewise", "periodic")
    rows = {
        "n_numbers": encoder.n_numbers_,
        "n_columns": encoder.n_columns_,
        "n_codes": encoder.n_codes_,
        "lists": encoder.lists_,
        "size": estimator.embedding_size,
        "numbers": estimator.numeric_encoding if embedded else "standard",
        "n_bins": estimator.n_bins,
        "dropout": estimator.column_dropout,
        "n_copies": len(tasks) if alone else 1,
    }
    learned, fixed = _task_weights(estimator.task_weights, tasks)
    losses = {name: getattr(estimator, name) for name in estimator._of_penalties}
    return plan(
        rows=rows,
        network={name: getattr(estimator, name) for name in estimator._of_network},
        parents=parents,
        losses=losses | {"learned": learned},
        kinds=tuple(task.kind for task in tasks),
        n_outputs=tuple(task.n_outputs for task in tasks),
        start=np.concatenate(
            [_start(task, labels[:, t], weight[:, t]) for t, task in enumerate(tasks)]
        ),
        task_weights=fixed,
        mean_weight=weight.mean(axis=0),
    )


def _start(task, labels, weight):
    """Return the raw outputs that predict a task best without x."""
    if not weight.any():
        raise ValueError(
            f"no label of task {task.name!r} is left to train on: class_weight is 0 "
            "for all of them, or they are held out."
        )
    if task.kind == "regression":
        return np.zeros(1)
    if task.kind == "count":
        mean = np.average(labels, weights=weight)
        return np.log([max(mean, 1e-6)])
    classes = max(2, task.n_outputs)
    mass = np.bincount(labels.astype(int), weights=weight, minlength=classes)
    log_share = np.log(np.maximum(mass / mass.sum(), 1e-6))
    return log_share[1:] - log_share[:1] if task.kind == "binary" else log_share


def _task_weights(given, tasks):
    """Return whether weights of the tasks are learned, and the fixed ones."""
    names = [task.name for task in tasks]
    if given is None or (isinstance(given, str) and given == "uncertainty"):
        return given is not None, np.ones(len(tasks))
    if isinstance(given, dict):
        if set(given) != set(names):
            raise ValueError(
                f"task_weights must name each of the tasks {names}, got {given!r}."
            )
        given = [given[name] for name in names]
    try:
        weights = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        weights = np.empty(0)
    whole = weights.shape == (len(tasks),) and np.isfinite(weights).all()
    if not whole or weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            "task_weights must be None, 'uncertainty', or a number >= 0 for each of "
            f"the tasks {names}, not all 0, got {given!r}."
        )
    return False, weights
