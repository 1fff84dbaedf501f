"""A network of three tasks in a training loop that is not this project's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from models.gradnorm_loss import GradNormLoss

TASKS = ("kind", "depth", "edge")


class Net(nn.Module):
    """A trunk and three heads: (B, 8) -> features (B, 16) and task -> output."""

    def __init__(self, checkpointed: bool | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16))
        self.heads = nn.ModuleDict({task: nn.Linear(16, 3) for task in TASKS})
        self.checkpointed = checkpointed  # None: not at all; else with use_reentrant

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.checkpointed is None:
            features = self.trunk(x)
        else:
            features = checkpoint(self.trunk, x.requires_grad_(), use_reentrant=self.checkpointed)
        return features, {task: head(features) for task, head in self.heads.items()}

    @property
    def last_weight(self) -> Tensor:
        return self.trunk[2].weight


def functions() -> dict[str, nn.Module]:
    return {"kind": nn.CrossEntropyLoss(), "depth": nn.MSELoss(), "edge": nn.SmoothL1Loss()}


def targets(batch: int = 6) -> dict[str, Tensor]:
    return {
        "kind": torch.arange(batch) % 3,
        "depth": torch.linspace(0, 9, 3 * batch).reshape(batch, 3),
        "edge": torch.ones(batch, 3),
    }


def frames(batch: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(batch, 8, generator=torch.Generator().manual_seed(seed))


def pairs_of(outputs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    wanted = targets(len(outputs["kind"]))
    return {task: (output, wanted[task]) for task, output in outputs.items()}


def train(
    net: Net, loss: GradNormLoss, steps: int = 6, place: str = "features"
) -> list[dict[str, float]]:
    """The weights after every step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    weights = []
    for step in range(steps):
        features, outputs = net(frames(seed=step))
        total = loss(pairs_of(outputs), shared=features if place == "features" else net.last_weight)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        weights.append(dict(loss.weights))
    return weights


def measured(
    loss: GradNormLoss, shared: object, net: Net, outputs: dict[str, Tensor]
) -> dict[str, float]:
    loss(pairs_of(outputs), shared=shared)
    return loss.last_update.norms


def train_rank(rank: int, world: int, place: str, unlabelled: bool, folder: Path) -> None:
    """Train as one process of `world`; the weights after every step go to WORLD-RANK.json.

    Args:
        unlabelled: every other step the second process has no label of a task.
    """
    net = model = Net()
    if world > 1:
        meeting = f"file://{folder}/meet"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
        model = DistributedDataParallel(net)
    loss = GradNormLoss(functions(), interval=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    weights = []
    for step in range(6):
        own = slice(rank, None, world)
        features, outputs = model(frames(8, seed=step)[own])
        pairs = {task: (outputs[task], targets(8)[task][own]) for task in outputs}
        if unlabelled and rank == 1 and step % 2:
            del pairs["edge"]
        shared = features
        if place == "weight":
            shared = net.last_weight
        total = loss(pairs, shared=shared)
        optimizer.zero_grad()
        (total + 0 * sum(output.sum() for output in outputs.values())).backward()
        optimizer.step()
        weights.append(dict(loss.weights))
    (folder / f"{world}-{rank}.json").write_text(json.dumps(weights))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
