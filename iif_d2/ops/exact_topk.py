"""Fast R-CNN's last stage (score threshold, NMS of each class, best k) at a price that follows k.

Detectron2 gives every (proposal, class) score above the threshold to NMS: on LVIS hundreds of
thousands of boxes an image, of which 300 are kept. Greedy NMS removes a box only for a better one,
so what it decides about the K best candidates does not depend on the rest. If `topk_per_image` of
them survive, they are the answer; if not, K grows, up to all of them. What does depend on the rest
is taken from it: by the number of all candidates torchvision chooses between going class by class
and shifting each class by the largest coordinate of all candidates, which moves float32 IoUs; the
same choice and the same shift are used here.

Ties: candidates of equal score are ordered by proposal, then class. So does Detectron2 where
torchvision shifts the classes. Where it goes class by class, NMS keeps the same boxes, but
Detectron2 then sorts them unstably: which of several equal ones pass the cut, and in what order, is
chance there.
"""

from __future__ import annotations

import bisect
import functools
import math
import types

import torch
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..errors import ConfigError
from . import topk_nms

__all__ = [
    "exact_topk_inference",
    "exact_topk_inference_batch",
    "use_exact_topk",
    "with_exact_topk",
]

FEW_SCORES = 5000  # up to here Detectron2's own function is as fast, on a CPU


def exact_topk_inference(
    boxes: Tensor,
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
            network's input image.
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
    """
    if not topk_nms.SUPPORTED or torch.jit.is_tracing() or _few(boxes, scores, score_thresh):
        return fast_rcnn.fast_rcnn_inference_single_image(
            boxes, scores, image_shape, score_thresh, nms_thresh, topk_per_image
        )
    _check_shapes(boxes, scores)
    boxes, scores = _finite_rows(boxes, scores)
    boxes, scores = boxes.unflatten(1, (boxes.shape[1] // 4, 4)), scores[:, :-1]

    def clipped_boxes(rows: Tensor, classes: Tensor) -> Boxes:
        # Clipping is elementwise, so it can wait until the few boxes that matter are known.
        selected = Boxes(boxes[rows, classes if boxes.shape[1] > 1 else 0])
        selected.clip(image_shape)
        return selected

    with torch.no_grad():
        rows, classes = topk_nms.topk_nms(
            scores,
            lambda rows, classes: clipped_boxes(rows, classes).tensor,
            score_thresh,
            nms_thresh,
            topk_per_image,
        )
    result = Instances(image_shape)
    result.pred_boxes = clipped_boxes(rows, classes)
    result.scores = scores[rows, classes]
    result.pred_classes = classes
    return result, rows


def exact_topk_inference_batch(
    boxes: list[Tensor],
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


def with_exact_topk(function: types.FunctionType) -> types.FunctionType:
    """A copy of a Detectron2 function that calls the exact stage where it names Detectron2's.

    For subclasses that keep the rest of the installed Detectron2's method as it is:
    `_forward_box = with_exact_topk(CascadeROIHeads._forward_box)`.
    """
    return topk_nms.with_globals(
        function,
        fast_rcnn_inference=exact_topk_inference_batch,
        fast_rcnn_inference_single_image=exact_topk_inference,
    )


def use_exact_topk(model: nn.Module) -> nn.Module:
    """Make a plain Detectron2 model (standard, C4 and cascade heads, TTA) use the exact stage.

    Only this model changes: each module in it whose method calls Detectron2's `fast_rcnn_inference`
    gets a subclass of its class with that method copied by `with_exact_topk`. Calling it again
    changes nothing. Rotated boxes have a final stage of their own and keep it.

    Returns:
        The model.

    Raises:
        ConfigError: nothing in the model calls Detectron2's `fast_rcnn_inference`.
    """
    plain = (fast_rcnn.fast_rcnn_inference, fast_rcnn.fast_rcnn_inference_single_image)
    exact = (exact_topk_inference_batch, exact_topk_inference)
    found = False
    for module in model.modules():
        cls = type(module)
        methods = {
            name: getattr(cls, name, None)
            for name in ("inference", "_forward_box", "_merge_detections")
        }
        copies = {n: with_exact_topk(m) for n, m in methods.items() if _uses(m, plain)}
        if copies:
            module.__class__ = type(cls.__name__, (cls,), {**copies, "__module__": cls.__module__})
        found |= bool(copies) or any(_uses(method, exact) for method in methods.values())
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no box head that uses Detectron2's fast_rcnn_inference"
        )
    return model


def _uses(method: object, stages: tuple[types.FunctionType, ...]) -> bool:
    """Whether a method's code names one of these functions as a global."""
    if not isinstance(method, types.FunctionType):
        return False
    named = [method.__globals__.get(name) for name in method.__code__.co_names]
    return any(value is stage for value in named for stage in stages)


def _few(boxes: Tensor, scores: Tensor, score_thresh: float) -> bool:
    """Whether finding the best costs more than NMS of all, whose ties are ordered as here."""
    number = scores.numel()
    if not 0 < number <= FEW_SCORES or not boxes.dtype == scores.dtype == torch.float32:
        return False
    if boxes.shape != (scores.shape[0], 4 * scores.shape[-1] - 4):
        _check_shapes(boxes, scores)
    # No more candidates than scores. To count them takes a tenth of what is to be done with some.
    if number <= _surely_shifted(scores.device):
        return True
    candidates = int(torch.count_nonzero(scores[:, :-1] > score_thresh))
    return not topk_nms.goes_class_by_class(candidates, scores.device)


@functools.lru_cache
def _surely_shifted(device: torch.device) -> int:
    """The most boxes, up to FEW_SCORES, that torchvision does not treat class by class."""
    numbers = range(1, FEW_SCORES + 1)
    return bisect.bisect_left(numbers, 1, key=lambda n: topk_nms.goes_class_by_class(n, device))


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


def _finite_rows(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the rows in which anything is NaN or Inf."""

    def total(values: Tensor) -> Tensor:
        values = values.detach()
        return values.sum(dtype=torch.promote_types(values.dtype, torch.float32))

    # One NaN or Inf makes the sum so, hence a finite sum clears every row, in a fiftieth of
    # isfinite's time; a sum that merely overflows leads to the full check.
    if not math.isfinite(total(boxes) + total(scores)):
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes, scores = boxes[finite], scores[finite]
    return boxes, scores
