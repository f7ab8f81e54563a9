"""A hard tree as text: rules of the gates, models of the leaves."""

import numpy as np

from skmoe._wording import (
    class_shares,
    expert_lines,
    gate_form,
    noise_of,
    number,
    percent,
    rule_of,
    seen_names,
    short_repr,
    shortened,
    target_labels,
    terms,
)

__all__ = ["TreeText"]


class TreeText:
    """The lines of a hard tree.

    Parameters
    ----------
    hard : HardTree
    names : list of str
        Of all columns.
    decimals, max_columns : int
        See ``HardTree.export_text``.
    """

    def __init__(self, hard, names, decimals, max_columns):
        self.hard, self.tree, self.names = hard, hard.tree_, names
        self.decimals, self.max_columns = decimals, max_columns
        self.node, self.labels = hard.soft_.node_, target_labels(hard.soft_)

    def text(self):
        """Return all lines, from the root on."""
        return "\n".join(self._below(0, "")) + "\n"

    def _below(self, node, indent):
        """Yield the lines of a node and what is below it."""
        children = self.tree.children[node]
        if not children:
            yield from self._leaf(self.tree.leaves.index(node), indent)
            return
        for rule, child in zip(self._rules(node), children, strict=True):
            yield f"{indent}|--- {rule}"
            yield from self._below(child, f"{indent}|   ")

    def _rules(self, node):
        """Return a condition for each child."""
        position = self.tree.inner.index(node)
        gates = self.node.gate
        gate, n_children = gates.gates[position], len(self.tree.children[node])
        form = gate_form(gate)
        if form is None:
            return [f"{short_repr(gate)} chooses {j}" for j in range(n_children)]
        columns = None if gates.columns is None else gates.columns[position]
        names = seen_names(self.names, columns)
        if n_children == 2:
            return self._two_rules(rule_of(form), names)
        # Only differences of scores matter: that of the first child is zero.
        form = form._replace(
            slope=form.slope - form.slope[0],
            intercept=form.intercept - form.intercept[0],
        )
        form, left_out = shortened(form, self.max_columns)
        return [
            f"highest of {n_children}: {number(form.intercept[j], self.decimals)}"
            f"{terms(form.slope[j], names, self.decimals, first=False)}"
            f"{' + ...' if left_out[j] else ''}"
            for j in range(n_children)
        ]

    def _two_rules(self, form, names):
        """Return a condition and its opposite; the first slope is positive in both.

        The child on the right takes the rows where ``slope @ x + intercept > 0``.
        """
        form, left_out = shortened(form, self.max_columns)
        slope, threshold = form.slope[0], -form.intercept[0]
        used = np.flatnonzero(slope)
        flipped = used.size > 0 and slope[used[0]] < 0
        alone = used.size == 1 and not left_out[0]
        unit = (abs(slope[used[0]]) if alone else 1.0) * (-1.0 if flipped else 1.0)
        slope, threshold = slope / unit, threshold / unit
        left = terms(slope, names, self.decimals) or "0"
        left = names[used[0]] if alone else left
        more = " + ..." if left_out[0] else ""
        signs = (">=", "<") if flipped else ("<=", ">")
        return [f"{left}{more} {s} {number(threshold, self.decimals)}" for s in signs]

    def _leaf(self, k, indent):
        """Yield the lines of a leaf, a note behind each."""
        expert = self.node.experts[k][1]
        names = seen_names(self.names, self.node.columns[k])
        lines = expert_lines(
            expert, names, self.labels, self.decimals, self.max_columns
        )
        head, notes = f"leaf {k}: ", self._notes(k, expert, len(lines))
        for i, (line, note) in enumerate(zip(lines, notes, strict=True)):
            lead = f"|--- {head}" if i == 0 else " " * (5 + len(head))
            yield f"{indent}{lead}{line}{note}"

    def _notes(self, k, expert, n_lines):
        """Return mean, noise and share of a leaf, for each of its lines."""
        facts = [[] for _ in range(n_lines)]
        value, noise = self.hard.leaf_value_, noise_of(expert)
        value = None if value is None else np.atleast_1d(value[k])
        if noise is None:
            if value is not None:
                facts[0].append(class_shares(value, self.labels))
            value = None
        for name, each in (("mean", value), ("noise", noise)):
            if each is not None:
                words = [number(one, self.decimals) for one in each]
                words = [", ".join(words)] if n_lines < len(words) else words
                for i, word in enumerate(words):
                    facts[i].append(f"{name} {word}")
        facts[0].append(f"{percent(self.hard.leaf_share_[k])} of rows")
        return [f"  ({', '.join(some)})" if some else "" for some in facts]
