"""Splits: every class in both halves where that can be, groups whole, the same by the same seed."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iif_d2 import count_class_frequency
from iif_d2.data.duplicates import near_duplicates, same_bytes
from iif_d2.data.splitting import split_annotations
from iif_d2.data.stratify import Labels, stratify
from iif_d2.errors import ConfigError, DataError

from ..conftest import make_dataset
from .sets_in_formats import write_yolo


def labels_of(table: np.ndarray, weights=None) -> Labels:
    """Of bool (U, C), which units have which labels."""
    units, labels = np.nonzero(table)
    weights = np.ones(len(table), dtype=int) if weights is None else weights
    return Labels(units, labels, np.ones(len(units), dtype=int), weights, table.shape[1])


def long_tail(rng, units: int, classes: int) -> np.ndarray:
    return rng.random((units, classes)) < np.minimum(0.6, 1.5 / np.arange(1, classes + 1))


def covered(table: np.ndarray, parts: np.ndarray, count: int) -> np.ndarray:
    """bool (parts, C): whether the part has the label."""
    return np.stack([table[parts == part].any(0) for part in range(count)])


@pytest.mark.parametrize("seed", range(5))
def test_every_label_of_two_units_is_in_both_halves(seed):
    table = long_tail(np.random.default_rng(seed), 300, 60)
    parts = stratify(labels_of(table), [0.8, 0.2], seed, first=True)
    often = table.sum(0) >= 2
    assert covered(table, parts, 2)[:, often].all()
    assert abs((parts == 1).sum() - 60) <= 6
    shares = table[parts == 1].sum(0)[:5] / table.sum(0)[:5]
    assert np.abs(shares - 0.2).max() < 0.05  # the head is stratified
    assert (stratify(labels_of(table), [0.8, 0.2], seed, first=True) == parts).all()


def test_every_label_is_in_as_many_folds_as_it_has_units():
    table = long_tail(np.random.default_rng(0), 200, 60)
    parts = stratify(labels_of(table), [0.2] * 5, 0, first=False)
    folds = covered(table, parts, 5).sum(0)
    assert (folds == np.minimum(table.sum(0), 5)).all()
    assert set(np.bincount(parts)) <= {39, 40, 41}


def test_a_label_of_one_unit_is_for_training():
    table = np.eye(10, dtype=bool)
    table[:, 0] = True
    parts = stratify(labels_of(table), [0.5, 0.5], 0, first=True)
    assert covered(table, parts, 2)[0].all()


def test_three_labels_that_exclude_each_other_leave_one_out_of_val():
    """Of the images {A, B}, {B, C} and {A, C}, two are in one half."""
    table = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=bool)
    parts = stratify(labels_of(table), [0.5, 0.5], 0, first=True)
    assert covered(table, parts, 2).sum(1).tolist() == [3, 2]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(4, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_no_label_is_left_out_that_need_not_be(units, classes, seed):
    """Against all splits of a few units."""
    table = np.random.default_rng(seed).random((units, classes)) < 0.35
    often = table.sum(0) >= 2

    def missing(parts) -> int:
        return int((~covered(table, np.asarray(parts), 2)[:, often]).sum())

    least = min(map(missing, itertools.product((0, 1), repeat=units)))
    assert missing(stratify(labels_of(table), [0.7, 0.3], seed, first=False)) == least


def test_weights_are_what_is_shared_out():
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 40, 80)
    table = long_tail(rng, 80, 20)
    parts = stratify(labels_of(table, weights), [0.8, 0.2], 0, first=True)
    assert weights[parts == 1].sum() / weights.sum() == pytest.approx(0.2, abs=0.05)
    assert covered(table, parts, 2)[:, table.sum(0) >= 2].all()


def read(path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def source(tmp_path):
    path, root = make_dataset(tmp_path / "data", num_images=30)
    content = read(path)
    for image in content["images"]:
        image["video_id"] = image["id"] // 3
    for category in content["categories"]:
        category.update(image_count=999, instance_count=999, synset="s")
    content["info"] = {"year": 2030}
    path.write_text(json.dumps(content))
    return path


def test_the_halves_are_whole_and_say_what_they_have(source, tmp_path):
    said = split_annotations(str(source), str(tmp_path / "out"), seed=3)
    whole, halves = read(source), [read(tmp_path / "out" / f"{h}.json") for h in ("train", "val")]
    for key in ("images", "annotations"):
        together = [record for half in halves for record in half[key]]
        assert sorted(together, key=lambda r: r["id"]) == whole[key]
    train, val = (count_class_frequency(str(tmp_path / f"out/{h}.json")) for h in ("train", "val"))
    both = count_class_frequency(str(source)).image_count >= 2
    assert (train.image_count[both] > 0).all() and (val.image_count[both] > 0).all()
    assert f"| all   | 4       | {(train.image_count > 0).sum()} " in said.replace(
        "all      ", "all   "
    )
    assert f"{tmp_path}/out/val.json" in said
    # As LVIS has it, both state the counts of training.
    for half in halves:
        assert half["info"] == {"year": 2030} and half["categories"][0]["synset"] == "s"
        assert [c["image_count"] for c in half["categories"]] == train.image_count.tolist()


def test_the_same_seed_gives_the_same_split(source, tmp_path):
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        split_annotations(str(source), str(tmp_path / name), seed=seed)
    val = [(tmp_path / name / "val.json").read_bytes() for name in "abc"]
    assert val[0] == val[1] != val[2]


def test_folds_hold_each_image_out_once(source, tmp_path):
    said = split_annotations(str(source), str(tmp_path), folds=3)
    halves = [[{i["id"] for i in read(tmp_path / f"fold_{n}_{h}.json")["images"]}
               for h in ("train", "val")] for n in range(3)]  # fmt: skip
    everything = {image["id"] for image in read(source)["images"]}
    assert set.union(*(val for _, val in halves)) == everything
    assert sum(len(val) for _, val in halves) == len(everything)
    assert all(train == everything - val for train, val in halves)
    assert "fold_0_train.json to " in said


def test_groups_stay_together(source, tmp_path):
    split_annotations(str(source), str(tmp_path), val=0.3, group="video_id")
    videos = [
        {i["video_id"] for i in read(tmp_path / f"{h}.json")["images"]} for h in ("train", "val")
    ]
    assert videos[0] and videos[1] and not videos[0] & videos[1]


def test_a_class_within_one_group_is_said(source, tmp_path):
    content = read(source)
    for image in content["images"]:
        image["video_id"] = 0 if image["id"] < 29 else image["id"]
    source.write_text(json.dumps(content))
    said = split_annotations(str(source), str(tmp_path / "out"), group="video_id")
    assert "not in every part: " in said and "in one group" in said


def test_near_duplicates_stay_together(source, tmp_path):
    root = source.parent
    pictures = sorted((root / "train2017").glob("*.png"))
    rng = np.random.default_rng(1)
    for number, picture in enumerate(pictures):  # 15 pairs, the second of each saved again
        if number % 2 == 0:
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        image.point(lambda value: min(value + 3, 255)).save(picture)
    groups = near_duplicates([str(picture) for picture in pictures])
    assert groups.tolist() == [2 * (number // 2) for number in range(30)]
    with pytest.raises(ConfigError, match="--images"):
        split_annotations(str(source), str(tmp_path / "out"), group="near-duplicates")
    said = split_annotations(
        str(source), str(tmp_path / "out"), group="near-duplicates", image_root=str(root)
    )
    assert "30 images in 15 groups" in said
    for half in ("train", "val"):
        ids = {image["id"] for image in read(tmp_path / "out" / f"{half}.json")["images"]}
        assert all((number % 2 and number + 1 or number - 1) in ids for number in ids)


def test_plain_pictures_are_no_near_duplicates(tmp_path):
    for number in range(3):
        Image.new("RGB", (30, 30), (90 * number, 0, 0)).save(tmp_path / f"{number}.png")
    assert near_duplicates([str(tmp_path / f"{n}.png") for n in range(3)]).tolist() == [0, 1, 2]


def test_equal_files_are_found(tmp_path):
    for name, content in {"a": b"12", "b": b"21", "c": b"12", "d": b"123"}.items():
        (tmp_path / name).write_bytes(content)
    assert same_bytes([str(tmp_path / name) for name in "abcde"]) == [[0, 2]]


def test_other_formats_are_split_too(tmp_path):
    split_annotations(str(write_yolo(tmp_path / "set")), str(tmp_path / "out"), val=0.5)
    halves = [count_class_frequency(str(tmp_path / f"out/{h}.json")) for h in ("train", "val")]
    assert sum(half.num_images for half in halves) == 4
    assert [half.image_count[0] for half in halves] == [1, 1]


@pytest.mark.parametrize(
    "options, error, said",
    [
        ({"val": 0}, ConfigError, "--val is 0; "),
        ({"val": 20}, ConfigError, "--val is 20; "),
        ({"folds": 1}, ConfigError, "--folds is 1; "),
        ({"folds": 31}, ConfigError, "for 31 parts; "),
        ({"group": "vido"}, DataError, "None as 'vido'; .*video_id"),
        ({"group": "neg_category_ids"}, DataError, "give each image a number or a text"),
        ({"group_limits": (5, 1)}, ConfigError, "--group-limits"),
    ],
)
def test_what_cannot_be_split_is_refused(source, tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        split_annotations(str(source), str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_the_source_is_not_written_over(source):
    moved = source.rename(source.with_name("train.json"))
    with pytest.raises(DataError, match="is what is read"):
        split_annotations(str(moved), str(moved.parent))
