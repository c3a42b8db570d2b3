"""The sequence of dataset dicts: read like a list, by Detectron2's functions too."""

import json
import os
import pickle
import random

import numpy as np
import pytest
import torch
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.common import DatasetFromList
from detectron2.data.datasets import (
    load_coco_json,
    load_lvis_json,
    register_coco_instances,
    register_lvis_instances,
)
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2 import count_class_frequency
from iif_d2.data import (
    DatasetDicts,
    detection_dicts,
    load_instances,
    register_long_tail_instances,
    repeat_factors,
)
from iif_d2.evaluation.ground_truth import GroundTruth
from iif_d2.evaluation.lvis_evaluation import dataset_ground_truth

from ..conftest import CATEGORY_IDS, make_dataset

FACTORS = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency


@pytest.fixture
def crowded(tmp_path):
    """A COCO json whose third image has only a crowd."""
    path, root = make_dataset(tmp_path, lvis=False)
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] == 3)
    path.write_text(json.dumps(content))
    return str(path), str(root)


def test_it_reads_like_a_list(crowded):
    dicts = load_instances(*crowded)
    plain = list(dicts)
    assert type(plain[0]) is dict and dicts == plain and plain == dicts
    assert dicts != plain[:-1] and len(dicts) == 8 and plain[2] in dicts
    assert dicts[-1] == plain[-1] and dicts[np.int64(2)] == plain[2]
    assert list(dicts[2:7:2]) == plain[2:7:2] and dicts[::-1] == plain[::-1]
    assert dicts[:3] + dicts[3:] == plain and dicts[:3] + plain[3:] == plain
    assert plain[:3] + dicts[3:] == plain and isinstance(dicts[:3] + dicts, DatasetDicts)
    assert list(reversed(dicts)) == plain[::-1] and len(random.sample(dicts, 3)) == 3
    with pytest.raises(IndexError):
        dicts[8]
    with pytest.raises(TypeError):
        dicts["a"]


def test_an_item_that_is_changed_changes_no_other(crowded):
    dicts = load_instances(*crowded)
    record = dicts[0]
    record["annotations"].pop()
    record["height"] = 0
    assert dicts[0]["annotations"] and dicts[0]["height"] == 64
    with pytest.raises(TypeError):
        dicts[0] = record


def test_the_file_may_change_or_go_away_afterwards(crowded):
    dicts = load_instances(*crowded)
    plain = list(dicts)
    with open(crowded[0], "r+") as file:
        file.truncate(200)
    assert dicts == plain
    os.remove(crowded[0])
    assert dicts == plain


def test_a_copy_in_another_process_is_equal(crowded):
    dicts = load_instances(*crowded)
    assert pickle.loads(pickle.dumps(dicts[2:])) == list(dicts)[2:]
    loader = torch.utils.data.DataLoader(
        dicts, num_workers=1, multiprocessing_context="spawn", collate_fn=list
    )
    assert [batch[0] for batch in loader] == list(dicts)
    assert dicts[0] == list(dicts)[0]  # whose bytes are in shared memory by now


def test_detectron2s_functions_take_it(crowded):
    dicts = load_instances(*crowded)
    plain = list(dicts)
    kept = filter_images_with_only_crowd_annotations(dicts)
    assert kept == filter_images_with_only_crowd_annotations(plain) and len(kept) == 6
    assert torch.equal(FACTORS(dicts, 0.9), FACTORS(plain, 0.9))
    serialized = DatasetFromList(dicts, copy=False)
    assert [serialized[i] for i in range(8)] == plain
    loader = build_detection_test_loader(dicts, mapper=lambda record: record, num_workers=0)
    assert [batch[0] for batch in loader] == plain


@pytest.mark.parametrize("pickled", [False, True])
def test_labels_are_enough_for_samplers(crowded, pickled):
    dicts = load_instances(*crowded)
    plain = list(dicts)
    dicts = DatasetDicts.of(plain) if pickled else dicts
    assert torch.equal(repeat_factors(dicts, 0.9), FACTORS(plain, 0.9))
    assert torch.equal(repeat_factors(dicts[3:], 0.9), FACTORS(plain[3:], 0.9))
    assert torch.equal(repeat_factors(plain, 0.9), FACTORS(plain, 0.9))
    found = filter_images_with_only_crowd_annotations(dicts)
    assert list(dicts.take(dicts.has_objects())) == found
    for record, label in zip(plain, dicts.labels(), strict=True):
        assert label["height"], label["width"] == (record["height"], record["width"])
        for instance, other in zip(record["annotations"], label["annotations"], strict=True):
            assert other.items() <= instance.items()


