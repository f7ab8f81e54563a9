"""What stands beside the networks of skmoe: other packages' MMoE, boosting, logistic.

The packages are optional: pip install deepctr-torch==0.3.0 torch-rechub==0.9.0
lightgbm requests (deepctr-torch does not declare that it needs the last).
"""

import contextlib
import copy
import io
import threading
import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from _data import NUMBERS, areas
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

__all__ = [
    "PACKAGES",
    "DeepCTRMMoE",
    "RechubMMoE",
    "boosting",
    "lightgbm",
    "logistic",
    "one_thread",
    "train_to_best",
]

# What has to be there to run a model of another package.
PACKAGES = {
    name: find_spec(module) is not None
    for name, module in {
        "deepctr-torch": "deepctr_torch",
        "torch-rechub": "torch_rechub",
        "LightGBM": "lightgbm",
    }.items()
}
N_EXPERTS, EXPERT, TOWER, SIZE = 8, 32, 16, 8
N_TASKS = 2
STOP_ROUNDS = 50  # of boosting without a better validation loss


@contextlib.contextmanager
def one_thread():
    """Run on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def silence():
    """Swallow what the packages print, which cannot be turned off."""
    nowhere = io.StringIO()
    with (
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


class DeepCTRMMoE:
    """MMOE of deepctr-torch, with Adam.

    Parameters
    ----------
    sizes : list of int
        Codes of each column of categories.
    n_numbers : int
    learning_rate : float
    batch_size : int
    seed : int
    """

    # That of 1e-3 (the default) and 5e-3 with the better validation scores.
    learning_rate = 5e-3

    def __init__(self, sizes, n_numbers, *, learning_rate, batch_size, seed):
        with silence():
            inputs = self._imported("inputs")
            models = import_module("deepctr_torch.models.multitask.mmoe")
            torch.manual_seed(seed)
            self.module = models.MMOE(
                [
                    inputs.SparseFeat(f"c{j}", size, embedding_dim=SIZE)
                    for j, size in enumerate(sizes)
                ]
                + [inputs.DenseFeat(f"n{j}", 1) for j in range(n_numbers)],
                num_experts=N_EXPERTS,
                expert_dnn_hidden_units=(EXPERT,),
                gate_dnn_hidden_units=(),
                tower_dnn_hidden_units=(TOWER,),
                task_types=["binary"] * N_TASKS,
                task_names=["first", "second"],
                seed=seed,
            )
            adam = torch.optim.Adam(self.module.parameters(), lr=learning_rate)
            self.module.compile(adam, ["binary_crossentropy"] * N_TASKS)
        self.batch_size = batch_size

    @staticmethod
    def _imported(name):
        """Import a part; wait for the thread that then asks for newer versions."""
        before = set(threading.enumerate())
        module = import_module(f"deepctr_torch.{name}")
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=10)
        return module

    @staticmethod
    def _inputs(rows):
        # One type for all: the package joins them to one matrix.
        return {f"c{j}": c for j, c in enumerate(rows.codes.T.astype(np.float32))} | {
            f"n{j}": c for j, c in enumerate(rows.numbers.T)
        }

    def train(self, rows, n_epochs=1):
        """Train on Codes for some epochs."""
        options = {"batch_size": self.batch_size, "epochs": n_epochs, "verbose": 0}
        with silence():
            self.module.fit(self._inputs(rows), rows.y, **options)

    def proba(self, rows):
        """Return the probabilities of 1, of shape (2, n_rows)."""
        with silence():
            return self.module.predict(self._inputs(rows), batch_size=8192).T


class RechubMMoE:
    """MMOE of torch-rechub, with Adam; parameters as those of `DeepCTRMMoE`."""

    learning_rate = 5e-3  # chosen likewise

    def __init__(self, sizes, n_numbers, *, learning_rate, batch_size, seed):
        with silence():
            features = import_module("torch_rechub.basic.features")
            models = import_module("torch_rechub.models.multi_task")
            trainers = import_module("torch_rechub.trainers")
            torch.manual_seed(seed)
            # Made anew each time: they keep the vectors that were trained.
            columns = [
                features.SparseFeature(f"c{j}", vocab_size=size, embed_dim=SIZE)
                for j, size in enumerate(sizes)
            ] + [features.DenseFeature(f"n{j}") for j in range(n_numbers)]
            kinds = ["classification"] * N_TASKS
            towers = [{"dims": [TOWER]} for _ in kinds]
            self.module = models.MMOE(
                columns, kinds, N_EXPERTS, {"dims": [EXPERT]}, towers
            )
            adam = {"lr": learning_rate, "weight_decay": 1e-5}
            self.trainer = trainers.MTLTrainer(
                self.module, kinds, optimizer_params=adam
            )
        self.batch_size = batch_size

    @staticmethod
    def _inputs(rows):
        return {f"c{j}": column for j, column in enumerate(rows.codes.T)} | {
            f"n{j}": column for j, column in enumerate(rows.numbers.T)
        }

    def train(self, rows, n_epochs=1):
        """Train on Codes for some epochs."""
        data = import_module("torch_rechub.utils.data")
        x = self._inputs(rows)
        few = ({name: column[:1] for name, column in x.items()}, rows.y[:1])
        with silence():
            generator = data.DataGenerator(x, rows.y)
            loader = generator.generate_dataloader(
                *few, *few, batch_size=self.batch_size
            )[0]
            for _ in range(n_epochs):
                self.trainer.train_one_epoch(loader)

    def proba(self, rows):
        """Return the probabilities of 1, of shape (2, n_rows)."""
        data = import_module("torch_rechub.utils.data")
        dataset = data.PredictDataset(self._inputs(rows))
        loader = torch.utils.data.DataLoader(dataset, batch_size=8192)
        with silence():
            return np.array(self.trainer.predict(self.module, loader)).T


def train_to_best(peer, train, valid, max_epochs, patience):
    """Train epoch by epoch; leave the weights of the best mean validation AUC.

    It is done here because one package pools the tasks' AUC and the other restores
    the best weights only now and then.

    Parameters
    ----------
    peer : DeepCTRMMoE or RechubMMoE
    train, valid : Codes
    max_epochs, patience : int

    Returns
    -------
    n_epochs : int
        Epochs that were run.
    """
    best, best_epoch, epoch, kept = -np.inf, 0, 0, None
    while epoch < min(max_epochs, best_epoch + patience):
        epoch += 1
        peer.train(train)
        score = np.mean(areas(valid.y, peer.proba(valid)))
        if score > best:
            best, best_epoch = score, epoch
            kept = copy.deepcopy(peer.module.state_dict())
    peer.module.load_state_dict(kept)
    return epoch


def boosting(train, valid, seed):
    """Fit one histogram boosting a task.

    Parameters
    ----------
    train, valid : Part
        The second tells when to stop.
    seed : int

    Returns
    -------
    proba : callable
        From a data frame to the probabilities of 1, a list of arrays.
    n_rounds : list of int
    """
    models = []
    for t in range(train.y.shape[1]):
        model = HistGradientBoostingClassifier(
            max_iter=2000,
            learning_rate=0.05,
            early_stopping=True,
            n_iter_no_change=STOP_ROUNDS,
            random_state=seed,
        )
        held_out = {"X_val": valid.X, "y_val": valid.y[:, t]}
        models.append(model.fit(train.X, train.y[:, t], **held_out))
    return _proba(models), [model.n_iter_ for model in models]


def lightgbm(train, valid, seed):
    """Fit one LightGBM a task; as `boosting`."""
    package, models = import_module("lightgbm"), []
    for t in range(train.y.shape[1]):
        model = package.LGBMClassifier(
            n_estimators=2000,
            learning_rate=0.05,
            n_jobs=1,
            random_state=seed,
            verbose=-1,
        )
        stop = package.early_stopping(STOP_ROUNDS, verbose=False)
        held_out = {"eval_X": valid.X, "eval_y": valid.y[:, t], "callbacks": [stop]}
        models.append(model.fit(train.X, train.y[:, t], **held_out))
    return _proba(models), [model.best_iteration_ for model in models]


def logistic(train, valid, seed):
    """Fit one logistic regression a task, on one-hot columns; as `boosting`."""
    del valid, seed  # It has nothing to stop, and nothing random.
    names = [name for name in train.X if name not in NUMBERS]
    models = []
    for t in range(train.y.shape[1]):
        columns = make_column_transformer(
            (StandardScaler(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), names)
        )
        model = make_pipeline(columns, LogisticRegression(max_iter=300))
        models.append(model.fit(train.X, train.y[:, t]))
    return _proba(models), [int(model[-1].n_iter_[0]) for model in models]


def _proba(models):
    return lambda X: [model.predict_proba(X)[:, 1] for model in models]
