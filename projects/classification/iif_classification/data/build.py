"""From the config's DATA node to splits and loaders."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from itertools import combinations

import torch
from fvcore.common.config import CfgNode
from torchvision.transforms import v2

from iif_d2.errors import ConfigError, UnknownNameError

from .augment import BatchAugment, autoaugment
from .images import LabelledImages
from .loaders import DiskLoader, EvaluationLoader, MemoryLoader
from .order import TrainOrder
from .profiles import cut_profile, profile_counts, split_holdout
from .published import check_published
from .sources import read_cifar, read_folder, read_list

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Training, validation (None: there is none) and test images over the same classes."""

    train: LabelledImages
    val: LabelledImages | None
    test: LabelledImages

    def digests(self) -> dict[str, str]:
        """Which images with which labels each split holds, as 16 hex digits."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part.digest() for name, part in parts.items() if part is not None}


def build_splits(data: CfgNode) -> Splits:
    """The three splits that the DATA node describes, checked; their sizes and hashes are logged.

    Raises:
        DataError: files are missing or are not the published ones.
        ConfigError: the keys do not go together.
    """
    train = _read(data, data.TRAIN)
    test = _read(data, data.TEST, train.class_names)
    if data.PROFILE != "as_is":
        largest, classes = int(train.counts().min()), len(train.class_names)
        counts = profile_counts(data.PROFILE, largest, classes, data.IMBALANCE)
        train = train.subset(cut_profile(train.labels, counts, data.SPLIT_SEED))
    given = data.VAL not in ("", "holdout")
    val = _read(data, data.VAL, train.class_names) if given else None
    check_published(data.CHECK, data.IMBALANCE, data.PROFILE, train, val, test)
    if data.VAL == "holdout":
        kept, held = split_holdout(train.labels, data.VAL_FRACTION, data.SPLIT_SEED)
        train, val = train.subset(kept), train.subset(held)
    splits = Splits(train, val, test)
    for name, digest in splits.digests().items():
        logger.info("%s: %s, hash %s", name, getattr(splits, name).frequency().describe(), digest)
    _refuse_overlap(splits)
    return splits


def build_test(data: CfgNode, class_names: tuple[str, ...]) -> LabelledImages:
    """The test images alone, over the classes of a trained model."""
    return _read(data, data.TEST, class_names)


def build_loader(
    cfg: CfgNode, images: LabelledImages, device: torch.device, rank: int = 0, world_size: int = 1
) -> MemoryLoader | DiskLoader:
    """Training batches: `.batches(epoch, start)` and `.order`.

    Raises:
        ConfigError: the batch size does not fit.
    """
    data = cfg.DATA
    order = TrainOrder(len(images), cfg.SOLVER.BATCH_SIZE, cfg.SEED, rank, world_size)
    if data.IN_MEMORY:
        augment = BatchAugment(data.CROP_PADDING, data.FLIP, data.AUTOAUGMENT, data.CUTOUT)
        return MemoryLoader(images.decoded(data.IMAGE_SIZE), order, augment, device)
    steps = [
        v2.RandomResizedCrop(data.IMAGE_SIZE, scale=(data.CROP_SCALE, 1.0)),
        v2.RandomHorizontalFlip() if data.FLIP else None,
        autoaugment(data.AUTOAUGMENT),
        v2.PILToTensor(),
    ]
    transform = v2.Compose([step for step in steps if step is not None])
    return DiskLoader(images, order, transform, data.WORKERS)


def build_evaluation(
    cfg: CfgNode, images: LabelledImages, rank: int = 0, world_size: int = 1
) -> EvaluationLoader:
    """This rank's share of a validation or test set, without augmentation."""
    data, batch = cfg.DATA, cfg.SOLVER.TEST_BATCH_SIZE
    if data.IN_MEMORY:
        return EvaluationLoader(images.decoded(data.IMAGE_SIZE), batch, rank, world_size)
    transform = v2.Compose(
        [v2.Resize(data.TEST_RESIZE), v2.CenterCrop(data.IMAGE_SIZE), v2.PILToTensor()]
    )
    return EvaluationLoader(images, batch, rank, world_size, transform, data.WORKERS)


def _read(data: CfgNode, part: str, class_names=None) -> LabelledImages:
    if data.SOURCE in ("cifar10", "cifar100"):
        if part not in ("train", "test"):
            raise ConfigError(
                f"DATA.SOURCE {data.SOURCE} has the parts train and test, not {part!r}; "
                f"for a validation set use DATA.VAL holdout"
            )
        return read_cifar(data.SOURCE, data.ROOT, part == "train", data.DOWNLOAD)
    if data.SOURCE == "folder":
        return read_folder(os.path.join(data.ROOT, part), class_names)
    if data.SOURCE == "list":
        file = part if os.path.isfile(part) else os.path.join(data.ROOT, part)
        return read_list(file, data.ROOT, class_names)
    raise UnknownNameError.of("DATA.SOURCE", data.SOURCE, ("cifar10", "cifar100", "folder", "list"))


def _refuse_overlap(splits: Splits) -> None:
    """A model chosen or tested on what it was trained on tells nothing."""
    files = {
        name: set(part.paths or part.names)
        for name, part in (("train", splits.train), ("val", splits.val), ("test", splits.test))
        if part is not None
    }
    for one, other in combinations(files, 2):
        shared = files[one] & files[other]
        if shared:
            raise ConfigError(
                f"{len(shared)} images are in both DATA.{one.upper()} and DATA.{other.upper()}, "
                f"such as {min(shared)}; no image may serve two purposes"
            )
