"""A trained model on one picture."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy, read_image
from PIL import Image
from torch import nn

from ..errors import DataError
from ..files.pictures import look_at
from .detections import Detections
from .rle_inference import rle_masks


@torch.no_grad()
def detect(cfg: CfgNode, model: nn.Module, image: np.ndarray) -> Detections:
    """What the model finds on a uint8 RGB (H, W, 3) picture, resized as `cfg` tests."""
    height, width = image.shape[:2]
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    network = convert_PIL_to_numpy(Image.fromarray(image), cfg.INPUT.FORMAT)
    network = resize.get_transform(network).apply_image(network)
    tensor = torch.as_tensor(network.astype("float32").transpose(2, 0, 1))
    model = rle_masks(model, cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST)
    found = model([{"image": tensor, "height": height, "width": width}])[0]["instances"]
    return Detections.from_instances(found).encoded()


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
