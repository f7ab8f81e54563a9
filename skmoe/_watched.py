"""Long fits: what Ctrl-C leaves, and the file that a fit goes on from."""

from skmoe.em._checkpoint import Checkpoint, Progress, check_served
from skmoe.em._fingerprint import fingerprint

__all__ = ["WatchedFit", "continue_parts"]


class WatchedFit:
    """Lets the passes of a mixture's fit be watched, while ``_progress`` is there."""

    def _watch(self, node, options, rows, keep):
        """Watch a fit for Ctrl-C and for the checkpoint.

        Parameters
        ----------
        node : Node
        options : FitOptions
            Gets the hooks.
        rows : tuple (X, y, weight)
        keep : callable
            ``keep(node, report, run)`` takes a fitted node into the estimator.

        Raises
        ------
        ValueError
            If the checkpoint cannot serve this fit, or belongs to another one.
        """
        checkpoint, path = None, getattr(self, "checkpoint", None)
        if path is not None:
            check_served(node, self.algorithm, self.n_init)
            checkpoint = Checkpoint(path, fingerprint(self, *rows))
        parts = [node.gate, *(expert for _, expert in node.experts)]
        neural = any(hasattr(part, "checkpoint_state") for part in parts)
        keeps = self.warm_start and neural
        progress = Progress(options.on_pass, checkpoint, keeps=keeps)
        progress.keep = keep
        options.progress, options.on_pass = progress, progress.on_pass
        self._progress = progress
        return progress

    def _rescue(self, error):
        """Keep what an interrupted fit has reached; False to leave all as it was."""
        progress = vars(self).pop("_progress", None)
        interrupted = isinstance(error, KeyboardInterrupt) and progress is not None
        return interrupted and progress.rescue()


def continue_parts(node, last):
    """Let neural parts of a node begin with the weights of a fitted one's."""
    fresh = [node.gate, *(expert for _, expert in node.experts)]
    fitted = [last.gate, *(expert for _, expert in last.experts)]
    for part, old in zip(fresh, fitted, strict=False):
        if hasattr(part, "continue_from"):
            part.continue_from(old)
