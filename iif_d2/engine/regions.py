"""The regions of a trained detector, computed once: what its box classifier sees, and a file of it.

Everything in front of the box classifier is frozen when only that is trained anew, so its features
are the same in every step and for every method.

Shapes: N sampled training regions, M proposals of the test set's images, D features of a region,
C foreground classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from tqdm import tqdm

from ..annotations.sources import source_digest
from ..config import flat
from ..data import (
    LongTailDatasetMapper,
    prepare_workers,
    require_registered,
    shared_dicts,
    training_dicts,
)
from ..errors import ConfigError, DataError
from ..files.tensors import save_tensors
from ..files.untrusted import load_tensors
from ..modeling import LongTailOutputLayers, LongTailRes5ROIHeads, LongTailROIHeads

FORMAT = "iif_d2 regions 1"
# `made_of` has the keys that begin with one of these,
_DECISIVE = (
    "MODEL.", "INPUT.", "DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
)  # fmt: skip
# but for those on which no feature depends.
_FREE = (
    "MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.LONG_TAIL.", "MODEL.TIMM.PRETRAINED", "MODEL.MASK_ON",
    "MODEL.ROI_MASK_HEAD.", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "INPUT.COPY_PASTE.",
)  # fmt: skip
_REMEDY = "give the config and weights it was made with, or another --cache file"


@dataclass(frozen=True)
class Regions:
    """What `collect_regions` found.

    Attributes:
        made_of: what decided it, by name; see `made_of`.
        features: float32 (N, D), of the training regions.
        labels: int64 (N,) in [0, C], C the background.
        test_features: float32 (M, D).
        test_boxes: float32 (M, 4), the proposals x1, y1, x2, y2 in pixels of the network's input.
        test_images: of each image its id, height and width, those of the network's input, and how
            many of the M are its own, in order.
    """

    made_of: dict[str, str]
    features: Tensor
    labels: Tensor
    test_features: Tensor
    test_boxes: Tensor
    test_images: list[tuple[Any, int, int, int, int, int]]

    def images(self) -> Iterator[tuple[dict[str, Any], Tensor, Instances]]:
        """Of each test image the evaluator's input, the features and the proposals."""
        first = 0
        for image_id, height, width, *size, count in self.test_images:
            own = slice(first, first + count)
            proposals = Instances(tuple(size), proposal_boxes=Boxes(self.test_boxes[own]))
            input = {"image_id": image_id, "height": height, "width": width}
            yield input, self.test_features[own], proposals
            first += count


def box_predictor(model: nn.Module) -> LongTailOutputLayers:
    """The box predictor whose classifier can be trained alone.

    Raises:
        ConfigError: the model has none, or several on different features; says which.
    """
    heads = (LongTailROIHeads, LongTailRes5ROIHeads)
    if type(model) is not GeneralizedRCNN or not isinstance(model.roi_heads, heads):
        raise ConfigError(
            "re-training a box classifier needs a GeneralizedRCNN with one long-tail box "
            "predictor; set MODEL.ROI_HEADS.NAME to LongTailROIHeads or LongTailRes5ROIHeads (a "
            "cascade has a classifier in each stage, on features of its own)"
        )
    if model.proposal_generator is None:
        raise ConfigError(
            "re-training a box classifier samples the proposals anew, and this detector computes "
            "none; set MODEL.PROPOSAL_GENERATOR.NAME to RPN, not to PrecomputedProposals"
        )
    return model.roi_heads.box_predictor


def made_of(cfg: CfgNode, model: nn.Module) -> dict[str, str]:
    """What decides the regions: the weights' hash, the data, and the keys of the config."""
    _test_set(cfg)
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    found = {"the weights": digest.hexdigest()[:16]}
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        require_registered(name)
        json_file = MetadataCatalog.get(name).get("json_file")
        found[f"the data of {name}"] = source_digest(json_file) if json_file else "no json"
    return found | {
        key: str(value)
        for key, value in flat(cfg)
        if key.startswith(_DECISIVE) and not key.startswith(_FREE)
    }


def check_made_of(path: str, before: dict[str, str], now: dict[str, str], remedy: str) -> None:
    """Raise ConfigError where `path` was made of something else; names what, at most three."""
    differ = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        said = ", ".join(
            key if key.startswith("the ") else f"{key} ({before.get(key)}, now {now.get(key)})"
            for key in differ[:3]
        )
        raise ConfigError(f"{path} was made with something else: {said}{more}; {remedy}")


def cached_regions(path: str, cfg: CfgNode, model: nn.Module) -> Regions:
    """The regions of the file, or collected now and written to it.

    The tensors stay in the file until they are looked at.

    Raises:
        ConfigError: the file was made with other weights, data or keys; names them.
        DataError: it is damaged, no such file, or cannot be written.
    """
    wanted = made_of(cfg, model)
    if not os.path.exists(path):
        _write(path, collect_regions(cfg, model))
    regions = read_regions(path)
    check_made_of(path, regions.made_of, wanted, _REMEDY)
    classes = box_predictor(model).num_classes
    lowest, highest = int(regions.labels.min()), int(regions.labels.max())
    if lowest < 0 or highest > classes:
        raise DataError(
            f"{path} has labels of {lowest} to {highest}, and the detector {classes} classes and "
            f"a background; delete it, or give another --cache file"
        )
    return regions


