"""Eq. 1: counting, its sources, and what goes with the counts."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iif_d2.data.frequency import count_class_frequency, packaged_frequency
from iif_d2.errors import DataError
from iif_d2.frequency import ClassFrequency, class_name_mismatch

from .conftest import CATEGORY_IDS, CLASS_NAMES, make_dataset


def count_slowly(content: dict) -> tuple[list[int], list[int]]:
    """Eq. 1 word by word."""
    images, instances = [], []
    for category_id in sorted(category["id"] for category in content["categories"]):
        holding = [a["image_id"] for a in content["annotations"] if a["category_id"] == category_id]
        images.append(len(set(holding)))
        instances.append(len(holding))
    return images, instances


@pytest.mark.parametrize("lvis", [True, False])
def test_json_counts_images_and_instances_in_contiguous_order(tmp_path, lvis):
    path, _ = make_dataset(tmp_path, lvis=lvis)
    images, instances = count_slowly(json.loads(path.read_text()))
    frequency = count_class_frequency(path)
    assert frequency.class_names == CLASS_NAMES
    assert frequency.image_count.tolist() == images
    assert frequency.instance_count.tolist() == instances
    assert frequency.image_count.dtype == np.int64
    assert images != instances and images[-1] == 0  # the data set can tell the two apart
    assert frequency.num_images == 8  # the one without annotations counts


def test_name_json_and_dicts_agree(dataset, dataset_name):
    from detectron2.data import DatasetCatalog

    by_json = count_class_frequency(str(dataset[0]))
    assert count_class_frequency(dataset_name) == by_json
    dicts = DatasetCatalog.get(dataset_name)
    assert count_class_frequency(dicts, class_names=CLASS_NAMES) == by_json
    unnamed = count_class_frequency(dicts)  # "never" cannot be known from the dicts alone
    assert unnamed.class_names == ("0", "1", "2")
    assert unnamed.image_count.tolist() == by_json.image_count.tolist()[:3]


@pytest.mark.parametrize(
    "name, images, image_sum, instances, groups",
    [
        ("lvis_v1_train", 100_170, 360_952, 1_270_141, (337, 461, 405)),
        ("lvis_v0.5_train", 57_263, 201_417, 693_958, (454, 461, 315)),
        ("coco_2017_train", 118_287, 342_996, 860_001, (0, 0, 80)),
    ],
)
def test_packaged_counts_are_the_published_ones(name, images, image_sum, instances, groups):
    frequency = count_class_frequency(name)
    assert frequency.num_images == images
    assert frequency.image_count.sum() == image_sum
    assert frequency.instance_count.sum() == instances
    assert tuple((frequency.groups() == g).sum() for g in "rcf") == groups


def test_packaged_lvis_v1_is_detectron2s_own_table():
    from detectron2.data import MetadataCatalog

    table = MetadataCatalog.get("lvis_v1_train").class_image_count
    counts = [row["image_count"] for row in sorted(table, key=lambda row: row["id"])]
    assert packaged_frequency("lvis_v1_train").image_count.tolist() == counts


def test_group_limits_are_lvis_own():
    frequency = ClassFrequency("abcde", [0, 10, 11, 100, 101], None, 200)
    assert frequency.groups().tolist() == ["r", "r", "c", "c", "f"]
    assert frequency.groups(rare=0, common=10).tolist() == ["r", "c", "f", "f", "f"]


def test_stated_counts_are_used_only_where_the_annotations_agree(tmp_path, caplog):
    path, _ = make_dataset(tmp_path)
    content = json.loads(path.read_text())
    images, instances = count_slowly(content)
    for category, n, m in zip(content["categories"], images, instances):
        category.update(image_count=n, instance_count=m)
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert count_class_frequency(path).image_count.tolist() == images
        assert not caplog.records
        content["categories"][0]["image_count"] += 1
        path.write_text(json.dumps(content))
        assert count_class_frequency(path).image_count.tolist() == images
    assert "1 of 4 classes" in caplog.text and "'square'" in caplog.text


def test_save_and_load_give_the_same(tmp_path, frequency):
    frequency.save(tmp_path / "counts.json")
    assert ClassFrequency.load(tmp_path / "counts.json") == frequency
    without = ClassFrequency(frequency.class_names, frequency.image_count, None, 100)
    without.save(tmp_path / "counts.json")
    assert ClassFrequency.load(tmp_path / "counts.json") == without
    assert without != frequency
    with pytest.raises(DataError, match="no instance counts"):
        without.count("instance")


def test_frequencies_are_frozen(frequency):
    with pytest.raises(AttributeError):
        frequency.num_images = 5
    with pytest.raises(ValueError, match="read-only"):
        frequency.image_count[0] = 5


def test_several_sets_add_up(frequency):
    both = ClassFrequency.sum([frequency, frequency])
    assert both.image_count.tolist() == [180, 80, 20, 2, 0]
    assert both.instance_count.tolist() == [400, 80, 24, 6, 0]
    assert both.num_images == 200
    other = ClassFrequency(("a", "b", "c", "e", "d"), frequency.image_count, None, 100)
    with pytest.raises(DataError, match="class 3 is 'd' against 'e'"):
        ClassFrequency.sum([frequency, other])


def test_cache_counts_once_and_notices_another_file(tmp_path, monkeypatch):
    from iif_d2.data import counting as module

    path, _ = make_dataset(tmp_path / "data")
    calls = []
    count = module._count_labels
    monkeypatch.setattr(module, "_count_labels", lambda p: calls.append(p) or count(p))
    cache = str(tmp_path / "cache")
    first = count_class_frequency(path, cache_dir=cache)
    assert count_class_frequency(path, cache_dir=cache) == first and len(calls) == 1
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    assert count_class_frequency(path, cache_dir=cache) != first and len(calls) == 2
    for kept in (tmp_path / "cache").glob("*.json"):
        kept.write_text('{"format": "iif_d2.Cl')  # a cache cut short is made again
    assert count_class_frequency(path, cache_dir=cache) is not None and len(calls) == 3


def test_unwritable_cache_costs_time_not_the_result(tmp_path):
    path, _ = make_dataset(tmp_path / "data")
    (tmp_path / "file").write_text("")
    assert count_class_frequency(path, cache_dir=str(tmp_path / "file" / "cache")).num_images == 8


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((("a",), [1, 2], None, 5), "shape"),
        ((("a", "b"), [1, -2], None, 5), "negative"),
        ((("a", "b"), [1.5, 2], None, 5), "whole numbers"),
        ((("a", "b"), [1, 9], None, 5), "image_count of class 'b' is 9, but num_images is 5"),
        ((("a", "b"), [3, 2], [3, 1], 5), "instance_count of class 'b' is 1, but image_count is 2"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        ClassFrequency(*arguments)


def broken(**changes) -> dict:
    return {
        "images": [{"id": 1, "height": 4, "width": 4, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 1, "name": "a"}],
        **changes,
    }


BROKEN = {
    "cut short": (json.dumps(broken())[:-20], "not valid json"),
    "empty": ("", "is empty"),
    "no json": ("hello", "not valid json"),
    "a list": ("[]", "not an LVIS or COCO annotation file"),
    "no images": (json.dumps({"annotations": [], "categories": []}), "missing required field"),
    "wrong type": (
        json.dumps(broken(annotations=[{"image_id": 1, "category_id": "1"}])),
        r"annotations\[0\].category_id",
    ),
    "unknown category": (
        json.dumps(broken(annotations=[{"image_id": 1, "category_id": 7}])),
        r"annotations\[0\].category_id is 7",
    ),
    "unknown image": (
        json.dumps(broken(annotations=[{"image_id": 9, "category_id": 1}])),
        r"annotations\[0\].image_id is 9",
    ),
    "no name": (
        json.dumps(broken(categories=[{"id": 1, "name": " "}])),
        r"categories\[0\].*no name",
    ),
    "name missing": (json.dumps(broken(categories=[{"id": 1}])), "missing required field `name`"),
    "no categories": (json.dumps(broken(categories=[], annotations=[])), "'categories' is empty"),
    "category twice": (
        json.dumps(broken(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}])),
        r"categories\[1\].id 1 is there twice",
    ),
    "image twice": (
        json.dumps(broken(images=broken()["images"] * 2)),
        r"images\[1\].id 1 is there",
    ),
    "deep nesting": ("[" * 100_000, "not valid json|not an LVIS"),
}


@pytest.mark.parametrize("text, message", BROKEN.values(), ids=BROKEN.keys())
def test_broken_json_says_what_where_and_what_to_do(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        count_class_frequency(path)
    assert str(path) in str(error.value)


def test_missing_sources_say_so(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        count_class_frequency(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="neither a file nor a registered data set"):
        count_class_frequency("no_such_data_set")
    with pytest.raises(DataError, match="category_id 4, but there are 2 classes"):
        count_class_frequency([{"annotations": [{"category_id": 4}]}], class_names=("a", "b"))
    (tmp_path / "a.json").write_text(json.dumps(broken()))
    with pytest.raises(DataError, match="a saved ClassFrequency"):
        ClassFrequency.load(tmp_path / "a.json")


def test_byte_order_mark_and_string_ids_are_read(tmp_path):
    content = broken()
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "first"
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert count_class_frequency(path).image_count.tolist() == [1]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(CATEGORY_IDS)), max_size=30))
def test_any_labels_are_counted_as_eq_1_says(labels):
    dicts = [{"annotations": []} for _ in range(6)]
    for image, category_id in labels:
        dicts[image]["annotations"].append({"category_id": CATEGORY_IDS.index(category_id)})
    content = {
        "annotations": [{"image_id": i, "category_id": c} for i, c in labels],
        "categories": [{"id": c} for c in CATEGORY_IDS],
    }
    frequency = count_class_frequency(dicts, class_names=CLASS_NAMES)
    images, instances = count_slowly(content)
    assert frequency.image_count.tolist() == images
    assert frequency.instance_count.tolist() == instances
    assert frequency.num_images == 6


NAMES = [f"class {index}" for index in range(20)]


def test_renamed_classes_are_the_same_but_exchanged_ones_are_not():
    renamed = ["bull", *NAMES[1:]]
    assert class_name_mismatch(NAMES, renamed) is None
    exchanged = [NAMES[0], *NAMES[2:0:-1], *NAMES[3:]]
    assert "class 1 is 'class 1' against 'class 2'" in class_name_mismatch(NAMES, exchanged)
    # A renamed class in front does not hide the exchange.
    said = class_name_mismatch(["bull", *NAMES[1:]], exchanged)
    assert said.startswith("class 1 is 'class 1'") and said.endswith("the order differs")
    rotated = [*NAMES[1:], NAMES[0]]
    assert class_name_mismatch(NAMES, rotated).startswith("class 0 is 'class 0' against 'class 1'")


def test_two_classes_of_one_name_are_no_exchange():
    twice = ["cup", *NAMES[1:-1], "cup"]
    assert class_name_mismatch(twice, twice) is None
    assert class_name_mismatch(twice, [*twice[:-1], "mug"]) is None
    assert "the order differs" in class_name_mismatch(twice, ["cup", "cup", *NAMES[2:-1], NAMES[1]])
