"""Weights that predict better than the last: a moving average, the best so far."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["BestWeights", "WeightAverage"]


class WeightAverage:
    """Exponential moving average of parameters over steps of training.

    After step t it moves ``1 - min(decay, t / (t + 10))`` of the way to the new
    weights, so that it forgets the first ones: Polyak, B. & Juditsky, A. (1992).
    Acceleration of stochastic approximation by averaging. SIAM J. Control Optim.
    30, 838-855, in the form that forgets.

    Parameters
    ----------
    params : sequence of parameters
    decay : float
        At least 0 and below 1; 0 keeps the last weights.
    """

    def __init__(self, params: Sequence[nn.Parameter], decay: float) -> None:
        self.params: list[Tensor] = list(params)
        self.decay = decay
        self.mean = [param.detach().clone() for param in self.params]
        # A tensor, so that a recorded step counts as well.
        self.step = torch.zeros((), device=self.params[0].device)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step in."""
        if not self.decay:
            return
        self.step += 1.0
        share = 1.0 - (self.step / (self.step + 10.0)).clamp(max=self.decay)
        for mean, param in zip(self.mean, self.params, strict=True):
            mean.lerp_(param, share.to(mean.dtype))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the parameters the average for a while."""
        last: list[Tensor] = [param.detach().clone() for param in self.params]
        self.take()
        try:
            yield
        finally:
            _copy(last, self.params)

    def take(self) -> None:
        """Give the parameters the average for good."""
        if self.decay:
            _copy(self.mean, self.params)


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    # In place: a recorded step knows where the weights are.
    torch._foreach_copy_(list(target), list(source))


class BestWeights:
    """The weights that had the highest score so far.

    Parameters
    ----------
    module : module
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.score, self.waited = -float("inf"), 0
        self.state: dict[str, Tensor] | None = None

    def offer(self, score: float) -> None:
        """Keep the weights if their score is the highest."""
        self.waited += 1
        if score > self.score:
            self.score, self.waited = score, 0
            self.state = copy.deepcopy(self.module.state_dict())

    def put_back(self) -> None:
        """Return to the best weights."""
        if self.state is not None:
            self.module.load_state_dict(self.state)
