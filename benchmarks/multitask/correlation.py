"""Does MMoE gain where tasks are less related? The data of Ma et al. (2018), paired.

    python benchmarks/multitask/correlation.py [--seeds 20] [--p 0 0.5 0.9 1]
        [--rates 3e-3 1e-2 3e-2 1e-1] [--workers 1] [--json PATH]

Two regression tasks of section 3.2 of the paper, `make_correlated_tasks`, with a
correlation of p between their directions: 10,000 training rows of 100 columns, 5,000
that tell the best epoch and the best of the rates, 10,000 for the test. Each seed has a
law, rows and first weights of its own; all architectures share law and rows.

Sizes are those of section 5 of the paper: 8 experts of 16 and towers of 8, or one
shared network of 113; by the same count, single networks of 60 each. Without gates and
biases all have the same number of weights, within 1 %; the table counts those too.

A model's error for a seed is the mean square of its distance from the true means of y
on the test rows; what MSE has besides is the noise, 0.01. R2 differs much between laws:
some are nearly constant, and one such law would outweigh the others. So models are
compared by the paired difference of the logarithm of the error, the mean of both tasks:
the ratio that it makes, its mean, standard error and t, and the p-value of the paired
t-test, adjusted by Holm's method for all comparisons in the table. There is no figure
to reach: the table says what is significant at 5 %.

Ma, J. et al. (2018). Modeling task relationships in multi-task learning with
multi-gate mixture-of-experts. KDD.
"""

import argparse
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _peers import one_thread
from _report import print_table, progress, write_json
from joblib import Parallel, delayed
from scipy.stats import ttest_rel
from sklearn.metrics import mean_squared_error, r2_score

from skmoe.datasets import make_correlated_tasks
from skmoe.multitask import MMoERegressor

N_TRAIN, N_VALID, N_TEST = 10_000, 5_000, 10_000
# Architecture, and what gives each the size of the paper's.
MODELS = {
    "mmoe": {"n_experts": 8, "expert_hidden": (16,)},
    "shared_bottom": {"n_experts": 1, "expert_hidden": (113,)},
    "omoe": {"n_experts": 8, "expert_hidden": (16,)},
    "single": {"n_experts": 1, "expert_hidden": (60,)},
}
FIRST, *OTHERS = MODELS
LEVEL = 0.05


def fit_best(name, rows, held_out, rates, seed):
    """Return the model with the best held-out loss, and its rate."""
    best, best_score, best_rate = None, -np.inf, None
    for rate in rates:
        model = MMoERegressor(
            name,
            **MODELS[name],
            tower_hidden=(8,),
            numeric_encoding="standard",
            learning_rate=rate,
            max_epochs=200,
            n_iter_no_change=5,
            random_state=seed,
        )
        try:
            model.fit(*rows, X_val=held_out[0], y_val=held_out[1])
        except FloatingPointError:  # diverged: this rate is too high
            continue
        score = model.history_["score"].max()
        if score > best_score:
            best, best_score, best_rate = model, score, rate
    return best, best_rate


def run(p, seed, name, rates):
    """Return what one model comes to on one law."""
    n_rows = N_TRAIN + N_VALID + N_TEST
    X, y, truth = make_correlated_tasks(
        n_rows, correlation=p, random_state=seed, return_truth=True
    )
    cuts = [N_TRAIN, N_TRAIN + N_VALID]
    train, valid, test = zip(np.split(X, cuts), np.split(y, cuts), strict=True)
    with one_thread():
        begin = time.process_time()
        model, rate = fit_best(name, train, valid, rates, seed)
        seconds = time.process_time() - begin
        guess = model.predict(test[0])
    apart = guess - truth.mean(test[0])
    return {
        "p": p,
        "seed": seed,
        "model": name,
        "error": (apart**2).mean(axis=0),
        "mse": mean_squared_error(test[1], guess, multioutput="raw_values"),
        "r2": r2_score(test[1], guess, multioutput="raw_values"),
        "rate": rate,
        "epochs": model.n_iter_,
        "parameters": model.n_parameters_,
        "seconds": seconds,
    }


