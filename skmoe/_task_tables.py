"""Loaders of the tables with several tasks that ship with the package."""

import gzip
import io
from importlib import resources

from sklearn.utils import Bunch

__all__ = ["load_census_income", "load_kuairand"]

N_TRAIN = 20_000
NUMBERS = [
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "dividends",
    "persons_worked_for_employer",
    "weeks_worked",
]
# What the tasks of Ma et al. (2018) are made of: no columns of X.
ANSWERS = ["education", "marital_status", "income"]
COLLEGE = [
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
]
SHOWN = ["user_id", "video_id", "hour", "duration_ms"]
DONE = [
    "is_click",
    "long_view",
    "is_comment",
    "is_forward",
    "is_follow",
    "play_time_ms",
]


def load_census_income(*, subset="train", return_X_y=False):
    """Load persons of a census: 38 columns, most of them categories, and three tasks.

    A sample of Census-Income (KDD), surveys of the United States of 1994 and 1995, by
    way of the UCI repository, CC BY 4.0: 20,000 rows of the training file and 6,000
    of the test file. Features and tasks are those of Ma et al. (2018): education and
    marital status are no features, since tasks are made of them.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` only.

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: DataFrame of shape (n_samples, 38), 7 columns of numbers and 31 of
          categories, codes among them, some with missing values;
        - ``target``: DataFrame of 0 and 1: ``income``, above 50,000 dollars a year;
          ``college``, an associate's degree or more; ``never_married``;
        - ``frame``: DataFrame of all columns, with education, marital status and
          income as they are in the file;
        - ``feature_names``, ``target_names``: lists of str;
        - ``DESCR``: str, where the table comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If there is no such subset.

    References
    ----------
    Ma, J., Zhao, Z., Yi, X., Chen, J., Hong, L. and Chi, E. H. (2018). Modeling task
    relationships in multi-task learning with multi-gate mixture-of-experts. KDD.
    """
    if subset not in ("train", "test"):
        raise ValueError(f"subset must be 'train' or 'test', got {subset!r}.")
    frame, about = _read("census_income.csv.gz", "load_census_income", dtype=str)
    frame = frame.astype(
        {name: float if name in NUMBERS else "category" for name in frame}
    )
    part = slice(N_TRAIN) if subset == "train" else slice(N_TRAIN, None)
    frame = frame.iloc[part].reset_index(drop=True)
    target = {
        "income": frame["income"] == "50000+.",
        "college": frame["education"].isin(COLLEGE),
        "never_married": frame["marital_status"] == "Never married",
    }
    target = frame[[]].assign(**target).astype("int64")
    return _bunch(frame, frame.drop(columns=ANSWERS), target, about, return_X_y)


def load_kuairand(*, return_X_y=False):
    """Load what users of a video app were shown, and what they did: 41,828 rows.

    A subset of KuaiRand-1K, the log of two weeks of April 2022 of 664 users of
    Kuaishou, in the order of time, from Gao et al. (2022), CC BY-SA 4.0: whoever
    passes these rows on, changed or not, does so under that licence.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` only.

    Returns
    -------
    table : Bunch
        With the attributes

        - ``data``: DataFrame of shape (41828, 4): ``user_id`` and ``video_id``,
          categories; ``hour`` of the day; ``duration_ms`` of the video in
          milliseconds, NaN where it is not known;
        - ``target``: DataFrame of ``is_click``, ``long_view``, ``is_comment``,
          ``is_forward`` and ``is_follow``, 0 or 1, and ``play_time_ms``, how long the
          video was played, in milliseconds;
        - ``frame``: DataFrame of both, and of ``date``, such as 20220408;
        - ``feature_names``, ``target_names``: lists of str;
        - ``DESCR``: str, where the table comes from.

        If `return_X_y`, the tuple ``(data, target)`` instead.

    Raises
    ------
    ImportError
        If pandas is not installed.

    References
    ----------
    Gao, C., Li, S., Zhang, Y., Chen, J., Li, B., Lei, W., Jiang, P. and He, X.
    (2022). KuaiRand: an unbiased sequential recommendation dataset with randomly
    exposed videos. CIKM.
    """
    frame, about = _read("kuairand.csv.gz", "load_kuairand")
    frame = frame.astype({"user_id": "category", "video_id": "category"})
    return _bunch(frame, frame[SHOWN], frame[DONE], about, return_X_y)


def _read(filename, caller, **kwargs):
    """Return the rows of a file as a frame, and the leading ``#`` lines."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"{caller} needs pandas, which is not installed: pip install pandas"
        ) from error
    source = resources.files("skmoe") / "data" / filename
    text = gzip.decompress(source.read_bytes()).decode("utf-8")
    lines = text.split("\n", 20)
    n_described = sum(line.startswith("#") for line in lines[:-1])
    # An empty field is the only gap: "NA" and the like would be categories.
    frame = pandas.read_csv(
        io.StringIO(text),
        skiprows=n_described,
        keep_default_na=False,
        na_values=[""],
        **kwargs,
    )
    return frame, "\n".join(line[2:] for line in lines[:n_described])


def _bunch(frame, data, target, about, return_X_y):
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(data),
        target_names=list(target),
        DESCR=about,
    )
