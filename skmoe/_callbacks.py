"""What a fit tells the outside in each pass: callbacks and printed progress."""

import copy

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
    X, y : its training data, validated
    """

    def __init__(self, estimator, X, y):
        self.estimator, self.X, self.y = estimator, X, y
        self.verbose = int(estimator.verbose)
        self.listens = bool(getattr(estimator, "_skl_callbacks", None))
        self.context = estimator._init_callback_context(max_subtasks=None)
        self.context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        self.run, self.run_context = None, None

    def hook(self, problem, node):
        """Return what the search calls after each accepted pass, or None."""
        if not (self.listens or self.verbose):
            return None

        def on_pass(run, objective):
            if run is not self.run:
                self._open(run)
            if self.verbose > 1:
                print(f"  pass: objective {objective:.6f}")
            return self.listens and self._tell(problem, node)

        return on_pass

    def _open(self, run):
        """Begin the task of a start."""
        self._close_run()
        self.run = run
        if self.verbose:
            print(
                f"{type(self.estimator).__name__}: start {run.name!r} from objective "
                f"{run.objective:.6f}"
            )
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
        context.call_on_fit_task_begin(estimator=self.estimator, X=self.X, y=self.y)

    def _end(self, context, attributes=None):
        return context.call_on_fit_task_end(
            estimator=self.estimator,
            X=self.X,
            y=self.y,
            reconstruction_attributes=attributes,
        )

    def _snapshot(self, problem, node):
        """Return the fitted attributes as if the fit had stopped here."""
        shown = copy.copy(node)
        shown.experts = list(node.experts)
        shown.gate = copy.copy(node.gate)
        write_back(problem, shown)
        return self.estimator._attributes_of(shown)

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
