"""The normed mask predictor: mask logits by angle, so that a class's norm cannot favour it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from torch import Tensor, nn

from ..errors import ConfigError


class NormedConv2d(nn.Conv2d):
    """scale * cos(class's weight, pixel's features) + bias, with `nn.Conv2d`'s parameters.

    Both are normalised over the input channels, which for the 1x1 kernel of a mask predictor is all
    there is to a class's weight. Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation",
    CVPR 2021.

    Args:
        scale: tau, the largest |logit - bias|; > 0, else a `ConfigError`.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 20.0) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)
        if not scale > 0:
            raise ConfigError(f"MODEL.ROI_MASK_HEAD.NORMED_SCALE is {scale}; it must be above 0")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.directions(x, self.weight)
        return F.conv2d(x, weight, self.bias)

    def directions(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, D, H, W) and weights (C, D, 1, 1) whose products are scaled cosines."""
        return F.normalize(x) * self.scale, F.normalize(weight)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"


@ROI_MASK_HEAD_REGISTRY.register()
class NormedMaskHead(MaskRCNNConvUpsampleHead):
    """`MaskRCNNConvUpsampleHead` whose predictor is a `NormedConv2d`; parameters keep their names.

    Args:
        input_shape: of the pooled features.
        normed_scale: tau; MODEL.ROI_MASK_HEAD.NORMED_SCALE.
        kwargs: as of `MaskRCNNConvUpsampleHead`.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, normed_scale: float = 20.0, **kwargs: Any
    ) -> None:
        super().__init__(input_shape, **kwargs)
        plain = self.predictor
        self.predictor = NormedConv2d(plain.in_channels, plain.out_channels, normed_scale)
        # Detectron2's N(0, .001) is so short that each step would turn the direction far.
        nn.init.kaiming_normal_(self.predictor.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        scale = cfg.MODEL.ROI_MASK_HEAD.NORMED_SCALE
        return {**super().from_config(cfg, input_shape), "normed_scale": scale}
