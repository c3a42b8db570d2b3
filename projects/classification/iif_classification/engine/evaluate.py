"""Accuracy of a test set, in all and over many-, medium- and few-shot classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from iif_d2.errors import DataError
from iif_d2.frequency import ClassFrequency

from ..data.loaders import EvaluationLoader
from .distributed import Ranks

# Training images: many is more than 100, few is less than 20 (Liu et al., CVPR 2019).
MANY, FEW = 100, 20


@dataclass(frozen=True)
class Scores:
    """Accuracies in percent.

    Attributes:
        top1, top5: of all images.
        mean_class: mean over the classes that the set has; top1 where it is balanced.
        many, medium, few: the same over classes with more than 100, 20 to 100 and fewer than 20
            training images; None where there are none.
        images: how many were counted.
        per_class: top-1 of each class, None for one without images.
    """

    top1: float
    top5: float
    mean_class: float
    many: float | None
    medium: float | None
    few: float | None
    images: int
    per_class: list[float | None]

    def as_dict(self) -> dict:
        return asdict(self)

    def summary(self) -> str:
        """One line for the log."""
        groups = ((name, getattr(self, name)) for name in ("many", "medium", "few"))
        shown = ", ".join(f"{name} {'-' if v is None else format(v, '.2f')}" for name, v in groups)
        return (
            f"top-1 {self.top1:.2f}, top-5 {self.top5:.2f}, class mean {self.mean_class:.2f} "
            f"({shown}) over {self.images:,} images"
        )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: EvaluationLoader,
    prepare: Callable[[Tensor], Tensor],
    frequency: ClassFrequency,
    ranks: Ranks,
) -> Scores:
    """Test a model over all ranks; it is left in eval mode.

    Args:
        model: images to probabilities (R, C).
        loader: this rank's images.
        prepare: uint8 images to what the model takes, on its device.
        frequency: the training set's, for the groups.

    Raises:
        DataError: the ranks together did not see every image exactly once.
    """
    model.eval()
    ranks.share_buffers(model)
    classes = len(frequency)
    # rows: images, top-1 hits, top-5 hits, each by class
    tally = torch.zeros((3, classes), dtype=torch.int64, device=ranks.device)
    for images, labels in loader:
        labels = labels.to(ranks.device)
        best = model(prepare(images)).topk(min(5, classes), dim=1).indices
        hits = best == labels[:, None]
        for row, which in enumerate((torch.ones_like(hits[:, 0]), hits[:, 0], hits.any(1))):
            tally[row] += torch.bincount(labels[which], minlength=classes)
    tally = ranks.sum(tally).cpu().numpy()
    expected = np.bincount(loader.images.labels, minlength=classes)
    if not np.array_equal(tally[0], expected):
        raise DataError(
            f"{tally[0].sum()} images were tested of a set of {expected.sum()}; "
            f"every image counts exactly once, start the test again"
        )
    return _scores(tally, frequency.image_count)


def _scores(tally: np.ndarray, train_count: np.ndarray) -> Scores:
    images, hits, hits5 = tally
    seen = images > 0
    accuracy = np.where(seen, 100.0 * hits / np.maximum(images, 1), np.nan)

    def mean(group: np.ndarray) -> float | None:
        group = group & seen
        return float(accuracy[group].mean()) if group.any() else None

    return Scores(
        top1=float(100.0 * hits.sum() / images.sum()),
        top5=float(100.0 * hits5.sum() / images.sum()),
        mean_class=mean(seen),
        many=mean(train_count > MANY),
        medium=mean((train_count >= FEW) & (train_count <= MANY)),
        few=mean(train_count < FEW),
        images=int(images.sum()),
        per_class=[float(value) if known else None for value, known in zip(accuracy, seen)],
    )
