"""What neural experts and gates share: arguments, state, copies. Torch comes late."""

import copy
from importlib import import_module
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

__all__ = ["OPTIMIZERS", "TorchPart", "needs_torch"]

OPTIMIZERS = ("adamw", "adam", "sgd")
PREFIXES = ("module__", "optimizer__")


def needs_torch(owner, module):
    """Return a module of `skmoe.nn`.

    Raises
    ------
    ImportError
        If there is no torch.
    """
    try:
        import_module("torch")
    except ImportError as error:
        raise ImportError(f"{owner} needs torch: pip install 'skmoe[torch]'") from error
    return import_module(f"skmoe.nn.{module}")


class TorchPart(BaseEstimator):
    """The constructor arguments and the state of `TorchExpert` and `TorchGate`.

    A fitted part holds ``_module`` (what its weights mean), ``_state`` (a `PartState`,
    replaced by each M-step), ``_scale`` of the columns and ``_head``; while a fit lasts
    also ``_rows`` and ``_seen``, what is known of the training rows.
    """

    exact_m_step = False
    array_api = True  # works on rows of any library
    _previous = None

    # -- arguments -----------------------------------------------------------------

    def _set_options(self, options):
        """Take the keywords of ``**module_params``, as they are."""
        unknown = [name for name in options if not name.startswith(PREFIXES)]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} got unexpected keyword arguments {unknown}; "
                "those of the module are written module__name, those of the optimizer "
                "optimizer__name."
            )
        vars(self).update(options)

    def get_params(self, deep=True):
        """Return the parameters, those of module and optimizer included.

        Parameters
        ----------
        deep : bool, default=True
            Also return the parameters of nested estimators.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        given = {k: v for k, v in vars(self).items() if k.startswith(PREFIXES)}
        return {**params, **given}

    def set_params(self, **params):
        """Set parameters, also such as ``module__hidden``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : estimator
        """
        options = {k: params.pop(k) for k in list(params) if k.startswith(PREFIXES)}
        vars(self).update(options)
        return super().set_params(**params)

    def _options(self, prefix):
        """Return the keywords that were given for "module" or "optimizer"."""
        start = f"{prefix}__"
        return {
            name.removeprefix(start): value
            for name, value in vars(self).items()
            if name.startswith(start)
        }

    def _torch(self, module):
        """Return one of the modules that need torch: see `needs_torch`."""
        return needs_torch(type(self).__name__, module)

    def _check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        auto = isinstance(self.n_epochs, str) and self.n_epochs == "auto"
        if not auto:
            self._check("n_epochs", Integral, 1, np.inf, "'auto' or an integer >= 1")
        self._check("batch_size", Integral, 1, np.inf, "an integer >= 1")
        self._check("lr", Real, 1e-300, np.inf, "a positive number")
        self._check("weight_decay", Real, 0, np.inf, "a number >= 0")
        self._check("patience", Integral, 1, np.inf, "an integer >= 1")
        if self.max_norm is not None:
            self._check("max_norm", Real, 1e-300, np.inf, "None or a positive number")
        if self.validation_fraction is not None:
            wanted = "None or a number between 0 and 1"
            self._check("validation_fraction", Real, 1e-300, 1.0 - 1e-16, wanted)
        if self.precision not in ("float32", "float64", "bfloat16"):
            raise ValueError(
                f"{type(self).__name__}: precision must be 'float32', 'float64' or "
                f"'bfloat16', got {self.precision!r}."
            )

    def _check(self, name, kind, low, high, wanted):
        value = getattr(self, name)
        ok = isinstance(value, kind) and not isinstance(value, bool)
        if not (ok and low <= value <= high and value < np.inf):
            raise ValueError(
                f"{type(self).__name__}: {name} must be {wanted}, got {value!r}."
            )

    def _settings(self, n_rows, alone=False):
        """Return how to train, as `skmoe.nn._train` takes it."""
        settings = self._torch("_optimiser").Settings
        torch = import_module("torch")
        optimizer = self.optimizer
        names = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
        if isinstance(optimizer, str) and optimizer in names:
            optimizer = getattr(torch.optim, names[optimizer])
        is_class = isinstance(optimizer, type)
        if not is_class or not issubclass(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"{type(self).__name__}: optimizer must be one of {OPTIMIZERS} or a "
                f"class of torch.optim, got {self.optimizer!r}."
            )
        if issubclass(optimizer, torch.optim.LBFGS):
            raise ValueError(
                f"{type(self).__name__}: optimizer must work number by number on "
                "mini-batches; LBFGS does not."
            )
        options = {"lr": self.lr, "weight_decay": self.weight_decay}
        return settings(
            n_epochs=self._n_epochs(alone, n_rows),
            batch_size=self.batch_size,
            optimizer=optimizer,
            options={**options, **self._options("optimizer")},
            max_norm=self.max_norm,
            validation=self.validation_fraction,
            patience=self.patience,
            bfloat16=self.precision == "bfloat16",
        )

    def _n_epochs(self, alone, n_rows):
        """Return the epochs of an M-step, or of a fit by itself."""
        if self.n_epochs != "auto":
            return self.n_epochs
        least, most, steps = 1, 20, 20
        if alone:
            least, most, steps = 20, 500, 4000
        elif not self._state.trained:
            # From untrained weights EM would see a plateau where there is a slow start.
            most, steps = 10 * most, 10 * steps
        epochs = -(-steps // -(-n_rows // self.batch_size))
        return min(most, max(least, epochs))

    # -- preparation ---------------------------------------------------------------

    def _set_up(self, X, weight, make_head):
        """Build the module, and take scales from all rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        weight : array of shape (n_samples,)
        make_head : callable
            ``make_head(device)`` returns the head.
        """
        owner = type(self).__name__
        torch = import_module("torch")
        rows, state = self._torch("_rows"), self._torch("_state")
        device = rows.place_of(self.device, X, owner)
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        seeds = np.random.RandomState(self._seed()).randint(2**31 - 1, size=2)
        self._head = make_head(device)
        source = self._torch("_mlp").MLP if self.module is None else self.module
        module = state.build_module(
            source, self._options("module"), X.shape[1], self._head.n_raw, int(seeds[0])
        )
        module = module.to(device=device, dtype=dtype)
        codes = tuple(getattr(module, "category_columns", ()))
        settings = (device, dtype, codes, bool(self.standardize))
        self._rows = rows.shared_rows(X, weight, settings)
        self._rows.refuse_gaps(owner)
        self._scale = self._rows.scale
        self._rows.teach(module)
        self._module, self._seen = module, None
        self._kind = f"{self._plain_settings()!r} {state.structure(module)}"
        shape = self._head.start().to(device)
        self._state = state.first_state(module, shape, int(seeds[1]))
        self._check_output()
        self._adopt()

    @property
    def reads_codes(self):
        """Whether the module looks categories up by their codes."""
        return bool(self._options("module").get("categories"))

    def _seed(self):
        """Return a seed: random_state, or a draw from it."""
        if isinstance(self.random_state, Integral):
            return self.random_state
        return check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

    def _plain_settings(self):
        """Return all parameters but those in which alike parts may differ."""
        params = self.get_params(deep=False)
        return {k: v for k, v in params.items() if k not in ("random_state", "module")}

    def _check_output(self):
        """Raise a ValueError if the module returns another shape than it must."""
        X, wanted = self._rows.columns[:2], self._head.n_raw
        got = tuple(self._stack([self]).raw(X).shape[1:])
        if got != (X.shape[0], wanted):
            raise ValueError(
                f"{type(self).__name__}: the module {type(self._module).__name__} must "
                f"turn rows of shape {tuple(X.shape)} into raw outputs of shape "
                f"{(X.shape[0], wanted)}, got {got}."
            )

    def continue_from(self, other):
        """Take over a fitted part's weights at the next `prepare`; warn if in vain.

        Parameters
        ----------
        other : part of the same class
        """
        if type(other) is type(self) and hasattr(other, "_state"):
            self._previous = other

    def _adopt(self):
        """Go on from the part that `continue_from` named."""
        other, self._previous = self._previous, None
        if other is not None:
            self._state = self._torch("_warm").taken_over(self, other)

    # -- training and evaluation ---------------------------------------------------

    @staticmethod
    def _stack(parts, device=None):
        """Return alike parts as one batched module."""
        first = parts[0]
        stack = first._torch("_stack").Stack
        device = first._rows.device if device is None else device
        bfloat16 = first.precision == "bfloat16"
        return stack(first._module, [p._state for p in parts], device, bfloat16)

    def _training_rows(self, X):
        """Return the rows that X stands for, standardised and on the device."""
        if self._rows is None or self._rows.X is not X:
            rows = self._torch("_rows")
            owner = type(self).__name__
            device = rows.place_of(self.device, X, owner)
            settings = (device, self._dtype, (), False)
            self._rows = rows.Rows(X, None, settings, self._scale)
        return self._rows

    @property
    def _dtype(self):
        torch = import_module("torch")
        return torch.float64 if self.precision == "float64" else torch.float32

    def _train_on(self, parts, X, y, weight, names=None, *, alone=False):
        """Take an M-step of alike parts; return what they predict, (K, n, n_raw).

        Parameters
        ----------
        weight : array of shape (K, n_samples)
        """
        rows, training = self._training_rows(X), self._torch("_train")
        as_tensor = self._torch("_rows").as_tensor
        weight = as_tensor(weight, rows.device, rows.dtype).T.contiguous()
        task = training.Task(
            rows.columns, rows.coded(y, self._head), weight, self._head
        )
        states = [part._state for part in parts]
        owner = type(self).__name__ if names is None else ", ".join(names)
        settings = self._settings(X.shape[0], alone)
        states, raw = training.train(self._module, states, task, settings, owner)
        masses = weight.sum(dim=0).tolist()
        for part, state, mass in zip(parts, states, masses, strict=True):
            part._state, part._rows, part._mass = state, rows, mass
        return raw

    def gradient_group(self, parts, X, y, members):
        """Return alike parts as a group that is trained on the mixture's likelihood.

        Parameters
        ----------
        parts : list of alike parts
        X : array
            What they see.
        y : array or None
        members : list of int
            Their numbers in the mixture.
        """
        rows, joint = self._training_rows(X), self._torch("_joint")
        coded = None if y is None else rows.coded(y, self._head)
        states = [part._state for part in parts]
        settings = self._settings(X.shape[0])
        return joint.Group(
            self._module, states, rows.columns, coded, self._head, settings, members
        )

    def train_with(self, gate, groups, weight, members, names):
        """Train this gate and groups of experts together; all get new states.

        Parameters
        ----------
        gate, groups : Group and list of Group
            As `gradient_group` made them.
        weight : array of shape (n_samples,)
        members : list of list of experts
            Of each group.
        names : list of str
            Of the experts.
        """
        weight = self._torch("_rows").as_tensor(weight, gate.X.device, gate.X.dtype)
        states = self._torch("_joint").train_mixture(gate, groups, weight, names)
        for parts, fresh in zip([[self], *members], states, strict=True):
            for part, state in zip(parts, fresh, strict=True):
                part._state, part._seen = state, None

    def _raw(self, X, parts=None):
        """Return what parts make of rows, (K, n, n_raw), in float64."""
        rows, training = self._torch("_rows"), self._torch("_train")
        if self._rows is not None and self._rows.X is X:
            device, columns = self._rows.device, self._rows.columns
        else:
            owner = type(self).__name__
            rows.check_rows(X, owner)
            device = rows.place_of(self.device, X, owner, strict=False)
            columns = self._scale.apply(X, device, self._dtype)
        stack = self._stack(parts or [self], device)
        return training.evaluate(stack, columns).double()

    @property
    def module_(self):
        """The module with the trained weights: a copy."""
        module = copy.deepcopy(self._module)
        state = self._state
        module.load_state_dict({**state.params, **state.buffers}, strict=False)
        return module.eval()

    @property
    def n_parameters(self):
        """Trained numbers of the module and its head."""
        trained = (p for p in self._module.parameters() if p.requires_grad)
        return sum(p.numel() for p in trained) + self._head.n_shapes

    def finish(self):
        """Forget the training rows, at the end of a fit."""
        self._rows = self._seen = None

    # -- files and copies ----------------------------------------------------------

    def checkpoint_state(self):
        """Return the state as tensors by name."""
        return self._state.tensors()

    def restore_checkpoint(self, tensors):
        """Go to a state that `checkpoint_state` returned."""
        self._state, self._seen = self._state.with_tensors(tensors), None

    def __sklearn_is_fitted__(self):
        return "_state" in vars(self)

    def __copy__(self):
        # A snapshot within EM: states are replaced, never written into.
        new = type(self).__new__(type(self))
        vars(new).update(vars(self))
        return new

    def __getstate__(self):
        # Models travel without their rows, and off the device.
        state = dict(super().__getstate__())
        if "_state" in state:
            state["_state"] = self._state.packed()
            state["_module"] = copy.deepcopy(self._module).cpu()
            state["_rows"] = state["_seen"] = state["_previous"] = None
        return state
