"""Loaders of the real tables that ship with the package."""

from importlib import resources

import numpy as np
from sklearn.utils import Bunch

__all__ = ["load_concrete", "load_mcycle"]


def load_mcycle(*, return_X_y=False, as_frame=False):
    """Load the motorcycle accelerations: 133 rows, one column.

    Head acceleration (g) against time (ms) after a simulated motorcycle impact,
    from Schmidt, Mattern & Schueler (1981), printed in Silverman (1985).

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` only.
    as_frame : bool, default=False
        Whether data and target are a pandas DataFrame and Series.

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (133, 1) or DataFrame, milliseconds after impact;
        - ``target``: ndarray of shape (133,) or Series, acceleration of the head in g;
        - ``feature_names``, ``target_names``: lists of str;
        - ``frame``: DataFrame of data and target together if `as_frame`, else None;
        - ``DESCR``: str, where the table comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    Raises
    ------
    ImportError
        If `as_frame` and pandas is not installed.
    """
    return _load("mcycle.csv", return_X_y, as_frame)


def load_concrete(*, return_X_y=False, as_frame=False):
    """Load the compressive strength of concrete: 1030 rows, eight columns.

    Seven ingredients (kg per cubic metre) and age (days) against strength (MPa),
    from Yeh (1998), by way of the UCI repository, CC BY 4.0.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` only.
    as_frame : bool, default=False
        Whether data and target are a pandas DataFrame and Series.

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (1030, 8) or DataFrame, ingredients and age;
        - ``target``: ndarray of shape (1030,) or Series, strength in MPa;
        - ``feature_names``, ``target_names``: lists of str;
        - ``frame``: DataFrame of data and target together if `as_frame`, else None;
        - ``DESCR``: str, where the table comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    Raises
    ------
    ImportError
        If `as_frame` and pandas is not installed.
    """
    return _load("concrete.csv", return_X_y, as_frame)


def _load(filename, return_X_y, as_frame):
    """Read a table whose leading ``#`` lines describe it, target last."""
    source = resources.files("skmoe") / "data" / filename
    lines = source.read_text(encoding="utf-8").splitlines()
    n_described = sum(line.startswith("#") for line in lines)
    names = lines[n_described].split(",")
    values = np.loadtxt(lines[n_described + 1 :], delimiter=",")
    data, target, frame = values[:, :-1].copy(), values[:, -1].copy(), None
    if as_frame:
        frame = _to_frame(values, names)
        data, target = frame[names[:-1]], frame[names[-1]]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=names[:-1],
        target_names=names[-1:],
        DESCR="\n".join(line[2:] for line in lines[:n_described]),
    )


def _to_frame(values, names):
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "as_frame=True needs pandas, which is not installed: install it, or "
            "use as_frame=False."
        ) from error
    return pandas.DataFrame(values, columns=names)
