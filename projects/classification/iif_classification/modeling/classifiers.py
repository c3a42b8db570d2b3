"""From features (R, D) to logits (R, C): linear and cosine classifiers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iif_d2.errors import ConfigError

from ..config import choose


class CosineClassifier(nn.Module):
    """z = scale * w/|w| . x/(1+|x|), no bias: long features count more, at most `scale`.

    As in the IIF paper's CIFAR and ImageNet recipes and Gidaris and Komodakis (2018).

    Args:
        num_features: D.
        num_classes: C.
        scale: > 0; the start of a learnt scale.
        learn_scale: whether its root is a parameter, as in the release's Places-LT.

    Raises:
        ConfigError: a scale that is not positive.
    """

    def __init__(
        self, num_features: int, num_classes: int, scale: float = 16.0, learn_scale: bool = False
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ConfigError(f"MODEL.COSINE_SCALE is {scale}; it must be above 0")
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        self.root = nn.Parameter(torch.tensor(float(scale) ** 0.5)) if learn_scale else None
        self._scale = float(scale)
        bound = num_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    @property
    def scale(self) -> Tensor | float:
        return self._scale if self.root is None else self.root**2

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()  # norms in bf16 would cost two digits of every logit
        squashed = features / (1 + features.norm(dim=1, keepdim=True))
        return self.scale * F.linear(squashed, F.normalize(self.weight))

    def extra_repr(self) -> str:
        learnt = f"{self._scale:g}" if self.root is None else "learnt"
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, scale={learnt}"


class NormedClassifier(CosineClassifier):
    """z = scale * w/|w| . x/|x|: LDAM's (Cao et al., 2019) and RIDE's."""

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features.float()), F.normalize(self.weight))


def _linear(num_features: int, num_classes: int, scale: float) -> nn.Linear:
    return nn.Linear(num_features, num_classes)


def _learnt(num_features: int, num_classes: int, scale: float) -> CosineClassifier:
    return CosineClassifier(num_features, num_classes, scale, learn_scale=True)


CLASSIFIERS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "linear": _linear,
    "cosine": CosineClassifier,
    "learnt_cosine": _learnt,
    "normed": NormedClassifier,
}


def build_classifier(name: str, num_features: int, num_classes: int, scale: float) -> nn.Module:
    """The classifier of this name; `scale` is unused by the linear one.

    Raises:
        UnknownNameError: no such classifier.
    """
    return choose("MODEL.CLASSIFIER", name, CLASSIFIERS)(num_features, num_classes, scale)
