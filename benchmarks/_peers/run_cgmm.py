"""Runner of cgmm: EM for a conditional mixture of linear experts, softmax gate.

Four experts, as our default; at most 100 passes instead of its 200, because a pass
takes it tenths of a second on a thousand rows.
"""

from _worker import Model, run
from cgmm import MixtureOfExpertsRegressor


def fit(X, y, seed):
    """Return its mixture of experts after at most 100 passes."""
    model = MixtureOfExpertsRegressor(n_components=4, max_iter=100, random_state=seed)
    return model.fit(X, y)


REGRESSION = Model(
    fit=fit,
    predict=lambda model, X: model.predict(X),
    log_prob=lambda model, X, y: model.log_prob(X, y),
    estimator=MixtureOfExpertsRegressor,
)

if __name__ == "__main__":
    run("cgmm", {"reg": REGRESSION})
