"""What the cases are run on: made by code from a seed, at the sizes of LVIS v1."""

from __future__ import annotations

import msgspec
import numpy as np

from iif_d2 import count_class_frequency

_POLYGONS = 4096  # different ones; their numbers do not matter to what is measured
_BLOCK = 100_000  # annotations that are written at once


def write_annotations(
    path: str, num_annotations: int, num_images: int, polygons: bool = True, lvis: bool = True
) -> None:
    """A json of LVIS v1's 1,203 classes with its long tail; COCO's format without `lvis`.

    With polygons an annotation takes 470 bytes, as LVIS v1's 1.27 million do in 0.6 GB. The classes
    say their group, as LVIS's do, and the annotations of an image stand together.
    """
    rng = np.random.default_rng(0)
    frequency = count_class_frequency("lvis_v1_train")
    share = frequency.instance_count / frequency.instance_count.sum()
    outlines = [_outline(rng) for _ in range(_POLYGONS if polygons else 1)]
    with open(path, "wb") as file:
        file.write(b'{"annotations": [')
        for start in range(0, num_annotations, _BLOCK):
            ids = np.arange(start, min(start + _BLOCK, num_annotations))
            boxes = rng.uniform(1, 200, (len(ids), 4)).round(2)
            labels = rng.choice(len(share), len(ids), p=share) + 1
            areas = (boxes[:, 2] * boxes[:, 3]).round(2)
            columns = (ids + 1, ids * num_images // num_annotations + 1, labels, areas, boxes)
            names = ("id", "image_id", "category_id", "area", "bbox")
            block = [dict(zip(names, row)) for row in zip(*(c.tolist() for c in columns))]
            for record in block:
                if polygons:
                    record["segmentation"] = outlines[record["id"] % _POLYGONS]
                if not lvis:
                    record["iscrowd"] = 0
            file.write(b"," * (start > 0) + msgspec.json.encode(block)[1:-1])
        named = enumerate(zip(frequency.class_names, frequency.groups().tolist()), start=1)
        categories = [{"id": i, "name": name, "frequency": group} for i, (name, group) in named]
        images = [_image(i, lvis) for i in range(1, num_images + 1)]
        file.write(b'], "images": ' + msgspec.json.encode(images))
        file.write(b', "categories": ' + msgspec.json.encode(categories) + b"}")


def _image(number: int, lvis: bool) -> dict:
    record, name = {"id": number, "height": 480, "width": 640}, f"{number:012d}.jpg"
    if not lvis:
        return record | {"file_name": name}
    negative = [(number * step) % 1203 + 1 for step in (7, 11, 13)]
    return record | {
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "neg_category_ids": negative,
        "not_exhaustive_category_ids": negative[:1],
    }


def _outline(rng: np.random.Generator) -> msgspec.Raw:
    """A polygon of about 25 corners."""
    corners = rng.integers(15, 36)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    centre, radius = rng.uniform(150, 350, 2), rng.uniform(5, 100)
    points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return msgspec.Raw(msgspec.json.encode([points.round(2).ravel().tolist()]))
