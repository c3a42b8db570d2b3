"""Repeat factor sampling on a registered data set: the factors of Gupta et al., by a slow oracle."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2 import count_class_frequency
from iif_d2.data import LongTailDatasetMapper, TrainingBatches, repeat_factors
from iif_d2.errors import UnknownNameError


def slow_factors(dicts, threshold, statistic="image", power=0.5):
    """r_I = max over the classes in I of max(1, (t / f_c)^.5); 1 for an image without objects.

    f_c = n_c / N, or with instances sqrt(n_c / N * m_c / M).
    """
    images, instances = Counter(), Counter()
    for record in dicts:
        labels = [annotation["category_id"] for annotation in record["annotations"]]
        images.update(set(labels))
        instances.update(labels)
    factors = []
    for record in dicts:
        factor = 1.0
        for annotation in record["annotations"]:
            label = annotation["category_id"]
            share = images[label] / len(dicts)
            if statistic == "instance_image":
                share = math.sqrt(share * instances[label] / sum(instances.values()))
            factor = max(factor, (threshold / share) ** power)
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


def random_dicts(seed, most=6):
    """Images of up to `most` objects of a long tail of classes; some hold none."""
    draws = np.random.default_rng(seed)
    tail = 1 / np.arange(1, 13) ** 2
    counts = draws.integers(0, most + 1, 80)
    return [
        {"annotations": [{"category_id": int(c)} for c in draws.choice(12, n, p=tail / tail.sum())]}
        for n in counts
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("sqrt", "power"), [(True, 0.5), (False, 1.0)])
@pytest.mark.parametrize("statistic", ["image", "instance_image"])
def test_any_set_is_the_formula(seed, sqrt, power, statistic):
    dicts = random_dicts(seed)
    for threshold in (0.0, 0.05, 0.5):
        found = repeat_factors(dicts, threshold, sqrt, statistic)
        assert found.dtype == torch.float32
        expected = slow_factors(dicts, threshold, statistic, power)
        assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_with_one_object_an_image_instances_say_what_images_say():
    dicts = [d for d in random_dicts(0, most=1) if d["annotations"]]
    by_instances = repeat_factors(dicts, 0.5, statistic="instance_image")
    torch.testing.assert_close(by_instances, repeat_factors(dicts, 0.5))
    assert by_instances.max() > 2


def test_a_class_with_many_objects_an_image_is_repeated_less():
    """Both are in one image of twenty; one has 40 objects there."""
    crowd = [{"annotations": [{"category_id": 1}] * 40}, {"annotations": [{"category_id": 2}]}]
    dicts = [{"annotations": [{"category_id": 0}]}] * 18 + crowd
    assert repeat_factors(dicts, 0.5)[-2:].tolist() == pytest.approx([math.sqrt(0.5 * 20)] * 2)
    many, one = repeat_factors(dicts, 0.5, statistic="instance_image")[-2:].tolist()
    assert many < math.sqrt(0.5 * 20) < one


def test_an_unknown_statistic_is_named():
    with pytest.raises(UnknownNameError, match="REPEAT_STATISTIC 'instance'; known: image, inst"):
        repeat_factors([], 0.5, statistic="instance")


RFS = (
    "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.9",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False", "SEED", "3",
)  # fmt: skip


def test_the_config_chooses_instances_and_the_rest_is_as_with_images(tiny_cfg):
    """One seed rounds and shuffles alike: the order is that of Detectron2's sampler."""
    dicts, order = DatasetCatalog.get("tiny_lvis"), {}
    for statistic in ("image", "instance_image"):
        cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *RFS, "DATALOADER.REPEAT_STATISTIC", statistic)
        sampler = TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True)).sampler
        factors = repeat_factors(dicts, 0.9, statistic=statistic)
        assert torch.equal(sampler._int_part + sampler._frac_part, factors)
        plain = RepeatFactorTrainingSampler(factors, seed=3)
        order[statistic], expected = ([i for i, _ in zip(s, range(60))] for s in (sampler, plain))
        assert order[statistic] == expected
    assert order["image"] != order["instance_image"]


def test_a_lazy_config_chooses_instances(dataset_name):
    dicts = DatasetCatalog.get(dataset_name)
    sampler = LazyCall(RepeatFactorTrainingSampler)(
        repeat_factors=LazyCall(repeat_factors)(dataset_dicts=None, repeat_thresh=0.9), seed=3
    )
    sampler.repeat_factors.statistic = "instance_image"
    sampler.repeat_factors.dataset_dicts = [
        {"annotations": [{"category_id": a["category_id"]} for a in d["annotations"]]}
        for d in dicts
    ]
    made = instantiate(sampler)
    expected = repeat_factors(dicts, 0.9, statistic="instance_image")
    assert torch.equal(made._int_part + made._frac_part, expected)
