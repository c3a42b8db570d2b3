"""Class-specific heads that compute the class that counts, and of the other classes nothing.

Detectron2 predicts a mask and a box of every class for each region, and reads one: the labelled
class's in training, the predicted one's at test. These heads have its parameters, losses,
gradients and predictions, but for rounding, at a price that does not follow the number of classes.
The full product is left in a graph that is traced for export.

Shapes in this module, as in `predictor`: R regions, C foreground classes, D features.
"""

from __future__ import annotations

import functools

import torch
from detectron2.layers import Conv2d, cat
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, MaskRCNNConvUpsampleHead
from detectron2.modeling.roi_heads.mask_head import (
    BaseMaskRCNNHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from detectron2.structures import Instances
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops.class_rows import LazyDeltas, of_classes
from ..ops.exact_topk import BoxesAt, exact_topk_inference_batch
from .mask_head import NormedConv2d

MANY_CLASSES = 64  # from here on boxes are regressed where they are read; below that gains nothing
_LARGEST = 1e15  # deltas and coordinates up to here give finite boxes in float32


class ClassSpecificOutputLayers(FastRCNNOutputLayers):
    """Detectron2's box predictor, with boxes only where they are read, and exact fast inference.

    Training regresses the foreground regions, each for its class; inference regresses and decodes
    the candidates that `exact_topk_inference` looks at. Cascade's class-agnostic stages, few
    classes and layers that are not plain `nn.Linear` keep Detectron2's way.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | LazyDeltas]:
        """Class logits (R, columns of cls_score) and box deltas (R, 4) or (R, 4C).

        Args:
            x: features of the regions, (R, ...).
        """
        if not self._regresses_where_read():
            return super().forward(x)
        if x.dim() > 2:
            x = torch.flatten(x, start_dim=1)
        return self.cls_score(x), LazyDeltas(x, self.bbox_pred, self.num_classes)

    def box_reg_loss(
        self,
        proposal_boxes: Tensor,
        gt_boxes: Tensor,
        pred_deltas: Tensor | LazyDeltas,
        gt_classes: Tensor,
    ) -> Tensor:
        if isinstance(pred_deltas, LazyDeltas):
            foreground = (gt_classes >= 0) & (gt_classes < self.num_classes)
            rows = foreground.nonzero().squeeze(1)
            deltas = pred_deltas.of(rows, gt_classes[rows])
            # As of a class-agnostic layer: what Detectron2 does not read stays 0.
            pred_deltas = deltas.new_zeros(len(gt_classes), 4).index_copy(0, rows, deltas)
        return super().box_reg_loss(proposal_boxes, gt_boxes, pred_deltas, gt_classes)

    def inference(
        self, predictions: tuple[Tensor, Tensor | LazyDeltas], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """As Detectron2's: of each image the detections, and their rows of Ri."""
        return exact_topk_inference_batch(
            self._boxes_where_read(predictions[1], proposals)
            or self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def _regresses_where_read(self) -> bool:
        return (
            self.num_classes >= MANY_CLASSES
            and type(self.bbox_pred) is nn.Linear
            and self.bbox_pred.out_features == 4 * self.num_classes
            and isinstance(self.box2box_transform, Box2BoxTransform)
            and not _is_watched(self.bbox_pred)
            and not torch.jit.is_tracing()
        )

    def _boxes_where_read(
        self, deltas: Tensor | LazyDeltas, proposals: list[Instances]
    ) -> list[BoxesAt] | None:
        """Each image's boxes as a function; None where all are needed.

        So where a box might not be finite: Detectron2 drops its whole row.
        """
        known = type(self).predict_boxes is FastRCNNOutputLayers.predict_boxes
        if not known or not isinstance(deltas, LazyDeltas) or not len(deltas):
            return None
        boxes = [p.proposal_boxes.tensor for p in proposals]
        # Not `>`, which NaN passes.
        small = deltas.bound() / min(self.box2box_transform.weights) <= _LARGEST
        if not small or not float(cat(boxes).abs().max()) <= _LARGEST:
            return None
        firsts = [0]
        for of_image in boxes:
            firsts.append(firsts[-1] + len(of_image))
        return [
            functools.partial(self._decode, deltas, first, of_image)
            for first, of_image in zip(firsts, boxes)
        ]

    def _decode(
        self, deltas: LazyDeltas, first: int, boxes: Tensor, rows: Tensor, classes: Tensor
    ) -> Tensor:
        """The (n, 4) boxes of n candidates of the image whose rows begin at `first`."""
        return self.box2box_transform.apply_deltas(deltas.of(first + rows, classes), boxes[rows])


class ClassSpecificMasks:
    """Mask logits of one class a region, in front of any `MaskRCNNConvUpsampleHead`."""

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Detectron2's loss, or the instances with `pred_masks` (n, 1, H, W).

        Args:
            x: pooled features of the regions, (R, channels, h, w).
            instances: of each image, with `gt_classes` in training, else `pred_classes`.
        """
        *layers, predictor = self
        if predictor is not self.predictor or not _is_of_classes(predictor):
            return super().forward(x, instances)
        classes = [i.gt_classes if self.training else i.pred_classes for i in instances if len(i)]
        for layer in layers:
            x = layer(x)
        logits = _logits_of(predictor, x, cat(classes) if classes else x.new_zeros(0).long())
        # Detectron2's functions take what one class predicts as a class-agnostic head's.
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * getattr(self, "loss_weight", 1.0)}
        mask_rcnn_inference(logits, instances)
        return instances


class ClassSpecificMaskHead(ClassSpecificMasks, MaskRCNNConvUpsampleHead):
    """`MaskRCNNConvUpsampleHead` that computes the labelled or predicted class's masks only."""


def apply_class_specific(model: nn.Module) -> nn.Module:
    """Have a built Detectron2 model compute only the masks and boxes that count.

    Parameters and checkpoints stay, and so do losses, gradients and predictions but for rounding.
    `LongTailROIHeads` and `apply_method` do this already; for a model without a method this is all.

    Heads with a forward pass of their own, such as PointRend's, stay as they are.

    Args:
        model: any module that holds Detectron2's box predictors or mask heads, or is one.

    Returns:
        The same model.

    Raises:
        ConfigError: there are none.

    Examples:
        >>> model = apply_class_specific(model)
        >>> type(model.roi_heads.mask_head).__name__
        'ClassSpecificMaskHead'
    """
    heads = [m for m in model.modules() if isinstance(m, (FastRCNNOutputLayers, BaseMaskRCNNHead))]
    if not heads:
        raise ConfigError("the model has neither a Fast R-CNN box predictor nor a mask head")
    for head in heads:
        head.__class__ = _class_specific(type(head))
    return model


@functools.cache
def _class_specific(base: type) -> type:
    """What computes the same as `base`; itself where its own ways are not known."""
    if base is FastRCNNOutputLayers:
        return ClassSpecificOutputLayers
    if base is MaskRCNNConvUpsampleHead:
        return ClassSpecificMaskHead
    known = (
        issubclass(base, MaskRCNNConvUpsampleHead)
        and issubclass(base, nn.Sequential)
        and base.forward is BaseMaskRCNNHead.forward
        and base.layers is MaskRCNNConvUpsampleHead.layers
    )
    return type(f"ClassSpecific{base.__name__}", (ClassSpecificMasks, base), {}) if known else base


def _is_of_classes(layer: nn.Module) -> bool:
    """Whether the mask predictor is a product of each pixel with a class's weights, of many."""
    return (
        type(layer) in (nn.Conv2d, Conv2d, NormedConv2d)
        and layer.out_channels > 1
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and not getattr(layer, "norm", None)
        and not getattr(layer, "activation", None)
        and not _is_watched(layer)
        and not torch.jit.is_tracing()
    )


def _logits_of(layer: nn.Conv2d, x: Tensor, classes: Tensor) -> Tensor:
    """(n, 1, H, W): of what `layer` makes of x, (n, D, H, W), one class each."""
    weight, bias = layer.weight, layer.bias
    if isinstance(layer, NormedConv2d):
        x, weight = layer.directions(x, weight)
    products = of_classes(
        x.flatten(2), weight.flatten(2).transpose(1, 2), None if bias is None else bias[:, None],
        classes,
    )  # fmt: skip
    return products.unflatten(2, x.shape[2:])


def _is_watched(layer: nn.Module) -> bool:
    """Whether a hook would miss the call of the layer, such as old weight norm's."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)
