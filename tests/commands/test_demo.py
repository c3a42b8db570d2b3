"""python -m iif_d2 demo: a data set, two models side by side, a json and a figure."""

import json

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as coco_mask

from iif_d2 import register_long_tail_instances
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main
from iif_d2.commands.demo import draw_folder
from iif_d2.data import LongTailDatasetMapper
from iif_d2.evaluation.detect import detect, read_picture
from iif_d2.plots import drawing as plots_drawing

from ..conftest import CLASS_NAMES, SIZE, TINY, finding_model

CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_{}.yaml"
PANEL, TITLE, GAP = 480, 40, 8  # pixels, as drawn


@pytest.fixture
def demo(tiny_cfg, tmp_path):
    """A function: run the command with these arguments on a softmax model; its exit code."""
    for method in ("softmax", "iif"):
        model = finding_model(tiny_cfg(f"mask_rcnn_R_18_FPN_{method}"))
        LongTailCheckpointer(model, str(tmp_path)).save(method)
        (tmp_path / f"{method}.yaml").write_text(tiny_cfg(f"mask_rcnn_R_18_FPN_{method}").dump())
    start = ["demo", "--config-file", CONFIG.format("softmax")]
    options = ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.WEIGHTS", str(tmp_path / "softmax.pth")]
    end = ["--output", str(tmp_path / "drawn"), *TINY, *options]
    return lambda *arguments, end=end: main([*start, *arguments, *end])


def beside(folder):
    return ["--beside", str(folder / "iif.yaml"), str(folder / "iif.pth")]


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


