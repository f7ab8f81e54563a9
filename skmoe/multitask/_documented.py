"""What the docstrings of the multi-task estimators have in common, said once."""

__all__ = [
    "CLASS_WEIGHT",
    "COLUMN_DROPOUT",
    "DEVICE",
    "ENCODING",
    "LAST",
    "TRAINING",
    "documented",
    "filled",
]

COLUMN_DROPOUT = """\
    column_dropout : float, default=0.0
        Share of the columns of categories and bins that a row goes without in a
        training step: where columns say the same, the network must not rely on one.
"""

ENCODING = """\
    embedding_size : int, default=8
        Numbers in the vector of a category.
    embedding_penalty : float, default=60.0
        On the sum of squares of all vectors of categories, over the total weight of
        the rows: a normal prior on each number, of variance
        ``1 / (2 * embedding_penalty)``, which keeps the vectors of rare categories
        near zero.
    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Columns of categories: those of a data frame that hold text, booleans or
        categories, or their positions or names, or a mask. Missing values and
        categories that are new at prediction have a code of their own each.
    numeric_encoding : {"bins", "standard", "piecewise", "periodic"}, default="bins"
        Numbers go in standardised, and besides as the vector of the quantile bin
        that they are in ("bins"), or by a piecewise-linear or periodic embedding.
    n_bins : int, default=128
        Bins of a number.
    min_frequency : int, default=1
        Categories with fewer rows share the code of those that are new.
"""

TRAINING = """\
    learning_rate : float, default=5e-3
    weight_decay : float, default=0.0
        Of AdamW.
    weight_averaging : float, default=0.998
        Decay of the moving average of the weights that is kept and evaluated; 0
        keeps the last weights.
    batch_size : int, default=1024
    max_epochs : int or "auto", default="auto"
        "auto": 2000 steps, and from 20 to 200 epochs.
    early_stopping : bool or "auto", default="auto"
        Whether a part of the rows tells the best epoch; "auto": with more than
        10,000 rows. Where ``fit`` is given ``X_val``, those rows do. The weights of
        the best epoch are kept in any case.
    validation_fraction : float, default=0.1
        The part of the rows, drawn so that all classes are in it where they can be.
    n_iter_no_change : int, default=3
        Epochs without a better one before training stops.
"""

DEVICE = """\
    device : None, str or torch.device, default=None
        "cuda" or "auto" for a GPU. None: the CPU.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        "auto": float64 for up to 10,000 rows on a CPU, else float32. "bfloat16"
        rounds in matrix products only.
    compile : bool, default=False
        Whether torch compiles the network for training.
"""

LAST = """\
    warm_start : bool, default=False
        Whether ``fit`` goes on with the network, encoding and tasks of the last fit;
        what they are made of, and the weights in the loss, must not have changed.
    random_state : int, RandomState or None, default=None
        Of first weights, order of rows, dropout and held-out rows.
    verbose : int, default=0
        Above 0 a line is printed after each epoch."""

