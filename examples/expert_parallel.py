"""
Experts shared out among processes
==================================

Train a model whose experts are shared out among processes::

    torchrun --nproc-per-node 4 examples/expert_parallel.py [--data 2] [--steps 200]

Each process has rows of its own and a share of the experts: rows travel to their
experts and back. With --data 2, each expert is in two processes, which share their
rows. Without torchrun the same script trains the same model in one process.
"""

import argparse
import os

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from skmoe.nn import (
    ExpertParallel,
    MLPExperts,
    MoELayer,
    TopKRouter,
    auxiliary_loss,
    full_state_dict,
    shard_experts,
)

N_INPUTS, WIDTH, N_EXPERTS, BATCH = 8, 32, 16, 512


class Model(nn.Module):
    """A mixture layer between two linear ones."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(N_INPUTS, WIDTH)
        self.mixture = MoELayer(
            MLPExperts(N_EXPERTS, WIDTH, 64), TopKRouter(WIDTH, N_EXPERTS, top_k=2)
        )
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + self.mixture(h))


def rows(n, generator, device):
    """Return rows of several regimes, and what is to be predicted."""
    x = torch.randn(n, N_INPUTS, generator=generator)
    regime = (x[:, :3] > 0).long() @ torch.tensor([1, 2, 4])
    slopes = torch.linspace(-2, 2, 8)[regime]
    y = slopes * x[:, 3] + torch.sin(2 * x[:, 4]) * (regime % 2)
    return x.to(device), y[:, None].to(device)


def share_out(model, n_data, kind):
    """Share out the experts; let torch average the gradients."""
    n_processes = distributed.get_world_size()
    mesh = init_device_mesh(
        kind, (n_data, n_processes // n_data), mesh_dim_names=("data", "expert")
    )
    shard_experts(model, mesh)
    for module in model.modules():
        if isinstance(module, ExpertParallel):
            for part in module.parts:
                fully_shard(part, mesh=mesh["data"])
    fully_shard(model, mesh=init_device_mesh(kind, (n_processes,)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    several = "RANK" in os.environ
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    rank, n_processes = 0, 1
    if several:
        if kind == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group()
        rank, n_processes = distributed.get_rank(), distributed.get_world_size()
    # The same model in all processes, and other rows in each.
    torch.manual_seed(0)
    model = Model().to(kind)
    if several:
        share_out(model, options.data, kind)
    generator = torch.Generator().manual_seed(1 + rank)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(options.steps):
        x, y = rows(BATCH // n_processes, generator, kind)
        error = nn.functional.mse_loss(model(x), y)
        (error + auxiliary_loss(model)).backward()
        optimiser.step()
        optimiser.zero_grad()
        if rank == 0 and (step + 1) % 50 == 0:
            print(f"step {step + 1}: mean squared error {error.item():.3f}")
    state = full_state_dict(model)
    if rank == 0:
        n_numbers = sum(value.numel() for value in state.values())
        print(f"{n_processes} processes, {n_numbers:,} parameters in all")
    if several:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
