"""`iif-d2 train --train ... --val ... --images ...`: data without a Python module."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iif_d2.commands import main
from iif_d2.commands.own_data import NAMES, OwnData
from iif_d2.config import load_config
from iif_d2.evaluation.results import load_results

from ..conftest import TINY, make_dataset

CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
# The size of the model; data sets and classes come from the command line.
OWN = ("MODEL.ROI_HEADS.NUM_CLASSES", "INPUT.MASK_FORMAT", "DATASETS.TRAIN", "DATASETS.TEST")
SMALL = [word for pair in zip(TINY[::2], TINY[1::2]) if pair[0] not in OWN for word in pair]


@pytest.fixture
def own(tmp_path):
    yield make_dataset(tmp_path / "images")[0]
    forget()


def forget():
    """As a new process begins."""
    for name in NAMES.values():
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_it_trains_evaluates_and_goes_on_from_there(own, tmp_path, capsys):
    data = ["--val", str(own), "--images", str(tmp_path / "images")]
    trained, tested = tmp_path / "trained", tmp_path / "tested"
    words = ["--config-file", CONFIG, "--output", str(trained), *data, "--train", str(own)]
    assert main(["train", *words, *SMALL, "SOLVER.MAX_ITER", "1"]) == 0
    first = load_results(trained / "inference" / "results.json")
    assert list(first) == [NAMES["val"]] and {"bbox", "segm"} == set(first[NAMES["val"]])
    words = ["--config-file", str(trained / "config.yaml"), "--output", str(tested), *data]
    weights = ["MODEL.WEIGHTS", str(trained / "model_final.pth")]
    assert main(["eval", *words, *weights]) == 0
    assert load_results(tested / "inference" / "results.json") == first
    forget()  # the run's folder says what it was made with
    config = ["--config-file", str(trained / "config.yaml")]
    assert main(["eval", *config, "--output", str(tested), *weights]) == 0
    assert load_results(tested / "inference" / "results.json") == first
    forget()
    assert main(["report", str(trained), "--output", str(tmp_path / "page.html")]) == 0
    forget()
    config = [*config, *data, *weights]
    assert main(["sweep", *config, "--output", str(tmp_path / "sweep"), "--variants", "raw"]) == 0
    assert (tmp_path / "sweep" / "sweep.csv").is_file()
    forget()
    heads = ["--methods", "Softmax", "--iterations", "1", "--output", str(tmp_path / "heads")]
    assert main(["retrain-head", *heads, *config, "--train", str(own)]) == 0
    assert (tmp_path / "heads" / "results.csv").is_file()
    forget()  # as does its folder
    config = ["--config-file", str(tmp_path / "heads" / "config.yaml")]
    assert main(["eval", *config, "--output", str(tmp_path / "heads_tested")]) == 0
    (tmp_path / "other.json").write_text(own.read_text())
    other = ["--train", str(tmp_path / "other.json"), "--images", str(tmp_path / "images")]
    forget()
    assert main(["train", *other, "--config-file", CONFIG, "--output", str(trained), *SMALL]) == 2
    assert "the run in this folder has other data" in capsys.readouterr().err


def test_boxes_alone_train_no_masks(own, tmp_path):
    content = json.loads(own.read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    own.write_text(json.dumps(content))
    out = tmp_path / "out"
    words = ["--train", str(own), "--images", str(tmp_path / "images"), "--config-file", CONFIG]
    assert main(["train", *words, "--output", str(out), *SMALL, "SOLVER.MAX_ITER", "1"]) == 0
    assert "MASK_ON: false" in (out / "config.yaml").read_text()
    assert not (out / "inference").exists()  # nothing to evaluate on


def test_what_does_not_go_together_is_a_sentence(own, tmp_path, capsys):
    for words, message in (
        (["--val", str(own)], "--val without --train"),
        (["--images", str(tmp_path)], "--images belongs to --train or --val"),
        (["--train", str(own), "--config-file", "x.py"], "--train and --val go with a yaml config"),
        (["--train", str(tmp_path / "gone.json")], "gone.json"),
    ):
        assert main(["train", *words]) == 2
        assert message in capsys.readouterr().err


def test_methods_are_compared_on_them(own, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--config-file", CONFIG, "--methods", "Softmax", "NorCal", "--output", str(out)]
    data = ["--train", str(own), "--val", str(own), "--images", str(tmp_path / "images")]
    small = [*SMALL, "SOLVER.MAX_ITER", "1"]
    assert main(["compare", *words, *data, *small]) == 0
    assert "| NorCal |" in capsys.readouterr().out and (out / "results.csv").is_file()
    inference = out / "runs" / "norcal" / "seed0" / "inference"
    assert list(load_results(inference / "results.json")) == [NAMES["val"]]
    other = [*data[:3], str(tmp_path / "other.json"), *data[4:]]
    (tmp_path / "other.json").write_text(own.read_text())
    forget()
    assert main(["compare", *words, *other, *small]) == 2
    assert "was begun with" in capsys.readouterr().err


def test_without_a_config_there_is_a_recipe_in_epochs(own, tmp_path, capsys):
    data = OwnData({"train": (str(own), str(tmp_path / "images"))})
    config, words = data.recipe("")
    assert load_config(config, words).SOLVER.EPOCHS == 12
    assert "12 epochs" in capsys.readouterr().err
    assert data.recipe("my.yaml") == ("my.yaml", []) and OwnData({}).recipe("") == ("", [])


def test_a_file_beside_a_run_that_is_none_is_a_sentence(tmp_path, capsys):
    for text, message in (
        ("[", "is no"), ('{"train": 1}', "a run's own data"), ('{"test": ["a", null]}', "'test'"),
    ):  # fmt: skip
        (tmp_path / "own_data.json").write_text(text)
        assert main(["report", str(tmp_path)]) == 2
        assert "own_data.json" in (said := capsys.readouterr().err) and message in said
