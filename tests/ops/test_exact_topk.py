"""Exact top-k inference against Detectron2's own function, bit for bit."""

import numpy as np
import pytest
import torch
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.modeling.roi_heads.fast_rcnn import (
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from detectron2.structures import Boxes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.ops import nms

from iif_d2.errors import ConfigError
from iif_d2.ops import exact_topk, topk_nms
from iif_d2.ops.exact_topk import exact_topk_inference, exact_topk_inference_batch

H, W = 120, 160
CPU = torch.device("cpu")
# torchvision goes class by class above 4,000 coordinates on a CPU.
LIMIT = topk_nms.most_shifted(CPU)
EXAMPLES = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module", autouse=True)
def no_short_cut():
    """Small inputs would be left to Detectron2, and so compare it with itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_topk, "FEW_SCORES", 0)
        yield


def assert_same(ours, theirs):
    (a, rows_a), (b, rows_b) = ours, theirs
    assert a.image_size == b.image_size
    assert set(a.get_fields()) == set(b.get_fields())
    for x, y in [
        (a.pred_boxes.tensor, b.pred_boxes.tensor),
        (a.scores, b.scores),
        (a.pred_classes, b.pred_classes),
        (rows_a, rows_b),
    ]:
        assert x.dtype == y.dtype and x.shape == y.shape
        assert torch.equal(x, y)


def check(boxes, scores, score_thresh=0.1, nms_thresh=0.5, topk=20, shape=(H, W)):
    before = boxes.clone(), scores.clone()
    ours = exact_topk_inference(boxes, scores, shape, score_thresh, nms_thresh, topk)
    for kept, given_ in zip(before, (boxes, scores)):
        assert torch.equal(kept.nan_to_num(), given_.nan_to_num())
    assert_same(
        ours,
        fast_rcnn_inference_single_image(boxes, scores, shape, score_thresh, nms_thresh, topk),
    )
    return ours


def make_boxes(rng, kind, rows, columns):
    """(rows, columns * 4) boxes."""
    size = (rows, columns)
    centre = rng.uniform(-20, 180, (*size, 2))
    side = rng.lognormal(3, 0.8, (*size, 2))
    if kind == "clustered":
        middles = rng.uniform(0, 160, (3, 2))[rng.integers(3, size=rows)]
        centre = middles[:, None] + rng.normal(0, 4, (*size, 2))
        side = 30 + rng.normal(0, 4, (*size, 2))
    elif kind == "grid":  # whole pixels: IoUs that equal one another and the threshold
        centre, side = rng.integers(0, 12, (*size, 2)), 2 * rng.integers(1, 6, (*size, 2))
    elif kind == "tiny":  # areas that underflow, empty boxes
        side = 10.0 ** (rng.uniform(-0.3, 0, (*size, 2)) + rng.choice([-22, 1], (*size, 1)))
        side *= rng.random((*size, 2)) < 0.9
        centre = np.where(rng.random((*size, 1)) < 0.5, 0, 5.0) + side / 2
    elif kind == "inverted":
        side = side * rng.choice([-1, 1], (*size, 2))
    elif kind == "huge":
        centre, side = centre * 1e30, side * 1e30
    elif kind == "same":
        centre, side = np.full((*size, 2), 50.0), np.full((*size, 2), 40.0)
    boxes = np.concatenate([centre - side / 2, centre + side / 2], -1)
    return torch.from_numpy(boxes.reshape(rows, columns * 4)).float()


KINDS = ["random", "clustered", "grid", "tiny", "inverted", "huge", "same"]


def distinct_scores(rng, rows, columns, skew=3.0):
    """(rows, columns) scores in (0, 1), no two of them equal; their sum is like sigmoids'."""
    n = rows * columns
    values = np.linspace(0.01, 0.99, max(n, 1))[:n] ** skew
    values = rng.permutation(values).astype(np.float32)
    assert len(np.unique(values)) == n
    return torch.from_numpy(values.reshape(rows, columns))


@st.composite
def inputs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.sampled_from([0, 1, 2, 7, 40, 120]))
    classes = draw(st.sampled_from([1, 2, 5, 63, 64, 65, 130]))
    columns = classes if draw(st.booleans()) else 1
    boxes = make_boxes(rng, draw(st.sampled_from(KINDS)), rows, columns)
    scores = distinct_scores(rng, rows, classes + 1, draw(st.sampled_from([1.0, 3.0, 8.0])))
    bad = draw(st.sampled_from(["none", "none", "boxes", "scores", "background", "all"]))
    if rows and bad != "none":
        some = torch.from_numpy(rng.random(rows) < (1 if bad == "all" else 0.3))
        value = draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
        target = boxes if bad == "boxes" else scores
        target[some, -1 if bad == "background" else rng.integers(target.shape[1])] = value
    return boxes, scores, rng


