import math

import pytest
import torch

from iif_d2.errors import ConfigError
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
    softmax,
)

OPTIONS = [{}, {"alpha": 0.4, "threshold": 0.3}]


class Slow:
    def __init__(self, num_classes, background, alpha=0.85, threshold=0.7):
        self.num_classes, self.background = num_classes, background
        self.alpha, self.threshold = alpha, threshold
        self.confusion = [[0.0] * num_classes for _ in range(num_classes)]
        self.rows = [0] * num_classes

    def mean(self, i, j):
        return max(self.confusion[i][j] / max(self.rows[i], 1), 1e-3)

    def loss(self, rows, labels):
        total, classes = 0.0, self.num_classes
        for row, label in zip(rows, labels):
            scores = [sigmoid(z) for z in row]
            scores = gated(scores) if self.background else scores
            for j, z in enumerate(row):
                weight = 1
                if label < classes and j < classes:
                    weight = int(scores[j] >= scores[label] or scores[j] >= self.threshold)
                    z += self.alpha * math.log(self.mean(label, j) / self.mean(j, label))
                total += weight * binary_entropy(sigmoid(z), label == j)
        for row, label in zip(rows, labels):
            if label < classes:
                self.rows[label] += 1
                for j, score in enumerate(softmax(row[:classes])):
                    self.confusion[label][j] += score
        return total / len(rows)


@pytest.mark.parametrize("options", OPTIONS)
@each_case
def test_four_steps_are_the_formula(num_classes, background, options):
    method = build_method("FCBL", random_frequency(num_classes), background, **options)
    slow = Slow(num_classes, background, **options)
    for step in range(4):
        logits, labels = random_batch(method, seed=step)
        assert_same(method.loss(logits, labels), slow.loss(logits.tolist(), labels.tolist()))
        assert_same(method.confusion, slow.confusion)
        assert method.rows.flatten().tolist() == slow.rows


@each_case
def test_probabilities_are_gated_by_the_background(num_classes, background):
    method = build_method("FCBL", random_frequency(num_classes), background)
    logits, _ = random_batch(method)
    scores = [[sigmoid(z) for z in row] for row in logits.tolist()]
    assert_same(method.probabilities(logits), [gated(s) if background else s for s in scores])


@each_background
def test_without_margins_and_with_every_class_kept_it_is_a_sum_of_questions(background):
    method = build_method("FCBL", random_frequency(5), background, alpha=0, threshold=0)
    logits, labels = random_batch(method)
    expected = sum(
        binary_entropy(sigmoid(z), label == j)
        for row, label in zip(logits.tolist(), labels.tolist())
        for j, z in enumerate(row)
    )
    for _ in range(2):  # whatever was gathered
        assert_same(method.loss(logits, labels), expected / len(labels))


def test_a_class_that_is_mistaken_for_another_needs_a_margin_against_it():
    method = build_method("FCBL", random_frequency(2), background=False).eval()
    method.confusion.copy_(torch.tensor([[0.5, 0.5], [0.05, 0.95]]))
    method.rows.fill_(1)
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    up, down = (
        torch.autograd.grad(method.loss(logits, torch.tensor([label])), logits)[0][0, 1 - label]
        for label in (0, 1)
    )
    assert up.item() == pytest.approx(sigmoid(0.85 * math.log(10)))
    assert down.item() == pytest.approx(sigmoid(-0.85 * math.log(10)))


@pytest.mark.parametrize("option", ["alpha", "threshold"])
def test_negative_options_are_refused(option):
    with pytest.raises(ConfigError, match=f"FCBL: {option} must be"):
        build_method("FCBL", random_frequency(3), **{option: -1.0})
