"""Batches of uint8 images for training and test, from memory or from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iif_d2.seeds import derived_seed

from .images import LabelledImages, read_image
from .order import TrainOrder, seeded

Batches = Iterator[tuple[Tensor, Tensor]]
_CHUNK = 2048  # images augmented at once


class MemoryLoader:
    """Training batches from decoded images, augmented a chunk of whole batches at a time.

    Args:
        images: with `pixels`.
        augment: uint8 (N, 3, S, S) to the same, drawing from torch's global generator.
        device: where the pixels stay and are augmented.
    """

    def __init__(
        self,
        images: LabelledImages,
        order: TrainOrder,
        augment: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self.order, self.augment, self.device = order, augment, device
        self.pixels = images.pixels.to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.batches_per_chunk = max(1, _CHUNK * order.world_size // order.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Batches:
        """(B, 3, S, S) uint8 and int64 (B,) of each step of this epoch from step `start` on."""
        chunks = self.order.epoch(epoch).split(self.batches_per_chunk)
        for number, chunk in enumerate(chunks):
            skip = start - number * self.batches_per_chunk
            if skip >= len(chunk):
                continue
            chunk = chunk.to(self.device)
            with seeded(self.order.seed, epoch, self.order.rank, number, device=self.device):
                images = self.augment(self.pixels[chunk.flatten()])
            images = images.view(*chunk.shape, *images.shape[1:])
            labels = self.labels[chunk]
            for step in range(max(skip, 0), len(chunk)):
                yield images[step], labels[step]


class DiskLoader:
    """Training batches read and augmented image by image in worker processes."""

    def __init__(
        self, images: LabelledImages, order: TrainOrder, transform: Callable, workers: int
    ) -> None:
        self.images, self.order, self.transform, self.workers = images, order, transform, workers

    def batches(self, epoch: int, start: int = 0) -> Batches:
        """(B, 3, S, S) uint8 and int64 (B,) of each step of this epoch from step `start` on."""
        seed = derived_seed(self.order.seed, epoch)
        return iter(
            DataLoader(
                _ImageFiles(self.images, self.transform, seed),
                batch_sampler=self.order.epoch(epoch)[start:].tolist(),
                num_workers=self.workers,
                pin_memory=torch.cuda.is_available(),
            )
        )


class EvaluationLoader:
    """This rank's images of a test: every image on exactly one rank, in batches that end uneven."""

    def __init__(
        self,
        images: LabelledImages,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        transform: Callable | None = None,
        workers: int = 0,
    ) -> None:
        self.images, self.batch_size = images, batch_size
        self.transform, self.workers = transform, workers
        self.indices = torch.arange(len(images))[rank::world_size]

    def __iter__(self) -> Batches:
        batches = [batch for batch in self.indices.split(self.batch_size) if len(batch)]
        if self.images.pixels is not None:
            labels = torch.from_numpy(self.images.labels)
            return ((self.images.pixels[batch], labels[batch]) for batch in batches)
        files = _ImageFiles(self.images, self.transform, seed=0)
        sampler = [batch.tolist() for batch in batches]
        return iter(DataLoader(files, batch_sampler=sampler, num_workers=self.workers))


class _ImageFiles(Dataset):
    """One image by its index; the same seed and index draw the same augmentation in any worker."""

    def __init__(self, images: LabelledImages, transform: Callable, seed: int) -> None:
        self.paths, self.labels = images.paths, images.labels
        self.transform, self.seed = transform, seed

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = read_image(self.paths[index])
        with seeded(self.seed, index):
            return self.transform(image), int(self.labels[index])
