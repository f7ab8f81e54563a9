"""From constructor arguments to a node of fresh parts, flat or a tree."""

from sklearn.utils import check_random_state

from skmoe._arguments import (
    check_enough_rows,
    resolve_columns,
    resolve_experts,
    resolve_gate,
)
from skmoe._seen import lay_out
from skmoe._tree import Tree
from skmoe._tree_arguments import View, holds_mixture, resolve_tree
from skmoe.em._build import assignment
from skmoe.em._node import Node
from skmoe.gates._tree import GateTree

__all__ = ["NodeMaker"]


class NodeMaker:
    """Makes nodes, for a mixture with its constructor's arguments.

    While ``_plan`` is open, the parts of the first node say which columns they see.
    """

    def _make_node(self, rng, n_samples, shape=None):
        """Return a node of fresh parts, as the constructor's arguments say.

        Parameters
        ----------
        shape : int, Tree or None
            Another number of experts, or another tree, than the arguments'.
        """
        if isinstance(shape, Tree) or holds_mixture(self.experts):
            items = self._items(shape)
            return self._make_tree_node(
                rng, n_samples, items[0] if len(items) == 1 else items
            )
        experts, columns = resolve_experts(
            self.experts,
            shape or self.n_experts,
            self._default_expert(),
            rng,
            self._n_classes() is not None,
        )
        check_enough_rows(n_samples, len(experts))
        views = [
            self._resolve(cols, f"expert {name!r}")
            for (name, _), cols in zip(experts, columns, strict=True)
        ]
        gate = resolve_gate(self.gate, rng)
        gate_view = self._resolve(self.gate_features, "gate_features")
        views, gate_views = lay_out(
            self._plan, (experts, views, [gate], [gate_view]), self._resolve
        )
        return Node(
            gate,
            experts,
            views,
            gate_views[0],
            shared_dispersion=self.shared_dispersion,
            assign=assignment(self.algorithm, rng),
            n_jobs=self.n_jobs,
            clones=not self._named_experts,
        )

    def _make_tree_node(self, rng, n_samples, items):
        """Return a node whose gate is a tree of gates."""
        names = getattr(self, "feature_names_in_", None)
        view = View(self.gate, self.gate_features, names, self.n_features_in_)
        tree, experts, columns, gates, gate_columns = resolve_tree(
            items, view, self._default_expert(), rng, self._n_classes() is not None
        )
        check_enough_rows(n_samples, len(experts), "n_leaves")
        # A tree that is still a leaf says what the gates to come will see.
        to_come = [] if gates else [resolve_gate(self.gate, check_random_state(0))]
        seen = [None] if to_come else gate_columns
        columns, gate_columns = lay_out(
            self._plan, (experts, columns, gates or to_come, seen), self._resolve
        )
        gate_columns = gate_columns[: len(gates)]
        return Node(
            GateTree(tree, gates, gate_columns, getattr(self, "path_tol", 0.0)),
            experts,
            columns,
            shared_dispersion=self.shared_dispersion,
            assign=assignment(self.algorithm, rng),
            n_jobs=self.n_jobs,
            clones=not self._fixed_leaves(),
        )

    def _resolve(self, columns, owner):
        """Return positions of columns that the user names; None for all."""
        names = getattr(self, "feature_names_in_", None)
        return resolve_columns(columns, names, self.n_features_in_, owner)

    def _fixed_leaves(self):
        """Return whether the user chose each expert, so that none is dropped."""
        listed = isinstance(self.experts, (list, tuple))
        return listed or holds_mixture(self.experts)
