"""One process or several: who am I, start the others, and the few collectives that are needed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException

from iif_d2.errors import ConfigError, IIFError
from iif_d2.process_group import end_process_group

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among all: its number, how many there are, its device."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def main_first(self, work: Callable[[], T]) -> T:
        """`work()` on the main rank, then on the others, so that it may write what they read.

        Raises:
            IIFError: on every rank, where the main rank's `work` raised one.
        """
        failure, result = None, None
        if self.is_main:
            try:
                result = work()
            except IIFError as error:
                failure = error
        if self.world_size > 1:
            told = [failure]
            dist.broadcast_object_list(told, 0)
            failure = told[0]
        if failure is not None:
            raise failure
        return result if self.is_main else work()

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: object) -> list:
        """`value` of every rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Every rank takes the main rank's buffers: between forwards BatchNorm's differ."""
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def launch(work: Callable[[Ranks], None], num_gpus: int) -> None:
    """Run `work` here, or in each of `num_gpus` processes, or as the rank that torchrun started.

    Without GPUs the processes share the CPU and talk through gloo.

    Raises:
        ConfigError: more GPUs are asked for than there are.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        _work_as(rank, int(os.environ.get("LOCAL_RANK", rank)), world_size, "env://", work)
    elif num_gpus > 1:
        found = torch.cuda.device_count()
        if 0 < found < num_gpus:
            raise ConfigError(f"--num-gpus {num_gpus}, but there are {found} GPUs")
        with tempfile.TemporaryDirectory() as folder:
            arguments = (num_gpus, f"file://{folder}/ranks", work)
            try:
                torch.multiprocessing.spawn(_spawned, arguments, nprocs=num_gpus)
            except ProcessExitedException as ended:  # a rank that has logged its error
                sys.exit(ended.exit_code)
    else:
        work(Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu")))


def _spawned(rank: int, world_size: int, address: str, work: Callable[[Ranks], None]) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // world_size))
    _work_as(rank, rank, world_size, address, work)


def _work_as(rank: int, local: int, world_size: int, address: str, work: Callable) -> None:
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if gpu else "gloo", init_method=address, rank=rank, world_size=world_size
    )
    try:
        work(Ranks(rank, world_size, device))
    finally:
        end_process_group()
