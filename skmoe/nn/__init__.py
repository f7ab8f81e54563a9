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
from skmoe.nn._embeddings import (
    CategoryEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from skmoe.nn._mlp import MLP
from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn._transformer import RowTransformer
from skmoe.nn._vit import SmallViT

__all__ = [
    "MLP",
    "CategoryEmbedding",
    "MMoENetwork",
    "PeriodicEmbedding",
    "PiecewiseLinearEmbedding",
    "RowTransformer",
    "SmallCNN",
    "SmallViT",
    "TableRows",
]
