"""The class weights of IIF: Eq. 2 and 3, and the variants of the paper's ablation."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from ..errors import ConfigError, DataError, UnknownNameError
from ..frequency import ClassFrequency

logger = logging.getLogger(__name__)


def _normit(n: np.ndarray, total: int) -> np.ndarray:
    quantile = NormalDist().inv_cdf
    return np.array([-quantile(p) if p < 1 else -np.inf for p in n / total])


def _root_mean_square(values: np.ndarray) -> float:
    return math.sqrt(math.fsum(values**2) / len(values))  # the same in every order of the classes


# n: float64 (C,), each at least 1; total: N of Eq. 2.
VARIANTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "raw": lambda n, total: np.log(total / n),
    "smooth": lambda n, total: np.log((total + 1) / (n + 1)) + 1,
    "rel": lambda n, total: np.log((total - n) / n),
    "normit": _normit,
    "gombit": lambda n, total: -np.log(-np.log1p(-n / total)),
    "base2": lambda n, total: np.log2(total / n),
    "base10": lambda n, total: np.log10(total / n),
    "constant": lambda n, total: np.full(len(n), _root_mean_square(np.log(total / n))),
}
STATISTICS = ("image", "instance")
NORMALIZERS = ("sum", "images")


def iif_weights(
    frequency: ClassFrequency,
    variant: str = "raw",
    statistic: str = "image",
    normalizer: str = "sum",
) -> np.ndarray:
    """float64 (C,): the factor of each foreground logit, -ln p_c by default (Eq. 3).

    Args:
        variant: raw, smooth, rel, normit, gombit, base2 or base10; or constant, raw's root mean
            square for every class: the control that a claim about inverse frequency has to beat.
        statistic: count "image"s that hold the class or "instance"s of it.
        normalizer: p_c = n_c / "sum" over the classes (Eq. 2), or n_c / number of training "images"
            (the authors' released weights). The instance statistic always divides by all instances.

    A class without a single image gets the weight of a class seen once; one warning lists them.
    Where one class has all the images there is no tail: every weight is 1, with a warning.

    Raises:
        UnknownNameError: a variant, statistic or normalizer that is not one of these.
        ConfigError: a weight is not positive, so that it would erase or flip its class's evidence.
        DataError: no class has any image, or the instance counts are asked for and not there.

    Examples:
        >>> frequency = ClassFrequency(("cat", "owl"), [90, 10], [120, 10], num_images=100)
        >>> iif_weights(frequency)  # -ln 0.9 and -ln 0.1
        array([0.10536052, 2.30258509])
    """
    for kind, name, known in (
        ("IIF variant", variant, VARIANTS),
        ("IIF statistic", statistic, STATISTICS),
        ("IIF normalizer", normalizer, NORMALIZERS),
    ):
        if name not in known:
            raise UnknownNameError.of(kind, name, known)
    count = seen_count(frequency, statistic)
    total = int(frequency.count(statistic).sum())
    if statistic == "image" and normalizer == "images":
        total = frequency.num_images
    weights = _compute(variant, count, total)
    flipped = np.flatnonzero(~(weights > 0))
    if len(flipped) and (frequency.count(statistic) > 0).sum() == 1:
        only = frequency.labels[int(frequency.count(statistic).argmax())]
        _warn_once(
            f"{only} is the only class with training images, so there is no tail to weigh: IIF's "
            "factors are 1, as in softmax"
        )
        return np.ones(len(frequency))
    if len(flipped):
        remedies = [name for name in VARIANTS if name != "constant"]
        works = [name for name in remedies if (_compute(name, count, total) > 0).all()]
        raise ConfigError(
            f"IIF variant {variant!r} gives weights that are not positive for "
            f"{_listing(frequency, flipped)}, which would erase or flip their evidence; use "
            + " or ".join(works)
        )
    return weights


def seen_count(frequency: ClassFrequency, statistic: str = "image") -> np.ndarray:
    """float64 (C,): the counts that logarithms and powers may use, where 0 counts as 1.

    Raises:
        DataError: no class was seen at all.
    """
    count = frequency.count(statistic)
    if not count.any():
        raise DataError("no class has a single training image; check the annotations")
    unseen = np.flatnonzero(count == 0)
    if len(unseen):
        _warn_once(f"{_listing(frequency, unseen)} never seen in training; treated as seen once")
    return np.maximum(count, 1).astype(np.float64)


@functools.cache
def _warn_once(message: str) -> None:
    """One warning a process, however many predictors ask."""
    logger.warning(message)


def _compute(variant: str, count: np.ndarray, total: int) -> np.ndarray:
    with np.errstate(divide="ignore"):  # n = N: minus infinity, which the caller reports
        return VARIANTS[variant](count, total)


def _listing(frequency: ClassFrequency, indices: np.ndarray, most: int = 20) -> str:
    names = [frequency.labels[index] for index in indices[:most]]
    more = f" and {len(indices) - most} more" if len(indices) > most else ""
    return f"{len(indices)} of {len(frequency)} classes ({', '.join(names)}{more})"
