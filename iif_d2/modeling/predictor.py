"""The box predictor: Detectron2's, with a long-tail method between its logits and its scores."""

from __future__ import annotations

import copy

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    _log_classification_stats,
)
from detectron2.structures import Instances
from torch import Tensor, nn

from ..data import config_frequency
from ..errors import ConfigError, UnknownNameError
from ..methods import LongTailMethod, build_method, method_options
from ..ops.exact_topk import with_exact_topk
from .cosine import CosineLinear

CLASSIFIERS = ("linear", "cosine")


class LongTailPredictorMixin:
    """What a method changes in a box predictor, in front of any `FastRCNNOutputLayers`.

    Expects `self.method`; see `attach_method`. Class logits are `cls_score`'s first
    `method.num_logits` columns: methods without a background logit leave the last row idle.
    """

    method: LongTailMethod

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw class logits (R, rows of cls_score) and box deltas (R, 4 or 4C), as Detectron2's."""
        if x.dim() > 2:
            x = torch.flatten(x, start_dim=1)
        scores, proposal_deltas = super().forward(x)
        return self.method(scores, x), proposal_deltas

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """`loss_cls` by the method and `loss_box_reg` by Detectron2; logs the adjusted accuracy."""
        scores, proposal_deltas = predictions
        logits = self._method_logits(scores)
        if len(proposals):
            gt_classes = cat([p.gt_classes for p in proposals])
            proposal_boxes = cat([p.proposal_boxes.tensor for p in proposals])
            # An image without objects has no gt_boxes; its rows are background: no box loss.
            gt_boxes = cat(
                [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
            )
        else:
            gt_classes = torch.empty(0, dtype=torch.int64, device=scores.device)
            proposal_boxes = gt_boxes = torch.empty((0, 4), device=scores.device)
        with torch.no_grad():
            _log_classification_stats(self.method.probabilities(logits), gt_classes)
        losses = {
            "loss_cls": self.method.loss(logits, gt_classes),
            "loss_box_reg": self.box_reg_loss(
                proposal_boxes, gt_boxes, proposal_deltas, gt_classes
            ),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> list[Tensor]:
        """Per image (Ri, C+1): the method's probabilities."""
        scores, _ = predictions
        probabilities = self.method.probabilities(self._method_logits(scores))
        return list(probabilities.split([len(p) for p in proposals]))

    def _method_logits(self, scores: Tensor) -> Tensor:
        return scores[:, : self.method.num_logits]


class LongTailOutputLayers(LongTailPredictorMixin, FastRCNNOutputLayers):
    """Detectron2's box predictor with a method, a choice of classifier and exact fast inference.

    Args:
        input_shape: of the features the box head gives.
        method: built for the same number of classes, with a background.
        classifier: "linear" or "cosine".
        cosine_scale: tau of the cosine classifier.
        kwargs: as of `FastRCNNOutputLayers`.

    Raises:
        ConfigError: the method is for another number of classes, or keys contradict each other.
    """

    inference = with_exact_topk(FastRCNNOutputLayers.inference)

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        method: LongTailMethod,
        classifier: str = "linear",
        cosine_scale: float = 20.0,
        **kwargs,
    ) -> None:
        super().__init__(input_shape, **kwargs)
        attach_method(self, method, classifier, cosine_scale)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        if cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE or cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS:
            raise ConfigError(
                "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE and USE_FED_LOSS are Detectron2's own losses; "
                "with these ROI heads set MODEL.LONG_TAIL.METHOD to Sigmoid or FedLoss instead"
            )
        return {**super().from_config(cfg, input_shape), **cls.long_tail_config(cfg)}

    @staticmethod
    def long_tail_config(cfg: CfgNode) -> dict:
        """What `attach_method` takes, from a config."""
        node = cfg.MODEL.LONG_TAIL
        return {
            "method": build_method(node.METHOD, config_frequency(cfg), **method_options(cfg)),
            "classifier": node.CLASSIFIER,
            "cosine_scale": node.COSINE_SCALE,
        }


def attach_method(
    predictor: FastRCNNOutputLayers,
    method: LongTailMethod,
    classifier: str | None = None,
    cosine_scale: float = 20.0,
) -> None:
    """Turn a built box predictor into one with `method`, in place; its parameters keep their names.

    Args:
        classifier: "linear" or "cosine" starts `cls_score` anew as the method wants it; None keeps
            it, unless the method needs more rows than it has.

    Raises:
        ConfigError: the method is for another number of classes, or without a background.
    """
    if method.num_classes != predictor.num_classes or not method.background:
        raise ConfigError(
            f"the predictor has {predictor.num_classes} classes and a background, the method "
            f"{method.num_classes} {'and' if method.background else 'without'} one; build it for "
            f"MODEL.ROI_HEADS.NUM_CLASSES"
        )
    if classifier is not None and classifier not in CLASSIFIERS:
        raise UnknownNameError.of("MODEL.LONG_TAIL.CLASSIFIER", classifier, CLASSIFIERS)
    if not isinstance(predictor, LongTailPredictorMixin):
        predictor.__class__ = _long_tail_class(type(predictor))
    predictor.method = method.to(predictor.cls_score.weight.device)
    old = predictor.cls_score
    rows = max(old.out_features, method.num_logits)
    if classifier == "cosine" or rows > old.out_features:
        make = {"cosine": lambda *size: CosineLinear(*size, scale=cosine_scale)}
        new = make.get(classifier, nn.Linear)(old.in_features, rows)
        nn.init.normal_(new.weight, std=0.01)
        nn.init.zeros_(new.bias)
        predictor.cls_score = new.to(old.weight)
    if classifier is not None or predictor.cls_score is not old:
        method.init_classifier(predictor.cls_score)


def apply_method(model: nn.Module, method: LongTailMethod) -> nn.Module:
    """Put a method into a built Detectron2 model, whatever its ROI heads; weights stay as they are.

    Every box predictor in the model gets it, each its own copy where there are several (cascade).
    For a test-time method that is all; for the others, train on.

    Args:
        model: any module that holds `FastRCNNOutputLayers`.
        method: from `build_method(name, frequency)`.

    Returns:
        The same model.

    Raises:
        ConfigError: there is no box predictor, or the method is for another number of classes.
    """
    predictors = [m for m in model.modules() if isinstance(m, FastRCNNOutputLayers)]
    if not predictors:
        raise ConfigError(
            "the model has no Fast R-CNN box predictor; a custom one calls method.loss and "
            "method.probabilities itself (README, 'A predictor of your own')"
        )
    for index, predictor in enumerate(predictors):
        attach_method(predictor, copy.deepcopy(method) if index else method)
    return model


_CLASSES: dict[type, type] = {FastRCNNOutputLayers: LongTailOutputLayers}


def _long_tail_class(base: type) -> type:
    """`base` with the mixin in front; one class a base, so that equal models have equal types."""
    if base not in _CLASSES:
        _CLASSES[base] = type(f"LongTail{base.__name__}", (LongTailPredictorMixin, base), {})
    return _CLASSES[base]
