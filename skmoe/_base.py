"""What flat mixtures, and trees, share beside their fit: arguments, reading, errors."""

from numbers import Integral, Real
from os import PathLike
from typing import ClassVar

from skmoe._em_shell import FittedByEM
from skmoe._sklearn import Interval, StrOptions
from skmoe._transformer import GateTransformer
from skmoe.reading._mixin import ReadableMixture
from skmoe.statistics._mixin import Statistics

__all__ = ["BaseMixtureOfExperts"]


class BaseMixtureOfExperts(GateTransformer, ReadableMixture, Statistics, FittedByEM):
    """What regressor and classifier share.

    Parameters
    ----------
    experts, n_experts, gate, pooling, top_k, gate_features : see the subclasses
    init, n_init, max_iter, tol, algorithm, acceleration : see the subclasses
    shared_dispersion, balance, capacity, categorical_features : see the subclasses
    unlabelled, device, checkpoint, warm_start : see the subclasses
    random_state, n_jobs, verbose : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        "experts": "no_validation",
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "gate": "no_validation",
        "pooling": "no_validation",
        "top_k": [Interval(Integral, 1, None, closed="left"), None],
        "gate_features": "no_validation",
        "init": [str, callable, "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "algorithm": [
            StrOptions({"em", "cem", "sem", "stack", "gradient", "em+gradient"})
        ],
        "acceleration": [StrOptions({"auto", "squarem", "quasi-newton"}), None],
        "shared_dispersion": ["boolean"],
        "balance": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"cap"}),
            None,
        ],
        "capacity": [Interval(Real, 1, None, closed="left")],
        "categorical_features": "no_validation",
        "unlabelled": "no_validation",
        "device": "no_validation",
        "checkpoint": [str, PathLike, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        experts=None,
        n_experts=4,
        *,
        gate=None,
        pooling="mean",
        top_k=None,
        gate_features=None,
        init="auto",
        n_init=None,
        max_iter=1000,
        tol=1e-7,
        algorithm="em",
        acceleration="auto",
        shared_dispersion=False,
        balance=None,
        capacity=1.25,
        categorical_features="from_dtype",
        unlabelled=None,
        device=None,
        checkpoint=None,
        warm_start=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.experts = experts
        self.n_experts = n_experts
        self.gate = gate
        self.pooling = pooling
        self.top_k = top_k
        self.gate_features = gate_features
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.algorithm = algorithm
        self.acceleration = acceleration
        self.shared_dispersion = shared_dispersion
        self.balance = balance
        self.capacity = capacity
        self.categorical_features = categorical_features
        self.unlabelled = unlabelled
        self.device = device
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
