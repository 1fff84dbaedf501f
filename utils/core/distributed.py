"""Training in several processes, as `torchrun` starts them: who this is, what they exchange.

Alone, every function gives back what it was given. Numbers and objects travel by gloo between the
hosts' memories, so that no GPU has to be waited for; tensors on a GPU by NCCL.

Each rank takes its share of a global batch. A loss is a mean over matched anchors, cells or frames
of the *global* batch; times its `rank_weights`, a rank's own mean is a term whose average over the
ranks, which is what DistributedDataParallel forms of gradients, is that global mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.core.script import LOGGER, UserError

T = TypeVar("T")


def is_launched() -> bool:
    """Whether `torchrun` (or something that speaks as it does) started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


def processes_here() -> int:
    """How many processes of this training share the machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if is_launched() else 1


def launch_id() -> str | None:
    """The name that `torchrun` gives this training, the same after a restart; None without one."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name == "none":
        return None
    return name


def is_restarted() -> bool:
    """Whether `torchrun` has started the processes again, on any machine, after one failed."""
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    return any(gathered([is_launched() and int(restarts) > 0]))


def join(device: torch.device) -> None:
    """Meet the other processes, if `torchrun` started this one.

    From then on the other ranks than 0 log errors only.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not is_launched() or dist.is_initialized():
        return
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend)
    if not is_main():
        LOGGER.setLevel(logging.ERROR)


def leave() -> None:
    """Part from the other processes without waiting for them, since one may have failed."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and messages."""
    return rank() == 0


def averaged(tensor: Tensor) -> Tensor:
    """The mean of the ranks' tensors, the same bits on every rank."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums of the ranks' numbers."""
    if world_size() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total)
    return total.tolist()


def gathered(items: Iterable) -> list:
    """The ranks' items, in the order of the ranks."""
    items = list(items)
    if world_size() == 1:
        return items
    parts: list[list] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def to_main(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Every rank's arrays, in the order of the ranks, in rank 0; nothing in the others.

    Each array travels as its bytes, into the memory where rank 0 keeps it.
    """
    if world_size() == 1:
        return [dict(arrays)]
    own_layout = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    layouts = gathered([own_layout])
    if not is_main():
        for array in arrays.values():
            dist.send(_bytes_of(array), 0)
        return []
    shares = [dict(arrays)]
    for sender, layout in enumerate(layouts[1:], start=1):
        share = {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}
        for array in share.values():
            dist.recv(_bytes_of(array), sender)
        shares.append(share)
    return shares


def _bytes_of(array: np.ndarray) -> Tensor:
    """The memory of a contiguous array."""
    return torch.from_numpy(array.reshape(-1).view(np.uint8))


def from_main(value: object) -> object:
    """Rank 0's value."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def by_main(work: Callable[[], T]) -> T | None:
    """What `work` gives in rank 0; None in the others, which do not call it.

    Raises:
        UserError, OSError: those of rank 0, in every rank.
    """
    result = None
    error = None
    if is_main():
        try:
            result = work()
        except (UserError, OSError) as found:
            error = found
    error = from_main(error)
    if error is not None:
        raise error
    return result


def equalise(tensors: Iterable[Tensor]) -> None:
    """Give every rank the tensors of rank 0, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 goes through the context before the others enter it."""
    if not is_main():
        dist.barrier()
    try:
        yield
    finally:
        if is_main() and world_size() > 1:
            dist.barrier()


def totals(counts: Mapping[str, float]) -> dict[str, float]:
    """The sums of the ranks' counts, by name."""
    return dict(zip(counts, summed(list(counts.values())), strict=True))


def rank_weights(counts: Mapping[str, float], sums: Mapping[str, float]) -> dict[str, float]:
    """The factors of a rank's means, see the module's docstring.

    Alone: 1, or 0 where it has nothing.

    Args:
        counts: name -> over how many things this rank's mean goes.
        sums: their `totals`.
    """
    return {name: count * world_size() / max(sums[name], 1) for name, count in counts.items()}


def data_parallel(module: nn.Module) -> nn.Module:
    """`module` so that its backward pass averages the gradients over the ranks; alone, itself."""
    if world_size() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module)
