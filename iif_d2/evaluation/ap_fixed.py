"""AP-fixed: the best detections of each class over the data set, however many an image has.

LVIS's cap of 300 detections an image makes classes compete for places, so that better calibrated
scores look like better detection. Dave et al., "Evaluating Large-Vocabulary Object Detectors: The
Devil is in the Details" (2021), cap each class over the whole data set instead, at 10,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .detections import Detections


class Held(NamedTuple):
    """Detections of many images: their image and their place in it, int64 (N,) each."""

    images: np.ndarray
    places: np.ndarray
    detections: Detections

    def take(self, index: np.ndarray) -> Held:
        return Held(self.images[index], self.places[index], self.detections.take(index))


class BestPerClass:
    """Collects detections and keeps the `limit` best of each class.

    Ties at the limit go to the earlier image, then to the earlier detection of an image, so the
    result depends neither on the order of images nor on the number of ranks.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._chunks: list[Held] = []
        self._size = 0  # of all chunks
        self._kept = 0  # of them when last pruned

    def add(self, image: int, detections: Detections) -> None:
        """Collect one image's detections, all of them, which have their masks encoded."""
        count = len(detections)
        self._collect(Held(np.full(count, image), np.arange(count), detections))

    def add_held(self, held: Held) -> None:
        """Collect what another process held."""
        self._collect(held)

    def held(self) -> Held:
        """The best of each class, by image and place in it."""
        self._prune()
        return self._chunks[0]

    def by_image(self) -> Iterator[tuple[int, Detections]]:
        """(image, its detections among the best) for the images that have some."""
        held = self.held()
        images, starts = np.unique(held.images, return_index=True)
        for image, places in zip(images, np.split(np.arange(len(held.images)), starts[1:])):
            yield int(image), held.detections.take(places)

    def _collect(self, held: Held) -> None:
        self._chunks.append(held)
        self._size += len(held.images)
        # At twice the size: the cost of sorting stays a few comparisons a detection.
        if self._size > 2 * self._kept + 1_000_000:
            self._prune()

    def _prune(self) -> None:
        held = _joined(self._chunks)
        classes = held.detections.classes
        order = np.lexsort((held.places, held.images, -held.detections.scores, classes))
        ordered = classes[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        best = order[rank < self._limit]
        best = best[np.lexsort((held.places[best], held.images[best]))]
        self._chunks = [held.take(best)]
        self._size = self._kept = len(best)


def _joined(chunks: list[Held]) -> Held:
    if not chunks:
        return Held(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), Detections.none())
    parts = [chunk.detections for chunk in chunks]
    masks = None
    if any(part.masks is not None for part in parts):
        masks = [mask for part in parts for mask in part.masks or [None] * len(part)]
    return Held(
        np.concatenate([chunk.images for chunk in chunks]),
        np.concatenate([chunk.places for chunk in chunks]),
        Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
            masks,
        ),
    )
