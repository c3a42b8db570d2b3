"""Norms come from the classifier's rows; background false positives are counted by group."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from iif_d2.errors import CheckpointError
from iif_d2.plots.comparison_figures import (
    background_false_positives,
    classifier_norms,
    write_norms,
)

KEY = "roi_heads.box_predictor.cls_score.weight"


def test_norms_are_of_the_foreground_rows_from_most_to_fewest_images(frequency, tmp_path):
    weight = torch.arange(18.0).view(6, 3)
    path = str(tmp_path / "model.pth")
    torch.save({"model": {KEY: weight}}, path)
    norms = classifier_norms(path)
    np.testing.assert_allclose(norms, [np.sqrt((row**2).sum()) for row in weight[:-1].numpy()])
    write_norms(str(tmp_path), frequency, [("Softmax", path), ("IIF raw", path)])
    with open(tmp_path / "norms.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == list("abcde")
    assert float(lines[2]["Softmax"]) == pytest.approx(norms[2], abs=1e-4)
    assert (tmp_path / "norms.png").stat().st_size > 1000
    torch.save({"model": {"x": weight}}, path)
    with pytest.raises(CheckpointError, match="has no cls_score"):
        classifier_norms(path)


def test_background_false_positives_are_those_that_touch_no_object(tmp_path):
    box = {"area": 100, "iscrowd": 0, "segmentation": []}
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 2, "name": "rare"}, {"id": 7, "name": "frequent"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10], **box}],
    }
    found = [  # category, box: an object, another class on it, and two on nothing
        (7, [0, 0, 10, 10]), (2, [0, 0, 10, 10]), (2, [50, 50, 10, 10]), (7, [70, 10, 10, 10]),
        (2, [30, 80, 10, 10]),
    ]  # fmt: skip
    detections = [
        {"image_id": 1, "category_id": c, "bbox": b, "score": 0.9 - i / 10}
        for i, (c, b) in enumerate(found)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    groups = np.array(["r", "f"])
    counts = background_false_positives(
        str(tmp_path / "truth.json"), str(tmp_path / "found.json"), groups
    )
    assert counts == {"r": 2, "c": 0, "f": 1}
