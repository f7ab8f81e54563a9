"""Routers that send a row to the experts with its k largest scores."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import one_of, rate
from skmoe.nn.parallel._exchange import summed
from skmoe.nn.routing._grouped import with_kernels
from skmoe.nn.routing._largest import largest
from skmoe.nn.routing._router import Places, Router, runs_again
from skmoe.nn.routing._routing_plan import RoutingPlan

__all__ = ["SwitchRouter", "TopKRouter"]

# That a kernel holds a row of.
MOST_EXPERTS = 4096


class TopKRouter(Router):
    """Send each row to the k experts with the largest scores.

    The output of expert e counts with weight ``s_e``, its score ``softmax(x W')_e`` or
    ``sigmoid(x W')_e``, divided by the sum over the k chosen if ``renormalize``, as in
    Jiang, A. et al. (2024). Mixtral of experts. arXiv 2401.04088, section 2.1.

    Parameters
    ----------
    n_inputs, n_experts : int
        Numbers of a row, and experts to choose from.
    top_k : int, default=2
        Experts of a row.
    scores : {"softmax", "sigmoid"}, default="softmax"
    renormalize : bool, default=True
        Whether the weights of the chosen experts sum to one. With one expert the
        weight is then 1, and the router learns from its losses alone: use False.
    losses : mapping of str to float or None, default=None
        Losses that travel with the plan while the router trains, and their weights:

        - "importance": squared coefficient of variation of the experts' summed weights;
        - "switch": ``n_experts * sum_e f_e P_e``, share of choices times mean
          probability; 1 where all experts are alike;
        - "deviation": n_experts times the standard deviation of mean probabilities;
        - "z": mean square of the logsumexp of a row's logits.

        None: none for ``bias_rate > 0``, else ``{"switch": 0.01}``.
    capacity_factor : float or None, default=None
        Places of an expert over an even share of the choices of a batch. None: no
        choice is ever dropped. Where places are few, what becomes of a row depends on
        the others of its batch, in evaluation as well.
    overflow : {"drop", "next"}, default="drop"
        What becomes of choices that find no place: they add nothing to the output
        (a residual connection passes the row on), or go to the next best expert that
        has one.
    priority : {"arrival", "gate"}, default="arrival"
        Who is served first where places are few: rows as they come, or those whose
        largest score is larger (batch prioritised routing, Riquelme et al. 2021).
    bias_rate : float, default=0.0
        Balance without a loss: experts are chosen by score plus a bias, which moves
        by this much up after a training batch for experts with less than the mean
        load, and down for the others. Wang, L. et al. (2024). Auxiliary-loss-free
        load balancing strategy for mixture-of-experts. arXiv 2408.15664, algorithm 1;
        DeepSeek-V3 uses 0.001. A pass that `torch.utils.checkpoint` repeats goes by
        the bias of the last one, if the layer is not compiled.

    Attributes
    ----------
    weight : parameter of shape (n_experts, n_inputs)
    bias : buffer of shape (n_experts,)
        Of the choice, where ``bias_rate > 0``.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    bias: Tensor
    # That by which the last batch was routed.
    bias_before: Tensor | None = None

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        top_k: int = 2,
        *,
        scores: str = "softmax",
        renormalize: bool = True,
        losses: Mapping[str, float] | None = None,
        capacity_factor: float | None = None,
        overflow: str = "drop",
        priority: str = "arrival",
        bias_rate: float = 0.0,
    ) -> None:
        name = type(self).__name__
        self_balancing = rate(name, "bias_rate", bias_rate) > 0
        if losses is None:
            losses = {} if self_balancing else {"switch": 0.01}
        super().__init__(n_inputs, n_experts, losses)
        self.places = Places(
            name, self.n_experts, top_k, capacity_factor, overflow, priority
        )
        self.top_k = self.places.top_k
        self.scores = one_of(name, "scores", scores, ("softmax", "sigmoid"))
        self.renormalize, self.bias_rate = bool(renormalize), float(bias_rate)
        if self_balancing:
            self.register_buffer("bias", torch.zeros(self.n_experts))

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        logits = self.logits(self.noised(self.rows(x)))
        if self._in_one_pass(logits):
            return self._routed(logits)
        is_softmax = self.scores == "softmax"
        logs = logits if is_softmax else nn.functional.logsigmoid(logits)
        shares = logs.softmax(dim=1)
        scores = shares if is_softmax else logits.sigmoid()
        # Far apart, logits still differ where scores are all 0 or all 1.
        rank_by = scores + self._bias() if self.bias_rate else logits
        index = first = largest(rank_by, self.top_k)
        order = self.places.order(lambda: scores.gather(1, first))
        index, load = self.places.moved(index, rank_by, order)
        # Scores over their sum, which might be 0.
        chosen = logs if self.renormalize else scores
        weight = chosen.gather(1, index)
        weight = weight.softmax(dim=1) if self.renormalize else weight
        plan = RoutingPlan.of_choices(
            index,
            weight,
            self.n_experts,
            capacity=self.places.capacity(logits.shape[0]),
            order=order,
            load=load,
            logits=logits,
        )
        plan.losses = self.losses(plan, None, shares)
        self._shift(plan.load)
        return plan

    def _in_one_pass(self, logits: Tensor) -> bool:
        """Tell whether a kernel finds choices, weights and sums for the losses."""
        plain = self.places.serves_as_they_come and not self.bias_rate
        fits = self.top_k <= 2 and logits.shape[1] <= MOST_EXPERTS
        return (
            with_kernels(logits)
            and logits.dtype == torch.float32
            and self.scores == "softmax"
            and self.mesh is None
            and plain
            and fits
        )

    def _routed(self, logits: Tensor) -> RoutingPlan:
        """Return the plan that a kernel makes in one pass over the logits."""
        from skmoe.nn.kernels._route_kernel import routed

        n_rows = logits.shape[0]
        kind = "renormalised" if self.renormalize else "softmax"
        weight, index, log_sum, total = routed(logits, self.top_k, kind)
        plan = RoutingPlan.of_choices(
            index,
            weight,
            self.n_experts,
            capacity=self.places.capacity(n_rows),
            logits=logits,
        )
        # One row that has the losses of all: the logsumexp of one logit is that logit.
        square = log_sum.square().mean().clamp(min=1e-30)
        plan.losses = self.losses(
            plan, None, total[None] / max(1, n_rows), square.sqrt().view(1, 1)
        )
        return plan

    def noised(self, rows: Tensor) -> Tensor:
        """Return what the logits are made of."""
        return rows

    def _bias(self) -> Tensor:
        """Return the bias of the choice: in a pass that runs again, what it was."""
        again = self.training and runs_again() and self.bias_before is not None
        return self.bias_before if again else self.bias  # type: ignore[return-value]

    @torch.no_grad()
    def _shift(self, load: Tensor) -> None:
        """Raise the bias of experts that got less than the mean."""
        if self.training and self.bias_rate and not runs_again():
            if not torch.compiler.is_compiling():
                self.bias_before = self.bias.clone()
            load = summed(load.to(self.bias.dtype), self.mesh)
            self.bias += self.bias_rate * (load.mean() - load).sign()


class SwitchRouter(TopKRouter):
    """Send each row to one expert, with places for about as many rows as are alike.

    Fedus, W., Zoph, B. & Shazeer, N. (2021). Switch transformers: scaling to trillion
    parameter models with simple and efficient sparsity. arXiv 2101.03961, section 2.
    The expert's output is multiplied by its softmax probability.

    Parameters
    ----------
    n_inputs, n_experts : int
    capacity_factor : float or None, default=1.25
    jitter : float, default=0.0
        While it trains, the numbers of a row are multiplied by uniform draws from
        1 - jitter to 1 + jitter, for the router alone; the paper uses 0.01.
    losses : mapping of str to float or None, default=None
        None: ``{"switch": 0.01}``; add ``"z": 0.001`` in low precision (ST-MoE).
    overflow, priority, bias_rate :
        As for `TopKRouter`.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        *,
        capacity_factor: float | None = 1.25,
        jitter: float = 0.0,
        losses: Mapping[str, float] | None = None,
        overflow: str = "drop",
        priority: str = "arrival",
        bias_rate: float = 0.0,
    ) -> None:
        super().__init__(
            n_inputs,
            n_experts,
            1,
            renormalize=False,
            losses=losses,
            capacity_factor=capacity_factor,
            overflow=overflow,
            priority=priority,
            bias_rate=bias_rate,
        )
        self.jitter = rate("SwitchRouter", "jitter", jitter)

    def noised(self, rows: Tensor) -> Tensor:
        """Return rows multiplied by draws around one, while the router trains."""
        if not (self.training and self.jitter):
            return rows
        draws = torch.empty_like(rows, requires_grad=False)
        low, high = 1.0 - self.jitter, 1.0 + self.jitter
        return rows * draws.uniform_(low, high, generator=self.generator)
