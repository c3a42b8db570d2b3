"""ImageNet weights for Detectron2's ResNet, under its names, and for a timm backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..files.state_dict import load_state_dict
from ..files.tensors import save_tensors
from ..modeling.timm_weights import fit_timm_weights, timm_preprocessing

# What both libraries' networks want (their ImageNet statistics times 255), and where they stride.
PREPROCESSING = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
# Blocks of a stage, and whether they are bottlenecks: Detectron2's depths.
_DEPTHS = {
    (2, 2, 2, 2, False): 18,
    (3, 4, 6, 3, False): 34,
    (3, 4, 6, 3, True): 50,
    (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}
_RENAMES = (
    (r"^(?=(conv|bn)1\.)", "stem."),
    (r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}"),
    (r"\bdownsample\.0\.", "shortcut."),
    (r"\bdownsample\.1\.", "shortcut.norm."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
)
_LACKS = (
    "Detectron2's ResNet has no squeeze-and-excitation or other attention, no deep stem and no "
    "pooled shortcut"
)


def convert_resnet(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A ResNet or ResNeXt state dict for Detectron2's ResNet, which gives the same features.

    The classifier is left out. What leaves no trace in a state dict cannot be seen here: strides,
    activations, parameter-free pooling such as that of timm's `resnetblur`.

    Args:
        state: of torchvision's or timm's plain ResNet: 7x7 stem, batch norm, convolved shortcuts.

    Returns:
        The tensors by Detectron2's names, and the config keys that they need.

    Raises:
        CheckpointError: it is another network, or incomplete; the message names what does not fit.
    """
    renamed = {}
    for key, value in state.items():
        if key.startswith("fc.") or key.endswith(".num_batches_tracked"):
            continue
        for pattern, replacement in _RENAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    config = _config_keys(renamed)
    _check(renamed, config)
    return renamed, config


def convert_resnet_file(path: str, output: str) -> dict[str, Any]:
    """Write a `.pth` that MODEL.WEIGHTS takes, in one step.

    Args:
        path: see `load_state_dict`. Nothing in it is executed.

    Returns:
        The config keys that go with the weights.

    Raises:
        CheckpointError: the file cannot be read, or see `convert_resnet`.
        ConfigError: the output is no `.pth`.
        DataError: the output cannot be written.
    """
    _check_output(output)
    state = load_state_dict(path)
    try:
        weights, config = convert_resnet(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    # Matching puts them under whatever prefix the backbone has: "backbone.bottom_up" with an FPN.
    _write(output, {"model": weights, "matching_heuristics": True})
    return {"MODEL.WEIGHTS": output, **config}


def convert_timm_file(path: str, output: str, name: str) -> dict[str, Any]:
    """Write a `.pth` that MODEL.TIMM.PRETRAINED takes, in one step: timm's names, no classifier.

    Args:
        path: see `load_state_dict`. Nothing in it is executed.
        name: timm's name of the network; what fits it, see `fit_timm_weights`.

    Returns:
        The config keys that go with the weights.

    Raises:
        CheckpointError: the file cannot be read, or is of another network.
        ConfigError: the output is no `.pth`, timm has no such network or is not there.
        DataError: the output cannot be written.
    """
    _check_output(output)
    state = load_state_dict(path)
    try:
        weights = fit_timm_weights(state, name)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    _write(output, {"model": weights})
    return {
        "MODEL.BACKBONE.NAME": "build_timm_fpn_backbone",
        "MODEL.TIMM.NAME": name,
        "MODEL.TIMM.PRETRAINED": output,
        **timm_preprocessing(name),
    }


def _check_output(output: str) -> None:
    if not output.endswith(".pth"):
        raise ConfigError(f"{output} must end in .pth; Detectron2 reads other names in other ways")


def _write(output: str, content: dict[str, Any]) -> None:
    save_tensors(output, {**content, "__author__": "iif_d2 convert"})


def _config_keys(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Depth and widths, as the tensors' names and shapes show them."""
    try:
        numbers = [re.match(r"res([2-5])\.(\d+)\.", key) for key in weights]
        blocks = [
            1 + max(int(match[2]) for match in numbers if match and match[1] == stage)
            for stage in "2345"
        ]
        bottleneck = "res2.0.conv3.weight" in weights
        depth = _DEPTHS[(*blocks, bottleneck)]
        middle = weights["res2.0.conv2.weight"]
        last = weights["res2.0.conv3.weight"] if bottleneck else middle
        stem = weights["stem.conv1.weight"]
    except (KeyError, ValueError):
        raise CheckpointError(
            f"it is no ResNet-18, 34, 50, 101 or 152 with torchvision's names; {_LACKS}"
        ) from None
    groups = middle.shape[0] // middle.shape[1]
    return {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NUM_GROUPS": groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": middle.shape[0] // groups,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": stem.shape[0],
        "MODEL.RESNETS.RES2_OUT_CHANNELS": last.shape[0],
        **PREPROCESSING,
    }


def _check(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless Detectron2's ResNet has exactly these tensors."""
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for key, value in config.items():
        cfg.merge_from_list([key, value])
    with torch.device("meta"):
        expected = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
    for key, value in weights.items():
        if key not in expected:
            raise CheckpointError(f"{key} has no place; {_LACKS}")
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{key} has shape {tuple(value.shape)}, Detectron2's ResNet has "
                f"{tuple(expected[key].shape)}"
            )
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise CheckpointError(f"{missing[0]} and {len(missing) - 1} more are missing")
