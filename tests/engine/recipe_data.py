"""LVIS v1, LVIS v0.5 and COCO on disk as Detectron2 expects them, but six images to train on and two to test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.coco import register_coco_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta, register_lvis_instances
from PIL import Image

from iif_d2.data import attach_class_frequency
from iif_d2.data.frequency import packaged_frequency

SIZE = 64
COUNTS = {
    "lvis_v1": "lvis_v1_train",
    "lvis_v0.5": "lvis_v0.5_train",
    "coco_2017": "coco_2017_train",
}


def small_data(root: Path) -> Iterator[None]:
    """While it is suspended, the three sets' own names lead to small json files under `root`.

    The class frequencies are the published ones, as they would be with the data on disk.
    """
    before = {}
    for data, counted in COUNTS.items():
        frequency = packaged_frequency(counted)
        for split in ("train", "val"):
            name = f"{data}_{split}"
            before[name] = DatasetCatalog.pop(name), MetadataCatalog.pop(name)
            _register(name, root, frequency)
            attach_class_frequency(name)
            MetadataCatalog.get(name).class_frequency = frequency
    yield
    for name, (function, metadata) in before.items():
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)
        DatasetCatalog.register(name, function)
        MetadataCatalog[name] = metadata


def _register(name: str, root: Path, frequency) -> None:
    split = name.rpartition("_")[2]
    lvis = name.startswith("lvis")
    if lvis:
        meta = get_lvis_instances_meta(name)
        ids = range(1, len(frequency) + 1)
    else:
        meta = _get_builtin_metadata("coco")
        ids = sorted(meta["thing_dataset_id_to_contiguous_id"])
    categories = [
        {
            "id": category_id,
            "name": class_name,
            **({"image_count": int(images), "instance_count": int(objects), "frequency": group}
               if lvis else {}),
        }
        for category_id, class_name, images, objects, group in zip(
            ids, meta["thing_classes"], frequency.image_count, frequency.instance_count,
            frequency.groups(),
        )
    ]  # fmt: skip
    path = root / f"{name}.json"
    path.write_text(json.dumps(_content(root, split, categories, lvis)))
    if lvis:
        register_lvis_instances(name, meta, str(path), f"{root}/")
    else:
        register_coco_instances(name, meta, str(path), str(root / f"{split}2017"))


def _content(root: Path, split: str, categories: list[dict], lvis: bool) -> dict:
    """Images that each have a box of the first class, of the last and of one in between."""
    (root / f"{split}2017").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, 7 if split == "train" else 3):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        present = [categories[index]["id"] for index in (0, 7 * image_id, len(categories) - 1)]
        for row, category_id in enumerate(present):
            x, y, w, h = 4 + 18 * row, 6 + 3 * image_id, 16, 24
            pixels[y : y + h, x : x + w, row] = 230
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": category_id,
                    "bbox": [x, y, w, h], "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    **({} if lvis else {"iscrowd": 0}),
                }
            )  # fmt: skip
        name = f"{image_id:012d}.jpg"
        Image.fromarray(pixels).save(root / f"{split}2017" / name)
        image = {"id": image_id, "height": SIZE, "width": SIZE, "file_name": name}
        if lvis:
            image["coco_url"] = f"http://images.cocodataset.org/{split}2017/{name}"
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        images.append(image)
    return {"images": images, "annotations": annotations, "categories": categories}
