"""What every runner shares: fit one package on prepared splits, run its checks.

A runner is executed by the interpreter of its package's own environment, as
`python RUNNER splits FOLDER OUT` or `python RUNNER checks FOLDER OUT`. It needs
NumPy and scikit-learn (1.6 or later) only. OUT gets one JSON object a line, written
as soon as it is known: a run that is cut off keeps what it had.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score


@dataclass
class Model:
    """How one package fits one kind of task.

    Attributes
    ----------
    fit : callable
        (X, y, seed) -> fitted model.
    predict : callable
        (model, X) -> predictions of shape (n_samples,).
    log_prob : callable or None
        (model, X, y) -> log density of each row in nats; None: it has none.
    estimator : callable
        () -> the estimator whose scikit-learn checks are run.
    """

    fit: Callable[[Any, Any, int], Any]
    predict: Callable[[Any, Any], Any]
    estimator: Callable[[], Any]
    log_prob: Callable[[Any, Any, Any], Any] | None = None


def log_proba_of(model, X, y):
    """Return the log probability of each row's class; floored as by log_loss."""
    proba = model.predict_proba(X)
    column = np.searchsorted(model.classes_, y)
    chosen = proba[np.arange(len(y)), column]
    return np.log(np.clip(chosen, np.finfo(float).eps, None))


def run(package, models):
    """Do what the command line asks for; `models` maps "reg" and "clf" to a Model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["splits", "checks"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with open(options.out, "w", encoding="utf-8") as stream:
        _write(stream, {"versions": _versions(package)})
        if options.what == "checks":
            for task, model in models.items():
                _write(stream, {"task": task, **_run_checks(model)})
            return
        for path in sorted(options.folder.glob("*.npz")):
            with np.load(path) as split:
                task, table = str(split["task"]), str(split["table"])
                if task in models:
                    result = _run_split(models[task], task, split)
                    _write(stream, {"table": table, "split": path.stem, **result})


def _write(stream, record):
    stream.write(json.dumps(record) + "\n")
    stream.flush()


def _versions(package):
    names = ["numpy", "scikit-learn", *([package] if package else [])]
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _run_split(model, task, split):
    """Return score, log score and CPU seconds, or the error that ended the fit."""
    X, y = split["X_train"], split["y_train"]
    X_test, y_test = split["X_test"], split["y_test"]
    result = {"task": task}
    try:
        with _silence():
            start = time.process_time()
            fitted = model.fit(X, y, int(split["seed"]))
            result["seconds"] = time.process_time() - start
            predicted = np.asarray(model.predict(fitted, X_test)).reshape(len(y_test))
            if model.log_prob is not None:
                log_prob = model.log_prob(fitted, X_test, y_test)
                result["log_score"] = float(np.mean(log_prob))
    except Exception as error:  # a peer may fail in any way; the table says how
        return {**result, "error": traceback.format_exception_only(error)[-1].strip()}
    score = r2_score if task == "reg" else accuracy_score
    return {**result, "score": float(score(y_test, predicted))}


ABSENT = ("is not installed", "is not available", "no XPU device", "MPS device")


@contextlib.contextmanager
def _silence():
    """Drop what packages print while they fit."""
    with (
        open(os.devnull, "w", encoding="utf-8") as sink,
        contextlib.redirect_stdout(sink),
    ):
        yield


def _run_checks(model):
    """Run scikit-learn's estimator checks; a skipped check counts for nobody."""
    from sklearn.utils.estimator_checks import check_estimator

    records = []

    def note(**record):
        reason = str(record.get("exception") or "")
        records.append((record["check_name"], record["status"], reason))

    try:
        with _silence():
            check_estimator(model.estimator(), on_fail=None, callback=note)
    except Exception as error:  # not an estimator: the checks can not even start
        reason = traceback.format_exception_only(error)[-1].strip()
        return {"passed": 0, "total": None, "reason": reason[:200]}
    counted = [(name, status) for name, status, _ in records if status != "skipped"]
    skipped = [(name, why) for name, status, why in records if status == "skipped"]
    absent = [skip for skip in skipped if any(word in skip[1] for word in ABSENT)]
    failed = [name for name, status in counted if status != "passed"]
    return {
        "passed": len(counted) - len(failed),
        "total": len(counted),
        "failed": failed,
        # Array libraries and devices that this machine lacks say nothing of a model.
        "skipped": [name for name, why in skipped if (name, why) not in absent],
        "absent": [f"{name}: {why}" for name, why in absent],
    }
