import math

import pytest

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    each_background,
    each_case,
    random_batch,
    random_frequency,
    softmax,
)


@pytest.mark.parametrize("smoothing", [0.98, 0.1])
@each_case
def test_loss_is_the_formula(num_classes, background, smoothing):
    method = build_method("LOS", random_frequency(num_classes), background, smoothing=smoothing)
    logits, labels = random_batch(method)
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        for j, p in enumerate(softmax(row)):
            total -= ((1 - smoothing) * (j == label) + smoothing / len(row)) * math.log(p)
    assert_same(method.loss(logits, labels), total / len(labels))
    assert_same(method.probabilities(logits), [softmax(row) for row in logits.tolist()])


@each_background
def test_without_smoothing_it_is_softmax(background):
    method = build_method("LOS", random_frequency(4), background, smoothing=0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(4), background).loss(logits, labels)
    assert_same(method.loss(logits, labels), expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_0_to_1_is_refused(smoothing):
    with pytest.raises(ConfigError, match="LOS: smoothing must be"):
        build_method("LOS", random_frequency(3), smoothing=smoothing)
