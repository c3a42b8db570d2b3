"""iif-d2 package: the folder holds the model, bit for bit, and no path of its maker's."""

import json
import os

import numpy as np
import pytest
import torch
import yaml

import iif_d2
from iif_d2.checkpoint import LongTailCheckpointer, load_trained_model, settle_frequencies
from iif_d2.commands import main
from iif_d2.config import load_config
from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.evaluation.results import save_results
from iif_d2.frequency import ClassFrequency

from ..conftest import CLASS_NAMES, finding_model

FILES = {"model.safetensors", "config.yaml", "config.json", "class_frequency.json", "README.md"}


@pytest.fixture
def checkpoint(tiny_cfg, tmp_path):
    """A function: the path of a run's last checkpoint, as the trainer saves it."""

    def make(name="mask_rcnn_R_18_FPN_iif", *overrides):
        cfg = tiny_cfg(name, *overrides)
        model = finding_model(cfg)
        settle_frequencies(model, training=True, checkpoint="")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        sum(weight.sum() for weight in model.parameters()).backward()
        optimizer.step()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(weight.grad, alpha=0.1)  # as it was
        saver = LongTailCheckpointer(model, str(tmp_path / "run"), optimizer=optimizer)
        os.makedirs(tmp_path / "run", exist_ok=True)
        saver.datasets, saver.config = cfg.DATASETS.TRAIN, cfg.dump()
        saver.class_frequency = lambda: iif_d2.count_class_frequency("tiny_lvis")
        saver.save("model_final")
        return tmp_path / "run" / "model_final.pth"

    return make


@pytest.fixture
def picture(dataset):
    return str(dataset[1] / "train2017" / "000000000002.png")


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for field in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.masks == other.masks


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("mask_rcnn_R_18_FPN_iif", ()),
        ("mask_rcnn_R_18_FPN_softmax", ()),
        ("cascade_mask_rcnn_R_18_FPN_iif", ("MODEL.LONG_TAIL.CLASSIFIER", "cosine")),
        ("mask_rcnn_R_18_FPN_softmax", ("MODEL.LONG_TAIL.METHOD", "EQLv2")),
    ],
)
def test_the_folder_is_the_model(checkpoint, picture, tmp_path, name, overrides):
    path, folder = checkpoint(name, *overrides), tmp_path / "package"
    wanted = iif_d2.load(path, device="cpu")
    assert main(["package", str(path), "--output", str(folder)]) == 0
    assert {file.name for file in folder.iterdir()} == FILES
    found = iif_d2.load(folder, device="cpu")
    states = found.model.state_dict(), wanted.model.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert value.dtype == states[1][key].dtype and torch.equal(value, states[1][key]), key
    assert_same(found(picture, 0), wanted(picture, 0))
    assert found.class_names == wanted.class_names == CLASS_NAMES
    assert (
        found.frequency == wanted.frequency == ClassFrequency.load(folder / "class_frequency.json")
    )
    assert list(found.groups) == list(wanted.groups)


def test_no_path_of_the_maker_is_in_it(checkpoint, tmp_path, capsys):
    counts = tmp_path / "counts.json"
    iif_d2.count_class_frequency("tiny_lvis").save(counts)
    path = checkpoint("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.FREQUENCY", str(counts))
    assert main(["package", str(path), "--output", str(tmp_path / "p"), "--license", "mit"]) == 0
    said = capsys.readouterr().out
    assert "the card has no results" in said and "no license" not in said
    assert "next: iif-d2 predict PICTURE --weights" in said
    for file in (tmp_path / "p").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file
    assert (tmp_path / "p" / "model.safetensors").stat().st_size < 0.6 * path.stat().st_size


def test_the_card_says_what_the_run_found(checkpoint, tmp_path):
    path, row = checkpoint(), {"AP": 12.345, "APr": 1.5, "APc": 10.0, "APf": float("nan")}
    results = path.parent / "inference" / "results.json"
    save_results(results, {"my_val": {"bbox": row}})
    assert main(["package", str(path), "--output", str(tmp_path / "fresh")]) == 0
    card = (tmp_path / "fresh" / "README.md").read_text()
    assert "| my_val | bbox | 12.3 |" in card and "APr" in card and "4 rare, 0 common" in card
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "unknown" and header["library_name"] == "iif_d2"
    assert header["pipeline_tag"] == "image-segmentation" and "iif" in header["tags"]
    os.utime(path)  # a younger checkpoint: the numbers are another's
    os.utime(results, (0, 0))
    assert main(["package", str(path), "--output", str(tmp_path / "stale")]) == 0
    assert "12.3" not in (tmp_path / "stale" / "README.md").read_text()
    line = ["package", str(path), "--output", str(tmp_path / "given"), "--results", str(results)]
    assert main(line) == 0
    assert "12.3" in (tmp_path / "given" / "README.md").read_text()


