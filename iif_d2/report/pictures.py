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
from ..evaluation.detect import read_annotated
from ..evaluation.ground_truth import GroundTruth
from ..plots.drawing import describe, draw_detections, judged
from .diagnosis import Diagnosis
from .runs import Run

_WIDTH = 480  # pixels of a picture on the page
_QUALITY = 80  # of its JPEG


@dataclass(frozen=True)
class Picture:
    """One panel: its title, what is in it in words, a data URL, and pixels as shown."""

    title: str
    alt: str
    url: str
    width: int
    height: int


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
    ids = [record["image_id"] for record in records]
    found_by = [run.shown(truth, ids) for run in runs]
    rows = []
    for place, record in enumerate(records):
        image = read_annotated(record)
        annotated = Detections.from_annotations(record)
        words = f"Annotated: {_objects(len(annotated))}"
        panels = [_panel(words, "Annotated", image, annotated, names, groups, None)]
        for run, found in zip(runs, found_by):
            here = found[place].take(found[place].scores >= threshold)
            counts = truth.looked_for(truth.index(ids[place]), here.classes)
            right, taken = judged(here, annotated, counts)
            words = f"{run.name}: finds {taken.sum()} of {_objects(len(taken))}"
            words += f", {right.count(False)} wrong"
            panels.append(_panel(words, run.name, image, here, names, groups, right))
        rows.append((str(ids[place]), panels))
    return rows


def _objects(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _panel(
    title: str,
    name: str,
    image: np.ndarray,
    found: Detections,
    names: Sequence[str],
    groups: np.ndarray | None,
    right: Sequence[bool | None] | None,
) -> Picture:
    alt = f"{name}: {describe(found, names, groups, right)}"
    pixels = draw_detections(image, found, names, groups, right)
    return Picture(title, alt, *picture_url(Image.fromarray(pixels)))


def picture_url(picture: Image.Image) -> tuple[str, int, int]:
    """A data URL of a picture no wider than the page shows it, its width and its height."""
    picture = picture.convert("RGB")
    if picture.width > _WIDTH:
        size = (_WIDTH, max(1, round(picture.height * _WIDTH / picture.width)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return url, picture.width, picture.height
