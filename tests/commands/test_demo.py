"""python -m iif_d2 demo: a data set, two models side by side, a video, a json and a figure."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main

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


def test_a_video_is_drawn_frame_by_frame(demo, tmp_path, capsys):
    path = tmp_path / "in.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no mp4")
    for level in (0, 90, 180, 250):
        writer.write(np.full((64, 64, 3), level, np.uint8))
    writer.release()
    found = tmp_path / "found.json"
    arguments = ["--video", str(path), "--most", "3", "--json", str(found), *beside(tmp_path)]
    assert demo(*arguments, "--titles", "one", "two", "--confidence-threshold", "0") == 0
    assert "3 frames written to" in capsys.readouterr().out
    capture = cv2.VideoCapture(str(tmp_path / "drawn" / "demo.mp4"))
    sizes = []
    while (frame := capture.read())[0]:
        sizes.append(frame[1].shape)
    assert sizes == [(TITLE + PANEL, 2 * PANEL + GAP, 3)] * 3
    names = {record["file_name"] for record in json.loads(found.read_text())}
    assert names <= {"frame 0", "frame 1", "frame 2"} and len(names) > 1


def test_bad_input_is_a_sentence(demo, dataset_name, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no film")
    for arguments, message in (
        ([], "no pictures: give --input FILES or --dataset NAME"),
        (["--input", str(tmp_path / "*.none")], "no pictures"),
        (["--annotations", "--input", "x.png"], "--image-ids and --annotations need --dataset"),
        (["--dataset", "gone"], "--dataset 'gone' is not a registered data set"),
        (["--dataset", dataset_name, "--image-ids", "1", "77"], "has no image 77"),
        (["--dataset", dataset_name, "--titles", "a", "b"], "--titles has 2 names for 1 models"),
        (["--video", str(tmp_path / "gone.mp4")], "gone.mp4 does not exist"),
        (["--video", str(tmp_path / "text.mp4")], "OpenCV cannot read it"),
    ):
        assert demo(*arguments) == 2
        assert message in capsys.readouterr().err
