"""What a tool writes wrongly throughout a file is said in one message, with advice that works."""

import json

import pytest

from iif_d2.annotations.reading import read_annotations, read_categories, read_labels
from iif_d2.errors import DataError

READERS = [read_annotations, read_labels]


def via() -> dict:
    """As VIA exports: categories once an image, image ids as text, polygons flat."""
    return {
        "images": [{"id": i, "width": 9, "height": 9, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": str(i), "category_id": 1, "bbox": [1, 1, 4, 4],
             "segmentation": [1, 1, 5, 1, 5, 5]} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "lid"}] * 2,
    }  # fmt: skip


def mend_categories(content):
    del content["categories"][2:]


def mend_image_ids(content):
    for annotation in content["annotations"]:
        annotation["image_id"] = int(annotation["image_id"])


def mend_masks(content):
    for annotation in content["annotations"]:
        annotation["segmentation"] = [annotation["segmentation"]]


FAULTS = {
    r"categories\[2\].id 1 is there twice \(and so for 1 more\); write each class once": mend_categories,
    r"annotations\[0\].image_id is '1', where 'images' has 1 \(and": mend_image_ids,
    r"annotations\[0\].segmentation is one flat list.*; put each polygon into a list": mend_masks,
}


@pytest.mark.parametrize("read", READERS)
def test_all_of_via_is_said_at_once_and_the_advice_works(tmp_path, read):
    path, content, left = tmp_path / "via.json", via(), list(FAULTS)
    while left:
        path.write_text(json.dumps(content))
        if read is read_labels and left == list(FAULTS)[2:]:
            break  # counting does not look at masks
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        for message in left:
            assert error.match(message)
        FAULTS[left.pop(0)](content)
    path.write_text(json.dumps(content))
    assert len(read(path).classes) == 2


def test_another_fault_is_said_beside_them(tmp_path):
    content = via()
    mend_categories(content)
    mend_image_ids(content)
    content["images"][1]["width"] = -1
    (tmp_path / "via.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"\(1\) annotations.*flat.*\(2\) images\[1\].*width -1"):
        read_annotations(tmp_path / "via.json")


def test_numbers_for_text_and_classes_too(tmp_path):
    content = via()
    for category in content["categories"][:2]:
        category["id"] = str(category["id"])
    mend_categories(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotations\[0\].category_id is 1, where.*has '1'"):
        read_labels(tmp_path / "a.json")


def test_ids_of_both_kinds_are_no_order(tmp_path):
    content = via()
    content["categories"] = [{"id": 1, "name": "a"}, {"id": "b", "name": "b"}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="some ids in 'categories' are text"):
        read_categories(tmp_path / "a.json")


def test_classes_of_one_name_are_told_apart(tmp_path, caplog):
    from iif_d2 import count_class_frequency
    from iif_d2.data import load_instances

    content = via()
    for mend in FAULTS.values():
        mend(content)
    content["categories"] = [{"id": 7, "name": "cup"}, {"id": 1, "name": "cup"}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    load_instances(str(tmp_path / "a.json"), "")
    assert "named 'cup', with ids 1, 7" in caplog.text
    frequency = count_class_frequency(tmp_path / "a.json")
    assert frequency.class_names == ("cup", "cup")
    assert frequency.labels == ["cup (class 0)", "cup (class 1)"]
