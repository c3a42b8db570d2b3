"""What `iif-d2 demo` shows of itself: softmax beside IIF on mini_lvis, as a table and a page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import IIFError

if TYPE_CHECKING:
    from ..engine.compare import Row
    from ..evaluation.comparison import SeedRun

DATASET = "mini_lvis_val"
CONFIG = "Mini-InstanceSegmentation/demo_mask_rcnn_lite0_FPN_softmax.yaml"
NORCAL = "Softmax + NorCal, no training"
METRICS = ("AP", "APr", "APc", "APf")
COMMANDS = (
    ("your pictures", "iif-d2 predict photos/ --weights {iif} --output drawn"),
    (
        "your data, in COCO's or LVIS's json",
        "iif-d2 train --train train.json --val val.json --images DIR",
    ),
    (
        "what helps on them",
        "iif-d2 compare --train train.json --val val.json --images DIR --methods Softmax IIF",
    ),
)
_ABOUT = (
    "mini_lvis: 60 classes of coloured shapes, 3 to 450 training pictures each; mask AP on 480 "
    "pictures. "
)
_THRESHOLD = 0.3
_LOOKED_AT = 60  # pictures


def showcase(
    output: str = "output/demo", *, train: bool = False, pictures: int = 6, verbose: bool = False
) -> str:
    """Evaluate, or first train, softmax and IIF on mini_lvis; write a page of pictures.

    Args:
        output: folder of the runs, the page and the report; start again to go on.
        train: train both, from one detector without a classifier; else take the models that come
            with the package, and NorCal over softmax's beside them.
        pictures: how many the page shows.
        verbose: print what the runs log, too.

    Returns:
        The table, what it says in a sentence, and what was written.

    Raises:
        IIFError: a run failed, or `output` cannot be written.

    Examples:
        >>> print(showcase(train=True))  # doctest: +SKIP
    """
    from ..engine.compare import train_rows
    from ..evaluation.comparison import read_run

    os.makedirs(output, exist_ok=True)
    rows, iif, trained = _trained(output) if train else _packaged()
    train_rows(output, rows, [(row, 0) for row in rows], jobs=2, verbose=verbose)
    runs = [read_run(row.name, 0, row.folder(output, 0)) for row in rows]
    folders = {row.name: row.folder(output, 0) for row in rows if row.name != NORCAL}
    about = _ABOUT + trained
    commands = [(what, words.format(iif=iif)) for what, words in COMMANDS]
    report = _report(output, *folders.values())
    links = [("the report: what changed, class by class", os.path.basename(report))]
    page = _page(output, runs, folders, about, links if report else [], commands, pictures)
    lines = [*_table(runs), "", _verdict(runs), about, "", page]
    lines += [f"{report}: what changed, class by class"] if report else []
    lines += [f"{os.path.join(output, 'runs')}: what each run wrote, run.log for one"]
    lines += ["", "next:", *(f"  {words}  # {what}" for what, words in commands)]
    return "\n".join(lines)


def _zoo(name: str) -> str:
    from ..zoo import zoo_model

    return zoo_model(f"mini_lvis_{name}")


def _packaged() -> tuple[list[Row], str, str]:
    """Rows, IIF's weights, and how they were trained: the package's models as they are."""
    from ..engine.compare import Row

    def row(name: str, model: str, *options: str) -> Row:
        folder = _zoo(model)
        weights = os.path.join(folder, "model.safetensors")
        words = ("MODEL.WEIGHTS", weights, "DATASETS.TEST", f"('{DATASET}',)", *options)
        return Row(name, os.path.join(folder, "config.yaml"), words, trains=False)

    counts = os.path.join(_zoo("softmax"), "class_frequency.json")
    norcal = ("MODEL.LONG_TAIL.METHOD", "NorCal", "MODEL.LONG_TAIL.FREQUENCY", counts)
    norcal += ("MODEL.LONG_TAIL.NorCal.GAMMA", "0.3")  # as in Base-Mini-Lite0-FPN.yaml
    rows = [row("Softmax", "softmax"), row(NORCAL, "softmax", *norcal)]
    trained = "Both models were trained for 600 steps of 8 pictures by one recipe."
    return [*rows, row("IIF", "iif")], _zoo("iif"), trained


def _trained(output: str) -> tuple[list[Row], str, str]:
    """The same of both, trained from the packaged softmax detector, less its classifier."""
    import torch

    from ..checkpoint.reading import read_checkpoint
    from ..engine.compare import Row
    from ..files.tensors import save_tensors

    start = os.path.join(output, "detector.pth")
    if not os.path.exists(start):
        weights = read_checkpoint(os.path.join(_zoo("softmax"), "model.safetensors"))["model"]
        kept = {n: torch.as_tensor(w).float() for n, w in weights.items() if "cls_score" not in n}
        save_tensors(start, {"model": kept})
    rows = [
        Row(name, CONFIG, ("MODEL.LONG_TAIL.METHOD", name, "MODEL.WEIGHTS", start))
        for name in ("Softmax", "IIF")
    ]
    iif = os.path.join(rows[-1].folder(output, 0), "model_final.pth")
    trained = (
        "Both models went on from one detector without a classifier, for 150 steps of 8 pictures: "
        "a demo, no benchmark."
    )
    return rows, iif, trained


def _table(runs: list[SeedRun]) -> list[str]:
    width = max(len(run.row) for run in runs)
    lines = [f"{'':{width}}  {'  '.join(f'{name:>5}' for name in METRICS)}"]
    for run in runs:
        cells = (f"{(run.results or {}).get(name, float('nan')):5.1f}" for name in METRICS)
        lines.append(f"{run.row:{width}}  {'  '.join(cells)}")
    return lines


def _verdict(runs: list[SeedRun]) -> str:
    softmax, iif = (
        next(run.results or {} for run in runs if run.row == name) for name in ("Softmax", "IIF")
    )
    return (
        f"Of the rare classes, seen in at most 10 training pictures, softmax finds next to nothing "
        f"(APr {softmax['APr']:.1f}); IIF has APr {iif['APr']:.1f}."
        if softmax["APr"] < 5 < iif["APr"]
        else f"Rare classes: APr {softmax['APr']:.1f} by softmax, {iif['APr']:.1f} by IIF."
    )


def _report(output: str, *runs: str) -> str:
    """The report's file; "" where what it needs is not installed."""
    from ..report import make_report

    path = os.path.join(output, "report.html")
    try:
        make_report(runs, output=path, dataset=DATASET, bootstrap=200)
    except IIFError as error:
        print(f"no report: {error}")
        return ""
    return path


