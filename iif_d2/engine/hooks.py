"""What happens around a step: bounded memory, frozen BatchNorm, statistics of the classifier."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from detectron2.engine import HookBase
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor, nn

from ..errors import IIFError
from ..frequency import ClassFrequency
from ..groups import GROUPS

logger = logging.getLogger(__name__)

KEPT = 1000  # iterations: as far as anything looks back, which is the time left on the console


class BoundedHistory(HookBase):
    """Keeps the last `KEPT` values of each scalar; Detectron2 keeps a million, 2.4 kB a step."""

    def before_train(self) -> None:
        histories = self.trainer.storage.histories()
        histories.default_factory = functools.partial(HistoryBuffer, max_length=KEPT)


class FrozenNorms(HookBase):
    """Keeps a module's BatchNorm at its trained statistics, whatever sets it to train.

    A frozen model's; or a pretrained backbone's, whose scale and shift may learn all the same.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def before_step(self) -> None:
        for norm in self._norms:
            norm.eval()


class ClassifierStats(HookBase):
    """Every `period` iterations, of each row w_c of `cls_score` in group r, c or f:

    - `classifier/weight_norm_<group>`: the mean of |w_c| (the poster's norms figure);
    - `classifier/gradient_share_<group>`: the sum of |dL/dw_c| over that of all rows, background
      included; clipping by norm does not change it.

    A cascade's stages are `classifier/stage<k>/...`. Where the class frequencies cannot be had,
    nothing is logged.

    Args:
        class_frequency: gives the class frequencies, which say what group a class is in.
        period: in iterations, above 0.
    """

    def __init__(self, class_frequency: Callable[[], ClassFrequency], period: int) -> None:
        self._class_frequency, self._period = class_frequency, period
        self._members: Tensor | None = None  # (3, C): which classes are in a group

    def before_train(self) -> None:
        try:
            groups = self._class_frequency().groups()
        except IIFError as error:
            logger.warning("no classifier statistics by group: %s", error)
            return
        self._members = torch.tensor([[group == name for group in groups] for name in GROUPS])

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
        members = self._members.to(weight.device, torch.float32)
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
