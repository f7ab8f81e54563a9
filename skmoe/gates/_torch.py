"""A neural network as a gate."""

from skmoe._torch_part import TorchPart

__all__ = ["TorchGate"]


class TorchGate(TorchPart):
    """Softmax of the logits that a torch module returns.

    An M-step is a few epochs of mini-batches on the weighted cross-entropy to the
    responsibilities, from the weights and with the optimiser's memory of the last one.
    It may lower the objective, so EM keeps its best pass.

    Parameters
    ----------
    module : nn.Module class, function that returns one, or nn.Module, default=None
        Turns rows (n_rows, n_features) into logits (n_rows, n_experts). See
        `TorchExpert`. None: `skmoe.nn.MLP`.
    n_epochs : int or "auto", default="auto"
        Epochs of an M-step. "auto": one, or on small data as many as make 20 steps of
        the optimiser (200 in the first M-step).
    batch_size : int, default=256
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        Its keywords are ``optimizer__*``.
    lr : float, default=0.003
        Learning rate.
    weight_decay : float, default=1e-4
        As the optimizer takes it. It is no prior, and is left out of ``penalty``.
    max_norm : float or None, default=None
        Largest norm of a step's gradient; longer ones are shortened.
    validation_fraction : float or None, default=None
        Share of the rows that is held out in each M-step, which then ends after
        ``patience`` epochs without a better held-out loss, at the weights of the best.
    patience : int, default=5
    device : None, "auto", str or torch.device, default=None
        Where to work. None: where X is if it is a tensor, else the CPU. "auto": CUDA if
        there is. Results come back in the kind of X, where X is.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Of weights and rows. "bfloat16" runs the module alone in it.
    standardize : bool, default=True
        Standardise the columns by their weighted mean and deviation.
    random_state : int, RandomState instance or None, default=None
        Of the initial weights, the order of the rows and dropout.
    **module_params : dict
        ``module__name`` and ``optimizer__name``.

    Attributes
    ----------
    module_ : nn.Module
        A copy of the trained module; it takes standardised columns.

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J. and Hinton, G. E. (1991). Adaptive
    mixtures of local experts. Neural Computation 3.
    """

    def __init__(
        self,
        module=None,
        *,
        n_epochs="auto",
        batch_size=256,
        optimizer="adamw",
        lr=0.003,
        weight_decay=1e-4,
        max_norm=None,
        validation_fraction=None,
        patience=5,
        device=None,
        precision="float32",
        standardize=True,
        random_state=None,
        **module_params,
    ):
        self.module = module
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_norm = max_norm
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.standardize = standardize
        self.random_state = random_state
        self._set_options(module_params)

    def prepare(self, X, weight, n_experts):
        """Build the module and fix the scales of the columns.

        Raises
        ------
        ImportError, TypeError, ValueError
            As `TorchExpert.prepare`.
        """
        head = self._torch("_heads").SoftHead(n_experts)
        self._check_parameters()
        self._torch("_rows").check_rows(X, "TorchGate", weight=weight)
        self._set_up(X, weight, lambda device: head)

    def m_step(self, X, resp, weight):
        """Train for some epochs towards the responsibilities.

        Raises
        ------
        FloatingPointError
            If the loss is not finite, also at half the learning rate.
        """
        raw = self._train_on([self], X, resp, weight[None, :])
        self._seen = (X, self._head.params(raw[0].double()))

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts)."""
        rows = self._torch("_rows")
        if self._seen is not None and self._seen[0] is X:
            return rows.returned(X, self._seen[1].clone())
        return rows.returned(X, self._head.params(self._raw(X)[0]))

    def log_joint(self, X):
        """Return what the E-step adds: the log gate probabilities."""
        return self.log_proba(X)

    @property
    def penalty(self):
        """Log prior density: 0, there is none."""
        return 0.0
