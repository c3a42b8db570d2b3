"""The box head's last stage: score threshold, NMS of each class, the best k."""

from __future__ import annotations

import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from measure import Row, alternate

from iif_d2.modeling import exact_topk_inference

IMAGE = (800, 1333)
# Softmax scores of normal logits with this spread have 127,000, 623,000 or all of 1,203,000
# candidates above 1e-4.
LVIS_SPREADS = (3.665, 2.01, 0.5)


def run(options):
    for spread in LVIS_SPREADS:
        yield measured(1000, 1203, spread, 1e-4, 300, options)
    for proposals in (1000, 100, 10):
        yield measured(proposals, 80, 3.0, 0.05, 100, options)
    for classes in (80, 300, 1203, 4000, 13000):
        row = measured(1000, classes, 2.01, 1e-4, 300, options, agnostic=True)
        row.series, row.x = "classes", classes
        yield row


def measured(
    proposals: int, classes: int, spread: float, threshold: float, k: int, options, agnostic=False
) -> Row:
    boxes, scores = simulated(proposals, classes, spread, options.device, agnostic)
    candidates = int((scores[:, :-1] > threshold).sum())
    arguments = (boxes, scores, IMAGE, threshold, 0.5, k)
    sides = {
        "ours": lambda: exact_topk_inference(*arguments),
        "theirs": lambda: fast_rcnn_inference_single_image(*arguments),
    }
    slow = candidates > 1_000_000 and classes > 1203
    small = candidates < 10_000
    repeat = 1 if slow else 50 if small else 3 if candidates > 1_000_000 else 5
    repeat *= 3 if options.full else 1
    seconds = alternate(sides, repeat, options.device, 0 if slow else 1, 1 if small else 5)
    ours, theirs = (call() for call in sides.values()) if not slow else (None, None)
    return Row(
        "top-k inference",
        f"{proposals} x {classes}, {candidates:,} candidates{', agnostic boxes' * agnostic}",
        reference="Detectron2",
        identical=None if slow else same(ours, theirs),
        **seconds,
    )


def simulated(
    proposals: int, classes: int, spread: float, device: str, agnostic: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (R, 4C) or (R, 4) and distinct scores (R, C + 1)."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(proposals, 2, generator=generator) * torch.tensor([1200.0, 700.0])
    size = torch.rand(proposals, 2, generator=generator) * 300 + 10
    proposal = torch.cat([corner, corner + size], dim=1)
    if agnostic:
        boxes = proposal
    else:
        shift = torch.randn(proposals, classes, 4, generator=generator) * 8
        boxes = (proposal[:, None] + shift).flatten(1)
    scores = (torch.randn(proposals, classes + 1, generator=generator) * spread).softmax(dim=1)
    return boxes.to(device), scores.to(device)


def same(ours, theirs) -> bool:
    (a, a_rows), (b, b_rows) = ours, theirs
    return (
        torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.pred_classes, b.pred_classes)
        and torch.equal(a_rows, b_rows)
    )
