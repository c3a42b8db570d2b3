"""MODEL_ZOO.md's commands: each loads and says its recipe, and its model and optimizer are built at full width."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
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

ROOT = Path(__file__).parents[2]
LEAVES = {
    str(path.relative_to(ROOT / "configs").with_suffix(""))
    for folder in ("LVISv1", "LVISv0.5", "COCO")
    for path in (ROOT / "configs" / f"{folder}-InstanceSegmentation").glob("*.yaml")
    if not path.name.startswith("Base-")
    and not path.is_symlink()  # a name of version 0.1.0, on which users' own configs stand
}
# The last column of MODEL_ZOO.md's tables, and the column before it that is a number, if any.
ROWS = re.findall(
    r"^\| [^|]* \| (?:([\d,]+) \|)?.*`python train_net\.py (.*)` \|$",
    (ROOT / "MODEL_ZOO.md").read_text(),
    re.MULTILINE,
)

# The paper's R50 1x recipe on LVIS v1 (Alexandridis et al., TIP 2023).
PAPER = {
    "DATASETS.TRAIN": ("lvis_v1_train",),
    "DATASETS.TEST": ("lvis_v1_val",),
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 0.0,
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
    "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.FIXED_STATISTICS": False,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.ROI_HEADS.NAME": "LongTailROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 1203,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 1e-4,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NORMED_SCALE": 20.0,
    "MODEL.ROI_MASK_HEAD.THRESH_TEST": 0.5,
    "MODEL.LONG_TAIL.METHOD": "IIF",
    "MODEL.LONG_TAIL.CLASSIFIER": "linear",
    "MODEL.LONG_TAIL.COSINE_SCALE": 20.0,
    "MODEL.LONG_TAIL.FREQUENCY": "",
    "MODEL.LONG_TAIL.IIF.VARIANT": "raw",
    "MODEL.LONG_TAIL.IIF.STATISTIC": "image",
    "MODEL.LONG_TAIL.IIF.NORMALIZER": "images",
    "MODEL.LONG_TAIL.IIF.POST_HOC": False,
    "MODEL.LONG_TAIL.LogitAdjustment.POST_HOC": False,
    "MODEL.LONG_TAIL.EQL.THRESHOLD": 1.1e-3,
    "MODEL.LONG_TAIL.DropLoss.THRESHOLD": 1.1e-3,
    "MODEL.LONG_TAIL.LADE.ALPHA": 0.1,
    "MODEL.LONG_TAIL.LADE.LAM": 0.01,
    "SOLVER.REFERENCE_WORLD_SIZE": 8,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.WARMUP_FACTOR": 1e-3,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.MAX_ITER": 74556,
    "SOLVER.STEPS": (49704, 68343),
    "SOLVER.EPOCHS": 0,
    "SOLVER.AMP.ENABLED": False,
    "TEST.DETECTIONS_PER_IMAGE": 300,
}
# What the other configs have in its place.
TWICE = {"SOLVER.MAX_ITER": 149112, "SOLVER.STEPS": (99408, 136686)}
RFS = {
    "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 1e-3,
}
V1_RFS = {**RFS, "SOLVER.MAX_ITER": 92088, "SOLVER.STEPS": (61392, 84414)}
V1_TWICE_RFS = {**RFS, "SOLVER.MAX_ITER": 184176, "SOLVER.STEPS": (122784, 168828)}
RSB = {
    "MODEL.WEIGHTS": "weights/resnet50_a1_in1k_timm.pth",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.FIXED_STATISTICS": True,
    "MODEL.ROI_MASK_HEAD.THRESH_TEST": 0.4,
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": 2e-4,
    "SOLVER.WEIGHT_DECAY": 0.05,
}
FINAL = {
    **V1_TWICE_RFS,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    "MODEL.ROI_MASK_HEAD.NAME": "NormedMaskHead",
    "MODEL.LONG_TAIL.CLASSIFIER": "cosine",
    "MODEL.LONG_TAIL.COSINE_SCALE": 8.0,
    "MODEL.LONG_TAIL.IIF.VARIANT": "base10",
    "MODEL.LONG_TAIL.IIF.STATISTIC": "instance",
}
R101 = {"MODEL.WEIGHTS": "weights/resnet101_torchvision.pth", "MODEL.RESNETS.DEPTH": 101}
X101 = {
    "MODEL.WEIGHTS": "weights/resnext101_64x4d_torchvision.pth",
    "MODEL.RESNETS.DEPTH": 101,
    "MODEL.RESNETS.NUM_GROUPS": 64,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
}
CASCADE = {
    "MODEL.ROI_HEADS.NAME": "LongTailCascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
}
SOFTMAX_MODEL = {"MODEL.WEIGHTS": "output/lvis_v1/mask_rcnn_R_50_FPN_1x_softmax/model_final.pth"}
# Twelve epochs, counted on the data; the steps are after 8 and 11 of them.
V05 = {
    "DATASETS.TRAIN": ("lvis_v0.5_train",),
    "DATASETS.TEST": ("lvis_v0.5_val",),
    "MODEL.ROI_HEADS.NUM_CLASSES": 1230,
    "MODEL.LONG_TAIL.EQL.THRESHOLD": 1.76e-3,
    "MODEL.LONG_TAIL.DropLoss.THRESHOLD": 1.77e-3,
    "SOLVER.EPOCHS": 12,
}
COCO = {
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "SOLVER.EPOCHS": 12,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
MODELS = {
    "mask_rcnn_R_50": {},
    "mask_rcnn_R_101": R101,
    "mask_rcnn_X_101_64x4d": X101,
    "cascade_mask_rcnn_R_50": CASCADE,
    "cascade_mask_rcnn_R_101": {**CASCADE, **R101},
}
SCHEDULES = {
    "LVISv1-InstanceSegmentation/{}_FPN_1x": {},
    "LVISv1-InstanceSegmentation/{}_FPN_2x_rfs": V1_TWICE_RFS,
    "LVISv1-InstanceSegmentation/{}_FPN_2x_rfs_iif_final_without_fasa": FINAL,
    "LVISv0.5-InstanceSegmentation/{}_FPN_1x_rfs": {**V05, **RFS},
    "COCO-InstanceSegmentation/{}_FPN_1x": COCO,
}
CONFIGS = {
    schedule.format(model): {**values, **more}
    for schedule, values in SCHEDULES.items()
    for model, more in MODELS.items()
} | {
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_rfs": V1_RFS,
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_2x": TWICE,
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_RSB_FPN_1x_rfs": {**V1_RFS, **RSB},
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": V05,
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_stage2_disalign": {
        **SOFTMAX_MODEL,
        "MODEL.LONG_TAIL.METHOD": "DisAlign",
        "SOLVER.MAX_ITER": 9000,
        "SOLVER.STEPS": (),
    },
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_stage2_logn": {
        **SOFTMAX_MODEL,
        "MODEL.LONG_TAIL.METHOD": "LogN",
        "SOLVER.MAX_ITER": 6213,
        "SOLVER.STEPS": (),
    },
}
# What follows a config's name in that of its run, and what it means.
VARIANTS = ("smooth", "rel", "normit", "gombit", "base2", "base10")
COSINE = {"MODEL.LONG_TAIL.CLASSIFIER": "cosine", "MODEL.LONG_TAIL.COSINE_SCALE": 8.0}
# Of GOL's release, which FRACAL's and APA's rows have, too, but for CARAFE's upsampling.
NORMED = {
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    "MODEL.ROI_MASK_HEAD.NAME": "NormedMaskHead",
    "MODEL.ROI_MASK_HEAD.THRESH_TEST": 0.4,
}
METHODS = {
    "": {},
    "iif": {},
    **{f"iif_{name}": {"MODEL.LONG_TAIL.IIF.VARIANT": name} for name in VARIANTS},
    **{
        f"iif_{name}_instance": {
            "MODEL.LONG_TAIL.IIF.VARIANT": name,
            "MODEL.LONG_TAIL.IIF.STATISTIC": "instance",
        }
        for name in ("raw", *VARIANTS)
    },
    "iif_cosine": COSINE,
    "iif_cosine_normed_mask": {**COSINE, "MODEL.ROI_MASK_HEAD.NAME": "NormedMaskHead"},
    **{
        name.lower(): {"MODEL.LONG_TAIL.METHOD": name}
        for name in (
            "Softmax",
            "Sigmoid",
            "DropLoss",
            "ECM",
            "EQL",
            "EQLv2",
            "FedLoss",
            "GOL",
            "NorCal",
        )
    },
    "balanced_softmax": {"MODEL.LONG_TAIL.METHOD": "BalancedSoftmax"},
    "lade": {  # those of ImageNet-LT, the published set nearest in size
        "MODEL.LONG_TAIL.METHOD": "LADE",
        "MODEL.LONG_TAIL.LADE.ALPHA": 0.05,
        "MODEL.LONG_TAIL.LADE.LAM": 0.5,
    },
    "logit_adjustment": {"MODEL.LONG_TAIL.METHOD": "LogitAdjustment"},
    "seesaw": {"MODEL.LONG_TAIL.METHOD": "Seesaw", "MODEL.LONG_TAIL.CLASSIFIER": "cosine"},
    "post_hoc_iif": {**SOFTMAX_MODEL, "MODEL.LONG_TAIL.IIF.POST_HOC": True},
    "post_hoc_logit_adjustment": {
        **SOFTMAX_MODEL,
        "MODEL.LONG_TAIL.METHOD": "LogitAdjustment",
        "MODEL.LONG_TAIL.LogitAdjustment.POST_HOC": True,
    },
    "post_hoc_norcal": {**SOFTMAX_MODEL, "MODEL.LONG_TAIL.METHOD": "NorCal"},
    "fracal": {
        **NORMED,
        "MODEL.LONG_TAIL.METHOD": "FRACAL",
        "MODEL.LONG_TAIL.CLASSIFIER": "cosine",
        "MODEL.LONG_TAIL.COSINE_SCALE": 20.0,
        "MODEL.LONG_TAIL.FRACAL.LAM": 2.0,
        "MODEL.LONG_TAIL.FRACAL.WITH_FREQUENCY": True,
    },
    "gol_normed_mask": {**NORMED, "MODEL.LONG_TAIL.METHOD": "GOL"},
    "apa_normed_mask": {
        **NORMED,
        "MODEL.LONG_TAIL.METHOD": "APA",
        "MODEL.LONG_TAIL.APA.LAM": 0.01,  # next to the Gumbel, GOL
        "MODEL.LONG_TAIL.APA.LEARNT": True,
    },
}
OUTPUTS = {"LVISv1": "output/lvis_v1", "LVISv0.5": "output/lvis_v0.5", "COCO": "output/coco"}
# Classes of id 1, 2, 31 and 1079 of LVIS v1, 1 of v0.5, COCO's person; normalizer images.
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


class Run:
    """A row of MODEL_ZOO.md: its config's name, its overrides and its iterations, if it says them."""

    def __init__(self, iterations: str, command: str) -> None:
        words = shlex.split(command)
        place = words.index("--config-file")
        self.path, self.overrides = words[place + 1], words[place + 2 :]
        self.config = self.path.removeprefix("configs/").removesuffix(".yaml")
        self.evaluates_only = "--eval-only" in words
        self.iterations = int(iterations.replace(",", "")) if iterations else None
        given = dict(zip(self.overrides[::2], self.overrides[1::2]))
        folder, _, name = self.config.partition("/")
        self.output = given.get("OUTPUT_DIR", f"{OUTPUTS[folder.partition('-')[0]]}/{name}")
        self.method = self.output.rpartition("/")[2].removeprefix(name).removeprefix("_")

    def expected(self) -> dict:
        """The recipe: the paper's, with what the config and the method have in its place."""
        return {**PAPER, **CONFIGS[self.config], **METHODS[self.method]}

    def load(self, *more: str):
        return load_config(self.path, [*self.overrides, *more])


