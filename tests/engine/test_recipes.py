"""Every LVIS and COCO config: the recipe field by field, the full model, and two steps of a narrow one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.modeling import build_model
from torch import nn

from iif_d2.config import load_config, method_options
from iif_d2.data import config_frequency
from iif_d2.engine import LongTailTrainer
from iif_d2.methods import METHOD_REGISTRY, LongTailMethod, build_method
from iif_d2.modeling import CosineLinear, NormedConv2d

from .recipe_data import small_data

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "LVISv1-InstanceSegmentation": ("lvis_v1", 1203),
    "LVISv0.5-InstanceSegmentation": ("lvis_v0.5", 1230),
    "COCO-InstanceSegmentation": ("coco_2017", 80),
}
RECIPES = sorted(
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / "configs" / folder).glob("*.yaml")
    if not path.name.startswith("Base-") and "_stage2_" not in path.name
)
METHODS = {
    name.lower(): name for name, method in METHOD_REGISTRY if method.supports_background
} | {"balanced_softmax": "BalancedSoftmax", "logit_adjustment": "LogitAdjustment"}  # fmt: skip
VARIANTS = ("smooth", "rel", "normit", "gombit", "base2", "base10")
# METHODS.md, normalizer images: LVIS v1 classes of id 1, 2, 31 and 1079, v0.5's id 1, COCO's person.
REFERENCE = {
    ("lvis_v1", "raw", "image"): {0: 7.35574, 1: 5.61747, 30: 11.51462, 1078: 3.92529},
    ("lvis_v1", "smooth", "image"): {0: 8.34025, 1: 6.61474, 30: 11.82149, 1078: 4.92479},
    ("lvis_v1", "rel", "image"): {0: 7.35510, 1: 5.61383, 30: 11.51461, 1078: 3.90535},
    ("lvis_v1", "normit", "image"): {0: 3.22091, 1: 2.68432, 30: 4.26527, 1078: 2.05922},
    ("lvis_v1", "gombit", "image"): {0: 7.35542, 1: 5.61565, 30: 11.51462, 1078: 3.91534},
    ("lvis_v1", "base2", "image"): {0: 10.61209, 1: 8.10430, 30: 16.61209, 1078: 5.66299},
    ("lvis_v1", "base10", "image"): {0: 3.19456, 1: 2.43964, 30: 5.00074, 1078: 1.70473},
    ("lvis_v1", "raw", "instance"): {0: 9.36329, 1: 7.06900, 30: 12.95603, 1078: 6.03667},
    ("lvis_v1", "base10", "instance"): {0: 4.06643, 1: 3.07003, 30: 5.62673, 1078: 2.62169},
    ("lvis_v0.5", "raw", "image"): {0: 10.26226},
    ("coco_2017", "raw", "image"): {0: 0.61244},
}
IMAGE_COUNT_SUMS = {"lvis_v1": 360_952, "lvis_v0.5": 201_417, "coco_2017": 342_996}


def expected(path: str) -> dict:
    """What METHODS.md's recipe says about the config that has this name."""
    name = Path(path).stem
    data, num_classes = FOLDERS[Path(path).parent.name]
    coco, rfs, rsb = data == "coco_2017", "_rfs_" in name, "_RSB_" in name
    final, twice = name.endswith("_final_without_fasa"), "_2x_" in name
    x101 = "X_101_64x4d" in name
    cascade = name.startswith("cascade_")
    method = name.split("_rfs_" if rfs else "_2x_" if twice else "_1x_")[1]
    variant = "base10" if final else method.removeprefix("iif_") if method[4:] in VARIANTS else "raw"
    cosine = {"seesaw": 20.0}.get(method, 8.0 if final or "_cosine" in name else None)
    # iterations of the paper; the other data sets take 12 epochs, with steps after 8 and 11
    iterations = {
        (False, False): (74556, (49704, 68343)), (False, True): (149112, (99408, 136686)),
        (True, False): (92088, (61392, 84414)), (True, True): (184176, (122784, 168828)),
    }[rfs and data == "lvis_v1", twice]  # fmt: skip
    if "_R_50_" in name:
        weights = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    else:
        weights = f"weights/{'resnext101_64x4d' if x101 else 'resnet101'}_torchvision.pth"
    return {
        "DATASETS.TRAIN": (f"{data}_train",),
        "DATASETS.TEST": (f"{data}_val",),
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler" if rfs else "TrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 1e-3 if rfs else 0.0,
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
        "INPUT.FORMAT": "RGB",
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
        "INPUT.MAX_SIZE_TRAIN": 1333,
        "INPUT.MIN_SIZE_TEST": 800,
        "INPUT.MAX_SIZE_TEST": 1333,
        "INPUT.RANDOM_FLIP": "horizontal",
        "MODEL.MASK_ON": True,
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        "MODEL.WEIGHTS": "weights/resnet50_a1_in1k_timm.pth" if rsb else weights,
        "MODEL.RESNETS.DEPTH": 50 if "_R_50_" in name else 101,
        "MODEL.RESNETS.NUM_GROUPS": 64 if x101 else 1,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 4 if x101 else 64,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.NORM": "BN" if rsb else "FrozenBN",
        "MODEL.RESNETS.FIXED_STATISTICS": rsb,
        "MODEL.ROI_HEADS.NAME": "LongTailCascadeROIHeads" if cascade else "LongTailROIHeads",
        "MODEL.ROI_HEADS.NUM_CLASSES": num_classes,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05 if coco else 1e-4,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3 if final else 0.5,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": cascade,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
        "MODEL.ROI_MASK_HEAD.NAME": (
            "NormedMaskHead" if final or "_normed_mask" in name else "MaskRCNNConvUpsampleHead"
        ),
        "MODEL.ROI_MASK_HEAD.NORMED_SCALE": 20.0,
        "MODEL.ROI_MASK_HEAD.THRESH_TEST": 0.4 if rsb else 0.5,
        "MODEL.LONG_TAIL.METHOD": METHODS.get(method, "IIF"),
        "MODEL.LONG_TAIL.CLASSIFIER": "cosine" if cosine else "linear",
        "MODEL.LONG_TAIL.COSINE_SCALE": cosine or 20.0,
        "MODEL.LONG_TAIL.FREQUENCY": "",
        "MODEL.LONG_TAIL.IIF.VARIANT": variant,
        "MODEL.LONG_TAIL.IIF.STATISTIC": "instance" if final else "image",
        "MODEL.LONG_TAIL.IIF.NORMALIZER": "images",
        "MODEL.LONG_TAIL.IIF.POST_HOC": False,
        "MODEL.LONG_TAIL.EQL.THRESHOLD": 1.76e-3 if data == "lvis_v0.5" else 1.1e-3,
        "MODEL.LONG_TAIL.DropLoss.THRESHOLD": 1.77e-3 if data == "lvis_v0.5" else 1.1e-3,
        "SOLVER.REFERENCE_WORLD_SIZE": 8,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.OPTIMIZER": "ADAMW" if rsb else "SGD",
        "SOLVER.BASE_LR": 2e-4 if rsb else 0.02,
        "SOLVER.MOMENTUM": 0.9,
        "SOLVER.WEIGHT_DECAY": 0.05 if rsb else 1e-4,
        "SOLVER.WEIGHT_DECAY_NORM": 0.0,
        "SOLVER.WARMUP_ITERS": 500,
        "SOLVER.WARMUP_FACTOR": 1e-3,
        "SOLVER.GAMMA": 0.1,
        "SOLVER.MAX_ITER": iterations[0],
        "SOLVER.STEPS": iterations[1],
        "SOLVER.EPOCHS": 0 if data == "lvis_v1" else 12,
        "SOLVER.AMP.ENABLED": False,
        "TEST.DETECTIONS_PER_IMAGE": 100 if coco else 300,
        "OUTPUT_DIR": f"output/{data.removesuffix('_2017')}/{name}",
    }


