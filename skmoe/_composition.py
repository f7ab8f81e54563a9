"""A mixture as a composition: names, nested parameters, tags and metadata."""

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)

from skmoe._arguments import all_take, resolve_gate
from skmoe._seen import takes_gaps
from skmoe._sklearn import BaseComposition, raise_for_params, safe_indexing
from skmoe.gates._classifier import ClassifierGate

__all__ = ["NamedExperts", "NamedParameters", "hand_metadata"]


class NamedParameters(BaseComposition):
    """Parameters of experts that may be a list with names."""

    @property
    def _named_experts(self):
        if not isinstance(self.experts, (list, tuple)):
            return []
        entries = [e for e in self.experts if isinstance(e, (list, tuple))]
        if len(entries) < len(self.experts) or any(len(e) < 2 for e in entries):
            return []  # ill-formed: refused, with a message, at fit
        return [(name, expert) for name, expert, *_ in entries]

    @_named_experts.setter
    def _named_experts(self, value):
        self.experts = [
            (name, expert, *item[2:])
            for (name, expert), item in zip(value, self.experts, strict=True)
        ]

    def get_params(self, deep=True):
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Also return the parameters of nested parts: ``experts__<param>``, or
            ``<name>`` and ``<name>__<param>`` for a list of experts.

        Returns
        -------
        params : dict
        """
        if isinstance(self.experts, (list, tuple)) and deep:
            return self._get_params("_named_experts", deep=True)
        return super().get_params(deep=deep)

    def set_params(self, **params):
        """Set parameters, also nested ones such as ``experts__alpha``.

        Parameters
        ----------
        **params : dict
            As `get_params` names them.

        Returns
        -------
        self : estimator
        """
        if "experts" in params:
            self.experts = params.pop("experts")
        self._set_params("_named_experts", **params)
        return self


class NamedExperts(NamedParameters):
    """What a mixture needs since its experts may be a list with names.

    Subclasses have ``experts``, ``n_experts`` and ``gate``, and say what
    ``_default_expert()`` is.
    """

    def _leaf_estimators(self):
        """Return the experts, or the one that is cloned."""
        return [expert for _, expert in self._named_experts] or [self.experts]

    def _n_clones(self):
        """Return how many experts a single estimator is cloned to, at most."""
        return self.n_experts

    def _items(self, shape=None):
        """Return the experts as children of one node: nested lists at most."""
        if isinstance(self.experts, (list, tuple)):
            return list(self.experts)
        return [self.experts] * (shape or self.n_experts)

    def get_metadata_routing(self):
        """Return which metadata ``fit`` takes and passes on to the experts.

        Returns
        -------
        routing : MetadataRouter
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="fit")
        for name, expert in self._named_experts or [("experts", self.experts)]:
            if hasattr(expert, "get_metadata_routing"):
                router.add(**{name: expert}, method_mapping=mapping)
        return router

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            parts = self._tagged_parts()
            tags.input_tags.sparse = all_take(parts, "sparse")
            tags.input_tags.allow_nan = all(takes_gaps(part) for part in parts)
        except (TypeError, ValueError, AttributeError):
            # Parts that are no estimators are refused, with a message, at fit.
            tags.input_tags.sparse = tags.input_tags.allow_nan = False
        tags.array_api_support = True
        return tags

    def _tagged_parts(self):
        parts = [
            self._default_expert() if expert is None else expert
            for expert in self._leaf_estimators()
        ]
        gate = resolve_gate(self.gate, np.random.RandomState(0))
        # An adapter of a classifier takes what the classifier takes.
        parts.append(gate.classifier if isinstance(gate, ClassifierGate) else gate)
        for part in parts:
            get_tags(part)
        return parts

    def _check_names(self):
        """Raise a ValueError if an expert has the name of a parameter."""
        names = {name for name, _ in self._named_experts if isinstance(name, str)}
        taken = sorted(names & set(self.get_params(deep=False)))
        if taken:
            raise ValueError(
                f"names of experts must not be those of parameters, got {taken}."
            )

    def _route(self, fit_params):
        """Return the routed fit parameters of each expert, by name.

        Sample weights are not routed: each M-step sets its own.
        """
        raise_for_params(fit_params, self, "fit")
        if not fit_params:
            return {}
        routed = process_routing(self, "fit", **fit_params)
        out = {}
        for name, expert in self._named_experts or [("experts", self.experts)]:
            params = dict(routed.get(name, {}).get("fit", {}))
            params.pop("sample_weight", None)
            out[name] = params
            if isinstance(expert, NamedExperts):  # unpacked: its own experts get them
                inside = expert._route(params).items()
                out |= {f"{name}.{inner}": some for inner, some in inside}
        if "experts" in out:
            out = {f"expert{k}": out["experts"] for k in range(self._n_clones())}
        return out


def hand_metadata(node, routed, keep):
    """Give routed fit parameters to the experts they are meant for."""
    for name, expert in node.experts:
        params = routed.get(name, {})
        if params and hasattr(expert, "set_fit_params"):
            expert.set_fit_params(
                {key: _rows_of(value, keep) for key, value in params.items()}
            )


def _rows_of(value, keep):
    """Return the rows of positive weight of per-row metadata."""
    if np.ndim(value) and len(value) == keep.size and not keep.all():
        return safe_indexing(value, np.flatnonzero(keep))
    return value
