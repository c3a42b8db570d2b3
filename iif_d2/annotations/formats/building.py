"""A COCO json in memory, record by record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_DIGITS = 4  # of a pixel


class JsonText:
    """What a reader of another format gives: `content` is COCO json as the one reader takes it.

    Ids count from 1, since some of COCO's tools mean nothing by 0. Each object keeps in `source`
    the file and the line that it is from, for messages.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
        self._images: list[bytes] = []
        self._objects: list[bytes] = []

    def add_image(self, file_name: str, width: int, height: int) -> None:
        """The next picture, by its path from the data set's root; what is added then is in it."""
        number = len(self._images) + 1
        record = {"id": number, "file_name": file_name, "width": width, "height": height}
        self._images.append(_encode(record))

    def add_box(self, label: int, box: Sequence[float], source: str, **more: Any) -> None:
        """An object: its class by number, from 0; x, y, width and height of its box in pixels."""
        box = [round(value, _DIGITS) for value in box]
        record = {
            "id": len(self._objects) + 1,
            "image_id": len(self._images),
            "category_id": label + 1,
            "bbox": box,
            "area": round(max(box[2], 0) * max(box[3], 0), _DIGITS),
            "iscrowd": 0,
            "source": source,
        }
        self._objects.append(_encode(record | more))

    def add_polygon(self, label: int, points: Sequence[float], source: str, **more: Any) -> None:
        """An object: its outline as x, y, x, y, ... in pixels."""
        points = [round(value, _DIGITS) for value in points]
        xs, ys = points[::2], points[1::2]
        box = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        more = {"area": round(_area(xs, ys), _DIGITS), "segmentation": [points], **more}
        self.add_box(label, box, source, **more)

    def content(self) -> bytes:
        parts = b",".join(self._images), b",".join(self._objects), _encode(self._categories)
        return b'{"images":[%b],"annotations":[%b],"categories":%b}' % parts


def _area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """What the polygon encloses."""
    ends = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]])
    return abs(sum(x1 * y2 - x2 * y1 for x1, y1, x2, y2 in ends)) / 2