RUNS = {run.output.removeprefix("output/"): run for run in (Run(*row) for row in ROWS)}
# The newer rivals, by the recipe that they were published with.
_NORMED = (
    "MODEL.ROI_MASK_HEAD.NAME NormedMaskHead MODEL.ROI_HEADS.NMS_THRESH_TEST 0.3 "
    "MODEL.ROI_MASK_HEAD.THRESH_TEST 0.4 OUTPUT_DIR output/lvis_v1/mask_rcnn_R_50_FPN_2x_rfs"
)
RIVALS = {
    run.output.removeprefix("output/"): run
    for run in (
        Run(
            "184,176",
            "--num-gpus 8 --config-file "
            "configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_2x_rfs.yaml "
            f"MODEL.LONG_TAIL.METHOD {words} {_NORMED}_{name}",
        )
        for name, words in (
            ("fracal", "FRACAL MODEL.LONG_TAIL.CLASSIFIER cosine"),
            ("gol_normed_mask", "GOL"),
            ("apa_normed_mask", "APA MODEL.LONG_TAIL.APA.LAM 0.01"),
        )
    )
}
R50 = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
# Every method by R50 1x, and every config once, with the method that its last row has.
_LAST = {run.config: run for run in RUNS.values() if run.config in CONFIGS}
DISTINCT = [
    pytest.param(run, id=name)
    for name, run in RUNS.items()
    if not run.evaluates_only
    and "_stage2_" not in name
    and (run is _LAST[run.config] or run.config == R50 or "cosine" in run.method)
    and not run.method.endswith("_instance")
]


