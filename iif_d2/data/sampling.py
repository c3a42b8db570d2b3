"""Which images come when, and how they are augmented: by the iteration, whatever the process."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import signal
from multiprocessing import util
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.build import _train_loader_from_config, trivial_batch_collator
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from .dicts import DatasetDicts
from .sharing import training_dicts

Sample = tuple[int, int, int]  # iteration, place in this rank's batch, index of the image


class TrainingBatches:
    """Detectron2's training loader, able to start at any iteration.

    Images come in the order of Detectron2's sampler of the config (`TrainingSampler`, repeat
    factors with their rounding in each epoch, ...) and are grouped by shape as its loader groups
    them. To start later, only indices are drawn again. An image's augmentation is seeded by the
    iteration, the rank and its place in the batch, so the number of workers changes nothing.

    Attributes:
        start: the iteration of the first batch; set it before iterating.
        seed: SEED, or, where that is negative, one drawn at random for all ranks.
        images: the file names of the last batch that was taken.
        sampler: Detectron2's, which gives the order of this rank's images.

    Raises:
        ConfigError: the ranks cannot share SOLVER.IMS_PER_BATCH, or the data set is an iterable.
    """

    def __init__(self, cfg: CfgNode, mapper: Callable[[dict], dict]) -> None:
        self._cfg, self._mapper = cfg, mapper
        ranks = comm.get_world_size()
        if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % ranks:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it must be a multiple of the "
                f"number of processes, {ranks}"
            )
        self._batch_size = cfg.SOLVER.IMS_PER_BATCH // ranks
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self.start = 0
        self.images: list[str] = []
        dicts = training_dicts(cfg)
        if not isinstance(dicts, (list, DatasetDicts)):
            raise ConfigError("DATASETS.TRAIN names a data set that gives no list of dicts")
        self._dicts = DatasetDicts.of(dicts) if isinstance(dicts, list) else dicts
        self._wide = self._dicts.wide()
        self._set_sampler()

    def reseed(self, seed: int) -> None:
        """Go on in the order of this seed, a checkpoint's."""
        if seed != self.seed:
            self.seed = seed
            self._set_sampler()

    def _set_sampler(self) -> None:
        labels = self._dicts.labels()
        # Detectron2's samplers that are given no seed draw one from numpy.
        with seeded(self.seed):
            made = _train_loader_from_config(self._cfg, mapper=self._mapper, dataset=labels)
        self.sampler = made["sampler"]

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        loader = DataLoader(
            _Samples(self._dicts, self._mapper, self.seed),
            batch_sampler=_Batches(self._indices, self.start),
            num_workers=self._cfg.DATALOADER.NUM_WORKERS,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_ignore_sigterm,
            # Its own, since DataLoader would draw from the one that the step draws from.
            generator=torch.Generator(),
        )
        if self._cfg.DATALOADER.NUM_WORKERS:
            util.Finalize(None, _kill_workers, exitpriority=1)
        for batch in loader:
            self.images = [image.get("file_name", "") for image in batch]
            yield batch

    def _indices(self) -> Iterator[list[int]]:
        """This rank's batches from iteration 0 on."""
        grouped = self._cfg.DATALOADER.ASPECT_RATIO_GROUPING
        waiting: tuple[list[int], list[int]] = ([], [])
        for index in self.sampler:
            group = waiting[grouped and int(self._wide[index])]
            group.append(index)
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class _Batches(Sampler):
    """The samples of each iteration from `start` on."""

    def __init__(self, indices: Callable[[], Iterator[list[int]]], start: int) -> None:
        self._indices, self._start = indices, start

    def __iter__(self) -> Iterator[list[Sample]]:
        later = itertools.islice(self._indices(), self._start, None)
        for iteration, batch in enumerate(later, self._start):
            yield [(iteration, place, index) for place, index in enumerate(batch)]


class _Samples(Dataset):
    """Mapped images by `Sample`."""

    def __init__(self, dicts: Sequence[dict], mapper: Callable, seed: int) -> None:
        self._dicts, self._mapper, self._seed = dicts, mapper, seed
        self._rank = comm.get_rank()  # a worker process has none

    def __getitem__(self, sample: Sample) -> dict[str, Any]:
        iteration, place, index = sample
        with seeded(self._seed, iteration, self._rank, place):
            return self._mapper(self._dicts[index])


def repeat_factors(
    dataset_dicts: Sequence[dict], repeat_thresh: float, sqrt: bool = True
) -> torch.Tensor:
    """Detectron2's `repeat_factors_from_category_frequency`, without making the dicts whole."""
    labels = dataset_dicts.labels() if isinstance(dataset_dicts, DatasetDicts) else dataset_dicts
    return RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        labels, repeat_thresh, sqrt
    )


@contextlib.contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Inside, Python's, numpy's and torch's CPU generators are seeded by `parts`, all >= 0.

    Afterwards they are as before.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    number = derived_seed(*parts)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def derived_seed(*parts: int) -> int:
    """A 63-bit seed that differs, to all appearance at random, for every tuple of parts >= 0."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _ignore_sigterm(worker: int) -> None:
    # A scheduler that stops a job signals all its processes; the step in progress needs the images.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _kill_workers() -> None:
    """At exit, before multiprocessing sends its SIGTERM and waits for workers that ignore it.

    DataLoader's handler would take these deaths for a failure of the run.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