@EXAMPLES
@given(
    inputs(),
    st.sampled_from([-float("inf"), -1.0, 0.0, 1e-4, 0.05, 0.3, 0.9, 1.0, float("inf")]),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from([-1, 0, 1, 3, 30, 300, 10**6]),
)
def test_equals_detectron2(data, score_thresh, nms_thresh, topk):
    boxes, scores, _ = data
    check(boxes, scores, score_thresh, nms_thresh, topk)


@EXAMPLES
@given(inputs(), st.integers(0, 10**6), st.sampled_from([-1e-7, 0.0, 1e-7]))
def test_equals_detectron2_at_the_rounding_of_an_iou(data, pick, nudge):
    """The threshold is the float32 IoU of a pair of the boxes, give or take a rounding."""
    boxes, scores, rng = data
    if boxes.numel():
        clipped = Boxes(boxes.nan_to_num(0, 0, 0).reshape(-1, 4))
        clipped.clip((H, W))
        a, b = clipped.tensor[rng.integers(len(clipped), size=(2, 200))]
        ious = _iou(a, b)
        ious = ious[(ious > 1e-3) & (ious < 1)]
        nms_thresh = float(ious[pick % len(ious)]) + nudge if len(ious) else 0.5
        check(boxes, scores, 0.0, nms_thresh, 100)
        check(boxes, scores, 0.0, nms_thresh, -1)


