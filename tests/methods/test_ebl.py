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


class Slow:
    def __init__(self, num_classes, background, momentum=0.9):
        self.num_classes, self.momentum = num_classes, momentum
        self.score = [0.01] * (num_classes + background)

    def loss(self, rows, labels):
        total = 0.0
        for c in range(self.num_classes):
            own = [softmax(row)[c] for row, label in zip(rows, labels) if label == c]
            if own:
                kept = self.momentum * self.score[c]
                self.score[c] = kept + (1 - self.momentum) * sum(own) / len(own)
        for row, label in zip(rows, labels):
            total += cross_entropy([z + math.log(s) for z, s in zip(row, self.score)], label)
        return total / len(rows)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.3}])
@each_case
def test_four_steps_are_the_formula(num_classes, background, options):
    method = build_method("EBL", random_frequency(num_classes), background, **options)
    slow = Slow(num_classes, background, **options)
    for step in range(4):
        logits, labels = random_batch(method, seed=step)
        assert_same(method.loss(logits, labels), slow.loss(logits.tolist(), labels.tolist()))
        assert_same(method.mean_score, slow.score)


@each_background
def test_it_starts_as_softmax_and_is_tested_as_softmax(background):
    method = build_method("EBL", random_frequency(5), background)
    softmax_method = build_method("Softmax", random_frequency(5), background)
    logits, labels = random_batch(method)
    assert_same(method.eval().loss(logits, labels), softmax_method.loss(logits, labels))
    assert torch.equal(method.probabilities(logits), softmax_method.probabilities(logits))


def test_a_class_that_scores_low_is_pushed_down_less():
    """Its share of the softmax, and with it the gradient of a row of another class, is smaller."""
    method = build_method("EBL", random_frequency(3)).eval()
    method.mean_score[:] = torch.tensor([0.9, 0.9, 0.1, 0.01])
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    method.loss(logits, torch.tensor([0])).backward()
    assert logits.grad[0, 1].item() == pytest.approx(9 * logits.grad[0, 2].item())


def test_the_score_has_no_gradient_and_never_leaves_the_logarithm():
    method = build_method("EBL", random_frequency(2), background=False)
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    for _ in range(8000):  # 0.01 * 0.9^8000 is 0 in float64
        method.mean_score[0] *= 0.9
    loss = method.loss(logits, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all() and not method.mean_score.requires_grad


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_outside_0_to_1_is_refused(momentum):
    with pytest.raises(ConfigError, match="EBL: momentum must be"):
        build_method("EBL", random_frequency(3), momentum=momentum)
