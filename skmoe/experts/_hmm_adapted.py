"""The side of `HMMExpert` that the engine sees: the Expert protocol."""

from importlib import import_module
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from skmoe._ragged import Sequences, table_sequences
from skmoe.experts._hmm_rows import BayesRule, TrainingSequences
from skmoe.experts._kept_rows import KeptRows
from skmoe.experts._rows import make_folds
from skmoe.experts._variance_prior import check_variance_prior
from skmoe.likelihoods import Categorical

__all__ = ["AdaptedHMM", "needs_hmmlearn"]

# With less weight than so many rows an expert keeps its calibration.
LEAST_ROWS = 2.0
WHOLE = {"n_states": 1, "n_init": 1, "max_iter": 1, "n_passes": 1, "n_folds": 2}


def needs_hmmlearn():
    """Return the module that builds on hmmlearn."""
    try:
        import_module("hmmlearn")
    except ImportError as error:
        message = "HMMExpert needs hmmlearn: pip install 'skmoe[hmm]'"
        raise ImportError(message) from error
    return import_module("skmoe.experts._hmm_model")


class AdaptedHMM(KeptRows):
    """The Expert protocol for the constructor arguments of `HMMExpert`."""

    exact_m_step = False
    _of_the_fit = ("_train", "_held_out")
    reads_steps = True  # columns that are padding, and may be NaN in every row
    likelihood = Categorical()
    dispersion = None
    penalty = 0.0  # the priors are of the sequences' law, which is not the objective
    fold_groups_ = None  # rows that must share a fold; a mixture of groups says which
    _train = None  # TrainingSequences of the last M-step
    _held_out = None  # log probabilities of their classes, by models without them

    @property
    def cross_fit(self):
        """Whether the training rows get held-out probabilities."""
        return self.calibration is not None

    def prepare(self, X, y, weight, n_classes=None):
        """Fit the models of all classes: experts start from them and shrink to them.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps * n_features), or Sequences
        y : int array of shape (n_sequences,)
        weight : array of shape (n_sequences,)
        n_classes : int, default=None

        Raises
        ------
        ImportError
            If there is no hmmlearn.
        ValueError
            If a parameter is not as described, or no step is observed.
        """
        self.check_parameters()
        part = needs_hmmlearn()
        sequences = self._sequences(X)
        _check_observed(sequences, weight)
        n_classes = int(y.max()) + 1 if n_classes is None else n_classes
        self._n_features, self._n_symbols = sequences.stacked.shape[1], None
        self._center, self._scale = self._units_of(sequences, weight)
        unit = min(1.0, float(weight[weight > 0].mean()))
        rows, fraction = self.variance_prior or (0.0, 0.0)
        self._settings = part.Settings(
            n_states=self.n_states,
            covariance_type=self.covariance_type,
            n_features=self._n_features,
            n_symbols=self._n_symbols,
            n_starts=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            prior_rows=rows,
            prior_fraction=fraction,
            pseudo_count=self.move_prior,
            shrinkage=self.shrinkage,
            unit=unit,
        )
        self._n_classes, self._n_folds = n_classes, None
        train = self._take_in(X, y, weight)
        rng = check_random_state(self.random_state)
        self._models = [
            part.ClassModels.fit(own, train.weights(weight, c), self._settings, rng)
            for c, own in enumerate(train.of_class)
        ]
        self.n_iter_ = max(models.n_iter for models in self._models)
        self._update_rule(y, weight)

    def m_step(self, X, y, weight):
        """Take some passes of Baum-Welch under the weights; calibrate anew."""
        if self._train is None or self._train.X is not X:
            self._take_in(X, y, weight)
        self._models = [
            models.stepped(
                own, self._train.weights(weight, c), self._settings, self.n_passes
            )
            for c, (models, own) in enumerate(
                zip(self._models, self._train.of_class, strict=True)
            )
        ]
        self._update_rule(y, weight, self._rule)

    def _units_of(self, sequences, weight):
        """Return center and scale of the columns; symbols are as they are.

        Sets: ``_n_symbols``.
        """
        if self.emission == "categorical":
            self._check_symbols(sequences)
            self._n_symbols = int(np.nanmax(sequences.stacked)) + 1
            return np.zeros(1), np.ones(1)
        return _standardisation(sequences, weight)

    def _check_symbols(self, sequences):
        """Raise a ValueError where steps are not one known symbol each."""
        symbols = sequences.stacked
        if symbols.shape[1] != 1:
            raise ValueError(
                "HMMExpert: categorical emissions are one column of symbols, got "
                f"{symbols.shape[1]} columns."
            )
        seen = symbols[~np.isnan(symbols)]
        known = np.inf if self._n_symbols is None else self._n_symbols
        bad = seen[(seen < 0) | (seen != np.floor(seen)) | (seen >= known)]
        if bad.size:
            most = "..." if self._n_symbols is None else f"..., {known - 1}"
            raise ValueError(
                f"HMMExpert: symbols must be whole numbers 0, 1, {most}, got "
                f"{bad[0]:g}. Code new sequences as in fit, unknown symbols as NaN."
            )

    def _take_in(self, X, y, weight):
        """Keep the training rows, parted into folds.

        Other rows than those of ``prepare`` have no more folds than these.
        """
        sequences, fold = self._sequences(X), None
        if self.cross_fit:
            groups = self.fold_groups_
            groups = sequences.groups() if groups is None else groups
            n_folds = self._n_folds or self.n_folds
            options = {"stratify": True, "seed": 0, "groups": groups}
            fold = make_folds(n_folds, None, y, weight, **options)
            self._n_folds = self._n_folds or int(fold.max()) + 1
        scaled = sequences.scaled(self._center, self._scale)
        self._train = TrainingSequences(
            X, scaled, y, self._n_classes, fold, self._n_folds
        )
        self._held_out = None
        return self._train

    def _update_rule(self, y, weight, before=None):
        """Set Bayes' rule, and with it what the training rows get, held out."""
        unit = self._settings.unit
        rule = BayesRule(y, weight, self._n_classes, unit)
        if self.cross_fit:
            lengths = self._train.sequences.lengths
            score = self._train.held_out(self._models)
            weight = weight / unit  # whose counts say how sure a calibration may be
            if before is None:
                rule = rule.calibrated(score, lengths, y, weight)
            elif weight.sum() < LEAST_ROWS:
                rule = before
            else:
                rule = rule.calibrated(score, lengths, y, weight, before.power)
            self._held_out = rule.log_proba(score, lengths)
        self._rule = rule

    def log_prob(self, X, y):
        """Return the log probability of each row's class code, in nats.

        The rows of the very X of the last M-step get that of the models that did not
        see them, until ``finish``.
        """
        known = self._held_out is not None and self._train.X is X
        params = self._held_out if known else self.predict_params(X)
        return self.likelihood.log_prob(y, params, None)

    def predict_params(self, X):
        """Return log probabilities of shape (n_sequences, n_classes)."""
        sequences = self._standardised(X)
        return self._rule.log_proba(self._scores(sequences), sequences.lengths)

    def features(self, X):
        """Return what starts of a mixture see of the sequences.

        Returns
        -------
        features : array of shape (n_sequences, 2 * n_features)
            Mean and standard deviation of each column over the observed steps; NaN
            where there are none.
        """
        sequences = self._sequences(X)
        values = np.full((len(sequences), 2 * sequences.stacked.shape[1]), np.nan)
        parts = np.split(sequences.stacked, np.cumsum(sequences.lengths)[:-1])
        for k, part in enumerate(parts):
            part = part[~np.isnan(part).any(axis=1)]
            if part.shape[0]:
                values[k] = np.concatenate([part.mean(axis=0), part.std(axis=0)])
        return values

    def finish(self):
        """Forget the training rows, at the end of a fit."""
        self._train = self._held_out = None

    def _sequences(self, X):
        if isinstance(X, Sequences):
            return X
        return table_sequences(np.asarray(X, dtype=float), self.n_features or 1)

    def _standardised(self, X):
        """Return sequences as the models take them."""
        sequences = self._sequences(X)
        if self._n_symbols is not None:
            self._check_symbols(sequences)
        return sequences.scaled(self._center, self._scale)

    def _scores(self, sequences):
        """Return log densities of standardised sequences, (n_sequences, n_classes)."""
        return np.column_stack([models.log_prob(sequences) for models in self._models])

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        for name, least in WHOLE.items():
            self._check_number(name, Integral, least, "an integer")
        if self.n_features is not None:
            self._check_number("n_features", Integral, 1, "None or an integer")
        for name in ("tol", "shrinkage", "move_prior"):
            self._check_number(name, Real, 0, "a number")
        for name, known in (
            ("emission", ("gaussian", "categorical")),
            ("covariance_type", ("diag", "full")),
            ("calibration", ("temperature", None)),
        ):
            value = getattr(self, name)
            if not any(value is one or value == one for one in known):
                raise ValueError(
                    f"HMMExpert: {name} must be one of {list(known)}, got {value!r}."
                )
        check_variance_prior(self.variance_prior, "HMMExpert")

    def _check_number(self, name, kind, least, wording):
        value = getattr(self, name)
        if not isinstance(value, kind) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"HMMExpert: {name} must be {wording} >= {least}, got {value!r}."
            )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_rule")


def _check_observed(sequences, weight):
    """Raise a ValueError where no step of a sequence of positive weight is observed."""
    if not weight[sequences.observed > 0].sum() > 0:
        raise ValueError(
            "HMMExpert: no sequence of positive weight has an observed step, one "
            "without NaN; nothing can be learned."
        )


def _standardisation(sequences, weight):
    """Return weighted mean and deviation of the observed rows' columns.

    A constant column keeps its unit.
    """
    row_weight = sequences.packed(weight) * sequences.seen
    share = row_weight / row_weight.sum()
    center = share @ sequences.rows
    scale = np.sqrt(share @ (sequences.rows - center) ** 2)
    return center, np.where(scale > 1e-12 * np.abs(center), scale, 1.0)
