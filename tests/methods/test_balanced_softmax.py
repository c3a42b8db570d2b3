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
    seen,
    softmax,
)


@pytest.mark.parametrize("normalized", [None, False, True])
@each_case
def test_loss_is_the_formula(num_classes, background, normalized):
    """-ln(n_y exp(z_y) / sum_j n_j exp(z_j)), the background's n being 1 (or sum n, normalised)."""
    frequency = random_frequency(num_classes)
    options = {} if normalized is None else {"normalized": normalized}
    method = build_method("BalancedSoftmax", frequency, background, **options)
    logits, labels = random_batch(method)
    total = sum(int(n) for n in frequency.image_count) if normalized else 1
    factor = [n / total for n in seen(frequency)] + [1.0] * background
    loss = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        terms = [n * math.exp(z) for n, z in zip(factor, row)]
        loss -= math.log(terms[label] / sum(terms))
    assert_same(method.loss(logits, labels), loss / len(labels))


@each_background
def test_priors_are_not_in_the_test(background):
    method = build_method("BalancedSoftmax", random_frequency(5), background)
    logits, _ = random_batch(method)
    assert torch.equal(method.adjust(logits), logits)
    assert_same(method.probabilities(logits), [softmax(row) for row in logits.tolist()])


@pytest.mark.parametrize(
    ("count", "background"), [([7, 7, 7], False), ([1, 1, 1], True), ([1, 0, 1], True)]
)
def test_equal_counts_are_softmax(count, background):
    """With a background the published counts are unnormalised, so that they must be 1."""
    frequency = make_frequency(count)
    method = build_method("BalancedSoftmax", frequency, background)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", frequency, background)
    assert_same(method.loss(logits, labels), expected.loss(logits, labels))


@each_background
def test_normalized_it_is_the_logit_adjusted_loss(background):
    frequency = random_frequency(5)
    method = build_method("BalancedSoftmax", frequency, background, normalized=True)
    logits, labels = random_batch(method)
    expected = build_method("LogitAdjustment", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)
