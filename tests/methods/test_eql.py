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


def slow_loss(rows, labels, frequency, threshold):
    num_classes, total = len(frequency), 0.0
    for row, label in zip(rows, labels):
        for j, z in enumerate(row):
            rare = frequency.image_count[j] / frequency.num_images < threshold
            foreground = label != num_classes
            if not (foreground and rare and label != j):
                total += binary_entropy(sigmoid(z), label == j)
    return total / len(rows)


@pytest.mark.parametrize("threshold", [0.02, 0.9])
@each_case
def test_loss_is_the_formula(num_classes, background, threshold):
    frequency = random_frequency(num_classes)
    method = build_method("EQL", frequency, background, threshold=threshold)
    logits, labels = random_batch(method)
    expected = slow_loss(logits.tolist(), labels.tolist(), frequency, threshold)
    assert_same(method.loss(logits, labels), expected)


@each_background
def test_threshold_0_is_sigmoid(background):
    frequency = random_frequency(6)  # one class without a single image
    method = build_method("EQL", frequency, background, threshold=0)
    logits, labels = random_batch(method)
    expected = build_method("Sigmoid", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_threshold_is_a_share_of_all_training_images_and_strict():
    # 10 of 10,000 images is the threshold itself, 9 are below; the sum of counts plays no part.
    method = build_method("EQL", make_frequency([9, 10, 5000], 10_000), threshold=1e-3)
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    method.loss(logits, torch.tensor([2])).backward()
    assert_same(logits.grad, [[0.0, 0.5, -0.5]])


def test_published_threshold():
    assert build_method("EQL", random_frequency(3)).threshold == 1.1e-3


def test_background_rows_push_rare_classes_down():
    method = build_method("EQL", make_frequency([1, 5000], 10_000))
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    method.loss(logits, torch.tensor([2])).backward()
    assert_same(logits.grad, [[0.5, 0.5]])


def test_negative_threshold_is_refused():
    with pytest.raises(ConfigError, match="EQL: threshold must be 0 or more"):
        build_method("EQL", random_frequency(3), threshold=-1e-3)
