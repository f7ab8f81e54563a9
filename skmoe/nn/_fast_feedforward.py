"""The fast feedforward layer: a tree of splits, soft in training, hard afterwards."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skmoe.nn._arguments import (
    activation_named,
    not_negative,
    one_of,
    positive,
    rate,
)
from skmoe.nn._tree_walk import ACTIVATIONS, Tree, gathered_leaves, hard_leaves
from skmoe.nn.routing._routed_module import RoutedModule, refuse_forward_mode

__all__ = ["FastFeedforward"]


class FastFeedforward(RoutedModule):
    """A feedforward layer cut into leaves, of which one is evaluated a row.

    A balanced binary tree of ``2**depth - 1`` splits ``s(x) = w @ x + b`` stands above
    ``2**depth`` leaves, small MLPs ``leaf(x)`` of one hidden layer. In training all
    leaves are mixed, ``sum_l p_l(x) leaf_l(x)``, where ``p_l`` is the product of
    ``sigmoid(s)`` over the splits where its path goes right and ``sigmoid(-s)`` where
    it goes left (the forward pass of Belcak & Wattenhofer 2023, algorithm 1). In
    evaluation each row goes right where ``s(x) > 0`` and is given to one leaf: `depth`
    splits and one leaf are read for it, whatever their number.

    Rows may have any leading dimensions: (..., n_inputs) in, (..., n_outputs) out.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Numbers of a row, and of what is returned.
    depth : int, default=4
        Levels of splits. 0 makes a plain MLP of one hidden layer.
    leaf_width : int, default=8
        Hidden units of a leaf. The training width of the paper is
        ``2**depth * leaf_width``.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    hardening : float, default=3.0
        Weight h of the hardening loss: the entropy of the splits' choices, in nats, as
        a mean over rows and splits (the paper writes a sum). It drives the splits
        towards hard choices, so that evaluation is what was trained; 0 leaves it out.
    load_balance : float, default=0.0
        Weight of ``n_leaves * sum_l f_l P_l`` with f the share of the rows that go to
        a leaf and P the mean of its probability; 1 where all leaves have the same
        (Charalampopoulos et al. 2024, after the loss of Switch). 0 leaves it out.
    master_leaf_width : int, default=0
        Hidden units of a further leaf that sees all rows:
        ``k tree(x) + (1 - k) master(x)`` with k trained, the sigmoid of a
        parameter that starts at 0.5 (2024). 0 makes no such leaf.
    region_leak : float, default=0.0
        Probability, in training, that a split has its two children transposed for a
        row, so that rows reach neighbouring leaves too.

    Attributes
    ----------
    n_leaves : int
    losses : dict of str to tensor
        "hardening" and "load_balance" of the last call in training, times their
        weights; `skmoe.nn.auxiliary_loss` sums them. Empty after an evaluation.
    statistics : dict of str to tensor
        Of the last call in training: "load" of shape (n_leaves,), rows whose hard path
        ends in a leaf; "importance" of shape (n_leaves,), the sum of its
        probabilities; "dropped", which is 0; "entropy", the mean that is hardened, in
        nats. Empty after an evaluation, which reads too little to know: see `leaf_of`.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.

    References
    ----------
    Belcak, P. & Wattenhofer, R. (2023). Fast feedforward networks. arXiv 2308.14711.

    Charalampopoulos, A., Chatzis, N., Ntoulas-Panagiotopoulos, F., Papaioannou, C. &
    Potamianos, A. (2024). Enhancing fast feed forward networks with load balancing and
    a master leaf node. arXiv 2405.16836.
    """

    # What to draw from; None: torch's global generator.
    generator: torch.Generator | None = None

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        depth: int = 4,
        leaf_width: int = 8,
        activation: str = "relu",
        hardening: float = 3.0,
        load_balance: float = 0.0,
        master_leaf_width: int = 0,
        region_leak: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.n_inputs = positive(name, "n_inputs", n_inputs)
        self.n_outputs = positive(name, "n_outputs", n_outputs)
        self.depth = _whole(name, "depth", depth)
        self.leaf_width = positive(name, "leaf_width", leaf_width)
        self.activation = one_of(name, "activation", activation, ACTIVATIONS)
        self.hardening = not_negative(name, "hardening", hardening)
        self.load_balance = not_negative(name, "load_balance", load_balance)
        self.region_leak = rate(name, "region_leak", region_leak)
        self.n_leaves = 2**self.depth
        L, d, h, o = self.n_leaves, self.n_inputs, self.leaf_width, self.n_outputs
        self.node_weight = nn.Parameter(torch.empty(L - 1, d))
        self.node_bias = nn.Parameter(torch.empty(L - 1))
        # Both with the hidden units second: all leaves are one wide layer as they lie.
        self.w1 = nn.Parameter(torch.empty(L, h, d))
        self.b1 = nn.Parameter(torch.empty(L, h))
        self.w2 = nn.Parameter(torch.empty(L, h, o))
        self.b2 = nn.Parameter(torch.empty(L, o))
        master = _whole(name, "master_leaf_width", master_leaf_width)
        self.master: nn.Sequential | None = None
        if master:
            function = activation_named(name, activation)
            layers = (nn.Linear(d, master), function, nn.Linear(master, o))
            self.master = nn.Sequential(*layers)
            # Of one number rather than none: `fully_shard` takes no scalars.
            self.master_logit = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, each layer as torch draws a linear one."""
        for parameter in (self.node_weight, self.node_bias, self.w1, self.b1):
            _spread(parameter, self.n_inputs)
        for parameter in (self.w2, self.b2):
            _spread(parameter, self.leaf_width)
        if self.master is not None:
            nn.init.constant_(self.master_logit, 0.5)
            for layer in self.master:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs of shape (..., n_outputs): soft in training, else hard."""
        refuse_forward_mode("FastFeedforward")
        if not self.training:
            return self.forward_hard(x)
        rows = self._rows(x)
        scores = self._scores(rows)
        proba = _leaf_products(scores)
        self._note(scores, proba)
        if self.region_leak:
            draws = torch.empty_like(scores, requires_grad=False)
            draws.bernoulli_(self.region_leak, generator=self.generator)
            proba = _leaf_products(torch.where(draws > 0, -scores, scores))
        out = self._mixed(rows, proba)
        return self._with_master(rows, out).reshape(*x.shape[:-1], self.n_outputs)

    def forward_hard(self, x: Tensor) -> Tensor:
        """Return the outputs of hard choices, in training as in evaluation.

        Gradients reach the leaf that a row goes to, and no split.
        """
        if self.statistics:
            self.losses, self.statistics = {}, {}
        rows = self._rows(x)
        out, _ = self._hard(rows)
        return self._with_master(rows, out).reshape(*x.shape[:-1], self.n_outputs)

    def leaf_of(self, x: Tensor) -> Tensor:
        """Return the leaf that evaluates each row, int64 of shape (...)."""
        return self._hard(self._rows(x))[1].reshape(x.shape[:-1])

    def leaf_proba(self, x: Tensor) -> Tensor:
        """Return the probabilities of the soft mixture, of shape (..., n_leaves)."""
        proba = _leaf_products(self._scores(self._rows(x)))
        return proba.reshape(*x.shape[:-1], self.n_leaves)

    def extra_repr(self) -> str:
        """Return what the layer was built with, for its printed form."""
        return (
            f"{self.n_inputs}, {self.n_outputs}, depth={self.depth}, "
            f"leaf_width={self.leaf_width}, activation={self.activation!r}"
        )

    def _rows(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.n_inputs:
            raise ValueError(
                f"FastFeedforward: rows must have n_inputs={self.n_inputs} columns, "
                f"got a tensor of shape {tuple(x.shape)}."
            )
        return x.reshape(-1, self.n_inputs)

    def _scores(self, rows: Tensor) -> Tensor:
        """Return all splits' scores; half precision is too coarse for products."""
        scores = functional.linear(rows, self.node_weight, self.node_bias)
        return scores.float() if scores.dtype.itemsize < 4 else scores

    def _hard(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        plain = torch.compiler.is_exporting()
        leaves = gathered_leaves if plain else hard_leaves
        splits = (self.node_weight, self.node_bias)
        tree = Tree(*splits, self.w1, self.b1, self.w2, self.b2)
        return leaves(rows.to(self.w1.dtype), tree, self.activation)

    def _mixed(self, rows: Tensor, proba: Tensor) -> Tensor:
        """Return the soft mixture: hidden units are weighted, then summed by one map.

        Outputs of single leaves would be n_leaves times as much memory.
        """
        hidden = functional.linear(rows, self.w1.flatten(0, 1), self.b1.flatten())
        hidden = ACTIVATIONS[self.activation](hidden)
        proba = proba.to(hidden.dtype)
        by_leaf = hidden.view(-1, self.n_leaves, self.leaf_width)
        pooled = (by_leaf * proba[..., None]).flatten(1)
        return torch.addmm(proba @ self.b2, pooled, self.w2.flatten(0, 1))

    def _with_master(self, rows: Tensor, out: Tensor) -> Tensor:
        if self.master is None:
            return out
        master: Tensor = self.master(rows.to(out.dtype))
        share = self.master_logit.sigmoid().to(out.dtype)
        return torch.lerp(master.to(out.dtype), out, share)

    def _note(self, scores: Tensor, proba: Tensor) -> None:
        """Keep the losses and statistics of a call in training."""
        load, importance = _hard_load(scores), proba.sum(0)
        self.losses = {}
        self.statistics = {
            "load": load,
            "importance": importance.detach(),
            "dropped": torch.zeros_like(load[0]),
        }
        if self.depth == 0:
            return
        entropy = _entropy(scores).sum() / max(scores.numel(), 1)
        self.statistics["entropy"] = entropy.detach()
        if self.hardening:
            self.losses["hardening"] = self.hardening * entropy
        if self.load_balance:
            n_rows = max(scores.shape[0], 1)
            balance = (load * importance).sum() * self.n_leaves / n_rows**2
            self.losses["load_balance"] = self.load_balance * balance


def _leaf_products(scores: Tensor) -> Tensor:
    """Return each leaf's product of split probabilities, of shape (n_rows, n_leaves).

    Factors are sigmoid(s) and sigmoid(-s), never 1 minus the other: products keep their
    relative precision down to underflow, where logarithms would gain nothing.
    """
    right, left = scores.sigmoid(), scores.neg().sigmoid()
    product = scores.new_ones(scores.shape[0], 1)
    first = 0
    while first < scores.shape[1]:
        level = slice(first, 2 * first + 1)
        halves = torch.stack([left[:, level], right[:, level]], dim=2)
        product = (product[..., None] * halves).flatten(1)
        first = 2 * first + 1
    return product


def _hard_load(scores: Tensor) -> Tensor:
    """Return how many rows' hard paths end in each leaf."""
    n_nodes = scores.shape[1]
    with torch.no_grad():
        node = torch.zeros(scores.shape[0], 1, dtype=torch.int64, device=scores.device)
        for _ in range(n_nodes.bit_length()):
            node = 2 * node + 1 + (scores.gather(1, node) > 0)
        leaves = torch.arange(n_nodes, 2 * n_nodes + 1, device=scores.device)
        return (node == leaves).sum(0).to(scores.dtype)


def _entropy(scores: Tensor) -> Tensor:
    """Return the entropy of each choice in nats: two terms that never cancel."""
    right = scores.sigmoid() * functional.softplus(-scores)
    return right + scores.neg().sigmoid() * functional.softplus(scores)


def _spread(parameter: Tensor, fan_in: int) -> None:
    nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)


def _whole(owner: str, name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{owner}: {name} must be an integer >= 0, got {value!r}.")
    return int(value)
