"""Heads: densities of y from what a module returns, for stacks of parts at once.

Shapes, with K parts that look at the same rows or at rows of their own:

========  ==========================================================
``y``     coded responses, (n_rows, ...) or (K, n_rows, ...)
``raw``   what the modules return, (K, n_rows, n_raw)
``shape`` the heads' own numbers, (K, n_shapes), unconstrained
========  ==========================================================

Responses are coded once: numbers are standardised, classes are codes.
"""

import math
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "CategoricalHead",
    "GaussianHead",
    "Head",
    "PoissonHead",
    "SoftHead",
    "StudentHead",
    "make_head",
]

LOG_2PI = math.log(2.0 * math.pi)
# A variance is at least so much of the variance of y.
VARIANCE_FLOOR = 1e-10
# Degrees of freedom lie between these, as in RobustLinearExpert.
LEAST_DF, MOST_DF, FIRST_DF = 0.5, 200.0, 10.0
SHAPE_STEPS = 3
# A deviation below this share of the largest number is rounding, as in a `Design`.
LEAST_SPREAD = 1e-13


class Head:
    """What all heads share: no numbers of their own, and no prior."""

    n_raw = 1
    n_shapes = 0

    def start(self) -> Tensor:
        """Return the head's numbers before the first M-step, (n_shapes,)."""
        return torch.zeros(self.n_shapes, dtype=torch.float64)

    def code(self, y: Tensor) -> Tensor:
        """Return responses, float64 or integer, as `log_prob` takes them."""
        raise NotImplementedError

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return log densities of coded responses, (K, n_rows)."""
        raise NotImplementedError

    def update(self, y: Tensor, raw: Tensor, weight: Tensor, shape: Tensor) -> Tensor:
        """Return the head's numbers under weights (K, n_rows)."""
        return shape

    def penalty(self, shape: Tensor) -> Tensor:
        """Return the log prior of the numbers up to a constant, (K,)."""
        return shape.new_zeros(shape.shape[:-1])

    def bounded(self, shape: Tensor) -> Tensor:
        """Return numbers that an optimiser has moved, within their bounds."""
        return shape

    def params(self, raw: Tensor) -> Tensor:
        """Return the parameters of the likelihood, in the unit of y."""
        raise NotImplementedError

    @property
    def log_unit(self) -> float:
        """Log of the volume by which coded responses are smaller than y."""
        return 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        """What two heads share that code y alike."""
        numbers = sorted(vars(self).items())
        plain = [v.tolist() if isinstance(v, Tensor) else v for _, v in numbers]
        return (type(self), *plain)


class GaussianHead(Head):
    """Normal noise of one variance for each output.

    The variance of the weighted errors e is the posterior mode
    ``(sum(w e^2) + rows fraction var(y)) / (sum(w) + rows)``.

    Parameters
    ----------
    center, scale : tensors of shape (n_outputs,), float64
        Weighted mean and deviation of y.
    prior : tuple (rows, fraction)
        What the inverse-gamma prior of the variance is worth.
    single : bool
        Whether y is a vector.
    """

    def __init__(
        self, center: Tensor, scale: Tensor, prior: tuple[float, float], single: bool
    ) -> None:
        self.center, self.scale, self.single = center, scale, single
        self.rows, self.fraction = prior
        self.n_raw = self.n_shapes = len(center)

    def code(self, y: Tensor) -> Tensor:
        """Return standardised responses of shape (n_rows, n_outputs)."""
        y = y.reshape(y.shape[0], -1)
        return (y - self.center.to(y.device)) / self.scale.to(y.device)

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return log densities of coded responses, (K, n_rows)."""
        error = y - raw
        log_variance = shape[:, None, :]
        each = LOG_2PI + log_variance + error * error * torch.exp(-log_variance)
        return -0.5 * each.sum(dim=-1)

    def update(self, y: Tensor, raw: Tensor, weight: Tensor, shape: Tensor) -> Tensor:
        """Return log variances at the posterior mode, (K, n_outputs)."""
        scatter = (weight[:, :, None] * (y - raw).double().square()).sum(dim=1)
        return self.mode(scatter, weight.sum(dim=1, keepdim=True), shape)

    def mode(self, scatter: Tensor, mass: Tensor, shape: Tensor) -> Tensor:
        """Return log variances from sums of squared errors and of weights."""
        total = mass + self.rows
        variance = (scatter + self.rows * self.fraction) / total.clamp_min(1e-8)
        log_variance = torch.log(variance.clamp_min(VARIANCE_FLOOR))
        # Of an expert without rows or prior nothing can be said.
        return torch.where(total < 1e-8, shape, log_variance)

    def penalty(self, shape: Tensor) -> Tensor:
        """Return the log density of the variances' prior, (K,)."""
        return -0.5 * self.rows * (shape + self.fraction * torch.exp(-shape)).sum(-1)

    def bounded(self, shape: Tensor) -> Tensor:
        """Return log variances that do not lie below the floor."""
        return shape.clamp_min(math.log(VARIANCE_FLOOR))

    def params(self, raw: Tensor) -> Tensor:
        """Return means, (..., n_rows) or (..., n_rows, n_outputs)."""
        mean = raw * self.scale.to(raw.device) + self.center.to(raw.device)
        return mean[..., 0] if self.single else mean

    @property
    def log_unit(self) -> float:
        """Log of the product of the outputs' deviations."""
        return float(torch.log(self.scale).sum())


