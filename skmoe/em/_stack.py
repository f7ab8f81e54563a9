"""A gated stack: experts that each see all rows, and a gate that chooses.

The experts are not pulled apart by responsibilities; each is fitted to every
row. The gate learns from their out-of-fold predictions where each one is to be
trusted: for regression by the squared error of the gated mean, for
classification by the likelihood of the gated probabilities.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold

from skmoe._multinomial import log_softmax_first
from skmoe.em._node import Node, posterior, take_columns
from skmoe.em._ridge import strongest
from skmoe.em._search import Run, SearchReport
from skmoe.gates._softmax import SoftmaxGate
from skmoe.likelihoods import Gaussian

__all__ = ["fit_stack"]

Array = NDArray[np.float64]

N_FOLDS = 5
MAX_GATE_PASSES = 200
# Ridges of the gate that are tried where it is left to the library.
GATE_RIDGES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e5)


def fit_stack(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    *,
    free_gate: bool = False,
) -> tuple[SearchReport, Run]:
    """Fit every expert to all rows and the gate to out-of-fold predictions.

    Parameters
    ----------
    node : Node
    X, y, weight, n_classes :
        The training rows.
    free_gate : bool
        Whether to choose the gate's ridge by held-out error.

    Returns
    -------
    report : SearchReport
    run : Run
        Its trace is the gate's objective, in nats.
    """
    folds = _out_of_fold(node, X, y, weight, n_classes)
    node.prepare(X, y, weight, n_classes)
    for k, (_, expert) in enumerate(node.experts):
        _fit_part(expert, node.view(X, k), y, weight)
        _honest_dispersion(expert, folds[k], y, weight)
    gate_view = take_columns(X, node.gate_columns)
    if n_classes is None and isinstance(node.gate, SoftmaxGate):
        means = [
            np.asarray(expert.likelihood.mean(fold, expert.dispersion))
            for (_, expert), fold in zip(node.experts, folds, strict=True)
        ]
        if free_gate:
            node.gate = _choose_ridge(gate_view, means, y, weight)
        trace = _squared_error_gate(node.gate, gate_view, means, y, weight)
    else:
        trace = _likelihood_gate(node, gate_view, folds, y, weight)
    log_gate = np.asarray(node.gate.log_proba(gate_view))
    run = Run(
        name="stack",
        objective=trace[-1],
        state=None,
        mass=np.exp(log_gate).T @ weight,
        trace=trace,
        n_passes=len(trace),
        converged=len(trace) < MAX_GATE_PASSES,
    )
    return SearchReport.from_runs([run], []), run


def _out_of_fold(
    node: Node, X: Any, y: Array, weight: Array, n_classes: int | None
) -> list[Array]:
    """Return each expert's predicted parameters for rows it was not fitted to."""
    n_folds = min(N_FOLDS, weight.size)
    if n_classes is None:
        splits = list(KFold(n_folds, shuffle=True, random_state=0).split(weight))
    else:
        rarest = max(2, min(n_folds, int(np.bincount(y).min())))
        folds = StratifiedKFold(rarest, shuffle=True, random_state=0)
        splits = list(folds.split(weight, y))
    out = []
    for k, (_, expert) in enumerate(node.experts):
        view = take_columns(X, node.columns[k])
        held: Array | None = None
        for train, test in splits:
            part = clone(expert)
            if hasattr(expert, "fit_params_"):
                part.set_fit_params(expert.fit_params_)
            part.prepare(view[train], y[train], weight[train], n_classes)
            _fit_part(part, view[train], y[train], weight[train])
            params = np.asarray(part.predict_params(view[test]))
            if held is None:
                held = np.empty((weight.size, *params.shape[1:]))
            held[test] = params
        assert held is not None
        out.append(held)
    return out


def _fit_part(expert: Any, X: Any, y: Array, weight: Array) -> None:
    """Fit an expert to rows that are its own; some need several M-steps."""
    getattr(expert, "fit_alone", expert.m_step)(X, y, weight)


