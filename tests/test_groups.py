"""Which classes are rare: decided once, and the same in every table, plot, colour and checkpoint."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import inference_on_dataset

from iif_d2 import ClassFrequency, count_class_frequency, register_long_tail_instances
from iif_d2.checkpoint import LongTailCheckpointer, load_trained_model, trained_frequency
from iif_d2.commands import demo, main, sweep
from iif_d2.config import load_config
from iif_d2.data import LongTailDatasetMapper, config_frequency
from iif_d2.engine.hooks import ClassifierStats
from iif_d2.errors import ConfigError, DataError
from iif_d2.evaluation import LongTailEvaluator
from iif_d2.evaluation.metrics import class_groups
from iif_d2.methods import build_method
from iif_d2.report.runs import Run

from .conftest import CLASS_NAMES, TINY, finding_model, make_dataset

STATED = "fccr"  # of four classes with at most eight images
DATA = ["MODEL.LONG_TAIL.GROUP_LIMITS", "(2, 5)"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Names of one data set: its categories state their `frequency`, and they do not."""
    names = []
    for stated in (True, False):
        root = tmp_path_factory.mktemp("groups")
        path, images = make_dataset(root)
        content = json.loads(path.read_text())
        for category, letter in zip(content["categories"], STATED):
            category |= {"frequency": letter} if stated else {}
        path.write_text(json.dumps(content))
        names.append(f"groups_{'stated' if stated else 'by_limits'}")
        register_long_tail_instances(names[-1], str(path), str(images))
    return names


def of(name):
    return ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]


def groups_of_everything(cfg, folder) -> dict[str, str]:
    """What each table, plot and colour takes for a class's group, a letter a class."""
    (name,) = cfg.DATASETS.TRAIN
    model = load_trained_model(cfg)
    found = {"config": config_frequency(cfg).resolve().groups()}
    evaluator = LongTailEvaluator(name, str(folder), frequency=config_frequency(cfg).resolve())
    loader = build_detection_test_loader(cfg, name, mapper=LongTailDatasetMapper(cfg, False))
    inference_on_dataset(model, loader, evaluator)
    with open(folder / "per_class_ap_bbox.csv", newline="") as file:
        found["evaluation"] = [row["group"] for row in csv.DictReader(file)]
    hook = ClassifierStats(config_frequency(cfg).resolve, 1)
    hook.before_train()
    found["classifier"] = ["rcf"[place] for place in hook._members.int().argmax(dim=0)]
    found["demo"] = demo._classes(cfg, model)[1]
    found["sweep"] = sweep._frequency(cfg, model).groups()
    run = Run(str(folder))
    found["report"] = run.frequency(CLASS_NAMES).groups()
    return {what: "".join(letters) for what, letters in found.items()}


