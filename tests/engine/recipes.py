"""The rows of docs/recipes.md, and what each is expected to be: by its heading and label, not by its command."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from iif_d2.commands.arguments import parse
from iif_d2.commands.train import add_arguments
from iif_d2.config import load_config

ROOT = Path(__file__).parents[2]
LEAVES = {
    str(path.relative_to(ROOT / "configs").with_suffix(""))
    for folder in ("LVISv1", "LVISv0.5", "COCO")
    for path in (ROOT / "configs" / f"{folder}-InstanceSegmentation").glob("*.yaml")
    if not path.name.startswith("Base-")
    and not path.is_symlink()  # a name of version 0.1.0, on which users' own configs stand
}
PAGE = (ROOT / "docs/recipes.md").read_text()

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
R50 = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
SECOND_STAGES = {
    f"{name}, second stage": R50.replace("1x", f"stage2_{name.lower()}")
    for name in ("DisAlign", "LogN")
}
# The setting that the newer rivals share.
NORMED = {
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    "MODEL.ROI_MASK_HEAD.NAME": "NormedMaskHead",
    "MODEL.ROI_MASK_HEAD.THRESH_TEST": 0.4,
}
# Under each heading the config of the rows, and what all of them have in its place. Where a config
# is left open, a row's label begins with the words for it, such as "Cascade R50 2x RFS, IIF".
TABLES = {
    "The poster's table": ("LVISv1-InstanceSegmentation/mask_rcnn_R_50_RSB_FPN_1x_rfs", {}),
    "The paper's final recipe": (
        "LVISv1-InstanceSegmentation/{model}_FPN_2x_rfs_iif_final_without_fasa",
        {},
    ),
    "Newer rivals": ("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_2x_rfs", NORMED),
    "Every method by one recipe": (R50, {}),
    "Step by step to the final recipe": ("LVISv1-InstanceSegmentation/{model}_FPN{rest}", {}),
    "LVIS v0.5": ("LVISv0.5-InstanceSegmentation/{model}_FPN_1x{rest}", {}),
    "COCO": ("COCO-InstanceSegmentation/{model}_FPN_1x{rest}", {}),
}
LABELS = dict(zip(("R50", "R101", "X101", "Cascade R50", "Cascade R101"), MODELS))
# What a label says of the method, and what it means.
VARIANTS = ("smooth", "rel", "normit", "gombit", "base2", "base10")
COSINE = {"MODEL.LONG_TAIL.CLASSIFIER": "cosine", "MODEL.LONG_TAIL.COSINE_SCALE": 8.0}
AT_TEST = {
    "IIF at test only": {**SOFTMAX_MODEL, "MODEL.LONG_TAIL.IIF.POST_HOC": True},
    "Logit adjustment at test only": {
        **SOFTMAX_MODEL,
        "MODEL.LONG_TAIL.METHOD": "LogitAdjustment",
        "MODEL.LONG_TAIL.LogitAdjustment.POST_HOC": True,
    },
    "NorCal on the softmax model": {**SOFTMAX_MODEL, "MODEL.LONG_TAIL.METHOD": "NorCal"},
}
METHODS = {
    "": {},  # the config says it
    **dict.fromkeys(SECOND_STAGES, {}),
    "IIF": {},
    "IIF, raw": {},
    **{f"IIF, {name}": {"MODEL.LONG_TAIL.IIF.VARIANT": name} for name in VARIANTS},
    **{
        f"IIF, {name}, instances": {
            "MODEL.LONG_TAIL.IIF.VARIANT": name,
            "MODEL.LONG_TAIL.IIF.STATISTIC": "instance",
        }
        for name in ("raw", *VARIANTS)
    },
    "IIF, cosine": COSINE,
    "IIF, cosine, normed mask": {**COSINE, "MODEL.ROI_MASK_HEAD.NAME": "NormedMaskHead"},
    **{
        name: {"MODEL.LONG_TAIL.METHOD": name}
        for name in ("Softmax", "Sigmoid", "DropLoss", "ECM", "EQL", "FedLoss", "GOL", "NorCal")
    },
    "EQL v2": {"MODEL.LONG_TAIL.METHOD": "EQLv2"},
    "Balanced softmax": {"MODEL.LONG_TAIL.METHOD": "BalancedSoftmax"},
    "LADE": {  # those of ImageNet-LT, the published set nearest in size
        "MODEL.LONG_TAIL.METHOD": "LADE",
        "MODEL.LONG_TAIL.LADE.ALPHA": 0.05,
        "MODEL.LONG_TAIL.LADE.LAM": 0.5,
    },
    "Logit adjustment": {"MODEL.LONG_TAIL.METHOD": "LogitAdjustment"},
    "Seesaw": {"MODEL.LONG_TAIL.METHOD": "Seesaw", "MODEL.LONG_TAIL.CLASSIFIER": "cosine"},
    **AT_TEST,
    "FRACAL": {
        "MODEL.LONG_TAIL.METHOD": "FRACAL",
        "MODEL.LONG_TAIL.CLASSIFIER": "cosine",
        "MODEL.LONG_TAIL.COSINE_SCALE": 20.0,
        "MODEL.LONG_TAIL.FRACAL.LAM": 2.0,
        "MODEL.LONG_TAIL.FRACAL.WITH_FREQUENCY": True,
    },
    "APA over GOL": {
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


def arguments(command: str) -> argparse.Namespace:
    """A command line as `iif-d2 train` and `iif-d2 eval` read it."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parse(parser, shlex.split(command.replace("\\\n", "")))