def test_half_is_half_the_size_and_finds_the_same(checkpoint, picture, tmp_path):
    path = checkpoint()
    wanted = iif_d2.load(path, device="cpu")(picture, 0.3)
    for name, option in (("whole", []), ("half", ["--half"])):
        assert main(["package", str(path), "--output", str(tmp_path / name), *option]) == 0
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("half", "whole")]
    assert sizes[0] < 0.52 * sizes[1]
    model = iif_d2.load(tmp_path / "half", device="cpu")
    found = model(picture, 0.3)
    assert next(model.model.parameters()).dtype == torch.float32
    assert list(found.classes) == list(wanted.classes)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=5e-3)
    assert model.frequency == iif_d2.load(path, device="cpu").frequency


def test_numbers_beyond_float16_stay_float32(checkpoint, tmp_path):
    path = checkpoint()
    content = torch.load(path, weights_only=True)
    key = "backbone.bottom_up.stem.conv1.norm.running_var"
    content["model"][key][0] = 1e6
    torch.save(content, path)
    assert main(["package", str(path), "--output", str(tmp_path / "half"), "--half"]) == 0
    assert iif_d2.load(tmp_path / "half").model.state_dict()[key][0] == 1e6


def test_other_commands_take_the_folder(checkpoint, picture, tmp_path, capsys):
    """Its config.yaml and its weights are a config and MODEL.WEIGHTS, with all that is checked."""
    folder = tmp_path / "p"
    assert main(["package", str(checkpoint()), "--output", str(folder)]) == 0
    weights = ["MODEL.WEIGHTS", str(folder / "model.safetensors"), "MODEL.DEVICE", "cpu"]
    model = load_trained_model(load_config(str(folder / "config.yaml"), weights))
    assert model.class_names == CLASS_NAMES
    other = [*weights, "MODEL.LONG_TAIL.METHOD", "Sigmoid"]
    with pytest.raises(CheckpointError, match="was trained with METHOD IIF"):
        load_trained_model(load_config(str(folder / "config.yaml"), other))
    line = ["fold", "--config-file", str(folder / "config.yaml")]
    assert main([*line, "--output", str(tmp_path / "f.pth"), *weights]) == 0
    assert main(["package", str(tmp_path / "f.pth"), "--output", str(tmp_path / "folded")]) == 0
    wanted = iif_d2.load(tmp_path / "f.pth", device="cpu")(picture, 0)
    assert_same(iif_d2.load(tmp_path / "folded", device="cpu")(picture, 0), wanted)
    assert main(["predict", picture, "--weights", str(folder), "--device", "cpu"]) == 0
    assert main(["package", str(folder), "--output", str(tmp_path / "again"), "--half"]) == 0
    capsys.readouterr()


def test_it_is_written_whole_or_not_at_all(checkpoint, tmp_path, monkeypatch, capsys):
    path, folder = checkpoint(), tmp_path / "p"
    folder.mkdir()  # empty: it may be there

    def full(*_):
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(["package", str(path), "--output", str(folder)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before and not list(folder.iterdir())
    assert main(["package", str(path), "--output", str(folder)]) == 0
    assert main(["package", str(path), "--output", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_damaged_folder_is_said(checkpoint, tmp_path):
    folder = tmp_path / "p"
    assert main(["package", str(checkpoint()), "--output", str(folder)]) == 0

    def refused(name, content, message):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            iif_d2.load(folder, device="cpu")
        (folder / name).write_bytes(kept)

    weights = (folder / "model.safetensors").read_bytes()
    refused("model.safetensors", weights[:-9], "model.safetensors")
    refused("config.json", b"{", "config.json is not valid json")
    refused("config.json", b'{"format": "iif_d2.package", "methods": 3}', "config.json is not the")
    refused("config.yaml", b"\xff", "config.yaml cannot be read")
    refused("config.yaml", b"_BASE_: /etc/hostname", "names a _BASE_")
    refused("class_frequency.json", b"[]", "class counts in checkpoint")
    notes = json.loads((folder / "config.json").read_text())
    other = {"model_type": "vit"}  # another program's: the weights stand alone
    refused("config.json", json.dumps(other).encode(), "carries no config")
    assert notes["class_names"] == list(CLASS_NAMES)
    iif_d2.load(folder, device="cpu")


def test_a_py_config_is_not_packaged(tmp_path, dataset_name):
    from iif_d2.commands.package import package

    from ..checkpoint.stored.make import HERE, LAZY, NARROW_LAZY, VITDET

    weights = HERE / f"{LAZY}.pth"
    with pytest.raises(CheckpointError, match="carries no config"):
        package(weights, tmp_path / "p")
    with pytest.raises(ConfigError, match="such a config is code"):
        package(weights, tmp_path / "p", config_file=VITDET, opts=NARROW_LAZY)
