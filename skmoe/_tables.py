"""Loaders of the real tables that ship with the package."""

from importlib import resources

import numpy as np
from sklearn.utils import Bunch

from skmoe._checks import check_count

__all__ = ["load_concrete", "load_mcycle", "load_sunspots"]


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


def load_sunspots(n_lags=0, *, return_X_y=False, as_frame=False):
    """Load the yearly mean sunspot numbers, 1700 to 2008: 309 years.

    The classical (version 1) series of Zurich and of the Sunspot Index Data Center
    (SIDC), Brussels, which the papers of the 1980s and 1990s used. There, errors are
    divided by the variance of 1700 to 1979, and a model sees the 12 years before.

    Parameters
    ----------
    n_lags : int, default=0
        Number of earlier years in a row of the data. The first so many years have no
        row of their own. With 0 the data are the years.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` only.
    as_frame : bool, default=False
        Whether data and target are a pandas DataFrame and Series, indexed by year.

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: ndarray of shape (309 - n_lags, n_lags) or DataFrame, the numbers of
          the years before, the latest one first; of shape (309, 1), the years,
          if `n_lags` is 0;
        - ``target``: ndarray of shape (309 - n_lags,) or Series, sunspot numbers;
        - ``years``: ndarray of int, of shape (309 - n_lags,);
        - ``feature_names``, ``target_names``: lists of str;
        - ``frame``: DataFrame of data and target together if `as_frame`, else None;
        - ``DESCR``: str, where the series comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    Raises
    ------
    ImportError
        If `as_frame` and pandas is not installed.
    ValueError
        If `n_lags` is not an integer from 0 to 308.
    """
    check_count("n_lags", n_lags, low=0)
    table = _load("sunspots.csv", return_X_y=False, as_frame=False)
    series, years = table.target, table.data[:, 0].astype(int)
    if n_lags >= series.size:
        raise ValueError(
            f"n_lags must be below the {series.size} years of the series, "
            f"got {n_lags!r}."
        )
    if n_lags:
        windows = np.lib.stride_tricks.sliding_window_view(series[:-1], n_lags)
        table.data = windows[:, ::-1].copy()
        table.target = series[n_lags:].copy()
        table.feature_names = [f"lag_{lag}" for lag in range(1, n_lags + 1)]
    table.years = years[n_lags:]
    if as_frame:
        columns = [*table.feature_names, *table.target_names]
        frame = _to_frame(np.column_stack([table.data, table.target]), columns)
        table.frame = frame = frame.set_index(table.years)
        table.data, table.target = frame[columns[:-1]], frame[columns[-1]]
    return (table.data, table.target) if return_X_y else table


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
