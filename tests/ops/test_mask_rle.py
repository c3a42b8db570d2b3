"""Run lengths of predicted masks against Detectron2's paste and pycocotools' encoding."""

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import mask_ops, paste_masks_in_image
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from iif_d2.errors import ConfigError
from iif_d2.ops import mask_rle, mask_runs
from iif_d2.ops.mask_rle import masks_to_rle, postprocess_to_rle
from iif_d2.ops.rle import encode_runs

EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def encode(pasted):
    """As detectron2.evaluation.coco_evaluation.instances_to_coco_json does."""
    rles = [
        coco_mask.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0] for mask in pasted
    ]
    for rle in rles:
        rle["counts"] = rle["counts"].decode("utf-8")
    return rles


def reference(masks, boxes, shape, threshold=0.5):
    """Detectron2's path, and an empty mask where it fails: its CPU code cannot crop nothing."""
    rles = []
    for mask, box in zip(masks, boxes):
        try:
            pasted = paste_masks_in_image(mask[None], box[None], shape, threshold)
        except RuntimeError as error:
            assert "bound" in str(error)
            pasted = np.zeros((1, *shape), np.uint8)
        rles += encode(np.asarray(pasted))
    return rles


def make_masks(rng, kind, n, size):
    y, x = np.mgrid[:size, :size] / max(size - 1, 1) * 2 - 1
    masks = {
        "noise": rng.random((n, size, size)),
        "blob": 1 / (1 + np.exp(9 * (x**2 + y**2) - rng.uniform(0, 9, (n, 1, 1)))),
        "binary": rng.integers(0, 2, (n, size, size)),
        "stripes": np.broadcast_to(np.indices((size, size))[rng.integers(2)] % 2, (n, size, size)),
        "zero": np.zeros((n, size, size)),
        "one": np.ones((n, size, size)),
        "half": np.full((n, size, size), 0.5),
        "near": 0.5 + rng.normal(0, 1e-5, (n, size, size)) * rng.integers(0, 2, (n, size, size)),
        "quarters": rng.integers(0, 5, (n, size, size)) / 4,
        "flat": 0.5 + rng.normal(0, 2e-3, (n, size, size)),
        "signed": rng.normal(0, 5, (n, size, size)),
        "rim": np.maximum(abs(x), abs(y))[None].repeat(n, 0),
    }[kind]
    return torch.from_numpy(np.array(masks)).float()


MASKS = [
    *("noise", "blob", "binary", "stripes", "zero", "one"),
    *("half", "near", "quarters", "flat", "signed", "rim"),
]


def make_boxes(rng, kind, n, height, width):
    image = np.array([width, height])
    centre = rng.uniform(-0.3, 1.3, (n, 2)) * image
    side = rng.lognormal(-1, 1, (n, 2)) * image
    if kind == "inside":
        corners = np.sort(rng.uniform(0, 1, (n, 2, 2)) * image, 1)
        return torch.from_numpy(corners.reshape(n, 4)).float()
    if kind == "whole pixels":
        centre, side = np.round(centre), 2 * np.round(side / 2)
    elif kind == "image":
        centre, side = np.broadcast_to(image / 2, (n, 2)), np.broadcast_to(image, (n, 2))
    elif kind == "small":
        side = 10.0 ** rng.uniform(-6, 0.7, (n, 2))
    elif kind == "empty":
        side = side * rng.integers(0, 2, (n, 2))
    elif kind == "inverted":
        side = rng.uniform(-2, 2, (n, 2))
    elif kind == "huge":
        side = side * 10.0 ** rng.uniform(0, 9, (n, 2))
    return torch.from_numpy(np.concatenate([centre - side / 2, centre + side / 2], 1)).float()


BOXES = ["any", "inside", "whole pixels", "image", "small", "empty", "inverted", "huge"]


@EXAMPLES
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(MASKS),
    st.sampled_from(BOXES),
    st.sampled_from([1, 2, 7, 14, 28, 56]),
    st.sampled_from([(1, 1), (1, 40), (40, 1), (37, 53), (120, 90)]),
    st.sampled_from([0.5, 0.5, 0.5, 0.0, 1e-5, 0.25, 0.9999, 1.0, 1.5]),
    st.sampled_from([0, 1, 2, 9]),
)
def test_equals_paste_and_encode(seed, masks, boxes, size, shape, threshold, n):
    rng = np.random.default_rng(seed)
    masks = make_masks(rng, masks, n, size)
    boxes = make_boxes(rng, boxes, n, *shape)
    assert masks_to_rle(masks, boxes, shape, threshold) == reference(masks, boxes, shape, threshold)


@pytest.mark.parametrize("kind", MASKS)
def test_every_kind_at_a_real_size(kind):
    rng = np.random.default_rng(0)
    masks = torch.cat([make_masks(rng, kind, 4, 28) for _ in BOXES])
    boxes = torch.cat([make_boxes(rng, b, 4, 427, 640) for b in BOXES])
    assert masks_to_rle(masks, boxes, (427, 640)) == reference(masks, boxes, (427, 640))


