"""The command line of the report, and the order of its work."""

from __future__ import annotations

import argparse
import os

from detectron2.data import DatasetCatalog

from ..errors import ConfigError, DataError
from ..evaluation.lvis_evaluation import dataset_ground_truth
from ..evaluation.tables import class_groups
from ..files import write_atomically
from ..report.diagnosis import Diagnosis, changes
from ..report.page import render
from ..report.pictures import choose, draw
from ..report.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run; one or two")
    parser.add_argument("--output", default="report.html", help="default report.html")
    parser.add_argument("--dataset", help="default: the first of the first run's DATASETS.TEST")
    parser.add_argument(
        "--images", type=int, help="analyse so many images of it, evenly spaced; default all"
    )
    parser.add_argument("--pictures", type=int, default=6, help="pictures to show; default 6")
    parser.add_argument("--image-ids", nargs="+", default=[], help="show these pictures instead")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3,
        help="detections below count neither in the pictures nor in the confusions; default 0.3",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=int, default=1000,
        help="samples of the intervals of what changed; 0 leaves them out; default 1000",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; default 0")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE config overrides, last"
    )


def run(args: argparse.Namespace) -> str:
    """Write the page; says where, and what was analysed."""
    if len(args.runs) > 2:
        raise ConfigError(f"report takes one or two runs, not {len(args.runs)}")
    runs = [Run(folder, args.opts) for folder in args.runs]
    _name_apart(runs)
    dataset = args.dataset or next(iter(runs[0].cfg.DATASETS.TEST), "")
    if dataset not in DatasetCatalog:
        raise ConfigError(f"{dataset!r} is no registered data set; name one with --dataset")
    truth = dataset_ground_truth(dataset)
    if not truth.has_annotations:
        raise DataError(f"{truth.path} has no annotations to compare detections with")
    records = _slice(DatasetCatalog.get(dataset), args.images)
    for one in runs:
        one.prepare(dataset, records, truth)
    frequency = runs[0].frequency([category.name for category in truth.categories])
    groups = class_groups(truth, frequency)
    indices = [truth.index(record["image_id"]) for record in records]
    diagnoses = [
        Diagnosis(truth, indices, one.boxes(truth), groups, args.confidence_threshold)
        for one in runs
    ]
    shown = choose(records, truth, diagnoses, groups, args.pictures, args.image_ids)
    html = render(
        runs,
        diagnoses,
        truth,
        frequency,
        groups,
        changed=changes(diagnoses, args.bootstrap, args.seed) if len(runs) == 2 else None,
        pictures=draw(runs, shown, truth, groups, args.confidence_threshold),
        threshold=args.confidence_threshold,
        num_images=len(records),
        dataset=dataset,
    )
    write_atomically(args.output, html)
    size = os.path.getsize(args.output) / 1e6
    return (
        f"{args.output} ({size:.1f} MB): {' and '.join(one.name for one in runs)} on "
        f"{len(records)} images of {dataset}; open it in a browser"
    )


def _name_apart(runs: list[Run]) -> None:
    """Runs are called by their folder's last part, or by all of it where those are the same."""
    if len({run.name for run in runs}) < len(runs):
        for number, one in enumerate(runs):
            one.name = f"{one.folder} ({number + 1})"


def _slice(records: list[dict], images: int | None) -> list[dict]:
    if images is None or images >= len(records):
        return records
    if images < 1:
        raise ConfigError(f"--images is {images}; at least one image has to be analysed")
    return [records[place * len(records) // images] for place in range(images)]
