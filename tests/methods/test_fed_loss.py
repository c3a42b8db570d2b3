import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    binary_entropy,
    each_background,
    each_case,
    make_frequency,
    random_batch,
    random_frequency,
    sigmoid,
)


def detectron2_predictor(num_classes, **options):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers

    transform = Box2BoxTransform(weights=(10, 10, 5, 5))
    return FastRCNNOutputLayers(
        ShapeSpec(channels=4), box2box_transform=transform, num_classes=num_classes, **options
    )


def drawn_classes(method, logits, labels):
    """The columns that get a gradient."""
    logits = logits.clone().requires_grad_()
    method.loss(logits, labels).backward()
    return set((logits.grad != 0).any(dim=0).nonzero().flatten().tolist())


@pytest.mark.parametrize("size", [1, 3, 50])
@each_case
def test_loss_is_the_formula_over_the_drawn_classes(num_classes, background, size):
    frequency = random_frequency(num_classes)
    method = build_method("FedLoss", frequency, background, fed_loss_num_classes=size)
    logits, labels = random_batch(method)
    torch.manual_seed(5)
    chosen = drawn_classes(method, logits, labels)
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        for j in chosen:
            total += binary_entropy(sigmoid(row[j]), label == j)
    torch.manual_seed(5)
    assert_same(method.loss(logits, labels), total / len(labels))

    present = {label for label in labels.tolist() if label < num_classes}
    with_images = {j for j, n in enumerate(frequency.image_count) if n > 0}
    assert present <= chosen <= present | with_images
    counted = len(chosen) + int((labels == num_classes).any())  # the background is one of them
    reachable = len(present | with_images) + int((labels == num_classes).any())
    assert counted == max(min(size, reachable), len(set(labels.tolist())))


@pytest.mark.parametrize("labels", [[0, 7, 7, 3, 11, 40], [40, 40], [0], [5, 9, 1, 0, 2, 6, 40]])
def test_loss_is_detectron2s_with_the_same_seed(labels):
    pytest.importorskip("detectron2")
    count = torch.randint(1, 2000, (40,), generator=torch.Generator().manual_seed(0))
    weight = count.float() ** 0.5
    predictor = detectron2_predictor(
        40, use_sigmoid_ce=True, use_fed_loss=True, fed_loss_num_classes=6,
        get_fed_loss_cls_weights=lambda: weight,
    )  # fmt: skip
    method = build_method("FedLoss", make_frequency(count.numpy()), fed_loss_num_classes=6)
    labels = torch.tensor(labels)
    for seed in range(5):
        logits = torch.randn(len(labels), 41)
        torch.manual_seed(seed)
        expected = predictor.sigmoid_cross_entropy_loss(logits, labels)
        torch.manual_seed(seed)
        assert torch.equal(method.loss(logits[:, :-1], labels), expected)


@each_background
def test_all_classes_is_sigmoid(background):
    frequency = make_frequency([3, 1, 100, 7])
    method = build_method("FedLoss", frequency, background)
    logits, labels = random_batch(method)
    expected = build_method("Sigmoid", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_negatives_are_drawn_in_proportion_to_the_square_root():
    # One draw a batch beside the label: weights 1 : 2 : 3 for the counts 1, 4, 9.
    method = build_method("FedLoss", make_frequency([50, 1, 4, 9]), fed_loss_num_classes=2)
    torch.manual_seed(0)
    drawn = [0] * 4
    for _ in range(3000):
        for label in method._sample(torch.tensor([0])).tolist():
            drawn[label] += 1
    assert drawn[0] == 3000
    for j, share in [(1, 1 / 6), (2, 2 / 6), (3, 3 / 6)]:
        assert abs(drawn[j] / 3000 - share) < 0.04  # standard deviation below .01


def test_half_a_class_cannot_be_drawn():
    with pytest.raises(ConfigError, match="must be a whole number, not 2.5"):
        build_method("FedLoss", make_frequency([5, 1]), fed_loss_num_classes=2.5)


def test_a_class_without_images_is_not_drawn_even_at_power_0():
    frequency = make_frequency([5, 0, 5, 0])
    method = build_method("FedLoss", frequency, fed_loss_freq_weight_power=0.0)
    assert set(method._sample(torch.tensor([0])).tolist()) == {0, 2}