def test_thresholds_that_pixels_meet_exactly():
    """Every threshold is the value of some pixel: >= decides in the last bit."""
    rng = np.random.default_rng(1)
    masks = make_masks(rng, "noise", 40, 14)
    boxes = make_boxes(rng, "inside", 40, 60, 80) + torch.tensor([0, 0, 5, 5])
    rounds = 0
    for mask, box in zip(masks, boxes):
        values, _ = mask_ops._do_paste_mask(mask[None, None], box[None], 60, 80)
        for value in rng.choice(values[values > 0.01].numpy(), 3):
            for threshold in (float(value), float(np.nextafter(value, np.float32(2)))):
                ours = masks_to_rle(mask[None], box[None], (60, 80), threshold)
                assert ours == reference(mask[None], box[None], (60, 80), threshold)
                rounds += 1
    assert rounds == 240


def test_few_pixels_are_computed_one_by_one(monkeypatch):
    rng = np.random.default_rng(2)
    masks, boxes = make_masks(rng, "blob", 50, 28), make_boxes(rng, "inside", 50, 480, 640)
    asked, plain = [], mask_runs._inside
    monkeypatch.setattr(
        mask_runs,
        "_inside",
        lambda m, b, owner, *a: (asked.append(len(owner)), plain(m, b, owner, *a))[1],
    )
    monkeypatch.setattr(mask_rle, "paste_masks_in_image", None)
    assert masks_to_rle(masks, boxes, (480, 640)) == reference(masks, boxes, (480, 640))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).sum()
    assert 0 < sum(asked) < 0.01 * area


def test_masks_in_doubt_everywhere_are_pasted(monkeypatch):
    pasted = []
    monkeypatch.setattr(
        mask_rle,
        "paste_masks_in_image",
        lambda m, *a: (pasted.append(1), paste_masks_in_image(m, *a))[1],
    )
    rng = np.random.default_rng(3)
    masks = torch.cat([make_masks(rng, kind, 2, 28) for kind in ("half", "blob")])
    boxes = torch.tensor([[10.0, 20, 70, 90]]).repeat(4, 1)
    assert masks_to_rle(masks, boxes, (100, 100)) == reference(masks, boxes, (100, 100))
    assert len(pasted) == 2


@pytest.mark.parametrize("kind", MASKS)
def test_pixels_of_the_whole_image_as_on_a_gpu(kind):
    """Where Detectron2 tests the whole image, masks reach half a node beyond their boxes."""
    rng = np.random.default_rng(4)
    masks = make_masks(rng, kind, 30, 7)
    boxes = make_boxes(rng, "any", 30, 80, 100)
    crops = mask_runs.Crops.of(boxes, 7, 80, 100, skip_empty=False)
    assert crops.ordinary.all()
    *runs, undecided = mask_runs.find_runs(masks, boxes, crops, np.flatnonzero(crops.seen), 80, 0.5)
    pasted, _ = mask_ops._do_paste_mask(masks[:, None], boxes, 80, 100, skip_empty=False)
    expected = encode((pasted >= 0.5).numpy())
    for i, rle in enumerate(encode_runs(*runs, 30, 80, 100)):
        if i not in undecided:
            assert rle == expected[i]
    assert kind in ("half", "near", "flat", "quarters") or not len(undecided)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_other_types(dtype):
    rng = np.random.default_rng(5)
    masks = make_masks(rng, "noise", 20, 28).round(decimals=2)
    masks = (masks > 0.5) if dtype == torch.bool else masks.to(dtype)
    single = make_boxes(rng, "inside", 20, 60, 80)
    for boxes in (single, single.double()):
        try:
            expected = encode(paste_masks_in_image(masks, boxes, (60, 80)).numpy())
        except RuntimeError:
            pytest.skip(f"this PyTorch's grid_sample has no {dtype} on a CPU")
        assert masks_to_rle(masks, boxes, (60, 80)) == expected


def test_shapes_gradients_and_boxes():
    rng = np.random.default_rng(6)
    masks, boxes = make_masks(rng, "blob", 5, 28), make_boxes(rng, "inside", 5, 60, 80)
    expected = reference(masks, boxes, (60, 80))
    before = masks.clone(), boxes.clone()
    assert masks_to_rle(masks[:, None].requires_grad_(), Boxes(boxes), [60, 80]) == expected
    assert torch.equal(masks, before[0]) and torch.equal(boxes, before[1])
    assert expected[0]["size"] == [60, 80] and isinstance(expected[0]["counts"], str)
    assert masks_to_rle(masks[:0], boxes[:0], (60, 80)) == []