def read_regions(path: str) -> Regions:
    """The regions of a file that `cached_regions` wrote.

    Raises:
        DataError: it is damaged or no such file.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} is no file; name a plain one as --cache")
    try:
        content = load_tensors(path, mapped=True)
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        regions = Regions(**content)
        _check_fit(regions)
    except Exception as error:  # a damaged file raises half a dozen kinds
        first = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{path} is no whole cache of regions: {type(error).__name__} {first}; delete it, or "
            f"give another --cache file"
        ) from None
    return regions


def _check_fit(regions: Regions) -> None:
    """Raise an error of any kind where the parts do not belong together."""
    count, dimension = regions.features.shape
    total = sum(int(image[5]) for image in regions.test_images)
    wanted = {
        "features": ((count, dimension), torch.float32),
        "labels": ((count,), torch.int64),
        "test_features": ((total, dimension), torch.float32),
        "test_boxes": ((total, 4), torch.float32),
    }
    for name, (shape, dtype) in wanted.items():
        part = getattr(regions, name)
        if part.shape != shape or part.dtype != dtype or not part.is_contiguous():
            raise ValueError(f"{name} are {part.dtype} {tuple(part.shape)}, not {dtype} {shape}")
    if not count or not all(len(image) == 6 for image in regions.test_images):
        raise ValueError("it has no regions, or its images lack numbers")
    if not all(isinstance(text, str) for pair in regions.made_of.items() for text in pair):
        raise ValueError("made_of is no dict of texts")


def collect_regions(cfg: CfgNode, model: nn.Module) -> Regions:
    """One pass over the training images and one over the test images.

    The training regions are sampled from the training's number of proposals and the objects, as
    training samples them (MODEL.ROI_HEADS' number, share and thresholds), once for each image, and
    on images without augmentation. Regions of the test set are all proposals.

    Args:
        model: of `load_trained_model`; all of it is in evaluation mode.

    Raises:
        ConfigError: the model cannot be served, or its regions do not fit into memory.
    """
    predictor = box_predictor(model)
    found = made_of(cfg, model)
    options = LongTailDatasetMapper.from_config(cfg, is_train=True)
    options.update(augmentations=build_augmentation(cfg, is_train=False), copy_paste=None)
    options["use_instance_mask"] = False
    test = shared_dicts(_test_set(cfg), filter_empty=False)
    train = training_dicts(cfg)
    _check_memory(cfg, len(train), len(test), predictor.cls_score.in_features)
    with torch.no_grad(), torch.random.fork_rng(), _inputs_of(predictor) as seen:
        torch.manual_seed(0)
        loader = _loader(cfg, train, LongTailDatasetMapper(**options))
        labels = _training_labels(model, tqdm(loader, "training regions", unit="image"))
        features, labels = torch.cat(seen), torch.cat(labels).cpu()
        seen.clear()
        loader = _loader(cfg, test, LongTailDatasetMapper(cfg, is_train=False))
        boxes, images = _test_proposals(model, tqdm(loader, "test regions", unit="image"))
        return Regions(found, features, labels, torch.cat(seen), torch.cat(boxes).cpu(), images)


def _test_set(cfg: CfgNode) -> str:
    if len(cfg.DATASETS.TRAIN) < 1 or len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(
            f"DATASETS.TRAIN is {cfg.DATASETS.TRAIN} and DATASETS.TEST {cfg.DATASETS.TEST}; name "
            f"what to train on, and one data set to score on"
        )
    return cfg.DATASETS.TEST[0]


def _check_memory(cfg: CfgNode, train: int, test: int, dimension: int) -> None:
    rows = train * cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    rows += test * cfg.MODEL.RPN.POST_NMS_TOPK_TEST
    needed = rows * dimension * 4
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there / 2:
        raise ConfigError(
            f"the regions of {train + test:,} images need {needed / 1e9:.1f} GB, and twice that "
            f"while they are gathered; this machine has {there / 1e9:.1f} GB. Lower "
            f"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE and MODEL.RPN.POST_NMS_TOPK_TEST"
        )


def _loader(cfg: CfgNode, dicts: Any, mapper: LongTailDatasetMapper) -> Any:
    workers = cfg.DATALOADER.NUM_WORKERS
    return prepare_workers(build_detection_test_loader(dicts, mapper=mapper, num_workers=workers))


def _training_labels(model: nn.Module, loader: Any) -> list[Tensor]:
    labels, rpn = [], model.proposal_generator
    for batch in loader:
        images = model.preprocess_image(batch)
        targets = [input["instances"].to(model.device) for input in batch]
        features = model.backbone(images.tensor)
        with EventStorage():
            rpn.training = True  # as many proposals as in training; its layers stay as they are
            try:
                proposals, _ = rpn(images, features, targets)
            finally:
                rpn.training = False
            sampled = model.roi_heads.label_and_sample_proposals(proposals, targets)
        model.roi_heads.box_stages(features, sampled)
        labels += [proposals.gt_classes for proposals in sampled]
    return labels


def _test_proposals(model: nn.Module, loader: Any) -> tuple[list[Tensor], list[tuple]]:
    boxes, found = [], []
    for batch in loader:
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        model.roi_heads.box_stages(features, proposals)
        for input, one in zip(batch, proposals):
            boxes.append(one.proposal_boxes.tensor)
            height, width = (input.get(k, n) for k, n in zip(("height", "width"), one.image_size))
            found.append((input["image_id"], height, width, *one.image_size, len(one)))
    return boxes, found


@contextmanager
def _inputs_of(predictor: nn.Module) -> Iterator[list[Tensor]]:
    """The features (R, D) that the predictor is given while the block lasts, call by call."""
    seen: list[Tensor] = []
    hook = predictor.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].flatten(start_dim=1).float().cpu())
    )
    try:
        yield seen
    finally:
        hook.remove()


def _write(path: str, regions: Regions) -> None:
    try:
        save_tensors(path, {"format": FORMAT, **vars(regions)})
    except DataError as error:
        raise DataError(f"{error}; give another --cache file") from None
