"""The poster's figure (b) and its claim about false positives, from the runs of a comparison."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..annotations.sources import annotation_path, as_json
from ..checkpoint.reading import read_checkpoint
from ..errors import CheckpointError
from ..files import csv_text, write_atomically
from ..frequency import ClassFrequency
from ..groups import GROUPS
from .plotting import figure_of, save_figure

COLORS = ("#0072b2", "#009e73", "#cc79a7", "#d55e00")  # Okabe and Ito's


def classifier_norms(checkpoint: str) -> np.ndarray:
    """float64 (C,): the norm of each foreground row of cls_score, of the last stage in a cascade.

    Raises:
        CheckpointError: the file cannot be read, or holds no box classifier.
    """
    state = read_checkpoint(checkpoint)["model"]
    names = sorted(name for name in state if name.endswith("cls_score.weight"))
    if not names:
        raise CheckpointError(f"{checkpoint} has no cls_score; give a detector's checkpoint")
    return state[names[-1]][:-1].double().norm(dim=1).numpy()


def write_norms(
    output: str, frequency: ClassFrequency, checkpoints: Sequence[tuple[str, str]]
) -> list[str]:
    """norms.csv and norms.png: classifier norms by training images, of (label, checkpoint)s."""
    order = np.argsort(-frequency.image_count, kind="stable")
    norms = {label: classifier_norms(path)[order] for label, path in checkpoints}
    table = [["class", "training_images", *norms]]
    for place, index in enumerate(order):
        values = [f"{norm[place]:.4f}" for norm in norms.values()]
        table.append([frequency.class_names[index], frequency.image_count[index], *values])
    figure, axes = figure_of(6.5, 3.5)
    for color, (label, norm) in zip(COLORS[::3], norms.items()):
        share = norm / norm.mean()
        axes.plot(share, ".-", color=color, lw=0.8, label=f"{label}: spread {share.std():.2f}")
    groups = frequency.groups()[order]
    for group in "fc":  # where one group ends and the next begins
        axes.axvline(np.flatnonzero(groups == group).max(initial=-1) + 0.5, color="0.7", lw=0.8)
    axes.set_xlabel("class, from most to fewest training images (lines: frequent | common | rare)")
    axes.set_ylabel("weight norm / mean norm")
    axes.legend(fontsize=8)
    return _written(output, "norms", table, figure)


def background_false_positives(json_file: str, detections: str, groups: np.ndarray) -> dict:
    """{"r": n, "c": n, "f": n}: detections on background, by the group of the class they name.

    Background as TIDE has it (Bolya et al., ECCV 2020): a box whose IoU with every object is below
    0.1, counted by hotcoco over all objects and the detections of the group.

    Args:
        json_file: an LVIS annotation file.
        detections: what TEST.WRITE_RESULTS writes.
        groups: (C,) of "r", "c", "f" in the order of category ids.
    """
    from hotcoco import COCOeval

    with open(detections, encoding="utf-8") as file:
        found = json.load(file)
    truth = _coco(json_file)
    group_of = dict(zip(sorted(truth.get_cat_ids()), groups))
    counts = {}
    for group in "rcf":
        boxes = [
            {key: d[key] for key in ("image_id", "category_id", "bbox", "score")}
            for d in found
            if group_of[d["category_id"]] == group
        ]
        counts[group] = 0
        if boxes:
            evaluation = COCOeval(truth, truth.load_res(boxes), "bbox")
            evaluation.evaluate()
            counts[group] = int(evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)["counts"]["Bkg"])
    return counts


def _coco(path: str) -> Any:
    """hotcoco's, of annotations in any format."""
    from hotcoco import COCO

    other = as_json(path)
    if other is None:
        return COCO(annotation_path(path))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(other)
        file.flush()
        return COCO(file.name)


def write_false_positives(
    output: str, json_file: str, groups: np.ndarray, detections: Sequence[tuple[str, str]]
) -> list[str]:
    """false_positives.csv and .png, of (label, detections file)s."""
    counts = {
        label: background_false_positives(json_file, path, groups) for label, path in detections
    }
    table = [["method", *(group.name for group in GROUPS.values())]]
    figure, axes = figure_of(6.5, 3.5)
    width = 0.8 / len(counts)
    for place, (label, by_group) in enumerate(counts.items()):
        values = [by_group[group] for group in GROUPS]
        table.append([label, *values])
        at = np.arange(len(values)) + (place - (len(counts) - 1) / 2) * width
        bars = axes.bar(at, values, width * 0.95, color=COLORS[place % len(COLORS)], label=label)
        axes.bar_label(bars, fontsize=7)
    axes.set_xticks(range(len(GROUPS)), [group.name for group in GROUPS.values()])
    axes.set_ylabel("detections on background")
    axes.legend(fontsize=8)
    return _written(output, "false_positives", table, figure)


def _written(output: str, name: str, table: list[list], figure) -> list[str]:
    paths = [os.path.join(output, f"{name}.{ending}") for ending in ("csv", "png")]
    write_atomically(paths[0], csv_text(table))
    save_figure(figure, paths[1])
    return paths
