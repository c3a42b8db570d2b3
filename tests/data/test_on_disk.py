"""iif-d2 data check of a registered data set: what is there or missing, and whether it is right."""

import json
import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iif_d2 import ClassFrequency, count_class_frequency, register_long_tail_instances
from iif_d2.commands import main
from iif_d2.data import on_disk

from ..conftest import CLASS_NAMES, make_dataset


@pytest.fixture
def split(tmp_path):
    """A data set of its own: name, json and image root."""
    path, root = make_dataset(tmp_path / "data")
    register_long_tail_instances("checked_train", str(path), str(root))
    yield "checked_train", path, root
    DatasetCatalog.pop("checked_train")
    MetadataCatalog.pop("checked_train")


def test_lvis_that_is_not_there_says_what_belongs_where(monkeypatch, tmp_path, capsys):
    for name in ("lvis_v1_train", "lvis_v1_val"):
        monkeypatch.setitem(
            MetadataCatalog.get(name).__dict__, "json_file", str(tmp_path / "lvis" / f"{name}.json")
        )
    assert main(["data", "check", "lvis_v1_train", "lvis_v1_val"]) == 1
    said = capsys.readouterr().out
    assert f"MISSING: {tmp_path}/lvis/lvis_v1_train.json belongs there" in said
    assert "train2017 and val2017 (LVIS v1 val mixes both)" in said
    assert "100,170 images" in said and "sum 360,952, 1,270,141 instances" in said
    assert "337/461/405 rare/common/frequent" in said
    assert "| 1-10 | 337 |" in said and "| 11-100 | 461 |" in said


def test_a_complete_data_set_passes(split, capsys):
    assert main(["data", "check", split[0]]) == 0
    said = capsys.readouterr().out
    assert "train2017: 8 of 8 are there" in said and "4, in Detectron2's order" in said
    assert count_class_frequency(str(split[1])).describe() in said
    assert "| 0 | 1 |" in said  # the class without an image


def test_a_missing_picture_is_counted(split, capsys):
    (split[2] / "train2017" / f"{3:012d}.png").unlink()
    assert main(["check-data", split[0]]) == 1  # as it was called in 0.1.0
    assert "7 of 8 are there; MISSING: 000000000003.png" in capsys.readouterr().out


def test_val_lists_each_folder_that_its_images_come_from(split, tmp_path, capsys):
    content = json.loads(split[1].read_text())
    url = content["images"][0]["coco_url"]
    content["images"][0]["coco_url"] = url.replace("train2017", "val2017")
    split[1].write_text(json.dumps(content))
    assert main(["data", "check", split[0]]) == 1
    said = capsys.readouterr().out
    assert "val2017: 0 of 1 are there" in said and "train2017: 7 of 7 are there" in said
    (split[2] / "val2017").mkdir()
    name = url.rpartition("/")[2]
    shutil.move(split[2] / "train2017" / name, split[2] / "val2017" / name)
    assert main(["data", "check", split[0]]) == 0


def test_other_counts_and_another_class_order_are_wrong(split, monkeypatch, capsys):
    published = ClassFrequency(CLASS_NAMES, [1, 2, 3, 4], None, 9)
    monkeypatch.setattr(on_disk, "packaged_frequency", lambda name: published)
    MetadataCatalog.get(split[0]).thing_classes = list(CLASS_NAMES[::-1])
    assert main(["data", "check", split[0]]) == 1
    said = capsys.readouterr().out
    assert said.endswith("things that are missing or wrong: 2\n")
    assert f"WRONG: published are {published.describe()}" in said
    assert "WRONG: class 0 is 'square' against 'never'" in said


def test_val_states_the_counts_of_training(split, monkeypatch, capsys):
    training = ClassFrequency(CLASS_NAMES, [1, 2, 3, 4], None, 9)
    monkeypatch.setattr(on_disk, "packaged_frequency", {"checked_train": training}.get)
    content = json.loads(split[1].read_text())
    for category, count in zip(content["categories"], (1, 2, 3, 4)):
        category.update(image_count=count, instance_count=count)
    val = split[1].with_name("val.json")
    for wrong in (0, 1):
        content["categories"][0]["image_count"] = 1 + wrong
        val.write_text(json.dumps(content))
        name = f"checked_val{wrong}"
        register_long_tail_instances("checked_val", str(val), str(split[2]))
        assert main(["data", "check", "checked_val"]) == wrong, name
        DatasetCatalog.pop("checked_val")
        MetadataCatalog.pop("checked_val")
    assert "WRONG: the json states others" in capsys.readouterr().out


def test_unknown_names_are_refused(capsys):
    assert main(["data", "check", "lvis_v2_train"]) == 2
    assert "'lvis_v2_train' is neither a file nor a registered" in capsys.readouterr().err


def test_files_and_names_are_checked_apart(split, capsys):
    assert main(["data", "check", str(split[1]), split[0]]) == 2
    assert f"give {split[1]} alone" in capsys.readouterr().err
    assert main(["data", "check", split[0], "--val", str(split[1])]) == 2
    assert f"name the file of {split[0]}" in capsys.readouterr().err
