"""Standard errors, intervals and tests: beside references, and in simulation.

The first table compares the standard errors of ``summary()`` with those of the
reference cases (numeric observed information) and, where ``Rscript`` with flexmix is
installed, with those of flexmix's ``refit()``. The second says how often intervals of
95 % cover the truth, by kind of covariance; the third how often tests of 5 % reject a
true hypothesis. Refits start at the truth, so that experts keep their numbers.
"""

import argparse
import csv
import json
import shutil
import subprocess
import tempfile
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
from _report import Targets, print_table, progress, write_json
from joblib import Parallel, delayed
from reference import design, estimator, kind_of, read_table
from scipy import special

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert, LogisticExpert, PoissonExpert
from skmoe.gates import SoftmaxGate
from skmoe.statistics import likelihood_ratio_test, wald_test

PEER = Path(__file__).parent / "_peers" / "flexmix_refit.R"
FORMULAS = {"gaussian": "{y} ~ ", "poisson": "{y} ~ "}

# -- beside references ---------------------------------------------------------------


def at_their_maximum(model, case, table, X, y, beside):
    """Refit from the reference's maximum, its experts in its order."""
    model.fit(X, y, **beside)
    better = abs(model.log_likelihood(X, y, **beside) - case["loglik"]) > 1e-3
    if better and case["sigma"]:  # ours is another maximum: start at theirs
        resp = their_responsibilities(case, table, y)
    else:
        ours = np.array([[e.intercept_, *np.ravel(e.coef_)] for e in starts(model)])
        distance = np.abs(ours[:, None] - np.array(case["expert_coef"])).sum(axis=2)
        order = distance.argmin(axis=0)
        if (order == np.arange(order.size)).all():
            return model
        resp = model.responsibilities(X, y, **beside)[:, order]
    return model.set_params(init=resp, tol=1e-12).fit(X, y, **beside)


def their_responsibilities(case, table, y):
    """Return responsibilities at the reference's parameters, noise taken as normal."""
    ones = {"1": np.ones(len(y))}
    Z = np.column_stack([(ones | table)[c] for c in case["gate_design"]])
    W = np.column_stack([(ones | table)[c] for c in case["expert_design"]])
    sigma = np.array(case["sigma"])
    error = (y[:, None] - W @ np.array(case["expert_coef"]).T) / sigma
    joint = Z @ np.array(case["gate_coef"]).T - np.log(sigma) - 0.5 * error**2
    return special.softmax(joint, axis=1)


def starts(model):
    """Return the experts with binary log odds as coefficients."""
    experts = []
    for expert in model.experts_:
        if isinstance(expert, LogisticExpert):
            slope, start = np.diff(expert.coef_, axis=0), np.diff(expert.intercept_)
            expert = argparse.Namespace(coef_=slope[0], intercept_=start[0])
        experts.append(expert)
    return experts


def our_errors(model):
    """Return standard errors as the reference has them: one flat array."""
    summary = model.summary()
    found = summary.std_errors.copy()
    logs = [one.term == "variance" for one in summary.coefficients]
    found[logs] /= 2.0 * summary.estimates[logs]  # of log sigma
    gate = [one.part == "gate" for one in summary.coefficients]
    kind = np.array([one.kind for one in summary.coefficients])
    keep = np.array([one.term not in ("scale2", "df") for one in summary.coefficients])
    experts = ~np.array(gate) & (kind != "shape")
    shapes = ~np.array(gate) & (kind == "shape") & keep
    return np.concatenate([found[gate], found[experts], found[shapes]])


def their_errors(case):
    """Return the reference's standard errors in the same order."""
    errors = case["standard_errors"]
    sigma = errors["log_sigma"]
    if sigma is None or case["family"] == "student":
        sigma = []
    parts = [errors["gate_coef"][1:], errors["expert_coef"], sigma]
    return np.concatenate([np.ravel(part) for part in parts])


