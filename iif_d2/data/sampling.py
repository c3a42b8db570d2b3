"""Which images come when, and how they are augmented: by the iteration, whatever the process."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.build import _train_loader_from_config, trivial_batch_collator
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError, DataError, UnknownNameError
from ..seeds import derived_seed
from .dicts import DatasetDicts
from .sharing import training_dicts
from .workers import prepare_workers

REPEAT_STATISTICS = ("image", "instance_image")
_MOST_DRAWS = 1000
Sample = tuple[int, int, int]  # iteration, place in this rank's batch, index of the image


class TrainingBatches:
    """Detectron2's training loader, able to start at any iteration.

    Images come in the order of Detectron2's sampler (`TrainingSampler`, repeat factors with their
    rounding in each epoch, ...) and are grouped by shape as its loader groups them. To start later,
    only indices are drawn again. An image's augmentation is seeded by the iteration, the rank and
    its place in the batch, so the number of workers changes nothing.

    Args:
        dataset: a list of dataset dicts.
        make_sampler: the sampler over these dicts; where it has no seed of its own it may draw
            at random, which is seeded.
        seed: of all that is drawn at random; None or negative draws one for all ranks.
        mapper, total_batch_size, aspect_ratio_grouping, num_workers: as Detectron2's
            `build_detection_train_loader` takes them. In place of an image for which the mapper
            gives None another one is drawn, as there. A mapper with `copy_paste` takes objects from
            the dataset.

    Attributes:
        start: the iteration of the first batch; set it before iterating.
        seed: the one that was given or drawn.
        images: the file names of the last batch that was taken.
        batch_size: images in this rank's batch.
        sampler: what gives the order of this rank's images.

    Raises:
        ConfigError: the ranks cannot share the batch, or the data set is no list.
    """

    def __init__(
        self,
        dataset: list[dict] | DatasetDicts,
        make_sampler: Callable[[DatasetDicts], Sampler],
        seed: int | None,
        *,
        mapper: Callable[[dict], dict],
        total_batch_size: int,
        aspect_ratio_grouping: bool = True,
        num_workers: int = 0,
    ) -> None:
        ranks = comm.get_world_size()
        if total_batch_size < 1 or total_batch_size % ranks:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH is {total_batch_size} (total_batch_size in a .py config); "
                f"it must be a multiple of the number of processes, {ranks}"
            )
        if num_workers < 0:
            raise ConfigError(f"DATALOADER.NUM_WORKERS (num_workers) is {num_workers}; 0 or more")
        if not isinstance(dataset, (list, DatasetDicts)):
            raise ConfigError("the training data are no list of dicts; register a function of one")
        self.batch_size = total_batch_size // ranks
        self._mapper, self._make_sampler = mapper, make_sampler
        self._num_workers = num_workers
        self._seed_given = seed is not None and seed >= 0
        self.seed = seed if self._seed_given else comm.shared_random_seed()
        self.start = 0
        self.images: list[str] = []
        self._dicts = DatasetDicts.of(dataset) if isinstance(dataset, list) else dataset
        copy_paste = getattr(mapper, "copy_paste", None)
        if copy_paste is not None:
            copy_paste.take_from(self._dicts)
        self._wide = _wide(self._dicts) if aspect_ratio_grouping else None
        self._set_sampler()

    @classmethod
    def from_config(cls, cfg: CfgNode, mapper: Callable[[dict], dict]) -> TrainingBatches:
        """What a yaml config says, its sampler made from the labels alone."""

        def make_sampler(dicts: DatasetDicts) -> Sampler:
            loader = cfg.DATALOADER
            by_class = "RepeatFactor" in loader.SAMPLER_TRAIN
            labels, sampler = dicts.learnt() if by_class else dicts.labels(), None
            repeats = loader.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
            if repeats and loader.REPEAT_STATISTIC != "image":
                factors = config_repeat_factors(cfg, dicts)
                sampler = RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
            made = _train_loader_from_config(cfg, mapper=mapper, dataset=labels, sampler=sampler)
            return made["sampler"]

        return cls(
            training_dicts(cfg),
            make_sampler,
            cfg.SEED,
            mapper=mapper,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def reseed(self, seed: int) -> None:
        """Go on in the order of this seed, a checkpoint's, unless one was given."""
        if not self._seed_given and seed != self.seed:
            self.seed = seed
            self._set_sampler()

    def _set_sampler(self) -> None:
        with seeded(self.seed):
            self.sampler = self._make_sampler(self._dicts)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        loader = DataLoader(
            _Samples(self._dicts, self._mapper, self.seed),
            batch_sampler=_Batches(self._indices, self.start),
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            # Its own, since DataLoader would draw from the one that the step draws from.
            generator=torch.Generator(),
        )
        for batch in prepare_workers(loader):
            self.images = [image.get("file_name", "") for image in batch]
            yield batch

    def _indices(self) -> Iterator[list[int]]:
        """This rank's batches from iteration 0 on."""
        waiting: tuple[list[int], list[int]] = ([], [])
        for index in self.sampler:
            group = waiting[0 if self._wide is None else int(self._wide[index])]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()


