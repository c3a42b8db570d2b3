"""Each row of docs/recipes.md loads and says its recipe; its model and optimizer are built at full width."""

from __future__ import annotations

import math
import re
from statistics import NormalDist

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from iif_d2.data import config_frequency
from iif_d2.engine import LongTailTrainer
from iif_d2.methods import METHOD_REGISTRY, build_method, method_options
from iif_d2.modeling import CosineLinear, NormedConv2d

from .recipes import (
    AT_TEST,
    CONFIGS,
    DISTINCT,
    LEAVES,
    PAGE,
    R50,
    REFERENCE,
    ROOT,
    ROWS,
    SOFTMAX,
    TABLES,
    VARIANTS,
    arguments,
    read_rows,
)


def test_every_config_has_its_row():
    assert {row.config for row in ROWS.values()} == LEAVES == set(CONFIGS)
    assert len(ROWS) == len(read_rows(PAGE)) == 92  # no two share their OUTPUT_DIR
    assert {row.heading for row in ROWS.values()} == set(TABLES)
    for leaf in LEAVES:
        assert len((ROOT / f"configs/{leaf}.yaml").read_text().splitlines()) <= 15, leaf


def test_the_pages_example_is_the_softmax_row():
    """It shows how an OUTPUT_DIR is named, on which second stages and test-time methods stand."""
    [example] = re.findall(r"^iif-d2 train ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert arguments(example) == arguments(f"{SOFTMAX.command} OUTPUT_DIR {SOFTMAX.output}")


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_every_command_says_its_recipe(row):
    assert arguments(row.command).config_file == f"{row.config}.yaml"
    cfg = row.load()
    expected = row.expected() | {"OUTPUT_DIR": row.own_output}
    found = {}
    for key in expected:
        node = cfg
        for part in key.split("."):
            node = node[part]
        found[key] = node
    assert found == expected
    if cfg.SOLVER.EPOCHS:
        assert row.iterations is None
    else:
        assert row.iterations == (0 if row.method in AT_TEST else cfg.SOLVER.MAX_ITER)


def test_methods_are_compared_on_one_recipe():
    """Nothing but the method differs, and what its paper couples with it."""
    control, methods = SOFTMAX.load(), set()
    for row in ROWS.values():
        if row.config == R50 and row.method not in AT_TEST:
            cfg = row.load()
            methods.add(cfg.MODEL.LONG_TAIL.METHOD)
            cfg.defrost()
            cfg.MODEL.LONG_TAIL, cfg.OUTPUT_DIR = control.MODEL.LONG_TAIL, control.OUTPUT_DIR
            assert cfg == control, row.output
    assert len(methods) == 14  # without second stages and those of classification


@pytest.mark.parametrize("row", DISTINCT)
def test_the_full_model_and_its_optimizer(row):
    """At full width, on the meta device: what each parameter's rate and decay are."""
    recipe, cfg = row.expected(), row.load("MODEL.DEVICE", "meta")
    with torch.device("meta"):
        model = build_model(cfg)
    block = model.backbone.bottom_up.res2[0].conv2
    x101 = recipe["MODEL.RESNETS.NUM_GROUPS"] == 64
    assert (block.out_channels, block.groups) == ((256, 64) if x101 else (64, 1))
    deep = recipe["MODEL.RESNETS.DEPTH"] == 101
    assert len(model.backbone.bottom_up.res4) == (23 if deep else 6)
    heads = model.roi_heads
    cascade = recipe["MODEL.ROI_HEADS.NAME"] == "LongTailCascadeROIHeads"
    predictors = heads.box_predictor if cascade else [heads.box_predictor]
    assert len(predictors) == (3 if cascade else 1)
    for predictor in predictors:
        assert type(predictor.method) is METHOD_REGISTRY.get(recipe["MODEL.LONG_TAIL.METHOD"])
        more = 2 if row.method == "Seesaw" else 1
        rows = recipe["MODEL.ROI_HEADS.NUM_CLASSES"] + more
        assert predictor.cls_score.weight.shape == (rows, 1024)
        cosine = recipe["MODEL.LONG_TAIL.CLASSIFIER"] == "cosine"
        assert type(predictor.cls_score) is (CosineLinear if cosine else nn.Linear)
    normed = recipe["MODEL.ROI_MASK_HEAD.NAME"] == "NormedMaskHead"
    assert isinstance(heads.mask_head.predictor, NormedConv2d) == normed
    optimizer = LongTailTrainer.build_optimizer(cfg, model)
    found = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    rate, decay = recipe["SOLVER.BASE_LR"], recipe["SOLVER.WEIGHT_DECAY"]
    norms = {p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert bool(norms) == recipe["MODEL.RESNETS.FIXED_STATISTICS"]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert found == {p: (rate, 0.0 if p in norms else decay) for p in trained}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stages = ("backbone.bottom_up.stem.", "backbone.bottom_up.res2.")
    assert frozen and all(name.startswith(stages) for name in frozen)


@pytest.mark.parametrize("variant", ["raw", *VARIANTS])
def test_the_weights_of_the_ablations_instance_rows(variant):
    cfg = ROWS[f"lvis_v1/mask_rcnn_R_50_FPN_1x_iif_{variant}_instances"].load()
    weights = build_method("IIF", config_frequency(cfg).resolve(), **method_options(cfg)).weight
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