def test_not_finite():
    rng = np.random.default_rng(7)
    masks, boxes = make_masks(rng, "noise", 4, 28), make_boxes(rng, "inside", 4, 60, 80)
    boxes[1, 2], boxes[2, 0] = float("inf"), float("nan")
    masks[3, 5] = float("nan")
    expected = reference(masks[[0, 3]], boxes[[0, 3]], (60, 80))
    empty = encode(np.zeros((1, 60, 80)))[0]
    found = masks_to_rle(masks, boxes, (60, 80))
    assert found == [expected[0], empty, empty, expected[1]]


@pytest.mark.parametrize(
    "masks, boxes, shape, threshold",
    [
        ((2, 28, 27), (2, 4), (9, 9), 0.5),
        ((2, 2, 28, 28), (2, 4), (9, 9), 0.5),
        ((2, 28, 28), (3, 4), (9, 9), 0.5),
        ((2, 28, 28), (2, 4), (0, 9), 0.5),
        ((2, 28, 28), (2, 4), (9, 9), -1.0),
        ((2, 28, 28), (2, 4), (9, 9), float("nan")),
    ],
)
def test_what_cannot_be_encoded(masks, boxes, shape, threshold):
    with pytest.raises(ConfigError):
        masks_to_rle(torch.zeros(masks), torch.zeros(boxes), shape, threshold)


@EXAMPLES
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 1), (1, 7), (7, 1), (13, 9), (90, 70)]),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.999, 1.0]),
    st.integers(0, 4),
)
def test_encode_runs(seed, shape, density, n):
    rng = np.random.default_rng(seed)
    masks = rng.random((n, *shape)) < density
    owner, column, row = masks.transpose(0, 2, 1).nonzero()
    start = column * shape[0] + row
    shuffle = rng.permutation(len(owner))  # runs of one pixel each, in no order
    found = encode_runs(owner[shuffle], start[shuffle], start[shuffle] + 1, n, *shape)
    assert found == encode(masks)


def test_runs_that_touch_or_overlap_are_one():
    flat = np.zeros(20, np.uint8)
    flat[2:9] = flat[12:16] = 1
    owner, start, end = np.zeros(4, int), np.array([2, 4, 12, 14]), np.array([5, 9, 14, 16])
    assert encode_runs(owner, start, end, 1, 5, 4) == encode(flat.reshape(4, 5).T[None])


def test_encode_long_runs():
    start, end = np.array([7, 3_000_000, 18_000_000]), np.array([2_000_000, 3_000_001, 20_000_000])
    flat = np.zeros(20_000_000, np.uint8)
    for a, b in zip(start, end):
        flat[a:b] = 1
    found = encode_runs(np.zeros(3, int), start, end, 1, 4000, 5000)
    assert found == encode(flat.reshape(5000, 4000).T[None])


@pytest.mark.parametrize("roi_masks", [False, True])
@pytest.mark.parametrize("size", [(427, 640), (33, 50)])
def test_postprocess(roi_masks, size):
    rng = np.random.default_rng(8)
    n = 30
    masks = make_masks(rng, "blob", n, 28)
    instances = Instances(
        (160, 240),
        pred_boxes=Boxes(make_boxes(rng, "any", n, 160, 240)),
        scores=torch.from_numpy(rng.random(n)),
        pred_classes=torch.arange(n),
        pred_masks=ROIMasks(masks) if roi_masks else masks[:, None],
        pred_keypoints=torch.from_numpy(rng.random((n, 3, 3))),
    )
    expected = detector_postprocess(copy.deepcopy(instances), *size, mask_threshold=0.4)
    before = copy.deepcopy(instances)
    found = postprocess_to_rle(instances, *size, threshold=0.4)
    assert torch.equal(instances.pred_boxes.tensor, before.pred_boxes.tensor)
    assert torch.equal(instances.pred_keypoints, before.pred_keypoints)
    assert instances.has("pred_masks") and not instances.has("unpasted")

    assert 0 < len(found) == len(expected) < n and found.image_size == expected.image_size
    assert found.pred_masks_rle == encode(expected.pred_masks.numpy())
    for name in ("scores", "pred_classes", "pred_keypoints"):
        assert torch.equal(found.get(name), expected.get(name))
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert set(found.get_fields()) - {"pred_masks_rle"} == set(expected.get_fields()) - {
        "pred_masks"
    }
    assert found.to("cpu").pred_masks_rle == found.pred_masks_rle


def test_postprocess_without_masks():
    boxes = Boxes(torch.tensor([[1.0, 2, 30, 40]]))
    found = postprocess_to_rle(Instances((50, 60), pred_boxes=boxes), 100, 120)
    assert found.pred_boxes.tensor.tolist() == [[2, 4, 60, 80]]
    assert boxes.tensor.tolist() == [[1, 2, 30, 40]]
    assert not found.has("pred_masks_rle")
