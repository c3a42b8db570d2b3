"""Which rare objects two runs find, and the images where they differ: for QUALITATIVE.md.

python projects/benchmark/qualitative.py ANNOTATIONS.json FIRST_RESULTS.json SECOND_RESULTS.json

The results are what TEST.WRITE_RESULTS writes. An object is found where a detection of its class
with a score of THRESHOLD or more has an IoU of 0.5 or more with it, each detection taken once.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict

import numpy as np
from pycocotools import mask

from iif_d2 import count_class_frequency

THRESHOLD = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs=3, metavar="JSON", help="annotations, first, second")
    parser.add_argument("--train", default="mini_lvis_train", help="its counts say what is rare")
    args = parser.parse_args()
    truth, *runs = (json.load(open(path, encoding="utf-8")) for path in args.files)
    category_ids = sorted(category["id"] for category in truth["categories"])
    groups = dict(zip(category_ids, count_class_frequency(args.train).groups()))
    objects = by_place(truth["annotations"])
    found = []
    for number, detections in enumerate(runs):
        boxes = by_place(d for d in detections if d["score"] >= THRESHOLD)
        here = {place: matched(some, boxes.get(place, [])) for place, some in objects.items()}
        found.append(here)
        for group in "rcf":
            of_group = [place for place in objects if groups[place[1]] == group]
            total = sum(len(objects[place]) for place in of_group)
            hits = sum(int(here[place].sum()) for place in of_group)
            shown = sum(len(some) for place, some in boxes.items() if groups[place[1]] == group)
            found_of = f"{hits} of {total} objects found, by {shown} detections"
            print(f"run {number + 1}, group {group}: {found_of}")
    rare = [place for place in objects if groups[place[1]] == "r"]
    for words, wanted in (("second only", (0, 1)), ("first only", (1, 0)), ("neither", (0, 0))):
        some = [p for p in rare if tuple(int(f[p].any()) for f in found) == wanted]
        images = sorted({p[0] for p in some})
        print(f"{words}: {len(some)} pairs of rare class and image; images", *images)


def by_place(records) -> dict[tuple, list[dict]]:
    """Records of each image and class, the best score first."""
    places = defaultdict(list)
    for record in records:
        places[record["image_id"], record["category_id"]].append(record)
    return {p: sorted(some, key=lambda r: -r.get("score", 0)) for p, some in places.items()}


def matched(objects: list[dict], detections: list[dict]) -> np.ndarray:
    """(len(objects),), bool: which of them the detections find."""
    found = np.zeros(len(objects), bool)
    if not detections:
        return found
    boxes = ([record["bbox"] for record in some] for some in (detections, objects))
    overlap = mask.iou(*boxes, [0] * len(objects))
    for row in overlap:
        best = int(np.where(found, -1, row).argmax())
        found[best] |= row[best] >= 0.5
    return found


if __name__ == "__main__":
    main()
