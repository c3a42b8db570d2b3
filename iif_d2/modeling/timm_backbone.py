"""Any network of timm that gives features, under Detectron2's FPN."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, IIFError, UnknownNameError
from ..files.state_dict import load_state_dict
from .timm_weights import (
    fit_timm_weights,
    load_features,
    timm_for,
    timm_preprocessing,
    without_memory,
)

logger = logging.getLogger(__name__)

NORMS = ("FrozenBN", "BN", "GN")
# A picture unlike those of classification, (H, W): what passes it passes others.
_PROBE = (96, 160)
# How timm's transformers are told that pictures differ in size; the first that works is taken.
_SIZES: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})


class TimmBackbone(Backbone):
    """A timm network as a bottom-up: features res2 to res5, of strides 4 to 32, (N, C, H, W).

    Args:
        name: timm's, with or without the tag of its weights: "resnet50", "resnet50.a1_in1k".
        out_features: "res<k>" is the network's last feature of stride 2^k.
        pretrained: a file of the whole network's weights; see `fit_timm_weights`. "" is none, and
            nothing is ever downloaded.
        freeze_at: what the features of stride 2^freeze_at and finer depend on does not learn, its
            batch norms and stochastic depth included; 0 is none. For a ResNet that is Detectron2's
            MODEL.BACKBONE.FREEZE_AT: 1 the stem, 2 res2, too.
        norm: of batch norms. "FrozenBN" neither learns nor counts, "BN" does both, "GN" is group
            norm in their place, of gcd(32, channels) groups, which starts anew.
        in_channels: of a picture.

    Raises:
        ConfigError: timm is not there, or the network does not give these features of a picture of
            any size; says which.
        CheckpointError: the pretrained file is not this network's.

    Examples:
        >>> TimmBackbone("resnet18", freeze_at=0).output_shape()["res5"].channels
        512
    """

    def __init__(
        self,
        name: str,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        pretrained: str = "",
        freeze_at: int = 2,
        norm: str = "FrozenBN",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UnknownNameError.of("MODEL.TIMM.NORM", norm, NORMS)
        if pretrained and norm == "GN":
            raise ConfigError(
                f"MODEL.TIMM.NORM is GN, which the batch norms of {pretrained} do not fit; set it "
                f"to FrozenBN or BN, or MODEL.TIMM.PRETRAINED to ''"
            )
        weights = _weights(pretrained, name) if pretrained else None
        layout = _Layout(name, out_features, freeze_at)
        self._out_features = list(out_features)
        self._out_feature_strides = layout.strides
        self._out_feature_channels = layout.channels
        self._channels_last = layout.channels_last
        self.net = timm_for(name).create_model(
            name, features_only=True, out_indices=layout.indices, in_chans=in_channels,
            **layout.options,
        )  # fmt: skip
        if weights:
            load_features(self.net, weights)
        for key, parameter in self.net.named_parameters():
            parameter.requires_grad_(key not in layout.frozen)
        if norm == "GN" and not _to_group_norm(self.net):
            raise ConfigError(
                f"MODEL.TIMM.NORM is GN, and {name} has no batch norm to replace; leave FrozenBN"
            )
        if norm == "FrozenBN":
            for module in self.net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> TimmBackbone:
        """As any module's, but what does not learn stays as in evaluation."""
        super().train(mode)
        for module in self.net.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features (N, C, H / stride, W / stride) of images (N, 3, H, W), sides multiples of 32."""
        features = self.net(images)
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2).contiguous() for feature in features]
        return dict(zip(self._out_features, features))


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """MODEL.TIMM's network under the FPN of `build_resnet_fpn_backbone`: p2 to p6.

    MODEL.TIMM.PRETRAINED is read where MODEL.WEIGHTS names no checkpoint. It is logged where the
    config's pictures are not those it was trained on.
    """
    names = cfg.MODEL.FPN.IN_FEATURES
    if not names or names[-1] != "res5":  # p6 is p5's
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES is {names}; build_timm_fpn_backbone takes neighbours up to "
            f"res5, such as ['res2', 'res3', 'res4', 'res5']"
        )
    pretrained = "" if cfg.MODEL.WEIGHTS else cfg.MODEL.TIMM.PRETRAINED
    bottom_up = TimmBackbone(
        cfg.MODEL.TIMM.NAME,
        names,
        pretrained=pretrained,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        norm=cfg.MODEL.TIMM.NORM,
        in_channels=input_shape.channels,
    )
    if pretrained:
        _say_pictures(cfg)
    return FPN(
        bottom_up=bottom_up,
        in_features=names,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _say_pictures(cfg: CfgNode) -> None:
    wanted = timm_preprocessing(cfg.MODEL.TIMM.NAME)
    same = cfg.INPUT.FORMAT == wanted["INPUT.FORMAT"] and all(
        math.isclose(ours, theirs, abs_tol=0.5)
        for key in ("PIXEL_MEAN", "PIXEL_STD")
        for ours, theirs in zip(cfg.MODEL[key], wanted[f"MODEL.{key}"])
    )
    if not same:
        logger.warning(
            "%s was pretrained on other pictures than the config's; set %s",
            cfg.MODEL.TIMM.NAME, " ".join(f'{key} "{value}"' for key, value in wanted.items()),
        )  # fmt: skip


def _weights(path: str, name: str) -> dict[str, Tensor]:
    try:
        return fit_timm_weights(load_state_dict(path), name)
    except CheckpointError as error:
        raise CheckpointError(
            f"MODEL.TIMM.PRETRAINED {path}: {str(error).removeprefix(f'{path}: ')}; to go on from "
            f"a checkpoint of the whole detector, set it to ''"
        ) from None


class _Layout:
    """What a network looks like, found on one without memory.

    Features of a picture are computed as far as their shapes. So is their gradient, which reaches
    the parameters that they depend on.

    Attributes:
        indices: timm's, of the features wanted.
        strides, channels: by feature.
        channels_last: features are (N, H, W, C).
        options: what timm needs to be told for pictures of any size.
        frozen: names of parameters.
    """

    @torch.enable_grad()
    def __init__(self, name: str, wanted: Sequence[str], freeze_at: int) -> None:
        self._name = name
        known = self._known()
        missing = [feature for feature in wanted if feature not in known]
        if missing:
            raise ConfigError(
                f"MODEL.TIMM.NAME {name} has no feature {', '.join(missing)} (res<k> is of stride "
                f"2^k), but {', '.join(known) or 'none of such a stride'}; take another network, "
                f"or other MODEL.FPN.IN_FEATURES"
            )
        self.indices = [known[feature] for feature in wanted]
        upto = {feature: index for feature, index in known.items() if index <= max(self.indices)}
        network, features = self._probe(list(upto.values()))
        self.channels_last = "NHWC" in str(getattr(network, "output_fmt", ""))
        info = network.feature_info
        self.channels = {feature: info.channels(known[feature]) for feature in wanted}
        self.strides = {feature: info.reduction(known[feature]) for feature in wanted}
        found = dict(zip(upto, features))
        for feature, stride in self.strides.items():
            height, width = (size // stride for size in _PROBE)
            shape = (height, width, self.channels[feature])
            shape = (1, *shape) if self.channels_last else (1, shape[2], height, width)
            if found[feature].shape != shape:
                raise ConfigError(
                    f"MODEL.TIMM.NAME {name} makes {tuple(found[feature].shape)} of a picture of "
                    f"{_PROBE} at stride {stride}, where an FPN needs {shape}; take another network"
                )
        fine = [f.sum() for feature, f in found.items() if int(feature[3:]) <= freeze_at]
        if fine and freeze_at > 0:
            torch.stack(fine).sum().backward()
        self.frozen = {key for key, p in network.named_parameters() if p.grad is not None}

    def _known(self) -> dict[str, int]:
        """timm's index of the last feature of each stride 2^k, under res<k>."""
        try:
            info = without_memory(self._name, features_only=True).feature_info.info
        except IIFError:
            raise
        except Exception as error:  # not all networks have features, and each has its own error
            raise ConfigError(
                f"MODEL.TIMM.NAME {self._name} gives no features: {_line(error)}; take another "
                f"network"
            ) from None
        strides = [entry["reduction"] for entry in info]
        powers = [(math.log2(stride), index) for index, stride in enumerate(strides)]
        return {f"res{int(k)}": index for k, index in powers if k == int(k)}

    def _probe(self, indices: list[int]) -> tuple[nn.Module, list[Tensor]]:
        said = ""
        for self.options in _SIZES:
            try:
                network = without_memory(
                    self._name, features_only=True, out_indices=indices, **self.options
                )
                with torch.device("meta"):
                    return network, network.eval()(torch.empty(1, 3, *_PROBE))
            except Exception as error:  # asserts, shapes that do not fit, unknown options
                said = said or _line(error)
        raise ConfigError(
            f"MODEL.TIMM.NAME {self._name} does not take pictures of any size, as a detector must: "
            f"{said}; take a convolutional network, or one of timm's swin"
        )


class _GroupNormAct(nn.GroupNorm):
    """In place of a batch norm of timm's, with the activation that it has inside."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        channels = norm.num_features
        super().__init__(math.gcd(32, channels), channels)
        self.drop, self.act = (getattr(norm, name, nn.Identity()) for name in ("drop", "act"))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def _to_group_norm(module: nn.Module) -> int:
    """Replace the batch norms inside; how many there were."""
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            learns = all(parameter.requires_grad for parameter in child.parameters())
            setattr(module, name, _GroupNormAct(child).requires_grad_(learns))
            count += 1
        else:
            count += _to_group_norm(child)
    return count


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
