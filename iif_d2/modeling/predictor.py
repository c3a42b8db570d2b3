"""The box predictor: Detectron2's, with a long-tail method between its logits and its scores.

Shapes in this module, as in Detectron2's `fast_rcnn.py` (whose K is C here):

    R: regions of interest of all images in the batch; Ri: those of image i
    C: foreground classes
    K: columns of the logits that the method reads, `method.num_logits`: C + 1 with the background
        last, C or C + 2 in some methods
"""

from __future__ import annotations

import copy
import functools

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
from .class_specific import ClassSpecificOutputLayers, apply_class_specific
from .cosine import CosineLinear
from .dense import LongTailDenseHeadMixin, RetinaNetHead

CLASSIFIERS = ("linear", "cosine")


class LongTailPredictorMixin:
    """What a method changes in a box predictor, in front of any `FastRCNNOutputLayers`.

    The logits are `cls_score`'s first K columns: a method without a background logit leaves the
    last one idle.
    """

    method: LongTailMethod

    def set_method(
        self, method: LongTailMethod, classifier: str | None = None, cosine_scale: float = 20.0
    ) -> None:
        """Predict with `method` from now on.

        Args:
            classifier: "linear" or "cosine" starts `cls_score` anew as the method wants it; None
                keeps it, unless the method needs more columns than it has.
            cosine_scale: tau of the cosine classifier.

        Raises:
            ConfigError: the method is for another number of classes, or without a background.
        """
        if method.num_classes != self.num_classes or not method.background:
            raise ConfigError(
                f"the predictor has {self.num_classes} classes and a background, the method "
                f"{method.num_classes} {'and' if method.background else 'without'} one; build it "
                f"for MODEL.ROI_HEADS.NUM_CLASSES"
            )
        if classifier is not None and classifier not in CLASSIFIERS:
            raise UnknownNameError.of("MODEL.LONG_TAIL.CLASSIFIER", classifier, CLASSIFIERS)
        old = self.cls_score
        self.method = method.to(old.weight.device)
        columns = max(old.out_features, method.num_logits)
        if classifier == "cosine" or columns > old.out_features:
            size = (old.in_features, columns)
            cosine = classifier == "cosine"
            new = CosineLinear(*size, scale=cosine_scale) if cosine else nn.Linear(*size)
            nn.init.normal_(new.weight, std=0.01)
            nn.init.zeros_(new.bias)
            self.cls_score = new.to(old.weight)
        if classifier is not None or self.cls_score is not old:
            method.init_classifier(self.cls_score)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw class logits (R, columns of cls_score) and box deltas (R, 4) or (R, 4C).

        Args:
            x: features of the regions, (R, ...).
        """
        if x.dim() > 2:
            x = torch.flatten(x, start_dim=1)
        scores, proposal_deltas = super().forward(x)
        return self.method(scores, x), proposal_deltas

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """`loss_cls` by the method and `loss_box_reg` by Detectron2; logs the adjusted accuracy."""
        scores, proposal_deltas = predictions
        logits = self.logits(predictions)
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
        """Of each image the method's probabilities, (Ri, C + 1)."""
        probabilities = self.method.probabilities(self.logits(predictions))
        # Not len(p), which tracing takes for a constant.
        return list(probabilities.split([p.proposal_boxes.tensor.shape[0] for p in proposals]))

    def logits(self, predictions: tuple[Tensor, Tensor]) -> Tensor:
        """The method's, (R, K), out of what `forward` gave."""
        return predictions[0][:, : self.method.num_logits]


class LongTailOutputLayers(LongTailPredictorMixin, ClassSpecificOutputLayers):
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
        self.set_method(method, classifier, cosine_scale)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        if cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE or cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS:
            raise ConfigError(
                "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE and USE_FED_LOSS are Detectron2's own losses; "
                "with these ROI heads set MODEL.LONG_TAIL.METHOD to Sigmoid or FedLoss instead"
            )
        return {
            **super().from_config(cfg, input_shape),
            "method": build_method(
                cfg.MODEL.LONG_TAIL.METHOD, config_frequency(cfg), **method_options(cfg)
            ),
            "classifier": cfg.MODEL.LONG_TAIL.CLASSIFIER,
            "cosine_scale": cfg.MODEL.LONG_TAIL.COSINE_SCALE,
        }

    @classmethod
    def in_place_of(cls, plain: FastRCNNOutputLayers, cfg: CfgNode) -> LongTailOutputLayers:
        """The predictor that Detectron2 built from `cfg`, with the method of `cfg`.

        No random number is drawn but for a classifier that starts anew: the same seed starts the
        same model with and without a method.
        """
        with torch.random.fork_rng(devices=[]):
            shape = ShapeSpec(channels=plain.cls_score.in_features)
            layers = cls(cfg, shape, box2box_transform=plain.box2box_transform)
        layers.cls_score, layers.bbox_pred = plain.cls_score, plain.bbox_pred
        node = cfg.MODEL.LONG_TAIL
        layers.set_method(layers.method, node.CLASSIFIER, node.COSINE_SCALE)
        return layers


def apply_method(model: nn.Module, method: LongTailMethod) -> nn.Module:
    """Put a method into a built Detectron2 model, whatever its heads; weights stay as they are.

    Every box predictor in the model gets it, each its own copy where there are several (cascade).
    For a test-time method that is all; for the others, train on. Class-specific heads compute only
    the class that counts from now on (`apply_class_specific`).

    A RetinaNet or FCOS takes methods that act at test alone: Sigmoid and Softmax (nothing), NorCal,
    FRACALSigmoid, LogitAdjustment with post_hoc; see `LongTailDenseHeadMixin`.

    Args:
        model: any module that holds `FastRCNNOutputLayers` or a `RetinaNetHead`.
        method: from `build_method(name, frequency)`.

    Returns:
        The same model.

    Raises:
        ConfigError: there is no box predictor, or the method is for another number of classes, or
            for other heads.

    Examples:
        >>> frequency = count_class_frequency("my_train")
        >>> model = apply_method(model, build_method("NorCal", frequency, gamma=0.6))
        >>> model.roi_heads.box_predictor.method
        NorCal()
    """
    kinds = FastRCNNOutputLayers, RetinaNetHead
    predictors = [m for m in model.modules() if isinstance(m, kinds)]
    if not predictors:
        raise ConfigError(
            "the model has no Fast R-CNN box predictor and no head of a RetinaNet or FCOS; a "
            "custom one calls method.loss and method.probabilities itself (docs/projects.md)"
        )
    for index, predictor in enumerate(predictors):
        if not isinstance(predictor, (LongTailPredictorMixin, LongTailDenseHeadMixin)):
            predictor.__class__ = _with_method(type(predictor))
        predictor.set_method(copy.deepcopy(method) if index else method)
    with_regions = any(isinstance(p, FastRCNNOutputLayers) for p in predictors)
    return apply_class_specific(model) if with_regions else model


@functools.cache
def _with_method(base: type) -> type:
    """`base` with the mixin in front; one class a base, so that equal models have equal types."""
    if base in (FastRCNNOutputLayers, ClassSpecificOutputLayers):
        return LongTailOutputLayers
    mixin = LongTailDenseHeadMixin if issubclass(base, RetinaNetHead) else LongTailPredictorMixin
    return type(f"LongTail{base.__name__}", (mixin, base), {})
