"""Census-Income (KDD) by the protocol of Ma et al. (2018): two tasks, three parts.

The folder holds census-income.data.gz and census-income.test.gz of the UCI repository
(or both without .gz), of 199,523 and 99,762 rows. Half of the test file, drawn, is the
validation part; the other half is the test. What a task is made of leaves the columns,
in both groups of tasks, and so does the instance weight: 31 columns of categories and
7 of numbers are left.

Ma, J. et al. (2018). Modeling task relationships in multi-task learning with
multi-gate mixture-of-experts. KDD, section 6.1.
"""

import pathlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

__all__ = [
    "NUMBERS",
    "TASKS",
    "Census",
    "Codes",
    "Part",
    "areas",
    "load_census",
    "to_codes",
]

COLUMNS = [
    "age",
    "class_of_worker",
    "industry_detail",
    "occupation_detail",
    "education",
    "wage_per_hour",
    "enrolled",
    "marital_status",
    "industry",
    "occupation",
    "race",
    "hispanic",
    "sex",
    "union",
    "unemployment",
    "full_or_part_time",
    "capital_gains",
    "capital_losses",
    "dividends",
    "tax_filer",
    "region",
    "state",
    "household_detail",
    "household",
    "instance_weight",
    "migration_msa",
    "migration_region",
    "migration_within",
    "same_house",
    "sunbelt",
    "persons_for_employer",
    "under_18",
    "father",
    "mother",
    "self",
    "citizenship",
    "own_business",
    "veterans_form",
    "veterans_benefits",
    "weeks_worked",
    "year",
    "income",
]
NUMBERS = [
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "dividends",
    "persons_for_employer",
    "weeks_worked",
]
LEFT_OUT = ["instance_weight", "education", "marital_status", "income"]
COLLEGE = [
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
]
TASKS = {1: ("income", "never married"), 2: ("education", "never married")}


@dataclass(frozen=True)
class Part:
    """Rows: a data frame, and labels 0 or 1 of shape (n_rows, 2)."""

    X: pd.DataFrame
    y: np.ndarray

    def head(self, n_rows):
        """Return the first rows."""
        return Part(self.X.iloc[:n_rows], self.y[:n_rows])


@dataclass(frozen=True)
class Census:
    """The three parts, and the names of the two tasks."""

    tasks: tuple
    train: Part
    valid: Part
    test: Part


@cache
def load_census(folder, group):
    """Return the census data for a group of tasks.

    Parameters
    ----------
    folder : str or path
    group : {1, 2}
        1: income over 50,000 dollars, 2: education of at least an associate degree;
        and in both whether a person was never married.
    """
    train, other = (_read(folder, name) for name in ("data", "test"))
    valid = other.sample(frac=0.5, random_state=1)
    parts = (train, valid, other.drop(valid.index))
    return Census(TASKS[group], *(_part(rows, group) for rows in parts))


def _read(folder, name):
    names = [f"census-income.{name}{end}" for end in (".gz", "")]
    paths = [pathlib.Path(folder) / name for name in names]
    found = [path for path in paths if path.exists()]
    if not found:
        raise SystemExit(f"{folder} holds neither {names[0]} nor {names[1]}")
    # "NA" is an answer here, not a gap.
    return pd.read_csv(
        found[0],
        header=None,
        names=COLUMNS,
        skipinitialspace=True,
        keep_default_na=False,
    )


def _part(rows, group):
    rich = rows["income"].str.startswith("50000+")
    first = rich if group == 1 else rows["education"].isin(COLLEGE)
    y = np.column_stack([first, rows["marital_status"] == "Never married"])
    X = rows.drop(columns=LEFT_OUT)
    categories = [name for name in X if name not in NUMBERS]
    # By way of text: some categories are written as numbers.
    for kind in (str, "category"):
        X = X.astype(dict.fromkeys(categories, kind))
    return Part(X.reset_index(drop=True), y.astype(np.int64))


@dataclass(frozen=True)
class Codes:
    """Rows as packages that read no data frame want them.

    Attributes
    ----------
    codes : array of int64 of shape (n_rows, 31)
        From 1; 0 for what the training rows do not hold.
    numbers : array of float32 of shape (n_rows, 7)
        Standardised.
    y : array of float32 of shape (n_rows, 2)
    """

    codes: np.ndarray
    numbers: np.ndarray
    y: np.ndarray


def to_codes(train, *others):
    """Return parts coded by what the training part holds, and sizes of its columns.

    Parameters
    ----------
    train : Part
    *others : Part

    Returns
    -------
    coded : list of Codes
    sizes : list of int
        How many codes each column of categories has, 0 included.
    """
    names = [name for name in train.X if name not in NUMBERS]
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    encoder = OrdinalEncoder(dtype=np.int64, **unknown)
    encoder.fit(train.X[names].astype(object))
    scaler = StandardScaler().fit(train.X[NUMBERS])
    coded = [
        Codes(
            encoder.transform(part.X[names].astype(object)) + 1,
            scaler.transform(part.X[NUMBERS]).astype(np.float32),
            part.y.astype(np.float32),
        )
        for part in (train, *others)
    ]
    return coded, [len(known) + 1 for known in encoder.categories_]


def areas(y, proba):
    """Return the area under the ROC curve of each task.

    Parameters
    ----------
    y : array of shape (n_rows, n_tasks)
    proba : sequence of arrays of shape (n_rows,)
        Probability of 1, a task each.
    """
    pairs = zip(y.T, proba, strict=True)
    return [float(roc_auc_score(truth, p)) for truth, p in pairs]
