"""Torch modules for neural experts and gates: rows in, raw outputs out.

Every module is built as ``Module(n_inputs, n_outputs, *, ...)`` and turns a float
tensor of shape (n_rows, n_inputs) into raw outputs (means, logits or log rates) of
shape (n_rows, n_outputs). Copies of one module can be stacked and run at once by
``torch.func.stack_module_state`` and ``vmap``. `MMoENetwork` is the exception: numbers
and codes in, raw outputs of several tasks and gate weights out.
"""

try:
    import torch as _torch  # noqa: F401  asked for here, so that one place explains
except ImportError as error:
    raise ImportError("skmoe.nn needs torch: pip install 'skmoe[torch]'") from error

from skmoe.nn._cnn import SmallCNN
from skmoe.nn._deep_mixture import DeepMixture
from skmoe.nn._dense_router import DenseRouter
from skmoe.nn._embeddings import (
    CategoryEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from skmoe.nn._expert_choice import ExpertChoiceRouter
from skmoe.nn._expert_list import ExpertList
from skmoe.nn._expert_parallel import ExpertParallel
from skmoe.nn._expert_shards import (
    full_state_dict,
    load_full_state_dict,
    shard_experts,
)
from skmoe.nn._fast_feedforward import FastFeedforward
from skmoe.nn._fixed_routers import HashRouter, RandomRouter
from skmoe.nn._mlp import MLP
from skmoe.nn._mlp_experts import MLPExperts
from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._moe_layer import MoELayer, auxiliary_loss
from skmoe.nn._moefy import moefy
from skmoe.nn._noisy_router import NoisyTopKRouter
from skmoe.nn._routing_plan import RoutingPlan, SoftPlan
from skmoe.nn._soft_router import SoftRouter
from skmoe.nn._sparse_vit import SparseViT
from skmoe.nn._table_rows import TableRows
from skmoe.nn._top_k_router import SwitchRouter, TopKRouter
from skmoe.nn._transformer import RowTransformer
from skmoe.nn._vit import SmallViT

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
