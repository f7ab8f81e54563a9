"""Runner of gemseo's MOERegressor: clusters, a classifier of them, local models.

Four clusters by k-means, its default classifier (nearest neighbours) and linear
experts, weights soft: better here than its default of hard weights.
"""

from _worker import Model, run
from gemseo.datasets.io_dataset import IODataset
from gemseo.mlearning.regression.algos.moe import MOERegressor


def fit(X, y, seed):
    """Return the trained mixture; the rows travel in a data set of gemseo's own."""
    rows = IODataset()
    rows.add_input_group(X)
    rows.add_output_group(y[:, None])
    model = MOERegressor(rows, hard=False)
    model.set_clusterer("KMeans", n_clusters=4, random_state=seed)
    model.learn()
    return model


REGRESSION = Model(
    fit=fit, predict=lambda model, X: model.predict(X), estimator=MOERegressor
)

if __name__ == "__main__":
    run("gemseo", {"reg": REGRESSION})
