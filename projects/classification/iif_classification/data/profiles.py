"""Long-tail profiles: how many images each class keeps, and which."""

from __future__ import annotations

import numpy as np

from iif_d2.errors import ConfigError, DataError, UnknownNameError


def profile_counts(profile: str, largest: int, num_classes: int, imbalance: float) -> np.ndarray:
    """int64 (C,): images that each class keeps, classes in order of their labels.

    Args:
        profile: "exponential": n_i = largest * imbalance^(-i / (C-1)) (Cui et al., CVPR 2019);
            "step": the first half of the classes keeps all, the rest largest / imbalance.
        largest: images of the largest class.
        imbalance: largest over smallest class, >= 1.

    Raises:
        UnknownNameError: another profile.
        ConfigError: an imbalance below 1, or one that leaves a class without images.
    """
    if imbalance < 1:
        raise ConfigError(f"DATA.IMBALANCE is {imbalance}; it is the largest class over the least")
    index = np.arange(num_classes)
    # The published lists multiply by the factor 1/imbalance and cut the fraction off; dividing by a
    # power would move some counts by one.
    factor = 1.0 / imbalance
    if profile == "exponential":
        counts = largest * factor ** (index / max(num_classes - 1, 1))
    elif profile == "step":
        counts = np.where(index < num_classes // 2, largest, largest * factor)
    else:
        raise UnknownNameError.of("DATA.PROFILE", profile, ("as_is", "exponential", "step"))
    # 500 * 0.01 may come out as 4.999...; a whole number is meant.
    counts = np.floor(counts + 1e-9).astype(np.int64)
    if counts.min() < 1:
        raise ConfigError(
            f"DATA.IMBALANCE {imbalance} of at most {largest} images leaves a class without any; "
            f"take at most {largest}"
        )
    return counts


def cut_profile(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """int64: positions of `counts[c]` images drawn from each class c, class by class.

    With torchvision's CIFAR and the same seed this draws as the LDAM-DRW release does: classes in
    order, one shuffle each from one generator.

    Raises:
        DataError: a class has fewer images than it shall keep.
    """
    generator = np.random.RandomState(seed)
    kept = []
    for label, count in enumerate(counts):
        indices = np.flatnonzero(labels == label)
        if len(indices) < count:
            raise DataError(
                f"class {label} has {len(indices)} images, its place in the profile takes {count}; "
                f"cut from the balanced set, or set DATA.PROFILE as_is for a set cut before"
            )
        generator.shuffle(indices)
        kept.append(indices[:count])
    return np.concatenate(kept)


def split_holdout(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions that stay for training and positions for validation.

    Of a class with n images, round(fraction * n) but at least 1 are held out, none where n is 1.

    Raises:
        ConfigError: a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"DATA.VAL_FRACTION is {fraction}; it must be between 0 and 1")
    generator = np.random.RandomState(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        indices = generator.permutation(np.flatnonzero(labels == label))
        most = len(indices) - 1
        held[indices[: min(most, max(1, round(fraction * len(indices))))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
