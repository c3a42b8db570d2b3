"""The poster's figures of a comparison: their tables, and what is left out."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch

from iif_d2 import iif_weights
from iif_d2.config import load_config
from iif_d2.errors import CheckpointError
from iif_d2.evaluation.equal_recall import AtRecall
from iif_d2.plots.false_positives import read_false_positives, write_false_positives
from iif_d2.plots.norms import (
    Norms,
    class_factors,
    classifier_norms,
    read_norms,
    write_norms,
)

KEY = "roi_heads.box_predictor.cls_score.weight"


def table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_norms_are_of_the_foreground_rows_from_most_to_fewest_images(frequency, tmp_path):
    weight = torch.arange(18.0).view(6, 3)
    path = str(tmp_path / "model.pth")
    torch.save({"model": {KEY: weight}}, path)
    norms = classifier_norms(path, 5)
    np.testing.assert_allclose(norms, [np.sqrt((row**2).sum()) for row in weight[:-1].numpy()])
    factor = np.array([2.0, 3.0, 4.0, 5.0, 6.0])
    runs = [Norms("Softmax", 0, norms, np.ones(5)), Norms("IIF raw", 0, norms, factor)]
    runs.append(Norms("IIF raw", 1, 2 * norms, factor))
    paths = str(tmp_path / "norms.csv"), str(tmp_path / "norms.png")
    write_norms(paths, frequency, runs)
    lines = table(paths[0])
    assert [line["class"] for line in lines[:5]] == list("abcde")
    assert float(lines[2]["norm"]) == pytest.approx(norms[2], abs=1e-4)
    assert [(line["method"], line["seed"]) for line in lines[::5]] == [
        ("Softmax", "0"), ("IIF raw", "0"), ("IIF raw", "1"),
    ]  # fmt: skip
    read, groups = read_norms(paths[0])
    np.testing.assert_allclose(read[2].norm, 2 * norms, atol=1e-4)
    np.testing.assert_allclose(read[1].factor, factor)
    assert groups.tolist() == frequency.groups().tolist()
    assert (tmp_path / "norms.png").stat().st_size > 1000


def test_a_classifier_without_a_background_keeps_all_its_rows(tmp_path):
    weight = torch.arange(15.0).view(5, 3)
    path = str(tmp_path / "model.pth")
    torch.save({"model": {KEY: weight}}, path)
    assert len(classifier_norms(path, 5)) == 5
    for state, classes in (({KEY: weight}, 6), ({"x": weight}, 5)):
        torch.save({"model": state}, path)
        with pytest.raises(CheckpointError, match=f"has no cls_score of {classes} classes"):
            classifier_norms(path, classes)


def test_factors_are_those_of_the_configs_method(frequency, tmp_path):
    frequency.save(tmp_path / "frequency.json")
    keys = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "5"]
    keys += ["MODEL.LONG_TAIL.FREQUENCY", str(tmp_path / "frequency.json")]

    def factors(method, *more):
        name = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_softmax.yaml"
        cfg = load_config(name, [*keys, "MODEL.LONG_TAIL.METHOD", method, *more])
        return class_factors(cfg)

    np.testing.assert_allclose(factors("IIF"), iif_weights(frequency, "raw"))
    base10 = factors("IIF", "MODEL.LONG_TAIL.IIF.VARIANT", "base10")
    np.testing.assert_allclose(base10, iif_weights(frequency, "base10"))
    np.testing.assert_array_equal(factors("Softmax"), np.ones(5))
    np.testing.assert_array_equal(factors("EQL"), np.ones(5))
    for learnt in ("DisAlign", "LogN", "Seesaw"):
        assert np.isnan(factors(learnt)).all()


def test_counts_at_equal_recall_are_read_as_they_were_written(tmp_path):
    lines = [
        AtRecall("r", 480, 385, 0.25, 0.2, 0.03125, 70, 1),
        AtRecall("r", 480, 385, 0.25, 0.3, math.nan, math.nan, math.nan),
    ]
    paths = str(tmp_path / "x.csv"), str(tmp_path / "x.png")
    write_false_positives(paths, {"A, b": {0: lines, 2: lines}})
    assert table(paths[0])[1]["false_positives"] == "not reached"
    read = read_false_positives(paths[0])
    assert list(read) == ["A, b"] and list(read["A, b"]) == [0, 2]
    for of_seed in read["A, b"].values():
        assert of_seed[0] == lines[0]
        assert of_seed[1].recall == 0.3 and math.isnan(of_seed[1].threshold)
    assert (tmp_path / "x.png").stat().st_size > 1000
