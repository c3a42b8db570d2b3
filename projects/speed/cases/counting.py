"""Class counts from an annotation json."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np
from measure import Row, compared
from simulate import write_annotations

from iif_d2 import count_class_frequency

V1 = (1_270_141, 100_170)  # annotations and images of LVIS v1 train


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "annotations.json")
        write_annotations(path, *V1)
        yield Row(
            "counting",
            f"LVIS v1 train's size, {os.path.getsize(path) / 1e9:.2f} GB",
            reference="json.load",
            note="reading alone is timed of json.load",
            **compared("counting", path, repeat=3, reference_repeat=3 if options.full else 1),
        )
        for count in (10**4, 10**5, 10**6, 10**7):
            write_annotations(path, count, count // 10, polygons=False)
            size = os.path.getsize(path) / 1e9
            yield Row(
                "counting",
                f"{count:,} boxes, {size:.3f} GB",
                reference="json.load" if count < 10**7 or options.full else "",
                series="annotations",
                x=count,
                **compared("counting", path, reference=count < 10**7 or options.full),
            )


def ours(path: str):
    count_class_frequency("lvis_v1_train")  # imports what it needs
    return lambda: count_class_frequency(path), lambda found: digest(
        found.image_count, found.instance_count
    )


def theirs(path: str):
    def load():
        with open(path) as file:
            return json.load(file)

    def tally(content: dict) -> str:
        places = {c["id"]: i for i, c in enumerate(content["categories"])}
        objects, pairs = np.zeros((2, len(places)), dtype=np.int64)
        seen = set()
        for annotation in content["annotations"]:
            place = places[annotation["category_id"]]
            objects[place] += 1
            seen.add((annotation["image_id"], place))
        for _, place in seen:
            pairs[place] += 1
        return digest(pairs, objects)

    return load, tally


def digest(images: np.ndarray, objects: np.ndarray) -> str:
    return json.dumps([images.tolist(), objects.tolist()])
