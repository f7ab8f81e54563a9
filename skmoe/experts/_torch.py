"""A neural network as an expert."""

from importlib import import_module

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, RegressorTags, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skmoe._sklearn import check_sample_weight
from skmoe._torch_part import TorchPart
from skmoe._xp import is_foreign, like, to_numpy
from skmoe.exceptions import ExpertError
from skmoe.experts._torch_head import HeadNumbers

__all__ = ["TorchExpert"]


def _classifies(expert):
    return expert._head_name() == "categorical"


class TorchExpert(HeadNumbers, TorchPart):
    """A torch module whose outputs are the parameters of a density of y.

    An M-step is a few epochs of mini-batches on the weighted log density, from the
    weights and with the optimiser's memory of the last one; then the head's own
    numbers, such as the variance, get their weighted estimate. It may lower the
    objective, so EM keeps its best pass. Alike experts of a mixture on the same columns
    are trained as one batched module.

    Parameters
    ----------
    module : nn.Module class, function that returns one, or nn.Module, default=None
        Turns rows (n_rows, n_features) into raw outputs (n_rows, n_outputs): means, log
        rates or logits. A class or function gets ``n_inputs`` and ``n_outputs`` if it
        takes them, and the keywords ``module__*``; an instance is copied. None:
        `skmoe.nn.MLP`. Columns that a module lists in ``category_columns`` are not
        standardised; its ``learn(X, weight)``, if any, is called once.
    head : {"auto", "gaussian", "student", "poisson", "categorical"}, default="auto"
        Density of y. "auto": normal for a regression, categorical for classes. Only
        "gaussian" takes several outputs, independent given x.
    n_epochs : int or "auto", default="auto"
        Epochs of an M-step, or of ``fit`` by itself. "auto": one, or on small data as
        many as make 20 steps of the optimiser (200 in the first M-step); for ``fit``
        from 20 to 500, as many as make 4000 steps.
    batch_size : int, default=256
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        It must work number by number. Its keywords are ``optimizer__*``.
    lr : float, default=0.003
        Learning rate.
    weight_decay : float, default=1e-4
        As the optimizer takes it. It is no prior, and is left out of ``penalty``: the
        decay of AdamW acts on the weights by itself, in proportion to ``lr``.
    max_norm : float or None, default=None
        Largest norm of a step's gradient; longer ones are shortened.
    validation_fraction : float or None, default=None
        Share of the rows that is held out in each M-step, which then ends after
        ``patience`` epochs without a better held-out loss, at the weights of the best.
    patience : int, default=5
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Inverse-gamma prior on the variance (or the squared scale of Student's t),
        worth ``rows`` rows whose squared residual is ``fraction`` of the variance of y.
        A floor of 1e-10 of the variance of y remains with ``None``.
    device : None, "auto", str or torch.device, default=None
        Where to work. None: where X is if it is a tensor, else the CPU. "auto": CUDA if
        there is. Results come back in the kind of X, where X is.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Of weights and rows. "bfloat16" runs the module alone in it; weights, losses and
        sums stay float32. Densities are float64 always.
    standardize : bool, default=True
        Standardise the columns by their weighted mean and deviation. (Responses always
        are, inside.)
    random_state : int, RandomState instance or None, default=None
        Of the initial weights, the order of the rows and dropout. Torch's own
        generators are left alone.
    **module_params : dict
        ``module__name`` and ``optimizer__name``.

    Attributes
    ----------
    module_ : nn.Module
        A copy of the trained module; it takes standardised columns.
    dispersion : float, array or None
        Variance of normal noise, of shape () or (n_outputs,), same unit as y squared;
        squared scale and degrees of freedom of Student's t.
    classes_ : array of shape (n_classes,)
        Labels, after ``fit`` by itself.

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J. and Hinton, G. E. (1991). Adaptive
    mixtures of local experts. Neural Computation 3.
    Loshchilov, I. and Hutter, F. (2019). Decoupled weight decay regularization. ICLR.
    """

    # Whatever their sizes: any network can learn what another can.
    counts_as_one_kind = True
    _alone = False

    def __init__(
        self,
        module=None,
        *,
        head="auto",
        n_epochs="auto",
        batch_size=256,
        optimizer="adamw",
        lr=0.003,
        weight_decay=1e-4,
        max_norm=None,
        validation_fraction=None,
        patience=5,
        variance_prior=(5.0, 0.05),
        device=None,
        precision="float32",
        standardize=True,
        random_state=None,
        **module_params,
    ):
        self.module = module
        self.head = head
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_norm = max_norm
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.variance_prior = variance_prior
        self.device = device
        self.precision = precision
        self.standardize = standardize
        self.random_state = random_state
        self._set_options(module_params)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = self.head in ("auto", "gaussian")
        tags.non_deterministic = self.random_state is None
        if self.head == "categorical":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        elif self.head != "auto":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags

    # -- an estimator by itself ----------------------------------------------------

    def fit(self, X, y, sample_weight=None):
        """Train on weighted rows.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
        y : array-like or tensor of shape (n_samples,) or (n_samples, n_outputs)
            With head="auto", strings are classes and numbers are numbers.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : TorchExpert

        Raises
        ------
        ExpertError
            If the loss is not finite, also at half the learning rate.
        ValueError
            If X or y cannot be worked on, or y holds what the head says cannot occur.
        """
        X, y = self._checked(X, y)
        weight = check_sample_weight(to_numpy(sample_weight), X)
        n_classes, self._alone = None, False
        words = not is_foreign(y) and y.dtype.kind in "OUSb"
        if self.head == "categorical" or (self.head == "auto" and words):
            self.classes_, y = np.unique(to_numpy(y), return_inverse=True)
            n_classes = self.classes_.size
        if self.head == "poisson":
            self._check_support(y, weight, every=True)
        self.prepare(X, y, weight, n_classes)
        try:
            self._train([self], X, y, weight[None, :], alone=True)
        except FloatingPointError as error:
            raise ExpertError(f"TorchExpert: {error}") from error
        self.finish()
        self._alone = True
        return self

    def predict(self, X):
        """Return the mean of y, or the most probable class, of each row."""
        params = self._params_alone(X)
        if not _classifies(self):
            return params
        labels = self.classes_[to_numpy(params).argmax(axis=1)]
        # There are no tensors of words.
        return like(X, labels) if labels.dtype.kind in "biuf" else labels

    @available_if(_classifies)
    def predict_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        return like(X, np.exp(to_numpy(self._params_alone(X))))

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination, or the accuracy."""
        metric = accuracy_score if _classifies(self) else r2_score
        y, predicted = to_numpy(y), to_numpy(self.predict(X))
        return metric(y, predicted, sample_weight=sample_weight)

    def _params_alone(self, X):
        check_is_fitted(self)
        return self.predict_params(self._checked_rows(X))

    def _checked_rows(self, X):
        """Validate rows to predict at."""
        if not is_foreign(X):
            return validate_data(self, X, dtype="numeric", reset=False)
        self._torch("_rows").check_matrix(X, "TorchExpert", self.n_features_in_)
        return X

    def _checked(self, X, y):
        """Validate training data; tensors stay where they are."""
        if is_foreign(X):
            rows, y = self._torch("_rows"), y if is_foreign(y) else np.asarray(y)
            rows.check_matrix(X, "TorchExpert")
            rows.check_response(X, y, "TorchExpert")
            self.n_features_in_ = X.shape[1]
            return X, y
        y = to_numpy(y)
        if self.head == "categorical":
            y = column_or_1d(y, warn=True)
            check_array(y, ensure_2d=False, dtype=None, input_name="y")
            check_classification_targets(y)
        numbers = self.head not in ("auto", "categorical")
        return validate_data(
            self, X, y, dtype="numeric", multi_output=True, y_numeric=numbers
        )

    # -- the Expert protocol -------------------------------------------------------

    def prepare(self, X, y, weight, n_classes=None):
        """Build the module, fix scales, the head and the prior of the variance.

        Raises
        ------
        ImportError
            If there is no torch.
        TypeError
            If ``module`` makes no nn.Module.
        ValueError
            If a parameter is not as described, the device does not exist, tensors are
            on two devices or X holds integers, no response can occur, or the module
            returns a wrong shape.
        """
        heads, rows = self._torch("_heads"), self._torch("_rows")
        self._check_parameters()
        self._check_prior()
        rows.check_rows(X, "TorchExpert", y=y, weight=weight)
        if self.head == "poisson":
            self._check_support(y, weight, every=False)
        self._n_classes = n_classes
        name, self._alone = self._head_name(), False
        torch = import_module("torch")
        dtype = None if name == "categorical" else torch.float64

        def make_head(device):
            y64 = rows.as_tensor(y, device, dtype)
            w64 = rows.as_tensor(weight, device, torch.float64)
            return heads.make_head(name, y64, w64, self.variance_prior, n_classes)

        self._set_up(X, weight, make_head)

    def m_step(self, X, y, weight):
        """Train for some epochs on weighted rows, then fit the head's numbers.

        Raises
        ------
        FloatingPointError
            If the loss is not finite, also at half the learning rate.
        """
        self._train([self], X, y, weight[None, :])

    @classmethod
    def m_step_together(cls, names, experts, X, y, weights):
        """Take the M-steps of `alike` experts as one batched module.

        Parameters
        ----------
        names : list of str
        experts : list of TorchExpert
        X, y : arrays of n_samples rows
        weights : array of shape (n_experts, n_samples)

        Raises
        ------
        ExpertError
            As `m_step`; it names the expert.
        """
        try:
            experts[0]._train(experts, X, y, weights, names)
        except FloatingPointError as error:
            name = names[error.index]
            raise ExpertError(f"{name!r} failed: {error}") from error

    @classmethod
    def log_prob_together(cls, experts, X, y):
        """Return the log densities of `alike` experts, (n_experts, n_samples)."""
        first, torch = experts[0], import_module("torch")
        if all(expert._knows(X, y) for expert in experts):
            density = [expert._seen[2] for expert in experts]
        else:
            raw = first._raw(X, experts)
            pairs = zip(experts, raw, strict=True)
            density = [expert._density(own, y) for expert, own in pairs]
        return first._torch("_rows").returned(X, torch.stack(density))

    @classmethod
    def alike(cls, experts):
        """Return whether experts can be trained as one batched module."""
        first = experts[0]
        return len(experts) > 1 and all(
            type(expert) is cls
            and expert._kind == first._kind
            and expert._scale is first._scale
            for expert in experts
        )

    def log_prob(self, X, y):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        rows = self._torch("_rows")
        X = self._checked_rows(X) if self._alone else X
        if self._knows(X, y):
            # A copy, which may be written to.
            return rows.returned(X, self._seen[2].clone())
        return rows.returned(X, self._density(self._raw(X)[0], y))

    def predict_params(self, X):
        """Return the mean, or the log probabilities, of each row."""
        return self._torch("_rows").returned(X, self._head.params(self._raw(X)[0]))

    def _knows(self, X, y):
        seen = self._seen
        return seen is not None and seen[0] is X and seen[1] is y

    def _train(self, parts, X, y, weights, names=None, *, alone=False):
        """Take an M-step of alike parts, and keep the densities of their rows.

        The E-step that follows asks for them.
        """
        if self.head == "poisson":
            # Rows that cannot occur have a density of 0 whatever the weights are.
            weights = weights * like(weights, self.supports(X, y).astype(float))
        raw = self._train_on(parts, X, y, weights, names, alone=alone)
        for part, own in zip(parts, raw, strict=True):
            part._seen = (X, y, part._density(own.double(), y))

    def _density(self, raw, y):
        """Return log densities from what the module makes of rows, float64."""
        torch = import_module("torch")
        labels = self._codes(y)
        coded = self._torch("_rows").as_tensor(labels, raw.device)
        if coded.is_floating_point() or not _classifies(self):
            coded = coded.to(torch.float64)
        coded, shape = self._head.code(coded), self._state.shape.to(raw.device)[None]
        density = self._head.log_prob(coded, raw[None], shape)[0]
        return density - self._head.log_unit

    def _codes(self, y):
        """Return class codes: of labels after ``fit``, as they are in a mixture."""
        if not (self._alone and _classifies(self)):
            return y
        y = to_numpy(y)
        codes = np.searchsorted(self.classes_, y).clip(max=self.classes_.size - 1)
        unknown = np.asarray(y)[self.classes_[codes] != y].tolist()
        if unknown:
            raise ValueError(
                f"TorchExpert: y has the class {unknown[0]!r}, which fit did not see. "
                f"Known classes: {self.classes_.tolist()}."
            )
        return codes
