"""The shared last stage against the exact one for each scores alone, bit for bit."""

import numpy as np
import pytest
import torch

from iif_d2.modeling import exact_topk_inference
from iif_d2.ops.shared_topk import exact_topk_many

from .test_exact_topk import KINDS, H, W, distinct_scores, make_boxes


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_exact_stage_of_each(kind, class_specific, spoiled):
    """Scores with many candidates and few, near duplicates that use up the first, and no row."""
    rng = np.random.default_rng(5)
    for rows, topk in [(36, 20), (36, 400), (5, -1), (0, 20)]:
        boxes = make_boxes(rng, kind, rows, 40 if class_specific else 1)
        scores = [distinct_scores(rng, rows, 41, skew) for skew in (1.0, 3.0, 8.0)]
        scores.append(scores[0] * 0.01)  # fewer candidates than torchvision's limit
        if spoiled and rows:
            boxes[rows // 2, 1] = float("nan")
            scores[1][0, 3] = float("inf")
        stage = ((H, W), 0.005, 0.5, topk)
        union, found = exact_topk_many(boxes, [lambda s=s: s for s in scores], *stage)
        assert len(found) == len(scores)
        for one, (places, values) in zip(scores, found):
            expected, _ = exact_topk_inference(boxes, one, *stage)
            assert torch.equal(union.pred_boxes.tensor[places], expected.pred_boxes.tensor)
            assert torch.equal(union.pred_classes[places], expected.pred_classes)
            assert torch.equal(torch.from_numpy(values), expected.scores)
