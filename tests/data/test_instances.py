"""Dataset dicts: Detectron2's own, and bad annotations named."""

import json
import logging

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json, load_lvis_json
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from iif_d2.annotations import reading
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


def test_a_test_set_has_no_annotations(tmp_path):
    path, root = make_dataset(tmp_path, lvis=False)
    edit(path, lambda content: content.pop("annotations"))
    ours = load_instances(str(path), str(root))
    assert ours == load_coco_json(str(path), str(root), "tiny_coco_reference")
    assert len(ours) == 8 and not any(record["annotations"] for record in ours)
    path, root = make_dataset(tmp_path / "lvis")
    edit(path, lambda content: content.pop("annotations"))
    ours = load_instances(str(path), str(root))
    assert len(ours) == 8 and len(ours[0]["neg_category_ids"]) > 0


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


NUMBERS = st.one_of(
    st.integers(0, 60),
    st.floats(0, 60).map(lambda v: round(v, 2)),
    st.sampled_from([-3.5, 1e-6, 0]),
)
BOXES = st.lists(NUMBERS, min_size=4, max_size=4)
POLYGONS = st.lists(NUMBERS, min_size=6, max_size=12)
SOUND = st.lists(POLYGONS.filter(lambda p: len(p) % 2 == 0), min_size=1, max_size=3)
RLES = st.sampled_from(
    [
        {"size": [64, 64], "counts": [0, 1, 4095]},
        {"counts": "PP4", "size": [64, 64]},  # 4096 pixels of background
    ]
)
NOTES = st.sampled_from(['"}, {"', [{"a": [{}]}, {"b": 1}], None, "]}", 3])


@st.composite
def files(draw, lvis: bool) -> dict:
    """LVIS or COCO files in any order, some with what only some files have."""
    ids = st.integers(1, 2**40)
    image_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    count = draw(st.integers(1, 4))
    category_ids = range(1, count + 1) if lvis else draw(
        st.lists(st.integers(1, 99), min_size=count, max_size=count, unique=True)
    )  # fmt: skip
    images = [{"note": draw(NOTES), "id": i, "height": 64, "width": 64} for i in image_ids]
    for image in images:
        if lvis:
            image["coco_url"] = f"http://x/train2017/{image['id']}.jpg"
            if draw(st.booleans()) or image is images[0]:
                image["neg_category_ids"] = [1]
            if draw(st.booleans()):
                image["not_exhaustive_category_ids"] = [count]
        else:
            image["file_name"] = f"{image['id']}.jpg"
    annotations = []
    for id in draw(st.lists(ids, max_size=8, unique=True)):
        annotation = {"id": id, "image_id": draw(st.sampled_from(image_ids)),
                      "category_id": draw(st.sampled_from(category_ids)), "bbox": draw(BOXES)}  # fmt: skip
        if lvis:
            annotation["segmentation"] = draw(SOUND)
        else:
            kinds = st.one_of(SOUND, st.lists(POLYGONS, max_size=2), RLES, st.just([]))
            optional = {"segmentation": kinds, "iscrowd": st.integers(0, 1), "area": st.just(7.5),
                        "keypoints": st.lists(st.integers(0, 5), min_size=6, max_size=6)}  # fmt: skip
            for key, value in optional.items():
                if draw(st.booleans()):
                    annotation[key] = draw(value)
        if draw(st.integers(0, 5)) == 0:
            annotation["note"] = draw(NOTES)
        annotations.append(annotation)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": f"c{i}"} for i in draw(st.permutations(category_ids))],
    }
    return {key: content[key] for key in draw(st.permutations(list(content)))}


def typed(value) -> object:
    """With the types and the order of keys, which == does not compare."""
    if isinstance(value, dict):
        return [(key, typed(part)) for key, part in value.items()]
    if isinstance(value, list):
        return [typed(part) for part in value]
    return type(value), value


def detectron2s(path: str, lvis: bool) -> list[dict]:
    if lvis:
        return load_lvis_json(path, "/images/")
    theirs = load_coco_json(path, "/images/", "instances_of_coco")
    MetadataCatalog.pop("instances_of_coco")
    return theirs


@pytest.mark.parametrize("lvis", [True, False])
@settings(max_examples=120, deadline=None)
@given(data=st.data(), indent=st.sampled_from([None, 1]), block=st.sampled_from([1, 3, 1000]))
def test_any_json_gives_detectron2s_dicts(tmp_path_factory, lvis, data, indent, block):
    path = str(tmp_path_factory.mktemp("instances") / "file.json")
    with open(path, "w") as file:
        json.dump(data.draw(files(lvis)), file, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK", block)
        ours = load_instances(path, "/images/")
    theirs = detectron2s(path, lvis)
    assert typed(list(ours)) == typed(theirs)
    labels = [[(o["category_id"], bool(o.get("iscrowd", 0))) for o in d["annotations"]] for d in theirs]  # fmt: skip
    found = [[(o["category_id"], bool(o["iscrowd"])) for o in d["annotations"]] for d in ours.labels()]  # fmt: skip
    assert found == labels
    assert ours.has_objects().tolist() == [any(not crowd for _, crowd in own) for own in labels]


BAD = {
    "bbox": ([0, 0, 1e9, 1], [1, 2], [0, 0, "1", 1], None),
    "area": (-1, "7"),
    "segmentation": ([[0, 0, 1e4, 0, 9, 9]], [[1, 2], "x"], [[None] * 6], 5, [5],
                     {"size": [64, 64], "counts": "o"}, {"size": [4, 4], "counts": [16]}),
    "image_id": ("a", 1.5, None),
    "category_id": (1000, "1", True),
    "id": ([1], {}),
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(data=st.data(), lvis=st.booleans(), block=st.sampled_from([1, 3, 1000]))
def test_one_bad_field_among_good_ones_is_named(tmp_path_factory, data, lvis, block):
    content = data.draw(files(lvis).filter(lambda content: content["annotations"]))
    place = data.draw(st.integers(0, len(content["annotations"]) - 1))
    field = data.draw(st.sampled_from(list(BAD)))
    content["annotations"][place][field] = data.draw(st.sampled_from(BAD[field]))
    path = str(tmp_path_factory.mktemp("instances") / "file.json")
    with open(path, "w") as file:
        json.dump(content, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK", block)
        with pytest.raises(DataError, match=rf"{path}.*annotations\[{place}\].{field}\b.*; \w"):
            load_instances(path, "/images/")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path, root = make_dataset(tmp_path)
    whole = reading._read

    def read(*arguments):
        with open(path, "a") as file:
            file.write(" ")
        return whole(*arguments)

    monkeypatch.setattr(reading, "_read", read)
    with pytest.raises(DataError, match="changed while it was read"):
        load_instances(str(path), str(root))