class StudentHead(GaussianHead):
    """Noise of Student's t distribution; its numbers are log scale^2 and log df.

    The squared scale has the prior of a variance. An update is three rounds of ECME
    (Liu, C. and Rubin, D. B. 1995, section 3): the scale under the weights
    ``(df + 1) / (df + e^2 / scale^2)``, then a step of Fisher scoring in log df.
    """

    def __init__(
        self, center: Tensor, scale: Tensor, prior: tuple[float, float], single: bool
    ) -> None:
        super().__init__(center, scale, prior, single)
        self.n_shapes = 2

    def start(self) -> Tensor:
        """Return log of squared scale and degrees of freedom."""
        return torch.tensor([0.0, math.log(FIRST_DF)], dtype=torch.float64)

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return log densities of coded responses, (K, n_rows)."""
        log_square, log_df = shape[:, 0, None], shape[:, 1, None]
        df = torch.exp(log_df)
        error = (y - raw)[..., 0]
        ratio = error * error * torch.exp(-log_square - log_df)
        constant = torch.lgamma(0.5 * df + 0.5) - torch.lgamma(0.5 * df)
        constant = constant - 0.5 * (log_df + math.log(math.pi) + log_square)
        return constant - (0.5 * df + 0.5) * torch.log1p(ratio)

    def update(self, y: Tensor, raw: Tensor, weight: Tensor, shape: Tensor) -> Tensor:
        """Return log squared scale and log df after some rounds, (K, 2)."""
        square = (y - raw)[..., 0].double().square()
        mass = weight.sum(dim=1, keepdim=True)
        for _ in range(SHAPE_STEPS):
            log_square, log_df = shape[:, :1], shape[:, 1:]
            df = torch.exp(log_df)
            hidden = (df + 1.0) / (df + square * torch.exp(-log_square))
            scatter = (weight * hidden * square).sum(dim=1, keepdim=True)
            log_square = self.mode(scatter, mass, log_square)
            score = _df_score(square * torch.exp(-log_square), df)
            score = (weight * score).sum(dim=1, keepdim=True)
            step = score / (df * _df_information(df) * mass.clamp_min(1e-8))
            step = torch.where(mass < 1e-8, 0.0, step.clamp(-1.0, 1.0))
            log_df = (log_df + step).clamp(math.log(LEAST_DF), math.log(MOST_DF))
            shape = torch.cat([log_square, log_df], dim=1)
        return shape

    def bounded(self, shape: Tensor) -> Tensor:
        """Return log squared scales above the floor, and log df in their range."""
        log_df = shape[:, 1:].clamp(math.log(LEAST_DF), math.log(MOST_DF))
        return torch.cat([super().bounded(shape[:, :1]), log_df], dim=1)

    def penalty(self, shape: Tensor) -> Tensor:
        """Return the log density of the squared scales' prior, (K,)."""
        return super().penalty(shape[..., :1])


def _df_score(ratio: Tensor, df: Tensor) -> Tensor:
    """Return the derivative of the t log density in df, of squared errors / scale^2."""
    constant = torch.digamma(0.5 * df + 0.5) - torch.digamma(0.5 * df) - 1.0 / df
    tail = (df + 1.0) * ratio / (df * (df + ratio))
    return 0.5 * (constant - torch.log1p(ratio / df) + tail)


