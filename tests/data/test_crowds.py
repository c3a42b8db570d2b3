"""Crowds are not learnt from: a class that has nothing else counts as never seen, everywhere."""

import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2 import count_class_frequency, register_long_tail_instances
from iif_d2.data import config_frequency, detection_dicts, load_instances, repeat_factors
from iif_d2.errors import DataError

from ..conftest import make_dataset


@pytest.fixture
def crowded(tmp_path):
    """A function: the registered name of a set whose objects of these categories are crowds."""

    def make(*category_ids: int, and_first: bool = False) -> str:
        path, root = make_dataset(tmp_path, lvis=False)
        content = json.loads(path.read_text())
        for place, annotation in enumerate(content["annotations"]):
            chosen = annotation["category_id"] in category_ids or (and_first and place == 0)
            annotation["iscrowd"] = int(chosen)
        path.write_text(json.dumps(content))
        register_long_tail_instances("crowded", str(path), str(root))
        return "crowded"

    yield make
    DatasetCatalog.pop("crowded")
    MetadataCatalog.pop("crowded")


def test_a_class_of_crowds_alone_counts_as_never_seen(crowded, caplog):
    name = crowded(5)
    plain = count_class_frequency(list(detection_dicts(name)))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        counted = count_class_frequency(name)
        dicts = DatasetCatalog.get(name)
    assert [counted.image_count[1], counted.instance_count[1]] == [0, 0]
    assert (counted.image_count[[0, 2]] > 0).all()
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2 and all("objects of class 'disc' (id 5) are crowds" in s for s in said)
    assert "iscrowd to 0" in said[0]
    by_dicts = count_class_frequency(dicts, class_names=counted.class_names)
    assert by_dicts.same_counts(counted)
    assert plain.image_count.tolist() == counted.image_count[: len(plain)].tolist()
    counts = [item["image_count"] for item in MetadataCatalog.get(name).class_image_count]
    assert counts == counted.image_count.tolist()


def test_crowds_beside_single_objects_count_as_in_coco(crowded, caplog):
    sound = crowded(and_first=True)
    with caplog.at_level(logging.WARNING):
        counted = count_class_frequency(sound)
    objects = [a for record in DatasetCatalog.get(sound) for a in record["annotations"]]
    assert counted.instance_count.sum() == len(objects)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_class_of_crowds_alone_repeats_no_image(crowded):
    name = crowded(6)
    dicts = detection_dicts(name)
    whole = list(dicts)
    without = [{**r, "annotations": [a for a in r["annotations"] if a["category_id"] != 2]}
               for r in whole]  # fmt: skip
    theirs = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    expected = theirs(without, 0.5)
    assert not torch.equal(expected, theirs(whole, 0.5))  # Detectron2's own repeats for nothing
    assert torch.equal(repeat_factors(dicts, 0.5), expected)
    assert torch.equal(repeat_factors(whole, 0.5), expected)


def test_crowds_alone_are_nothing_to_train_on(crowded, tiny_cfg):
    name = crowded(3, 5, 6)
    with pytest.raises(DataError, match="no image.*to learn from; .*iscrowd"):
        detection_dicts(name)
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "DATASETS.TRAIN", f"('{name}',)")
    with pytest.raises(DataError, match="no class has a single.*iscrowd"):
        config_frequency(cfg).resolve()


def test_dicts_keep_their_crowds(crowded):
    """As Detectron2's do, whose mapper leaves them out."""
    path = MetadataCatalog.get(crowded(5)).json_file
    flags = {
        a["category_id"]: a["iscrowd"] for r in load_instances(path, "") for a in r["annotations"]
    }
    assert flags[1] == 1 and flags[0] == 0