def flexmix_errors(case, folder, labels):
    """Return the standard errors of flexmix's refit; None where it is not there."""
    if shutil.which("Rscript") is None or case["family"] not in FORMULAS:
        return None
    if case["offset"] or case["group"]:
        return None
    right = " + ".join(c for c in case["expert_design"] if c != "1")
    gate = " + ".join(c for c in case["gate_design"] if c != "1")
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        csv.writer(file).writerows([["start"], *[[label + 1] for label in labels]])
        file.flush()
        command = ["Rscript", str(PEER), str(folder / case["data"]), case["family"]]
        command += [str(case["K"]), f"{case['response']} ~ {right}", f"~ {gate or 1}"]
        done = subprocess.run(
            [*command, file.name], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return None
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    errors = {name: float(error) for name, _, error in lines}
    gate = [value for name, value in errors.items() if name.startswith("conc")]
    own = [value for name, value in errors.items() if "coef." in name]
    sigma = [value for name, value in errors.items() if "sigma" in name]
    return np.concatenate([gate, own, sigma])


def compare(case, folder):
    """Return the row of a reference case."""
    table = read_table(folder / case["data"])
    X, expert, gate = design(case, table)
    y = table[case["response"]]
    keys = (("offset", "offset"), ("trials", "trials"), ("groups", "group"))
    beside = {name: table[case[key]] for name, key in keys if case[key]}
    model = estimator(case, X.shape[1], expert, gate, 0)
    model = at_their_maximum(model, case, table, X, y, beside)
    ours, theirs = our_errors(model), their_errors(case)
    row = {
        "id": case["id"],
        "k": case["K"],
        "family": kind_of(case),
        "n": ours.size,
        "reference": float(np.abs(ours / theirs - 1.0).max()),
    }
    labels = model.responsibilities(X, y, **beside).argmax(axis=1)
    peer = flexmix_errors(case, folder, labels)
    if peer is not None and peer.size == ours.size:
        row["flexmix"] = float(np.abs(ours / peer - 1.0).max())
    return row | {"ok": row["reference"] < 0.05, "ours": ours, "theirs": theirs}


# -- in simulation -------------------------------------------------------------------


class Design:
    """Two experts and a gate with known coefficients.

    Parameters
    ----------
    name : str
    expert : unfitted expert of maximum likelihood
    coef : array of shape (2, 3)
        Intercept and slopes of each expert.
    gate : array of shape (3,)
        Log odds of the second expert.
    spread : pair of float
        Noise of the experts, for a normal response.
    noise : {"normal", "student", "uneven"}
        What it really is: the last two are not what the experts assume.
    """

    def __init__(self, name, expert, coef, gate, spread=None, noise="normal"):
        self.name, self.expert, self.noise = name, expert, noise
        self.coef, self.gate = np.array(coef), np.array(gate)
        self.spread = spread

    @property
    def classifies(self):
        """Whether the responses are classes."""
        return isinstance(self.expert, LogisticExpert)

    def draw(self, n, rng):
        """Return X, y and the labels of the experts."""
        X = rng.normal(size=(n, 2))
        Z = np.column_stack([np.ones(n), X])
        label = (rng.random(n) < special.expit(Z @ self.gate)).astype(int)
        eta = np.einsum("np,np->n", Z, self.coef[label])
        if isinstance(self.expert, PoissonExpert):
            return X, rng.poisson(np.exp(eta)).astype(float), label
        if self.classifies:
            return X, (rng.random(n) < special.expit(eta)).astype(int), label
        noise = rng.normal(size=n)
        if self.noise == "student":
            noise = rng.standard_t(5, n) * np.sqrt(3 / 5)
        if self.noise == "uneven":
            noise = noise * (0.4 + 0.6 * np.abs(X[:, 0]))
        return X, eta + np.array(self.spread)[label] * noise, label

    def fit(self, X, y, label):
        """Return the fitted mixture."""
        kind = MixtureOfExpertsRegressor
        if self.classifies:
            kind = MixtureOfExpertsClassifier
        gate = SoftmaxGate(alpha=0)
        return kind(self.expert, 2, gate=gate, init=label, tol=1e-10).fit(X, y)

    @cached_property
    def truth(self):
        """The coefficients, in the order of the summary.

        Where the noise is not what the experts assume they are those that the fit
        tends to: found from half a million rows.
        """
        if self.noise != "normal":
            rng = np.random.default_rng(2**32)
            return self.fit(*self.draw(500_000, rng)).summary().estimates
        values = [self.gate]
        for k in range(2):
            values.append(self.coef[k])
            if self.spread:
                values.append([self.spread[k] ** 2])
        return np.concatenate(values)


ML = LinearExpert(alpha=0, variance_prior=None)
LINES = {"coef": [[1.0, 1.0, 0.5], [-1.0, -0.5, 0.5]], "gate": [0.3, 1.0, -0.5]}
DESIGNS = [
    Design("lines", ML, **LINES, spread=(0.5, 1.0)),
    Design(
        "counts", PoissonExpert(alpha=0), [[0.0, 0.5, 0.2], [2, -0.3, 0.2]], [0, 1, 0]
    ),
    Design(
        "classes",
        LogisticExpert(alpha=0),
        [[2.0, 3.0, 0.0], [-2.0, 0.0, 3.0]],
        [0, 3, 0],
    ),
    Design("lines, t noise", ML, **LINES, spread=(0.4, 0.6), noise="student"),
    Design("lines, uneven noise", ML, **LINES, spread=(0.5, 0.7), noise="uneven"),
]


def one_coverage(plan, n, kinds, seed, n_bootstrap):
    """Return which intervals of one data set cover the truth, by kind."""
    rng = np.random.default_rng(seed)
    X, y, label = plan.draw(n, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = plan.fit(X, y, label)
        out = {}
        for kind in kinds:
            more = {"n_bootstrap": n_bootstrap, "random_state": seed}
            more = more if kind == "bootstrap" else {}
            ends = model.summary(covariance=kind, **more).intervals
            out[kind] = (ends[:, 0] <= plan.truth) & (plan.truth <= ends[:, 1])
    return out


def coverage(plan, n, kinds, n_sets, n_bootstrap, n_jobs):
    """Return rows of the coverage table, one for each kind of covariance."""
    plan.truth  # noqa: B018  known before it is sent to other processes
    found = Parallel(n_jobs=n_jobs)(
        delayed(one_coverage)(plan, n, kinds, seed, n_bootstrap)
        for seed in range(n_sets)
    )
    gate = np.arange(plan.truth.size) < 3
    rows = []
    for kind in kinds:
        share = np.mean([one[kind] for one in found], axis=0)
        rows.append(
            {
                "design": plan.name,
                "n": n,
                "kind": kind,
                "sets": n_sets,
                "gate": share[gate].mean(),
                "experts": share[~gate].mean(),
                "least": share.min(),
                "most": share.max(),
            }
        )
    return rows


def one_test(plan, n, seed):
    """Return p-values of true hypotheses: a useless column in the gate and experts."""
    rng = np.random.default_rng(seed)
    X, y, label = plan.draw(n, rng)
    X = np.column_stack([X, rng.normal(size=n)])
    out = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = plan.fit(X, y, label)
        for part in ("gate", "experts"):
            out[f"Wald, {part}"] = wald_test(model, "x2", part).p_value
            ratio = likelihood_ratio_test(model, X, y, "x2", part)
            out[f"likelihood ratio, {part}"] = ratio.p_value
    return out


def sizes(plan, n, n_sets, n_jobs):
    """Return rows of the table of tests."""
    found = Parallel(n_jobs=n_jobs)(
        delayed(one_test)(plan, n, seed) for seed in range(n_sets)
    )
    return [
        {
            "design": plan.name,
            "n": n,
            "test": test,
            "sets": n_sets,
            "rejected": float(np.mean([one[test] < 0.05 for one in found])),
        }
        for test in found[0]
    ]


# -- tables --------------------------------------------------------------------------


def beside_references(folder, targets):
    """Print and return the table of standard errors."""
    cases = json.loads((folder / "reference.json").read_text())["cases"]
    rows = []
    for case in cases:
        if case["standard_errors"] is None:
            continue
        progress(case["id"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(compare(case, folder))
        row = rows[-1]
        targets.check(row["id"], row.get("reference"), row["ok"], "within 5 %")
    columns = ["id", ("k", "K", "d"), "family", ("n", "coefficients", "d")]
    columns += [
        ("reference", "off reference", ".2e"),
        ("flexmix", "off flexmix", ".2e"),
    ]
    print_table(rows, columns, "Standard errors: largest relative difference")
    return rows


def main():
    """Run the three studies and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of reference.json")
    parser.add_argument("--sets", type=int, default=1000, help="simulated data sets")
    parser.add_argument("--bootstrap-sets", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=200, help="refits of each")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    targets, result = Targets(), {}
    if options.folder:
        result["references"] = beside_references(options.folder, targets)
    kinds = ["observed", "opg", "sandwich"]
    rows = []
    for plan in DESIGNS:
        progress(plan.name)
        for n in (500, 2000):
            rows += coverage(plan, n, kinds, options.sets, 0, options.jobs)
        if plan.name in ("lines", "lines, uneven noise"):
            some = (options.bootstrap_sets, options.bootstrap, options.jobs)
            rows += coverage(plan, 500, ["bootstrap"], *some)
    columns = ["design", ("n", "n", "d"), "kind", ("sets", "sets", "d")]
    columns += [(c, c, ".3f") for c in ("gate", "experts", "least", "most")]
    print_table(rows, columns, "Coverage of intervals of 95 %")
    for row in rows:
        honest = "noise" not in row["design"] or row["kind"] in (
            "sandwich",
            "bootstrap",
        )
        if honest and (row["n"] == 2000 or row["kind"] == "bootstrap"):
            for part in ("gate", "experts"):
                name = f"{row['design']}, n = {row['n']}, {row['kind']}, {part}"
                ok = 0.93 <= row[part] <= 0.97
                targets.check(name, row[part], ok, "0.93 to 0.97")
    tests = []
    for plan in DESIGNS[:2]:
        tests += sizes(plan, 1000, options.sets, options.jobs)
    columns = ["design", ("n", "n", "d"), "test", ("sets", "sets", "d")]
    print_table(tests, [*columns, ("rejected", "rejected", ".3f")], "Tests of 5 %")
    for row in tests:
        name = f"{row['design']}, {row['test']}"
        ok = 0.03 <= row["rejected"] <= 0.07
        targets.check(name, row["rejected"], ok, "0.03 to 0.07")
    write_json(options.json, result | {"coverage": rows, "tests": tests})
    targets.exit()


if __name__ == "__main__":
    main()
