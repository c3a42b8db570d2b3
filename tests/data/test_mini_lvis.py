"""Mini LVIS: what its json promises, that it is the same everywhere, and that making it is safe."""

import hashlib
import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from iif_d2.data import mini_lvis
from iif_d2.data.mini_lvis import SPLITS, VERSION, draw_image, make_mini_lvis, mini_lvis_categories
from iif_d2.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every split, at full size: json content and image root."""
    root = tmp_path_factory.mktemp("datasets")
    return {split: read(*make_mini_lvis(root, split)) for split in SPLITS}


@pytest.fixture
def small(monkeypatch):
    """Splits of six images."""
    monkeypatch.setattr(mini_lvis, "_NUM_IMAGES", dict.fromkeys(SPLITS, 6))
    monkeypatch.setattr(mini_lvis, "_layout", lambda split: ((0, 1),) * 6)


def read(json_path, image_root):
    with open(json_path, encoding="utf-8") as file:
        return json.load(file), image_root


def bytes_under(folder):
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def classes_of_images(content):
    present = {image["id"]: Counter() for image in content["images"]}
    for annotation in content["annotations"]:
        present[annotation["image_id"]][annotation["category_id"]] += 1
    return present


def test_training_counts_fall_from_450_to_3_over_lvis_s_groups(made):
    content, _ = made["train"]
    categories = content["categories"]
    counts = sorted(category["image_count"] for category in categories)
    assert len(categories) == 60 and counts[0] == 3 and counts[-1] == 450
    assert Counter(c["frequency"] for c in categories) == {"r": 15, "c": 27, "f": 18}
    for category in categories:
        images = category["image_count"]
        assert category["frequency"] == ("r" if images <= 10 else "c" if images <= 100 else "f")


def test_categories_count_the_training_images_and_instances(made):
    content, _ = made["train"]
    present = classes_of_images(content)
    images = Counter(cls for classes in present.values() for cls in classes)
    instances = sum(present.values(), Counter())
    for category in content["categories"]:
        assert category["image_count"] == images[category["id"]]
        assert category["instance_count"] == instances[category["id"]]
    assert sum(instances.values()) > sum(images.values())


def test_categories_are_those_of_train_in_every_split_and_need_no_files(made):
    for split in SPLITS:
        assert made[split][0]["categories"] == mini_lvis_categories()
    assert [c["id"] for c in mini_lvis_categories()] == list(range(1, 61))
    assert len({c["name"] for c in mini_lvis_categories()}) == 60


@pytest.mark.parametrize("split", ["val", "dev"])
def test_validation_is_balanced(made, split):
    present = classes_of_images(made[split][0])
    images = Counter(cls for classes in present.values() for cls in classes)
    assert set(images.values()) == {24} and len(images) == 60


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_labelled_as_lvis_labels_them(made, split):
    content, root = made[split]
    present = classes_of_images(content)
    assert len({image["id"] for image in content["images"]}) == len(content["images"])
    assert sum(not classes for classes in present.values()) == len(content["images"]) // 100
    for image in content["images"]:
        classes = present[image["id"]]
        assert sum(classes.values()) <= 5
        assert set(image["neg_category_ids"]) == set(range(1, 61)) - set(classes)
        assert image["not_exhaustive_category_ids"] == []
        assert "/".join(image["coco_url"].split("/")[-2:]) == image["file_name"]
        assert os.path.isfile(os.path.join(root, image["file_name"]))


def test_masks_boxes_and_areas_are_those_of_the_visible_pixels(made):
    content, root = made["val"]
    covered = {}
    for number, annotation in enumerate(content["annotations"], start=1):
        assert annotation["id"] == number
        mask = mask_utils.decode(annotation["segmentation"]).astype(bool)
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        box = [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert annotation["bbox"] == box and annotation["area"] == mask.sum() >= 12
        shown = covered.setdefault(annotation["image_id"], np.zeros_like(mask))
        assert not (shown & mask).any()
        shown |= mask


def test_an_image_file_holds_the_pixels_that_were_drawn(made):
    content, root = made["val"]
    with Image.open(os.path.join(root, content["images"][7]["file_name"])) as image:
        assert image.mode == "RGB" and image.size == (128, 128)
        np.testing.assert_array_equal(np.array(image), draw_image("val", 7)[0])


def test_some_objects_are_partly_hidden_and_none_almost_wholly():
    hidden = 0
    for index in range(100):
        _, objects = draw_image("val", index)
        assert all(mask.sum() >= 30 for _, mask in objects)
        boxes = [mask_utils.toBbox(mask_utils.encode(np.asfortranarray(m))) for _, m in objects]
        hidden += bool(boxes and np.triu(mask_utils.iou(boxes, boxes, [0] * len(boxes)), 1).any())
    assert 10 < hidden < 90


def test_drawing_again_gives_the_same_bytes(made, tmp_path):
    _, first = made["val"]
    _, again = make_mini_lvis(tmp_path, "val")
    again = bytes_under(again)
    assert len(again) == 481
    assert again == {k: v for k, v in bytes_under(first).items() if k.startswith("val")}


def test_pixels_and_labels_are_the_published_ones():
    # Of VERSION 4. Another hash means another data set: raise VERSION, or results stop comparing.
    digest = hashlib.sha256()
    for split in SPLITS:
        for index in range(40):
            pixels, objects = draw_image(split, index)
            digest.update(pixels.tobytes())
            for cls, mask in objects:
                digest.update(bytes([cls]) + mask.tobytes())
    assert (VERSION, digest.hexdigest()[:16]) == ("4", "dfbf2b9f8fcc04b4")


def test_splits_share_no_image(made):
    seen = Counter()
    for split in SPLITS:
        files = bytes_under(os.path.join(made[split][1], split))
        seen.update(hashlib.sha256(content).digest() for content in files.values())
    assert max(seen.values()) == 1


def test_a_finished_split_is_not_touched(tmp_path, small, monkeypatch):
    json_path, root = make_mini_lvis(tmp_path, "val")
    before = bytes_under(tmp_path)
    monkeypatch.setattr(mini_lvis, "_write", lambda *_: pytest.fail("drew again"))
    assert make_mini_lvis(str(tmp_path), "val") == (json_path, root)
    assert bytes_under(tmp_path) == before


def test_the_root_is_made_and_nothing_else_stays_in_it(tmp_path, small):
    root = tmp_path / "a" / "b"
    make_mini_lvis(root, "dev")
    assert os.listdir(root) == ["mini_lvis"]
    assert sorted(os.listdir(root / "mini_lvis")) == ["dev", "dev.json"]


@pytest.mark.parametrize("theirs", ["val.json", "val/000001.png", "val/mine.txt"])
def test_files_of_another_version_or_of_the_user_stay_as_they_are(tmp_path, small, theirs):
    path = tmp_path / "mini_lvis" / theirs
    path.parent.mkdir(parents=True)
    path.write_text('{"info": {"version": "0"}}')
    _, root = make_mini_lvis(tmp_path, "val")
    assert root == str(tmp_path / f"mini_lvis-{VERSION}")
    assert bytes_under(tmp_path / "mini_lvis") == {theirs: b'{"info": {"version": "0"}}'}
    assert make_mini_lvis(tmp_path, "val")[1] == root


def test_a_file_in_place_of_the_folder_stays(tmp_path, small):
    (tmp_path / "mini_lvis").write_text("mine")
    assert make_mini_lvis(tmp_path, "val")[1].endswith(f"mini_lvis-{VERSION}")


def test_a_process_that_died_between_its_two_moves_is_made_good(tmp_path, small):
    json_path, root = make_mini_lvis(tmp_path, "val")
    whole = bytes_under(root)
    os.remove(json_path)
    assert make_mini_lvis(tmp_path, "val") == (json_path, root)
    assert bytes_under(root) == whole


def test_a_split_with_a_missing_image_is_not_used(tmp_path, small):
    _, root = make_mini_lvis(tmp_path, "val")
    os.remove(os.path.join(root, "val", "000003.png"))
    assert make_mini_lvis(tmp_path, "val")[1] == f"{root}-{VERSION}"


def test_both_folders_taken_is_an_error_that_names_them(tmp_path, small):
    for name in ("mini_lvis", f"mini_lvis-{VERSION}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "val.json").write_text("[]")
    with pytest.raises(DataError, match=rf"mini_lvis and .*mini_lvis-{VERSION} hold other"):
        make_mini_lvis(tmp_path, "val")


def test_a_root_that_cannot_be_written_names_the_path_and_the_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/datasets: .*\$DETECTRON2_DATASETS"):
        make_mini_lvis(tmp_path / "file" / "datasets", "val")


def test_an_unknown_split_is_named(tmp_path):
    with pytest.raises(DataError, match="'test'; it has train, val, dev"):
        make_mini_lvis(tmp_path, "test")
    assert not os.listdir(tmp_path)


def test_processes_that_finish_at_once_agree_on_one_data_set(tmp_path, small, monkeypatch):
    # Threads stand for processes: what they share is the file system.
    write, all_drawn = mini_lvis._write, threading.Barrier(3)
    monkeypatch.setattr(mini_lvis, "_write", lambda *a: (write(*a), all_drawn.wait(60)))
    with ThreadPoolExecutor(3) as pool:
        results = set(pool.map(make_mini_lvis, [tmp_path] * 3, ["val"] * 3))
    assert results == {(str(tmp_path / "mini_lvis/val.json"), str(tmp_path / "mini_lvis"))}
    assert os.listdir(tmp_path) == ["mini_lvis"]
    assert len(os.listdir(tmp_path / "mini_lvis" / "val")) == 6
