import math

import pytest
import torch

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


def slow_adjusted(rows, observed, num_classes):
    mean, std = [], []
    for c in range(num_classes):
        column = [row[c] for row in observed]
        mean.append(sum(column) / len(column))
        std.append(math.sqrt(sum((z - mean[c]) ** 2 for z in column) / len(column)))
    beta = min(mean)
    return [
        [(z - (mean[c] - beta)) / std[c] if c < num_classes else z for c, z in enumerate(row)]
        for row in rows
    ]


@each_case
def test_test_is_the_formula(num_classes, background):
    method = build_method("LogN", random_frequency(num_classes), background)
    observed = []
    for step, rows in enumerate([3, 0, 1, 8]):  # batches of unequal size, one without RoIs
        batch = random_batch(method, rows=8, seed=10 + step)[0][:rows] * (step + 1) + step
        method.observe(batch)
        observed += batch.tolist()
    logits, _ = random_batch(method)
    rows = slow_adjusted(logits.tolist(), observed, num_classes)
    assert_same(method.adjust(logits), rows)
    assert_same(method.probabilities(logits), [softmax(row) for row in rows])


@each_background
def test_equal_moments_change_nothing(background):
    """Where every class has the same mean, and spread 1, the test is softmax's."""
    method = build_method("LogN", random_frequency(5), background)
    ups_and_downs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64) + 3
    method.observe(ups_and_downs[:, None].expand(4, method.num_logits))
    logits, _ = random_batch(method)
    assert_same(method.probabilities(logits), logits.softmax(1))


@each_background
def test_loss_is_softmaxs(background):
    method = build_method("LogN", random_frequency(5), background)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5), background)
    assert torch.equal(method.loss(logits, labels), expected.loss(logits, labels))


def test_moments_survive_a_large_offset():
    """A sum of squares would cancel: 1e6 squared leaves no digits for a spread of 1e-3."""
    method = build_method("LogN", random_frequency(1), background=False)
    values = 1e6 + 1e-3 * torch.randn(300, 1, dtype=torch.float64)
    for part in values.split(7):
        method.observe(part)
    variance = method.squared_deviation / method.num_observed
    assert_same(variance.sqrt(), values.std(dim=0, correction=0), tolerance=1e-6)


def test_asking_before_observing_is_an_error_that_says_how():
    method = build_method("LogN", random_frequency(3))
    for ask in (method.adjust, method.probabilities):
        with pytest.raises(ConfigError, match="call observe"):
            ask(torch.zeros(1, 4))
    method.observe(torch.zeros(0, 4))  # still nothing
    with pytest.raises(ConfigError, match="call observe"):
        method.probabilities(torch.zeros(1, 4))


def test_reset_forgets():
    method = build_method("LogN", random_frequency(3))
    method.observe(torch.randn(5, 4))
    method.reset()
    with pytest.raises(ConfigError, match="call observe"):
        method.probabilities(torch.zeros(1, 4))
    logits = torch.randn(6, 4)
    method.observe(logits)
    assert_same(method.mean, logits[:, :3].double().mean(dim=0))


def test_a_logit_that_never_varied_is_only_shifted():
    method = build_method("LogN", random_frequency(2), background=False)
    method.observe(torch.tensor([[3.0, 1.0], [3.0, 2.0]]))
    adjusted = method.adjust(torch.tensor([[4.0, 0.0]], dtype=torch.float64))
    assert_same(adjusted, [[4.0 - (3.0 - 1.5), 0.0]])


def test_observing_gathers_no_graph():
    method = build_method("LogN", random_frequency(2))
    method.observe(torch.randn(3, 3, requires_grad=True))
    assert not method.mean.requires_grad
