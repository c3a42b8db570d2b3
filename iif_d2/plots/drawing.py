"""Detections drawn on a picture: an outline and a label each, in the colour of their group.

Nothing is filled: an object's own colour stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..evaluation import Detections
from ..groups import GROUPS
from .labels import Label, place_labels

_UNKNOWN = "#3d444d"  # of a class whose group is not known
_SMALLEST = 480  # pixels: smaller pictures are enlarged so that labels can be read
_FONT = 28 / 480  # height of a label's letters by the picture's shorter side
_FONT_SHRINKS = (1, 0.85, 0.7, 0.6, 0.5)  # until labels take no more than
_LABELS = 0.4  # of the picture's area
_POINTS = 64  # of an outline, that a label's place is compared with
_SIDE = 8  # points of a box's side
_IOU = 0.5  # of a right box with its object
_TITLE = 40  # pixels of the line above a panel
_GAP = 8
_MARKS = {True: "✓ ", False: "✗ ", None: ""}
_SAID = {True: ", right", False: ", wrong", None: ""}


def draw_detections(
    image: np.ndarray,
    found: Detections,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
    right: Sequence[bool | None] | None = None,
) -> np.ndarray:
    """The picture with the outlines of masks, or boxes where there are none, and labels.

    No label lies over another. Where there is no room for all, the least certain have none.

    Args:
        image: uint8 (H, W, 3), RGB.
        found: of the image.
        class_names: C names.
        groups: (C,) of "r", "c", "f"; a rare class's label says so. None draws all alike.
        right: of each detection, as `judged` says: a right one has a whole outline and ✓, a wrong
            one dashes and ✗, and None has no mark.

    Returns:
        uint8 (H', W', 3), RGB; enlarged where the picture is small.

    Examples:
        >>> found = Detections.from_json("output/iif/lvis_instances_results.json")
        >>> right, _ = judged(found, annotated=found)
        >>> picture = np.zeros((64, 64, 3), np.uint8)
        >>> drawn = draw_detections(picture, found, ["cat", "dog"], right=right)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    height, width = image.shape[:2]
    scale = max(1.0, _SMALLEST / min(height, width))
    height, width = round(height * scale), round(width * scale)
    enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.imshow(enlarged, extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    marks = list(right) if right is not None else [None] * len(found)
    line = 0.72 * min(height, width) / 160  # points; 100 pixels are 72
    halo = [withStroke(linewidth=2.2 * line, foreground="white")]
    colors = [_UNKNOWN if groups is None else GROUPS[groups[c]].light for c in found.classes]
    outlines = [[scale * line for line in _outlines(found, i)] for i in range(len(found))]
    for number, color in enumerate(colors):
        style = (0, (2.5, 1.2)) if marks[number] is False else "solid"
        for outline in outlines[number]:
            axes.plot(
                *outline.T, color=color, lw=line, ls=style, path_effects=halo,
                solid_joinstyle="round", clip_on=True,
            )  # fmt: skip
    order = np.argsort(-np.nan_to_num(found.scores, nan=np.inf), kind="stable")
    texts = _labels(found, class_names, groups)
    labels = [
        Label(
            _MARKS[marks[i]] + texts[i], tuple(scale * found.corners[i]),
            _some(np.vstack(outlines[i])), colors[i], marks[i],
        )
        for i in order
    ]  # fmt: skip
    for shrink in _FONT_SHRINKS:
        sized = [
            label.sized(canvas, shrink * _FONT * min(height, width), width) for label in labels
        ]
        if sum(label.area for label in sized) <= _LABELS * height * width:
            break
    for label, corner in zip(sized, place_labels(sized, width, height)) if labels else ():
        if corner is not None:
            label.draw(axes, corner, line)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def judged(
    found: Detections, annotated: Detections, counts: np.ndarray | None = None
) -> tuple[list[bool | None], np.ndarray]:
    """Which detections are right, and which objects are found; of boxes in one image.

    The most certain first, a detection finds the object of its class with which its IoU is highest,
    0.5 or more, unless one before has found it.

    Args:
        found: N detections.
        annotated: M objects.
        counts: bool (N,), False for those that nobody can judge: of a class that was not looked
            for in the image. By default all can be judged.

    Returns:
        N marks, True, False or, where nobody can judge, None; and bool (M,), which objects were
        found.
    """
    marks: list[bool | None] = [None] * len(found)
    taken = np.zeros(len(annotated), dtype=bool)
    overlaps = _ious(found.corners, annotated.corners)
    for i in np.argsort(-found.scores, kind="stable"):
        free = (annotated.classes == found.classes[i]) & ~taken
        overlap = np.where(free, overlaps[i], 0)
        if overlap.max(initial=0) >= _IOU:
            marks[i] = True
            taken[overlap.argmax()] = True
        elif counts is None or counts[i]:
            marks[i] = False
    return marks, taken


def describe(
    found: Detections,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
    right: Sequence[bool | None] | None = None,
) -> str:
    """The labels of `draw_detections` as one sentence, for those who cannot see the picture."""
    texts = _labels(found, class_names, groups)
    marks = right if right is not None else [None] * len(found)
    return "; ".join(text + _SAID[mark] for text, mark in zip(texts, marks)) or "nothing"


def side_by_side(panels: Sequence[np.ndarray], titles: Sequence[str] = ()) -> np.ndarray:
    """Pictures in a row, each below its title where there are titles; uint8 (H, W, 3)."""
    top = _TITLE if titles else 0
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, top + max(panel.shape[0] for panel in panels)), "white")
    left = 0
    for number, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (left, top))
        if titles:
            font = ImageFont.load_default(size=0.7 * _TITLE)
            ImageDraw.Draw(sheet).text((left + _GAP, 0.05 * _TITLE), titles[number], "black", font)
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


def _outlines(found: Detections, number: int) -> list[np.ndarray]:
    """Lines around a detection, each (P, 2) of x and y in the picture's pixels."""
    mask = None if found.masks is None else found.masks[number]
    if isinstance(mask, dict):
        from hotcoco import mask as rle

        mask = rle.decode(mask)
    if mask is not None:
        from contourpy import contour_generator

        pixels = np.pad(np.asarray(mask, dtype=np.float32), 1)  # closed at the picture's edge
        lines = contour_generator(z=pixels).lines(0.5)
        if lines:
            return [line - 0.5 for line in lines]  # a pixel's middle is half a pixel from its edge
    x0, y0, x1, y1 = found.corners[number]
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    steps = np.linspace(0, 4, 4 * _SIDE + 1)  # points along the sides, for a label's line to it
    return [np.column_stack([np.interp(steps, range(5), corners[:, k]) for k in (0, 1)])]


def _some(points: np.ndarray) -> np.ndarray:
    """Fewer points of a long line."""
    return points[:: max(1, len(points) // _POINTS)]


def _ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, M) of boxes (N, 4) and (M, 4) given by their corners."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)
