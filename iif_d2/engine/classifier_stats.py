"""How the box classifier treats rare, common and frequent classes, logged while it trains."""

from __future__ import annotations

import logging

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor

from ..data import config_frequency
from ..errors import IIFError
from ..frequency import GROUPS

logger = logging.getLogger(__name__)


class ClassifierStats(HookBase):
    """Every `period` iterations, of each row w_c of `cls_score` in group r, c or f:

    - `classifier/weight_norm_<group>`: the mean of |w_c| (the poster's norms figure);
    - `classifier/gradient_share_<group>`: the sum of |dL/dw_c| over that of all rows, background
      included; clipping by norm does not change it.

    A cascade's stages are `classifier/stage<k>/...`. Methods with a frequency table that the config
    cannot give log nothing.

    Args:
        cfg: says where the class frequencies come from.
        period: in iterations, above 0.
    """

    def __init__(self, cfg: CfgNode, period: int) -> None:
        self._cfg, self._period = cfg, period
        self._members: Tensor | None = None  # (3, C): which classes are in a group

    def before_train(self) -> None:
        try:
            groups = config_frequency(self._cfg).resolve().groups()
        except IIFError as error:
            logger.warning("no classifier statistics by group: %s", error)
            return
        members = torch.tensor([[group == name for group in groups] for name in GROUPS])
        self._members = members.to(self._cfg.MODEL.DEVICE, torch.float32)

    def after_step(self) -> None:
        if self._members is None or (self.trainer.iter + 1) % self._period:
            return
        layers = [
            module.cls_score
            for module in self.trainer.model.modules()
            if isinstance(module, FastRCNNOutputLayers)
        ]
        for index, layer in enumerate(layers):
            prefix = f"classifier/stage{index}" if len(layers) > 1 else "classifier"
            self._log(prefix, layer.weight)

    @torch.no_grad()
    def _log(self, prefix: str, weight: Tensor) -> None:
        members = self._members
        norms = weight.float().norm(dim=1)[: members.shape[1]]
        values = {"weight_norm": members @ norms / members.sum(dim=1)}
        if weight.grad is not None:
            gradients = weight.grad.float().norm(dim=1)
            share = members @ gradients[: members.shape[1]] / gradients.sum()
            values["gradient_share"] = share
        for name, by_group in values.items():
            for group, value in zip(GROUPS, by_group.tolist()):
                self.trainer.storage.put_scalar(
                    f"{prefix}/{name}_{group}", value, smoothing_hint=False
                )