PARAMETERS = """\
    architecture : str, default="mmoe"
        - "mmoe": all tasks share ``n_experts``, each with a gate of its own;
        - "omoe": they share one gate as well;
        - "cgc", "ple": besides ``n_shared_experts`` each task has its own; "ple" has
          ``n_levels`` levels of them;
        - "shared_bottom": one network for all tasks, and a tower for each;
        - "single": one network for each task, which share nothing;
        - "aitm", "esmm": one network for each task on shared vectors of the
          categories, along a ``chain`` of binary tasks. In "aitm" a task passes
          information on to the next; in "esmm" its probability is the product
          along the chain.

        All are of about the same size: see ``n_experts``.
    n_experts : int, default=8
        Experts of a level, "cgc" and "ple" included, where those that are not
        shared are dealt out to the tasks. An architecture with fewer networks makes
        them as wide as its experts would be together.
    n_shared_experts : int, default=2
        Experts of all tasks, for "cgc" and "ple".
    n_levels : int, default=2
        For "ple".
    expert_hidden : int or sequence of int, default=(32,)
        Widths of the layers of an expert.
    tower_hidden : int or sequence of int, default=(16,)
        Widths of the layers of a task's tower.
    n_members : int, default=1
        Members of an ensemble within the network: they share vectors and experts,
        but for a scale of each input, and have towers of their own. Training takes
        as many times as long.
    activation : {"relu", "silu", "gelu", "tanh"}, default="relu"
    dropout : float, default=0.0
        Share of hidden numbers that is dropped in training.
{column_dropout}\
    gate_dropout : float, default=0.0
        Share of experts that each gate goes without in a training step, the others
        taking over their weight: keeps gates from relying on one expert.
    normalize_experts : bool, default=False
        Whether the layers of experts are normalised in front of their activation,
        best with ``activation="silu"``.
    gate_entropy, load_balance : float, default=0.0
        Penalties on gates that prefer some experts, in each row and on average.
{chain}\
{encoding}\
    list_features : dict or None, default=None
        How columns of lists of categories are pooled, by their names: "mean", "sum"
        or ``("attention", column)``, which weighs the entries by how well they go
        with the item in another column, whose vectors they share. None: "mean" for
        all columns that hold lists.
    max_list_length : int, default=50
        Of longer lists the last entries count.
    task_weights : None, "uncertainty", array-like or dict, default=None
        What the losses of the tasks are multiplied by: 1, learned weights, or the
        given numbers. The loss of a regression is in squares of its standard
        deviation, those of the others in nats, per labelled row.
{class_weight}\
    aggregator : torchjd aggregator or None, default=None
        What makes one direction of the tasks' gradients, such as
        ``torchjd.aggregation.PCGrad()``; not with ``distributed=True``. None: their
        sum.
{training}\
    monitor : {"loss", "auc"}, default="loss"
        What tells the best epoch: the weighted sum of losses, or the mean area under
        the ROC curve, for tasks with classes.
{device}\
    distributed : bool, default=False
        Whether the processes that ``torchrun`` started share the rows of each batch;
        each is given all rows, and all end with the same network.
{last}"""

CHAIN = """\
    chain : None, str or sequence, default=None
        Order of tasks for "aitm" and "esmm": ``"click -> buy"``, ``["click",
        "buy"]``, or a sequence of chains. None: all binary tasks in their order.
    chain_penalty : float, default=0.6
        Of "aitm": on what a task is more probable than the one in front of it.
"""

CLASS_WEIGHT = """\
    class_weight : None, "balanced", dict or list, default=None
        Weights of the classes: of the one task, or for each task, by name or in
        order.
"""

ATTRIBUTES = """\
    network_ : skmoe.nn.MMoENetwork
        The trained module.
    task_names_ : list
        Names of the tasks, in the order of the columns of y.
    n_tasks_ : int
    n_iter_ : int
        Epochs of the last training.
    best_epoch_ : int
        The one whose weights were kept.
    history_ : dict of arrays
        "epoch", "train_loss" and, with held-out rows, "score" and
        "validation_loss", by epoch and task.
    n_parameters_ : int
        Trained numbers of the network.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)"""

REFERENCES = """\
    Ma, J. et al. (2018). Modeling task relationships in multi-task learning with
    multi-gate mixture-of-experts. KDD. ("mmoe", "omoe", "shared_bottom")

    Tang, H. et al. (2020). Progressive layered extraction (PLE): a novel multi-task
    learning model for personalized recommendations. RecSys. ("cgc", "ple")

    Ma, X. et al. (2018). Entire space multi-task model. SIGIR. ("esmm")

    Xi, D. et al. (2021). Modeling the sequential dependence among audience
    multi-step conversions with multi-task learning. KDD. ("aitm")"""


def documented(cls):
    """Fill in the docstring of an estimator: a class decorator."""
    of_classes = "class_weight" in cls.__init__.__code__.co_varnames
    parts = {
        "{column_dropout}": COLUMN_DROPOUT,
        "{chain}": CHAIN if of_classes else "",
        "{encoding}": ENCODING,
        "{class_weight}": CLASS_WEIGHT if of_classes else "",
        "{training}": TRAINING,
        "{device}": DEVICE,
        "{last}": LAST,
    }
    return filled(cls, PARAMETERS, parts, ATTRIBUTES, REFERENCES)


def filled(cls, parameters, parts, attributes, references):
    """Fill texts into the docstring of a class, and parts into that of parameters."""
    if cls.__doc__ is None:  # python -OO
        return cls
    for name, text in parts.items():
        parameters = parameters.replace(name, text)
    for name, text in {
        "    {parameters}": parameters,
        "    {attributes}": attributes,
        "    {references}": references,
    }.items():
        cls.__doc__ = cls.__doc__.replace(name, text)
    return cls
