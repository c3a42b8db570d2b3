import math

import pytest
import torch

from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    each_background,
    each_case,
    make_frequency,
    random_batch,
    random_frequency,
)
from .test_drop_loss import slow_weight


def gumbel(z):
    return math.exp(-math.exp(-z))


def clamped_entropy(z, y):
    z = min(max(z, -4.0), 10.0)
    return math.exp(-z) if y else -math.log1p(-gumbel(z))


@pytest.mark.parametrize("threshold", [0.02, 0.9])
@pytest.mark.parametrize("spread", [1.0, 5.0])  # within and beyond the clamp
@each_case
def test_loss_is_the_formula(num_classes, background, threshold, spread):
    frequency = random_frequency(num_classes)
    method = build_method("GOL", frequency, background, threshold=threshold)
    logits, labels = random_batch(method, spread=spread)
    torch.manual_seed(3)
    draws = torch.rand(len(labels), num_classes).tolist()
    weights = slow_weight(labels.tolist(), draws, frequency, threshold)
    total = 0.0
    for row, label, weight in zip(logits.tolist(), labels.tolist(), weights):
        total += sum(
            w * clamped_entropy(z, label == j) for j, (w, z) in enumerate(zip(weight, row))
        )
    torch.manual_seed(3)
    assert_same(method.loss(logits, labels), total / len(labels))


@each_case
def test_probabilities_are_gumbels_without_clamp(num_classes, background):
    method = build_method("GOL", random_frequency(num_classes), background)
    logits, _ = random_batch(method, spread=5.0)
    scores = [[gumbel(z) for z in row] for row in logits.tolist()]
    assert_same(method.probabilities(logits), [[*s, 0.0] if background else s for s in scores])


@each_background
def test_threshold_0_masks_nothing(background):
    method = build_method("GOL", random_frequency(5), background, threshold=0)
    logits, labels = random_batch(method, spread=1.0)
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        total += sum(clamped_entropy(z, label == j) for j, z in enumerate(row))
    assert_same(method.loss(logits, labels), total / len(labels))


def test_a_positive_learns_down_to_the_clamp_and_extreme_logits_stay_finite():
    method = build_method("GOL", make_frequency([5, 5]), background=False)
    logits = torch.tensor([[-90.0, -90.0], [90.0, -90.0]], requires_grad=True)
    loss = method.loss(logits, torch.tensor([0, 0]))
    loss.backward()
    # the positive at -90 costs exp(4), the negatives nothing, the positive at 90 exp(-10)
    assert loss.item() == pytest.approx((math.exp(4) + math.exp(-10)) / 2, rel=1e-6)
    assert logits.grad.isfinite().all()
    near = torch.tensor([[-3.9, -90.0]], requires_grad=True)
    method.loss(near, torch.tensor([0])).backward()
    assert near.grad[0, 0].item() == pytest.approx(-math.exp(3.9), rel=1e-6)
