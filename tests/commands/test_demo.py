"""python -m iif_d2 demo: a data set, two models side by side, a json and a figure."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main
from iif_d2.commands.demo import draw_folder

from ..conftest import CLASS_NAMES, SIZE, TINY, finding_model

CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_{}.yaml"
PANEL, TITLE, GAP = 480, 40, 8  # pixels, as drawn


@pytest.fixture
def demo(tiny_cfg, tmp_path):
    """A function: run the command with these arguments on a softmax model; its exit code."""
    for method in ("softmax", "iif"):
        model = finding_model(tiny_cfg(f"mask_rcnn_R_18_FPN_{method}"))
        LongTailCheckpointer(model, str(tmp_path)).save(method)
    start = ["demo", "--config-file", CONFIG.format("softmax")]
    options = ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.WEIGHTS", str(tmp_path / "softmax.pth")]
    end = ["--output", str(tmp_path / "drawn"), *TINY, *options]
    return lambda *arguments, end=end: main([*start, *arguments, *end])


def beside(folder):
    return ["--beside", CONFIG.format("iif"), str(folder / "iif.pth")]


def test_a_data_set_with_annotations_and_two_models(demo, dataset_name, tmp_path, capsys):
    found, figure = tmp_path / "found.json", tmp_path / "new" / "figure.png"
    assert demo(
        "--dataset", dataset_name, "--image-ids", "3", "1", "--annotations", *beside(tmp_path),
        "--confidence-threshold", "0.1", "--json", str(found), "--figure", str(figure),
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "2 pictures written to" in said and str(figure) in said and str(found) in said
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["000000000001.png", "000000000003.png"]
    rows = [np.asarray(Image.open(tmp_path / "drawn" / name)) for name in reversed(drawn)]
    assert rows[0].shape == (TITLE + PANEL, 3 * PANEL + 2 * GAP, 3)
    whole = np.asarray(Image.open(figure))
    np.testing.assert_array_equal(whole[: len(rows[0])], rows[0])  # in the order that was asked
    np.testing.assert_array_equal(whole[len(rows[0]) + GAP :][: len(rows[1])], rows[1])
    records = json.loads(found.read_text())
    assert {record["model"] for record in records} == {"Softmax", "IIF"}
    assert {record["image_id"] for record in records} == {1, 3}
    for record in records:
        assert record["score"] >= 0.1 and record["class_name"] == CLASS_NAMES[record["class"]]
        x, y, w, h = record["bbox"]
        assert min(x, y, w, h) >= 0 and max(x + w, y + h) <= SIZE + 1e-3
        assert coco_mask.decode(record["segmentation"]).shape == (SIZE, SIZE)


def test_a_threshold_leaves_detections_out(demo, dataset_name, tmp_path):
    counts = []
    for threshold in ("0", "0.9999"):
        path = tmp_path / "found.json"
        arguments = ["--dataset", dataset_name, "--image-ids", "2", "--json", str(path)]
        assert demo(*arguments, "--confidence-threshold", threshold) == 0
        counts.append(len(json.loads(path.read_text())))
    assert counts[0] > 3 and counts[1] == 0


def test_options_come_in_any_order(demo, dataset, tmp_path, capsys):
    """`--input` may be the last one: it ends where the KEY VALUE overrides begin."""
    pictures = [str(dataset[1] / "train2017" / f"00000000000{i}.png") for i in (1, 2)]
    weights = ["OUTPUT_DIR", str(tmp_path / "o"), "MODEL.WEIGHTS", str(tmp_path / "softmax.pth")]
    output = ["--output", str(tmp_path / "drawn")]
    drawn = []
    for end in ([*output, "--input", *pictures], ["--input", *pictures, *output]):
        assert demo(end=[*end, *TINY, *weights]) == 0
        assert "2 pictures written to" in capsys.readouterr().out
        drawn.append([path.read_bytes() for path in sorted((tmp_path / "drawn").iterdir())])
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2


def test_a_notebook_calls_it_with_arguments(demo, dataset, tmp_path):
    options = [*TINY, "OUTPUT_DIR", str(tmp_path / "o"), "MODEL.WEIGHTS", str(tmp_path / "iif.pth")]
    pattern, found = str(dataset[1] / "train2017" / "*.png"), tmp_path / "found.json"
    said = draw_folder(
        CONFIG.format("iif"), options, inputs=[pattern], output=str(tmp_path / "drawn"), most=3,
        json=str(found),
    )  # fmt: skip
    assert said.startswith(f"3 pictures written to {tmp_path / 'drawn'}")
    assert {record["model"] for record in json.loads(found.read_text())} == {"IIF"}


def test_bad_input_is_a_sentence(demo, dataset_name, tmp_path, capsys):
    for arguments, message in (
        ([], "no pictures: give --input FILES or --dataset NAME"),
        (["--input", str(tmp_path / "*.none")], "no pictures"),
        (["--annotations", "--input", "x.png"], "--image-ids and --annotations need --dataset"),
        (["--dataset", "gone"], "--dataset 'gone' is not a registered data set"),
        (["--dataset", dataset_name, "--image-ids", "1", "77"], "has no image 77"),
        (["--dataset", dataset_name, "--titles", "a", "b"], "--titles has 2 names for 1 models"),
    ):
        assert demo(*arguments) == 2
        assert message in capsys.readouterr().err
