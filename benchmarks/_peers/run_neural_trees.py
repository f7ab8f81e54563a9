"""Runner of neural-trees: a hierarchy of neural experts trained by gradient.

Its defaults: four leaves (depth 2), 50 epochs.
"""

import torch
from _worker import Model, log_proba_of, run
from neural_trees import HierarchicalMixtureOfExperts

CLASSIFICATION = Model(
    fit=lambda X, y, seed: HierarchicalMixtureOfExperts(random_state=seed).fit(X, y),
    predict=lambda model, X: model.predict(X),
    log_prob=log_proba_of,
    estimator=HierarchicalMixtureOfExperts,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    run("neural-trees", {"clf": CLASSIFICATION})
