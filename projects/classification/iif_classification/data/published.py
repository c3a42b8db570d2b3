"""The published sizes of the long-tailed sets, so that a wrong list is found before training."""

from __future__ import annotations

import logging

import numpy as np

from iif_d2.errors import DataError, UnknownNameError

from .images import LabelledImages
from .profiles import profile_counts

logger = logging.getLogger(__name__)

# classes, training images, most and fewest a class, validation images, test images; None: not
# stated. ImageNet-LT and Places-LT: Liu et al., CVPR 2019 (their lists' sizes); iNaturalist 2018:
# Van Horn et al.
_SETS = {
    "imagenet_lt": (1000, 115846, 1280, 5, 20000, 50000),
    "places_lt": (365, 62500, 4980, 5, 7300, 36500),
    "inaturalist18": (8142, 437513, 1000, 2, None, 24426),
}
_CIFAR = {"cifar10_lt": (10, 5000), "cifar100_lt": (100, 500)}


def check_published(
    name: str,
    imbalance: float,
    profile: str,
    train: LabelledImages,
    val: LabelledImages | None,
    test: LabelledImages,
) -> None:
    """Compare counts with the published ones; `name` "" checks nothing.

    Args:
        name: "cifar10_lt", "cifar100_lt" (by `imbalance` and `profile`), "imagenet_lt",
            "places_lt", "inaturalist18".
        val: a given validation set; None where there is none or it was held out of `train`.

    Raises:
        DataError: a count differs; every difference is named.
        UnknownNameError: no such set.
    """
    if not name:
        return
    if name in _CIFAR:
        classes, largest = _CIFAR[name]
        profile = "exponential" if profile == "as_is" else profile
        counts = profile_counts(profile, largest, classes, imbalance)
        expected = (classes, counts.sum(), counts.max(), counts.min(), None, 10000)
    elif name in _SETS:
        expected = _SETS[name]
        counts = None
    else:
        raise UnknownNameError.of("DATA.CHECK", name, sorted([*_SETS, *_CIFAR]))
    found = train.counts()
    facts = (
        len(train.class_names), len(train), found.max(), found.min(),
        None if val is None else len(val), len(test),
    )  # fmt: skip
    words = (
        "classes", "training images", "images of the largest class", "images of the least class",
        "validation images", "test images",
    )  # fmt: skip
    wrong = [
        f"{fact} {word}, published {want}"
        for word, fact, want in zip(words, facts, expected)
        if fact is not None and want is not None and fact != want
    ]
    if counts is not None and not wrong and not np.array_equal(np.sort(found), np.sort(counts)):
        wrong = ["the counts of the classes are not those of the profile"]
    if wrong:
        raise DataError(
            f"this is not {name}: {'; '.join(wrong)}. Take the published list, or set DATA.CHECK ''"
        )
    logger.info("%s: counts are the published ones", name)
