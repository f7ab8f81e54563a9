"""Gates on transformed columns: splines, polynomials, bins, kernels."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import get_tags

from skmoe._expansion import (
    check_transformer,
    fitted_transformer,
    set_seeds,
    takes_gaps,
    transformed,
)
from skmoe._protocols import Gate, is_parametric
from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._constant import check_prepared
from skmoe.gates._softmax import SoftmaxGate

__all__ = ["ExpandedGate", "copied_gate", "is_gate"]


def is_gate(thing):
    """Return whether an instance has the methods of the Gate protocol."""
    if isinstance(thing, type):
        return False
    return hasattr(thing, "log_joint") or isinstance(thing, Gate)


def copied_gate(gate):
    """Return a copy of a gate that an M-step of either leaves alone."""
    # Gates move in place; an adapter alone replaces what it fitted, and a gate
    # behind a transformer knows what to share.
    if isinstance(gate, ClassifierGate | ExpandedGate):
        return copy.copy(gate)
    return copy.deepcopy(gate)


def _of_native(name, doc):
    """Return a property that reads and writes an attribute of the inner gate."""

    def read(self):
        return getattr(self.native, name)

    def write(self, value):
        setattr(self.gate_, name, value)

    return property(read, write, doc=doc)


class ExpandedGate(MetaEstimatorMixin, BaseEstimator):
    """A gate on transformed columns: ``g_k(x) = gate_k(t(x))``.

    The transformer t is fitted once, to all rows of positive weight, and stays as
    it is while EM moves the gate: borders between experts may bend, and the gate
    keeps its M-step, its prior and its number of parameters (what the transformer
    learned is not counted). A `~sklearn.pipeline.Pipeline` whose last step is a
    gate becomes one of these by itself.

    Row weights reach each part of the transformer whose ``fit`` takes
    ``sample_weight``, as in `~skmoe.experts.ExpandedExpert`. It sees no y.

    Parameters
    ----------
    transformer : transformer
        Or a Pipeline of transformers. Its output must be numeric and finite (NaN is
        allowed before a `GaussianGate`), dense or sparse. Every nested
        ``random_state`` that is None, the gate's too, gets a fixed seed.
    gate : Gate, default=None
        None: ``SoftmaxGate()``. It standardises the transformed columns.

    Attributes
    ----------
    transformer_ : fitted transformer
    gate_ : Gate
        Its coefficients are those of the transformed columns.

    Notes
    -----
    ``prepare`` and ``m_step`` remember X, by identity, with its transformed
    columns, so that EM transforms the training rows once. ``finish`` and pickling
    forget them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from skmoe.gates import ExpandedGate
    >>> X, weight = np.linspace(-2.0, 2.0, 9)[:, None], np.ones(9)
    >>> inside = np.abs(X) < 1.2
    >>> resp = np.hstack([inside, ~inside]).astype(float)
    >>> gate = ExpandedGate(PolynomialFeatures(2, include_bias=False))
    >>> gate.prepare(X, weight, n_experts=2)
    >>> for _ in range(9):
    ...     gate.m_step(X, resp, weight)
    >>> gate.log_proba(X).argmax(axis=1)
    array([1, 1, 0, 0, 0, 0, 0, 1, 1])
    """

    _train = None  # (X, transformed X) of the training rows

    def __init__(self, transformer, gate=None):
        self.transformer = transformer
        self.gate = gate

    def __sklearn_tags__(self):
        self._check_parts()
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.transformer).input_tags
        gate_takes = get_tags(self._template).input_tags.allow_nan
        tags.input_tags.allow_nan = takes_gaps(self.transformer, gate_takes)
        return tags

    def prepare(self, X, weight, n_experts):
        """Fit the transformer, and let the gate fix its scales and priors.

        Raises
        ------
        TypeError
            If the transformer cannot transform, or the gate is none.
        ValueError
            If the transformer loses rows, or returns values that the gate does not
            take.
        """
        self.check_parameters()
        self._train = None
        keep = np.flatnonzero(weight > 0)
        rows = (X[keep], weight[keep]) if keep.size < weight.size else (X, weight)
        self.gate_ = clone(self._template)
        set_seeds(self.gate_, np.random.RandomState(0))
        self._allow_nan = bool(get_tags(self.gate_).input_tags.allow_nan)
        self.transformer_ = fitted_transformer(self.transformer, rows[0], None, rows[1])
        expanded = self.expand(X)
        self.gate_.prepare(expanded, weight, n_experts)
        self._train = (X, expanded)

    def check_parameters(self):
        """Raise an error that names the first bad constructor argument."""
        self._check_parts()
        if hasattr(self._template, "check_parameters"):
            self._template.check_parameters()

    def _check_parts(self):
        check_transformer(self.transformer, "ExpandedGate")
        if self.gate is not None and not is_gate(self.gate):
            raise TypeError(
                "ExpandedGate: gate must be None or a gate such as SoftmaxGate(), got "
                f"{self.gate!r}. Give a classifier behind a transformer as a Pipeline "
                "of both."
            )

    @property
    def _template(self):
        return SoftmaxGate() if self.gate is None else self.gate

    @property
    def native(self):
        """The gate behind the transformer: `gate_`, before that `gate`."""
        return self.__dict__.get("gate_", self._template)

    def expand(self, X):
        """Return the transformed columns, as the gate sees them.

        Those of the training rows are remembered during a fit: do not write to
        them.

        Parameters
        ----------
        X : array or sparse array of shape (n_samples, n_features)

        Returns
        -------
        expanded : float64 array or CSR array of shape (n_samples, n_columns)
        """
        if self._train is not None and self._train[0] is X:
            return self._train[1]
        check_prepared(self, "transformer_")
        return transformed(
            self.transformer_, X, "ExpandedGate", allow_nan=self._allow_nan
        )

    def m_step(self, X, resp, weight):
        """Take the gate's M-step on the transformed rows."""
        expanded = self.expand(X)
        self._train = (X, expanded)
        self.gate_.m_step(expanded, resp, weight)

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts)."""
        expanded = self.expand(X)
        return self.gate_.log_proba(expanded)

    def log_joint(self, X):
        """Return what the E-step adds: the inner gate's, of transformed columns."""
        expanded = self.expand(X)
        return self.gate_.log_joint(expanded)

    def finish(self):
        """Forget the training rows, at the end of a fit."""
        self._train = None
        if hasattr(self.gate_, "finish"):
            self.gate_.finish()

    exact_m_step = _of_native("exact_m_step", "Whether it never lowers its objective.")
    n_parameters = _of_native("n_parameters", "Its free parameters.")
    penalty = _of_native("penalty", "Log prior of its parameters.")
    parameters = _of_native("parameters", "Its state as one vector.")
    design_ = _of_native("design_", "Its design, of the transformed columns.")
    kernel_ = _of_native("kernel_", "Its kernel.")
    choose_solver = _of_native("choose_solver", "As in `SoftmaxGate`.")
    make_kernel = _of_native("make_kernel", "As in `SoftmaxGate`.")

    @property
    def parametric(self):
        """Whether the gate's state is one free vector."""
        return is_parametric(self.native)

    @property
    def smooth(self):
        """Whether the gate's objective has no kinks."""
        return bool(getattr(self.native, "smooth", True))

    @property
    def generative(self):
        """Whether the gate models its columns, here the transformed ones."""
        return bool(getattr(self.native, "generative", False))

    # -- what must not travel --------------------------------------------------

    def __getstate__(self):
        return {**super().__getstate__(), "_train": None}

    def __copy__(self):
        # A copy shares the transformer and the training rows, not the gate.
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        if "gate_" in self.__dict__:
            new.gate_ = copied_gate(self.gate_)
        return new
