"""Pictures of detections: the annotations and each run side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import DataError
from ..evaluation import Detections
from ..evaluation.detect import detect, read_picture
from ..evaluation.ground_truth import GroundTruth
from ..plots.drawing import describe, draw_detections
from .diagnosis import Diagnosis
from .runs import Run

_WIDTH = 480  # pixels of a picture on the page
_QUALITY = 80  # of its JPEG


@dataclass(frozen=True)
class Picture:
    """One panel: its title, what is in it in words, and a data URL."""

    title: str
    alt: str
    url: str


def choose(
    records: list[dict],
    truth: GroundTruth,
    diagnoses: Sequence[Diagnosis],
    groups: np.ndarray | None,
    most: int,
    image_ids: Sequence[str],
) -> list[dict]:
    """The images with these ids, else those where the runs differ most, rare classes first.

    Raises:
        DataError: an image id that is not among the analysed.
    """
    by_id = {str(record["image_id"]): record for record in records}
    for image_id in image_ids:
        if image_id not in by_id:
            raise DataError(f"--image-ids names {image_id}, which is none of the analysed images")
    if image_ids:
        return [by_id[image_id] for image_id in image_ids]

    def interest(record: dict) -> tuple:
        classes = {annotation["category_id"] for annotation in record["annotations"]}
        rare = set() if groups is None else {c for c in classes if groups[c] == "r"}
        index = truth.index(record["image_id"])
        scores = [_score(diagnosis, index, rare or classes) for diagnosis in diagnoses]
        apart = max(scores) - min(scores) if len(scores) > 1 else max(scores)
        return bool(rare), apart, len(classes)

    return sorted(records, key=interest, reverse=True)[:most]


def _score(diagnosis: Diagnosis, index: int, classes: set) -> float:
    """The best score of each of these classes in the image, added up."""
    found = diagnosis.found
    here = found.take(np.arange(*np.searchsorted(found.images, [index, index + 1])))
    return sum(here.scores[here.classes == c].max(initial=0.0) for c in classes)


def draw(
    runs: Sequence[Run],
    records: list[dict],
    truth: GroundTruth,
    groups: np.ndarray | None,
    threshold: float,
) -> list[tuple[str, list[Picture]]]:
    """(image id, panels) of each picture: the annotations, then what each run finds."""
    names = [category.name for category in truth.categories]
    rows = []
    for record in records:
        image = read_picture(record["file_name"])
        shown = [("Annotated", Detections.from_annotations(record))]
        for run in runs:
            found = detect(run.cfg, run.model, image)
            shown.append((run.name, found.take(found.scores >= threshold)))
        panels = [
            Picture(
                title,
                f"{title}: {describe(found, names, groups)}",
                _data_url(draw_detections(image, found, names, groups)),
            )
            for title, found in shown
        ]
        rows.append((str(record["image_id"]), panels))
    return rows


def _data_url(pixels: np.ndarray) -> str:
    picture = Image.fromarray(pixels)
    if picture.width > _WIDTH:
        picture = picture.resize((_WIDTH, round(picture.height * _WIDTH / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
