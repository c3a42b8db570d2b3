"""Detections drawn on a picture, coloured by how rare their class is."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer

# Okabe and Ito's colours, which colour-blind readers can tell apart; RGB in [0, 1].
GROUP_COLORS = {"r": (0.84, 0.37, 0.0), "c": (0.0, 0.45, 0.7), "f": (0.0, 0.62, 0.45)}
_UNKNOWN = (0.35, 0.35, 0.35)
_SMALLEST = 480  # pixels: smaller pictures are enlarged so that labels can be read


def draw_detections(
    image: np.ndarray,
    instances: Instances,
    class_names: Sequence[str],
    groups: Optional[np.ndarray] = None,
) -> np.ndarray:
    """The picture with boxes, masks and labels.

    Args:
        image: uint8 (H, W, 3), RGB.
        instances: on the CPU, in the image's size.
        class_names: C names.
        groups: (C,) of "r", "c", "f"; a rare class's label says so. None draws all alike.

    Returns:
        uint8 (H', W', 3), RGB; enlarged where the picture is small.
    """
    classes = instances.pred_classes.tolist()
    scores = instances.scores.tolist()
    group = ["?"] * len(classes) if groups is None else [groups[index] for index in classes]
    labels = [
        f"{class_names[index]} {100 * score:.0f}%" + (" (rare)" if g == "r" else "")
        for index, score, g in zip(classes, scores, group)
    ]
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
