"""Backbones by name: CIFAR ResNets here, ImageNet ResNets from timm, whole or in two parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ..config import choose
from .cifar_resnet import WIDTHS, CifarResNet, CifarStem, CifarTrunk


@dataclass(frozen=True)
class Backbone:
    """How to make a backbone: whole, or as a stem and trunks of other width for several experts.

    Attributes:
        whole: () -> module with `num_features`, images to (R, num_features).
        stem: () -> module, the stages that experts share.
        trunk: part of the usual width -> module with `num_features`, the last two stages.
    """

    whole: Callable[[], nn.Module]
    stem: Callable[[], nn.Module]
    trunk: Callable[[float], nn.Module]


def _cifar(blocks: int, squeeze_excite: bool) -> Backbone:
    return Backbone(
        partial(CifarResNet, blocks, squeeze_excite),
        partial(CifarStem, blocks, squeeze_excite),
        lambda width: CifarTrunk(
            blocks, squeeze_excite, [round(channels * width) for channels in WIDTHS[1:]]
        ),
    )


def _timm(name: str, squeeze_excite: bool) -> Backbone:
    return Backbone(
        partial(_timm_resnet, name, squeeze_excite),
        lambda: TimmStem(_timm_resnet(name, squeeze_excite)),
        lambda width: TimmTrunk(_timm_resnet(name, squeeze_excite, width)),
    )


def _timm_resnet(name: str, squeeze_excite: bool, width: float = 1.0) -> nn.Module:
    import timm
    from timm.layers import SEModule

    # timm's own squeeze-and-excite has biases; the paper's has none.
    block = {"attn_layer": partial(SEModule, bias=False)} if squeeze_excite else {}
    channels = (64, 128, round(256 * width), round(512 * width))
    return timm.create_model(name, num_classes=0, block_args=block, channels=channels)


class TimmStem(nn.Module):
    """The stem and first two stages of a timm ResNet: (R, 3, S, S) -> (R, 512, S/8, S/8)."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1, self.maxpool = (
            resnet.conv1, resnet.bn1, resnet.act1, resnet.maxpool
        )  # fmt: skip
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        return self.layer2(self.layer1(x))


class TimmTrunk(nn.Module):
    """The last two stages of a timm ResNet and the average over pixels."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        self.num_features = resnet.num_features

    def forward(self, x: Tensor) -> Tensor:
        return self.layer4(self.layer3(x)).mean((2, 3))


BACKBONES: dict[str, Backbone] = {
    "resnet8": _cifar(1, False),
    "se_resnet8": _cifar(1, True),
    "resnet32": _cifar(5, False),
    "se_resnet32": _cifar(5, True),
    "resnet50": _timm("resnet50", False),
    "se_resnet50": _timm("resnet50", True),
    "resnet152": _timm("resnet152", False),
    "se_resnet152": _timm("resnet152", True),
    "resnext50": _timm("resnext50_32x4d", False),
    "se_resnext50": _timm("resnext50_32x4d", True),
}


def backbone(name: str) -> Backbone:
    """The recipe of this backbone.

    Raises:
        UnknownNameError: no such backbone.
    """
    return choose("MODEL.BACKBONE", name, BACKBONES)
