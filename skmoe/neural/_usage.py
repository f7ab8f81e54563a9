"""How experts or leaves share the rows."""

from dataclasses import dataclass

import numpy as np

__all__ = ["ExpertUsage", "NetworkSize", "usage_of"]

# Below this part of an even share of the rows an expert is dead.
DEAD = 0.01
SHOWN = 20


@dataclass(frozen=True, eq=False)
class ExpertUsage:
    """What each expert, or leaf, does for some rows.

    Attributes
    ----------
    load : array of shape (n_experts,)
        Shares of the choices; they sum to 1.
    weight : array of shape (n_experts,)
        Mean weight in a row's prediction, 0 where a row does not choose it.
    noun : str
        "expert" or "leaf".
    """

    load: np.ndarray
    weight: np.ndarray
    noun: str = "expert"

    @property
    def n_effective(self):
        """Number of experts of equal weight that would be as even: exp(entropy)."""
        share = self.weight / self.weight.sum()
        used = share[share > 0]
        return float(np.exp(-(used * np.log(used)).sum()))

    @property
    def cv_load(self):
        """Coefficient of variation of the load: standard deviation over mean."""
        return float(self.load.std() / self.load.mean())

    @property
    def max_over_mean(self):
        """Largest load over the mean."""
        return float(self.load.max() / self.load.mean())

    @property
    def dead(self):
        """Those that get less than a hundredth of an even share."""
        return np.flatnonzero(self.load < DEAD / len(self.load))

    def to_frame(self):
        """Return a pandas data frame with a row for each expert."""
        import pandas

        index = pandas.RangeIndex(len(self.load), name=self.noun)
        return pandas.DataFrame({"load": self.load, "weight": self.weight}, index=index)

    def __repr__(self):
        return (
            f"<ExpertUsage: {len(self.load)} of kind {self.noun!r}, effective "
            f"{self.n_effective:.1f}, dead {len(self.dead)}>"
        )

    def __str__(self):
        n, dead = len(self.load), self.dead
        order = np.argsort(-self.load, kind="stable")
        lines = [
            f"number of kind {self.noun!r}: {n}, effective {self.n_effective:.1f}",
            f"load: coefficient of variation {self.cv_load:.3f}, largest over mean "
            f"{self.max_over_mean:.2f}",
            f"dead: {dead.tolist() if len(dead) else 'none'}",
            f"{self.noun:>6}  load    weight",
            *(f"{e:6d}  {self.load[e]:.4f}  {self.weight[e]:.4f}" for e in order),
        ]
        if n > SHOWN:
            lines[4 + SHOWN :] = [f"... and {n - SHOWN} with less"]
        return "\n".join(lines)


def usage_of(weight, chosen, row_weight, noun):
    """Return the usage of experts.

    Parameters
    ----------
    weight, chosen : arrays of shape (n_samples, n_experts)
        What a row weighs its experts by, and 1 for those that it chooses, else 0.
    row_weight : array of shape (n_samples,)
    noun : str
    """
    share = row_weight / row_weight.sum()
    load = share @ chosen
    return ExpertUsage(load / load.sum(), share @ (weight * chosen), noun)


@dataclass(frozen=True)
class NetworkSize:
    """How large a network is, and how much of it one row takes in prediction.

    Attributes
    ----------
    parameters, active_parameters : int
        All that are trained, and those that are read for one row.
    operations, active_operations : int
        Multiplications and additions of matrix products a row, two for each number
        in a matrix: if all of the network were evaluated, and as it is.
    """

    parameters: int
    active_parameters: int
    operations: int
    active_operations: int

    @property
    def active_share(self):
        """The part of the operations that a row takes."""
        return self.active_operations / self.operations
