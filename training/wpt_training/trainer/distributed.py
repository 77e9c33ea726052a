"""Several processes started by torchrun, each with a slice of every batch."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wpt_training.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all: rank of size, local_rank on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    @staticmethod
    def join(device: torch.device) -> Ranks:
        """Join the group that torchrun's variables name (NCCL on GPUs, else gloo); alone where WORLD_SIZE is not set."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return Ranks()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        return Ranks(
            rank=dist.get_rank(), size=dist.get_world_size(), local_rank=int(os.environ.get("LOCAL_RANK", "0"))
        )

    def part_of(self, batch: int) -> int:
        """Return this rank's samples of a batch; raises TrainingError where the batch cannot be shared out evenly."""
        if batch % self.size:
            raise TrainingError(
                f"a batch of {batch} cannot be shared by {self.size} processes, expected a multiple of them: "
                "change the schedule's batch or torchrun's --nproc-per-node."
            )
        return batch // self.size

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return the module, which averages gradients over ranks where there are several."""
        if self.size == 1:
            return module
        # A stage need not use every parameter at every step (a curriculum switches losses on and off).
        return nn.parallel.DistributedDataParallel(
            module, device_ids=[device.index] if device.type == "cuda" else None, find_unused_parameters=True
        )

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over ranks; NaN on one rank is NaN on all."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def from_first(self, text: str, choices: Sequence[str], device: torch.device) -> str:
        """Return the first rank's choice on all ranks."""
        if self.size == 1:
            return text
        index = torch.tensor([choices.index(text)], device=device)
        dist.broadcast(index, 0)
        return choices[int(index)]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            dist.barrier()
