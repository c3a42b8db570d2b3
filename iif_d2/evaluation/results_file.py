"""The LVIS server's results json, written while detections come; all ranks' in one file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext

import msgspec
from detectron2.utils import comm

from ..errors import DataError
from ..files import replacing
from .detections import Detections
from .ground_truth import GroundTruth

_CHUNK = 16 << 20  # bytes a rank sends at a time, which bounds the main rank's memory


class ResultsFile:
    """Every detection of every image, as Detectron2's evaluators write them.

    Each rank keeps its own in an unnamed file, so that memory stays flat and a run that ends early
    leaves nothing behind.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: str, truth: GroundTruth) -> None:
        self._truth, self._folder = truth, folder
        self._category_ids = [category.id for category in truth.categories]
        try:
            os.makedirs(folder, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror}") from None

    def add(self, index: int, detections: Detections) -> None:
        """Keep one image's detections, which have their masks encoded.

        Raises:
            DataError: the folder takes no more.
        """
        if not len(detections):
            return
        records = detections.to_coco(self._truth.image_id(index), self._category_ids)
        # One line an image: its place, then the records without the list's brackets.
        try:
            self._file.write(b"%d %b\n" % (index, msgspec.json.encode(records)[1:-1]))
        except OSError as error:
            raise DataError(f"{self._folder} cannot be written: {error.strerror}") from None

    def write(self, path: str) -> None:
        """Gather all ranks' lines into one json list at `path`, whole or not at all.

        Every rank has to call this; the main rank writes. An image that several ranks processed is
        there once.
        """
        written: set[bytes] = set()
        whole = replacing(path, f"{path}.tmp") if comm.is_main_process() else nullcontext()
        try:
            with whole as output:
                for lines in self._gathered():
                    for line in lines:
                        image, records = line.split(b" ", 1)
                        if image not in written:
                            output.write(b",\n" if written else b"[")
                            output.write(records)
                            written.add(image)
                if output is not None:
                    output.write(b"]" if written else b"[]")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from None

    def _gathered(self) -> Iterator[list[bytes]]:
        """All ranks' lines, some megabytes at a time; ranks other than the main one get none."""
        size = self._file.tell()
        self._file.seek(0)
        rounds = -(-max(comm.all_gather(size)) // _CHUNK)
        # Of each rank, the start of a line whose end has not come yet.
        cut = [b""] * comm.get_world_size()
        for _ in range(rounds):
            for rank, chunk in enumerate(comm.gather(self._file.read(_CHUNK), dst=0)):
                *lines, cut[rank] = (cut[rank] + chunk).split(b"\n")
                yield lines
        self._file.seek(size)