def _df_information(df: Tensor) -> Tensor:
    """Return the expected information of one row about df (Lange et al. 1989)."""
    trigamma = torch.polygamma(1, 0.5 * df) - torch.polygamma(1, 0.5 * df + 0.5)
    rest = (df + 5.0) / (2.0 * df * (df + 1.0) * (df + 3.0))
    return 0.25 * trigamma - rest


class PoissonHead(Head):
    """Poisson counts; the module returns the log rate relative to the mean count.

    Parameters
    ----------
    log_mean : float
        Log of the weighted mean of y.
    """

    def __init__(self, log_mean: float) -> None:
        self.log_mean = log_mean

    def code(self, y: Tensor) -> Tensor:
        """Return the counts as float64, of shape (n_rows,)."""
        return y.reshape(y.shape[0]).double()

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return log probabilities of counts, (K, n_rows); -inf where y < 0."""
        inside = (y >= 0) & torch.isfinite(y)
        count = torch.where(inside, y, 0.0)
        log_rate = raw[..., 0] + self.log_mean
        log_prob = count * log_rate - torch.exp(log_rate) - torch.lgamma(count + 1.0)
        return torch.where(inside, log_prob, -torch.inf)

    def params(self, raw: Tensor) -> Tensor:
        """Return the expected counts."""
        return torch.exp(raw[..., 0] + self.log_mean)


class CategoricalHead(Head):
    """Classes; the module returns logits.

    Parameters
    ----------
    n_classes : int
    """

    def __init__(self, n_classes: int) -> None:
        self.n_raw = n_classes

    def code(self, y: Tensor) -> Tensor:
        """Return the codes as integers."""
        return y.long()

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return log probabilities of the rows' classes, (K, n_rows)."""
        log_proba = torch.log_softmax(raw, dim=-1)
        index = y.expand(log_proba.shape[:-1])[..., None]
        return log_proba.gather(-1, index)[..., 0]

    def params(self, raw: Tensor) -> Tensor:
        """Return log probabilities of all classes."""
        return torch.log_softmax(raw, dim=-1)


class SoftHead(CategoricalHead):
    """Shares of classes in place of one class: the responsibilities of a gate."""

    def code(self, y: Tensor) -> Tensor:
        """Return the shares."""
        return y

    def log_prob(self, y: Tensor, raw: Tensor, shape: Tensor) -> Tensor:
        """Return minus the cross-entropy to the shares, (K, n_rows)."""
        return (y * torch.log_softmax(raw, dim=-1)).sum(dim=-1)


def number_scale(y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and deviation of each output; a unit for constants."""
    y = y.reshape(y.shape[0], -1)
    share = (weight / weight.sum())[:, None]
    center = (share * y).sum(dim=0)
    variance = (share * (y - center).square()).sum(dim=0)
    size = (share * y.square()).sum(dim=0)
    unit = torch.where(size > 0, torch.finfo(torch.float64).eps * size, 1.0)
    varies = variance.sqrt() > LEAST_SPREAD * y.abs().amax(dim=0)
    return center, torch.where(varies, variance, unit).sqrt()


def make_head(
    name: str, y: Tensor, weight: Tensor, prior: Any, n_classes: int | None
) -> Head:
    """Return a head by name, with what it takes from all rows.

    Parameters
    ----------
    name : {"gaussian", "student", "poisson", "categorical"}
    y, weight : tensors of shape (n_rows, ...) and (n_rows,), float64
    prior : tuple (rows, fraction) or None
    n_classes : int or None

    Raises
    ------
    ValueError
        If there are several outputs and the head takes one.
    """
    if name == "categorical":
        return CategoricalHead(n_classes or int(y.max()) + 1)
    if name != "gaussian" and y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"head={name!r} models one output, got y of shape {tuple(y.shape)}; fit "
            "one mixture for each output, or use head='gaussian'."
        )
    if name == "poisson":
        counts = y.reshape(-1)
        inside = (counts >= 0) & torch.isfinite(counts)
        mean = float(weight[inside] @ counts[inside] / weight[inside].sum())
        return PoissonHead(math.log(max(mean, 1e-10)))
    center, scale = (part.cpu() for part in number_scale(y, weight))
    rows, fraction = (0.0, 0.0) if prior is None else prior
    kind = GaussianHead if name == "gaussian" else StudentHead
    return kind(center, scale, (float(rows), float(fraction)), y.ndim == 1)
