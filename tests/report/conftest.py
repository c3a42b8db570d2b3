"""Pages of the report: a small one of trained models' folders, and one of LVIS's size."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.modeling import build_model

from iif_d2 import register_long_tail_instances
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main
from iif_d2.config import load_config
from iif_d2.evaluation import Detections
from iif_d2.evaluation.ground_truth import GroundTruth
from iif_d2.frequency import ClassFrequency
from iif_d2.report.diagnosis import Diagnosis, changes
from iif_d2.report.page import render
from iif_d2.report.pictures import Picture

from ..conftest import TINY, make_dataset

ALERT = "<script>alert(1)</script>"
EVIL = f"{ALERT}<img src=x onerror=alert(2)>"
CONFIG = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two OUTPUT_DIRs of untrained models, on classes whose names would break a page."""
    root = tmp_path_factory.mktemp("report")
    path, images = make_dataset(root)
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = EVIL
    content["categories"][2]["name"] = 'bar & "<b>beam</b>"'
    path.write_text(json.dumps(content))
    register_long_tail_instances("tiny_report", str(path), str(images))
    folders = []
    for method in ("Softmax", "IIF"):
        folder = root / f"{method} <i> of a longer name"
        data = ["DATASETS.TRAIN", "('tiny_report',)", "DATASETS.TEST", "('tiny_report',)"]
        options = [*TINY, *data, "MODEL.LONG_TAIL.METHOD", method, "OUTPUT_DIR", str(folder)]
        cfg = load_config(CONFIG, options)
        folder.mkdir()
        (folder / "config.yaml").write_text(cfg.dump())
        LongTailCheckpointer(build_model(cfg), str(folder)).save("model_final")
        lines = [{"iteration": i, "total_loss": 5.0 - i / 1000, "lr": 0.1} for i in range(1000)]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)) + '\n{"cut')
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory):
    """The report of both."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    line = ["report", *runs, "--output", str(path), "--pictures", "2", "--bootstrap", "20"]
    assert main([*line, "--confidence-threshold", "0"]) == 0
    return path


def write_truth(path, num_classes: int, num_images: int, lvis: bool = True) -> GroundTruth:
    """An image of one object each, 40 pixels at (10, 10); of class 0, 1, ... in turn."""
    images, annotations = [], []
    for index in range(num_images):
        image = {"id": index + 1, "height": 100, "width": 100}
        if lvis:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        images.append(image)
        box = {"bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
        label = {"image_id": index + 1, "category_id": index % num_classes + 1}
        annotations.append({"id": index + 1, **label, **box})
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(num_classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return GroundTruth(path)


def found(rows) -> Detections:
    """From a row a detection: image's place, x, y, w, h, score, class."""
    rows = np.array(rows, dtype=float)
    labels, images = rows[:, 6].astype(int), rows[:, 0].astype(int) + 1
    return Detections(rows[:, 1:5], rows[:, 5], labels, images=images)


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """A page of LVIS's size: 1,203 classes, two runs, curves, six rows of pictures."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    size, num_images = 1203, 2406
    truth = write_truth(folder / "lvis.json", size, num_images, lvis=False)
    images = np.round(2000 * np.arange(1, size + 1) ** -1.0).astype(int).clip(1)
    frequency = ClassFrequency([c.name for c in truth.categories], images, None, 100_000)
    groups = frequency.groups()

    def run(name):
        curve = (list(range(4500)), rng.random(4500).tolist())
        return SimpleNamespace(
            name=name,
            folder=f"output/{name}",
            cfg=load_config(CONFIG, ["MODEL.LONG_TAIL.METHOD", name]),
            results=lambda: {"lvis_v1_val": {"bbox": {"AP": 20.0}, "segm": {"AP": 19.0}}},
            per_class=lambda task, size: per_class,
            norms=lambda size: rng.random(size),
            class_weights=lambda size: ("factor", rng.random(size)),
            curves=lambda: {f"scalar_{i}": curve for i in range(30)},
        )

    per_class = 100 * rng.random(size)
    runs = [run("Softmax"), run("IIF")]
    diagnoses = []
    for _ in runs:
        labels = rng.integers(0, size, num_images)
        boxes = np.column_stack(
            [np.arange(num_images), np.full((num_images, 2), 10), np.full((num_images, 2), 40),
             rng.random(num_images), labels]
        )  # fmt: skip
        diagnoses.append(Diagnosis(truth, range(num_images), found(boxes), groups, 0.3))
    jpeg = "data:image/jpeg;base64," + base64.b64encode(rng.bytes(60_000)).decode()
    text = render(
        runs, diagnoses, truth, frequency, groups, changed=changes(diagnoses, 0, 0),
        pictures=[(str(i), [Picture("title", "alt", jpeg, 480, 480)] * 3) for i in range(6)],
        threshold=0.3, num_images=num_images, dataset="lvis_v1_val",
    )  # fmt: skip
    path = folder / "large.html"
    path.write_text(text)
    return path
