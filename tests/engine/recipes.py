"""The recipe table of METHODS.md, by what a config's name says; nothing here reads a config."""

from __future__ import annotations

from pathlib import Path

from iif_d2.methods import METHOD_REGISTRY

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
    if not path.name.startswith("Base-")
    and "_stage2_" not in path.name
    and "_post_hoc_" not in path.name
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
    variant = (
        "base10" if final else method.removeprefix("iif_") if method[4:] in VARIANTS else "raw"
    )
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
