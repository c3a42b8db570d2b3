"""What the cases are run on: made by code from a seed, at the sizes of LVIS v1."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from iif_d2 import count_class_frequency

_POLYGONS = 4096  # different ones; their numbers do not matter to what is measured


def write_annotations(
    path: str, num_annotations: int, num_images: int, polygons: bool = True, lvis: bool = True
) -> None:
    """A json of LVIS v1's 1,203 classes with its long tail; COCO's format without `lvis`.

    With polygons an annotation takes 470 bytes, as LVIS v1's 1.27 million do in 0.6 GB. The classes
    say their group, as LVIS's do.
    """
    rng = np.random.default_rng(0)
    frequency = count_class_frequency("lvis_v1_train")
    share = frequency.instance_count / frequency.instance_count.sum()
    outlines = [msgspec.Raw(_outline(rng)) for _ in range(_POLYGONS if polygons else 1)]
    with open(path, "wb") as file:
        file.write(b'{"annotations": [')
        for number, block in enumerate(_annotations(rng, share, num_annotations, num_images)):
            if polygons:
                for record in block:
                    record["segmentation"] = outlines[record["id"] % _POLYGONS]
            if not lvis:
                for record in block:
                    record["iscrowd"] = 0
            file.write(b"," * (number > 0) + msgspec.json.encode(block)[1:-1])
        named = zip(frequency.class_names, frequency.groups().tolist())
        categories = [
            {"id": i, "name": name, "frequency": group}
            for i, (name, group) in enumerate(named, start=1)
        ]
        images = [_image(i, lvis) for i in range(1, num_images + 1)]
        file.write(b'], "images": ' + msgspec.json.encode(images))
        file.write(b', "categories": ' + msgspec.json.encode(categories) + b"}")


def _annotations(
    rng: np.random.Generator, share: np.ndarray, count: int, num_images: int
) -> Iterator[list[dict]]:
    """Annotations in blocks, those of an image together."""
    for start in range(0, count, 100_000):
        ids = np.arange(start, min(start + 100_000, count))
        boxes = rng.uniform(1, 200, (len(ids), 4)).round(2)
        columns = (
            ids + 1,
            ids * num_images // count + 1,
            rng.choice(len(share), len(ids), p=share) + 1,
            (boxes[:, 2] * boxes[:, 3]).round(2),
        )
        rows = zip(*(column.tolist() for column in columns), boxes.tolist())
        yield [
            {"id": id, "image_id": image, "category_id": label, "area": area, "bbox": box}
            for id, image, label, area, box in rows
        ]


def _image(number: int, lvis: bool) -> dict:
    name = f"{number:012d}.jpg"
    record = {"id": number, "height": 480, "width": 640}
    if not lvis:
        return {**record, "file_name": name}
    negative = [(number * step) % 1203 + 1 for step in (7, 11, 13)]
    return {
        **record,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "neg_category_ids": negative,
        "not_exhaustive_category_ids": negative[:1],
    }


def _outline(rng: np.random.Generator) -> bytes:
    """A polygon of about 25 corners."""
    corners = rng.integers(15, 36)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    centre, radius = rng.uniform(150, 350, 2), rng.uniform(5, 100)
    points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return msgspec.json.encode([points.round(2).ravel().tolist()])