class Row:
    """A row of the page: its command, and what its heading and its label say it to be."""

    def __init__(self, heading: str, folder: str, cells: dict[str, str]) -> None:
        path = f"{folder}/{cells['config'].strip('`')}"
        self.command = f"--num-gpus 8 --config-file {path} {cells['add'].strip('`')}"
        iterations = cells.get("iterations")
        self.iterations = iterations and int(iterations.replace(",", ""))
        self.heading = heading
        config, self.setting = TABLES[heading]
        self.method = next(iter(cells.values()))
        if "{" in config:
            words, _, self.method = self.method.partition(", ")
            model, rest = re.fullmatch(r"((?:Cascade )?[RX]\d+)(.*)", words).groups()
            config = config.format(model=LABELS[model], rest=rest.lower().replace(" ", "_"))
        self.config = SECOND_STAGES.get(self.method, config)
        # The config's own, with the method behind it; that of a second stage names it already.
        data, _, name = self.config.partition("-InstanceSegmentation/")
        self.own_output = f"{OUTPUTS[data]}/{name}"
        self.output = "_".join([self.own_output, *re.findall(r"\w+", self.method.lower())])
        if self.method in SECOND_STAGES:
            self.output = self.own_output

    def expected(self) -> dict:
        """The recipe: the paper's, with what config, table and method have in its place."""
        return {**PAPER, **CONFIGS[self.config], **self.setting, **METHODS[self.method]}

    def load(self, *more: str):
        args = arguments(self.command)
        return load_config(args.config_file, [*args.opts, *more])


def read_rows(page: str) -> list[Row]:
    """The rows of the page's tables that have a config."""
    rows, heading, folder, names = [], "", "", None
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif found := re.match(r"Configs in `(\S+)/`\.", line):
            folder = found[1]
        if not line.startswith("|"):
            names = None
            continue
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if names is None:
            names = cells
        elif "config" in names and cells[0] != "---":
            rows.append(Row(heading, folder, dict(zip(names, cells, strict=True))))
    return rows


ROWS = {row.output.removeprefix("output/"): row for row in read_rows(PAGE)}
SOFTMAX = ROWS["lvis_v1/mask_rcnn_R_50_FPN_1x_softmax"]
# Every method by R50 1x, the rivals, and every config once, with the method that its last row has.
_LAST = {row.config: row for row in ROWS.values() if row.heading != "Newer rivals"}
DISTINCT = [
    pytest.param(row, id=name)
    for name, row in ROWS.items()
    if row.method not in AT_TEST
    and row.method not in SECOND_STAGES
    and (
        row is _LAST[row.config]
        or row.heading in ("Every method by one recipe", "Newer rivals")
        or "cosine" in row.method
    )
    and not row.method.endswith("instances")
]