@pytest.mark.parametrize("classes", [LIMIT // 2 - 1, LIMIT // 2 + 1])
@pytest.mark.parametrize("nms_thresh", [0.25, 0.5, 0.7])
def test_iou_decisions_are_those_of_torchvisions_float32(classes, nms_thresh):
    """Two boxes a class whose IoU is the threshold but for rounding: other arithmetic fails."""
    rng = np.random.default_rng(classes)
    corner, side = rng.uniform(0, 60, (classes, 2)), rng.uniform(1, 60, (classes, 2))
    outer = np.concatenate([corner, corner + side], 1)
    inner = outer.copy()
    inner[:, 3] = corner[:, 1] + side[:, 1] * nms_thresh * (1 + rng.normal(0, 2e-7, classes))
    boxes = torch.from_numpy(np.stack([outer, inner]).astype(np.float32))
    above = (_iou(*boxes.double()) > nms_thresh).sum()
    found, _ = check(boxes.flatten(1), distinct_scores(rng, 2, classes + 1), 0.0, nms_thresh, -1)
    assert above > 0.2 * classes
    assert len(found) != 2 * classes - above, "float64 would have decided the same"


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_boxes_in_each_of_many_classes(kind):
    rng = np.random.default_rng(14)
    boxes, scores = make_boxes(rng, kind, 8, 130), distinct_scores(rng, 8, 131)
    for nms_thresh in (-0.1, 0.0, 0.5, 1.0):
        for topk in (-1, 100):
            check(boxes, scores, 0.0, nms_thresh, topk)


def _iou(a, b):
    shared = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared)


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("candidates", [LIMIT - 1, LIMIT, LIMIT + 1, 6000])
def test_either_side_of_torchvisions_limit(kind, candidates, class_specific):
    rng = np.random.default_rng(candidates)
    boxes = make_boxes(rng, kind, 300, 80 if class_specific else 1)
    scores = distinct_scores(rng, 300, 81)
    scores[:, -1] = 0
    thresh = scores[:, :-1].flatten().sort(descending=True).values[candidates]
    for topk in (100, -1):
        check(boxes, scores, float(thresh), 0.5, topk)


def test_lvis_size():
    rng = np.random.default_rng(0)
    for columns, kind in [(1, "clustered"), (1203, "random")]:
        boxes = make_boxes(rng, kind, 60, columns) * 5
        scores = distinct_scores(rng, 60, 1204)
        check(boxes, scores, 1e-4, 0.5, 300, (800, 1333))


@pytest.mark.parametrize("rows, classes, step", [(30, 20, "_nms"), (300, 20, "_by_class")])
@pytest.mark.parametrize("nms_thresh", [0.2, 0.9])
def test_k_grows_where_few_survive(monkeypatch, rows, classes, step, nms_thresh):
    """All boxes nearly coincide: a class has about one survivor, so most candidates are tried."""
    rng = np.random.default_rng(0)
    boxes = torch.tensor([[20.0, 20, 90, 90]]) + torch.from_numpy(rng.normal(0, 1, (rows, 4)))
    boxes[::37] += 60
    scores = distinct_scores(rng, rows, classes + 1)
    pools = []
    plain = getattr(topk_nms, step)
    monkeypatch.setattr(topk_nms, step, lambda b, *a: (pools.append(len(b)), plain(b, *a))[1])
    check(boxes.float(), scores, 0.0, nms_thresh, 25)
    assert len(pools) > 1
    # Survivors and new candidates only: nothing is compared twice.
    assert sum(pools) < rows * classes + 25 * len(pools)


@pytest.mark.parametrize("classes", [1, 2, 64, 65, 127, 128, 129, 191, 333])
@pytest.mark.parametrize("levels", [7, 10**6])
def test_best_candidates(classes, levels):
    """Against a sort of all; the best are in a few rows, so that few blocks are read."""
    rng = np.random.default_rng(classes)
    scores = rng.integers(1, levels, (60, classes)) / levels / 2 + (rng.random((60, 1)) < 0.1) / 2
    scores = torch.from_numpy(scores).float()
    order = scores.flatten().sort(descending=True, stable=True)
    for thresh in (-1.0, 0.3, 0.55):
        expected = order.indices[order.values > thresh]
        candidates = topk_nms.Candidates(scores, thresh)
        assert candidates.lower_bound() <= len(expected)
        assert torch.equal(candidates.best(None), expected)
        for k in (1, 3, 50, 400, 10**6):
            assert torch.equal(candidates.best(k), expected[:k])


@pytest.mark.parametrize("topk", [-1, 1, 40, 200])
def test_ties_where_torchvision_shifts_are_detectron2s(topk):
    rng = np.random.default_rng(3)
    for kind in KINDS:
        boxes = make_boxes(rng, kind, 30, 30)
        scores = torch.from_numpy(rng.integers(0, 4, (30, 31)) / 4).float()
        check(boxes, scores, 0.1, 0.5, topk)


def test_ties_class_by_class_are_ordered_by_row_then_class():
    rng = np.random.default_rng(4)
    for kind in KINDS:
        boxes = make_boxes(rng, kind, 60, 40)
        scores = torch.from_numpy(rng.integers(0, 4, (60, 41)) / 4).float()
        args = ((H, W), 0.1, 0.5)
        found, rows = exact_topk_inference(boxes, scores, *args, -1)
        theirs, their_rows = fast_rcnn_inference_single_image(boxes, scores, *args, -1)
        key = list(zip((-found.scores).tolist(), rows.tolist(), found.pred_classes.tolist()))
        assert key == sorted(key)
        expected = zip((-theirs.scores).tolist(), their_rows.tolist(), theirs.pred_classes.tolist())
        assert key == sorted(expected)
        for topk in (1, 10, 57):  # the cut takes the first of this order
            cut, cut_rows = exact_topk_inference(boxes, scores, *args, topk)
            assert torch.equal(cut.pred_boxes.tensor, found.pred_boxes.tensor[:topk])
            assert torch.equal(cut.pred_classes, found.pred_classes[:topk])
            assert torch.equal(cut_rows, rows[:topk])


def test_all_scores_equal():
    boxes = make_boxes(np.random.default_rng(5), "random", 50, 1)
    found, rows = exact_topk_inference(boxes, torch.full((50, 71), 0.5), (H, W), 0.1, 1.0, 75)
    assert rows.tolist() == [0] * 70 + [1] * 5
    assert found.pred_classes.tolist() == [*range(70), *range(5)]


@pytest.mark.parametrize("rows", [20, 100])
def test_order_of_proposals_does_not_matter(rows):
    rng = np.random.default_rng(6)
    boxes, scores = make_boxes(rng, "clustered", rows, 30), distinct_scores(rng, rows, 31)
    found, kept = exact_topk_inference(boxes, scores, (H, W), 0.05, 0.5, 50)
    shuffle = torch.from_numpy(rng.permutation(rows))
    again, kept_again = exact_topk_inference(boxes[shuffle], scores[shuffle], (H, W), 0.05, 0.5, 50)
    assert_same((again, shuffle[kept_again]), (found, kept))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rows, classes, ties", [(12, 20, False), (80, 66, True)])
def test_other_score_types(dtype, rows, classes, ties):
    """torchvision's CPU NMS takes float32 only, which orders the same numbers the same way."""
    rng = np.random.default_rng(7)
    boxes = make_boxes(rng, "clustered", rows, 1)
    scores = distinct_scores(rng, rows, classes + 1, 1.0)
    if ties:  # what half precision makes of so many scores
        scores = scores.to(dtype).float()
    elif dtype == torch.bfloat16:
        bits = torch.arange(0x3A00, 0x3A00 + scores.numel(), dtype=torch.int16)
        scores = bits.view(dtype).float()[torch.from_numpy(rng.permutation(len(bits)))]
        scores = scores.reshape(rows, classes + 1)
    low = scores.to(dtype)
    assert dtype == torch.float64 or torch.equal(low.float(), scores) or not ties
    wide = low.float()
    for topk in (10, -1):
        ours = exact_topk_inference(boxes, low, (H, W), 2.0**-11, 0.5, topk)
        expected = exact_topk_inference(boxes, wide, (H, W), 2.0**-11, 0.5, topk)
        assert ours[0].scores.dtype == dtype
        ours[0].scores = ours[0].scores.float()
        assert_same(ours, expected)
    if not ties:
        check(boxes, wide, 2.0**-11, 0.5, 10)


def test_half_and_double_boxes_become_float32():
    rng = np.random.default_rng(8)
    boxes, scores = make_boxes(rng, "random", 40, 40), distinct_scores(rng, 40, 41)
    for dtype in (torch.float16, torch.float64):
        found, _ = check(boxes.to(dtype), scores)
        assert found.pred_boxes.tensor.dtype == torch.float32


def test_scores_whose_sum_overflows():
    rng = np.random.default_rng(9)
    check(make_boxes(rng, "random", 40, 1), distinct_scores(rng, 40, 41) * 3e38, 1e38)


def test_views_and_gradients():
    rng = np.random.default_rng(10)
    boxes = make_boxes(rng, "random", 90, 30)[::3]
    scores = distinct_scores(rng, 62, 31).t()[:30, ::2][:, :31].requires_grad_()
    found, _ = exact_topk_inference(boxes, scores, (H, W), 0.1, 0.5, 20)
    assert_same(
        (found, torch.zeros(0)),
        (fast_rcnn_inference_single_image(boxes, scores, (H, W), 0.1, 0.5, 20)[0], torch.zeros(0)),
    )
    (gradient,) = torch.autograd.grad(found.scores.sum(), scores)
    assert int(gradient.count_nonzero()) == len(found) == 20


def test_list_of_images():
    rng = np.random.default_rng(11)
    boxes = [make_boxes(rng, "clustered", r, 1) for r in (0, 5, 60)]
    scores = [distinct_scores(rng, r, 31) for r in (0, 5, 60)]
    args = (boxes, scores, [(H, W), (50, 60), (90, 70)], 0.05, 0.5, 10)
    ours, theirs = exact_topk_inference_batch(*args), fast_rcnn_inference(*args)
    assert len(ours) == len(theirs) == 2
    for pair in zip(zip(*ours), zip(*theirs)):
        assert_same(*pair)
    assert exact_topk_inference_batch([], [], [], 0.05, 0.5, 10) == ([], [])


@pytest.mark.parametrize("shape", [(3, 12), (4, 8), (4, 4, 1), (4, 5)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(ConfigError, match="background last"):
        exact_topk_inference(torch.zeros(shape), torch.zeros(4, 4), (H, W), 0.1, 0.5, 10)


def test_a_few_scores_are_left_to_detectron2(monkeypatch):
    rng = np.random.default_rng(5)
    boxes, scores = make_boxes(rng, "clustered", 12, 79), distinct_scores(rng, 12, 80)
    expected = exact_topk_inference(boxes, scores, (H, W), 0.1, 0.5, 20)
    monkeypatch.setattr(exact_topk, "FEW_SCORES", scores.numel())
    monkeypatch.setattr(topk_nms, "topk_nms", None)
    assert_same(check(boxes, scores), expected)
    with pytest.raises(ConfigError):
        exact_topk_inference(boxes[:, :4][:5], scores, (H, W), 0.1, 0.5, 20)


@pytest.mark.parametrize("limit", [2, 77, 5000])
def test_the_limit_is_found_whatever_it_is(limit, monkeypatch):
    """Other releases of torchvision have another, and one for each device."""

    def other(boxes, scores, classes, nms_thresh):
        if len(boxes) > limit:
            keep = [
                (classes == c).nonzero()[:, 0][nms(boxes[classes == c], scores[classes == c], 0.5)]
                for c in classes.unique()
            ]
            return torch.cat(keep)
        return nms(topk_nms._shift(boxes, classes), scores, nms_thresh)

    monkeypatch.setattr(topk_nms, "batched_nms", other)
    assert topk_nms.most_shifted.__wrapped__(CPU) == limit


@pytest.mark.parametrize("kept", [1, 2])
def test_unknown_torchvision_leaves_it_to_detectron2(kept, monkeypatch):
    """One that always shifts, or never does."""
    called = []
    monkeypatch.setattr(topk_nms, "batched_nms", lambda *a: range(kept))
    monkeypatch.setattr(topk_nms, "most_shifted", topk_nms.most_shifted.__wrapped__)
    monkeypatch.setattr(
        fast_rcnn, "fast_rcnn_inference_single_image", lambda *a: called.append(a) or "theirs"
    )
    assert exact_topk_inference(torch.zeros(2, 4), torch.zeros(2, 3), (9, 9), 0, 1, 2) == "theirs"
    assert len(called) == 1


@pytest.mark.filterwarnings("ignore")
def test_tracing_exports_detectron2s_graph():
    rng = np.random.default_rng(12)
    boxes, scores = make_boxes(rng, "random", 20, 1), distinct_scores(rng, 20, 11)

    def stage(boxes, scores):
        found, rows = exact_topk_inference(boxes, scores, (H, W), 0.1, 0.5, 10)
        return found.pred_boxes.tensor, found.scores, rows

    traced = torch.jit.trace(stage, (boxes, scores), check_trace=False)
    other = make_boxes(rng, "random", 30, 1), distinct_scores(rng, 30, 11)
    for a, b in zip(traced(*other), stage(*other)):
        assert torch.equal(a, b)
