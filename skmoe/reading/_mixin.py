"""What a fitted mixture says about itself: explanations, a diagnosis, a diagram."""

from skmoe.reading._diagnosis import diagnose
from skmoe.reading._diagram import diagram
from skmoe.reading._explain_flat import explain_mixture

__all__ = ["ReadableMixture"]


class ReadableMixture:
    """Explanations, diagnosis and diagram of a mixture."""

    def explain(self, X, *, offset=None, trials=None):
        """Return for each row why it is predicted what it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        explanation : MixtureExplanation
            The gate's probabilities, each expert's answer, and what each column
            contributed within the experts and through the gate, adding up to the
            prediction; prints as text, with ``to_frame()``.
        """
        return explain_mixture(self, X, {"offset": offset, "trials": trials})

    def diagnose(self, X=None, y=None, sample_weight=None, **beside):
        """Look for what may be wrong with the fit, and say it in plain words.

        How evenly the experts are used, and whether some are nearly idle, say the same
        or fit their rows exactly; whether the gate is hard or ignores x; whether EM
        converged, and how the other starts ended; which rows no expert explains.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Rows to judge by; None: those of the fit, which a pickled model has no more.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``.

        Returns
        -------
        diagnosis : Diagnosis
            Prints as a paragraph, with ``findings`` and ``to_frame()``.
        """
        return diagnose(self, X, y, sample_weight, **beside)

    def _sk_visual_block_(self):
        return diagram(self)
