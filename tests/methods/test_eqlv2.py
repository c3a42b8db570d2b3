import math

import pytest
import torch

from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    binary_entropy,
    each_background,
    each_case,
    gated,
    random_batch,
    random_frequency,
    sigmoid,
)

OPTIONS = [{}, {"gamma": 3.0, "mu": 0.5, "alpha": 2.0}]


class Slow:
    """The sums and the loss of EQLv2, one number at a time."""

    def __init__(self, num_classes, gamma=12.0, mu=0.8, alpha=4.0):
        self.num_classes, self.gamma, self.mu, self.alpha = num_classes, gamma, mu, alpha
        self.positive = [0.0] * num_classes
        self.negative = [0.0] * num_classes
        self.ratio = [100.0] * num_classes

    def loss(self, rows, labels):
        total = 0.0
        for row, label in zip(rows, labels):
            for j, z in enumerate(row):
                p, y = sigmoid(z), label == j
                weight = 1.0
                if j < self.num_classes:
                    down = 1 / (1 + math.exp(-self.gamma * (self.ratio[j] - self.mu)))
                    weight = 1 + self.alpha * (1 - down) if y else down
                    if y:
                        self.positive[j] += abs(p - 1) * weight
                    else:
                        self.negative[j] += p * weight
                total += weight * binary_entropy(p, y)
        for j in range(self.num_classes):
            self.ratio[j] = self.positive[j] / (self.negative[j] + 1e-10)
        return total / len(rows)


@pytest.mark.parametrize("options", OPTIONS)
@each_case
def test_four_steps_are_the_formula(num_classes, background, options):
    method = build_method("EQLv2", random_frequency(num_classes), background, **options)
    slow = Slow(num_classes, **options)
    for step in range(4):
        logits, labels = random_batch(method, seed=step)
        assert_same(method.loss(logits, labels), slow.loss(logits.tolist(), labels.tolist()))
        assert_same(method.positive_gradient, slow.positive)
        assert_same(method.negative_gradient, slow.negative)


@each_case
def test_probabilities_are_gated_by_the_background(num_classes, background):
    method = build_method("EQLv2", random_frequency(num_classes), background)
    logits, _ = random_batch(method)
    scores = [[sigmoid(z) for z in row] for row in logits.tolist()]
    assert_same(method.probabilities(logits), [gated(s) if background else s for s in scores])


@each_background
def test_first_step_is_sigmoid(background):
    # At g = 100 w- is 1 to the last bit, so w+ is 1 as well.
    method = build_method("EQLv2", random_frequency(4), background)
    logits, labels = random_batch(method)
    target = torch.nn.functional.one_hot(labels, method.num_logits).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    assert_same(method.loss(logits, labels), expected / len(labels))


def test_the_background_has_no_sums_and_weight_1():
    method = build_method("EQLv2", random_frequency(2))
    method.positive_gradient.fill_(0.0)
    method.negative_gradient.fill_(1.0)
    method.eval()
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    method.loss(logits, torch.tensor([2])).backward()
    down = sigmoid(-12 * 0.8)
    assert_same(logits.grad, [[0.5 * down, 0.5 * down, -0.5]])
    assert method.positive_gradient.shape == (2,)


def test_sums_do_not_stall_in_a_long_training():
    """In float32, adding 1e-3 to 1e5 would change nothing."""
    method = build_method("EQLv2", random_frequency(2), background=False)
    method.negative_gradient.fill_(1e5)
    method.positive_gradient.fill_(1e5)
    logits = torch.full((1, 2), -math.log(999.0))
    method.loss(logits, torch.tensor([1]))  # for the other class, a negative of probability .001
    weight = sigmoid(12 * (1 - 0.8))
    assert abs(method.negative_gradient[0].item() - 1e5 - 1e-3 * weight) < 1e-8
