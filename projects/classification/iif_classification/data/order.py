"""Which image comes when: a function of seed, epoch and rank alone, so that a resume is exact."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from iif_d2.errors import ConfigError
from iif_d2.seeds import derived_seed


@dataclass(frozen=True)
class TrainOrder:
    """The order of training images over epochs, steps and ranks.

    Attributes:
        num_images: N.
        batch_size: images of one step over all ranks, B.
        seed: decides every order.
        rank, world_size: this process, and how many there are.

    Raises:
        ConfigError: B does not divide among the ranks, or is more than N.
    """

    num_images: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"SOLVER.BATCH_SIZE {self.batch_size} does not divide among {self.world_size} ranks"
            )
        if not 0 < self.batch_size <= self.num_images:
            raise ConfigError(
                f"SOLVER.BATCH_SIZE is {self.batch_size}, training has {self.num_images} images"
            )

    @property
    def steps(self) -> int:
        """Steps of one epoch; the images left over, others each time, are skipped."""
        return self.num_images // self.batch_size

    def epoch(self, epoch: int) -> torch.Tensor:
        """int64 (steps, B / world_size): this rank's images of each step."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        order = torch.randperm(self.num_images, generator=generator)[: self.steps * self.batch_size]
        return order.view(self.steps, self.world_size, -1)[:, self.rank]


@contextlib.contextmanager
def seeded(*parts: int, device: torch.device | None = None):
    """Inside, torch's global generators are seeded by `parts`; afterwards they are as before."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(*parts))
        yield
