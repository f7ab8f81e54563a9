"""What the docstrings of the neural estimators have in common, said once."""

from skmoe.multitask._documented import (
    CLASS_WEIGHT,
    COLUMN_DROPOUT,
    DEVICE,
    ENCODING,
    LAST,
    TRAINING,
    filled,
)

__all__ = ["documented_leaves", "documented_sparse"]

SPARSE = """\
    n_experts : int, default=64
        With a few thousand rows or fewer, 8 to 16 predict better.
    top_k : int, default=2
        Experts of a row. "switch" has one, "dense" all.
    router : str, default="noisy_topk"
        What chooses the experts of a row:

        - "noisy_topk": the largest logits, which have noise in training; losses of
          importance and load keep experts busy alike (Shazeer et al. 2017);
        - "topk": the largest softmax probabilities, scaled to sum to 1;
        - "switch": the largest, with its probability as weight (Fedus et al. 2021);
        - "expert_choice": in training each expert takes the rows of a batch that
          want it most; in prediction a row takes its ``top_k`` most probable
          experts, whatever is beside it (Zhou et al. 2022);
        - "dense": all experts, weighted by a softmax;
        - "hash", "random": yardsticks that learn nothing. "random" predicts by the
          mean of all experts, which is what chance comes to.
    router_losses : dict or None, default=None
        Weights of what is added to the loss for the sake of balance, by name:
        "importance", "switch", "deviation", "z", and of "noisy_topk" "load" and
        "clean", the loss of Switch for the choices that prediction would make, without
        noise. "expert_choice" has "z" alone, "hash" and "random" have none. None:
        ``{"importance": 0.1, "load": 0.1, "clean": 0.3}`` for "noisy_topk",
        ``{"switch": 0.01}`` for "topk" and "switch" unless ``bias_rate`` is positive,
        else none. {}: none.
    capacity_factor : float or None, default=None
        Rows that an expert takes of a batch in training, over an even share. A row
        without a place keeps the constant and linear parts of its prediction. In
        prediction there is no limit, so that a row does not depend on its
        neighbours. None: no limit; for "expert_choice" it is ``top_k``.
    overflow : {"drop", "next"}, default="drop"
        Whether rows that find no place are dropped, or go to their next best expert.
    priority : {"arrival", "gate"}, default="arrival"
        Whether rows are served as they come, or the surest first.
    bias_rate : float, default=0.0
        Of "topk" and "switch": balance by a bias of the choice that moves by this
        much a step, in place of a loss.
    expert_hidden : int, default=32
        Hidden units of an expert.
{body}{column_dropout}{encoding}{class_weight}{training}{device}{last}"""

LEAVES = """\
    depth : int, default=4
        Levels of splits: there are ``2 ** depth`` leaves.
    leaf_width : int, default=32
        Hidden units of a leaf.
    hardening : float, default=3.0
        Weight of the entropy of the splits in the loss, in nats. It drives them
        to hard choices, so that prediction is what was trained; with little of it
        predictions are much worse than in training.
    load_balance : float, default=1.0
        Weight of the loss that keeps leaves busy alike; it is 1 where they are.
        With less, predictions are somewhat better and some leaves get no rows.
    region_leak : float, default=0.1
        Probability, in training, that a split sends a row to the other side, so that
        leaves learn from the rows of their neighbours too and overfit less; 0 for
        never.
    master_leaf_width : int, default=0
        Hidden units of a leaf that sees all rows besides; 0 for none.
{body}{column_dropout}{encoding}{class_weight}{training}{device}{last}"""

BODY = """\
    stem_hidden : sequence of int, default=()
        Widths of layers that all rows pass in front of the {nouns}.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    linear : bool, default=True
        Whether a linear map of the row is added to what the {nouns} make of it.
"""

ATTRIBUTES = """\
    network_ : torch.nn.Module
        The trained network.
    flops_ : NetworkSize
        Parameters, and operations a row: all of them, and those that are active.
    n_iter_ : int
        Epochs of the last training.
    best_epoch_ : int
        The one whose weights were kept.
    history_ : dict of arrays
        "epoch", "train_loss" and, with held-out rows, "score" and
        "validation_loss", by epoch and output.
    n_parameters_ : int
        Trained numbers of the network.
    n_tasks_ : int
        Columns of y.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)"""

OF_SPARSE = """\
    Shazeer, N. et al. (2017). Outrageously large neural networks: the
    sparsely-gated mixture-of-experts layer. ICLR.

    Fedus, W., Zoph, B. & Shazeer, N. (2021). Switch transformers. arXiv 2101.03961.

    Zhou, Y. et al. (2022). Mixture-of-experts with expert choice routing. NeurIPS."""

OF_LEAVES = """\
    Belcak, P. & Wattenhofer, R. (2023). Fast feedforward networks. arXiv 2308.14711.

    Charalampopoulos, A. et al. (2024). Enhancing fast feed forward networks with load
    balancing and a master leaf node. arXiv 2405.16836."""


# Batches small enough for many steps on a small table.
BATCH = "batch_size : int, default=256"
PATIENCE = "n_iter_no_change : int, default={}"


def documented_sparse(cls):
    """Fill in the docstring of a sparse mixture: a class decorator."""
    return filled(cls, SPARSE, _parts(cls, "experts"), ATTRIBUTES, OF_SPARSE)


def documented_leaves(cls):
    """Fill in the docstring of a fast feedforward network: a class decorator."""
    return filled(cls, LEAVES, _parts(cls, "leaves"), ATTRIBUTES, OF_LEAVES)


def _training(patience):
    """Return the common text with the numbers of these estimators."""
    return (
        TRAINING.replace("batch_size : int, default=1024", BATCH)
        .replace("10,000 rows", "1,000 rows")
        .replace("n_iter_no_change : int, default=3", PATIENCE.format(patience))
    )


def _parts(cls, nouns):
    of_classes = "class_weight" in cls.__init__.__code__.co_varnames
    return {
        "{body}": BODY.replace("{nouns}", nouns),
        "{column_dropout}": COLUMN_DROPOUT,
        "{encoding}": ENCODING,
        "{class_weight}": CLASS_WEIGHT if of_classes else "",
        "{training}": _training(10 if nouns == "experts" else 20),
        "{device}": DEVICE,
        "{last}": LAST,
    }
