"""Detections drawn on a picture, coloured by how rare their class is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which colour-blind readers can tell apart; RGB in [0, 1].
GROUP_COLORS = {"r": (0.84, 0.37, 0.0), "c": (0.0, 0.45, 0.7), "f": (0.0, 0.62, 0.45)}
_UNKNOWN = (0.35, 0.35, 0.35)
_SMALLEST = 480  # pixels: smaller pictures are enlarged so that labels can be read
_TITLE = 40  # pixels of the line above a panel
_GAP = 8


def draw_detections(
    image: np.ndarray,
    instances: Instances,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The picture with boxes, masks and labels.

    Args:
        image: uint8 (H, W, 3), RGB.
        instances: on the CPU, in the image's size; annotated ones have no scores.
        class_names: C names.
        groups: (C,) of "r", "c", "f"; a rare class's label says so. None draws all alike.

    Returns:
        uint8 (H', W', 3), RGB; enlarged where the picture is small.
    """
    classes = instances.pred_classes.tolist()
    group = ["?"] * len(classes) if groups is None else [groups[index] for index in classes]
    labels = _labels(instances, class_names, groups)
    scale = max(1.0, _SMALLEST / min(image.shape[:2]))
    visualizer = Visualizer(image, None, scale=scale, instance_mode=ColorMode.IMAGE)
    drawn = visualizer.overlay_instances(
        boxes=instances.pred_boxes,
        masks=instances.pred_masks if instances.has("pred_masks") else None,
        labels=labels,
        assigned_colors=[GROUP_COLORS.get(g, _UNKNOWN) for g in group],
        alpha=0.35,
    )
    return drawn.get_image()


def describe(
    instances: Instances, class_names: Sequence[str], groups: np.ndarray | None = None
) -> str:
    """The labels of `draw_detections` as one sentence, for those who cannot see the picture."""
    return ", ".join(_labels(instances, class_names, groups)) or "nothing"


def side_by_side(panels: Sequence[np.ndarray], titles: Sequence[str] = ()) -> np.ndarray:
    """Pictures in a row, each below its title where there are titles; uint8 (H, W, 3)."""
    top = _TITLE if titles else 0
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, top + max(panel.shape[0] for panel in panels)), "white")
    left = 0
    for number, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (left, top))
        if titles:
            font = ImageFont.load_default(size=0.6 * _TITLE)
            ImageDraw.Draw(sheet).text((left + _GAP, 0.15 * _TITLE), titles[number], "black", font)
        left += panel.shape[1] + _GAP
    return np.asarray(sheet)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other; uint8 (H, W, 3), filled with white."""
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return np.concatenate(padded)


def _labels(
    instances: Instances, class_names: Sequence[str], groups: np.ndarray | None
) -> list[str]:
    classes = instances.pred_classes.tolist()
    scores = [""] * len(classes)
    if instances.has("scores"):
        scores = [f" {100 * score:.0f}%" for score in instances.scores.tolist()]
    return [
        f"{class_names[index]}{score}"
        + (" (rare)" if groups is not None and groups[index] == "r" else "")
        for index, score in zip(classes, scores)
    ]
