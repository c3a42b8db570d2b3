"""`load`: a trained model that takes pictures, from its checkpoint alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from detectron2.config import CfgNode, instantiate
from PIL import Image, ImageOps
from torch import nn

from ..checkpoint import (
    known_class_names,
    load_trained_model,
    model_frequency,
    trained_frequency,
)
from ..checkpoint.carried import check_size, saved_config, saved_frequency
from ..checkpoint.folder import weights_file
from ..checkpoint.reading import read_checkpoint
from ..config import load_config
from ..errors import CheckpointError, ConfigError, DataError, built_from_config
from ..evaluation import Detections
from ..evaluation.detect import Detect, read_picture
from ..files.pictures import check_depth
from ..frequency import ClassFrequency
from .lazy import load_lazy_config, load_lazy_model

Picture = str | os.PathLike | Image.Image | np.ndarray


class Detector:
    """A trained model that takes pictures; `load` makes it.

    Attributes:
        model: Detectron2's, in evaluation mode.
        cfg: its yaml config; None where a `.py` config built it.
        class_names: C names; "class 0" and so on where nothing tells them.
        frequency: the training counts of its classes, or None where they are not known.
        groups: (C,) of "r", "c", "f": which classes were rare in training, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        detect: Detect,
        class_names: Sequence[str] | None = None,
        frequency: ClassFrequency | None = None,
        cfg: CfgNode | None = None,
    ) -> None:
        self.model, self.cfg, self._detect = model, cfg, detect
        self.frequency = frequency
        self.groups = None if frequency is None else frequency.groups()
        classes = getattr(getattr(model, "roi_heads", model), "num_classes", 0)
        self.class_names = tuple(class_names or (f"class {index}" for index in range(classes)))

    def __call__(
        self,
        image: Picture | Sequence[Picture],
        confidence: float = 0.5,
        channels: str = "RGB",
        batch_size: int = 1,
    ) -> Detections | list[Detections]:
        """What the model finds on a picture, best first; of a list or tuple, on each.

        Args:
            image: a path, a PIL picture, or a uint8 array (H, W, 3).
            confidence: least score of what is returned; 0 is all that the model keeps.
            channels: of arrays, "RGB", or "BGR" as OpenCV reads them.
            batch_size: pictures of a list that go through the network together. They are filled up
                to one size, which can move the last digits of a score.

        Raises:
            DataError: a picture cannot be read, or an array is no such picture.
            ConfigError: other `channels`, or no picture in a batch.
        """
        if isinstance(image, (list, tuple)):
            return list(self.stream(image, confidence, channels, batch_size))
        return next(iter(self.stream([image], confidence, channels)))

    def stream(
        self,
        images: Iterable[Picture],
        confidence: float = 0.5,
        channels: str = "RGB",
        batch_size: int = 1,
    ) -> Iterable[Detections]:
        """The same of many pictures, one after the other; arguments as above."""
        if channels not in ("RGB", "BGR"):
            raise ConfigError(f"channels is {channels!r}; give 'RGB', or 'BGR' as OpenCV reads")
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; at least one picture at a time")
        batch = []
        for image in images:
            batch.append(_pixels(image, channels))
            if len(batch) == batch_size:
                yield from self._found(batch, confidence)
                batch = []
        if batch:
            yield from self._found(batch, confidence)

    def _found(self, batch: list[np.ndarray], confidence: float) -> Iterable[Detections]:
        for found in self._detect(batch):
            yield replace(found.take(found.scores >= confidence), class_names=self.class_names)


def load(
    weights: str | os.PathLike,
    *,
    config_file: str = "",
    device: str = "",
    overrides: Sequence[str] = (),
) -> Detector:
    """A trained model from its checkpoint, or from the folder of `iif-d2 package`.

    The checkpoint may be a stranger's: of its config plain values under known keys are taken, no
    file that it names is read, and nothing in it is run.

    Args:
        weights: the checkpoint's file or the package's folder.
        config_file: the config that it was trained with, for a checkpoint that carries none. A
            `.py` config is run.
        device: such as "cpu" or "cuda:1"; by default the GPU, where there is one.
        overrides: KEY VALUE pairs over the config, such as ["TEST.DETECTIONS_PER_IMAGE", "50"].

    Raises:
        CheckpointError: it is missing or damaged, carries no config, or does not fit its config.
        ConfigError: the given config or an override cannot work.

    Examples:
        >>> model = iif_d2.load("output/iif/model_final.pth")
        >>> found = model(np.zeros((64, 64, 3), np.uint8), confidence=0.3)
        >>> len(found.scores) == len(found.to_pandas())
        True
    """
    path = weights_file(weights)
    content = read_checkpoint(path, mapped=True)
    counts = saved_frequency(content, path)
    if config_file.endswith(".py"):
        return _from_lazy(path, config_file, device, overrides, counts)
    own = [*overrides, *(["MODEL.DEVICE", device] if device else []), "MODEL.WEIGHTS", path]
    if config_file:
        cfg = load_config(config_file, own)
    else:
        cfg = saved_config(content, path, own)
        check_size(cfg, content, path)
    del content  # which keeps the file mapped
    try:
        model = load_trained_model(cfg)
    except ConfigError as error:
        if config_file:
            raise
        raise CheckpointError(
            f"checkpoint {path}: {error}; or give its config by --config-file FILE"
        ) from error
    frequency = trained_frequency(cfg, model) or counts
    names = known_class_names(model, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN), frequency)
    return Detector(model, Detect.from_config(cfg, model), names, frequency, cfg)


def _from_lazy(
    path: str, config_file: str, device: str, overrides: Sequence[str], counts: Any
) -> Detector:
    cfg = load_lazy_config(config_file, [*overrides, *([f"train.device={device}"] * bool(device))])
    cfg.train.init_checkpoint = path
    model = load_lazy_model(cfg, resume=False)
    with built_from_config("dataloader.test.mapper"):
        mapper = instantiate(cfg.dataloader.test.mapper)
        detect = Detect(model, mapper.augmentations, mapper.image_format)
    frequency = model_frequency(model) or counts
    return Detector(model, detect, known_class_names(model, (), frequency), frequency)


def _pixels(image: Picture, channels: str) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3)."""
    if isinstance(image, (str, os.PathLike)):
        return read_picture(os.fspath(image))
    if isinstance(image, Image.Image):
        check_depth(image, "the picture")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"a picture is a {type(image).__name__}; give a path, a PIL picture or a uint8 array "
            f"(H, W, 3), or a list of them"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"a picture is an array {image.shape} of {image.dtype}; give uint8 (H, W, 3), 0 to 255"
        )
    return image[:, :, ::-1] if channels == "BGR" else image
