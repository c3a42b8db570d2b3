"""Several experts over one stem: features (R, K, D) and logits (R, K, C)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ExpertBackbone(nn.Module):
    """A shared stem and K trunks, each with its own weights (Wang et al., ICLR 2021).

    Args:
        stem: the stages that are computed once.
        make_trunk: makes one expert's stages, with `num_features`.
        experts: K.
    """

    def __init__(self, stem: nn.Module, make_trunk: Callable[[], nn.Module], experts: int) -> None:
        super().__init__()
        self.stem = stem
        self.trunks = nn.ModuleList(make_trunk() for _ in range(experts))
        self.num_features = self.trunks[0].num_features

    def forward(self, images: Tensor) -> Tensor:
        shared = self.stem(images)
        return torch.stack([trunk(shared) for trunk in self.trunks], dim=1)


class ExpertClassifiers(nn.ModuleList):
    """K classifiers, one for each expert: (R, K, D) -> (R, K, C)."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([classifier(features[:, k]) for k, classifier in enumerate(self)], dim=1)
