"""Do mixtures of neural experts help? Beside one network of as many parameters.

    python benchmarks/neural_accuracy.py DIR [--only NAME ...] [--seeds 5]
                                         [--rows 8000] [--quick] [--json PATH]

DIR holds NAME.npz files (arrays X and y); beside four tables from there stand
scikit-learn's digits. Each seed has its own random rows (at most `--rows`), split and
initial weights: a fifth of the rows is the test; of the training rows 15 % only say
when neural models stop. X and the response of a regression are standardised by the
training rows, so log scores are nats a row of the standardised response.

- em, gradient, em+gradient: a mixture of 4 networks, its gate one more network of the
  same kind, by that algorithm. It stops after 12 epochs without a better log score of
  the stopping rows (a pass is one epoch or, on few rows, several), in each phase; the
  best pass of all is kept.
- alone: one wider network with, within 3 %, as many parameters as experts and gate
  together, as a `TorchExpert` by itself. It holds out 15 % too, rows of its own
  choice, stops after 12 epochs without a better loss there, and takes the variance
  of its noise from all its rows.
- in loop: the same network as a mixture of one. It differs from the mixtures in
  nothing but their structure: same rows, same loop, same rule to stop.
- boosting: scikit-learn's histogram boosting at its defaults, on all training rows.
  For regression it has no density.

Nothing is tuned on test rows. Sizes stood before the first run: the library's default
network on tables, smaller ones on digits of 8 by 8; the patience was then set by the
time that trial runs took. All else are the defaults of `TorchExpert` and `TorchGate`.
The table holds means over seeds with their standard errors, CPU seconds of a fit on one
thread, and the paired difference of each mixture to both single networks: it helps or
hurts if it differs by more than two standard errors. (The seeds share rows, so these
errors are rather small than large.) There is no figure to reach.
"""

import argparse
import math
import pathlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from _report import print_table, progress, write_json
from accuracy import judge, load_table, mean_and_error, paired, read_tables, standardise
from sklearn import ensemble
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.experts import TorchExpert
from skmoe.gates import TorchGate
from skmoe.nn import MLP, SmallCNN, SmallViT

TABLES = ("cal_housing", "kin8nm", "cpu_small", "abalone")
DIGITS = "digits"
N_EXPERTS = 4
TEST_SHARE, STOP_SHARE = 0.2, 0.15
PATIENCE = 12  # epochs
SIZE_SLACK = 0.03
MIXTURES = ("em", "gradient", "em+gradient")
SINGLES = ("alone", "in loop")
WORDS = {"better": "helps", "equal": "no difference", "worse": "hurts"}


@dataclass(frozen=True)
class Family:
    """Networks of one kind: small ones as experts and gate, wider ones alone."""

    module: type
    options: dict
    wider: Callable

    def n_parameters(self, options, n_inputs, n_outputs):
        """Return how many numbers such a network has."""
        network = self.module(n_inputs, n_outputs, **options)
        return sum(param.numel() for param in network.parameters())

    def matched(self, n_inputs, n_outputs):
        """Return the options of the single network, and how large all are."""
        expert = self.n_parameters(self.options, n_inputs, n_outputs)
        gate = self.n_parameters(self.options, n_inputs, N_EXPERTS)
        whole = N_EXPERTS * expert + gate
        wider = [self.wider(width) for width in range(8, 257, 2)]
        sizes = [self.n_parameters(options, n_inputs, n_outputs) for options in wider]
        best = int(np.abs(np.array(sizes) - whole).argmin())
        if abs(sizes[best] - whole) > SIZE_SLACK * whole:
            raise SystemExit(
                f"no single {self.module.__name__} within {SIZE_SLACK:.0%} of {whole} "
                "parameters: change the experts' options"
            )
        size = {"expert": expert, "gate": gate, "mixture": whole, "single": sizes[best]}
        return wider[best], size | {"an expert": self.options, "one": wider[best]}


PATCHES = {"patch": 4, "depth": 2, "heads": 2}
FAMILIES = {
    "MLP": Family(MLP, {"hidden": (64, 64)}, lambda n: {"hidden": (n, n)}),
    "CNN": Family(SmallCNN, {"channels": (8, 16)}, lambda n: {"channels": (n, 2 * n)}),
    "ViT": Family(
        SmallViT, {"width": 16, **PATCHES}, lambda n: {"width": n, **PATCHES}
    ),
}


