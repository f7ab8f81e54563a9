"""One epoch of 16 neural experts as one batched module, beside a loop in plain torch.

    python benchmarks/gpu/neural_experts.py [--device cuda] [--n 1000000]
        [--batch 1024] [--repeats 2] [--json PATH]

16 MLPs (64 columns, two hidden layers of 64) under soft responsibilities: an M-step of
one epoch with AdamW, then the E-step's densities, as EM carries them out. The loop does
the same arithmetic expert by expert: module, optimiser, batches of the same size drawn
without replacement, the weighted squared error, and a last pass for the residuals; its
rows lie on the device in float32 from the start. Wall time, medians of runs in turn; on
a CPU with the threads that torch has (set OMP_NUM_THREADS).
"""

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import Targets, print_table, progress, write_json

from skmoe.experts import TorchExpert

N_EXPERTS, N_COLUMNS = 16, 64
WANTED = {"cuda": 5.0, "cpu": 2.0}


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


class Task:
    """Rows, responsibilities and prepared experts."""

    def __init__(self, n, batch, device):
        rng = np.random.default_rng(0)
        self.n, self.batch, self.device = n, batch, device
        X = rng.normal(size=(n, N_COLUMNS))
        y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=n)
        weights = rng.random((N_EXPERTS, n))
        self.X, self.y = (torch.tensor(a, device=device) for a in (X, y))
        self.weights = torch.tensor(weights / weights.sum(axis=0), device=device)
        every = torch.ones(n, dtype=torch.float64, device=device)
        self.experts = [
            TorchExpert(n_epochs=1, batch_size=batch, lr=1e-3, random_state=k)
            for k in range(N_EXPERTS)
        ]
        for expert in self.experts:
            expert.prepare(self.X, self.y, every)
        self.names = [f"expert{k}" for k in range(N_EXPERTS)]
        self.plain = [copy.deepcopy(expert.module_) for expert in self.experts]
        self.rows = self.X.float()

    def batched(self):
        """Take an M-step and an E-step of all experts at once."""
        TorchExpert.m_step_together(
            self.names, self.experts, self.X, self.y, self.weights
        )
        TorchExpert.log_prob_together(self.experts, self.X, self.y)

    def loop(self):
        """Do the same in a loop over experts."""
        target = self.y.float()
        for module, own in zip(self.plain, self.weights.float(), strict=True):
            optimizer = torch.optim.AdamW(
                module.parameters(), lr=1e-3, weight_decay=1e-4
            )
            order = torch.randperm(self.n, device=self.device)
            for start in range(0, self.n, self.batch):
                some = order[start : start + self.batch]
                optimizer.zero_grad()
                error = module(self.rows[some])[:, 0] - target[some]
                (own[some] * error * error).mean().backward()
                optimizer.step()
            with torch.no_grad():
                for start in range(0, self.n, 65_536):
                    some = slice(start, start + 65_536)
                    error = module(self.rows[some])[:, 0] - target[some]
                    (own[some] * error * error).sum()


def seconds(function, device):
    synchronise(device)
    begin = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=sorted(WANTED))
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warm = Task(20_000, options.batch, options.device)
    warm.batched()
    warm.loop()
    task = Task(options.n, options.batch, options.device)
    ours, theirs = [], []
    for i in range(options.repeats):
        progress(f"run {i + 1} of {options.repeats}")
        ours.append(seconds(task.batched, options.device))
        theirs.append(seconds(task.loop, options.device))
    ratio = float(np.median(theirs) / np.median(ours))
    cuda = options.device == "cuda"
    row = {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "threads": torch.get_num_threads(),
        "n": options.n,
        "batch": options.batch,
        "batched_s": float(np.median(ours)),
        "loop_s": float(np.median(theirs)),
        "ratio": ratio,
        "peak_GB": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }
    print_table([row], [(name, name.replace("_", " "), "") for name in row])
    write_json(options.json, row)
    targets, wanted = Targets(), WANTED[options.device]
    targets.check("loop over batched", ratio, ratio >= wanted, f">= {wanted:g}")
    targets.exit()


if __name__ == "__main__":
    main()