def _choose_ridge(X: Any, folds: list[Array], y: Array, weight: Array) -> SoftmaxGate:
    """Return a gate with the strongest ridge that is not clearly worse.

    Weights that hardly depend on x are hard to beat where the experts are good
    everywhere, so the gate has to earn its slopes on held-out rows.
    """
    splits = list(KFold(N_FOLDS, shuffle=True, random_state=1).split(weight))
    score = np.empty((len(GATE_RIDGES), weight.size))
    for i, alpha in enumerate(GATE_RIDGES):
        for train, test in splits:
            gate = SoftmaxGate(alpha=alpha)
            gate.prepare(X[train], weight[train], len(folds))
            held = [fold[train] for fold in folds]
            _squared_error_gate(gate, X[train], held, y[train], weight[train])
            proba = np.exp(gate.log_proba(X[test]))
            mean = sum(
                proba[:, k].reshape(-1, *[1] * (y.ndim - 1)) * fold[test]
                for k, fold in enumerate(folds)
            )
            error = (y[test] - mean).reshape(test.size, -1)
            score[i, test] = -(error * error).sum(axis=1)
    gate = SoftmaxGate(alpha=GATE_RIDGES[strongest(score, weight, 2.0)])
    gate.prepare(X, weight, len(folds))
    return gate


def _honest_dispersion(expert: Any, held: Array, y: Array, weight: Array) -> None:
    """Set a Gaussian's variance to that of its out-of-fold residuals."""
    if not isinstance(expert.likelihood, Gaussian):
        return
    error = y - held
    variance = weight @ (error * error) / weight.sum()
    tiny = np.finfo(float).tiny
    if np.ndim(expert.dispersion) < 2:
        expert.dispersion = np.maximum(variance, tiny)
        return
    covariance = (error * weight[:, None]).T @ error / weight.sum()
    # A ridge of rounding size keeps outputs that agree exactly invertible.
    expert.dispersion = covariance + np.diag(1e-10 * variance + tiny)


def _squared_error_gate(
    gate: SoftmaxGate, X: Any, folds: list[Array], y: Array, weight: Array
) -> list[float]:
    """Fit the gate to the profile likelihood of the gated mean.

    The objective is ``-W/2 log(sum w |y - sum_k g_k f_k|^2 / W)`` plus the gate's
    penalty, with W the total weight; L-BFGS climbs it.
    """
    outputs = y.reshape(weight.size, -1)
    means = np.stack([fold.reshape(weight.size, -1) for fold in folds])
    scale = np.maximum(
        weight @ (outputs - weight @ outputs / weight.sum()) ** 2, 1e-300
    )
    matrix = gate.design_.matrix(X)
    kernel, total = gate.kernel_, float(weight.sum())
    trace: list[float] = []

    def negative(vector: Array) -> tuple[float, Array]:
        coef = vector.reshape(kernel.coef.shape)
        proba = log_softmax_first(coef @ matrix)[1]
        mean = np.einsum("kn,knq->nq", proba, means)
        error = (outputs - mean) / scale
        square = float(weight @ (error * (outputs - mean)).sum(axis=1))
        square = max(square, 1e-300)
        kernel.coef = coef
        value = -0.5 * total * np.log(square / total) + kernel.penalty
        trace.append(float(value))
        pull = np.einsum("knq,nq->kn", means - mean, error) * (weight * total / square)
        gradient = (pull * proba) @ matrix.T - kernel.ridge * coef
        return -value, -gradient.ravel()

    result = optimize.minimize(
        negative,
        kernel.parameters,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_GATE_PASSES},
    )
    kernel.parameters = np.asarray(result.x)
    return list(np.maximum.accumulate(trace))


def _likelihood_gate(
    node: Node, X: Any, folds: list[Array], y: Array, weight: Array
) -> list[float]:
    """Fit the gate by EM with the experts' out-of-fold densities held fixed."""
    density = np.stack(
        [
            expert.likelihood.log_prob(y, fold, expert.dispersion)
            for (_, expert), fold in zip(node.experts, folds, strict=True)
        ]
    )
    trace: list[float] = []
    for _ in range(MAX_GATE_PASSES):
        resp, log_lik = posterior(np.asarray(node.gate.log_joint(X)).T + density)
        trace.append(float(weight @ log_lik) + node.gate.penalty)
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-7 * (1.0 + abs(trace[-1])):
            break
        node.gate.m_step(X, np.ascontiguousarray(resp.T), weight)
    return trace
