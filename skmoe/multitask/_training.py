"""From a table and labels to a model and the rows that it is trained on."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skmoe._sklearn import safe_indexing
from skmoe._torch_part import needs_torch
from skmoe.multitask._columns import checked_table
from skmoe.multitask._encoder import TableEncoder
from skmoe.multitask._plan import (
    ENCODING,
    check_architecture,
    check_structure,
    dtype_name,
    plan_for,
    structure_of,
)
from skmoe.multitask._split import deal
from skmoe.multitask._targets import (
    code,
    make_tasks,
    read_targets,
    row_weights,
    weights,
)

__all__ = [
    "Fitted",
    "on_device",
    "prepared",
    "random_state_of",
    "read_rows",
    "targets_of",
    "with_held_out",
]

# Of all rows together, in the penalty on vectors: less would overflow float32.
LEAST_WEIGHT = 1e-6


@dataclass
class Fitted:
    """All that a fitted estimator consists of.

    Attributes
    ----------
    encoder : TableEncoder
    tasks : list of Task
    parents : list of int or None
        Task in front of each task.
    model : TaskModel
    task_weights : array of shape (n_tasks,)
    single : bool
        Whether y had one dimension.
    kind : str
        What y was: "array", "pandas", "polars" or "dict".
    structure : dict
        The arguments that say what the network is made of.
    """

    encoder: Any
    tasks: list
    parents: list | None
    model: Any
    task_weights: np.ndarray
    single: bool
    kind: str
    structure: dict


@dataclass(frozen=True)
class Rows:
    """Rows with labels.

    Attributes
    ----------
    table : frame or array
        As the encoder takes it.
    targets : Targets
    tasks : list of Task
    labels, weight : arrays of shape (n_rows, n_tasks)
        The weight is 0, and the label 0, where a label is missing. Weights are at
        most 1: any that were given fit float32.
    unit : float
        What weights were divided by: a power of two, which rounds nothing.
    row_weight : array of shape (n_rows,)
        What a row counts in means and quantiles of the columns of X.
    used : array of bool of shape (n_rows,)
        Rows to train on.
    """

    table: Any
    targets: Any
    tasks: list
    labels: np.ndarray
    weight: np.ndarray
    unit: float
    row_weight: np.ndarray
    used: np.ndarray


def read_rows(estimator, table, y, sample_weight, fitted=None, classes=None):
    """Return checked rows, with the tasks that y holds or that were fitted before.

    Parameters
    ----------
    estimator : multi-task estimator
    table : frame or array
    y, sample_weight : as given to ``fit``
    fitted : Fitted, default=None
        Whose tasks these are.
    classes : default=None
        Labels that may come up later, for ``partial_fit``.
    """
    targets = targets_of(estimator, table, y, fitted and fitted.tasks)
    row_weight = row_weights(targets, sample_weight)
    if fitted is None:
        tasks = make_tasks(targets, estimator._kinds(), row_weight, classes)
    else:
        tasks = fitted.tasks
    labels, _ = code(targets, tasks, row_weight)
    weight = weights(targets, tasks, sample_weight, estimator.class_weight)
    used = weight.any(axis=1)
    if fitted is not None and not used.any():
        raise ValueError("y has no label: all are missing, or their weights are 0.")
    row_weight = row_weight.max(axis=1)  # as given: min_frequency counts it
    return Rows(table, targets, tasks, labels, *_scaled(weight), row_weight, used)


def _scaled(weight):
    """Return weights of at most 1, and the power of two they were divided by."""
    power = int(np.frexp(weight.max(initial=0.0))[1])
    return np.ldexp(weight, -power), float(np.ldexp(1.0, power))


def random_state_of(estimator):
    """Return the RandomState of a fit, which is the same in all processes."""
    rng = check_random_state(estimator.random_state)
    if not estimator.distributed:
        return rng
    processes = needs_torch(type(estimator).__name__, "_processes")
    processes.join(True)
    shared = np.random.RandomState()
    shared.set_state(processes.of_first(rng.get_state(), True))
    rng.randint(2)  # one that was given goes on
    return shared


def targets_of(estimator, table, y, tasks=None):
    """Return the labels beside a table; a ValueError if there is not one a row."""
    names = estimator._task_names() if tasks is None else [t.name for t in tasks]
    targets = read_targets(y, names)
    if len(targets) != len(table):
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: X has "
            f"{len(table)}, y has {len(targets)}."
        )
    return targets


def with_held_out(estimator, rows, held_out, rng):
    """Return rows to train on, and those that tell the best epoch or None.

    Parameters
    ----------
    held_out : tuple
        X_val, y_val, sample_weight_val as given to ``fit``.
    """
    X_val, y_val, weight_val = held_out
    n_given = sum(part is not None for part in (X_val, y_val))
    if n_given == 1 or (n_given == 0 and weight_val is not None):
        raise ValueError(
            "X_val and y_val go together, and sample_weight_val goes with both: give "
            "them, or leave all out."
        )
    if X_val is not None:
        table = checked_table(estimator, X_val, reset=False)
        targets = targets_of(estimator, table, y_val, rows.tasks)
        weight = weights(targets, rows.tasks, weight_val, estimator.class_weight)
        labels, _ = code(targets, rows.tasks, weight)
        used = weight.any(axis=1)
        if not used.any():
            raise ValueError("y_val has no label: all are missing.")
        given = Rows(table, targets, rows.tasks, labels, *_scaled(weight), None, used)
        return rows, given
    many = int(rows.used.sum()) > estimator._stops_above
    early = estimator.early_stopping
    if not (many if early == "auto" else early):
        return rows, None
    out = _drawn(estimator, rows, rng)
    return replace(rows, used=rows.used & ~out), replace(rows, used=rows.used & out)


def _drawn(estimator, rows, rng):
    """Draw rows to hold out, with all classes of all tasks among them if possible."""
    candidates = np.flatnonzero(rows.used)
    with_classes = [task.classes is not None for task in rows.tasks]
    codes = np.where(with_classes, rows.labels[candidates], 0).astype(int)
    codes = np.where(rows.weight[candidates] > 0, codes, -1)
    part = estimator.validation_fraction
    out = np.zeros(len(rows.used), dtype=bool)
    out[candidates] = deal(codes, np.array([1.0 - part, part]), rng) == 1
    if not out.any() or out.sum() == len(candidates):
        raise ValueError(
            f"validation_fraction={part} of n_samples={len(candidates)} leaves none on "
            "one side: give X_val and y_val, or early_stopping=False."
        )
    return out


def prepared(estimator, rows, valid, fitted, rng, *, further=False):
    """Return a model to train, and its rows.

    Parameters
    ----------
    estimator : multi-task estimator
    rows : Rows
    valid : Rows or None
        Those that tell the best epoch.
    fitted : Fitted or None
        What to go on from.
    rng : RandomState
    further : bool
        Whether these are further rows, which many categories do not occur in: a
        penalty on vectors would make a fitted network forget those.

    Returns
    -------
    fitted : Fitted
        A new one; that which was given stays as it is.
    data : TaskData
    held_out : TaskData or None
    """
    seed = rng.randint(2**31 - 1)
    weight = rows.weight[rows.used]
    penalized = not (fitted and further)
    settings = _settings(estimator, weight, rows.unit, penalized=penalized)
    if fitted is None:
        fitted = _new(estimator, rows, settings, seed)
    else:
        check_structure(estimator, fitted.structure)
        encoder = copy.deepcopy(fitted.encoder)
        encoder.extend(safe_indexing(rows.table, np.flatnonzero(rows.used)))
        model = on_device(estimator, fitted.model)
        model = model.with_settings(settings, weight.mean(axis=0))
        model.grow(encoder.n_codes_, seed)
        fitted = replace(fitted, encoder=encoder, model=model)
    encoder, model = fitted.encoder, fitted.model
    encoded = encoder.transform(rows.table)
    data = _data(model, encoded, rows)
    if model.trainer.n_epochs == 0:
        model.learn_bins(data)
    if valid is not None and valid.table is not rows.table:
        encoded = encoder.transform(valid.table)
    return fitted, data, None if valid is None else _data(model, encoded, valid)


def _new(estimator, rows, settings, seed):
    """Return an encoder and a model that is not trained yet."""
    owner, tasks, used = type(estimator).__name__, rows.tasks, rows.used
    encoder = _encoder(estimator).fit(rows.table, rows.row_weight * used)
    parents = check_architecture(estimator, tasks)
    device = needs_torch(owner, "_rows").place_of(estimator.device, None, owner)
    dtype = dtype_name(estimator, int(used.sum()), device.type)
    labels, weight = rows.labels[used], rows.weight[used]
    plan = plan_for(estimator, encoder, tasks, labels, weight, parents)
    module, name = estimator._model
    model_class = getattr(needs_torch(owner, module), name)
    return Fitted(
        encoder=encoder,
        tasks=tasks,
        parents=parents,
        model=model_class(plan, settings, device, dtype, seed),
        task_weights=plan.task_weights,
        single=rows.targets.single,
        kind=rows.targets.kind,
        structure=structure_of(estimator),
    )


def _data(model, encoded, rows):
    """Return the used ones of encoded rows on the device of the model."""
    parts = (*encoded, rows.labels, rows.weight)
    if not rows.used.all():
        parts = [part[rows.used] for part in parts]
    return model.data(*parts)


def _encoder(estimator):
    """Return the encoder that the arguments ask for."""
    options = {name: getattr(estimator, name) for name in ENCODING}
    if estimator.numeric_encoding != "bins":
        options["numeric_encoding"] = "standard"  # embedded in the network
    return TableEncoder(**options)


def _settings(estimator, weight, unit, *, penalized):
    """Return how to train, as `skmoe.nn._task_fit` takes it."""
    module = needs_torch(type(estimator).__name__, "_task_fit")
    penalty = estimator.embedding_penalty if penalized else 0.0
    if estimator.aggregator is not None and estimator.distributed:
        raise ValueError(
            "an aggregator works on the gradients of one process, and distributed=True "
            "shares them out between several: leave one of the two out."
        )
    total = weight.sum(axis=0).mean() * unit
    return module.TaskSettings(
        batch_size=min(estimator.batch_size, len(weight)),
        learning_rate=estimator.learning_rate,
        weight_decay=estimator.weight_decay,
        # A prior: it counts the less, the more labels there are.
        embedding_penalty=penalty / max(total, LEAST_WEIGHT),
        decay=estimator.weight_averaging,
        patience=estimator.n_iter_no_change,
        bfloat16=estimator.precision == "bfloat16",
        compile=estimator.compile,
        aggregator=copy.deepcopy(estimator.aggregator),  # some have a memory
        distributed=estimator.distributed,
    )


def on_device(estimator, model):
    """Return a model where the estimator works; on the CPU if that is not here."""
    if estimator.device is None:
        return model
    owner = type(estimator).__name__
    place_of = needs_torch(owner, "_rows").place_of
    return model.to(place_of(estimator.device, None, owner, strict=False))
