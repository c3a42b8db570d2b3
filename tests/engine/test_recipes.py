"""Every LVIS and COCO config: its recipe field by field, and its model and optimizer at full width."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from iif_d2.config import load_config
from iif_d2.data import config_frequency
from iif_d2.engine import LongTailTrainer
from iif_d2.methods import METHOD_REGISTRY, build_method, method_options
from iif_d2.modeling import CosineLinear, NormedConv2d

from .recipes import RECIPES, REFERENCE, ROOT, VARIANTS, expected


@pytest.mark.parametrize("path", RECIPES)
def test_the_recipe_field_by_field(path):
    cfg = load_config(path)
    found = {}
    for key in expected(path):
        node = cfg
        for part in key.split("."):
            node = node[part]
        found[key] = node
    assert found == expected(path)
    assert len((ROOT / path).read_text().splitlines()) <= 15


@pytest.mark.parametrize("path", RECIPES)
def test_the_full_model_and_its_optimizer(path):
    """At full width, on the meta device: what each parameter's rate and decay are."""
    cfg = load_config(path, ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    block = model.backbone.bottom_up.res2[0].conv2
    assert (block.out_channels, block.groups) == ((256, 64) if "_X_101_" in path else (64, 1))
    assert len(model.backbone.bottom_up.res4) == (6 if "_R_50_" in path else 23)
    heads = model.roi_heads
    predictors = heads.box_predictor if "cascade" in path else [heads.box_predictor]
    assert len(predictors) == (3 if "cascade" in path else 1)
    for predictor in predictors:
        assert type(predictor.method) is METHOD_REGISTRY.get(cfg.MODEL.LONG_TAIL.METHOD)
        rows = cfg.MODEL.ROI_HEADS.NUM_CLASSES + (2 if "seesaw" in path else 1)
        assert predictor.cls_score.weight.shape == (rows, 1024)
        cosine = cfg.MODEL.LONG_TAIL.CLASSIFIER == "cosine"
        assert type(predictor.cls_score) is (CosineLinear if cosine else nn.Linear)
    normed = "final" in path or "normed_mask" in path
    assert isinstance(heads.mask_head.predictor, NormedConv2d) == normed
    optimizer = LongTailTrainer.build_optimizer(cfg, model)
    found = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    rate, decay = (2e-4, 0.05) if "_RSB_" in path else (0.02, 1e-4)
    norms = {p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert bool(norms) == ("_RSB_" in path)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert found == {p: (rate, 0.0 if p in norms else decay) for p in trained}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stages = ("backbone.bottom_up.stem.", "backbone.bottom_up.res2.")
    assert frozen and all(name.startswith(stages) for name in frozen)


@pytest.mark.parametrize("variant", ["raw", *VARIANTS])
def test_the_ablations_instance_statistic_is_one_override(variant):
    name = "mask_rcnn_R_50_FPN_1x_iif" + ("" if variant == "raw" else f"_{variant}")
    path = f"configs/LVISv1-InstanceSegmentation/{name}.yaml"
    cfg = load_config(path, ["MODEL.LONG_TAIL.IIF.STATISTIC", "instance"])
    options = method_options(cfg)
    assert (options["variant"], options["statistic"]) == (variant, "instance")
    weights = build_method("IIF", config_frequency(cfg).resolve(), **options).weight
    n, total = 109, 1_270_141  # aerosol_can's instances
    by_hand = {
        "raw": math.log(total / n),
        "smooth": math.log((total + 1) / (n + 1)) + 1,
        "rel": math.log((total - n) / n),
        "normit": -NormalDist().inv_cdf(n / total),
        "gombit": -math.log(-math.log1p(-n / total)),
        "base2": math.log2(total / n),
        "base10": math.log10(total / n),
    }
    assert weights[0].item() == pytest.approx(by_hand[variant], abs=1e-9)
    for index, weight in REFERENCE.get(("lvis_v1", variant, "instance"), {}).items():
        assert weights[index].item() == pytest.approx(weight, abs=6e-6)
