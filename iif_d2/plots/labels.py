"""Labels of a picture's objects: near their object, inside the picture, and none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_WIDEST = 0.5  # of the picture's width: a longer label goes on in the next line
_PADDING = 0.25  # of the letters' height, around the text
_LINE = 1.2  # from line to line, by the letters' height
_HIDES = 2.5  # a label on an object, against one that is half a picture from its own
_FAR = 0.5  # of the letters' height: a label farther from its object has a line to it


@dataclass(frozen=True)
class Label:
    """What is written about one object.

    Attributes:
        text: with spaces where it may go on in the next line.
        box: x0, y0, x1, y1 of the object in pixels.
        points: (P, 2) on its outline.
        color: of the group.
        right: whether the detection is; a wrong one's label is white with a rim.
        lines: the text as it is written.
        font: pixels, the letters' height.
        width: pixels, of the whole label.
    """

    text: str
    box: tuple[float, ...]
    points: np.ndarray
    color: str
    right: bool | None = None
    lines: tuple[str, ...] = ()
    font: float = 0.0
    width: float = 0.0

    @property
    def height(self) -> float:
        return self.font * (_LINE * len(self.lines) + 2 * _PADDING)

    @property
    def area(self) -> float:
        return self.width * self.height

    def sized(self, canvas: Any, font: float, room: float) -> Label:
        """The same with its lines and size, in letters of `font` pixels, for a picture so wide."""
        from matplotlib.font_manager import FontProperties

        letters = FontProperties(family="DejaVu Sans", size=0.72 * font)
        renderer = canvas.get_renderer()

        def wide(text: str) -> float:
            return renderer.get_text_width_height_descent(text, letters, ismath=False)[0]

        lines: list[str] = []
        for word in self.text.split():
            # The mark ✓ or ✗ is no line of its own.
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and (wide(longer) <= _WIDEST * room or len(lines[-1]) == 1):
                lines[-1] = longer
            else:
                lines.append(word)
        width = max(map(wide, lines), default=0) + 2 * _PADDING * font
        return replace(self, lines=tuple(lines), font=font, width=width)

    def draw(self, axes: Any, corner: tuple[float, float], line: float) -> None:
        """With its upper left corner there, and a line to an object that is not beside it."""
        from matplotlib.patches import Rectangle

        x, y = corner
        nearest = np.clip(self.points, corner, (x + self.width, y + self.height))
        gaps = np.hypot(*(self.points - nearest).T)
        here, there = nearest[gaps.argmin()], self.points[gaps.argmin()]
        if gaps.min() > _FAR * self.font:
            axes.plot(*zip(here, there), color="white", lw=1.6 * line)
            axes.plot(*zip(here, there), color=self.color, lw=0.8 * line)
        wrong = self.right is False
        axes.add_patch(
            Rectangle(
                corner, self.width, self.height, facecolor="white" if wrong else self.color,
                edgecolor=self.color if wrong else "white", lw=0.5 * line, zorder=3,
            )
        )  # fmt: skip
        for number, words in enumerate(self.lines):
            middle = y + self.font * (_PADDING + _LINE * (number + 0.5))
            axes.text(
                x + _PADDING * self.font, middle, words,
                color=self.color if wrong else "white", size=0.72 * self.font, va="center_baseline",
                family="DejaVu Sans", zorder=4, parse_math=False,
            )  # fmt: skip


def place_labels(
    labels: Sequence[Label], width: float, height: float
) -> list[tuple[float, float] | None]:
    """Upper left corners of labels, the most important first; None where there is no room.

    No label lies over another. Places that hide no object come first, then those near the label's
    own object.
    """
    boxes = np.array([label.box for label in labels]).reshape(-1, 4)
    taken = np.zeros((0, 4))
    corners: list[tuple[float, float] | None] = []
    for number, label in enumerate(labels):
        places = _places(label, width, height)
        rectangles = np.hstack([places, places + (label.width, label.height)])
        free = ~(_overlaps(rectangles, taken) > 0).any(axis=1) if len(places) else np.zeros(0, bool)
        if not free.any():
            corners.append(None)
            continue
        hidden = _overlaps(rectangles, boxes)
        hidden[:, number] *= 0.5  # rather a part of its own object than of another
        # From each place to each point of the outline.
        nearest = np.clip(label.points, rectangles[:, None, :2], rectangles[:, None, 2:])
        distance = np.linalg.norm(nearest - label.points, axis=2).min(axis=1)
        cost = _HIDES * hidden.sum(axis=1) / label.area + distance / (0.5 * min(width, height))
        best = int(np.argmin(np.where(free, cost, np.inf)))
        corners.append((float(places[best, 0]), float(places[best, 1])))
        taken = np.vstack([taken, rectangles[best]])
    return corners


def _places(label: Label, width: float, height: float) -> np.ndarray:
    """(K, 2): beside the object first, then everywhere; all of them inside the picture."""
    if label.width > width or label.height > height:
        return np.zeros((0, 2))
    x0, y0, x1, y1 = label.box
    middle, half = (x0 + x1 - label.width) / 2, (y0 + y1 - label.height) / 2
    above, below, left, right = y0 - label.height - 2, y1 + 2, x0 - label.width - 2, x1 + 2
    beside = [(x, y) for y in (above, below) for x in (x0, middle, x1 - label.width)]
    beside += [(x, y) for x in (right, left) for y in (y0, half, y1 - label.height)]
    step = label.font / 2
    rows = np.arange(0, height - label.height, step)
    columns = np.arange(0, width - label.width, step)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    places = np.vstack([np.array(beside), grid])
    return np.clip(places, 0, (width - label.width, height - label.height))


def _overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M): the areas that boxes (N, 4) and (M, 4) have in common."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)
