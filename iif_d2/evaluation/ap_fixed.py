"""AP-fixed: the best detections of each class over the data set, however many an image has.

LVIS's cap of 300 detections an image makes classes compete for places, so that better calibrated
scores look like better detection. Dave et al., "Evaluating Large-Vocabulary Object Detectors: The
Devil is in the Details" (2021), cap each class over the whole data set instead, at 10,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .detections import Detections


class BestPerClass:
    """Collects detections and keeps the `limit` best of each class.

    Ties at the limit go to the earlier image, then to the earlier detection of an image, so the
    result depends neither on the order of images nor on the number of ranks.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._chunks: list[Detections] = []  # an image's stay in their order
        self._size = 0  # of all chunks
        self._kept = 0  # of them when last pruned

    def add(self, image: int, detections: Detections) -> None:
        """Collect one image's detections, all of them, which have their masks encoded."""
        self.add_held(replace(detections, images=np.full(len(detections), image)))

    def add_held(self, held: Detections) -> None:
        """Collect what another process held."""
        self._chunks.append(held)
        self._size += len(held)
        # At twice the size: the cost of sorting stays a few comparisons a detection.
        if self._size > 2 * self._kept + 1_000_000:
            self.held()

    def held(self) -> Detections:
        """The best of each class, by image and place in it."""
        held = Detections.concatenate(self._chunks)
        order = np.lexsort((held.images, -held.scores, held.classes))  # stable, as places are
        ordered = held.classes[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        best = np.sort(order[rank < self._limit])
        held = held.take(best[np.argsort(held.images[best], kind="stable")])
        self._chunks, self._size, self._kept = [held], len(held), len(held)
        return held

    def by_image(self) -> Iterator[tuple[int, Detections]]:
        """(image, its detections among the best) for the images that have some."""
        held = self.held()
        images, starts = np.unique(held.images, return_index=True)
        for image, places in zip(images, np.split(np.arange(len(held)), starts[1:])):
            yield int(image), held.take(places)
