"""Fast R-CNN's last stage (score threshold, NMS of each class, best k) at a price that follows k.

Detectron2 gives every (proposal, class) score above the threshold to NMS: on LVIS hundreds of
thousands of boxes an image, of which 300 are kept. Greedy NMS removes a box only for a better one,
so what it decides about the K best candidates does not depend on the rest. If `topk_per_image` of
them survive, they are the answer; if not, K grows, up to all of them.

What does depend on the rest is taken from it: their number decides whether torchvision goes class
by class or shifts the classes apart, their largest coordinate by how much (`most_shifted`). Where
the installed torchvision does something else, Detectron2's own function is called; so it is while a
model is traced.

Ties: candidates of equal score are ordered by proposal, then class. So does Detectron2 where
torchvision shifts the classes. Where it goes class by class, NMS keeps the same boxes, but
Detectron2 then sorts them unstably: which of several equal ones pass the cut, and in what order, is
chance there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..errors import ConfigError
from . import topk_nms

__all__ = ["exact_topk_inference", "exact_topk_inference_batch"]

FEW_SCORES = 1000  # up to here Detectron2's own function is as fast
BoxesAt = Callable[[Tensor, Tensor], Tensor]  # rows and classes to (n, 4) boxes


def exact_topk_inference(
    boxes: Tensor | BoxesAt,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Arguments and result of Detectron2's `fast_rcnn_inference_single_image`, much sooner.

    The result is the same to the last bit where scores are distinct. Half and double precision
    scores work on CPU too, where torchvision's NMS refuses them.

    Args:
        boxes: (R, C * 4) class-specific or (R, 4) class-agnostic x1, y1, x2, y2 in pixels of the
            network's input image. Or a function that gives the (n, 4) boxes of n candidates, all
            finite, when it is given their rows and classes, int64 (n,): it is asked for few.
        scores: (R, C + 1) in any float type, the background last. Rows with NaN or Inf in either
            tensor are dropped.
        image_shape: (height, width) that boxes are clipped to.
        score_thresh: detections have a greater score.
        nms_thresh: of two boxes of a class with a greater IoU only the better may stay; in [0, 1].
        topk_per_image: the number of detections to return at most; all if negative.

    Returns:
        Instances with `pred_boxes` (float32), `scores` and `pred_classes`, best first (for ties see
        the module), and the row of each among the finite rows, int64.

    Raises:
        ConfigError: the shapes of boxes and scores do not belong together.

    Examples:
        >>> boxes = torch.tensor([[0., 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]])
        >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])  # a class, the background
        >>> found, rows = exact_topk_inference(boxes, scores, (32, 32), 0.05, 0.5, 100)
        >>> rows  # the second box overlaps the first
        tensor([0, 2])
    """
    stage = (score_thresh, nms_thresh, topk_per_image)
    limit = None if torch.jit.is_tracing() else topk_nms.most_shifted(scores.device)
    given = isinstance(boxes, Tensor)
    if limit is None and not given:
        boxes = _all_boxes(boxes, scores)
    if limit is not None and given:
        _check_shapes(boxes, scores)
    if limit is None or (
        given and scores.dtype == torch.float32 and scores.numel() <= min(FEW_SCORES, limit)
    ):
        return fast_rcnn.fast_rcnn_inference_single_image(boxes, scores, image_shape, *stage)
    finite = _finite_rows(*([boxes, scores] if given else [scores]))
    boxes_at = _boxes_at(boxes) if given else boxes
    scores = (scores if finite is None else scores[finite])[:, :-1]

    def clipped_boxes(rows: Tensor, classes: Tensor) -> Boxes:
        # Clipping is elementwise, so it can wait until the few boxes that matter are known.
        selected = Boxes(boxes_at(rows if finite is None else finite[rows], classes))
        selected.clip(image_shape)
        return selected

    with torch.no_grad():
        rows, classes = topk_nms.topk_nms(
            scores, lambda *which: clipped_boxes(*which).tensor, *stage, limit
        )
    result = Instances(image_shape)
    result.pred_boxes = clipped_boxes(rows, classes)
    result.scores = scores[rows, classes]
    result.pred_classes = classes
    return result, rows


def exact_topk_inference_batch(
    boxes: list[Tensor] | list[BoxesAt],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """`exact_topk_inference` of each image: arguments and result of `fast_rcnn_inference`."""
    results = [
        exact_topk_inference(*image, score_thresh, nms_thresh, topk_per_image)
        for image in zip(boxes, scores, image_shapes)
    ]
    return [instances for instances, _ in results], [rows for _, rows in results]


def _check_shapes(boxes: Tensor, scores: Tensor) -> None:
    if (
        boxes.dim() != 2
        or scores.dim() != 2
        or len(boxes) != len(scores)
        or boxes.shape[1] not in (4, 4 * scores.shape[1] - 4)
    ):
        raise ConfigError(
            f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (R, 4) or "
            "(R, 4 * C), and (R, C + 1) with the background last"
        )


def _boxes_at(boxes: Tensor) -> BoxesAt:
    boxes = boxes.unflatten(1, (boxes.shape[1] // 4, 4))
    specific = boxes.shape[1] > 1
    return lambda rows, classes: boxes[rows, classes if specific else 0]


def _all_boxes(boxes_at: BoxesAt, scores: Tensor) -> Tensor:
    """(R, 4C)."""
    everywhere = torch.ones_like(scores[:, :-1])
    boxes = boxes_at(*everywhere.nonzero(as_tuple=True))
    return boxes.reshape(len(scores), 4 * everywhere.shape[1])


def _finite_rows(*tensors: Tensor) -> Tensor | None:
    """The rows in which nothing is NaN or Inf, int64; None where those are all."""

    def total(values: Tensor) -> Tensor:
        values = values.detach()
        return values.sum(dtype=torch.promote_types(values.dtype, torch.float32))

    # One NaN or Inf makes the sum so, hence a finite sum clears every row, in a fiftieth of
    # isfinite's time; a sum that merely overflows leads to the full check.
    if math.isfinite(sum(map(total, tensors))):
        return None
    finite = [torch.isfinite(values).all(dim=1) for values in tensors]
    return torch.stack(finite).all(dim=0).nonzero().squeeze(1)
