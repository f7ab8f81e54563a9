"""Held-out accuracy, log score and CRPS on real tables, beside other models.

    python benchmarks/accuracy.py DIR [--only NAME ...] [--estimator flat|hme|forest]
                                      [--models NAME ...] [--folds 5] [--jobs J]
                                      [--json PATH] [--peers-json PATH]

DIR holds NAME.npz files (arrays X and y) and MANIFEST.csv, whose column `task`
says reg or clf. Rows are standardised inside each fold, and so is the response of
a regression table: log scores are nats a row of the standardised response, RMSE and
CRPS are in its standard deviations. All models see the same folds; seconds are CPU
seconds of one fit on one thread, a search included. Each figure is a mean over folds
with its standard error.

`--estimator flat` compares the flat mixture with a linear model and boosting; `hme`
and `forest` add trees, forests, tuned boosting, a Gaussian process, SVMs and
perceptrons (see `_models.py` for how each is tuned and limited), smallest table first.
`--models` names what to run in place of all. `--peers-json` reads folds stored by an
earlier run with the same settings: what is there is not run again, so one file
given to both --json and --peers-json continues a run that was cut off.
"""

import argparse
import csv
import functools
import json
import pathlib
import warnings
import zlib

import numpy as np
from _models import FLAT, OURS, PEERS, make_model, models_of
from _report import Targets, print_table, progress, write_json
from _scores import fold_scores, mean_and_error, summarise
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

R2_LOSS_ALLOWED = 0.1
LARGE_TABLE = 20_000  # rows; the forest's R2 is judged below it
SECONDS_ALLOWED = 8.0  # times default boosting's
ESTIMATORS = {
    "flat": FLAT,
    "hme": (*PEERS["reg"], "hme", "hme_tuned"),
    "forest": (*PEERS["reg"], "forest"),
}
SETTINGS = ("folds", "seed", "max_rows", "n_experts")


def read_tables(folder, only):
    """Return {name: task} of the tables asked for, in the manifest's order."""
    manifest = folder / "MANIFEST.csv"
    if not manifest.is_file():
        raise SystemExit(f"no file {manifest}: give the folder of the tables as DIR")
    with open(manifest, encoding="utf-8", newline="") as stream:
        tasks = {row["name"]: row["task"] for row in csv.DictReader(stream)}
    unknown = sorted(set(only or []) - set(tasks))
    if unknown:
        raise SystemExit(
            f"unknown table: {', '.join(unknown)}; choose from {', '.join(tasks)}"
        )
    return {name: task for name, task in tasks.items() if not only or name in only}


def load_table(path, max_rows, seed):
    """Return X and y, a random sample of `max_rows` rows if there are more."""
    with np.load(path) as arrays:
        X, y = arrays["X"], arrays["y"]
    if max_rows is not None and len(y) > max_rows:
        rows = np.random.default_rng(seed).permutation(len(y))[:max_rows]
        X, y = X[rows], y[rows]
    return X, y


def make_folds(X, y, task, n_folds, seed):
    """Return the list of (train, test) row numbers; classes are stratified."""
    kind = KFold if task == "reg" else StratifiedKFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(X, y))


def standardise(train, test):
    """Return both with the mean and standard deviation of the training rows."""
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    return (train - centre) / scale, (test - centre) / scale


@functools.cache
def warm_up():
    """Fit boosting once, or its first timing would hold the start of its threads."""
    X = np.linspace(0.0, 1.0, 50)[:, None]
    HistGradientBoostingRegressor().fit(X, X[:, 0])


def run_fold(path, task, fold, models, options):
    """Fit some models on one fold; return {model: scores}."""
    X, y = load_table(path, options.max_rows, options.seed)
    train, test = make_folds(X, y, task, options.folds, options.seed)[fold]
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = y[train], y[test]
    if task == "reg":
        y_train, y_test = standardise(y_train, y_test)
    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warm_up()
        for name in models:
            model = make_model(name, task, X_train, options)
            model.fit(X_train, y_train)
            results[name] = fold_scores(model, X_test, y_test, task)
    shown = ", ".join(
        f"{k} {v['score']:.3f} {v['log_score']:.3f} {v['seconds']:.2f}s"
        for k, v in results.items()
    )
    progress(f"{path.stem} fold {fold + 1}: {shown}")
    return results


def describe_table(path, task, options):
    """Return a table's entry without results, and a number that knows its data."""
    X, y = load_table(path, options.max_rows, options.seed)
    data = zlib.crc32(np.ascontiguousarray(y), zlib.crc32(np.ascontiguousarray(X)))
    shape = {"n": X.shape[0], "d": X.shape[1], "data": data}
    return {"task": task, **shape, "models": {}}


