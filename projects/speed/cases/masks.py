"""300 predicted masks to COCO run lengths: pasting and encoding together."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from measure import Row, alternate
from pycocotools import mask as coco_mask

from iif_d2.ops.mask_rle import masks_to_rle

MASKS, SIDE = 300, 28


def run(options):
    for height, width in ((480, 640), (800, 1333)):
        for kind in ("LVIS-like boxes", "every box the image"):
            given = simulated(height, width, kind == "every box the image", options.device)
            yield measured(height, width, kind, given, options)


def measured(height: int, width: int, kind: str, given: tuple, options) -> Row:
    masks, boxes = given
    results = {}
    sides = {
        "ours": lambda: results.update(ours=masks_to_rle(masks, boxes, (height, width))),
        "theirs": lambda: results.update(theirs=detectron2s(masks, boxes, height, width)),
    }
    seconds = alternate(sides, 9 if options.full else 3, options.device)
    return Row(
        "masks to RLE",
        f"{MASKS} masks, {width}x{height}, {kind}",
        reference="Detectron2",
        identical=results["ours"] == results["theirs"],
        **seconds,
    )


def detectron2s(masks, boxes, height: int, width: int) -> list[dict]:
    """As its postprocessing and `instances_to_coco_json` do."""
    pasted = paste_masks_in_image(masks, boxes, (height, width), 0.5).cpu()
    encoded = [
        coco_mask.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0] for mask in pasted
    ]
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in encoded]


def simulated(height: int, width: int, full: bool, device: str):
    """Blobs with a wavy outline; boxes a tenth of the image wide in the median, as LVIS's are."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * 2 - 1
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    waves = rng.integers(2, 7, (MASKS, 1, 1))
    radius = 0.75 + 0.2 * np.sin(waves * angle + rng.uniform(0, 6, (MASKS, 1, 1)))
    logits = 8 * (radius - distance) + rng.normal(0, 0.5, (MASKS, SIDE, SIDE))
    sides = np.clip(rng.lognormal(np.log(0.1), 0.8, (MASKS, 2)), 0.01, 1) * (width, height)
    corner = rng.uniform(0, 1, (MASKS, 2)) * ((width, height) - sides)
    boxes = np.concatenate([corner, corner + sides], axis=1)
    if full:
        boxes[:] = (0, 0, width, height)
    tensors = (torch.from_numpy(1 / (1 + np.exp(-logits))), torch.from_numpy(boxes))
    return tuple(tensor.float().to(device) for tensor in tensors)
