"""Every config key of the classification project, with its meaning, range and source."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fvcore.common.config import CfgNode as CN

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.files.untrusted import check_yaml

from .methods_config import add_method_config


def default_config() -> CN:
    """The defaults: CIFAR100-LT by the recipe of the IIF paper, without any rebalancing."""
    cfg = CN()

    # Where log, checkpoints, TensorBoard events and results.json go.
    cfg.OUTPUT_DIR = "output/classification"
    # Seeds initial weights, the order of images, augmentation and mixup. >= 0.
    cfg.SEED = 0

    _add_data(cfg)
    _add_model(cfg)
    _add_solver(cfg)
    add_method_config(cfg)

    # Two-stage training. A config of the representation stage, relative to the file that names it:
    # it is trained first, in OUTPUT_DIR/stage1, unless MODEL.WEIGHTS names a model. Empty: one
    # stage.
    cfg.STAGE1 = CN()
    cfg.STAGE1.CONFIG = ""
    # KEY VALUE pairs for that stage. DATA, SEED and SOLVER.AMP are this config's own in any case.
    cfg.STAGE1.OPTIONS = []
    return cfg


def _add_data(cfg: CN) -> None:
    _C = cfg.DATA = CN()
    # "cifar10" or "cifar100" (torchvision's files under ROOT), "folder"
    # (ROOT/TRAIN/<class>/<image>) or "list" (text files of "path label" lines, the public form of
    # ImageNet-LT, Places-LT, iNat18).
    _C.SOURCE = "cifar100"
    # Folder of the images; paths in lists are relative to it.
    _C.ROOT = "datasets/cifar"
    # Let torchvision download CIFAR into ROOT.
    _C.DOWNLOAD = False
    # Sub-folders of ROOT, or list files (relative to the working directory or to ROOT). VAL: where
    # a model is chosen; empty if there is none, "holdout" to set VAL_FRACTION of training aside.
    _C.TRAIN = "train"
    _C.VAL = ""
    _C.TEST = "test"
    # Part of each class's training images that "holdout" takes, 0-1, at least 1 where a class has
    # 2.
    _C.VAL_FRACTION = 0.1
    # Long-tail profile cut from the training images: "as_is" (no cut), "exponential" (n_max *
    # IMBALANCE^(-i/(C-1)), Cui et al. 2019) or "step" (half the classes n_max / IMBALANCE).
    _C.PROFILE = "exponential"
    # Largest over smallest class, >= 1.
    _C.IMBALANCE = 100.0
    # Decides which images a cut keeps and which "holdout" takes; apart from SEED, so that runs of
    # several seeds train on the same images.
    _C.SPLIT_SEED = 0
    # Published counts that training, validation and test must have: "cifar100_lt", "cifar10_lt"
    # (by IMBALANCE), "imagenet_lt", "places_lt", "inaturalist18". Empty: no check.
    _C.CHECK = ""
    # Side of the square input in pixels.
    _C.IMAGE_SIZE = 32
    # Decode every image once and augment whole batches (small images), instead of reading each
    # image from disk each epoch in WORKERS processes (>= 0).
    _C.IN_MEMORY = True
    _C.WORKERS = 2
    # Per-channel mean and standard deviation of pixels in [0, 1]. Defaults: CIFAR's of the LDAM
    # release.
    _C.MEAN = [0.4914, 0.4822, 0.4465]
    _C.STD = [0.2023, 0.1994, 0.2010]
    # Random crop: zeros padded on each side in memory; the least area, 0-1, of RandomResizedCrop
    # else.
    _C.CROP_PADDING = 4
    _C.CROP_SCALE = 0.08
    # Short side before the test's central crop of IMAGE_SIZE; unused in memory.
    _C.TEST_RESIZE = 256
    # Mirror half of the images.
    _C.FLIP = True
    # torchvision's AutoAugment policy: "cifar10", "imagenet", "svhn" or empty (Cubuk et al., 2019).
    _C.AUTOAUGMENT = "cifar10"
    # Side of Cutout's black square in pixels, 0 for none (DeVries and Taylor, 2017). In memory
    # only.
    _C.CUTOUT = 16


def _add_model(cfg: CN) -> None:
    _C = cfg.MODEL = CN()
    # resnet32, se_resnet32 (CIFAR, 32 pixels; resnet8, se_resnet8 for trials); resnet50,
    # se_resnet50, resnet152, se_resnet152, resnext50, se_resnext50 (32x4d).
    _C.BACKBONE = "se_resnet32"
    # "linear"; "cosine": COSINE_SCALE * w/|w| . x/(1+|x|); "learnt_cosine": its scale is s^2,
    # s learnt from the root of COSINE_SCALE; "normed": COSINE_SCALE * w/|w| . x/|x| (LDAM, RIDE).
    _C.CLASSIFIER = "cosine"
    # > 0. 16: the IIF paper's recipe; 30: LDAM's and RIDE's.
    _C.COSINE_SCALE = 16.0
    # Experts that share the backbone's first stages (RIDE, Wang et al. 2021), >= 1; 1 is the plain
    # model. More than one needs a ResNet whose last two stages are made anew, at REDUCED_WIDTH of
    # their width.
    _C.EXPERTS = 1
    _C.REDUCED_WIDTH = 0.75
    # A model this code wrote: start from it, or what --eval-only tests.
    _C.WEIGHTS = ""
    # Take only the backbone of WEIGHTS and start the classifier anew.
    _C.REINIT_HEAD = False
    # "", "stages" (the backbone's last stage, of CIFAR's ResNets the last two, the classifier and
    # the method train: Places-LT), "backbone" (the classifier and the method train) or "model" (the
    # method alone: DisAlign).
    # The frozen part's BatchNorm stays in train mode, as in the paper's recipe: it normalises by
    # the batch, and its running statistics go on moving.
    _C.FREEZE = ""
    # Freeze those too: the frozen part runs as at test.
    _C.FREEZE_BN = False
    # NHWC memory format; the faster one on CPUs and on GPUs with tensor cores.
    _C.CHANNELS_LAST = True
    # torch.compile the backbone; pays from some thousand steps of one shape on.
    _C.COMPILE = False


def _add_solver(cfg: CN) -> None:
    _C = cfg.SOLVER = CN()
    # Passes of the training images, >= 1; 400 in the IIF paper.
    _C.EPOCHS = 400
    # Images of one step, over all ranks; the last, smaller batch of an epoch is dropped.
    _C.BATCH_SIZE = 64
    # SGD of torch, by the IIF release: the rate that SCHEDULE starts from (> 0), momentum in
    # [0, 1), Nesterov's form of it, and weight decay (>= 0), of all parameters.
    _C.LR = 0.1
    _C.MOMENTUM = 0.9
    _C.NESTEROV = False
    _C.WEIGHT_DECAY = 1e-4
    # "step": times GAMMA at each of STEPS, parts of EPOCHS in (0, 1), so that a shorter schedule
    # keeps its shape; "cosine": to 0 at the end; "constant".
    _C.SCHEDULE = "step"
    _C.STEPS = [0.9, 0.95]
    _C.GAMMA = 0.01
    # Epochs of linear warm-up, >= 0.
    _C.WARMUP_EPOCHS = 1.0
    # Beta(MIXUP, MIXUP) of mixup (Zhang et al., 2018); 0 for none.
    _C.MIXUP = 0.2
    # Autocast: "" (float32), "bf16" or "fp16" (with loss scaling, GPUs only).
    _C.AMP = ""
    # Epochs between validations, where there is a validation set.
    _C.VAL_PERIOD = 1
    # Steps between two checkpoints inside an epoch, 0: at the end of epochs only.
    _C.CHECKPOINT_STEPS = 0
    # Epochs between two checkpoints.
    _C.CHECKPOINT_EPOCHS = 1
    # Steps between two entries of the log and of TensorBoard.
    _C.LOG_STEPS = 100
    # Images of a test batch, per rank.
    _C.TEST_BATCH_SIZE = 500


def load_config(path: str, options: Sequence[str] = ()) -> CN:
    """Defaults, then the yaml (chained by _BASE_), then KEY VALUE pairs.

    `STAGE1.CONFIG` comes back as a path from the working directory.

    Raises:
        ConfigError: the file or a key does not exist, or a value is of another type.
    """
    cfg = default_config()
    if path and not os.path.isfile(path):
        raise ConfigError(f"there is no config file {path}; paths are relative to {os.getcwd()}")
    try:
        if path:
            check_yaml(path, cfg)
            cfg.merge_from_file(path)
            beside = os.path.join(os.path.dirname(path), cfg.STAGE1.CONFIG)
            if cfg.STAGE1.CONFIG and os.path.isfile(beside):
                cfg.STAGE1.CONFIG = beside
        cfg.merge_from_list(_whole_numbers_as_floats(cfg, list(options)))
    except KeyError as error:
        raise ConfigError(f"{path or 'the options'}: {error.args[0]}; see config.py") from None
    except (AssertionError, ValueError, FileNotFoundError) as error:
        raise ConfigError(f"{path} with options {list(options)}: {error}") from None
    return cfg


def _whole_numbers_as_floats(cfg: CN, options: list) -> list:
    """`SOLVER.LR 1` means 1.0: yacs refuses a whole number where the default is a fraction."""
    for index in range(0, len(options) - 1, 2):
        node = cfg
        for part in options[index].split("."):
            node = node.get(part) if isinstance(node, dict) else None
        value = options[index + 1]
        if isinstance(node, float) and str(value).lstrip("+-").isdecimal():
            options[index + 1] = float(value)
    return options


def choose(kind: str, name: str, known: dict):
    """`known[name]`, or the error that lists the known names.

    Raises:
        UnknownNameError: it is none of them.
    """
    if name not in known:
        raise UnknownNameError.of(kind, name, sorted(known))
    return known[name]