def test_dicts_without_labels_are_read_whole():
    odd = [{"height": 2, "width": 3}, {"height": 3, "width": 2, "sem_seg_file_name": "a"}]
    dicts = DatasetDicts.of(odd)
    assert list(dicts.labels()) == odd == dicts and dicts.wide().tolist() == [True, False]


@pytest.mark.parametrize("filter_empty", [True, False])
def test_detection_dicts_are_detectron2s(crowded, tmp_path, filter_empty):
    register_long_tail_instances("dicts_crowded", *crowded)
    path, root = make_dataset(tmp_path / "second", num_images=5)
    register_long_tail_instances("dicts_second", str(path), str(root))
    try:
        for names in ("dicts_crowded", ["dicts_crowded", "dicts_second"]):
            ours = detection_dicts(names, filter_empty)
            assert isinstance(ours, DatasetDicts)
            assert ours == get_detection_dataset_dicts(names, filter_empty)
    finally:
        for name in ("dicts_crowded", "dicts_second"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture
def builtin(tmp_path, monkeypatch):
    """A function: put a small json in the place of one of Detectron2's data sets."""

    def put(name: str, ids: tuple[int, ...]) -> tuple[str, str]:
        path, root = make_dataset(tmp_path, lvis=name.startswith("lvis"))
        content = json.loads(path.read_text())
        ids = dict(zip(CATEGORY_IDS, ids))
        for category in content["categories"]:
            category["id"] = ids[category["id"]]
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]
        path.write_text(json.dumps(content))
        metadata = vars(MetadataCatalog.get(name))
        monkeypatch.setitem(metadata, "json_file", str(path))
        monkeypatch.setitem(metadata, "image_root", f"{root}/")
        return str(path), f"{root}/"

    return put


@pytest.mark.parametrize("name", ["lvis_v1_train", "coco_2017_val", "keypoints_coco_2017_train"])
def test_detectron2s_own_names_are_read_here(builtin, name):
    paths = builtin(name, (1, 2, 3, 4))
    ours = DatasetCatalog.get(name)
    if name.startswith("lvis"):
        theirs = load_lvis_json(*paths)
    else:
        theirs = load_coco_json(*paths, "dicts_of_coco")
        MetadataCatalog.pop("dicts_of_coco")
    assert isinstance(ours, DatasetDicts) and ours == theirs
    assert detection_dicts(name, check_consistency=False) == ours[:-1]


def test_lvis_ids_with_holes_are_left_to_detectron2(builtin):
    path, root = builtin("lvis_v1_train", CATEGORY_IDS)
    dicts = DatasetCatalog.get("lvis_v1_train")
    assert type(dicts) is list and dicts == load_lvis_json(path, root)
    frequency = count_class_frequency("lvis_v1_train")
    assert len(frequency) == 1203
    seen = {annotation["category_id"] for record in dicts for annotation in record["annotations"]}
    assert frequency.image_count.nonzero()[0].tolist() == sorted(seen) == [2, 4, 5]
    assert len(dataset_ground_truth("lvis_v1_train")) == len(dicts)


@pytest.mark.parametrize("name", ["lvis_v0.5_train_cocofied", "coco_2014_minival"])
def test_files_with_repeated_ids_or_cocos_classes_are_left_to_detectron2(name):
    assert DatasetCatalog[name].__module__.startswith("detectron2.")


@pytest.mark.parametrize("lvis", [True, False])
def test_what_a_user_registered_with_detectron2_gives_the_same(tmp_path, lvis):
    path, root = make_dataset(tmp_path, lvis=lvis)
    content = json.loads(path.read_text())
    for number, category in enumerate(content["categories"], start=1):
        category["id"] = number
    for annotation in content["annotations"]:
        annotation["category_id"] = CATEGORY_IDS.index(annotation["category_id"]) + 1
    path.write_text(json.dumps(content))
    register = register_lvis_instances if lvis else register_coco_instances
    name = "lvis_v1_dicts" if lvis else "coco_dicts"
    register(name, {}, str(path), f"{root}/")
    try:
        theirs = detection_dicts(name, check_consistency=False)
        assert theirs == load_instances(str(path), str(root))[:-1]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_the_evaluator_reads_no_file_that_a_loader_holds(crowded, monkeypatch):
    from iif_d2.annotations import reading

    os.utime(crowded[0], (1e9, 1e9))  # one written just now might be written again
    dicts = load_instances(*crowded)
    monkeypatch.setattr(reading, "_read", None)
    truth = GroundTruth(crowded[0])
    assert [truth.image_id(i) for i in range(len(truth))] == [d["image_id"] for d in dicts]
    os.utime(crowded[0], (1e9, 2e9))
    with pytest.raises(TypeError):
        GroundTruth(crowded[0])
