"""The poster's figure (b) and its claim about false positives, from the runs of a comparison."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..annotations.sources import annotation_path, as_json
from ..checkpoint.reading import read_checkpoint
from ..errors import CheckpointError
from ..files import csv_text, write_atomically
from ..frequency import ClassFrequency
from ..groups import GROUPS
from .plotting import FIRST, SECOND, figure_of, plain, save_figure

# Colours and markers of methods side by side, none a group's: the first pale, the second strong.
_STYLES = ((FIRST[0], "o"), (SECOND[0], "D"), ("#e69f00", "s"), ("#111111", "^"), ("#56b4e9", "v"))


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
    paths = _table_and_figure(output, "norms", table)
    draw_norms(paths[1], norms, frequency.groups()[order])
    return paths


def draw_norms(path: str, norms: Mapping[str, np.ndarray], groups: np.ndarray) -> None:
    """Each method's norms divided by their mean, and how far they spread.

    Args:
        norms: (C,) by label, from the most to the fewest training images; so are the groups.
        groups: (C,) of "r", "c", "f".
    """
    figure, axes = figure_of(7, 4)
    spreads = {}
    for (color, marker), (label, norm) in zip(_STYLES, norms.items()):
        share = norm / norm.mean()
        spreads[label] = share.std()
        said = plain(f"{label}: {spreads[label]:.2f}")
        axes.plot(share, color=color, marker=marker, ms=4, lw=0.9, label=said)
    name_groups(axes, groups)
    most, least = (pick(spreads, key=lambda label: spreads[label]) for pick in (max, min))
    axes.set_title(
        f"{plain(most)}'s classifier norms spread most ({spreads[most]:.2f}), "
        f"{plain(least)}'s least ({spreads[least]:.2f})\n",
        weight="bold", fontsize=10,
    )  # fmt: skip
    axes.set_xlabel("class, from most to fewest training images")
    axes.set_ylabel("weight norm / mean norm")
    axes.legend(fontsize=8, title="standard deviation", title_fontsize=8)
    save_figure(figure, path)


def name_groups(axes: Any, groups: np.ndarray) -> None:
    """Lines between groups of neighbouring classes, and each group's name above its classes."""
    for letter, group in GROUPS.items():
        places = np.flatnonzero(groups == letter)
        if not len(places):
            continue
        if places[0]:
            axes.axvline(places[0] - 0.5, color="0.7", lw=0.8)
        axes.text(
            places.mean(), 1.01, group.name, color=group.light, ha="center", va="bottom",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


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
    table: list[list] = [["method", *(group.name for group in GROUPS.values())]]
    table += [[label, *by_group.values()] for label, by_group in counts.items()]
    paths = _table_and_figure(output, "false_positives", table)
    draw_false_positives(paths[1], counts)
    return paths


def draw_false_positives(path: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Bars of each method by group; counts are {"r": n, "c": n, "f": n} by label."""
    figure, axes = figure_of(7.5, 4)
    height = 0.8 / len(counts)
    for place, (label, by_group) in enumerate(counts.items()):
        at = np.arange(len(GROUPS)) + (place - (len(counts) - 1) / 2) * height
        bars = axes.barh(
            at, [by_group[group] for group in GROUPS], 0.92 * height,
            color=_STYLES[place % len(_STYLES)][0], label=plain(label),
        )  # fmt: skip
        axes.bar_label(bars, fontsize=8, padding=3)
    totals = {label: sum(by_group.values()) for label, by_group in counts.items()}
    fewest = min(totals, key=lambda label: totals[label])
    axes.set_title(
        f"{plain(fewest)} has the fewest detections on background: {totals[fewest]:,}",
        weight="bold", fontsize=10,
    )  # fmt: skip
    axes.set_yticks(range(len(GROUPS)), [group.name for group in GROUPS.values()])
    for tick, group in zip(axes.get_yticklabels(), GROUPS.values()):
        tick.set_color(group.light)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("detections on background, by the group of the class that they name")
    axes.legend(fontsize=8)
    save_figure(figure, path)


def _table_and_figure(output: str, name: str, table: list[list]) -> list[str]:
    """Write the table; its path and that of the figure."""
    paths = [os.path.join(output, f"{name}.{ending}") for ending in ("csv", "png")]
    write_atomically(paths[0], csv_text(table))
    return paths