class NamedBatches:
    """Any other training loader, which now remembers the images of the batch it gave last."""

    def __init__(self, loader: Iterable[list[dict]]) -> None:
        self._loader = loader
        self.images: list[str] = []

    def __iter__(self) -> Iterator[list[dict]]:
        for batch in self._loader:
            self.images = [str(image.get("file_name", "")) for image in batch]
            yield batch


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
            for _ in range(_MOST_DRAWS):
                mapped = self._mapper(self._dicts[index])
                if mapped is not None:
                    return mapped
                index = random.randrange(len(self._dicts))  # noqa: S311  no secret
        raise DataError(
            f"the mapper gave None for {_MOST_DRAWS} images in turn, the last "
            f"{self._dicts[index].get('file_name')}; correct it, or the data"
        )


def _wide(dicts: DatasetDicts) -> np.ndarray:
    try:
        return dicts.wide()
    except KeyError:
        bare = next(d for d in dicts if not {"width", "height"} <= d.keys())
        raise ConfigError(
            f"image {bare.get('file_name')!r} has no width and height, to be grouped by; "
            f"add them to the dataset dicts, or set DATALOADER.ASPECT_RATIO_GROUPING "
            f"(aspect_ratio_grouping in a .py config) to False"
        ) from None


def repeat_factors(
    dataset_dicts: Sequence[dict],
    repeat_thresh: float,
    sqrt: bool = True,
    statistic: str = "image",
) -> torch.Tensor:
    """How often an epoch has each image on average, without making the dicts whole.

    r_I is the largest of max(1, sqrt(t / f_c)) over the image's classes; 1 without objects. Classes
    of which all objects are crowds repeat nothing, since nothing is learnt of them.

    Args:
        dataset_dicts: N images with their annotations.
        repeat_thresh: t, the f_c below which a class is repeated.
        sqrt: False: max(1, t / f_c).
        statistic: f_c is the share of "image"s that hold class c (Gupta et al., "LVIS", CVPR 2019;
            Detectron2's own function computes it), or with "instance_image" the square root of that
            times the class's share of all instances (Yaman et al., "Instance-Aware Repeat Factor
            Sampling for Long-Tailed Object Detection", 2023).

    Returns:
        float32 (N,), for Detectron2's `RepeatFactorTrainingSampler`.

    Raises:
        UnknownNameError: another statistic.
    """
    if statistic not in REPEAT_STATISTICS:
        raise UnknownNameError.of("DATALOADER.REPEAT_STATISTIC", statistic, REPEAT_STATISTICS)
    dicts = (
        dataset_dicts if isinstance(dataset_dicts, DatasetDicts) else DatasetDicts([dataset_dicts])
    )
    labels = dicts.learnt()
    if statistic == "image":
        return RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            labels, repeat_thresh, sqrt
        )
    each = [[a["category_id"] for a in record["annotations"]] for record in labels]
    instances = Counter(itertools.chain.from_iterable(each))
    images = Counter(itertools.chain.from_iterable(map(set, each)))
    total, factors = sum(instances.values()), {}
    for label, count in images.items():
        share = math.sqrt(count / len(each) * instances[label] / total)
        ratio = repeat_thresh / share
        factors[label] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
    most = (max((factors[label] for label in set(own)), default=1.0) for own in each)
    return torch.tensor(list(most), dtype=torch.float32)


def config_repeat_factors(cfg: CfgNode, dataset_dicts: Sequence[dict]) -> torch.Tensor:
    """`repeat_factors` as a yaml config's DATALOADER says."""
    loader = cfg.DATALOADER
    return repeat_factors(
        dataset_dicts,
        loader.REPEAT_THRESHOLD,
        loader.get("REPEAT_SQRT", True),  # older Detectron2s have no such key
        loader.REPEAT_STATISTIC,
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
