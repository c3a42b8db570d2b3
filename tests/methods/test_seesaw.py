import math

import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    cross_entropy,
    each_background,
    each_case,
    random_batch,
    random_frequency,
    softmax,
)

OPTIONS = [{}, {"p": 0.3, "q": 1.0, "eps": 0.2}]


class Slow:
    def __init__(self, num_classes, background, p=0.8, q=2.0, eps=1e-2):
        self.num_classes, self.background = num_classes, background
        self.p, self.q, self.eps = p, q, eps
        self.count = [0] * num_classes

    def adjusted(self, row, label):
        """z'_j = z_j + ln(M_yj S_yj) for j != y."""
        scores = softmax(row)
        result = []
        for j, z in enumerate(row):
            own, other = max(self.count[label], 1), max(self.count[j], 1)
            mitigation = (other / own) ** self.p if other < own else 1.0
            ratio = scores[j] / max(scores[label], self.eps)
            compensation = ratio**self.q if ratio > 1 else 1.0
            result.append(z if j == label else z + math.log(mitigation * compensation))
        return result

    def loss(self, rows, labels):
        for label in labels:
            if label < self.num_classes:
                self.count[label] += 1
        total = 0.0
        for row, label in zip(rows, labels):
            if label < self.num_classes:
                total += cross_entropy(self.adjusted(row[: self.num_classes], label), label)
            if self.background:
                total += cross_entropy(row[self.num_classes :], int(label == self.num_classes))
        return total / len(rows)


@pytest.mark.parametrize("options", OPTIONS)
@each_case
def test_four_steps_are_the_formula(num_classes, background, options):
    method = build_method("Seesaw", random_frequency(num_classes), background, **options)
    slow = Slow(num_classes, background, **options)
    for step in range(4):
        logits, labels = random_batch(method, seed=step)
        expected = slow.loss(logits.tolist(), labels.tolist())
        assert_same(method.loss(logits, labels), expected)
        assert method.label_count.tolist() == slow.count


@each_background
def test_gradient_treats_both_factors_as_constants(background):
    method = build_method("Seesaw", random_frequency(4), background)
    slow = Slow(4, background)
    logits, labels = random_batch(method)
    logits.requires_grad_()
    method.loss(logits, labels).backward()
    slow.loss(logits.tolist(), labels.tolist())
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        gradient = [0.0] * 4
        if label < 4:
            gradient = softmax(slow.adjusted(row[:4], label))
            gradient[label] -= 1
        if background:
            gradient += softmax(row[4:])
            gradient[5 if label == 4 else 4] -= 1
        expected.append([g / len(labels) for g in gradient])
    assert_same(logits.grad, expected)


@each_background
def test_gradcheck_without_compensation(background):
    """With q = 0 nothing is held constant, so that differences see the whole gradient."""
    method = build_method("Seesaw", random_frequency(3), background, q=0.0).eval()
    method.label_count.copy_(torch.tensor([50, 3, 0]))
    logits, labels = random_batch(method)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: method.loss(z, labels), logits)


def test_p_and_q_0_without_background_is_softmax():
    method = build_method("Seesaw", random_frequency(6), background=False, p=0.0, q=0.0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(6), background=False)
    assert_same(method.loss(logits, labels), expected.loss(logits, labels))


@each_case
def test_probabilities_are_classes_times_objectness(num_classes, background):
    method = build_method("Seesaw", random_frequency(num_classes), background)
    logits, _ = random_batch(method)
    expected = []
    for row in logits.tolist():
        scores = softmax(row[:num_classes])
        if background:
            foreground, rest = softmax(row[num_classes:])
            scores = [score * foreground for score in scores] + [rest]
        expected.append(scores)
    assert_same(method.probabilities(logits), expected)


@pytest.mark.parametrize("option", ["p", "q", "eps"])
def test_negative_options_are_refused(option):
    with pytest.raises(ConfigError, match=f"Seesaw: {option} must be"):
        build_method("Seesaw", random_frequency(3), **{option: -1.0})
