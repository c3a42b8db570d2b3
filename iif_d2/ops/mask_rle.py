"""Predicted masks as COCO run lengths, without the images in between.

Detectron2 pastes every M x M mask into an image of its own, tests the pixels against a threshold
and has pycocotools count the runs. Here the runs of each box's columns are computed (`mask_runs`)
and all masks encoded together (`rle`), identically and at a cost that follows the boxes' widths.

In a model `postprocess_to_rle` takes the place of `detector_postprocess`: see `rle_inference`.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks
from pycocotools import mask as coco_mask
from torch import Tensor

from ..errors import ConfigError
from .mask_runs import Crops, find_runs, rounding_error
from .rle import encode_runs

__all__ = ["masks_to_rle", "postprocess_to_rle"]


def masks_to_rle(
    masks: Tensor, boxes: Boxes | Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> list[dict]:
    """What pycocotools makes of `paste_masks_in_image(masks, boxes, image_shape, threshold)`.

    Args:
        masks: (N, M, M) or (N, 1, M, M) probabilities.
        boxes: N boxes x1, y1, x2, y2 in pixels of the image, on the masks' device.
        image_shape: (height, width) in pixels.
        threshold: pixels of at least this interpolated probability are in the mask; not negative.

    Returns:
        N dicts of `size` [height, width] and `counts`, a str. Boxes that are not finite, or so far
        outside the image that Detectron2 fails on a CPU, give empty masks.

    Raises:
        ConfigError: shapes that do not belong together, an empty image or a negative threshold.
    """
    boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
    masks = masks[:, 0] if masks.dim() == 4 and masks.shape[1] == 1 else masks
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2] or boxes.shape != (len(masks), 4):
        raise ConfigError(
            f"masks {tuple(masks.shape)} and boxes {tuple(boxes.shape)} must be (N, M, M) or "
            "(N, 1, M, M), and (N, 4)"
        )
    height, width = (int(side) for side in image_shape)
    if height < 1 or width < 1 or not threshold >= 0:
        raise ConfigError(f"no masks of {height} x {width} pixels at a threshold of {threshold}")
    if not len(masks):
        return []
    masks, boxes = masks.detach(), boxes.detach()
    if not masks.dtype.is_floating_point:
        masks = masks.float()
    skip_empty = masks.device.type == "cpu"  # as paste_masks_in_image chooses
    crops = Crops.of(boxes, masks.shape[1], height, width, skip_empty)
    # Half precision has coordinates too coarse for `find_runs`.
    known = boxes.dtype == torch.float32 and masks.dtype in (torch.float32, torch.float64)
    ordinary = crops.ordinary & known & (rounding_error(masks) < threshold)

    chosen = np.flatnonzero(ordinary & crops.seen)
    owner, start, end, undecided = find_runs(masks, boxes, crops, chosen, height, threshold)
    rles = encode_runs(owner, start, end, len(masks), height, width)
    others = crops.finite & ~ordinary
    if skip_empty:
        others &= crops.seen
    for i in [*np.flatnonzero(others), *undecided]:
        one = slice(i, i + 1)
        pasted = paste_masks_in_image(masks[one], boxes[one], (height, width), threshold)
        rle = coco_mask.encode(np.asfortranarray(pasted[0].cpu().numpy(), dtype=np.uint8))
        rles[i]["counts"] = rle["counts"].decode()
    return rles


def postprocess_to_rle(
    instances: Instances, height: int, width: int, threshold: float = 0.5
) -> Instances:
    """Detectron2's `detector_postprocess`, with run lengths in place of pasted masks.

    Args:
        instances: of one image as the model returns them with `do_postprocess=False`; unchanged.
        height: of the original image, in pixels.
        width: of the original image, in pixels.
        threshold: see `masks_to_rle`.

    Returns:
        Instances with boxes scaled, clipped and filtered by Detectron2's own function, and
        `pred_masks_rle`, a list, where there were `pred_masks`.
    """
    fields = dict(instances.get_fields())
    masks = fields.pop("pred_masks", None)
    # Detectron2 scales in place, and pastes what is called pred_masks.
    for name in ("pred_boxes", "proposal_boxes", "pred_keypoints"):
        if name in fields:
            fields[name] = fields[name].clone()
    if masks is not None:
        fields["unpasted"] = masks.tensor if isinstance(masks, ROIMasks) else masks[:, 0]
    result = detector_postprocess(Instances(instances.image_size, **fields), height, width)
    if masks is not None:
        unpasted, shape = result.unpasted, (height, width)
        result.remove("unpasted")
        result.pred_masks_rle = masks_to_rle(unpasted, result.pred_boxes, shape, threshold)
    return result
