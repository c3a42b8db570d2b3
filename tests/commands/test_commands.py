"""python -m iif_d2 <command>."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from iif_d2 import ClassFrequency, count_class_frequency
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import COMMANDS, main
from iif_d2.evaluation import Detections
from iif_d2.evaluation.results import load_results, results_table, save_results
from iif_d2.frequency import GROUPS
from iif_d2.plots.drawing import draw_detections

from ..conftest import TINY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "usage: python -m iif_d2" in capsys.readouterr().out


def test_frequency_counts_and_saves(dataset, tmp_path, capsys):
    saved = tmp_path / "counts.json"
    assert main(["frequency", str(dataset[0]), "--output", str(saved)]) == 0
    assert str(saved) in capsys.readouterr().out
    assert ClassFrequency.load(saved) == count_class_frequency(str(dataset[0]))


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    assert main(["frequency", str(tmp_path / "gone.json")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/gone.json does not exist")
    assert main(["summary", str(tmp_path / "gone")]) == 2


def test_demo_draws_what_a_model_finds(tiny_cfg, dataset, tmp_path, capsys):
    from detectron2.modeling import build_model

    cfg = tiny_cfg()
    model = build_model(cfg)
    LongTailCheckpointer(model, str(tmp_path)).save("model")
    line = [
        "demo", "--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml",
        "--input", str(dataset[1] / "train2017" / "*.png"), "--most", "2",
        "--output", str(tmp_path / "drawn"), "--confidence-threshold", "0",
        *TINY, "MODEL.WEIGHTS", str(tmp_path / "model.pth"), "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(line) == 0
    assert "2 pictures written to" in capsys.readouterr().out
    for path in (tmp_path / "drawn").iterdir():
        assert Image.open(path).size == (480, 480)
    (tmp_path / "text.jpg").write_text("no picture")
    line[line.index("--input") + 1] = str(tmp_path / "text.jpg")
    assert main(line) == 2 and "text.jpg cannot be read" in capsys.readouterr().err


def test_rare_classes_are_drawn_in_their_colour():
    instances = Instances((480, 480))
    instances.pred_boxes = Boxes(torch.tensor([[100.0, 100, 300, 300]]))
    instances.scores = torch.tensor([0.9])
    instances.pred_classes = torch.tensor([0])
    instances.pred_masks = torch.zeros(1, 480, 480, dtype=torch.bool)
    instances.pred_masks[0, 100:300, 100:300] = True
    black = np.zeros((480, 480, 3), np.uint8)
    found = Detections.from_instances(instances)
    for letter, group in GROUPS.items():
        drawn = draw_detections(black, found, ["owl"], np.array([letter]))
        inside = drawn[220:280, 220:280].reshape(-1, 3).mean(0) / 255
        np.testing.assert_allclose(inside, 0.35 * np.array(group.color), atol=0.1)


def test_results_are_kept_with_what_is_missing(tmp_path):
    results = {"set": {"bbox": {"AP": 12.34, "APr": float("nan")}}}
    save_results(tmp_path / "r.json", results)
    assert json.loads((tmp_path / "r.json").read_text())["set"]["bbox"]["APr"] is None
    loaded = load_results(tmp_path / "r.json")
    assert loaded["set"]["bbox"]["AP"] == 12.34 and np.isnan(loaded["set"]["bbox"]["APr"])
    assert "| set | bbox | 12.3 |" in results_table(loaded)