def test_every_config_has_its_row():
    assert {run.config for run in RUNS.values()} == LEAVES == set(CONFIGS)
    assert len(RUNS) == len(ROWS) == 89  # no two share their OUTPUT_DIR
    for leaf in LEAVES:
        assert len((ROOT / f"configs/{leaf}.yaml").read_text().splitlines()) <= 15, leaf


@pytest.mark.parametrize(
    "run", [pytest.param(run, id=name) for name, run in (RUNS | RIVALS).items()]
)
def test_every_command_says_its_recipe(run):
    cfg = run.load()
    expected = run.expected() | {"OUTPUT_DIR": run.output}
    found = {}
    for key in expected:
        node = cfg
        for part in key.split("."):
            node = node[part]
        found[key] = node
    assert found == expected
    if run.iterations is not None:
        assert run.iterations == (0 if run.evaluates_only else cfg.SOLVER.MAX_ITER)


def test_methods_are_compared_on_one_recipe():
    """Nothing but the method differs, and what its paper couples with it."""
    control, methods = RUNS["lvis_v1/mask_rcnn_R_50_FPN_1x_softmax"].load(), set()
    for run in RUNS.values():
        if run.config == R50 and not run.evaluates_only:
            cfg = run.load()
            methods.add(cfg.MODEL.LONG_TAIL.METHOD)
            cfg.defrost()
            cfg.MODEL.LONG_TAIL, cfg.OUTPUT_DIR = control.MODEL.LONG_TAIL, control.OUTPUT_DIR
            assert cfg == control, run.output
    assert len(methods) == 14  # without second stages and those of classification


@pytest.mark.parametrize("run", DISTINCT)
def test_the_full_model_and_its_optimizer(run):
    """At full width, on the meta device: what each parameter's rate and decay are."""
    recipe, cfg = run.expected(), run.load("MODEL.DEVICE", "meta")
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
        more = 2 if run.method == "seesaw" else 1
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
    cfg = RUNS[f"lvis_v1/mask_rcnn_R_50_FPN_1x_iif_{variant}_instance"].load()
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
