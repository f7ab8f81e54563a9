"""Calibration of the predictive law, by its probability integral transform."""

import numpy as np
from scipy import stats
from sklearn.utils import check_random_state

from skmoe.inspection._laws import law_of_output, response_of_output
from skmoe.inspection._style import ink_of, key_beside, middle_of, place, tidy
from skmoe.inspection._subject import Subject

__all__ = ["CalibrationDisplay", "probability_below"]

KINDS = ("histogram", "difference")
LEAST_BINS, MOST_BINS = 5, 20
BAND = 0.95


class CalibrationDisplay:
    """Where the responses lie in their predictive laws.

    Use `from_estimator` to make one, on rows that the fit has not seen. The probability
    integral transform (PIT) of a row is the probability that its law gives to smaller
    responses. If the laws are right, PITs are uniform: the histogram is flat but for
    chance, which stays within the band for 95 % of the bars. A heap at both ends says
    that the laws are too narrow, one in the middle that they are too wide, a slope that
    they lie too high or too low. Of counts the PIT is drawn at random within the jump.

    Parameters
    ----------
    pit : array of shape (n_samples,)
        In [0, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : Reliability of class probabilities.

    References
    ----------
    Gneiting, T., Balabdaoui, F. and Raftery, A. E. (2007). Probabilistic forecasts,
    calibration and sharpness. Journal of the Royal Statistical Society B 69.

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import make_piecewise_linear
    >>> from skmoe.inspection import CalibrationDisplay
    >>> X, y = make_piecewise_linear(400, random_state=0)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X[:200], y[:200])
    >>> display = CalibrationDisplay.from_estimator(model, X[200:], y[200:])
    >>> display.pit.shape
    (200,)
    """

    def __init__(self, *, pit):
        self.pit = pit

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, target=0, random_state=0, ax=None, **kwargs
    ):
        """Draw the calibration of a fitted mixture.

        Parameters
        ----------
        estimator : mixture or forest of them, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Rows where it is NaN do not count.
        target : int, default=0
            The output, of several.
        random_state : int, RandomState instance or None, default=0
            Draws the PIT within the jumps of counts.
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : CalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts, or a classifier.
        """
        subject = Subject(estimator, cls.__name__, "predict_distribution")
        subject.check_numbers(
            cls.__name__, "use sklearn.calibration.CalibrationDisplay for it"
        )
        return cls.from_predictions(
            subject.law(X),
            y,
            target=target,
            random_state=random_state,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(cls, law, y, *, target=0, random_state=0, ax=None, **kwargs):
        """Draw the calibration of predictive laws.

        Parameters
        ----------
        law : MixtureDistribution
            What ``predict_distribution`` returns.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Rows where it is NaN do not count.
        target : int, default=0
            The output, of several.
        random_state : int, RandomState instance or None, default=0
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : CalibrationDisplay
        """
        low, high = probability_below(law, y, target)
        draw = check_random_state(random_state).uniform(size=low.size)
        seen = ~np.isnan(response_of_output(y, target))
        return cls(pit=(low + draw * (high - low))[seen]).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, kind="histogram", n_bins=None, **kwargs):
        """Draw the transforms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        kind : {"histogram", "difference"}, default="histogram"
            "difference": the share of PITs up to a probability, less this probability.
            The band holds the whole line of right laws in 95 % of all samples.
        n_bins : int or None, default=None
            Bars of the histogram; None: the root of the number of rows, 5 to 20.
        **kwargs
            For ``Axes.bar`` or ``Axes.plot``.

        Returns
        -------
        self : CalibrationDisplay
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        ax = place(self, ax, (5.6, 3.6))
        if kind == "histogram":
            self._histogram(ax, n_bins, kwargs)
        else:
            self._difference(ax, kwargs)
        ax.set(xlim=(0.0, 1.0), xlabel="probability integral transform")
        key_beside(ax)
        tidy(ax)
        return self

    def _histogram(self, ax, n_bins, kwargs):
        count, edges, band = self._bins(n_bins)
        density = count.size / self.pit.size
        kwargs = {"color": middle_of(ax, 0.4), "edgecolor": ax.get_facecolor()} | kwargs
        ax.bar(edges[:-1], density * count, edges[1], align="edge", **kwargs)
        self._band(ax, density * band, 1.0)
        ax.set(ylabel="density", ylim=(0.0, None))

    def _difference(self, ax, kwargs):
        n_rows = self.pit.size
        at = np.concatenate([[0.0], np.repeat(np.sort(self.pit), 2), [1.0]])
        steps = np.repeat(np.arange(n_rows + 1) / n_rows, 2)
        kwargs = {"color": ink_of(ax), "lw": 1.6} | kwargs
        ax.plot(at, steps - at, **kwargs)
        reach = stats.kstwo.ppf(BAND, n_rows)  # Kolmogorov and Smirnov's distance
        self._band(ax, (-reach, reach), 0.0)
        ax.set_ylabel("share of the rows, less the PIT")

    def _band(self, ax, band, middle):
        shade = {"color": ink_of(ax), "alpha": 0.15, "lw": 0}
        ax.axhspan(*band, label=f"chance, {BAND:.0%}", **shade)
        ax.axhline(middle, color=ink_of(ax), lw=1.0, ls="--", label="right laws")

    def frame(self, n_bins=None):
        """Return the histogram as a data frame, one row for each bar.

        Columns: ``low`` and ``high`` (its ends), ``count``, ``share`` of the rows,
        ``band_low`` and ``band_high``, between which the share lies with 95 %
        probability if the laws are right.

        Parameters
        ----------
        n_bins : int or None, default=None
            As in `plot`.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        count, edges, band = self._bins(n_bins)
        n_rows = self.pit.size
        return pandas.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "count": count,
                "share": count / n_rows,
                "band_low": band[0] / n_rows,
                "band_high": band[1] / n_rows,
            }
        )

    def _bins(self, n_bins):
        """Return the rows in each bar, the bars' edges, and the band of their rows."""
        n_rows = self.pit.size
        if n_bins is None:
            n_bins = int(np.clip(np.sqrt(n_rows), LEAST_BINS, MOST_BINS))
        count, edges = np.histogram(self.pit, n_bins, (0.0, 1.0))
        ends = [0.5 - 0.5 * BAND, 0.5 + 0.5 * BAND]
        return count, edges, stats.binom.ppf(ends, n_rows, 1 / n_bins)


def probability_below(law, y, target=0):
    """Return P(Y < y) and P(Y <= y), which differ where the law has a jump.

    Parameters
    ----------
    law : MixtureDistribution
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    target : int, default=0

    Returns
    -------
    low, high : arrays of shape (n_samples,)
    """
    law, y = law_of_output(law, target), response_of_output(y, target)
    # Between two neighbours among the floats there is no other value to be had.
    return law.cdf(np.nextafter(y, -np.inf)), law.cdf(y)
