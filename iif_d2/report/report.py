"""The report of one or two runs: the order of its work."""

from __future__ import annotations

import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog

from ..checkpoint import check_class_names
from ..data import require_registered
from ..errors import ConfigError, DataError
from ..evaluation import dataset_ground_truth
from ..evaluation.metrics import class_groups
from ..files import write_atomically
from .diagnosis import Diagnosis, changes
from .page import render
from .pictures import choose, draw
from .runs import Run, name_runs


def make_report(
    runs: Sequence[str],
    *,
    output: str = "report.html",
    dataset: str | None = None,
    images: int | None = None,
    pictures: int = 6,
    image_ids: Sequence[str] = (),
    confidence_threshold: float = 0.3,
    bootstrap: int = 1000,
    seed: int = 0,
    opts: Sequence[str] = (),
) -> str:
    """Write the page of one or two runs; says where, and what was analysed.

    Args:
        runs: OUTPUT_DIR of each.
        output: the html file.
        dataset: a registered data set, by default the first of the first run's DATASETS.TEST.
        images: analyse so many images of it, evenly spaced; by default all.
        pictures: how many are shown.
        image_ids: show these pictures instead.
        confidence_threshold: detections below count neither in the pictures nor in the confusions.
        bootstrap: samples of the intervals of what changed; 0 leaves them out.
        seed: of the bootstrap.
        opts: KEY VALUE overrides of the runs' configs.

    Raises:
        ConfigError: arguments that cannot work.
        DataError: a folder that is no run's, or data that cannot be read.
        IIFError: plotly or Jinja2 is not installed.

    Examples:
        >>> print(make_report(["output/softmax", "output/iif"], output="report.html", images=4))
        report.html (... MB): Softmax and IIF on 4 images of my_val; open it in a browser
    """
    if len(runs) not in (1, 2):
        raise ConfigError(f"report takes one or two runs, not {len(runs)}")
    compared = [Run(folder, opts) for folder in runs]
    name_runs(compared)
    dataset = dataset or next(iter(compared[0].cfg.DATASETS.TEST), "")
    if not dataset:
        raise ConfigError(f"DATASETS.TEST of {runs[0]} is empty; name a data set with --dataset")
    require_registered(dataset)
    for run in compared:
        check_class_names(run.model, dataset)
    truth = dataset_ground_truth(dataset)
    if not truth.has_annotations:
        raise DataError(
            f"{truth.path} has no annotations to compare detections with; name an annotated set "
            f"with --dataset"
        )
    records = _slice(DatasetCatalog.get(dataset), images)
    for run in compared:
        run.prepare(dataset, records, truth)
    frequency = compared[0].frequency([category.name for category in truth.categories])
    groups = class_groups(truth, frequency)
    indices = [truth.index(record["image_id"]) for record in records]
    diagnoses = [
        Diagnosis(truth, indices, run.detections(truth), groups, confidence_threshold)
        for run in compared
    ]
    shown = choose(records, truth, diagnoses, groups, pictures, image_ids)
    html = render(
        compared,
        diagnoses,
        truth,
        frequency,
        groups,
        changed=changes(diagnoses, bootstrap, seed) if len(compared) == 2 else None,
        pictures=draw(compared, shown, truth, groups, confidence_threshold),
        threshold=confidence_threshold,
        num_images=len(records),
        dataset=dataset,
    )
    write_atomically(output, html)
    size = os.path.getsize(output) / 1e6
    return (
        f"{output} ({size:.1f} MB): {' and '.join(run.name for run in compared)} on "
        f"{len(records)} images of {dataset}; open it in a browser"
    )


def _slice(records: Sequence[dict], images: int | None) -> Sequence[dict]:
    if images is None or images >= len(records):
        return records
    if images < 1:
        raise ConfigError(f"--most is {images}; at least one image has to be analysed")
    return [records[place * len(records) // images] for place in range(images)]
