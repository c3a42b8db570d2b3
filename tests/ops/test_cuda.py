"""The exact replacements on a GPU, against Detectron2's own code there; `make gpu` runs these."""

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from hypothesis import given, settings
from hypothesis import strategies as st

from iif_d2.ops import exact_topk
from iif_d2.ops.class_rows import of_classes
from iif_d2.ops.mask_rle import masks_to_rle

from . import test_exact_topk, test_mask_rle

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


@EXAMPLES
@given(
    test_exact_topk.inputs(),
    st.sampled_from([0.0, 1e-4, 0.05, 0.3]),
    st.sampled_from([0.3, 0.5, 0.7]),
    st.sampled_from([1, 30, 300, 10**6]),
)
def test_topk_equals_detectron2(data, score_thresh, nms_thresh, topk):
    boxes, scores, _ = data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_topk, "FEW_SCORES", 0)
        test_exact_topk.check(boxes.cuda(), scores.cuda(), score_thresh, nms_thresh, topk)


@EXAMPLES
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(test_mask_rle.MASKS),
    st.sampled_from(test_mask_rle.BOXES),
    st.sampled_from([7, 14, 28]),
    st.sampled_from([(37, 53), (120, 90)]),
)
def test_masks_equal_paste_and_encode(seed, masks, boxes, size, shape):
    rng = np.random.default_rng(seed)
    masks = test_mask_rle.make_masks(rng, masks, 9, size).cuda()
    boxes = test_mask_rle.make_boxes(rng, boxes, 9, *shape).cuda()
    pasted = [
        paste_masks_in_image(mask[None], box[None], shape).cpu() for mask, box in zip(masks, boxes)
    ]
    expected = [rle for one in pasted for rle in test_mask_rle.encode(np.asarray(one))]
    assert masks_to_rle(masks, boxes, shape) == expected


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float16, 2e-2)])
def test_rows_of_classes_equal_all_classes(dtype, tolerance):
    draws = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=draws).to("cuda", dtype)
        for size in [(50, 64, 9), (130, 4, 64), (130, 4)]
    )
    classes = torch.randint(130, (50,), generator=draws).cuda()
    everything = torch.einsum("ckd,ndp->nckp", weight.float(), x.float())
    everything = everything + bias.float()[..., None]
    expected = everything[torch.arange(50, device="cuda"), classes]
    ours = of_classes(x, weight, bias, classes)
    torch.testing.assert_close(ours.float(), expected, rtol=tolerance, atol=tolerance)
