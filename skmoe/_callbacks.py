"""What a fit tells the outside in each pass: callbacks and printed progress."""

import copy

import numpy as np

from skmoe._protocols import Parametric
from skmoe._xp import like
from skmoe.em._build import write_back

__all__ = ["PassReporter"]


class PassReporter:
    """Report EM passes to scikit-learn callbacks and, if verbose, to the screen.

    The task tree is: fit, one task for each start that is run to convergence,
    one leaf for each of its passes. A callback that returns True at the end of a
    pass stops the fit there, with the parameters reached.

    Parameters
    ----------
    estimator : the mixture being fitted
    X, y, sample_weight :
        What the user gave to ``fit``: scorers need labels, names and kinds.
    """

    def __init__(self, estimator, X, y, sample_weight=None):
        self.estimator = estimator
        weighted = sample_weight is not None
        metadata = {"sample_weight": sample_weight} if weighted else None
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.trace = []
        self.verbose = int(estimator.verbose)
        self.listens = bool(getattr(estimator, "_skl_callbacks", None))
        self.context = estimator._init_callback_context(max_subtasks=None)
        self._begin(self.context)
        self.run, self.run_context = None, None

    def hook(self, problem, node):
        """Return what the search calls after each accepted pass, or None."""
        if not (self.listens or self.verbose):
            return None

        def on_pass(run, objective):
            if run is not self.run:
                self._open(run)
            self.trace.append(objective)
            if self.verbose > 1:
                print(f"  pass: objective {objective:.6f}")
            return self.listens and self._tell(problem, node)

        return on_pass

    def _open(self, run):
        """Begin the task of a start."""
        self._close_run()
        self.run, self.trace = run, []
        if self.verbose:
            print(f"{type(self.estimator).__name__}: start {run.name!r}")
        if self.listens:
            self.run_context = self.context.subcontext(
                task_name=f"start {run.name}", max_subtasks=None
            )
            self._begin(self.run_context)

    def _tell(self, problem, node):
        """Run the hooks of one pass; return whether one asks to stop."""
        leaf = self.run_context.subcontext(task_name="EM pass")
        self._begin(leaf)
        return self._end(leaf, lambda: self._snapshot(problem, node))

    def _begin(self, context):
        context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def _end(self, context, attributes=None):
        return context.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=attributes,
            **self.data,
        )

    def _snapshot(self, problem, node):
        """Return the fitted attributes as if the fit had stopped here."""
        shown = copy.copy(node)
        shown.gate = _copied(node.gate)
        shown.experts = [(name, _copied(expert)) for name, expert in node.experts]
        write_back(problem, shown)
        shown.forget()
        attributes = self.estimator._attributes_of(shown)
        # For a warm start from what a callback was shown.
        attributes["_fitted_to"] = self.estimator._fits_to(shown)
        trace = like(self.data["X"], np.array(self.trace))
        return attributes | {"objective_trace_": trace}

    def _close_run(self):
        if self.run_context is not None:
            self._end(self.run_context)
            self.run_context = None

    def close(self, node):
        """End all tasks of the fit; the estimator is ready."""
        if self.verbose and self.run is not None:
            print(f"{type(self.estimator).__name__}: done, {self.run.n_passes} passes")
        self._close_run()
        self._end(self.context, lambda: self.estimator._attributes_of(node))


def _copied(part):
    """Return a copy that goes on as it is while EM changes the part.

    The M-step of an adapter replaces what it fitted; a native part writes into
    its arrays.
    """
    native = isinstance(part, Parametric)
    return copy.deepcopy(part) if native else copy.copy(part)
