"""Every config key this package adds to Detectron2's, with its meaning, range and source."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from .errors import ConfigError
from .files.yaml_files import check_yaml

logger = logging.getLogger(__name__)


def add_iif_config(cfg: CN) -> None:
    """Add the keys of `MODEL.LONG_TAIL` and the few others below to a Detectron2 config.

    The data sets and ROI heads that a config may then name are registered, too.
    """
    from . import data, modeling  # noqa: F401  for what they register

    _C = cfg.MODEL.LONG_TAIL = CN()

    # The method of the box classifier: a key of iif_d2.methods.METHOD_REGISTRY. "Softmax" is
    # Detectron2's own behaviour, for the control. Its options are in the node of the same name.
    _C.METHOD = "IIF"

    # The box classifier: "linear", or "cosine" for scale * cos(weight, feature) + bias.
    _C.CLASSIFIER = "linear"
    # Scale (tau) of the cosine classifier, > 0. 20: Seesaw (Wang et al., CVPR 2021); IIF's final
    # recipes use 8.
    _C.COSINE_SCALE = 20.0

    # Where class frequencies come from: a registered data set, an annotation json, or a file that
    # `ClassFrequency.save` wrote. Empty: the sum over DATASETS.TRAIN.
    _C.FREQUENCY = ""

    # IIF (Alexandridis et al.): foreground logits times -log p_c.
    _C.IIF = CN()
    # raw, smooth, rel, normit, gombit, base2, base10 (the paper's ablation); raw is Eq. 3.
    _C.IIF.VARIANT = "raw"
    # Count "image"s that hold the class (Eq. 1) or "instance"s of it.
    _C.IIF.STATISTIC = "image"
    # p_c = n_c / "sum" of n (Eq. 2), or n_c / number of training "images" (released weights).
    _C.IIF.NORMALIZER = "sum"
    # Apply the factor at test only, over a model trained with Softmax.
    _C.IIF.POST_HOC = False
    # Exponent of the factor, in [0, 1]: 0 is softmax, 1 the paper's. `python -m iif_d2 sweep`.
    _C.IIF.STRENGTH = 1.0

    _add_peer_options(_C)

    # Pixels of at least this probability are in a predicted mask, in [0, 1]. Detectron2 has 0.5 in
    # its code, and a folded model there keeps that; IIF's RSB recipe has 0.4.
    cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST = 0.5
    # Scale (tau) of the normed mask predictor, > 0, where MODEL.ROI_MASK_HEAD.NAME is
    # "NormedMaskHead". 20: Seesaw (Wang et al., CVPR 2021) and IIF's final recipes.
    cfg.MODEL.ROI_MASK_HEAD.NORMED_SCALE = 20.0

    # Batch norm of the ResNet keeps the statistics that came with MODEL.WEIGHTS, since two images
    # on a GPU estimate them badly, while its scale and shift learn. Needs MODEL.RESNETS.NORM "BN";
    # with "FrozenBN" neither learns.
    cfg.MODEL.RESNETS.FIXED_STATISTICS = False

    # Also write inference/<data set>/lvis_instances_results.json, every detection as LVIS's server
    # takes it.
    cfg.TEST.WRITE_RESULTS = False

    # "SGD" (Detectron2's), or "ADAMW" (Loshchilov and Hutter, 2019) with the same parameter groups.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Train for this many passes of the data: MAX_ITER is derived, STEPS keep their share of it.
    # 0: MAX_ITER and STEPS as they are.
    cfg.SOLVER.EPOCHS = 0

    # Logs beside the console, metrics.json and TensorBoard: any of "wandb" and "mlflow".
    cfg.LOG = CN()
    cfg.LOG.WRITERS = ()
    # Iterations between two looks at the classifier's weight norms and gradient shares by group; 0
    # is never. 20 is Detectron2's period of writing.
    cfg.LOG.CLASSIFIER_PERIOD = 20


def _add_peer_options(_C: CN) -> None:
    """One node for each method that has options; the names are those of its paper."""
    # EQL, DropLoss and GOL: classes in a smaller share of the training images are rare
    # (lambda), >= 0. 1.1e-3 for LVIS v1; 1.76e-3 (EQL) and 1.77e-3 (DropLoss) for v0.5.
    _C.EQL = CN({"THRESHOLD": 1.1e-3})
    _C.DropLoss = CN({"THRESHOLD": 1.1e-3})
    _C.GOL = CN({"THRESHOLD": 1.1e-3})

    # EQLv2 (Tan et al., CVPR 2021): steepness and centre of the mapping, and the positive boost.
    _C.EQLv2 = CN({"GAMMA": 12.0, "MU": 0.8, "ALPHA": 4.0})

    # Seesaw (Wang et al., CVPR 2021): exponents of mitigation and compensation, floor of a score.
    _C.Seesaw = CN({"P": 0.8, "Q": 2.0, "EPS": 1e-2})

    # FedLoss (Zhou et al., 2021): classes in the loss of a batch, and the power of their counts
    # that draws negatives; Detectron2's FED_LOSS_NUM_CLASSES and FED_LOSS_FREQ_WEIGHT_POWER.
    _C.FedLoss = CN({"FED_LOSS_NUM_CLASSES": 50, "FED_LOSS_FREQ_WEIGHT_POWER": 0.5})

    # Balanced softmax (Ren et al., 2020) adds ln n_c, NORMALIZED ln of its share: with a background
    # the two differ by a constant.
    _C.BalancedSoftmax = CN({"NORMALIZED": False})

    # Logit adjustment (Menon et al., 2021): strength tau; POST_HOC shifts at test only.
    _C.LogitAdjustment = CN({"TAU": 1.0, "POST_HOC": False, "NORMALIZED": True})

    # LADE (Hong et al., CVPR 2021): weight of the regulariser and of its square. CIFAR's values.
    _C.LADE = CN({"ALPHA": 0.1, "LAM": 0.01})

    # ECM (Cho and Kraehenbuehl, ECCV 2022): background samples for each foreground sample on LVIS.
    _C.ECM = CN({"BACKGROUND_RATIO": 6.3313})

    # DisAlign (Zhang et al., CVPR 2021): power of the inverse class share in the loss; .8 on LVIS.
    _C.DisAlign = CN({"RHO": 0.8})

    # NorCal (Pan et al., 2021): strength, chosen on training data, 0 is off; what is divided
    # ("exps", "probs", "logits"); whether to renormalise; "gamma" or class-balanced "cb" weights.
    _C.NorCal = CN({"GAMMA": 0.6, "MODE": "exps", "RENORM": True, "WEIGHTING": "gamma"})


def method_options(cfg: CN) -> dict:
    """The options of the configured method, named as `build_method` takes them."""
    node = cfg.MODEL.LONG_TAIL.get(cfg.MODEL.LONG_TAIL.METHOD, {})
    return {key.lower(): value for key, value in node.items()}


def config_path(name: str) -> str:
    """A config file: as given, or one of the package's own, with or without the leading `configs/`.

    Raises:
        ConfigError: there is no such file.
    """
    packaged = os.path.join(os.path.dirname(__file__), "configs", name.removeprefix("configs/"))
    for path in (name, packaged):
        if os.path.isfile(path):
            return path
    raise ConfigError(
        f"config file {name} does not exist, here or among the package's configs; check the name"
    )


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CN:
    """The frozen config that a yaml file and KEY VALUE overrides say, fitted to this machine.

    Raises:
        ConfigError: the file is missing or no yaml, or a key or value is not one of the config's.
    """
    cfg = get_cfg()
    add_iif_config(cfg)
    try:
        if config_file:
            path = config_path(config_file)
            check_yaml(path, cfg)
            cfg.merge_from_file(path, allow_unsafe=False)
        cfg.merge_from_list(list(overrides))
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, SyntaxError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise ConfigError(
            f"config {config_file or '(none)'} with {' '.join(overrides) or 'no overrides'}: "
            f"{_sentence(error)}; correct that key or its value"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"config {error.filename} cannot be read: {error.strerror}; check the path"
        ) from None
    _fit_machine(cfg)
    cfg.freeze()
    return cfg


def _fit_machine(cfg: CN) -> None:
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU here: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED:
        logger.warning("SOLVER.AMP needs a GPU; training goes on in float32")
        cfg.SOLVER.AMP.ENABLED = False


def _sentence(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