def _page(
    output: str,
    runs: list[SeedRun],
    folders: dict[str, str],
    about: str,
    links: list[tuple[str, str]],
    commands: list[tuple[str, str]],
    most: int,
) -> str:
    """Write the page of pictures; says where it is.

    Args:
        folders: of the runs whose detections are shown, by the name above them.
    """
    from detectron2.data import DatasetCatalog

    from ..evaluation import Detections
    from ..evaluation.detect import read_picture
    from ..evaluation.lvis_evaluation import RESULTS_FILE, dataset_ground_truth, evaluation_folder
    from ..evaluation.metrics import class_groups
    from ..plots.drawing import describe, draw_detections, judged
    from ..report import pictures_page

    truth = dataset_ground_truth(DATASET)
    groups = class_groups(truth, None)
    ids, names = zip(*((category.id, category.name) for category in truth.categories))
    models = {}
    for name, folder in folders.items():
        path = os.path.join(evaluation_folder(folder, DATASET), RESULTS_FILE)
        found = Detections.from_json(path, ids)
        models[name] = found.take(found.scores >= _THRESHOLD)
    looked_at = []
    for record in DatasetCatalog.get(DATASET):
        if len(looked_at) == _LOOKED_AT:
            break
        objects = Detections.from_annotations(record)
        rare = groups[objects.classes] == "r"
        if rare.any():
            found = [one.take(one.images == record["image_id"]) for one in models.values()]
            judgements = [judged(one, objects) for one in found]
            softmax, iif = (int(taken[rare].sum()) for _, taken in judgements)
            marks = [None, *(right for right, _ in judgements)]
            panels = list(zip([objects, *found], marks))
            looked_at.append((abs(iif - softmax), record, panels))
    looked_at.sort(key=lambda one: -one[0])  # the models differ most; else as they stand in the set
    shown, alts, captions = [], [], []
    for _, record, panels in looked_at[:most]:
        image = read_picture(record["file_name"])
        shown.append([draw_detections(image, one, names, groups, right) for one, right in panels])
        alts.append([describe(one, names, groups, right) for one, right in panels])
        captions.append(f"image {record['image_id']}")
    table = [["", *METRICS], *([run.row, *map((run.results or {}).get, METRICS)] for run in runs)]
    return pictures_page(
        os.path.join(output, "demo.html"),
        "Softmax and IIF on rare classes",
        ["Ground truth", *models],
        shown,
        captions=captions,
        alts=alts,
        threshold=_THRESHOLD,
        table=table,
        paragraphs=[
            _verdict(runs),
            about,
            f"Of the first {_LOOKED_AT} pictures with an object of a rare class, the {most} in "
            "which the models differ most in how many of these they find.",
        ],
        links=links,
        commands=commands,
    )
