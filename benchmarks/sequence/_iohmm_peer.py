"""Run IOHMM at given parameters, in an interpreter of its own: see `peers.py`.

    PYTHON _iohmm_peer.py DATA.npz PASSES

DATA holds X, y, lengths and the parameters; printed is JSON with the log-likelihood
there and the seconds of each pass (an M-step and an E-step) from there on.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
from IOHMM import OLS, CrossEntropyMNL, UnSupervisedIOHMM


def with_intercept(intercept, coef):
    """Join intercepts and slopes, intercepts first as IOHMM has them."""
    return np.concatenate([intercept[..., None], coef], axis=-1)


def build(data):
    """Build a model that has the given parameters, and hand it the sequences."""
    n_experts, n_features = data["coef"].shape
    # The initial law has no inputs; a column of zeros, since IOHMM wants one.
    initial = with_intercept(np.log(data["initial"]), np.zeros((n_experts, 1)))
    gates = with_intercept(data["gate_intercept"], data["gate_coef"])
    slopes = with_intercept(data["intercept"], data["coef"])
    model = UnSupervisedIOHMM(num_states=n_experts, EM_tol=0.0)
    model.set_models(
        model_initial=CrossEntropyMNL(coef=initial, n_classes=n_experts),
        model_transition=[CrossEntropyMNL(coef=g, n_classes=n_experts) for g in gates],
        model_emissions=[
            [OLS(coef=b[None], dispersion=np.array([[v]]), n_targets=1)]
            for b, v in zip(slopes, data["variance"])  # noqa: B905 - Python 3.8
        ],
        trained=True,
    )
    names = [f"x{column}" for column in range(n_features)]
    model.set_inputs(["zero"], names, [names])
    model.set_outputs([["y"]])
    frame = pd.DataFrame(data["X"], columns=names).assign(zero=0.0, y=data["y"])
    ends = np.cumsum(data["lengths"])
    model.set_data([frame.iloc[e - n : e] for e, n in zip(ends, data["lengths"])])  # noqa: B905
    return model


def main():
    data = np.load(sys.argv[1])
    model = build(data)
    model.E_step()
    answer = {"log_likelihood": float(model.log_likelihood), "seconds": []}
    for _ in range(int(sys.argv[2])):
        begin = time.process_time()
        model.M_step()
        model.E_step()
        answer["seconds"].append(time.process_time() - begin)
    answer["log_likelihood_after"] = float(model.log_likelihood)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