def read_stored(path, options):
    """Return {table: entry} of an earlier run; {} without a file."""
    if path is None or not pathlib.Path(path).is_file():
        return {}
    with open(path, encoding="utf-8") as stream:
        stored = json.load(stream)
    for key in SETTINGS:
        ours, theirs = getattr(options, key), stored["settings"].get(key)
        if ours != theirs:
            raise SystemExit(
                f"{path} was run with {key}={theirs}, this run has {ours}: give the "
                "same settings, or leave --peers-json out"
            )
    return stored["results"]


def stored_models(stored, name, entry):
    """Return {model: folds} that an earlier run found on the same table."""
    if name not in stored:
        return {}
    known = stored[name]
    if (known["task"], known["data"]) != (entry["task"], entry["data"]):
        raise SystemExit(
            f"the stored results of {name} come from other data: delete them, or "
            "leave --peers-json out"
        )
    return known["models"]


def run_tables(tables, options):
    """Yield all results so far, {table: entry}, after each table."""
    results = read_stored(options.peers_json, options)
    stored = dict(results)
    with Parallel(n_jobs=options.jobs) as parallel:
        for name, task in tables.items():
            path = options.dir / f"{name}.npz"
            entry = describe_table(path, task, options)
            entry["models"] = dict(stored_models(stored, name, entry))
            wanted = models_of(task, options.models)
            missing = [model for model in wanted if model not in entry["models"]]
            folds = parallel(
                delayed(run_fold)(path, task, fold, missing, options)
                for fold in range(options.folds if missing else 0)
            )
            for model in missing:
                entry["models"][model] = [fold[model] for fold in folds]
            results[name] = entry
            yield results


def judge(difference, error):
    """Return better, worse or equal at two standard errors."""
    if abs(difference) <= 2.0 * error:
        return "equal"
    return "better" if difference > 0.0 else "worse"


def paired(entry, model, other, key):
    """Return the mean of model minus other over folds, and its standard error."""
    pairs = zip(entry["models"][model], entry["models"][other], strict=True)
    return mean_and_error([ours[key] - theirs[key] for ours, theirs in pairs])


def with_errors(row):
    """Return a copy of the row for printing: each mean with its standard error."""
    shown = dict(row)
    for key in row:
        if f"{key}_error" in row:
            sign = "+" if key == "gain" else ""
            error = row[f"{key}_error"]
            shown[key] = f"{row[key]:{sign}.3f} ({error:.3f})"
    return shown


COLUMNS = [
    "table",
    "n",
    "d",
    ("kind", "score", ""),
    ("linear_score", "linear", ""),
    ("boosting_score", "boosting", ""),
    ("mixture_score", "mixture", ""),
    ("linear_log_score", "log: linear", ""),
    ("boosting_log_score", "boosting", ""),
    ("mixture_log_score", "mixture", ""),
    ("linear_seconds", "s: linear", ".3f"),
    ("boosting_seconds", "boosting", ".2f"),
    ("mixture_seconds", "mixture", ".2f"),
    ("gain", "log: mix - lin", ""),
    "verdict",
    ("worst", "worst fold", "+.3f"),
]


def report_flat(rows, results):
    """Print the flat mixture's table; return its figures.

    No table lost to the linear model, no fold far below it.
    """
    targets = Targets()
    rows = [row for row in rows if {*FLAT} <= {*results[row["table"]]["models"]}]
    for row in rows:
        name, entry = row["table"], results[row["table"]]
        gain, error = paired(entry, "mixture", "linear", "log_score")
        row.update(gain=gain, gain_error=error, verdict=judge(gain, error))
        folds = zip(entry["models"]["mixture"], entry["models"]["linear"], strict=True)
        row["worst"] = min(ours["score"] - theirs["score"] for ours, theirs in folds)
        wanted = f">= -2 standard errors = {-2.0 * error:.3f}"
        lost = row["verdict"] == "worse"
        title = f"{name}: log score, mixture - linear"
        targets.check(title, gain, not lost, wanted)
        if row["kind"] == "R2":
            ok = row["worst"] >= -R2_LOSS_ALLOWED
            title = f"{name}: worst fold, R2 - linear R2"
            targets.check(title, row["worst"], ok, f">= -{R2_LOSS_ALLOWED}")
    title = "means over folds (standard error); log score in nats a row"
    print_table([with_errors(row) for row in rows], COLUMNS, title)
    return targets


METRICS = {
    "reg": {
        "score": "R2",
        "log_score": "log score, nats a row",
        "rmse": "RMSE, standardised response",
        "crps": "CRPS, standardised response",
        "seconds": "CPU seconds of one fit",
    },
    "clf": {
        "score": "accuracy",
        "log_score": "log score, nats a row",
        "seconds": "CPU seconds of one fit",
    },
}


def report_all(rows, results):
    """Print one table a score, models as columns, and by name where ours is behind."""
    for task, metrics in METRICS.items():
        mine = [row for row in rows if row["task"] == task]
        present = {m for row in mine for m in results[row["table"]]["models"]}
        models = models_of(task, present)
        for key, title in metrics.items() if mine else ():
            columns = [(f"{model}_{key}", model, ".3f") for model in models]
            shown = [with_errors(row) for row in mine]
            print_table(shown, ["table", "n", "d", *columns], title)
        for ours in models_of(task, present & {*OURS}):
            report_behind(ours, task, mine, results)


