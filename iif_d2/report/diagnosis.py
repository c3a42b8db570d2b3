"""What a run's boxes get wrong: hotcoco's confusions, TIDE errors, calibration, and comparison.

The detections that are looked at are those the LVIS protocol scores: of classes that were looked
for in their image. On a COCO json that is all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hotcoco import COCO, COCOeval, compare

from ..evaluation import METRICS, Detections
from ..evaluation.ground_truth import BEYOND_SIZES, GroundTruth
from ..groups import GROUPS

MOST_PAIRS = 200  # confused pairs of classes that are listed
MOST_CHANGED = 20  # classes that get an interval of their own
TIDE = {
    "Cls": "right box, wrong class",
    "Loc": "right class, box too far off",
    "Both": "both wrong",
    "Dupe": "found already",
    "Bkg": "nothing there",
    "Miss": "not found at all",
}


@dataclass(frozen=True)
class Change:
    """A difference in AP points, second run less first, and its 95 % interval if asked for."""

    name: str
    before: float
    after: float
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        return self.after - self.before


class Diagnosis:
    """Boxes of one run held against the objects of some images.

    Args:
        truth: the annotations, of C classes.
        indices: places of the images.
        found: their `images` are the annotation file's ids; those in other images are left out.
        groups: (C,) of "r", "c", "f", or None.
        threshold: least score of a detection that takes part in the confusions.

    Attributes:
        confusion: int64 (C+1, C+1), objects of a class (row) detected as a class (column) at IoU
            0.5; the last column holds missed objects, the last row detections of nothing.
        tide: error type -> (AP50 points that mending it would give, how many there are).
        tide_by_group: group -> {error type: detections of its classes that are such an error}; a
            missed object is no detection. {} without groups.
        calibration: hotcoco's; at IoU 0.5, of all scores.
        found: the detections that count, by image; their `images` are the places in `truth`.
    """

    def __init__(
        self,
        truth: GroundTruth,
        indices: Sequence[int],
        found: Detections,
        groups: np.ndarray | None,
        threshold: float,
    ) -> None:
        places = np.array([truth.index(image_id) for image_id in found.images], dtype=np.int64)
        here = np.flatnonzero(np.isin(places, indices))
        here = here[np.argsort(places[here], kind="stable")]
        found = replace(found.take(here), images=places[here])
        images, starts = np.unique(found.images, return_index=True)
        counts = [np.zeros(0, dtype=bool)]
        for image, classes in zip(images, np.split(found.classes, starts[1:])):
            counts.append(truth.looked_for(int(image), classes))
        self.found = found.take(np.concatenate(counts))
        dataset = truth.coco_dataset(indices, groups)
        truth_coco = COCO(dataset)
        self.evaluation = _evaluated(truth_coco, self.found)
        # Confusions do not look at sizes: what is to be ignored would be missed there.
        found_or_missed = [a for a in dataset["annotations"] if a["area"] < BEYOND_SIZES]
        confused = self.evaluation
        if len(found_or_missed) < len(dataset["annotations"]):
            confused = _evaluated(COCO({**dataset, "annotations": found_or_missed}), self.found)
        confusion = confused.confusion_matrix(0.5, min_score=threshold)
        self.confusion = confusion["matrix"].astype(np.int64)
        tide = self.evaluation.tide_errors()
        self.tide = {
            name: (100 * gain, tide["counts"].get(name)) for name, gain in tide["delta_ap"].items()
        }
        self.tide_by_group = {}
        for group in GROUPS if groups is not None else ():
            of_group = self.found.take(groups[self.found.classes] == group)
            alone = _evaluated(truth_coco, of_group).tide_errors()["counts"]
            self.tide_by_group[group] = {name: n for name, n in alone.items() if name != "Miss"}
        self.calibration = self.evaluation.calibration(n_bins=10)

    def group_confusion(self, groups: np.ndarray) -> dict[str, dict[str, int]]:
        """Objects of each group: found, taken for another class of r, c, f, or missed."""
        member = np.array([groups == group for group in GROUPS], dtype=np.int64)
        between = member @ self.confusion[:-1, :-1] @ member.T
        found = member @ np.diag(self.confusion)[:-1]
        between[np.diag_indices(len(GROUPS))] -= found
        missed, nothing = member @ self.confusion[:-1, -1], member @ self.confusion[-1, :-1]
        rows = np.column_stack([found, between, missed, nothing]).tolist()
        others = (f"as another {group}" for group in GROUPS)
        keys = ("found", *others, "missed", "detected in the background")
        return {group: dict(zip(keys, row)) for group, row in zip(GROUPS, rows)}

    def between_groups(self, groups: np.ndarray) -> np.ndarray:
        """int64 (3, 5): objects of r, c, f that are found, taken for another r, c, f, missed."""
        table = self.group_confusion(groups)
        return np.array([list(row.values())[:5] for row in table.values()])

    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """(class, taken for, how often), the most frequent first."""
        between = self.confusion[:-1, :-1].copy()
        np.fill_diagonal(between, 0)
        rows, columns = np.nonzero(between)
        counts = between[rows, columns]
        order = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
        return [(int(rows[i]), int(columns[i]), int(counts[i])) for i in order]


def changes(
    diagnoses: Sequence[Diagnosis], bootstrap: int, seed: int
) -> tuple[list[Change], list[Change]]:
    """What changed from the first to the second: the metrics, and the classes that moved most.

    The classes are sorted by their difference, the largest gain first. A class's change is named by
    its number. The last use of the diagnoses' evaluations.
    """
    first, second = (diagnosis.evaluation for diagnosis in diagnoses)
    whole = compare(first, second, n_bootstrap=bootstrap, seed=seed)
    names = [
        name for name, metric in METRICS.items() if not metric.size
    ]  # boxes have no sizes here
    metrics = [_change(name, whole, name) for name in names if whole["metrics_a"][name] >= 0]
    moved = sorted(whole["per_category"], key=lambda row: -abs(row["delta"]))[:MOST_CHANGED]
    classes = []
    for row in moved:
        for evaluation in (first, second):
            evaluation.params.cat_ids = [row["cat_id"]]
            evaluation.evaluate()
        alone = compare(first, second, n_bootstrap=bootstrap, seed=seed)
        classes.append(_change(str(row["cat_id"] - 1), alone, "AP"))
    return metrics, sorted(classes, key=lambda change: -change.difference)


def _change(name: str, compared: dict, metric: str) -> Change:
    interval = compared["ci"] and compared["ci"][metric]
    return Change(
        name,
        100 * compared["metrics_a"][metric],
        100 * compared["metrics_b"][metric],
        (100 * interval["lower"], 100 * interval["upper"]) if interval else None,
    )


def _evaluated(truth: COCO, found: Detections) -> COCOeval:
    # hotcoco's ids start at 1.
    rows = np.column_stack([found.images + 1, found.boxes, found.scores, found.classes + 1])
    evaluation = COCOeval(truth, truth.load_res(rows), "bbox", lvis_style=True)
    evaluation.params.area_rng = [[0.0, 1e10]]
    evaluation.params.area_rng_lbl = ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation
