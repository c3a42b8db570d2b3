"""Dataset dicts: Detectron2's own, and bad annotations named."""

import json
import logging

import pytest
from detectron2.data.datasets import load_coco_json, load_lvis_json
from pycocotools import mask as mask_util

from iif_d2.data import load_instances
from iif_d2.errors import DataError

from ..conftest import make_dataset
from ..test_frequency import BROKEN


def edit(path, change) -> str:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return str(path)


def test_coco_json_gives_detectron2s_dicts(tmp_path):
    path, root = make_dataset(tmp_path, lvis=False)
    ours = load_instances(str(path), str(root))
    assert ours == load_coco_json(str(path), str(root), "tiny_coco_reference")
    assert len(ours) == 8 and ours[-1]["annotations"] == []


def test_lvis_json_gives_detectron2s_dicts(tmp_path):
    path, root = make_dataset(tmp_path)
    # Detectron2's loader takes categories 1..C and a root that ends in a slash.
    ids = {3: 1, 5: 2, 6: 3, 11: 4}

    def renumber(content):
        for category in content["categories"]:
            category["id"] = ids[category["id"]]
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]

    edit(path, renumber)
    theirs = load_lvis_json(str(path), f"{root}/")
    assert load_instances(str(path), str(root)) == theirs
    assert load_instances(str(path), f"{root}/") == theirs


def test_rle_masks_in_both_spellings_arrive_compressed(tmp_path):
    path, root = make_dataset(tmp_path, lvis=False)
    polygon = [[4, 4, 20, 4, 20, 24, 4, 24]]
    rle = mask_util.frPyObjects(polygon, 64, 64)[0]
    plain = {"size": [64, 64], "counts": [0, 1, 64 * 64 - 1]}

    def use_rle(content):
        first, second, *_ = content["annotations"]
        first["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        second["segmentation"] = plain

    ours = load_instances(edit(path, use_rle), str(root))
    assert ours == load_coco_json(str(path), str(root), "tiny_rle_reference")
    masks = [a["segmentation"] for r in ours for a in r["annotations"] if isinstance(a["segmentation"], dict)]  # fmt: skip
    assert [mask_util.area(mask) for mask in masks] == [320, 1]


def test_empty_and_outside_boxes_are_named_once(tmp_path, caplog):
    path, root = make_dataset(tmp_path)

    def spoil(content):
        content["annotations"][1]["bbox"] = [5, 5, 0, 9]
        content["annotations"][2]["bbox"] = [500, 5, 9, 9]

    with caplog.at_level(logging.WARNING):
        load_instances(edit(path, spoil), str(root))
    assert len(caplog.records) == 1
    assert (
        "2 of" in caplog.text and "annotations[1] (id 2" in caplog.text and str(path) in caplog.text
    )


def test_polygons_without_three_points_are_named_and_left_out(tmp_path, caplog):
    path, root = make_dataset(tmp_path)
    whole = sum(len(record["annotations"]) for record in load_instances(str(path), str(root)))

    def spoil(content):
        content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]

    with caplog.at_level(logging.WARNING):
        records = load_instances(edit(path, spoil), str(root))
    assert sum(len(record["annotations"]) for record in records) == whole - 1
    assert "annotations[0] (id 1" in caplog.text and "three points" in caplog.text


@pytest.mark.parametrize("text, message", BROKEN.values(), ids=BROKEN.keys())
def test_broken_json_is_named(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        load_instances(str(path), str(tmp_path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["annotations"][3].update(id=1), r"annotations\[3\].id 1 is there twice"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3]), r"annotations\[3\].bbox"),
        (lambda c: c["annotations"][3].update(bbox=None), r"annotations\[3\].bbox"),
        (lambda c: c["images"][2].pop("width"), r"`width`.*images\[2\]"),
        (
            lambda c: c["images"][2].pop("coco_url"),
            r"images\[2\].*neither 'file_name' nor 'coco_url'",
        ),
    ],
)
def test_broken_fields_are_named(tmp_path, change, message):
    path, root = make_dataset(tmp_path)
    with pytest.raises(DataError, match=message):
        load_instances(edit(path, change), str(root))
