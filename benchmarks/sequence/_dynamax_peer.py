"""Run dynamax at given parameters, in an interpreter of its own: see `peers.py`.

    PYTHON _dynamax_peer.py DATA.npz PASSES

DATA holds X, y, lengths (all equal) and the parameters; printed is JSON with the
log-likelihood there and the seconds of each pass from there on, once compiled.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.hidden_markov_model import LinearRegressionHMM


def build(data):
    """Build a model that has the given parameters; no priors."""
    n_experts, n_features = data["coef"].shape
    model = LinearRegressionHMM(
        n_experts,
        n_features,
        1,
        initial_probs_concentration=1.0,
        transition_matrix_concentration=1.0,
    )
    params, props = model.initialize(
        initial_probs=jnp.array(data["initial"]),
        transition_matrix=jnp.array(data["transition"]),
        emission_weights=jnp.array(data["coef"][:, None, :]),
        emission_biases=jnp.array(data["intercept"][:, None]),
        emission_covariances=jnp.array(data["variance"][:, None, None]),
    )
    return model, params, props


def main():
    data = np.load(sys.argv[1])
    model, params, props = build(data)
    n_sequences = len(data["lengths"])
    X = jnp.array(data["X"]).reshape(n_sequences, -1, data["X"].shape[1])
    y = jnp.array(data["y"]).reshape(n_sequences, -1, 1)
    state = model.initialize_m_step_state(params, props)

    @jax.jit
    def one_pass(params, state):
        statistics, log_lik = jax.vmap(lambda y, X: model.e_step(params, y, X))(y, X)
        params, state = model.m_step(params, props, statistics, state)
        return params, state, log_lik.sum()

    params, state, log_lik = one_pass(params, state)
    answer = {"log_likelihood": float(log_lik), "seconds": []}
    for _ in range(int(sys.argv[2])):
        begin = time.perf_counter()
        params, state, log_lik = jax.block_until_ready(one_pass(params, state))
        answer["seconds"].append(time.perf_counter() - begin)
    answer["log_likelihood_after"] = float(log_lik)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
