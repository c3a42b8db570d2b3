"""iif-d2 predict: a trained checkpoint and pictures, no config."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from iif_d2.commands import main
from iif_d2.engine import LongTailTrainer
from iif_d2.evaluation import Detections

from ..checkpoint.stored.make import spread
from ..conftest import CLASS_NAMES

LEAST = ["--confidence", "0.2"]


@pytest.fixture(scope="module")
def content():
    return {}


@pytest.fixture
def weights(tiny_cfg, tmp_path, content):
    """What two steps of training leave."""
    if not content:
        trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", "TEST.EVAL_PERIOD", "0"))
        trainer.resume_or_load(resume=False)
        spread(trainer.model)
        trainer.train()
        content["bytes"] = (tmp_path / "out" / "model_final.pth").read_bytes()
    path = tmp_path / "model_final.pth"
    path.write_bytes(content["bytes"])
    return path


@pytest.fixture
def pictures(tmp_path):
    """A folder with two pictures of noise and a text; one name is also a pattern."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b[1].jpg")):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("none")
    return folder


def test_draws_and_writes_what_the_model_finds(weights, pictures, tmp_path, capsys):
    drawn, found = tmp_path / "drawn", tmp_path / "found.json"
    line = ["predict", str(pictures), "--weights", str(weights), "--device", "cpu", *LEAST]
    assert main([*line, "--output", str(drawn), "--json", str(found)]) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in drawn.iterdir()) == ["a.png", "b[1].png"]
    records = json.loads(found.read_text())
    assert f"2 pictures written to {drawn}" in said and f"{len(records)} detections in" in said
    assert said.splitlines()[-1].startswith(f"next: look at {drawn}")
    assert {record["file_name"] for record in records} == {
        str(pictures / "a.png"),
        str(pictures / "b[1].jpg"),
    }
    for record in records:
        assert record["score"] >= 0.2 and record["segmentation"]["size"] == [48, 64]
        assert record["class_name"] == CLASS_NAMES[record["category_id"]]
    read = Detections.from_json(str(found))
    assert len(read) == len(records) > 0 and set(read.images) == {1, 2}
    assert main([*line, "TEST.DETECTIONS_PER_IMAGE", "1", "--json", str(found)]) == 0
    assert len(json.loads(found.read_text())) == 2


def test_says_what_it_finds_where_nothing_is_written(weights, pictures, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    brackets = str(pictures / "b[1].jpg")
    line = ["predict", "--weights", str(weights), "--device", "cpu", brackets]
    assert main([*line, *LEAST, "--batch", "2"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{brackets}: ") and any(name in first for name in CLASS_NAMES)
    assert last.startswith("next: --output DIR draws them")
    assert main([*line, "--confidence", "1.1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: lower --confidence, now 1.1"
    assert sorted(tmp_path.rglob("*")) == before


def test_no_input_is_written_over(weights, pictures, capsys):
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    line = ["predict", str(pictures / "*.png"), "--weights", str(weights), "--device", "cpu"]
    assert main([*line, "--output", str(pictures)]) == 0
    assert {path.name for path in pictures.iterdir()} - before.keys() == {"a_drawn.png"}
    for written in (pictures / "a.png", weights):
        assert main([*line, "--json", str(written)]) == 2
        assert f"--json {written} is a file that is read" in capsys.readouterr().err
    assert all((pictures / name).read_bytes() == content for name, content in before.items())


def test_bad_input_is_a_sentence(weights, pictures, tmp_path, capsys):
    picture = str(pictures / "a.png")
    (tmp_path / "empty").mkdir()
    for names, message in (
        ([picture, "gone.png"], "no pictures: gone.png is no file"),
        ([str(tmp_path / "empty")], "no pictures"),
        ([str(pictures / "notes.txt")], "notes.txt cannot be read"),
    ):
        assert main(["predict", *names, "--weights", str(weights), "--device", "cpu"]) == 2
        assert message in capsys.readouterr().err
    content = torch.load(weights, weights_only=True)
    del content["config"]
    torch.save(content, weights)
    assert main(["predict", picture, "--weights", str(weights)]) == 2
    said = capsys.readouterr().err
    assert "carries no config" in said and "--config-file FILE" in said
