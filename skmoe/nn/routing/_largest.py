"""The largest scores of each row."""

import torch
from torch import Tensor

__all__ = ["largest"]

# So many maxima take less time than to sort a row.
FEW = 8


def largest(scores: Tensor, k: int) -> Tensor:
    """Return the positions of the k largest scores of each row, in falling order.

    Ties go to the lower position. A few are found by maxima alone: `topk` of torch
    takes longer than the experts on a GPU, and leaves open who wins a tie.

    Parameters
    ----------
    scores : tensor of shape (n_rows, n_experts)
    k : int

    Returns
    -------
    index : tensor of int64 of shape (n_rows, k)
    """
    scores = scores.detach()
    if k > FEW:
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    if k > 1:  # -inf stands for what is found already
        scores = scores.clamp(min=torch.finfo(scores.dtype).min)
    found = [scores.max(dim=1, keepdim=True).indices]
    while len(found) < k:
        scores = scores.scatter(1, found[-1], -torch.inf)
        found.append(scores.max(dim=1, keepdim=True).indices)
    return found[0] if k == 1 else torch.cat(found, dim=1)
