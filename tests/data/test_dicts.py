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
from detectron2.data.datasets import register_coco_instances, register_lvis_instances
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2.data import (
    DatasetDicts,
    dataset_dicts,
    detection_dicts,
    load_instances,
    register_long_tail_instances,
    repeat_factors,
)
from iif_d2.data.dicts import PickledDicts
from iif_d2.evaluation.ground_truth import GroundTruth

from ..conftest import make_dataset

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
    assert PickledDicts(odd).labels is None
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


@pytest.mark.parametrize("lvis", [True, False])
def test_what_detectron2_registers_is_read_by_load_instances(tmp_path, lvis):
    path, root = make_dataset(tmp_path, lvis=lvis)
    content = json.loads(path.read_text())
    ids = {3: 1, 5: 2, 6: 3, 11: 4}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    path.write_text(json.dumps(content))
    register = register_lvis_instances if lvis else register_coco_instances
    name = "lvis_v1_dicts" if lvis else "coco_dicts"
    register(name, {}, str(path), f"{root}/")
    try:
        ours = dataset_dicts(name)
        assert isinstance(ours, DatasetDicts) and ours == DatasetCatalog.get(name)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_lvis_ids_with_holes_are_left_to_detectron2(tmp_path):
    path, root = make_dataset(tmp_path)
    register_lvis_instances("lvis_v1_holes", {}, str(path), f"{root}/")
    try:
        assert type(dataset_dicts("lvis_v1_holes")) is list
        assert dataset_dicts("lvis_v1_holes") == DatasetCatalog.get("lvis_v1_holes")
    finally:
        DatasetCatalog.remove("lvis_v1_holes")
        MetadataCatalog.remove("lvis_v1_holes")


def test_the_evaluator_reads_no_file_that_a_loader_holds(crowded, monkeypatch):
    from iif_d2.annotations import reading

    os.utime(crowded[0], (1e9, 1e9))  # one written just now might be written again
    dicts = load_instances(*crowded)
    monkeypatch.setattr(reading, "_quickly", None)
    truth = GroundTruth(crowded[0])
    assert [truth.image_id(i) for i in range(len(truth))] == [d["image_id"] for d in dicts]
    os.utime(crowded[0], (1e9, 2e9))
    with pytest.raises(TypeError):
        GroundTruth(crowded[0])