def report_behind(ours, task, rows, results):
    """Print on which tables, and how far, one of our models is behind each peer."""
    print(f"\n{ours}, {task}: paired difference where it is behind (standard error)")
    for key in ("score", "log_score"):
        for peer in PEERS[task]:
            entries = {row["table"]: results[row["table"]] for row in rows}
            entries = {
                name: paired(entry, ours, peer, key)
                for name, entry in entries.items()
                if {ours, peer} <= {*entry["models"]}
            }
            behind = [
                f"{k} {m:.3f} ({e:.3f})" for k, (m, e) in entries.items() if m < 0
            ]
            label = METRICS[task][key].split(",")[0]
            where = f"{len(behind)} of {len(entries)}"
            if entries:
                print(f"  {label}, {peer}: {where}{': ' * bool(behind)}", end="")
                print("; ".join(behind))


def check_share(targets, rows, key, peer, share):
    """Note on which share of the tables the forest is ahead of a peer."""
    label = {"score": "R2", "log_score": "log score"}[key]
    title = f"{label}, share where forest > {peer}"
    judged = [row for row in rows if {f"forest_{key}", f"{peer}_{key}"} <= {*row}]
    absent = [row["table"] for row in rows if row not in judged]
    if absent:
        progress(f"{title}: not judged on {', '.join(absent)}, run both there")
    behind = [
        row["table"] for row in judged if row[f"forest_{key}"] <= row[f"{peer}_{key}"]
    ]
    if judged:
        ahead = 1.0 - len(behind) / len(judged)
        wanted = f">= {share:g} of {len(judged)} tables"
        wanted += f"; behind: {', '.join(behind)}" * bool(behind)
        # A hair of slack: 1 - 1 / 10 may fall below 0.9 in floating point.
        targets.check(title, ahead, ahead >= share - 1e-9, wanted)


def check_forest(rows):
    """Return the forest's figures beside boosting and the Gaussian process."""
    targets = Targets()
    rows = [row for row in rows if row["kind"] == "R2"]
    small = [row for row in rows if row["n"] < LARGE_TABLE]
    check_share(targets, small, "score", "boosting", 0.9)
    check_share(targets, small, "score", "boosting_tuned", 0.6)
    check_share(targets, rows, "log_score", "boosting", 1.0)
    check_share(targets, rows, "log_score", "gp", 0.8)
    for row in rows:
        if {"forest_seconds", "boosting_seconds"} <= {*row}:
            ratio = row["forest_seconds"] / row["boosting_seconds"]
            title = f"{row['table']}: CPU of a fit, forest / default boosting"
            targets.check(
                title, ratio, ratio <= SECONDS_ALLOWED, f"<= {SECONDS_ALLOWED:g}"
            )
    return targets


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = (*PEERS["reg"], *OURS)
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--estimator", choices=list(ESTIMATORS), default="flat")
    parser.add_argument("--models", nargs="+", choices=known, metavar="MODEL")
    parser.add_argument("--n-experts", type=int, help="default: the estimator's own")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    rows_help = f"0: every row; default: {LARGE_TABLE}, or every row with flat"
    parser.add_argument("--max-rows", type=int, help=rows_help)
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--peers-json", metavar="PATH", help="folds of an earlier run")
    options = parser.parse_args()
    if options.folds < 2:
        parser.error(f"--folds must be 2 or more, got {options.folds}")
    options.models = options.models or list(ESTIMATORS[options.estimator])
    if options.max_rows is None and options.estimator != "flat":
        options.max_rows = LARGE_TABLE
    options.max_rows = options.max_rows or None
    return options


def main():
    """Run the tables, print them, write JSON, and say which figures are missed."""
    options = parse_options()
    tables = read_tables(options.dir, options.only)
    if options.estimator != "flat":
        size = {k: np.load(options.dir / f"{k}.npz")["y"].size for k in tables}
        tables = dict(sorted(tables.items(), key=lambda item: size[item[0]]))
    hidden = ("dir", "json", "peers_json")
    settings = {k: v for k, v in vars(options).items() if k not in hidden}
    for results in run_tables(tables, options):
        # Written after each table, so that a run cut off is not lost.
        write_json(options.json, {"settings": settings, "results": results})
    rows = [summarise(name, results[name]) for name in tables]
    if options.estimator == "flat":
        targets = report_flat(rows, results)
    else:
        report_all(rows, results)
        targets = check_forest(rows) if options.estimator == "forest" else Targets()
    payload = {"settings": settings, "results": results, "rows": rows}
    write_json(options.json, {**payload, "targets": targets.rows})
    targets.exit()


if __name__ == "__main__":
    main()
