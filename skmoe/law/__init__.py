"""What `MixtureDistribution` computes: quantiles, modes, regions, scores of a law."""

from skmoe.law._intervals import IntervalUnion

__all__ = ["IntervalUnion"]