def pictures_of(folder, *names):
    """Noise of several sizes, by name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 255, (48, 64 + number, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.mark.parametrize(
    "names, drawn",
    [
        (["cam1/1.png", "cam2/1.png", "2.png"], ["2.png", "cam1_1.png", "cam2_1.png"]),
        (["1.jpg", "1.png"], None),
        (["a/x/1.png", "b/x/1.png"], ["a_x_1.png", "b_x_1.png"]),
        (["a/b_1.png", "a_b/1.png", "a/1.png"], None),
        (["A.png", "b/a.png"], None),
    ],
)
def test_each_picture_gets_a_file_of_its_own(demo, tmp_path, capsys, names, drawn):
    folder = pictures_of(tmp_path / "in", *names)
    assert demo("--input", *(str(folder / name) for name in names)) == 0
    found = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert len({name.lower() for name in found}) == len(names)
    assert f"{len(names)} pictures written to" in capsys.readouterr().out
    assert drawn is None or found == drawn


def test_no_picture_is_written_over(demo, tmp_path, capsys):
    """Neither one that is drawn nor one beside it; what was drawn before is drawn anew."""
    folder = pictures_of(tmp_path / "in", "1.png", "3.jpg", "3.png", "1_drawn.png")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    there = ["--output", str(folder)]
    for pattern, expected, whole in (("*.png", 3, 7), ("3.jpg", 1, 7), ("3.jpg", 1, 7)):
        assert demo("--input", str(folder / pattern), end=[*there, *_end(tmp_path)]) == 0
        assert f"{expected} pictures written to" in capsys.readouterr().out
        assert len(list(folder.iterdir())) == whole
        for name, content in before.items():
            assert (folder / name).read_bytes() == content, name
    figure = ["--figure", str(folder / "1.png"), "--output", str(tmp_path / "drawn")]
    assert demo("--input", str(folder / "1.png"), *figure, end=_end(tmp_path)) == 2
    assert "1.png is a file that is read or drawn here" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["beside the pictures", "elsewhere"])
def test_a_file_that_was_not_drawn_here_stays(demo, tmp_path, where):
    """Whatever it is called; a second run draws over what the first one drew."""
    folder = pictures_of(tmp_path / "in", "1.png")
    out = folder if where == "beside the pictures" else tmp_path / "out_of"
    name = "1_drawn" if out == folder else "1"
    pictures_of(out, f"{name}.png", f"{name}_3.png")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for _ in range(2):
        line = ["--input", str(folder / "1.png")]
        assert demo(*line, end=["--output", str(out), *_end(tmp_path)]) == 0
        drawn = {path.name for path in out.iterdir()} - set(before)
        assert drawn == {f"{name}_2.png"}
    assert all((out / own).read_bytes() == content for own, content in before.items())


def test_a_picture_that_two_patterns_name_is_drawn_once(demo, tmp_path, capsys):
    folder = pictures_of(tmp_path / "in", "1.png", "2.png")
    assert demo("--input", str(folder / "*.png"), f"{folder}/./1.png") == 0
    assert "2 pictures written to" in capsys.readouterr().out


def _end(folder):
    return [*TINY, "OUTPUT_DIR", str(folder / "out"), "MODEL.WEIGHTS", str(folder / "softmax.pth")]


def test_a_set_without_annotations_is_drawn(demo, dataset, tmp_path, capsys):
    content = json.loads(dataset[0].read_text())
    del content["annotations"]
    (tmp_path / "test.json").write_text(json.dumps(content))
    register_long_tail_instances("demo_unannotated", str(tmp_path / "test.json"), str(dataset[1]))
    try:
        assert demo("--dataset", "demo_unannotated", "--most", "2") == 0
        assert "2 pictures written to" in capsys.readouterr().out
        assert demo("--dataset", "demo_unannotated", "--annotations") == 2
        assert "demo_unannotated has none that could be drawn" in capsys.readouterr().err
    finally:
        DatasetCatalog.remove("demo_unannotated")
        MetadataCatalog.remove("demo_unannotated")


@pytest.mark.parametrize("orientation, message", [(6, "as stored"), (3, "remove the orientation")])
def test_annotations_over_a_turned_picture(
    demo, dataset, tmp_path, capsys, caplog, orientation, message
):
    """A quarter turn of boxes that were drawn on the pixels as stored is refused, as in training;
    where sizes say nothing there is a warning."""
    content = json.loads(dataset[0].read_text())
    image = next(image for image in content["images"] if image["id"] == 2)
    image.update(width=64, height=32)
    content["images"] = [image]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 2][:1]
    content["annotations"][0].update(bbox=[1, 1, 9, 9], area=81, segmentation=[[1, 1, 9, 1, 9, 9]])
    (tmp_path / "turned.json").write_text(json.dumps(content))
    exif, folder = Image.Exif(), tmp_path / "train2017"
    exif[0x0112] = orientation
    folder.mkdir()
    picture = Image.new("RGB", (64, 32))
    picture.save(folder / image["coco_url"].rpartition("/")[2], exif=exif)
    register_long_tail_instances("demo_turned", str(tmp_path / "turned.json"), str(tmp_path))
    try:
        code = demo("--dataset", "demo_turned", "--annotations")
        said = capsys.readouterr().err + caplog.text
        assert code == (2 if orientation == 6 else 0) and "EXIF" in said and message in said
        assert demo("--dataset", "demo_turned") == 0  # without boxes there is nothing to fit
    finally:
        DatasetCatalog.remove("demo_turned")
        MetadataCatalog.remove("demo_turned")


@pytest.mark.parametrize("format", ["L", "RGB", "BGR"])
def test_pictures_reach_the_network_in_its_format(tiny_cfg, dataset, format):
    """As evaluation reads them, whatever the number of channels."""
    channels = {"L": 1}.get(format, 3)
    mean = ["MODEL.PIXEL_MEAN", str([100.0] * channels), "MODEL.PIXEL_STD", str([50.0] * channels)]
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", "INPUT.FORMAT", format, *mean)
    model, path = finding_model(cfg), str(dataset[1] / "train2017" / "000000000002.png")
    record = {"file_name": path, "height": SIZE, "width": SIZE, "image_id": 2}
    mapped = LongTailDatasetMapper(cfg, False)(record)
    assert mapped["image"].shape[0] == channels
    with torch.no_grad():
        expected = model([mapped])[0]["instances"]
    found = detect(cfg, model, read_picture(path))
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.corners, expected.pred_boxes.tensor.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-6)


def test_the_second_model_has_its_own_config(demo, tmp_path, capsys):
    """Overrides are the first model's, but for the device."""
    arguments = ["--input", str(pictures_of(tmp_path / "in", "1.png") / "1.png"), *beside(tmp_path)]
    end = [
        *demo_options(tmp_path),
        "TEST.DETECTIONS_PER_IMAGE",
        "1",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "0.0",
    ]
    found = tmp_path / "found.json"
    assert demo(*arguments, "--json", str(found), "--confidence-threshold", "0", end=end) == 0
    models = [record["model"] for record in json.loads(found.read_text())]
    assert models.count("Softmax") == 1 and models.count("IIF") > 1
    config = yaml.safe_load((tmp_path / "iif.yaml").read_text())
    config["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] = 5
    (tmp_path / "iif.yaml").write_text(yaml.safe_dump(config))
    assert demo(*arguments) == 2
    assert "the models find 4 and 5 classes" in capsys.readouterr().err


def demo_options(folder):
    return ["--output", str(folder / "drawn"), *_end(folder)]


def test_bad_input_is_a_sentence(demo, dataset_name, tmp_path, capsys):
    for arguments, message in (
        ([], "no pictures: give --input FILES or --dataset NAME"),
        (["--input", str(tmp_path / "*.none")], "no pictures"),
        (["--annotations", "--input", "x.png"], "--image-ids and --annotations need --dataset"),
        (["--dataset", "gone"], "data set 'gone' is not registered here; start the command with"),
        (["--dataset", dataset_name, "--figure", "x.none"], "x.none is no name of a picture"),
        (["--dataset", dataset_name, "--image-ids", "1", "77"], "has no image 77"),
        (["--dataset", dataset_name, "--titles", "a", "b"], "--titles has 2 names for 1 models"),
    ):
        assert demo(*arguments) == 2
        assert message in capsys.readouterr().err


def test_right_and_wrong_are_marked_where_there_are_annotations(
    demo, dataset_name, tmp_path, monkeypatch
):
    marked = []
    draw = plots_drawing.draw_detections

    def drawing(image, found, names, groups, right):
        marked.append((len(found), right))
        return draw(image, found, names, groups, right)

    monkeypatch.setattr(plots_drawing, "draw_detections", drawing)
    arguments = ["--dataset", dataset_name, "--image-ids", "2", "--confidence-threshold", "0.1"]
    assert demo(*arguments, "--annotations") == 0
    (objects, annotated), (detections, judgement) = marked
    assert objects and annotated is None
    assert len(judgement) == detections > 0 and set(judgement) <= {True, False, None}
    marked.clear()
    assert demo(*arguments) == 0 and marked == [(detections, None)]
