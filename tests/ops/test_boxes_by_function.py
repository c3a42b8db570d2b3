"""Exact top-k inference given a function for boxes against the same given all of them."""

import pytest
import torch

from iif_d2.ops import topk_nms
from iif_d2.ops.exact_topk import exact_topk_inference

SHAPE = (120, 160)


def inputs(rows, classes, seed=0):
    draws = torch.Generator().manual_seed(seed)
    corner = torch.rand(rows, classes, 2, generator=draws) * 140 - 20
    boxes = torch.cat([corner, corner + torch.rand(rows, classes, 2, generator=draws) * 80], 2)
    return boxes, torch.rand(rows, classes + 1, generator=draws) ** 3


def check(boxes, scores, topk):
    asked = []

    def boxes_at(rows, classes):
        asked.append(len(rows))
        return boxes[rows, classes]

    stage = (SHAPE, 0.05, 0.5, topk)
    found, rows = exact_topk_inference(boxes_at, scores, *stage)
    wanted, wanted_rows = exact_topk_inference(boxes.flatten(1), scores, *stage)
    assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.pred_classes, wanted.pred_classes) and torch.equal(rows, wanted_rows)
    return asked, found


@pytest.mark.parametrize("rows, classes", [(0, 5), (1, 1), (3, 4), (40, 70), (90, 130)])
@pytest.mark.parametrize("topk", [-1, 0, 10])
def test_it_makes_no_difference(rows, classes, topk):
    check(*inputs(rows, classes), topk)


def test_few_boxes_are_asked_for():
    asked, found = check(*inputs(90, 130), 10)
    assert len(found) == 10 and sum(asked) < 90 * 130 / 100


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_with_scores_that_are_not_finite_are_dropped(value):
    boxes, scores = inputs(40, 70)
    scores[::3, 5] = value
    scores[1, -1] = value
    _, found = check(boxes, scores, 20)
    assert len(found) == 20
    check(boxes, torch.full_like(scores, value), 20)


def test_a_torchvision_that_is_not_known_is_given_all_boxes(monkeypatch):
    monkeypatch.setattr(topk_nms, "most_shifted", lambda device: None)
    for size in ((40, 70), (0, 5)):
        asked, _ = check(*inputs(*size), 10)
        assert asked == [size[0] * size[1]]
