"""ResNet for 32-pixel images (He et al., 2016, section 4.2), plain or with squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)


class SqueezeExcite(nn.Module):
    """x times sigmoid(W2 relu(W1 mean(x))), two bias-free linear layers (Hu et al., 2018).

    Args:
        channels: of x.
        reduction: channels over the hidden width.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // reduction, bias=False)
        self.expand = nn.Linear(channels // reduction, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(F.relu(self.reduce(x.mean((2, 3))))).sigmoid()
        return x * scale[:, :, None, None]


class ShortcutA(nn.Module):
    """Option A, without parameters: every `stride`-th pixel, new channels zero on both sides."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.before = added // 2
        self.after = added - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; squeeze-and-excite after the last BatchNorm, before the addition."""

    def __init__(self, inputs: int, outputs: int, stride: int, squeeze_excite: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcite(outputs) if squeeze_excite else nn.Identity()
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ShortcutA(outputs - inputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.se(self.bn2(self.conv2(out)))
        return F.relu(out + self.shortcut(x), inplace=True)


def make_stage(
    inputs: int, outputs: int, blocks: int, stride: int, squeeze_excite: bool
) -> nn.Sequential:
    """`blocks` basic blocks, the first with `stride`."""
    first = BasicBlock(inputs, outputs, stride, squeeze_excite)
    rest = [BasicBlock(outputs, outputs, 1, squeeze_excite) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class CifarStem(nn.Module):
    """The first convolution and the first stage: (R, 3, S, S) -> (R, 16, S, S)."""

    def __init__(self, blocks: int, squeeze_excite: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = make_stage(WIDTHS[0], WIDTHS[0], blocks, 1, squeeze_excite)
        init_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))


class CifarTrunk(nn.Module):
    """The last two stages and the average over pixels: (R, 16, S, S) -> (R, widths[1])."""

    def __init__(
        self, blocks: int, squeeze_excite: bool, widths: Sequence[int] = WIDTHS[1:]
    ) -> None:
        super().__init__()
        self.layer2 = make_stage(WIDTHS[0], widths[0], blocks, 2, squeeze_excite)
        self.layer3 = make_stage(widths[0], widths[1], blocks, 2, squeeze_excite)
        self.num_features = widths[1]
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(x)).mean((2, 3))


class CifarResNet(nn.Module):
    """ResNet of depth 6 * blocks + 2 without its classifier: images to (R, 64).

    Args:
        blocks: in each of the three stages; 5 for ResNet-32.
        squeeze_excite: SE-ResNet.
    """

    def __init__(self, blocks: int = 5, squeeze_excite: bool = False) -> None:
        super().__init__()
        self.stem = CifarStem(blocks, squeeze_excite)
        self.trunk = CifarTrunk(blocks, squeeze_excite)
        self.num_features = self.trunk.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(self.stem(images))


def init_convolutions(module: nn.Module) -> None:
    """He initialisation of convolutions and linear layers, as in the long-tail releases."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
