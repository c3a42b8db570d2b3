"""Where in the image the objects of each class lie, and how many dimensions that fills (FRACAL).

The box-counting dimension D_c of a class is the slope of ln B(g) over ln g by least squares, where
B(g) of a g x g grid's cells hold the centre of one of its m_c boxes, for g = 1 to 64 with
g^2 <= m_c; it is 1 where m_c < 4 or the slope is below 1. A class that lies all over the image has
D_c near 2, one that lies along a line 1. Alexandridis et al., "Fractal Calibration for Long-tailed
Object Detection", CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..annotations.reading import read_annotations
from ..errors import DataError

FINEST = 64  # cells a side of the finest grid


class _Box(msgspec.Struct, gc=False):
    bbox: tuple[float, float, float, float]


_decode_boxes = msgspec.json.Decoder(list[_Box]).decode


class BoxCentres(NamedTuple):
    """Where the boxes of a data set lie.

    Attributes:
        classes: int64 (M,), contiguous.
        centres: float64 (M, 2), x and y in pixels.
        sizes: int64 (M, 2), width and height of their images in pixels.
    """

    classes: np.ndarray
    centres: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of_json(cls, path: str) -> BoxCentres:
        """Of all annotations of an LVIS or COCO json.

        Raises:
            DataError: the file cannot be used; see `read_annotations`.
        """
        file = read_annotations(path)
        boxes = (
            box.bbox
            for index in range(len(file))
            for box in _decode_boxes(b"[%b]" % file.object_texts[index])
        )
        sizes = np.repeat(file.sizes[:, ::-1], np.diff(file.first), axis=0)
        return cls(file.classes, _centre(boxes), sizes)

    @classmethod
    def of_dicts(cls, dicts: Iterable[dict[str, Any]]) -> BoxCentres:
        """Of Detectron2 dataset dicts.

        Raises:
            DataError: an image has no size, or an object no box.
        """
        from detectron2.structures import BoxMode

        classes, boxes, sizes = [], [], []
        for record in dicts:
            for annotation in record.get("annotations", ()):
                try:
                    mode = annotation["bbox_mode"]
                    boxes.append(BoxMode.convert(annotation["bbox"], mode, BoxMode.XYWH_ABS))
                    sizes.append((record["width"], record["height"]))
                except KeyError as error:
                    raise DataError(
                        f"image {record.get('file_name')!r} lacks {error} in its dataset dict, and "
                        f"box-counting dimensions need boxes and image sizes; add it"
                    ) from None
                classes.append(annotation["category_id"])
        as_sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        return cls(np.array(classes, dtype=np.int64), _centre(boxes), as_sizes)

    @classmethod
    def joined(cls, parts: Sequence[BoxCentres]) -> BoxCentres:
        """Those of several data sets of the same classes, as of one."""
        return cls(*map(np.concatenate, zip(*parts)))

    def dimension(self, num_classes: int) -> np.ndarray:
        """float64 (C,): D_c of each class, in [1, 2].

        A centre outside its image lies in no cell.
        """
        count = np.bincount(self.classes, minlength=num_classes)
        finest = np.sqrt(count).astype(np.int64).clip(1, FINEST)
        occupied = np.ones((num_classes, FINEST))
        inside = ((self.centres >= 0) & (self.centres < self.sizes)).all(axis=1)
        for g in range(2, int(finest.max(initial=1)) + 1):
            used = inside & (finest >= g)[self.classes]
            # g c / size, not g (c / size): a centre on a line between cells stays on it.
            places = (g * self.centres[used] / self.sizes[used]).astype(np.int64)
            column, row = places.clip(max=g - 1).T
            cells = np.zeros((num_classes, g, g), dtype=bool)
            cells[self.classes[used], row, column] = True
            occupied[:, g - 1] = cells.sum(axis=(1, 2)).clip(min=1)
        grid = np.arange(1, FINEST + 1)
        fitted = grid <= finest[:, None]
        x = np.broadcast_to(np.log(grid), fitted.shape)
        away = x - (x * fitted).sum(axis=1, keepdims=True) / fitted.sum(axis=1, keepdims=True)
        away = away * fitted
        with np.errstate(invalid="ignore"):  # 0/0 below four boxes
            slope = (away * np.log(occupied)).sum(axis=1) / (away**2).sum(axis=1)
        return np.where(slope > 1, slope, 1.0).clip(max=2.0)


def _centre(boxes: Iterable[Sequence[float]]) -> np.ndarray:
    """float64 (M, 2) of boxes x, y, width, height."""
    array = np.fromiter(chain.from_iterable(boxes), np.float64).reshape(-1, 4)
    return array[:, :2] + array[:, 2:] / 2
