"""What keeps experts busy alike: losses that travel with a routing plan."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skmoe.nn.routing._largest import largest

__all__ = [
    "cv_squared",
    "deviation_loss",
    "importance_loss",
    "load_loss",
    "smooth_load",
    "switch_loss",
    "z_loss",
]


def cv_squared(values: Tensor) -> Tensor:
    """Return the square of the coefficient of variation: variance over mean squared.

    The variance is that of a population. 0 for a single value.

    Parameters
    ----------
    values : tensor of shape (n_experts,)
    """
    mean = values.mean()
    # Values that are all zero vary by nothing.
    return (values - mean).square().mean() / mean.square().clamp(min=1e-20)


def importance_loss(gates: Tensor) -> Tensor:
    """Return CV squared of the experts' importance, their sums of gate values.

    Shazeer, N. et al. (2017). Outrageously large neural networks: the
    sparsely-gated mixture-of-experts layer. ICLR, equations 6 and 7.

    Parameters
    ----------
    gates : tensor of shape (n_rows, n_experts)
        Zero for experts that a row does not go to.
    """
    return cv_squared(gates.sum(dim=0))


def smooth_load(clean: Tensor, noisy: Tensor, scale: Tensor, top_k: int) -> Tensor:
    """Return the number of rows that each expert may expect, with a gradient.

    An expert's probability to be among the k largest when its noise is drawn again
    and that of the others is kept: Shazeer et al. (2017), equations 8 to 10. The sum
    over experts is about ``top_k * n_rows``.

    Parameters
    ----------
    clean, noisy : tensors of shape (n_rows, n_experts)
        Logits without and with noise.
    scale : tensor of shape (n_rows, n_experts)
        Standard deviation of the noise.
    top_k : int

    Returns
    -------
    load : tensor of shape (n_experts,)
    """
    n_experts = clean.shape[1]
    if top_k == n_experts:
        return clean.new_full((n_experts,), float(clean.shape[0]))
    best = noisy.gather(1, largest(noisy, top_k + 1))
    inside = noisy > best[:, -1:]
    # The k-th largest of the others: one place further down for those inside.
    threshold = torch.where(inside, best[:, -1:], best[:, -2:-1])
    # The normal law's distribution function of (clean - threshold) / scale.
    short = (threshold - clean) / (scale * math.sqrt(2.0))
    return 0.5 * torch.erfc(short).sum(dim=0)


def load_loss(clean: Tensor, noisy: Tensor, scale: Tensor, top_k: int) -> Tensor:
    """Return CV squared of `smooth_load`: Shazeer et al. (2017), equation 11."""
    return cv_squared(smooth_load(clean, noisy, scale, top_k))


def switch_loss(probabilities: Tensor, load: Tensor) -> Tensor:
    """Return ``n_experts * sum_e f_e P_e``; it is 1 where all experts are alike.

    f is the share of choices that an expert gets, P the mean of its probabilities:
    Fedus, W., Zoph, B. & Shazeer, N. (2021). Switch transformers. arXiv 2101.03961,
    equations 4 to 6.

    Parameters
    ----------
    probabilities : tensor of shape (n_rows, n_experts)
    load : tensor of shape (n_experts,)
        Choices of each expert.
    """
    mean = probabilities.mean(dim=0)
    share = load.to(mean.dtype) / load.sum().clamp(min=1)
    return len(load) * (share * mean).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Return the mean square of the logsumexp of the logits.

    Keeps logits small, where low precision tells them apart: Zoph, B. et al. (2022).
    ST-MoE. arXiv 2202.08906, equation 5.

    Parameters
    ----------
    logits : tensor of shape (n_rows, n_experts)
    """
    return logits.logsumexp(dim=1).square().mean()


def deviation_loss(probabilities: Tensor) -> Tensor:
    """Return the standard deviation over experts of their mean probability, times E.

    Parameters
    ----------
    probabilities : tensor of shape (n_rows, n_experts)
    """
    mean = probabilities.mean(dim=0)
    # The root has no gradient where all are alike.
    spread = (mean - mean.mean()).square().mean()
    return len(mean) * (spread + 1e-12).sqrt()


# What needs no more than gates, probabilities, logits and load.
Formula = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
FORMULAS: dict[str, Formula] = {
    "importance": lambda gates, probabilities, logits, load: importance_loss(gates),
    "switch": lambda gates, probabilities, logits, load: switch_loss(
        probabilities, load
    ),
    "deviation": lambda gates, probabilities, logits, load: deviation_loss(
        probabilities
    ),
    "z": lambda gates, probabilities, logits, load: z_loss(logits),
}
