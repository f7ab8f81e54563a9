"""Runner of smt's MOE: a Gaussian mixture on (x, y), then one surrogate a cluster.

Four clusters and linear least-squares experts (`LS`), the like of ours. Its other
polynomial surrogate (`QP`) stops with a singular matrix on some of these tables.
"""

import numpy as np
from _worker import Model, run
from smt.applications import MOE


def fit(X, y, seed):
    """Return the trained MOE; it takes no seed, but draws from NumPy's global state."""
    np.random.seed(seed)  # noqa: NPY002
    model = MOE(n_clusters=4, allow=["LS"])
    model.set_training_values(X, y[:, None])
    model.train()
    return model


REGRESSION = Model(
    fit=fit, predict=lambda model, X: model.predict_values(X), estimator=MOE
)

if __name__ == "__main__":
    run("smt", {"reg": REGRESSION})
