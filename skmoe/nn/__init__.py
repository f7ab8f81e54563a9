"""Torch modules for neural experts and gates: rows in, raw outputs out.

Most modules are built as ``Module(n_inputs, n_outputs, *, ...)`` and turn a float
tensor of shape (n_rows, n_inputs) into raw outputs (means, logits or log rates) of
shape (n_rows, n_outputs). Copies of one module can be stacked and run at once by
``torch.func.stack_module_state`` and ``vmap``. `MMoENetwork` takes numbers and codes,
and returns raw outputs of several tasks and gate weights. `MoELayer` is a layer for
models of one's own: a router, such as `TopKRouter`, sends rows to experts.
"""

try:
    import torch as _torch  # noqa: F401  asked for here, so that one place explains
except ImportError as error:
    raise ImportError("skmoe.nn needs torch: pip install 'skmoe[torch]'") from error

from skmoe.nn._cnn import SmallCNN
from skmoe.nn._deep_mixture import DeepMixture
from skmoe.nn._embeddings import (
    CategoryEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from skmoe.nn._fast_feedforward import FastFeedforward
from skmoe.nn._mlp import MLP
from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._sparse_vit import SparseViT
from skmoe.nn._table_rows import TableRows
from skmoe.nn._transformer import RowTransformer
from skmoe.nn._vit import SmallViT
from skmoe.nn.parallel._expert_parallel import ExpertParallel
from skmoe.nn.parallel._expert_shards import (
    full_state_dict,
    load_full_state_dict,
    shard_experts,
)
from skmoe.nn.routing._dense_router import DenseRouter
from skmoe.nn.routing._expert_choice import ExpertChoiceRouter
from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._fixed_routers import HashRouter, RandomRouter
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._noisy_router import NoisyTopKRouter
from skmoe.nn.routing._routed_module import auxiliary_loss
from skmoe.nn.routing._routing_plan import RoutingPlan, SoftPlan
from skmoe.nn.routing._soft_router import SoftRouter
from skmoe.nn.routing._top_k_router import SwitchRouter, TopKRouter
from skmoe.nn.upcycling._moefy import moefy

__all__ = [
    "MLP",
    "CategoryEmbedding",
    "DeepMixture",
    "DenseRouter",
    "ExpertChoiceRouter",
    "ExpertList",
    "ExpertParallel",
    "FastFeedforward",
    "HashRouter",
    "MLPExperts",
    "MMoENetwork",
    "MoELayer",
    "NoisyTopKRouter",
    "PeriodicEmbedding",
    "PiecewiseLinearEmbedding",
    "RandomRouter",
    "RoutingPlan",
    "RowTransformer",
    "SmallCNN",
    "SmallViT",
    "SoftPlan",
    "SoftRouter",
    "SparseViT",
    "SwitchRouter",
    "TableRows",
    "TopKRouter",
    "auxiliary_loss",
    "full_state_dict",
    "load_full_state_dict",
    "moefy",
    "shard_experts",
]
