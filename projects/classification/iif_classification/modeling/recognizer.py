"""Backbone, classifier and method as one module, so that one forward gives the loss on any rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iif_d2.methods import LongTailMethod


@dataclass(frozen=True)
class Mix:
    """What mixup mixed in: image i is share * itself + (1 - share) * an image of class labels[i].

    Attributes:
        labels: int64 (R,).
        share: lambda, in [0, 1].
    """

    labels: Tensor
    share: float


class Recognizer(nn.Module):
    """Images (R, 3, S, S) to the loss, where labels come along, or to probabilities (R, C).

    With several experts the method sees their mean logits at test, as RIDE does, and the sum of
    their losses in training, unless it takes all experts at once (`takes_experts`).
    """

    def __init__(self, backbone: nn.Module, classifier: nn.Module, method: LongTailMethod) -> None:
        super().__init__()
        self.backbone, self.classifier, self.method = backbone, classifier, method

    def forward(
        self, images: Tensor, labels: Tensor | None = None, mix: Mix | None = None
    ) -> Tensor:
        """The scalar training loss with `labels`, else probabilities.

        By mixup's definition its loss is share * loss(labels) + (1 - share) * loss(mix.labels).
        """
        features = self.backbone(images)
        if labels is None:
            return self.method.probabilities(self._logits(features))
        # The classifier in float32: its logits decide the result and cost next to nothing.
        with torch.autocast(images.device.type, enabled=False):
            features = features.float()
            logits = self.classifier(features)
            loss = self._loss(logits, labels, features)
            if mix is None:
                return loss
            return mix.share * loss + (1 - mix.share) * self._loss(logits, mix.labels, features)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(R, C) as the method's test takes them: of several experts, their mean."""
        return self._logits(self.backbone(images))

    def _logits(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            logits = self.classifier(features)
            if logits.dim() == 3:
                logits, features = logits.mean(1), features.mean(1)
            return self.method(logits, features)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        if logits.dim() == 2 or getattr(self.method, "takes_experts", False):
            return self.method.loss(logits, labels, features)
        each = (
            self.method.loss(z, labels, x) for z, x in zip(logits.unbind(1), features.unbind(1))
        )
        return torch.stack(list(each)).sum()
