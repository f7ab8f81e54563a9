"""Runner of this library: flat mixtures of linear experts at default settings."""

from _worker import Model, run

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor


def make(kind):
    """Return the model of one kind of task; both have the same interface."""
    return Model(
        fit=lambda X, y, seed: kind(random_state=seed).fit(X, y),
        predict=lambda model, X: model.predict(X),
        log_prob=lambda model, X, y: model.log_prob(X, y),
        estimator=kind,
    )


if __name__ == "__main__":
    run(
        None,
        {
            "reg": make(MixtureOfExpertsRegressor),
            "clf": make(MixtureOfExpertsClassifier),
        },
    )
