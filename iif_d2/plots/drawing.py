"""Detections drawn on a picture, coloured by how rare their class is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image, ImageDraw, ImageFont

from ..evaluation import Detections
from ..groups import GROUPS
from .plotting import plain

_UNKNOWN = (0.35, 0.35, 0.35)  # of a class whose group is not known
_SMALLEST = 480  # pixels: smaller pictures are enlarged so that labels can be read
_TITLE = 40  # pixels of the line above a panel
_GAP = 8


def draw_detections(
    image: np.ndarray,
    found: Detections,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The picture with boxes, masks and labels.

    Args:
        image: uint8 (H, W, 3), RGB.
        found: of the image.
        class_names: C names.
        groups: (C,) of "r", "c", "f"; a rare class's label says so. None draws all alike.

    Returns:
        uint8 (H', W', 3), RGB; enlarged where the picture is small.
    """
    colors = [_UNKNOWN] * len(found)
    if groups is not None:
        colors = [GROUPS[groups[label]].color for label in found.classes]
    scale = max(1.0, _SMALLEST / min(image.shape[:2]))
    visualizer = Visualizer(image, None, scale=scale, instance_mode=ColorMode.IMAGE)
    drawn = visualizer.overlay_instances(
        boxes=found.corners,
        masks=found.masks,
        labels=[plain(label) for label in _labels(found, class_names, groups)],
        assigned_colors=colors,
        alpha=0.35,
    )
    return drawn.get_image()


def describe(
    found: Detections, class_names: Sequence[str], groups: np.ndarray | None = None
) -> str:
    """The labels of `draw_detections` as one sentence, for those who cannot see the picture."""
    return ", ".join(_labels(found, class_names, groups)) or "nothing"


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


def _labels(found: Detections, class_names: Sequence[str], groups: np.ndarray | None) -> list[str]:
    return [
        class_names[label]
        + ("" if np.isnan(score) else f" {100 * score:.0f}%")
        + (" (rare)" if groups is not None and groups[label] == "r" else "")
        for label, score in zip(found.classes.tolist(), found.scores.tolist())
    ]
