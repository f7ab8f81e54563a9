"""The diagram of a mixture in notebooks: the gate beside its experts."""

import numpy as np

from skmoe._arguments import resolve_gate
from skmoe._sklearn import VisualBlock
from skmoe._tree_arguments import is_entry
from skmoe._wording import expert_lines, number, percent, target_labels
from skmoe._xp import to_numpy
from skmoe.gates._tree import GateTree, is_generative, single_gate
from skmoe.reading._findings import behind_best

__all__ = ["diagram"]

# Experts that are drawn, those of the largest share; a box counts the others.
MAX_DRAWN = 8
# Columns of an expert's formula.
MAX_COLUMNS = 4


def diagram(model):
    """Return a mixture as a block of scikit-learn's diagrams.

    Gate and experts stand side by side; in a tree, a gate beside the blocks of its
    children. Once fitted, each expert has its share of the rows and its formula, and a
    box above tells the log-likelihood.

    Parameters
    ----------
    model : mixture

    Returns
    -------
    block : VisualBlock
    """
    if not hasattr(model, "node_"):
        return _unfitted(model, _given(model))
    return VisualBlock("serial", [_fit_box(model), _fitted(model)], dash_wrapped=False)


# -- before fit --------------------------------------------------------------------


def _given(model):
    """Return the experts that the user gave, nested as given; None for clones."""
    experts = model.experts
    listed = isinstance(experts, (list, tuple)) and not is_entry(experts)
    return list(experts) if listed else None


def _unfitted(model, items, *, inner=False):
    """Return the block of an unfitted gate and experts, or of a part of a tree."""
    gate = resolve_gate(model.gate, np.random.RandomState(0))
    if items is None:
        expert = model._default_expert() if model.experts is None else model.experts
        return _side_by_side(
            gate, [expert], [f"experts: {model._n_clones()} × {type(expert).__name__}"]
        )
    shown, labels = [], []
    for item in items[:MAX_DRAWN]:
        if isinstance(item, list):
            shown.append(_unfitted(model, item, inner=True))
            labels.append(None)
        else:
            named = is_entry(item)
            shown.append(item[1] if named else item)
            labels.append(item[0] if named else type(item).__name__)
    more = len(items) - len(shown)
    return _side_by_side(gate, shown, labels, more=more, inner=inner)


# -- after fit ---------------------------------------------------------------------


def _fitted(model):
    """Return the block of the fitted gate and experts."""
    share = np.array(model._mass) / sum(model._mass)
    gate = single_gate(model.gate_)
    drawn = range(share.size)
    if share.size > MAX_DRAWN:
        drawn = np.sort(np.argsort(-share, kind="stable")[:MAX_DRAWN])
    elif isinstance(gate, GateTree):
        return _branch(model, share, gate, 0)
    if isinstance(gate, GateTree):
        gate = _note(f"{len(gate.gates)} gates", "export_text() prints their rules.")
    leaves = [_leaf(model, share, int(k)) for k in drawn]
    shown, labels, details = zip(*leaves, strict=True)
    return _side_by_side(gate, shown, labels, details, share.size - len(shown))


def _branch(model, share, gates, node):
    """Return the block of a node of a tree."""
    tree, children = gates.tree, []
    for child in tree.children[node]:
        if tree.children[child]:
            children.append((_branch(model, share, gates, child), None, None))
        else:
            children.append(_leaf(model, share, tree.leaves.index(child)))
    gate = gates.gates[tree.inner.index(node)]
    return _side_by_side(gate, *zip(*children, strict=True), inner=node > 0)


def _leaf(model, share, k):
    """Return an expert with its label and its formula."""
    name, expert = model.expert_names_[k], model.experts_[k]
    given = [own for own, _ in model._named_experts]
    # What stands before a colon is what its parameters are called.
    label = f"{name}: " if name in given else f"experts: {name}, "
    names = model.part_feature_names(k)
    lines = expert_lines(expert, names, target_labels(model), 3, MAX_COLUMNS)
    return expert, f"{label}{percent(share[k])} of rows", "\n".join(lines)


def _fit_box(model):
    """Return a box that tells how the fit went."""
    report, names = model.search_, model.expert_names_
    head, value = _height(model)
    converged = "" if model.converged_ else "not "
    lines = [
        f"experts     {len(names)}",
        f"parameters  {model.n_parameters_}",
        f"EM          {model.n_iter_} passes, {converged}converged",
        f"starts      {len(report.names)}",
        f"run to end  {sum(report.finished)}",
        f"at best     {report.n_reached_best}",
    ]
    behind = behind_best(report)
    if behind is not None:
        lines.append(f"next best   {number(behind, 1)} nats lower")
    return _note(f"{head} {value:,.1f} nats", "\n".join(lines))


def _height(model):
    """Return what EM climbed, and how high: the log-likelihood if that is known."""
    value = float(to_numpy(model.objective_trace_)[-1])
    gate = single_gate(model.gate_)
    root = gate.gates[0] if isinstance(gate, GateTree) else gate
    plain = model.algorithm == "em" and model.balance is None
    if plain and not is_generative(root):
        return "log-likelihood", value - model.node_.penalty
    return "objective", value


# -- blocks ------------------------------------------------------------------------


def _side_by_side(gate, experts, labels, details=None, more=0, *, inner=False):
    """Return a gate and its children in parallel, in a frame inside a tree."""
    details = [None] * len(labels) if details is None else details
    blocks = [_bare(gate), *map(_bare, experts)]
    labels, details = ["gate", *labels], [None, *details]
    if more:
        blocks.append(_note(f"{more} more", "Not drawn."))
        labels.append(None)
        details.append(None)
    return VisualBlock(
        "parallel", blocks, names=labels, name_details=details, dash_wrapped=inner
    )


def _bare(part):
    """Return an adapted estimator as what was adapted, fitted if it is."""
    for name in ("estimator", "classifier"):
        if hasattr(part, name) and type(part).__module__.startswith("skmoe."):
            fitted = getattr(part, f"{name}_", None)
            return getattr(part, name) if fitted is None else fitted
    return part


def _note(text, details):
    """Return a box with a line of text, and more behind it."""
    return VisualBlock("single", None, names=text, name_details=details)
