"""The result of a test."""

from dataclasses import dataclass

from scipy import stats

__all__ = ["HypothesisTest", "p_text"]


def p_text(p_value, sign=""):
    """Return a p-value as text; the sign is that of those that are not tiny."""
    return "< 0.001" if p_value < 0.001 else f"{sign}{p_value:.3f}"


@dataclass(frozen=True)
class HypothesisTest:
    """A test of the hypothesis that some coefficients are zero.

    Attributes
    ----------
    name : str
    hypothesis : str
    statistic : float
        Chi-squared with ``df`` degrees of freedom if the hypothesis holds.
    df : int
    p_value : float
    """

    name: str
    hypothesis: str
    statistic: float
    df: int
    p_value: float

    @classmethod
    def chi2(cls, name, hypothesis, statistic, df):
        """Return the result for a statistic."""
        return cls(name, hypothesis, statistic, df, float(stats.chi2.sf(statistic, df)))

    def __str__(self):
        return (
            f"{self.name} test that {self.hypothesis}: chi2({self.df}) = "
            f"{self.statistic:.3f}, p {p_text(self.p_value, '= ')}"
        )