@pytest.mark.parametrize("stated, expected", [(True, STATED), (False, None)])
def test_one_definition_everywhere(sets, stated, expected, tmp_path, capsys):
    name = sets[0 if stated else 1]
    base = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_softmax.yaml"
    options = [*TINY, *of(name), *DATA, "OUTPUT_DIR", str(tmp_path), "MODEL.MASK_ON", "False"]
    cfg = load_config(base, [*options, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth")])
    LongTailCheckpointer(finding_model(cfg), str(tmp_path)).save("model_final")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    found = groups_of_everything(cfg, tmp_path)
    counts = count_class_frequency(name).image_count
    limits = np.select([counts <= 2, counts <= 5], ["r", "c"], "f")
    expected = expected or "".join(limits)
    assert set(found.values()) == {expected} and len(set(expected)) > 1, found
    line = ["frequency", name, "--csv", str(tmp_path / "counts.csv"), "--group-limits", "2", "5"]
    assert main([*line, "--output", str(tmp_path / "counts.json")]) == 0
    with open(tmp_path / "counts.csv", newline="") as file:
        by_class = {row["class"]: row["group"] for row in csv.DictReader(file)}
    assert "".join(by_class[c] for c in CLASS_NAMES) == expected
    assert "".join(ClassFrequency.load(tmp_path / "counts.json").groups()) == expected


def test_groups_are_saved_with_the_counts_and_old_files_load(tmp_path, frequency):
    stated = ClassFrequency(frequency.class_names, frequency.image_count, None, 100, "ffccr")
    assert stated.groups().tolist() == list("ffccr") == stated.groups(0, 1).tolist()
    stated.save(tmp_path / "counts.json")
    content = json.loads((tmp_path / "counts.json").read_text())
    assert content["groups"] == "ffccr"
    assert ClassFrequency.load(tmp_path / "counts.json").groups().tolist() == list("ffccr")
    del content["groups"]
    (tmp_path / "counts.json").write_text(json.dumps(content))
    assert ClassFrequency.load(tmp_path / "counts.json").class_groups is None
    both = ClassFrequency.sum([stated, stated])
    assert both.class_groups.tolist() == list("ffccr")
    assert ClassFrequency.sum([stated, frequency]).class_groups is None
    with pytest.raises(DataError, match="groups must be 5 letters"):
        ClassFrequency(frequency.class_names, frequency.image_count, None, 100, "ffcc")


@pytest.mark.parametrize("stated", [True, False])
def test_an_old_file_of_counts_has_the_groups_that_the_training_json_states(sets, stated, tmp_path):
    """An older version saved none; where the json has none either, the limits decide."""
    name, counts = sets[0 if stated else 1], tmp_path / "counts.json"
    line = ["MODEL.LONG_TAIL.FREQUENCY", str(counts), "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config("", [*of(name), *DATA, *line, "MODEL.ROI_HEADS.NUM_CLASSES", "4"])
    count_class_frequency(name).save(counts)
    content = json.loads(counts.read_text())
    content.pop("groups", None)
    counts.write_text(json.dumps(content))
    limits = count_class_frequency(sets[1]).groups(2, 5)
    expected = STATED if stated else "".join(limits)
    assert "".join(config_frequency(cfg).resolve().groups()) == expected != STATED * (not stated)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_carries_the_groups(frequency, dtype):
    """Those of another method are taken; version 0.1.0 has none, and none are missed."""
    stated = frequency.grouped(1, 40)
    state = build_method("IIF", stated).to(dtype).state_dict()
    assert state["class_groups"].dtype == torch.uint8
    other = build_method("IIF", frequency)
    assert not other.load_state_dict(state).missing_keys
    assert other.loaded_frequency.groups().tolist() == stated.groups().tolist()
    del state["class_groups"]
    old = build_method("IIF", stated)
    assert not old.load_state_dict(state).missing_keys
    assert old.loaded_frequency.class_groups is None


def test_evaluation_goes_by_the_groups_of_the_checkpoint(sets, tmp_path, caplog):
    """And by the config's, where an older one has none."""
    base = "configs/Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml"
    weights = ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    cfg = load_config(base, [*TINY, *of(sets[1]), *weights, *DATA])
    model = finding_model(cfg)
    wanted = trained_frequency(cfg, model).groups().tolist()
    LongTailCheckpointer(model, str(tmp_path)).save("model")
    other = load_config(base, [*TINY, *of(sets[1]), *weights])
    with caplog.at_level(logging.WARNING):
        loaded = load_trained_model(other)
    assert trained_frequency(other, loaded).groups().tolist() == wanted != list("rrrr")
    assert "groups of classes differ" in caplog.text
    assert "4 rare, 0 common, 0 frequent. The checkpoint's are used" in caplog.text
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    old = [key for key in content["model"] if key.endswith("class_groups")]
    assert old and content["model"].pop(old[0]) is not None
    torch.save(content, tmp_path / "model.pth")
    loaded = load_trained_model(cfg)
    assert trained_frequency(cfg, loaded).groups().tolist() == wanted


def test_a_nearly_empty_group_and_unused_limits_are_said(sets, monkeypatch, caplog):
    monkeypatch.setattr("iif_d2.data.frequency._said", set())  # each is said once a process
    with caplog.at_level(logging.WARNING):
        config_frequency(
            load_config("", [*of(sets[1]), "MODEL.ROI_HEADS.NUM_CLASSES", "4"])
        ).resolve()
        config_frequency(load_config("", [*of(sets[0]), *DATA])).resolve()
    assert (
        "of 4 classes 4 rare, 0 common, 0 frequent: numbers of the group common and" in caplog.text
    )
    assert "set MODEL.LONG_TAIL.GROUP_LIMITS, now (10, 100), to fit this set" in caplog.text
    assert "GROUP_LIMITS (2, 5) is not used" in caplog.text


@pytest.mark.parametrize("limits", ["(5, 2)", "(-1, 5)", "(1,)", "(1.5, 2)", "(True, 2)"])
def test_limits_that_cannot_be_are_refused(limits, sets):
    with pytest.raises(ConfigError, match="GROUP_LIMITS is .*; give two whole numbers"):
        config_frequency(load_config("", [*of(sets[1]), "MODEL.LONG_TAIL.GROUP_LIMITS", limits]))


def test_other_groups_in_the_test_set_are_said(sets, caplog):
    frequency = ClassFrequency(CLASS_NAMES, [8, 5, 2, 0], None, 8, "ffrr")
    evaluator = LongTailEvaluator(sets[0], frequency=frequency)
    with caplog.at_level(logging.WARNING):
        groups = class_groups(evaluator._truth, frequency)
    assert "".join(groups) == STATED
    assert (
        "other groups than training has for 2 of 4 classes (first: 'disc', 'c' against 'f')"
        in caplog.text
    )
