"""Dense heads, RetinaNet's and FCOS's: C sigmoids a place, and no background of their own.

Their loss (the focal loss) and its start (the prior of the bias) stay Detectron2's: a method is its
test-time rule here, over logits that are trained as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor

from ..errors import ConfigError
from ..methods import LongTailMethod, Reads
from ..methods.binary import BinaryMethod


class LongTailDenseHeadMixin:
    """What a method changes in front of any `RetinaNetHead`: the logits, where it does not train.

    Each class is asked against a background whose logit is 0, so that a method's shift t of the
    foreground logits (NorCal's, post-hoc logit adjustment's) gives sigma(z_c + t_c). A method with
    a sigmoid for each class (Sigmoid, FRACALSigmoid) has its own scores.
    """

    method: LongTailMethod

    def set_method(self, method: LongTailMethod) -> None:
        """Predict with `method` from now on; the weights stay as they are.

        Raises:
            ConfigError: it is for another number of classes, or no rule for such a head.
        """
        classes = num_classes(self)
        if method.num_classes != classes:
            raise ConfigError(
                f"the dense head has {classes} classes, the method {method.num_classes}; build it "
                f"for the model's number (MODEL.RETINANET.NUM_CLASSES)"
            )
        if reason := _refusal(method):
            raise ConfigError(
                f"{type(method).__name__} is not for the head of a {_plain_name(self)}: {reason}"
            )
        self.method = method.to(self.cls_score.weight.device)
        method.reads = Reads("sigmoid")  # whatever it is for elsewhere

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """As the head's own: lists of each level's logits (N, A C, H, W), deltas and what else."""
        logits, *others = super().forward(features)
        if not self.training:
            shift = None
            if self.method.not_affine is None:
                shift = torch.from_numpy(shift_of(self.method)).to(logits[0])
            logits = [self._adjusted(level, shift) for level in logits]
        return (logits, *others)

    def _adjusted(self, logits: Tensor, shift: Tensor | None) -> Tensor:
        """The logits whose sigmoids are the method's scores."""
        by_class = logits.unflatten(1, (-1, self.method.num_classes))  # (N, A, C, H, W)
        if shift is not None:
            return (by_class + shift[:, None, None]).flatten(1, 2)
        last = by_class.movedim(2, -1)  # (N, A, H, W, C)
        scores = self.method.probabilities(last.flatten(0, 3))[:, : self.method.num_classes]
        return torch.logit(scores).view(last.shape).movedim(-1, 2).flatten(1, 2)


def shift_of(method: LongTailMethod) -> np.ndarray:
    """What the method adds to each class's logit, float64 (C,)."""
    return method.affine()[1][: method.num_classes]


def num_classes(head: RetinaNetHead) -> int:
    """Of the head's logits; a place has as many boxes as classes' groups."""
    anchors = head.bbox_pred.out_channels // 4
    return head.cls_score.out_channels // anchors


def _refusal(method: LongTailMethod) -> str | None:
    """Why the method is no rule for sigmoids that a focal loss has trained; None where it is."""
    binary = isinstance(method, BinaryMethod)
    if method.second_stage:
        return "it learns over the classifier of a trained model, which it takes for a linear one"
    if method.reads.factor or not (binary or method.not_affine) and _scales(method):
        return (
            "a factor above 1 of a sigmoid's logit takes every score below one half down, the "
            "rarest classes' most, and one below 1 the other way; take one that shifts (NorCal, "
            "LogitAdjustment with post_hoc) or FRACALSigmoid"
        )
    if method.has_state or not (getattr(method, "post_hoc", False) or _plain_loss(method)):
        return (
            "it acts by its own loss, and the head keeps its focal loss; take one that acts at "
            "test over a plain loss: NorCal, LogitAdjustment with post_hoc, FRACALSigmoid"
        )
    if not binary and method.not_affine:
        return method.not_affine
    return None


def _plain_loss(method: LongTailMethod) -> bool:
    """Whether it trains as softmax or sigmoid cross-entropy does, without a background's logit."""
    if not isinstance(method, BinaryMethod):
        return type(method)._loss is LongTailMethod._loss
    own = ("_loss", "_weight", "_entropy", "_target")
    plain = all(getattr(type(method), name) is getattr(BinaryMethod, name) for name in own)
    return plain and method.num_logits == method.num_classes


def _scales(method: LongTailMethod) -> bool:
    return bool((method.affine()[0][: method.num_classes] != 1).any())


def _plain_name(head: RetinaNetHead) -> str:
    ours = __name__.partition(".")[0]
    kind = next(k for k in type(head).__mro__ if not k.__module__.startswith(f"{ours}."))
    return kind.__name__.removesuffix("Head")
