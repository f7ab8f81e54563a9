"""What a fit tells the outside after each epoch, and what it keeps of it."""

import numpy as np

__all__ = ["EpochReporter", "history_of"]


class EpochReporter:
    """Report epochs to scikit-learn callbacks and, if verbose, to the screen.

    Parameters
    ----------
    estimator : the estimator being fitted
    X, y, sample_weight :
        What the user gave to ``fit``.
    names : list of str
        Of the tasks.
    n_epochs : int
        The most there can be.
    attributes : callable
        Returns the fitted attributes as if the fit had ended here.
    """

    def __init__(self, estimator, X, y, sample_weight, names, n_epochs, attributes):
        self.estimator, self.names, self.attributes = estimator, names, attributes
        weighted = sample_weight is not None
        metadata = {"sample_weight": sample_weight} if weighted else None
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.context = estimator._init_callback_context(max_subtasks=n_epochs)
        self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def __call__(self, epoch):
        """Report an epoch; return whether a callback asks to stop."""
        if self.estimator.verbose:
            print(f"{type(self.estimator).__name__}: {self._line(epoch)}")
        leaf = self.context.subcontext(task_name="epoch")
        leaf.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        return self._end(leaf)

    def close(self):
        """End the task of the fit."""
        self._end(self.context)

    def _end(self, context):
        return context.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self.attributes,
            **self.data,
        )

    def _line(self, epoch):
        """Return an epoch in words."""
        losses = epoch.held_out.get("loss", epoch.train_loss)
        each = ", ".join(
            f"{name} {loss:.4f}" for name, loss in zip(self.names, losses, strict=True)
        )
        where = "validation loss" if epoch.held_out else "loss"
        return f"epoch {epoch.number}: {where} {each}"


def history_of(epochs):
    """Return what the epochs came to as arrays by name.

    Parameters
    ----------
    epochs : list of Epoch

    Returns
    -------
    history : dict
        "epoch" of shape (n_epochs,), "train_loss" of shape (n_epochs, n_tasks), and,
        with held-out rows, "score" of shape (n_epochs,), "validation_loss" and what
        else was watched of shape (n_epochs, n_tasks).
    """
    history = {
        "epoch": np.array([epoch.number for epoch in epochs]),
        "train_loss": np.array([epoch.train_loss for epoch in epochs]),
    }
    if epochs[0].score is not None:
        history["score"] = np.array([epoch.score for epoch in epochs])
    for name in epochs[0].held_out:
        rows = [epoch.held_out[name] for epoch in epochs]
        history[f"validation_{name}"] = np.array(rows)
    return history