def holm(p_values):
    """Return p-values for all tests together by Holm's method (1979)."""
    order = np.argsort(p_values)
    n_tests = len(order)
    stepped = np.asarray(p_values)[order] * np.arange(n_tests, 0, -1)
    adjusted = np.empty(n_tests)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def level_rows(results, shares):
    """Return a row for each correlation and model: means over seeds."""
    rows = []
    for p in shares:
        for name in MODELS:
            found = [r for r in results if (r["p"], r["model"]) == (p, name)]
            mse = np.mean([r["mse"] for r in found], axis=0)
            r2 = np.mean([r["r2"] for r in found], axis=0)
            log_error = [np.log(r["error"]).mean() for r in found]
            rows.append(
                {
                    "p": p,
                    "model": name,
                    "mse0": mse[0],
                    "mse1": mse[1],
                    "r20": r2[0],
                    "r21": r2[1],
                    "error": np.exp(np.mean(log_error)),
                    "sd": np.std(log_error, ddof=1),
                    "parameters": found[0]["parameters"],
                    "rate": float(np.median([r["rate"] for r in found])),
                    "epochs": float(np.mean([r["epochs"] for r in found])),
                    "seconds": float(np.mean([r["seconds"] for r in found])),
                }
            )
    return rows


def difference_rows(results, shares):
    """Return a row for each model beside MMoE: paired differences over seeds."""
    log_error = {
        (r["p"], r["model"], r["seed"]): np.log(r["error"]).mean() for r in results
    }
    seeds = sorted({r["seed"] for r in results})
    rows = []
    for p in shares:
        ours = np.array([log_error[p, FIRST, seed] for seed in seeds])
        for name in OTHERS:
            theirs = np.array([log_error[p, name, seed] for seed in seeds])
            test = ttest_rel(ours, theirs)
            apart = ours - theirs
            rows.append(
                {
                    "p": p,
                    "model": name,
                    "ratio": np.exp(apart.mean()),
                    "difference": apart.mean(),
                    "standard_error": apart.std(ddof=1) / len(apart) ** 0.5,
                    "t": float(test.statistic),
                    "p_value": float(test.pvalue),
                    "wins": int((apart < 0).sum()),
                    "seeds": len(apart),
                }
            )
    for row, adjusted in zip(rows, holm([r["p_value"] for r in rows]), strict=True):
        row["holm"] = adjusted
        word = "better" if row["difference"] < 0 else "worse"
        row["verdict"] = word if adjusted < LEVEL else "not significant"
    return rows


LEVEL_COLUMNS = [
    ("p", "p", ".1f"),
    "model",
    ("parameters", "parameters", "d"),
    ("mse0", "MSE 1", ".4f"),
    ("mse1", "MSE 2", ".4f"),
    ("r20", "R2 1", ".4f"),
    ("r21", "R2 2", ".4f"),
    ("error", "error, geometric mean", ".5f"),
    ("sd", "sd of its log", ".2f"),
    ("rate", "median rate", "g"),
    ("epochs", "epochs", ".0f"),
    ("seconds", "CPU s, all rates", ".1f"),
]
DIFFERENCE_COLUMNS = [
    ("p", "p", ".1f"),
    ("model", "MMoE over", ""),
    ("ratio", "ratio of errors", ".3f"),
    ("difference", "its log", "+.4f"),
    ("standard_error", "standard error", ".4f"),
    ("t", "t", "+.2f"),
    ("p_value", "p-value", ".4f"),
    ("holm", "Holm", ".4f"),
    ("wins", "MMoE ahead", "d"),
    ("seeds", "of seeds", "d"),
    ("verdict", "MMoE is", ""),
]


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--p", type=float, nargs="+", default=[0.0, 0.5, 0.9, 1.0])
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2, 1e-1]
    )
    parser.add_argument("--workers", type=int, default=1, help="fits at a time")
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: differences need a standard error")
    return options


def main():
    """Run all fits; print the levels and the paired differences."""
    options = parse_options()
    jobs = [
        (p, seed, name, options.rates)
        for seed in range(options.seeds)
        for p in options.p
        for name in MODELS
    ]
    results = []
    parallel = Parallel(n_jobs=options.workers, return_as="generator")
    for result in parallel(delayed(run)(*job) for job in jobs):
        results.append(result)
        error = np.mean(result["error"])
        where = f"p {result['p']}, seed {result['seed']}, {result['model']}"
        progress(f"{where}: {error:.5f} at a rate of {result['rate']:g}")
    levels = level_rows(results, options.p)
    differences = difference_rows(results, options.p)
    print_table(levels, LEVEL_COLUMNS, f"test, means over {options.seeds} seeds")
    title = f"paired differences, Holm's method over {len(differences)} tests"
    print_table(differences, DIFFERENCE_COLUMNS, title)
    payload = {"levels": levels, "differences": differences, "results": results}
    write_json(options.json, payload)


if __name__ == "__main__":
    main()
