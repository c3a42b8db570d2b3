"""Calibrated: a test-time rule over a method that was trained with one of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import ConfigError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, Reads
from .registry import build_method


@METHOD_REGISTRY.register()
class Calibrated(LongTailMethod):
    """The loss of `base`; test: the scores that `rule` gives to base's adjusted logits.

    FRACAL on IIF, say, is softmax(w_c z_c + FRACAL's shift). A checkpoint of the base alone loads,
    so nothing is trained again; `fold` takes both at once. The options of the two are those of
    their own nodes.

    Args:
        base: the method of training: IIF, or another whose test is the softmax of adjusted logits.
            With MODEL.LONG_TAIL.IIF.POST_HOC it is a rule itself, over a model of Softmax.
        rule: FRACAL, NorCal, or another that acts on a softmax's logits at test alone:
            LogitAdjustment or IIF with POST_HOC.
    """

    supports_no_background = False  # as FRACAL's
    uses_frequency = False  # the two may
    given_by_model = ("base_options", "rule_options")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        base: str = "IIF",
        rule: str = "FRACAL",
        base_options: dict[str, Any] | None = None,
        rule_options: dict[str, Any] | None = None,
    ) -> None:
        parts = {
            "base": build_method(base, frequency, background, **(base_options or {})),
            "rule": build_method(rule, frequency, background, **(rule_options or {})),
        }
        for role, part in parts.items():
            if not part.is_adjusted_softmax:
                raise ConfigError(
                    f"Calibrated: {role} {type(part).__name__} is no softmax of adjusted logits; "
                    f"use IIF, Softmax, NorCal, FRACAL or LogitAdjustment"
                )
        if parts["rule"].reads != Reads("softmax") or parts["rule"].has_state:
            raise ConfigError(
                f"Calibrated: rule {rule} acts in training, too; use FRACAL or NorCal, or set "
                f"MODEL.LONG_TAIL.{rule}.POST_HOC to True where it has that key"
            )
        self.reads, self.has_state = parts["base"].reads, parts["base"].has_state
        super().__init__(frequency, background)
        self.base, self.rule = parts["base"], parts["rule"]

    def init_classifier(self, classifier: nn.Linear) -> None:
        self.base.init_classifier(classifier)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        (scale, shift), (factor, more) = self.base.affine(), self.rule.affine()
        return factor * scale, factor * shift + more

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return self.base.loss(logits, labels, features)

    def _adjust(self, logits: Tensor) -> Tensor:
        return self.rule.adjust(self.base.adjust(logits))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """From a checkpoint of the base method alone `base` takes all, and `rule` the counts."""
        own = [key for key in state_dict if key.startswith(prefix)]
        if not any(key.startswith(f"{prefix}rule.") for key in own):
            theirs = {key[len(prefix) :]: state_dict.pop(key) for key in own}
            for name, value in theirs.items():
                state_dict[f"{prefix}base.{name}"] = value
                if name in self.rule.state_dict():
                    state_dict[f"{prefix}rule.{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args)
