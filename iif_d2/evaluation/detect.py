"""A trained model on pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy, read_image
from PIL import Image
from torch import nn

from ..errors import DataError
from ..files.pictures import look_at, size_words, turn_words
from .detections import Detections
from .rle_inference import rle_masks

logger = logging.getLogger(__name__)


class Detect:
    """A model with what stands between a picture and it.

    Args:
        model: a Detectron2 model, in evaluation mode.
        resize: the augmentation of a picture of the network's channels, such as
            `ResizeShortestEdge`.
        format: of the network's channels, "BGR", "RGB" or "L".
        mask_threshold: see `rle_masks`.
    """

    def __init__(
        self, model: nn.Module, resize: T.Augmentation, format: str, mask_threshold: float = 0.5
    ) -> None:
        self._model = rle_masks(model, mask_threshold)
        self._resize, self._format = resize, format

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> Detect:
        """As `cfg` tests."""
        resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        return cls(model, resize, cfg.INPUT.FORMAT, cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST)

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """What the model finds on each of these uint8 RGB (H, W, 3) pictures.

        They go through the network together, filled up to one size: a score may differ in its last
        digits from that of the picture alone.
        """
        found = self._model([self._input(image) for image in images])
        return [Detections.from_instances(each["instances"]).encoded() for each in found]

    def _input(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        network = T.AugInput(convert_PIL_to_numpy(Image.fromarray(image), self._format))
        self._resize(network)
        tensor = torch.as_tensor(network.image.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}


def detect(cfg: CfgNode, model: nn.Module, image: np.ndarray) -> Detections:
    """What the model finds on a uint8 RGB (H, W, 3) picture, resized as `cfg` tests."""
    return Detect.from_config(cfg, model)([image])[0]


def read_picture(path: str) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3).

    Raises:
        DataError: it is missing, an address, no file, damaged, or of more than 8 bits a pixel.
    """
    where = f"picture {path}"
    try:
        look_at(path, where)
        return read_image(path, "RGB")
    except DataError:
        raise
    except Exception as error:  # as many kinds as there are ways to break a file
        remedy = "write / for the backslash, Windows' own" if "\\" in path else "copy it again"
        raise DataError(f"{where} cannot be read: {error}; {remedy}") from None


def read_annotated(record: dict[str, Any]) -> np.ndarray:
    """The picture of a dataset dict as `read_picture` does, to draw the dict's objects on.

    Warns where EXIF turns the picture and the objects may not have been turned with it.

    Raises:
        DataError: also where it has another size than the dict says, as after an EXIF turn.
    """
    path, width, height = record["file_name"], record.get("width"), record.get("height")
    image = read_picture(path)
    turn = look_at(path, f"picture {path}")
    size = image.shape[1], image.shape[0]
    if (width, height) != size and None not in (width, height):
        said = size_words(turn, width, height) or (
            f"it has width {size[0]} and height {size[1]}, and its annotation {width} and "
            f"{height}; correct them there"
        )
        raise DataError(f"picture {path}: {said}")
    if said := turn_words(turn, width, height):
        logger.warning("picture %s %s", path, said)
    return image
