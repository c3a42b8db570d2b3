"""Annotation json to Detectron2's dataset dicts."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile

import msgspec
from measure import Row, compared
from simulate import write_annotations

SIZES = {
    "LVIS v1 train's size": (1_270_141, 100_170, True),
    "COCO 2017 train's size": (860_001, 118_287, False),
    "a tenth of COCO 2017 train": (86_000, 11_829, False),
}


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "annotations.json")
        for name, (annotations, images, lvis) in SIZES.items():
            if name.startswith("COCO") and not options.full:
                continue
            write_annotations(path, annotations, images, lvis=lvis)
            yield Row(
                "dataset dicts",
                f"{name}, {os.path.getsize(path) / 1e9:.2f} GB",
                reference="Detectron2",
                **compared(
                    "loading",
                    path,
                    lvis,
                    repeat=2 if lvis else 3,
                    reference_repeat=1 if lvis else 3,
                ),
            )
        yield Row(
            "dataset dicts, all made at once",
            f"{name}, {os.path.getsize(path) / 1e9:.2f} GB",
            reference="Detectron2",
            **compared("loading", path, lvis, True, repeat=3),
        )


def ours(path: str, lvis: bool, whole: bool = False):
    from iif_d2.data import load_instances

    if whole:
        return lambda: list(load_instances(path, "/images/")), digest
    return lambda: load_instances(path, "/images/"), digest


def theirs(path: str, lvis: bool, whole: bool = True):
    from detectron2.data.datasets import load_coco_json, load_lvis_json

    logging.disable()
    if lvis:
        return lambda: load_lvis_json(path, "/images/"), digest
    return lambda: load_coco_json(path, "/images/", "coco_simulated"), digest


def digest(dicts: list[dict]) -> str:
    found = hashlib.sha256()
    for record in dicts:
        found.update(msgspec.json.encode(record, order="sorted"))
    return found.hexdigest()
