"""Every config key this package adds to Detectron2's, with its meaning, range and source.

The options of the methods come from their classes: `python -m iif_d2 config [METHOD]` prints all.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from typing import Any, NamedTuple

import torch
import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from . import data, modeling  # noqa: F401  for the data sets and ROI heads they register
from .errors import ConfigError, did_you_mean
from .files.untrusted import check_yaml, check_yaml_text
from .groups import GROUP_LIMITS
from .methods import METHOD_REGISTRY, config_node

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """A config key: its full name, its default, and its meaning, range and source."""

    name: str
    default: Any
    meaning: str


KEYS = (
    Key(
        "MODEL.LONG_TAIL.METHOD",
        "IIF",
        "The method of the box classifier: a key of iif_d2.methods.METHOD_REGISTRY. Softmax is "
        "Detectron2's own behaviour, for the control. Its options are in the node of its name.",
    ),
    Key(
        "MODEL.LONG_TAIL.CLASSIFIER",
        "linear",
        "The box classifier: linear, or cosine for scale * cos(weight, feature) + bias.",
    ),
    Key(
        "MODEL.LONG_TAIL.COSINE_SCALE",
        20.0,
        "Scale (tau) of the cosine classifier, > 0. 20: Seesaw (Wang et al., CVPR 2021); IIF's "
        "final recipes use 8.",
    ),
    Key(
        "MODEL.LONG_TAIL.FREQUENCY",
        "",
        "Where class frequencies come from: a registered data set, an annotation json, or a file "
        "that ClassFrequency.save wrote. Empty: the sum over DATASETS.TRAIN.",
    ),
    Key(
        "MODEL.LONG_TAIL.GROUP_LIMITS",
        GROUP_LIMITS,
        "Training images up to which a class is rare, and up to which it is common, in every table "
        "and plot; (10, 100) are LVIS's. Only where the training json does not state each "
        "category's `frequency` (r, c or f), which decides.",
    ),
    Key(
        "MODEL.ROI_MASK_HEAD.THRESH_TEST",
        0.5,
        "Pixels of at least this probability are in a predicted mask, in [0, 1]. Detectron2 has "
        "0.5 in its code, and a folded model there keeps that; IIF's RSB recipe has 0.4.",
    ),
    Key(
        "MODEL.ROI_MASK_HEAD.NORMED_SCALE",
        20.0,
        "Scale (tau) of the normed mask predictor, > 0, where MODEL.ROI_MASK_HEAD.NAME is "
        "NormedMaskHead. 20: Seesaw (Wang et al., CVPR 2021) and IIF's final recipes.",
    ),
    Key(
        "MODEL.RESNETS.FIXED_STATISTICS",
        False,
        "Batch norm of the ResNet keeps the statistics that came with MODEL.WEIGHTS, since two "
        "images on a GPU estimate them badly, while its scale and shift learn. Needs "
        "MODEL.RESNETS.NORM BN; with FrozenBN neither learns.",
    ),
    Key(
        "MODEL.TIMM.NAME",
        "resnet50",
        "timm's name of the network, with or without the tag of its weights, where "
        "MODEL.BACKBONE.NAME is build_timm_fpn_backbone. MODEL.FPN.IN_FEATURES are res2 to res5, "
        "of strides 4 to 32, and what MODEL.BACKBONE.FREEZE_AT k freezes is all that the features "
        "of stride 2^k depend on.",
    ),
    Key(
        "MODEL.TIMM.PRETRAINED",
        "",
        "A file of the network's weights, as timm's state_dict() or `python -m iif_d2 convert "
        "--timm` has them; nothing is downloaded. Not read where MODEL.WEIGHTS is set. Empty: "
        "from scratch.",
    ),
    Key(
        "MODEL.TIMM.NORM",
        "FrozenBN",
        "The network's batch norms, where it has them: FrozenBN neither learns nor counts "
        "statistics, BN does both (with MODEL.RESNETS.FIXED_STATISTICS it learns only), GN is "
        "group norm in their place, from scratch.",
    ),
    Key(
        "MODEL_EMA.ENABLED",
        False,
        "Average the weights over training; the average is what is evaluated, and what a "
        "checkpoint's `model` has for whoever reads it, while --resume goes on from the weights "
        "themselves. BatchNorm's statistics are averaged, too; what a method has counted is not. "
        "The key is d2go's.",
    ),
    Key(
        "MODEL_EMA.DECAY",
        0.999,
        "Share of the average that a step keeps, in [0, 1): 0.999 is a window of a thousand steps. "
        "In step t it is (1 + t) / (10 + t) at most, so that a short schedule forgets its start.",
    ),
    Key(
        "INPUT.COPY_PASTE.PROB",
        0.0,
        "Chance of a training picture to get objects of rare classes pasted from another one, with "
        "their masks, in [0, 1]; 0 is off. Ghiasi et al., CVPR 2021; iif_d2.data.CopyPaste says "
        "what differs. Needs masks.",
    ),
    Key(
        "INPUT.COPY_PASTE.MAX_INSTANCES",
        100,
        "Classes with fewer training objects than this are pasted, 2 or more; crowds do not count.",
    ),
    Key(
        "DATALOADER.REPEAT_STATISTIC",
        "image",
        "What SAMPLER_TRAIN RepeatFactorTrainingSampler calls rare by: image, the share of images "
        "with the class (Gupta et al., CVPR 2019, and Detectron2), or instance_image, the root of "
        "that times the class's share of instances (IRFS: Yaman et al., 2023). Both take "
        "REPEAT_THRESHOLD.",
    ),
    Key(
        "TEST.WRITE_RESULTS",
        False,
        "Also write inference/<data set>/lvis_instances_results.json, every detection as LVIS's "
        "and COCO's servers take it. A test set without annotations needs it.",
    ),
    Key(
        "TEST.BEST_METRIC",
        "",
        "Keep the weights that are best by this metric at an evaluation as model_best.pth: bbox or "
        "segm, and AP, AP50, APr, ..., as in segm/APr; with several test sets the set's name in "
        "front, as in lvis_v1_val/segm/APr. Needs TEST.EVAL_PERIOD above 0. Empty: none is kept.",
    ),
    Key(
        "TEST.PATIENCE",
        0,
        "End training after this many evaluations in a row without a new best of "
        "TEST.BEST_METRIC, as if MAX_ITER were reached. 0: train to MAX_ITER.",
    ),
    Key(
        "SOLVER.OPTIMIZER",
        "SGD",
        "SGD (Detectron2's), or ADAMW (Loshchilov and Hutter, 2019) with the same parameter "
        "groups.",
    ),
    Key(
        "SOLVER.ACCUMULATE",
        1,
        "Go through a process's share of a batch in so many equal parts, and step on the mean of "
        "their gradients: a batch of 16 in the memory of 16 / ACCUMULATE. IMS_PER_BATCH stays the "
        "whole batch. Set SOLVER.REFERENCE_WORLD_SIZE 0, or Detectron2 scales a recipe for 8 "
        "GPUs down to one. BatchNorm sees a part at a time.",
    ),
    Key(
        "SOLVER.EPOCHS",
        0,
        "Train for this many passes of the data: MAX_ITER is derived, STEPS keep their share of "
        "it, and WARMUP_ITERS is at most a tenth. 0: all three as they are.",
    ),
    Key(
        "LOG.CLASSIFIER_PERIOD",
        20,
        "Iterations between two looks at the classifier's weight norms and gradient shares by "
        "group; 0 is never. 20 is Detectron2's period of writing.",
    ),
)


def add_iif_config(cfg: CN) -> None:
    """Add `KEYS`, and in `MODEL.LONG_TAIL` a node for each method that has options.

    The data sets and ROI heads that a config may then name are registered, too.

    Examples:
        >>> cfg = get_cfg()
        >>> add_iif_config(cfg)  # before merging yaml files
        >>> cfg.MODEL.ROI_HEADS.NAME = "LongTailROIHeads"
        >>> cfg.MODEL.LONG_TAIL.METHOD
        'IIF'
    """
    for key in KEYS:
        *parents, name = key.name.split(".")
        node = cfg
        for parent in parents:
            node = node.setdefault(parent, CN())
        node[name] = key.default
    for name, method in METHOD_REGISTRY:
        if method.supports_background and (options := config_node(method)):
            cfg.MODEL.LONG_TAIL[name] = CN(options)
    cfg.register_deprecated_key("LOG.WRITERS")  # of version 0.1.0; W&B reads TensorBoard's files


def config_path(name: str) -> str:
    """A config file: as given, or one of the package's own, with or without the leading `configs/`.

    Raises:
        ConfigError: there is no such file.
    """
    for path in (name, _packaged(name)):
        if os.path.isfile(path):
            return path
    folder = _packaged("")
    paths = glob(os.path.join(folder, "**", "*.yaml"), recursive=True)
    near = did_you_mean(
        name.removeprefix("configs/"), [os.path.relpath(path, folder) for path in paths]
    )
    raise ConfigError(
        f"config file {name} does not exist, here or among the package's "
        f"configs{near or '; check the name'}"
    )


def _packaged(name: str) -> str:
    """Where the package has a config of this name, if it has one."""
    return os.path.join(os.path.dirname(__file__), "configs", name.removeprefix("configs/"))


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CN:
    """The frozen config that a yaml file and KEY VALUE overrides say, fitted to this machine.

    Raises:
        ConfigError: the file is missing or no yaml, or a key or value is not one of the config's.
    """
    cfg = _default_config()
    with _in_words(f"config {config_file or '(none)'}", overrides):
        if config_file:
            path = config_path(config_file)
            content = check_yaml(path, cfg, _packaged)
            # As a file, since Detectron2 converts a file's version.
            with tempfile.TemporaryDirectory() as folder:
                whole = os.path.join(folder, os.path.basename(path))
                with open(whole, "w", encoding="utf-8") as file:
                    yaml.safe_dump(content, file, allow_unicode=True)
                cfg.merge_from_file(whole, allow_unsafe=False)
        cfg.merge_from_list(list(overrides))
    _fit_machine(cfg)
    cfg.freeze()
    return cfg


def carried_config(text: str, where: str, overrides: Sequence[str] = ()) -> CN:
    """The frozen config that a checkpoint carries, for prediction on this machine.

    Anybody may have written it: it is plain values under known keys, and no file, address or data
    set that it names stays in it.

    Args:
        text: yaml, as `CfgNode.dump` writes it.
        where: what messages call it.
        overrides: KEY VALUE pairs of the user's own, which may name files.

    Raises:
        ConfigError: it is no such config, or a key or value is not one of the config's.
    """
    cfg = _default_config()
    with _in_words(where, overrides):
        cfg.merge_from_other_cfg(CN(check_yaml_text(text, where, cfg)))
        cfg = without_files(cfg)
        cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = False  # for training; it asks for the counts of TRAIN
        cfg.SOLVER.AMP.ENABLED = False  # for training, too
        cfg.MODEL.DEVICE = "cuda"
        cfg.merge_from_list(list(overrides))
    _fit_machine(cfg)
    cfg.freeze()
    return cfg


def flat(node: CN, parent: str = "") -> Iterator[tuple[str, Any]]:
    """The node's keys by their full names, such as SOLVER.BASE_LR, and their values.

    Args:
        parent: the full name of the node itself, with a dot behind; of a whole config "".
    """
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{parent}{key}.")
        else:
            yield f"{parent}{key}", value


def without_files(cfg: CN) -> CN:
    """A copy, not frozen, in which no key names a file, a folder, an address or a data set."""
    cfg, default = cfg.clone(), _default_config()
    cfg.defrost()
    cfg.OUTPUT_DIR = default.OUTPUT_DIR
    cfg.MODEL.WEIGHTS = cfg.MODEL.TIMM.PRETRAINED = cfg.MODEL.LONG_TAIL.FREQUENCY = ""
    cfg.MODEL.LOAD_PROPOSALS = False
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = ()
    return cfg


def _default_config() -> CN:
    cfg = get_cfg()
    add_iif_config(cfg)
    return cfg


@contextmanager
def _in_words(what: str, overrides: Sequence[str]) -> Iterator[None]:
    """What the config library raises becomes a `ConfigError` that names the config."""
    try:
        yield
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, SyntaxError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise ConfigError(
            f"{what} with {' '.join(overrides) or 'no overrides'}: "
            f"{_sentence(error)}{_nearest_key(error) or '; correct that key or its value'}"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"config {error.filename} cannot be read: {error.strerror}; check the path"
        ) from None


def _fit_machine(cfg: CN) -> None:
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU here: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED:
        logger.warning("SOLVER.AMP needs a GPU; training goes on in float32")
        cfg.SOLVER.AMP.ENABLED = False


def _nearest_key(error: Exception) -> str:
    """Which key was meant, where the error is that there is no such key."""
    wrong = re.search(r"[Nn]on-existent (?:config )?key: ([\w.]+)", _sentence(error))
    return did_you_mean(wrong[1], _names(_default_config())) if wrong else ""


def _names(node: CN, above: str = "") -> list[str]:
    """All keys at and below a node, sections among them, as one writes them."""
    found = []
    for key, value in node.items():
        found.append(above + key)
        found += _names(value, f"{above}{key}.") if isinstance(value, CN) else []
    return found


def _sentence(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
