import pytest
import torch

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


def slow_weight(labels, draws, frequency, threshold):
    """w_ij as lists, by its definition."""
    num_classes = len(frequency)
    rare = [n / frequency.num_images < threshold for n in frequency.image_count]
    foreground = [label for label in labels if label < num_classes]
    rho = sum(rare[label] for label in foreground) / len(foreground) if foreground else 0.0
    weights = []
    for i, label in enumerate(labels):
        row = []
        for j in range(num_classes):
            if label < num_classes:
                row.append(1 - rare[j] * (label != j))
            else:
                row.append(1 - rare[j] * (draws[i][j] > rho))
        weights.append(row)
    return weights


@pytest.mark.parametrize("threshold", [0.02, 0.9])
@each_case
def test_loss_is_the_formula(num_classes, background, threshold):
    frequency = random_frequency(num_classes)
    method = build_method("DropLoss", frequency, background, threshold=threshold)
    logits, labels = random_batch(method, rows=30 if num_classes < 100 else 4)
    torch.manual_seed(3)
    draws = torch.rand(len(labels), num_classes).tolist()
    weights = slow_weight(labels.tolist(), draws, frequency, threshold)
    total = 0.0
    for row, label, weight in zip(logits.tolist(), labels.tolist(), weights):
        for j, z in enumerate(row):
            total += weight[j] * binary_entropy(sigmoid(z), label == j)
    torch.manual_seed(3)
    assert_same(method.loss(logits, labels), total / len(labels))


@each_background
def test_threshold_0_drops_nothing(background):
    frequency = random_frequency(6)
    method = build_method("DropLoss", frequency, background, threshold=0)
    logits, labels = random_batch(method)
    expected = build_method("Sigmoid", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_without_background_rows_it_is_eql():
    frequency = random_frequency(6)
    method = build_method("DropLoss", frequency, threshold=0.1)
    logits, _ = random_batch(method)
    labels = torch.arange(len(logits)) % 6
    expected = build_method("EQL", frequency, threshold=0.1).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_rare_classes_are_dropped_from_background_rows_with_probability_1_minus_rho():
    # Classes 0 and 1 are rare; 1 of the 4 foreground rows is of a rare class: rho = 1/4.
    method = build_method("DropLoss", make_frequency([1, 1, 5000], 10_000))
    labels = torch.tensor([0, 2, 2, 2] + [3] * 4000)
    logits = torch.zeros(len(labels), 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    method.loss(logits, labels).backward()
    kept = (logits.grad[4:] > 0).double().mean(dim=0)
    assert kept[2] == 1
    # 8,000 draws of probability 1/4: standard deviation .0048
    assert abs(kept[:2].mean() - 0.25) < 0.02


def test_without_foreground_rows_rare_classes_are_left_alone():
    method = build_method("DropLoss", make_frequency([1, 5000], 10_000))
    logits = torch.zeros(5, 2, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    method.loss(logits, torch.full((5,), 2)).backward()
    assert_same(logits.grad, [[0.0, 0.1]] * 5)


def test_the_seed_decides_the_draws():
    method = build_method("DropLoss", random_frequency(50), threshold=0.1)
    logits, labels = random_batch(method, rows=40)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(method.loss(logits, labels).item())
    assert losses[0] == losses[1] != losses[2]
