"""Routing as the papers write it: loops over rows, in NumPy, float64."""

import math

import numpy as np
from scipy.stats import norm


def softmax(values):
    """exp(v) / sum exp(v) of one row; -inf counts as absent."""
    powers = np.exp(np.asarray(values) - np.max(values))
    return powers / powers.sum()


def best_of(scores, k):
    """Experts of the k largest scores of one row; ties go to the first."""
    left, found = list(enumerate(scores)), []
    for _ in range(k):
        winner = left[0]
        for entry in left[1:]:
            if entry[1] > winner[1]:
                winner = entry
        left.remove(winner)
        found.append(winner[0])
    return found


def shazeer_gates(noisy, k):
    """Shazeer et al. (2017), equations 3 and 5: softmax of KeepTopK."""
    gates = np.zeros_like(noisy)
    for t, row in enumerate(noisy):
        kept = np.full(len(row), -np.inf)
        for e in best_of(row, k):
            kept[e] = row[e]
        gates[t] = softmax(kept)
    return gates


def shazeer_cv_squared(values):
    """Equations 7 and 11 without their weight: (standard deviation / mean)^2."""
    n = len(values)
    mean = sum(values) / n
    return sum((v - mean) ** 2 for v in values) / n / mean**2


def shazeer_load(clean, noisy, scale, k):
    """Equations 8 to 10: Phi((clean - kth_excluding) / scale), summed over rows."""
    load = np.zeros(clean.shape[1])
    for t in range(len(clean)):
        for e in range(clean.shape[1]):
            others = sorted(np.delete(noisy[t], e), reverse=True)
            kth = others[k - 1] if k <= len(others) else -np.inf
            load[e] += norm.cdf((clean[t, e] - kth) / scale[t, e])
    return load


def switch_loss(probabilities):
    """Fedus et al. (2021), equations 4 to 6, without alpha: N sum_i f_i P_i."""
    n_rows, n_experts = probabilities.shape
    f, P = np.zeros(n_experts), np.zeros(n_experts)
    for row in probabilities:
        f[best_of(row, 1)[0]] += 1 / n_rows
        P += row / n_rows
    return n_experts * float(f @ P)


def z_loss(logits):
    """Zoph et al. (2022), equation 5."""
    return sum(math.log(sum(math.exp(v) for v in row)) ** 2 for row in logits) / len(
        logits
    )


def places(n_rows, k, n_experts, factor):
    """Fedus et al. (2021), equation 3, for k choices a row, rounded up."""
    exact = factor * n_rows * k / n_experts
    nearest = round(exact)
    return max(1, nearest if abs(exact - nearest) < 1e-6 else math.ceil(exact))


def served_in_turn(index, n_experts, capacity, order=None):
    """GShard (Lepikhin et al. 2020, algorithm 1): all first choices, then all second.

    Returns who is kept, (n_rows, k), and the kept choices of each expert in the order
    in which they were served. With an order of the rows it is the allocation of
    V-MoE (Riquelme et al. 2021, algorithm 2).
    """
    n_rows, k = index.shape
    kept = np.zeros((n_rows, k), dtype=bool)
    members = [[] for _ in range(n_experts)]
    for j in range(k):
        for t in range(n_rows) if order is None else order:
            e = index[t, j]
            if len(members[e]) < capacity:
                members[e].append(t * k + j)
                kept[t, j] = True
    return kept, members


def moved_in_turn(index, scores, capacity, order):
    """Serve as above; then, rank by rank, those left ask their next best expert."""
    index, (n_rows, k) = index.copy(), index.shape
    kept, members = served_in_turn(index, scores.shape[1], capacity, order)
    room = [capacity - len(m) for m in members]
    others = [
        [e for e in best_of(row, len(row)) if e not in index[t]]
        for t, row in enumerate(scores)
    ]
    for step in range(scores.shape[1] - k):
        for j in range(k):
            for t in range(n_rows) if order is None else order:
                e = others[t][step]
                if not kept[t, j] and room[e] and e not in index[t]:
                    index[t, j], kept[t, j] = e, True
                    room[e] -= 1
    return index, kept


def expert_choice(probabilities, size):
    """Zhou et al. (2022), equations 1 and 2: G, I = TopK(S', size)."""
    rows = [best_of(column, size) for column in probabilities.T]
    gates = [[probabilities[t, e] for t in chosen] for e, chosen in enumerate(rows)]
    return np.array(rows), np.array(gates)


def eigen_gates(logits, totals, margin):
    """Eigen et al. (2013), section 3.3: experts ahead by more than the margin get 0."""
    mean = sum(totals) / len(totals)
    gates = np.array([softmax(row) for row in logits])
    for e, total in enumerate(totals):
        if total - mean > margin:
            gates[:, e] = 0.0
    return gates / gates.sum(axis=1, keepdims=True)


def soft_weights(x, phi, scale):
    """Puigcerver et al. (2023), equations 1 and 2, with algorithm 2's normalisation.

    Dispatch D (n_rows, n_slots) sums to 1 over rows, combine C over slots.
    """
    x = np.array([row / math.sqrt(row @ row) for row in x])
    phi = np.array([scale * row / math.sqrt(row @ row) for row in phi])
    logits = x @ phi.T
    D = np.array([softmax(column) for column in logits.T]).T
    C = np.array([softmax(row) for row in logits])
    return D, C