@dataclass
class HeldOut:
    """A callback: ends a phase after `patience` passes without a better held-out score.

    `model` is the mixture at its best pass of all, `best` its log score there.
    """

    X: np.ndarray
    y: np.ndarray
    patience: int
    best: float = -math.inf
    model: object = None
    passes: dict = field(default_factory=dict)
    _phase: object = None

    def setup(self, estimator, context, **_):
        """Do nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **_):
        """Score a pass; return whether its phase ends."""
        if context.task_name != "EM pass":
            return False
        if context.parent is not self._phase:
            self._phase, self._phase_best, self._waited = context.parent, -math.inf, 0
        score = float(fitted_estimator.log_prob(self.X, self.y).mean())
        name = context.parent.task_name
        self.passes[name] = self.passes.get(name, 0) + 1
        self._waited = 0 if score > self._phase_best else self._waited + 1
        self._phase_best = max(score, self._phase_best)
        if score > self.best:
            self.best, self.model = score, fitted_estimator
        return self._waited >= self.patience


@dataclass
class Rows:
    """The rows of one seed, X and y each: all training rows, their parts, the test."""

    train: tuple
    learn: tuple
    stop: tuple
    test: tuple


def read_rows(folder, name, n_rows, seed):
    """Return the rows of one seed of a table."""
    if name == DIGITS:
        X, y = load_digits(return_X_y=True)
    else:
        X, y = load_table(folder / f"{name}.npz", None, seed)
    order = np.random.default_rng(seed).permutation(len(y))[:n_rows]
    n_test = round(TEST_SHARE * len(order))
    test, train = order[:n_test], order[n_test:]
    X_train, X_test = standardise(X[train], X[test])
    y_train, y_test = y[train], y[test]
    if name != DIGITS:
        y_train, y_test = standardise(y_train, y_test)
    n_stop = round(STOP_SHARE * len(train))
    return Rows(
        train=(X_train, y_train),
        learn=(X_train[n_stop:], y_train[n_stop:]),
        stop=(X_train[:n_stop], y_train[:n_stop]),
        test=(X_test, y_test),
    )


def prefixed(family, options):
    """Return a module and its options as parameters of an expert or a gate."""
    return {"module": family.module} | {f"module__{k}": v for k, v in options.items()}


def patience_in_passes(expert, n_rows):
    """Return how many passes of EM have the epochs of the patience.

    A pass is as many epochs as make 20 steps of the optimiser, at least one.
    """
    steps = math.ceil(n_rows / expert.batch_size)
    return math.ceil(PATIENCE / max(1, math.ceil(20 / steps)))


def shape_of(rows):
    """Return whether y is numbers, and the inputs and outputs of a network."""
    X, y = rows.train
    regression = y.dtype.kind == "f"
    return regression, (X.shape[1], 1 if regression else np.unique(y).size)


def make_model(name, family, rows, seed, options):
    """Return one model, unfitted."""
    regression, shape = shape_of(rows)
    if name == "boosting":
        kind = "Regressor" if regression else "Classifier"
        return getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=seed)
    n_epochs = {"n_epochs": options.n_epochs}
    single = TorchExpert(**prefixed(family, family.matched(*shape)[0]), **n_epochs)
    if name == "alone":
        return single.set_params(
            head="gaussian" if regression else "categorical",
            validation_fraction=STOP_SHARE,
            patience=PATIENCE,
            random_state=seed,
        )
    kinds = MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
    mixture = kinds[regression](random_state=seed, max_iter=options.max_iter)
    if name == "in loop":
        return mixture.set_params(experts=single, n_experts=1)
    small = prefixed(family, family.options) | n_epochs
    return mixture.set_params(
        experts=TorchExpert(**small),
        n_experts=N_EXPERTS,
        gate=TorchGate(**small),
        algorithm=name,
    )


def fit(model, rows):
    """Fit a model; return it and the passes of each phase of a mixture."""
    if not hasattr(model, "set_callbacks"):
        return model.fit(*rows.train), {}
    patience = patience_in_passes(model.experts, len(rows.learn[1]))
    watch = HeldOut(*rows.stop, patience)
    model.set_callbacks(watch).fit(*rows.learn)
    return watch.model, watch.passes


def log_score(model, X, y):
    """Return the mean log score in nats a row; None for a model without a density."""
    if hasattr(model, "log_prob"):
        return float(np.mean(model.log_prob(X, y)))
    if not hasattr(model, "predict_proba"):
        return None
    column = np.searchsorted(model.classes_, y)
    proba = model.predict_proba(X)[np.arange(len(y)), column]
    return float(np.log(proba.clip(np.finfo(float).eps)).mean())


def run_model(name, family, rows, seed, options):
    """Fit and score one model on the rows of a seed."""
    model = make_model(name, family, rows, seed, options)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        model, passes = fit(model, rows)
        seconds = time.process_time() - start
    scores = {
        "score": float(model.score(*rows.test)),
        "log_score": log_score(model, *rows.test),
        "seconds": seconds,
    }
    return scores | ({"passes": passes} if passes else {})


def groups_of(name):
    """Return pairs (family, models) that are run on a table."""
    families = ("CNN", "ViT") if name == DIGITS else ("MLP",)
    networks = [(family, (*MIXTURES, *SINGLES)) for family in families]
    return [*networks, ("-", ("boosting",))]


def run_table(name, options):
    """Yield the results of a table after each seed."""
    results, sizes = {}, {}
    for seed in range(options.seeds):
        rows = read_rows(options.dir, name, options.rows, seed)
        for family, models in groups_of(name):
            if family in FAMILIES:
                sizes[family] = FAMILIES[family].matched(*shape_of(rows)[1])[1]
            for model in models:
                network = FAMILIES.get(family)
                scores = run_model(model, network, rows, seed, options)
                results.setdefault(f"{family} {model}", []).append(scores)
                shown = {k: v for k, v in scores.items() if v is not None}
                progress(f"{name} seed {seed} {family} {model}: {shown}")
        yield {"n_train": len(rows.train[1]), "sizes": sizes, "models": results}


def compare(entry, family, model):
    """Return the differences of a mixture to both single networks, with a verdict."""
    row = {}
    for single in SINGLES:
        for key in ("score", "log_score"):
            ours, theirs = f"{family} {model}", f"{family} {single}"
            mean, error = paired(entry, ours, theirs, key)
            verdict = WORDS[judge(mean, error)]
            row[f"{key} - {single}"] = f"{mean:+.3f} ({error:.3f}) {verdict}"
            row[f"{key} - {single}: numbers"] = (mean, error, verdict)
    return row


def table_rows(name, entry):
    """Return one row a model: means with standard errors, and the differences."""
    rows = []
    for family, models in groups_of(name):
        for model in models:
            runs = entry["models"][f"{family} {model}"]
            row = {"table": name, "kind": family, "model": model}
            for key in ("score", "log_score"):
                values = [run[key] for run in runs]
                if None not in values:
                    mean, error = mean_and_error(values)
                    row[key] = f"{mean:.3f} ({error:.3f})"
                    row[f"{key}: numbers"] = (mean, error)
            row["seconds"] = float(np.mean([run["seconds"] for run in runs]))
            if model in MIXTURES:
                row |= compare(entry, family, model)
            rows.append(row)
    return rows


COLUMNS = [
    "table",
    "kind",
    "model",
    ("score", "R2 / accuracy", ""),
    ("log_score", "nats a row", ""),
    ("seconds", "s", ".2f"),
    ("score - alone", "R2 / accuracy - alone", ""),
    ("log_score - alone", "nats - alone", ""),
    ("score - in loop", "R2 / accuracy - in loop", ""),
    ("log_score - in loop", "nats - in loop", ""),
]


def report(results, too_small=False):
    """Print sizes and scores; return the rows of the latter."""
    sizes = [
        {"table": name, "rows": entry["n_train"], "kind": family} | size
        for name, entry in results.items()
        for family, size in entry["sizes"].items()
    ]
    print_table(sizes, list(sizes[0]), "training rows, and trained numbers")
    rows = [row for name, entry in results.items() for row in table_rows(name, entry)]
    title = (
        "means over seeds (standard error)" + too_small * ", too few to say what helps"
    )
    print_table(rows, COLUMNS, title)
    for single in SINGLES:
        for key in ("score", "log_score"):
            found = [row.get(f"{key} - {single}: numbers") for row in rows]
            verdicts = [numbers[2] for numbers in found if numbers]
            counted = ", ".join(f"{w} {verdicts.count(w)}" for w in WORDS.values())
            print(f"{key}, {len(verdicts)} mixtures beside {single!r}: {counted}")
    return rows


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR")
    known = (*TABLES, DIGITS)
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8000)
    quick = "2 tables, 2 seeds, few rows and epochs: only to see it run"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    options.max_iter, options.n_epochs = 1000, "auto"
    if options.quick:
        options.only = options.only or ["abalone", DIGITS]
        options.seeds, options.rows = 2, 600
        options.max_iter, options.n_epochs = 3, 2
    options.only = options.only or list(known)
    if options.seeds < 2:
        parser.error(f"--seeds must be 2 or more, got {options.seeds}")
    if options.rows < 500:
        parser.error(f"--rows must be 500 or more, got {options.rows}")
    return options


def main():
    """Run the tables, print them and write JSON."""
    options = parse_options()
    torch.set_num_threads(1)
    read_tables(options.dir, [name for name in options.only if name != DIGITS])
    hidden = ("dir", "json")
    settings = {k: v for k, v in vars(options).items() if k not in hidden}
    results = {}
    for name in options.only:
        for entry in run_table(name, options):
            results[name] = entry
            # Written after each seed, so that a run cut off is not lost.
            write_json(options.json, {"settings": settings, "results": results})
    rows = report(results, options.quick)
    write_json(options.json, {"settings": settings, "results": results, "rows": rows})


if __name__ == "__main__":
    main()
