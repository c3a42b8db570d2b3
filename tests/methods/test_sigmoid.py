import math

import pytest
import torch
from torch import nn

from iif_d2.methods import METHOD_REGISTRY, BinaryMethod, build_method

from .helpers import (
    assert_same,
    binary_entropy,
    each_background,
    each_case,
    random_batch,
    random_frequency,
    sigmoid,
)

BINARY = sorted(name for name, method in METHOD_REGISTRY if issubclass(method, BinaryMethod))


def slow_loss(rows, labels):
    total = 0.0
    for row, label in zip(rows, labels):
        for j, z in enumerate(row):
            total += binary_entropy(sigmoid(z), label == j)
    return total / len(rows)


@each_case
def test_loss_is_the_formula(num_classes, background):
    method = build_method("Sigmoid", random_frequency(num_classes), background)
    logits, labels = random_batch(method)
    assert_same(method.loss(logits, labels), slow_loss(logits.tolist(), labels.tolist()))


@each_case
def test_probabilities_are_sigmoids_and_a_zero_background(num_classes, background):
    method = build_method("Sigmoid", random_frequency(num_classes), background)
    logits, _ = random_batch(method)
    expected = [[sigmoid(z) for z in row] + [0.0] * background for row in logits.tolist()]
    assert_same(method.probabilities(logits), expected)


def test_background_row_pushes_every_class_down():
    method = build_method("Sigmoid", random_frequency(3))
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    method.loss(logits, torch.tensor([3])).backward()
    assert_same(logits.grad, [[0.5, 0.5, 0.5]])


@pytest.mark.parametrize("name", BINARY)
@each_background
def test_every_class_starts_at_probability_one_in_a_thousand(name, background):
    if not background and not METHOD_REGISTRY.get(name).supports_no_background:
        pytest.skip("for detection")
    method = build_method(name, random_frequency(4), background)
    classifier = nn.Linear(6, 5).double()  # Detectron2's C+1 rows
    nn.init.zeros_(classifier.bias)
    method.init_classifier(classifier)
    logits = classifier(torch.zeros(1, 6, dtype=torch.float64))[:, : method.num_logits]
    started = method._scores(2 * logits if name == "ECM" else logits)  # as it is trained
    assert_same(started, [[0.001] * method.num_logits])
    assert (classifier.bias[method.num_logits :] == 0).all()


def test_prior_is_the_published_bias():
    classifier = nn.Linear(2, 4).double()
    build_method("Sigmoid", random_frequency(3)).init_classifier(classifier)
    assert_same(classifier.bias[:3], [-math.log((1 - 0.001) / 0.001)] * 3)


def test_classifier_without_bias_is_left_alone():
    classifier = nn.Linear(2, 4, bias=False)
    before = classifier.weight.clone()
    build_method("Sigmoid", random_frequency(3)).init_classifier(classifier)
    assert torch.equal(classifier.weight, before)


def test_loss_is_detectron2s():
    pytest.importorskip("detectron2")
    from .test_fed_loss import detectron2_predictor

    predictor = detectron2_predictor(6, use_sigmoid_ce=True)
    method = build_method("Sigmoid", random_frequency(6))
    logits, labels = torch.randn(20, 7), torch.randint(7, (20,))
    expected = predictor.sigmoid_cross_entropy_loss(logits, labels)
    assert torch.equal(method.loss(logits[:, :-1], labels), expected)