@pytest.mark.parametrize("path", RECIPES)
def test_the_recipe_field_by_field(path):
    cfg = load_config(path)
    found = {}
    for key, value in expected(path).items():
        node = cfg
        for part in key.split("."):
            node = node[part]
        found[key] = node
    assert found == expected(path)
    assert len((ROOT / path).read_text().splitlines()) <= 15


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


def sampler_of(loader):
    """The sampler under the data sets and loaders that Detectron2 wraps around it."""
    while not isinstance(getattr(loader, "sampler", None), torch.utils.data.Sampler) or isinstance(
        loader, torch.utils.data.DataLoader
    ):
        loader = loader.dataset
    return loader.sampler


@pytest.mark.parametrize("path", RECIPES)
def test_two_steps_and_an_evaluation(path, tmp_path):
    cfg = load_config(path, [*NARROW, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    for name, module in trainer.model.named_modules():
        if name.endswith("conv3.norm"):  # without pretrained statistics 33 residuals would explode
            nn.init.constant_(module.weight.data, 0.1)
    trainer.resume_or_load(resume=False)
    check_schedule(trainer.cfg, path)
    sampler = RepeatFactorTrainingSampler if "_rfs_" in path else TrainingSampler
    assert type(sampler_of(trainer.data_loader)) is sampler
    check_weights(trainer.model, path)
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
    assert any(".norm." in name for name in moved) == ("_RSB_" in path)
    for name, buffer in trainer.model.named_buffers():
        assert name not in statistics or torch.equal(buffer, statistics[name]), name
    results = json.loads((tmp_path / "inference" / "results.json").read_text())
    for task in ("bbox", "segm"):
        assert {"AP", "APf"} <= results[cfg.DATASETS.TEST[0]][task].keys()
        assert math.isfinite(results[cfg.DATASETS.TEST[0]][task]["AP"])


def check_schedule(cfg, path):
    """One process where the recipe is for eight GPUs: an eighth of the batch and of the rate."""
    solver = cfg.SOLVER
    assert solver.IMS_PER_BATCH == 2
    assert solver.BASE_LR == pytest.approx((2e-4 if "_RSB_" in path else 0.02) / 8)
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD) == (4000, 40000)
    if "LVISv1" in path:
        recipe = expected(path)
        assert solver.MAX_ITER == 8 * recipe["SOLVER.MAX_ITER"]
        assert solver.STEPS == tuple(8 * step for step in recipe["SOLVER.STEPS"])
    else:  # twelve epochs of six images
        assert (solver.MAX_ITER, solver.STEPS) == (36, (24, 33))


def check_weights(model, path):
    methods = [m for m in model.modules() if isinstance(m, LongTailMethod)]
    assert len(methods) == (3 if "cascade" in path else 1)
    recipe = expected(path)
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


@pytest.mark.parametrize("method", ["disalign", "logn"])
def test_a_second_stage_stands_on_the_softmax_leafs_model(method, tmp_path):
    folder = "configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN"
    softmax = load_config(f"{folder}_1x_softmax.yaml")
    cfg = load_config(f"{folder}_stage2_{method}.yaml")
    assert cfg.MODEL.WEIGHTS == f"{softmax.OUTPUT_DIR}/model_final.pth"
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == (0.02, ())
    assert cfg.SOLVER.MAX_ITER == {"disalign": 9000, "logn": 6213}[method]
    options = [*NARROW, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    first = load_config(f"{folder}_1x_softmax.yaml", options)
    torch.save({"model": build_model(first).state_dict()}, tmp_path / "softmax.pth")
    weights = ["MODEL.WEIGHTS", str(tmp_path / "softmax.pth")]
    trainer = LongTailTrainer(load_config(f"{folder}_stage2_{method}.yaml", [*options, *weights]))
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
