"""Each recipe of docs/recipes.md, narrowed, trains two steps and evaluates on its own data set's format."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.modeling import build_model
from torch import nn

from iif_d2.engine import LongTailTrainer
from iif_d2.methods import LongTailMethod

from .recipe_data import small_data
from .recipes import AT_TEST, DISTINCT, R50, REFERENCE, ROWS, SOFTMAX

IMAGE_COUNT_SUMS = {"lvis_v1": 360_952, "lvis_v0.5": 201_417, "coco_2017": 342_996}

# Widths only: depth, groups, norms, heads, classes and solver are the recipe's own.
NARROW = [
    "MODEL.WEIGHTS", "",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "1",
    "MODEL.FPN.OUT_CHANNELS", "8",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "8",
    "MODEL.ROI_MASK_HEAD.CONV_DIM", "4",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "10",
    "INPUT.MIN_SIZE_TRAIN", "(64,)",
    "INPUT.MIN_SIZE_TEST", "64",
    "TEST.DETECTIONS_PER_IMAGE", "5",
    "DATALOADER.NUM_WORKERS", "0",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    """The three data sets under their own names, small."""
    # oneDNN compiles a kernel for every shape, which takes longer than all else here.
    with torch.backends.mkldnn.flags(enabled=False):
        yield from small_data(tmp_path_factory.mktemp("datasets"))


@pytest.mark.parametrize("row", DISTINCT)
def test_two_steps_and_an_evaluation(row, tmp_path):
    recipe = row.expected()
    cfg = row.load(*NARROW, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path))
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    for name, module in trainer.model.named_modules():
        if name.endswith("conv3.norm"):  # without pretrained statistics 33 residuals would explode
            nn.init.constant_(module.weight.data, 0.1)
    trainer.resume_or_load(resume=False)
    check_schedule(trainer.cfg, recipe)
    sampler = {c.__name__: c for c in (RepeatFactorTrainingSampler, TrainingSampler)}
    assert type(trainer.data_loader.sampler) is sampler[recipe["DATALOADER.SAMPLER_TRAIN"]]
    check_weights(trainer.model, recipe)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    statistics = {n: b.clone() for n, b in trainer.model.named_buffers() if "running" in n}

    trainer.max_iter = 2
    trainer.train()

    assert trainer.iter == 2
    after = dict(trainer.model.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    moved = {name for name, p in after.items() if not torch.equal(p, before[name])}
    for part in ("cls_score.weight", "bbox_pred", "mask_head.predictor.weight", "fpn_lateral5"):
        assert any(part in name for name in moved), part
    assert any(".norm." in name for name in moved) == recipe["MODEL.RESNETS.FIXED_STATISTICS"]
    for name, buffer in trainer.model.named_buffers():
        assert name not in statistics or torch.equal(buffer, statistics[name]), name
    results = json.loads((tmp_path / "inference" / "results.json").read_text())
    for task in ("bbox", "segm"):
        assert {"AP", "APf"} <= results[cfg.DATASETS.TEST[0]][task].keys()
        assert math.isfinite(results[cfg.DATASETS.TEST[0]][task]["AP"])


def check_schedule(cfg, recipe):
    """One process where the recipe is for eight GPUs: an eighth of the batch and of the rate."""
    solver = cfg.SOLVER
    assert solver.IMS_PER_BATCH == 2
    assert solver.BASE_LR == pytest.approx(recipe["SOLVER.BASE_LR"] / 8)
    assert solver.CHECKPOINT_PERIOD == 40000
    if not recipe["SOLVER.EPOCHS"]:
        assert solver.WARMUP_ITERS == 4000
        assert solver.MAX_ITER == 8 * recipe["SOLVER.MAX_ITER"]
        assert solver.STEPS == tuple(8 * step for step in recipe["SOLVER.STEPS"])
    else:  # twelve epochs of six images
        assert (solver.MAX_ITER, solver.STEPS) == (36, (24, 33))
        assert solver.WARMUP_ITERS == 3  # a tenth at most


def check_weights(model, recipe):
    methods = [m for m in model.modules() if isinstance(m, LongTailMethod)]
    cascade = recipe["MODEL.ROI_HEADS.NAME"] == "LongTailCascadeROIHeads"
    assert len(methods) == (3 if cascade else 1)
    data = recipe["DATASETS.TRAIN"][0].removesuffix("_train")
    for method in methods:
        if method.uses_frequency:
            assert method.image_count.sum().item() == IMAGE_COUNT_SUMS[data]
        if recipe["MODEL.LONG_TAIL.METHOD"] == "IIF":
            variant = recipe["MODEL.LONG_TAIL.IIF.VARIANT"]
            for index, weight in REFERENCE[
                data, variant, recipe["MODEL.LONG_TAIL.IIF.STATISTIC"]
            ].items():
                assert method.weight[index].item() == pytest.approx(weight, abs=6e-6)
            assert method.weight[-1].item() == 1.0


@pytest.mark.parametrize("method", AT_TEST)
def test_a_post_hoc_method_is_the_softmax_model_with_other_scores(method):
    softmax = SOFTMAX.load().clone()
    [row] = [row for row in ROWS.values() if row.method == method]
    assert row.config == R50
    cfg = row.load().clone()
    assert cfg.MODEL.WEIGHTS == f"{SOFTMAX.output}/model_final.pth"
    layer = build_model(row.load(*NARROW, "MODEL.DEVICE", "cpu")).roi_heads.box_predictor.method
    logits, labels = torch.randn(6, 1204), torch.tensor([0, 3, 1203, 1202, 7, 7])
    assert torch.equal(layer.loss(logits, labels), F.cross_entropy(logits, labels))
    assert not torch.equal(layer.probabilities(logits), logits.softmax(dim=1))
    for node in (softmax, cfg):
        node.defrost()
        node.MODEL.WEIGHTS = node.OUTPUT_DIR = node.MODEL.LONG_TAIL = ""
    assert cfg == softmax


@pytest.mark.parametrize("method", ["disalign", "logn"])
def test_a_second_stage_stands_on_the_softmax_model(method, tmp_path):
    row = ROWS[f"lvis_v1/mask_rcnn_R_50_FPN_stage2_{method}"]
    assert row.load().MODEL.WEIGHTS == f"{SOFTMAX.output}/model_final.pth"
    options = [*NARROW, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    first = build_model(SOFTMAX.load(*options)).state_dict()
    torch.save({"model": first}, tmp_path / "softmax.pth")
    # Without warm-up: its first rates are too small for a float32 alpha of 1 to move.
    weights = ["MODEL.WEIGHTS", str(tmp_path / "softmax.pth"), "SOLVER.WARMUP_ITERS", "0"]
    trainer = LongTailTrainer(row.load(*options, *weights))
    trainer.resume_or_load(resume=False)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.max_iter = 2
    trainer.train()
    for name, p in trainer.model.named_parameters():
        assert ".method." in name or torch.equal(p, before[name]), name
    state = trainer.model.roi_heads.box_predictor.method.state_dict()
    moved = not torch.equal(state["alpha"], torch.ones(1203)) if method == "disalign" else (
        int(state["num_observed"]) > 0
    )  # fmt: skip
    assert moved
