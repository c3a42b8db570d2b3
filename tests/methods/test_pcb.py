import math

import pytest
import torch

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    cross_entropy,
    random_batch,
    random_frequency,
    seen,
    softmax,
)

BASES = [("Softmax", {}), ("IIF", {"variant": "smooth"}), ("LogitAdjustment", {"tau": 0.5})]
each_size = pytest.mark.parametrize("num_classes", [1, 2, 5, 1203])


class Slow:
    """Over Softmax, IIF smooth or LogitAdjustment 0.5; what each trains with and tests with."""

    def __init__(self, frequency, base, alpha=0.4, momentum=0.99, first_step=0):
        self.base, self.alpha, self.momentum, self.first = base, alpha, momentum, first_step
        self.classes = classes = len(frequency)
        self.confusion = [[0.0] * classes for _ in range(classes)]
        self.step, counts = 0, seen(frequency)
        total = int(frequency.image_count.sum())
        self.factor = [math.log((total + 1) / (n + 1)) + 1 for n in counts] + [1.0]
        self.shift = [0.5 * math.log(n / total) for n in counts] + [0.0]

    def tested(self, row):
        return [w * z for w, z in zip(self.factor, row)] if self.base == "IIF" else row

    def trained(self, row):
        if self.base == "LogitAdjustment":
            return [z + s for z, s in zip(row, self.shift)]
        return self.tested(row)

    def loss(self, rows, labels):
        total, q = 0.0, self.confusion
        acts = self.step >= self.first
        for y in set(labels) - {self.classes}:
            own = [softmax(self.tested(r)[: self.classes]) for r, k in zip(rows, labels) if k == y]
            kept = self.momentum if any(q[y]) else 0.0
            for j in range(self.classes):
                mean = sum(scores[j] for scores in own) / len(own)
                q[y][j] = kept * q[y][j] + (1 - kept) * mean
        for row, label in zip(rows, labels):
            share = 1.0
            if acts and label < self.classes:
                share = 1 - self.alpha
                column = sum(q[k][label] for k in range(self.classes))
                p = softmax(self.tested(row))
                for i in range(self.classes):
                    t = q[i][label] / column
                    if t > 0:
                        total += self.alpha * t * math.log(t / p[i])
            total += share * cross_entropy(self.trained(row), label)
        self.step += 1
        return total / len(rows)


@pytest.mark.parametrize(("base", "base_options"), BASES)
@each_size
def test_three_steps_are_the_formula(num_classes, base, base_options):
    frequency = random_frequency(num_classes)
    options = {"alpha": 0.7, "momentum": 0.6}
    method = build_method("PCB", frequency, base=base, base_options=base_options, **options)
    slow = Slow(frequency, base, **options)
    for step in range(3):
        logits, labels = random_batch(method, seed=step)
        assert_same(method.loss(logits, labels), slow.loss(logits.tolist(), labels.tolist()))
        assert_same(method.confusion, slow.confusion)
        assert all(s == 0 or s == pytest.approx(1) for s in method.confusion.sum(dim=1).tolist())


def test_until_its_start_the_loss_is_the_bases_and_it_gathers():
    frequency = random_frequency(4)
    method = build_method("PCB", frequency, start=0.5, max_iter=6)
    softmax_method, slow = build_method("Softmax", frequency), Slow(frequency, "", first_step=3)
    same = []
    for step in range(5):
        logits, labels = random_batch(method, seed=step)
        loss = method.loss(logits, labels)
        assert_same(loss, slow.loss(logits.tolist(), labels.tolist()))
        same.append(torch.equal(loss, softmax_method.loss(logits, labels)))
    assert same == [True, True, True, False, False]


@pytest.mark.parametrize(("base", "base_options"), BASES)
def test_the_test_and_the_start_are_the_bases(base, base_options):
    frequency = random_frequency(5)
    method = build_method("PCB", frequency, base=base, base_options=base_options)
    other = build_method(base, frequency, **base_options)
    logits, labels = random_batch(method)
    method.loss(logits, labels)
    assert torch.equal(method.probabilities(logits), other.probabilities(logits))
    assert [part.tolist() for part in method.affine()] == [part.tolist() for part in other.affine()]
    assert method.reads == other.reads
    layers = [torch.nn.Linear(3, 6) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    method.init_classifier(layers[0])
    other.init_classifier(layers[1])
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_alpha_0_is_the_base_alone():
    method = build_method("PCB", random_frequency(5), alpha=0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5)).loss(logits, labels)
    assert_same(method.loss(logits, labels), expected)


def test_a_checkpoint_keeps_the_bases_counts():
    method = build_method("PCB", random_frequency(5), base="IIF")
    other = build_method("PCB", random_frequency(5, seed=1), base="IIF")
    logits, labels = random_batch(method)
    method.loss(logits, labels)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.probabilities(logits), method.probabilities(logits))
    assert int(other.steps) == 1


@pytest.mark.parametrize(
    "base", ["Sigmoid", "Seesaw", "LogN", "DisAlign", "EBL", "PCB", "GOL", "LOS"]
)
def test_a_base_that_is_no_plain_softmax_is_refused(base):
    with pytest.raises(ConfigError, match=f"PCB: base {base} gathers state or is no softmax"):
        build_method("PCB", random_frequency(3), base=base)


def test_other_options_that_cannot_be_are_refused():
    with pytest.raises(UnknownNameError, match="unknown method 'Softmx'"):
        build_method("PCB", random_frequency(3), base="Softmx")
    for option in ("alpha", "momentum", "start"):
        for value in (-0.1, 1.1):
            with pytest.raises(ConfigError, match=f"PCB: .*{option}"):
                build_method("PCB", random_frequency(3), **{option: value})
    with pytest.raises(ConfigError, match="PCB is for detection"):
        build_method("PCB", random_frequency(3), background=False)
