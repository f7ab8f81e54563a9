"""Tests of what a column does in the gate or in the experts."""

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skmoe.gates._constant import ConstantGate
from skmoe.statistics._result import HypothesisTest

__all__ = ["likelihood_ratio_test", "wald_test"]


def wald_test(model, column, part="gate", **summary_params):
    """Test by the fit alone that a column has no effect in a part.

    Parameters
    ----------
    model : fitted mixture
    column : str or list of str
        Name of a column, or several; ``x0``, ``x1``, ... where X had no names.
    part : str, default="gate"
        "gate", the name of an expert, or "experts".
    **summary_params : dict
        Of ``model.summary``: rows, and the kind of covariance.

    Returns
    -------
    result : HypothesisTest

    Raises
    ------
    ValueError
        If there is no such coefficient, or it has no standard error.

    Notes
    -----
    Where a gate separates, standard errors grow faster than coefficients and Wald's
    test loses its power (Hauck, W. W. and Donner, A. 1977. Wald's test as applied to
    hypotheses in logit analysis. JASA 72): use `likelihood_ratio_test` there.
    """
    return model.summary(**summary_params).wald_test(column, part)


def likelihood_ratio_test(
    model, X, y, column, part="gate", *, sample_weight=None, **fit_params
):
    """Test by a second fit that a column has no effect in a part.

    The mixture is fitted again without the column in that part, from the
    responsibilities of the given fit. Twice the difference of log-likelihoods is
    chi-squared if the column has no effect (Wilks 1938), for fits of maximum
    likelihood: ``alpha=0`` on gate and experts.

    Parameters
    ----------
    model : fitted flat mixture
    X, y : the rows that it was fitted to
    column : str or int, or list of them
        A column of X, or several.
    part : str, default="gate"
        "gate", the name of an expert, or "experts" for all of them.
    sample_weight : array-like of shape (n_samples,), default=None
    **fit_params : dict
        ``groups``, ``offset``, ``trials``, as in ``fit``.

    Returns
    -------
    result : HypothesisTest

    Raises
    ------
    ValueError
        If the mixture is a tree, there is no such column or part, or the smaller
        model is the better one: then the given fit is not at its best maximum.
    """
    check_is_fitted(model, "node_")
    if not hasattr(model, "n_experts"):
        raise ValueError(
            "likelihood_ratio_test needs a flat mixture, got "
            f"{type(model).__name__}; use wald_test."
        )
    removed = _positions(model, column)
    smaller = _without(model, removed, part)
    known = {k: v for k, v in fit_params.items() if v is not None}
    resp = model.responsibilities(X, y, **known)
    smaller.set_params(init=np.asarray(resp), n_init=None, warm_start=False)
    smaller.fit(X, y, sample_weight=sample_weight, **known)
    full = model.log_likelihood(X, y, sample_weight, **known)
    less = smaller.log_likelihood(X, y, sample_weight, **known)
    df = model.n_parameters_ - smaller.n_parameters_
    said = f"{' and '.join(map(str, _listed(column)))} has no effect in {part}"
    if df < 1:
        raise ValueError(f"the part {part!r} does not see column {column!r}.")
    statistic = 2.0 * (full - less)
    if statistic < -1e-4 * max(abs(full), 1.0):
        raise ValueError(
            f"the model without {column!r} has the higher log-likelihood, {less:.4f} "
            f"against {full:.4f} nats: the given fit is not at its best maximum. Fit "
            "it again with more starts (n_init)."
        )
    return HypothesisTest.chi2("Likelihood-ratio", said, max(statistic, 0.0), df)


def _listed(column):
    return [column] if isinstance(column, str | int | np.integer) else list(column)


def _positions(model, column):
    """Return the positions of columns of X; ``x3`` is the fourth of nameless ones."""
    wanted = _listed(column)
    if not hasattr(model, "feature_names_in_"):
        known = {f"x{j}": j for j in range(model.n_features_in_)}
        wanted = [known.get(name, name) for name in wanted]
    return set(model._resolve(wanted, "column"))


def _without(model, removed, part):
    """Return an unfitted mixture whose parts do not see some columns.

    Raises
    ------
    ValueError
        If there is no such part, or an expert is left without a column.
    """
    node = model.node_
    names = [name for name, _ in node.experts]
    if part not in ("gate", "experts", *names):
        raise ValueError(
            f'part must be "gate", "experts" or the name of an expert, {names}; got '
            f"{part!r}."
        )
    gate, seen = clone(node.gate), _user_columns(model, node.gate_columns)
    if part == "gate":
        seen = [j for j in seen if j not in removed]
    if not seen:
        gate, seen = ConstantGate(), None
    experts = []
    for (name, expert), columns in zip(node.experts, node.columns, strict=True):
        own = _user_columns(model, columns, len(getattr(expert, "known", ())))
        if part in ("experts", name):
            own = [j for j in own if j not in removed]
        if not own:
            raise ValueError(
                f"without these columns expert {name!r} has none left: use wald_test."
            )
        experts.append((name, clone(expert), own))
    return clone(model).set_params(experts=experts, gate=gate, gate_features=seen)


def _user_columns(model, engine_columns, n_known=0):
    """Return the columns of X that a part sees, known quantities left out."""
    atoms = model._plan.columns
    if engine_columns is not None:
        atoms = [atoms[j] for j in engine_columns]
    atoms = atoms[: len(atoms) - n_known]
    return list(dict.fromkeys(atom[1] for atom in atoms))
