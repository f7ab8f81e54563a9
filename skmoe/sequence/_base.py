"""The fit of a Markov mixture of experts: constructor, node, known states."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np

from skmoe._arguments import check_enough_rows, resolve_experts, resolve_gate
from skmoe._em_shell import FittedByEM
from skmoe._seen import lay_out
from skmoe._sklearn import Interval, StrOptions
from skmoe._training import read_training_rows
from skmoe._xp import to_numpy
from skmoe.em._chain_node import ChainNode
from skmoe.gates._constant import ConstantGate
from skmoe.gates._markov import MarkovGate
from skmoe.sequence._place import (
    check_same_weight,
    known_states,
    names_of,
    read_chains,
)

__all__ = ["BaseMarkovMixture"]

# Rows that a default constant gate adds to each expert (Jeffreys' prior): that a
# sequence begins with one must not rule out that others begin otherwise, nor a move
# that was never seen be ruled out.
ADDED_ROWS = 0.5


class BaseMarkovMixture(FittedByEM):
    """What regressor and classifier share.

    Parameters
    ----------
    experts, n_experts, gate, initial_gate, order : see the subclasses
    pooling, gate_features, initial_features : see the subclasses
    expert_features, continues, init, n_init, max_iter : see the subclasses
    tol, acceleration, shared_dispersion : see the subclasses
    categorical_features, unlabelled, warm_start : see the subclasses
    random_state, n_jobs, verbose : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        "experts": "no_validation",
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "gate": "no_validation",
        "initial_gate": "no_validation",
        "order": [Interval(Integral, 0, 1, closed="both")],
        "pooling": "no_validation",
        "gate_features": "no_validation",
        "initial_features": "no_validation",
        "expert_features": "no_validation",
        "continues": ["boolean"],
        "init": [str, callable, "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "acceleration": [StrOptions({"auto", "squarem"}), None],
        "shared_dispersion": ["boolean"],
        "categorical_features": "no_validation",
        "unlabelled": "no_validation",
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    # Rows follow each other: no part of another mixture, which gives them weights.
    _in_time = True
    # What a flat mixture can be told beside, and this one cannot.
    top_k = balance = device = checkpoint = None
    algorithm, capacity = "em", 1.25
    _takes_gaps_in_y = True

    def __init__(
        self,
        experts=None,
        n_experts=2,
        *,
        gate=None,
        initial_gate=None,
        order=1,
        pooling="mean",
        gate_features=None,
        initial_features=None,
        expert_features=None,
        continues=False,
        init="auto",
        n_init=None,
        max_iter=1000,
        tol=1e-7,
        acceleration="auto",
        shared_dispersion=False,
        categorical_features="from_dtype",
        unlabelled=None,
        warm_start=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.experts = experts
        self.n_experts = n_experts
        self.gate = gate
        self.initial_gate = initial_gate
        self.order = order
        self.pooling = pooling
        self.gate_features = gate_features
        self.initial_features = initial_features
        self.expert_features = expert_features
        self.continues = continues
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.acceleration = acceleration
        self.shared_dispersion = shared_dispersion
        self.categorical_features = categorical_features
        self.unlabelled = unlabelled
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags

    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        lengths=None,
        groups=None,
        times=None,
        states=None,
    ):
        """Fit gates and experts by EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in time; all of them are one sequence unless ``lengths`` or
            ``groups`` say otherwise. Gaps are NaN.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            NaN where a response is missing: the row then says nothing of its expert,
            but time passes.
        sample_weight : array-like of shape (n_samples,), default=None
            The same in all rows of a sequence; one of weight w counts as w sequences.
        lengths : array-like of int of shape (n_sequences,), default=None
            Rows of each sequence, which stand one after the other.
        groups : array-like of shape (n_samples,), default=None
            The sequence of each row, by name. Rows of a sequence follow each other as
            they stand, with rows of others between them or not.
        times : array-like of shape (n_samples,), default=None
            Checked to rise within each sequence. None: the index of a data frame, if
            it is one of dates. Rows are one step apart whatever the times.
        states : array-like of int of shape (n_samples,), default=None
            Known experts of rows, as positions in ``experts_``; -1 where unknown.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If an argument or the data are not as described.
        ExpertError
            If an expert or a gate raises inside EM; the estimator is then left as it
            was.
        """
        if X is None:
            raise ValueError(
                "X is None. For a series without inputs give a column of zeros, and "
                "expert_features=[], gate_features=[]."
            )
        self._time = {"lengths": lengths, "groups": groups, "times": times}
        self._time["states"] = states
        try:
            return super().fit(to_numpy(X), to_numpy(y), sample_weight)
        finally:
            vars(self).pop("_time", None)

    def _read_rows(self, X, y, sample_weight, beside):
        """Return the training rows, with the sequences as their units."""
        rows = read_training_rows(self, X, y, sample_weight, **beside)
        time, n_rows = self._time, rows.keep.size
        chains = read_chains(X, n_rows, time["lengths"], time["groups"], time["times"])
        weight = np.zeros(n_rows)
        weight[rows.keep] = rows.weight
        if self.order:  # rows without a past may weigh what they like
            check_same_weight(weight, chains)
        size = len(self._named_experts) or self.n_experts
        chains.state = known_states(time["states"], n_rows, size)
        # Sequences without weight are not there.
        time["n_given"] = chains.n_sequences
        time["names"] = names_of(time["groups"], rows.keep)
        chains = chains.take(rows.keep)
        chains.labelled = rows.labelled
        rows.units = chains
        return rows

    def _make_node(self, rng, n_samples, shape=None):
        """Return a node of fresh parts, as the constructor's arguments say."""
        experts, columns = resolve_experts(
            self.experts,
            shape or self.n_experts,
            self._default_expert(),
            rng,
            self._n_classes() is not None,
        )
        size = len(experts)
        check_enough_rows(n_samples, size)
        views = [
            self._some(self.expert_features if cols is None else cols, f"{name!r}")
            for (name, _), cols in zip(experts, columns, strict=True)
        ]
        gates = [
            self._gate(self.gate, self.gate_features, rng)
            for _ in range(size if self.order else 1)
        ]
        initial = self._initial(rng) if self.order else None
        gate_columns = [
            self._some(self.initial_features, "initial_features"),
            self._some(self.gate_features, "gate_features"),
        ]
        both = [initial or gates[0], gates[0]]
        views, seen = lay_out(
            self._plan, (experts, views, both, gate_columns), self._resolve
        )
        return ChainNode(
            MarkovGate(initial, gates, seen),
            experts,
            views,
            seen[1],
            shared_dispersion=self.shared_dispersion,
            n_jobs=self.n_jobs,
            clones=not self._named_experts,
        )

    def _fixed_leaves(self):
        # Known states go by the places of experts: none is dropped.
        named = vars(self).get("_time", {}).get("states") is not None
        return named or super()._fixed_leaves()

    def _initial(self, rng):
        if self.initial_gate is None:
            return ConstantGate(alpha=ADDED_ROWS)
        return self._gate(self.initial_gate, self.initial_features, rng)

    def _gate(self, gate, columns, rng):
        """Return a fresh gate; without inputs, the default is a constant one."""
        if gate is None and columns is not None and np.size(columns) == 0:
            return ConstantGate(alpha=ADDED_ROWS)
        return resolve_gate(gate, rng)

    def _some(self, columns, owner):
        """Return positions of columns; an empty list stands for no inputs."""
        if columns is not None and np.size(columns) == 0:
            return []
        return self._resolve(columns, owner)

    def _keep(self, rows, kind, node, report, best):
        chains = rows.units
        node.units = None
        found = node.passage(rows.X, rows.y, chains)
        super()._keep(rows, kind, node, report, best)
        self.final_state_proba_ = found.filtered[:, chains.last].T
        self._sequence_names = self._time["names"]
        self._n_given = self._time["n_given"]

    def _attributes_of(self, node):
        gate = node.gate
        found = {"initial_gate_": gate.initial, "transition_gates_": gate.transitions}
        return super()._attributes_of(node) | found
