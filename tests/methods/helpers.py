"""What the tests of all methods share: inputs, comparison, and slow mathematics on Python floats.

Nothing here uses the implementation: the oracles are loops over lists, written from the formulas.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from iif_d2 import ClassFrequency
from iif_d2.methods import LongTailMethod

each_case = pytest.mark.parametrize(
    ("num_classes", "background"),
    [(1, True), (1, False), (2, True), (2, False), (5, True), (5, False), (1203, True),
     (1203, False)],
)  # fmt: skip
each_background = pytest.mark.parametrize("background", [True, False])


def make_frequency(
    image_count, num_images=None, instance_count=None, dimension=None
) -> ClassFrequency:
    image_count = np.asarray(image_count)
    if num_images is None:
        num_images = int(image_count.sum())
    names = [f"class {index}" for index in range(len(image_count))]
    return ClassFrequency(names, image_count, instance_count, num_images, dimension=dimension)


def random_frequency(num_classes: int, seed: int = 0) -> ClassFrequency:
    """A long tail of 1 to 1,000 of 1,500 images; with more than two classes one has no image.

    Dimensions are anywhere in [1, 2].
    """
    draws = np.random.default_rng(seed)
    count = np.exp(draws.uniform(0, math.log(1000), num_classes)).astype(np.int64)
    if num_classes > 2:
        count[1] = 0
    return make_frequency(count, 1500, 2 * count, draws.uniform(1, 2, num_classes))


def random_batch(method: LongTailMethod, rows: int = 0, seed: int = 0, spread: float = 2.0):
    """float64 logits and labels: class 0, then the background where there is one, then any."""
    rows = rows or (4 if method.num_classes > 100 else 9)
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, method.num_logits, generator=draws, dtype=torch.float64) * spread
    highest = method.num_classes + int(method.background)
    labels = torch.randint(highest, (rows,), generator=draws)
    labels[:1], labels[1:2] = 0, highest - 1
    return logits, labels


def assert_same(actual: Tensor, expected, tolerance: float = 1e-10) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# -- mathematics on lists ----------------------------------------------------------------------


def seen(frequency: ClassFrequency) -> list:
    """n_c, where 0 counts as 1."""
    return [max(int(n), 1) for n in frequency.image_count]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def binary_entropy(p: float, y: bool) -> float:
    return -math.log(p) if y else -math.log(1 - p)


def softmax(row: list) -> list:
    exps = [math.exp(z) for z in row]
    return [e / sum(exps) for e in exps]


def cross_entropy(row: list, label: int) -> float:
    return -math.log(softmax(row)[label])


def mean_cross_entropy(rows: list, labels: list) -> float:
    return sum(cross_entropy(row, y) for row, y in zip(rows, labels)) / len(rows)


def gated(scores: list) -> list:
    """Class scores times (1 - background score), then the background score."""
    return [score * (1 - scores[-1]) for score in scores[:-1]] + [scores[-1]]
