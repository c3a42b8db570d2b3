import math

import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    binary_entropy,
    each_case,
    gated,
    make_frequency,
    random_batch,
    random_frequency,
    seen,
    sigmoid,
)


def slow_loss(rows, labels, frequency, background, ratio=6.3313):
    count = seen(frequency)
    if background:
        count = count + [ratio * sum(count)]
    everything, total = sum(count), 0.0
    for row, label in zip(rows, labels):
        for j, (z, n) in enumerate(zip(row, count)):
            r = (everything - n) / n
            # The margins of the paper: w+ e^z / (w+ e^z + w- e^-z), w+ / w- = (n / (N - n))^(1/4)
            up = (n / (everything - n)) ** 0.25 * math.exp(z)
            p = up / (up + math.exp(-z))
            total += r * math.log((1 + r) / r) * binary_entropy(p, label == j)
    return total / len(rows)


@pytest.mark.parametrize("ratio", [None, 2.0])
@pytest.mark.parametrize(
    ("num_classes", "background"), [(1, True), (2, True), (2, False), (1203, True), (1203, False)]
)
def test_loss_is_the_formula(num_classes, background, ratio):
    frequency = random_frequency(num_classes)
    options = {} if ratio is None else {"background_ratio": ratio}
    method = build_method("ECM", frequency, background, **options)
    logits, labels = random_batch(method)
    expected = slow_loss(logits.tolist(), labels.tolist(), frequency, background, ratio or 6.3313)
    assert_same(method.loss(logits, labels), expected)


def test_one_class_without_background_has_nothing_to_learn():
    method = build_method("ECM", make_frequency([5]), background=False)
    logits, labels = random_batch(method)
    logits.requires_grad_()
    loss = method.loss(logits, labels)
    loss.backward()
    assert_same(loss.detach(), 0.0)
    assert_same(logits.grad, torch.zeros(len(labels), 1))


@each_case
def test_probabilities_have_no_margin(num_classes, background):
    method = build_method("ECM", random_frequency(num_classes), background)
    logits, _ = random_batch(method)
    scores = [[sigmoid(z) for z in row] for row in logits.tolist()]
    assert_same(method.probabilities(logits), [gated(s) if background else s for s in scores])


def test_two_equal_classes_have_no_margin():
    """n = N - n: the shift is 0 and every weight is ln 2."""
    method = build_method("ECM", make_frequency([7, 7]), background=False)
    logits, labels = random_batch(method)
    expected = build_method("Sigmoid", make_frequency([7, 7]), False).loss(2 * logits, labels)
    assert_same(method.loss(logits, labels), math.log(2) * expected)


def test_a_ratio_of_0_is_refused():
    with pytest.raises(ConfigError, match="ECM: background_ratio"):
        build_method("ECM", random_frequency(3), background_ratio=0)
