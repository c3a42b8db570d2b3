"""What cannot work is refused before the first step, and the advice fits the case."""

from __future__ import annotations

import copy
import json
import os

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from iif_d2 import register_long_tail_instances
from iif_d2.annotations import reading
from iif_d2.checkpoint import load_trained_model
from iif_d2.engine import LongTailTrainer
from iif_d2.engine.checks import check_test_sets
from iif_d2.engine.parts import evaluations
from iif_d2.errors import CheckpointError, ConfigError, DataError, IIFError

KEY = "MODEL.ROI_HEADS.NUM_CLASSES"


@pytest.fixture(scope="module")
def register(dataset, tmp_path_factory):
    """A function: the small data set, spoilt, under a name."""
    content = json.loads(dataset[0].read_text())

    def register(name: str, spoil=lambda content: None) -> str:
        if name in DatasetCatalog:
            return name
        spoilt = copy.deepcopy(content)
        spoil(spoilt)
        path = tmp_path_factory.mktemp("spoilt") / f"{name}.json"
        path.write_text(json.dumps(spoilt))
        os.utime(path, (0, 0))  # not just written: it need not be looked at again
        register_long_tail_instances(name, str(path), str(dataset[1]))
        return name

    return register


def _fewer(content: dict) -> None:
    content["categories"].pop()


def _exchanged(content: dict) -> None:
    one, other = content["categories"][:2]
    one["name"], other["name"] = other["name"], one["name"]


def _bad_box(content: dict) -> None:
    content["annotations"][0]["bbox"][0] = 1e12


SPOILT = {
    "fewer": (_fewer, "has 3 classes, and training has 4: training alone has 'never'; list all"),
    "exchanged": (_exchanged, "class 0 is 'square' against 'disc'.*the same ids"),
    "bad_box": (_bad_box, r"annotations\[0\].bbox .* is not in pixels"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_test_set_that_cannot_be_scored_is_refused_before_training(register, tiny_cfg, kind):
    spoil, message = SPOILT[kind]
    name = register(f"test_{kind}", spoil)
    with pytest.raises(IIFError, match=message):
        LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", "DATASETS.TEST", f"('{name}',)"))


def test_so_is_one_that_is_not_there(tiny_cfg, tmp_path):
    register_long_tail_instances("test_gone", str(tmp_path / "gone.json"), str(tmp_path))
    if "test_listed" not in DatasetCatalog:
        DatasetCatalog.register("test_listed", lambda: [{"file_name": "a", "annotations": []}])
    for name, message in {
        "test_gone": "gone.json does not exist",
        "test_nowhere": "'test_nowhere', which is not registered",
        "test_listed": "has no json_file in its metadata",
    }.items():
        with pytest.raises(IIFError, match=message):
            LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", "DATASETS.TEST", f"('{name}',)"))


def test_so_are_places_and_keys_that_count_at_the_end_only(tiny_cfg, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inference").write_text("a file")
    with pytest.raises(DataError, match="inference/tiny_lvis cannot be written"):
        LongTailTrainer(tiny_cfg())
    (tmp_path / "out" / "inference").unlink()
    for key, value, message in (
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP']]", "an entry is"),
        ("SOLVER.CHECKPOINT_PERIOD", "0", "CHECKPOINT_PERIOD is 0; it must be 1 or more"),
        ("TEST.AUG", "{'MIN_SIZES': ()}", "MIN_SIZES is empty"),
    ):
        options = [key, value]
        if key == "TEST.AUG":
            options = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "()"]
        with pytest.raises(ConfigError, match=message):
            LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options))


def test_a_test_set_is_read_once_for_all_evaluations(register, tiny_cfg, monkeypatch):
    name = register("test_once")
    read = []
    monkeypatch.setattr(reading, "_read", _noting(read, reading._read))
    options = ["DATASETS.TEST", f"('{name}',)", "MODEL.MASK_ON", "False"]
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options))
    assert sum(name in path for path in read) == 1
    for _ in range(2):
        assert trainer._parts.evaluate(trainer.model)["bbox"]
    assert sum(name in path for path in read) == 1


def _noting(read: list, parse):
    def noting(path, *rest):
        read.append(path)
        return parse(path, *rest)

    return noting


def test_the_models_classes_are_those_of_its_checkpoint(register):
    name = register("test_fewer", _fewer)
    learned = ("square", "disc", "bar", "never")
    with pytest.raises(ConfigError, match="training has 4: training alone has 'never'"):
        check_test_sets([name], 4, KEY, (), learned)
    with pytest.raises(ConfigError, match=f"or set {KEY} to 3 if"):
        check_test_sets([name], 4, KEY, ())
    check_test_sets([name], None, KEY, ())


def test_a_model_of_another_order_of_classes_is_neither_evaluated_nor_resumed(
    register, tiny_cfg, tmp_path
):
    options = ["SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()"]
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options))
    trainer.resume_or_load(False)
    trainer.train()
    saved = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert saved["class_names"] == list(MetadataCatalog.get("tiny_lvis").thing_classes)
    name = register("test_exchanged", _exchanged)
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    with pytest.raises(CheckpointError, match="class 0 is 'square' against 'disc'"):
        load_trained_model(
            tiny_cfg("mask_rcnn_R_18_FPN_iif", *weights, "DATASETS.TEST", f"('{name}',)")
        )
    both = ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]
    resumed = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *both))
    with pytest.raises(CheckpointError, match="class 0 is 'square' against 'disc'"):
        resumed.resume_or_load(resume=True)


def test_augmentation_is_done_at_the_end_and_reported(tiny_cfg, tmp_path):
    options = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64, 96)", "SOLVER.MAX_ITER", "1"]
    options += ["MODEL_EMA.ENABLED", "True"]
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options))
    trainer.resume_or_load(False)
    results = trainer.train()
    assert results.keys() == {"bbox", "segm", "bbox_TTA", "segm_TTA"}
    table = tmp_path / "out" / "inference" / "results.json"
    trained = table.read_text()
    assert json.loads(trained)["tiny_lvis"].keys() == results.keys()
    # What is saved, evaluated by itself, the average included.
    table.unlink()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, *weights)
    model = load_trained_model(cfg)
    evaluations(cfg, model)[1](model)
    assert table.read_text() == trained
    threshold = ["MODEL.ROI_MASK_HEAD.THRESH_TEST", "0.4"]
    with pytest.raises(ConfigError, match="pastes its masks itself, at 0.5; set the key to 0.5"):
        LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, *threshold))
