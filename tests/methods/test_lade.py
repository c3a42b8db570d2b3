import math

import pytest
import torch

from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    each_background,
    each_case,
    mean_cross_entropy,
    random_batch,
    random_frequency,
    seen,
    softmax,
)


def slow_loss(rows, labels, frequency, alpha=0.1, lam=0.01):
    num_classes = len(frequency)
    total = sum(int(n) for n in frequency.image_count)
    prior = [n / total for n in seen(frequency)]
    shifted = [[z + math.log(pi) for z, pi in zip(row, prior)] + row[num_classes:] for row in rows]
    loss = mean_cross_entropy(shifted, labels)
    foreground = [(row, y) for row, y in zip(rows, labels) if y < num_classes]
    if not foreground:
        return loss
    lader = 0.0
    for c, pi in enumerate(prior):
        own = [row[c] for row, y in foreground if y == c]
        mean = sum(own) / len(own) if own else 0.0
        spread = sum(math.exp(row[c]) / pi / num_classes for row, _ in foreground)
        r = math.log(spread / len(foreground))
        lader -= pi * (mean - r - lam * r * r)
    return loss + alpha * lader


@pytest.mark.parametrize("options", [{}, {"alpha": 0.05, "lam": 0.5}])
@each_case
def test_loss_is_the_formula(num_classes, background, options):
    frequency = random_frequency(num_classes)
    method = build_method("LADE", frequency, background, **options)
    logits, labels = random_batch(method)
    expected = slow_loss(logits.tolist(), labels.tolist(), frequency, **options)
    assert_same(method.loss(logits, labels), expected)


@each_background
def test_alpha_0_is_the_logit_adjusted_loss(background):
    frequency = random_frequency(5)
    method = build_method("LADE", frequency, background, alpha=0.0)
    logits, labels = random_batch(method)
    expected = build_method("LogitAdjustment", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_without_foreground_rows_only_the_adjusted_loss_is_left():
    frequency = random_frequency(5)
    method = build_method("LADE", frequency)
    logits, labels = random_batch(method)
    labels = torch.full_like(labels, 5)
    expected = build_method("LogitAdjustment", frequency).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_the_regulariser_does_not_look_at_the_background():
    """Its gradient lies in the foreground rows and columns alone."""
    method = build_method("LADE", random_frequency(3))
    plain = build_method("LADE", random_frequency(3), alpha=0.0)
    logits, labels = random_batch(method)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(method.loss(logits, labels), logits)
    (without,) = torch.autograd.grad(plain.loss(logits, labels), logits)
    changed = (gradient - without).abs() > 1e-12
    assert changed[labels < 3][:, :3].all()
    assert not changed[labels == 3].any() and not changed[:, 3].any()


@each_background
def test_test_is_softmax(background):
    method = build_method("LADE", random_frequency(5), background)
    logits, _ = random_batch(method)
    assert torch.equal(method.adjust(logits), logits)
    assert_same(method.probabilities(logits), [softmax(row) for row in logits.tolist()])
