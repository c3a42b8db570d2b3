"""Plain Detectron2 as the oracle: the same objects to learn from, or an error of this package."""

import json
import logging

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.datasets import load_coco_json, load_lvis_json
from detectron2.data.detection_utils import (
    annotations_to_instances,
    filter_empty_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import TransformList
from hypothesis import given, settings
from hypothesis import strategies as st

from iif_d2 import count_class_frequency
from iif_d2.data import load_instances
from iif_d2.errors import DataError

from .test_instances import edit

NAN, INF = float("nan"), float("inf")
POLYGON = [[1, 1, 9, 1, 9, 9]]


def change(where: str, key: str, *values):
    """An oddity: `key` of one image, annotation or category becomes one of the values."""

    def apply(draw, content):
        draw(st.sampled_from(content[where]))[key] = draw(st.sampled_from(values))

    return apply


def text_ids(draw, content):
    """All category ids as text; Detectron2 sorts them as such."""
    for category in content["categories"]:
        category["id"] = str(int(category["id"]))
    for annotation in content["annotations"]:
        annotation["category_id"] = str(int(annotation["category_id"]))


def float_ids(draw, content):
    """1.0 for some of the 1."""
    for where, keys in {"images": ["id"], "categories": ["id"], "annotations": ["image_id", "category_id"]}.items():  # fmt: skip
        for record in content[where]:
            for key in keys:
                if draw(st.booleans()) and isinstance(record[key], int):
                    record[key] = float(record[key])


def annotation_id(draw, content):
    place = draw(st.integers(0, len(content["annotations"]) - 1))
    odd = [f"{place + 1}", f"uuid-{place}", place + 0.5, float(place + 1)]
    content["annotations"][place]["id"] = draw(st.sampled_from(odd))


BOTH = (
    float_ids,
    annotation_id,
    change("images", "height", 64.0),
    change("images", "width", 64.0),
    change("images", "captured_at", NAN, INF, -INF, 'NaN, "x\\', {"a": [NAN]}),
    change("annotations", "area", None, NAN, 5),
    change("annotations", "score", NAN, INF, 'a "NaN" b', [{"x": -INF}]),
    change("annotations", "bbox", [NAN] * 4, [5, NAN, 3, 3], [INF, INF, -INF, -INF]),
    change("categories", "image_count", 3.0, "many", NAN, -1, None, 1.5),
    change("categories", "frequency", 0.25, "r", NAN, [1]),
)
COCO = (
    text_ids,
    change("annotations", "iscrowd", False, True, 0.0, 1.0, 1, 2),
    change("annotations", "segmentation", "", None, [], False, 0, {}, POLYGON, [[1, 1, 2, 2]]),
    change("annotations", "keypoints", "", None),
    change("categories", "name", 3, 2.5, "NaN"),
)
# Detectron2 crashes over these, or trains on something else without a word.
WRONG = {
    "image_id": change("annotations", "image_id", "1", 77),
    "bbox": change("annotations", "bbox", ["1", "1", "5", "5"], [1, 2, 3], None, 5),
    "segmentation": change("annotations", "segmentation", [1, 1, 9, 1, 9, 9], "abc", [["1"] * 6], True),
    "category_id": change("annotations", "category_id", 55, None),
    "iscrowd": change("annotations", "iscrowd", "0", "false"),
    "width": change("images", "width", 64.5, -1, "64", None, NAN),
    "file_name": change("images", "file_name", "http://127.0.0.1:9/x.png", 5),
}  # fmt: skip


@st.composite
def files(draw, oddities) -> dict:
    """A sound file of up to three images with some oddities."""
    images = [{"id": i, "height": 64, "width": 64, "file_name": f"{i}.png",
               "coco_url": f"http://x/train2017/{i}.png", "neg_category_ids": []}
              for i in range(1, draw(st.integers(2, 4)))]  # fmt: skip
    count = draw(st.integers(1, 12))
    numbers = st.integers(0, 40)
    annotations = [
        {"id": id, "image_id": draw(st.integers(1, len(images))), "iscrowd": 0, "area": 9,
         "category_id": draw(st.integers(1, count)), "segmentation": POLYGON,
         "bbox": [draw(numbers), draw(numbers), draw(numbers), draw(numbers)]}
        for id in range(1, draw(st.integers(2, 7)))
    ]  # fmt: skip
    categories = [{"id": i, "name": f"c{i}"} for i in range(1, count + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for oddity in draw(st.lists(st.sampled_from(oddities), max_size=4)):
        oddity(draw, content)
    return content


def learnt(records) -> list[tuple]:
    """What the model gets of each image, as Detectron2's mapper makes it without masks."""
    made = []
    for record in filter_images_with_only_crowd_annotations(list(records)):
        size = int(record["height"]), int(record["width"])
        objects = [
            transform_instance_annotations(
                {key: a[key] for key in ("bbox", "bbox_mode", "category_id")}, TransformList([]), size
            )
            for a in record["annotations"]
            if a.get("iscrowd", 0) == 0
        ]  # fmt: skip
        found = filter_empty_instances(annotations_to_instances(objects, size))
        about = record["file_name"], record["height"], record["width"], record["image_id"]
        made.append((*about, found.gt_boxes.tensor.tolist(), found.gt_classes.tolist()))
    return made


def masks(records) -> list:
    return [a.get("segmentation") for record in records for a in record["annotations"]]


def detectron2s(path: str, lvis: bool) -> list[dict]:
    if lvis:
        return load_lvis_json(path, "/images/")
    theirs = load_coco_json(path, "/images/", "oracle_coco")
    assert [str(name) for name in MetadataCatalog.get("oracle_coco").thing_classes] == list(
        count_class_frequency(path).class_names
    )
    return theirs


@pytest.mark.parametrize("lvis", [False, True])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_same_objects_are_learnt_from(tmp_path_factory, lvis, data):
    content = data.draw(files(BOTH if lvis else BOTH + COCO))
    if not lvis:
        for image in content["images"]:
            del image["neg_category_ids"]
    path = str(tmp_path_factory.mktemp("oracle") / "file.json")
    with open(path, "w") as file:
        json.dump(content, file)
    try:
        theirs = detectron2s(path, lvis)
    finally:
        MetadataCatalog.pop("oracle_coco", None)
    ours = load_instances(path, "/images/")
    assert learnt(ours) == learnt(theirs)
    assert masks(ours) == masks(theirs)
    usable = ours.has_objects()
    assert [r["file_name"] for r in ours.take(usable)] == [r[0] for r in learnt(theirs)]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(WRONG)))
def test_what_it_would_train_on_wrongly_is_refused(tmp_path_factory, data, kind):
    content = data.draw(files((*BOTH[2:7],)))
    for image in content["images"]:
        del image["neg_category_ids"]
    WRONG[kind](data.draw, content)
    path = str(tmp_path_factory.mktemp("oracle") / "file.json")
    with open(path, "w") as file:
        json.dump(content, file)
    with pytest.raises(DataError, match=rf"(?s){path}.*{kind}.*; \w"):
        load_instances(path, "")


@pytest.mark.parametrize("box", ["[NaN, 1, 5, 5]", "[1, 1, Infinity, 5]", "[1, 1, 5, null]"])
def test_a_box_without_its_numbers_is_named_and_left_out(tmp_path, caplog, box):
    from ..conftest import make_dataset

    path, root = make_dataset(tmp_path, lvis=False)
    edit(path, lambda content: content["annotations"][1].update(bbox="BOX"))
    path.write_text(path.read_text().replace('"BOX"', box))
    with caplog.at_level(logging.WARNING):
        records = load_instances(str(path), str(root))
    assert "annotations[1] (id 2" in caplog.text and "cut short" not in caplog.text
    boxes = [a["bbox"] for record in records for a in record["annotations"]]
    assert boxes[1] == [0, 0, 0, 0] and torch.tensor(boxes).isfinite().all()
