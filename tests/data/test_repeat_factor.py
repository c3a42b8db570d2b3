"""Repeat factor sampling on a registered data set: the factors of Gupta et al., by a slow oracle."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2 import count_class_frequency


def slow_factors(dicts, threshold):
    """r_I = max over the classes in I of max(1, sqrt(t / f_c)); 1 for an image without objects."""
    images = Counter()
    for record in dicts:
        images.update({annotation["category_id"] for annotation in record["annotations"]})
    factors = []
    for record in dicts:
        factor = 1.0
        for annotation in record["annotations"]:
            share = images[annotation["category_id"]] / len(dicts)
            factor = max(factor, math.sqrt(threshold / share))
        factors.append(factor)
    return factors


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_factors_are_the_formula_and_an_empty_image_comes_once(dataset_name, threshold):
    dicts = DatasetCatalog.get(dataset_name)
    assert any(not record["annotations"] for record in dicts)
    found = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, threshold)
    assert found.tolist() == pytest.approx(slow_factors(dicts, threshold))
    assert (found.max() > 1) == (threshold > 0.2)


def test_its_image_counts_are_the_frequencies(dataset_name):
    """The sampler counts images by itself; it must agree with what the methods are given."""
    dicts = DatasetCatalog.get(dataset_name)
    share = count_class_frequency(dataset_name).image_count / len(dicts)
    found = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, 0.9)
    for record, factor in zip(dicts, found.tolist()):
        shares = [share[annotation["category_id"]] for annotation in record["annotations"]]
        expected = max([1.0, *(math.sqrt(0.9 / s) for s in shares)])
        assert factor == pytest.approx(expected)


def test_the_config_chooses_it_with_its_threshold(tiny_cfg):
    rfs = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *rfs, "DATALOADER.REPEAT_THRESHOLD", "0.9")
    from detectron2.data.build import _train_loader_from_config

    sampler = _train_loader_from_config(cfg, mapper=lambda record: record)["sampler"]
    assert isinstance(sampler, RepeatFactorTrainingSampler)
    dicts = DatasetCatalog.get("tiny_lvis")
    factors = torch.as_tensor(slow_factors(dicts, 0.9), dtype=torch.float32)
    torch.testing.assert_close(sampler._int_part + sampler._frac_part, factors)
