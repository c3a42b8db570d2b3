"""`iif-d2 sweep`: many test-time settings of a trained model, from one pass."""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from ..files import csv_text, write_atomically
from ..user_modules import import_modules
from .arguments import add_launcher_arguments, add_model_arguments
from .own_data import NAMES, OwnData, add_data_arguments

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

    from ..evaluation.sweep_settings import Setting
    from ..frequency import ClassFrequency
    from ..methods import LongTailMethod

logger = logging.getLogger(__name__)

COLUMNS = ("AP", "APr", "APc", "APf")
RULE = (
    "the best are those of the highest box AP; of them the highest mask AP wins where there are "
    "masks, the highest box AP where not; of equal ones the first"
)
_PER_CLASS = 10  # images of each class in the default slice of the training data


EXAMPLE = """iif-d2 sweep --config-file output/softmax/config.yaml --dataset mini_lvis_dev \\
    --output output/sweep MODEL.WEIGHTS output/softmax/model_final.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for sweep.csv and sweep.png"
    )
    parser.add_argument(
        "--dataset",
        help="a registered data set, best one that the model was not trained on, all of it; by "
        "default --val, or a slice of DATASETS.TRAIN's first",
    )
    parser.add_argument(
        "--images-per-class", type=int,
        help="only so many images of each class, or all it has; the same ones every time "
        f"(default {_PER_CLASS} of the training data, all of --dataset)",
    )  # fmt: skip
    parser.add_argument("--masks", type=int, default=3, help="mask AP for so many best; default 3")
    add_setting_arguments(parser)
    add_data_arguments(parser)
    add_launcher_arguments(parser, "the whole sweep, which is one pass over the images,")
    add_model_arguments(parser)


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    for flag, what in (
        ("--variants", "IIF variants"),
        ("--statistics", "IIF statistics"),
        ("--normalizers", "IIF normalizers"),
    ):
        parser.add_argument(flag, type=_names, metavar="A,B", help=f"{what}, default all")
    for flag, default, what in (
        ("--strengths", (0.25, 0.5, 1.0), "exponents s of IIF's factor w_c^s, in [0, 1]"),
        ("--gammas", (0.2, 0.4, 0.6, 0.8, 1.0), "NorCal's gamma"),
        ("--taus", (0.25, 0.5, 0.75, 1.0, 1.25), "tau of post-hoc logit adjustment"),
        ("--lambdas", (0.5, 1.0, 2.0, 4.0), "FRACAL's lambda, with and without class frequencies"),
    ):
        parser.add_argument(
            flag, type=numbers, default=default, metavar="X,Y", help=f"{what}, default {default}"
        )
    parser.add_argument(
        "--fit-groups", action="store_true",
        help="also try, by the best IIF factor, every combination of 0 and the strengths for rare, "
        "common and frequent classes",
    )  # fmt: skip


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


def run(args: argparse.Namespace) -> str:
    """Score all settings; the table, where its files lie, and how to fold the best in.

    One pass over the images scores them all, so that a launcher has one job.
    """
    from ..engine.jobs import Jobs

    if not args.launcher:
        return sweep(args)
    folder = os.path.join(args.output, "jobs")
    with Jobs(args.launcher, folder, args.launcher_options) as jobs:
        return jobs.run(_with_imports, args)


def _with_imports(args: argparse.Namespace) -> str:
    """In a job, where the user's modules are to be imported anew."""
    import_modules(args.imports)
    return sweep(args)


def sweep(args: argparse.Namespace) -> str:
    """Sweep in this process, and write the table and the plot.

    Args:
        args: of `add_arguments`.

    Returns:
        The table in Markdown, and where the files lie.
    """
    from detectron2.data import build_detection_test_loader

    from ..checkpoint import check_class_names, load_trained_model
    from ..config import load_config
    from ..data import LongTailDatasetMapper, config_frequency, with_dimension
    from ..evaluation import dataset_ground_truth
    from ..evaluation.metrics import class_groups, lvis_metrics
    from ..evaluation.sweep_pass import sweep_pass
    from ..evaluation.sweep_settings import built, settings
    from ..plots.sweep_plot import draw_sweep

    settings(args)  # refuses an unknown name before anything is loaded
    own = OwnData.of(args)
    cfg = load_config(args.config_file, [*own.overrides(), *args.opts])
    if "val" in own.files and not args.dataset:
        args.dataset = NAMES["val"]
    name, images, about = _images(cfg, args)
    truth = dataset_ground_truth(name)
    if not truth.has_annotations:
        raise DataError(
            f"{truth.path} has no annotations to score settings on; name an annotated set with "
            f"--dataset"
        )
    if len(truth.categories) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ConfigError(
            f"{name} has {len(truth.categories)} classes, MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{cfg.MODEL.ROI_HEADS.NUM_CLASSES}; sweep on a set of the model's classes"
        )
    model = load_trained_model(cfg)
    check_class_names(model, name)
    frequency = _frequency(cfg, model)
    groups = class_groups(truth, frequency)
    wanted = _settings(args, cfg, model)
    if any("FRACAL" in setting.method for setting in wanted):
        frequency = with_dimension(frequency, config_frequency(cfg))
    tried, methods = built(wanted, frequency)

    def metrics(methods: list, mask_threshold: float | None = None) -> list[dict[str, float]]:
        loader = build_detection_test_loader(
            images, mapper=LongTailDatasetMapper(cfg, False), num_workers=cfg.DATALOADER.NUM_WORKERS
        )
        precisions = sweep_pass(model, loader, truth, methods, mask_threshold)
        return [lvis_metrics(precision, groups) for precision in precisions]

    boxes = metrics(methods)
    more, more_methods = built(_further(args, tried, boxes, frequency), frequency)
    if more:
        tried, methods, boxes = tried + more, methods + more_methods, boxes + metrics(more_methods)
    order = sorted(range(len(tried)), key=lambda i: -_number(boxes[i]["AP"]))
    few = order[: args.masks] if cfg.MODEL.MASK_ON and truth.has_masks else []
    masks: dict[int, dict[str, float]] = {}
    if few:
        found = metrics([methods[i] for i in few], cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST)
        masks = dict(zip(few, found))
    best = max(few, key=lambda i: _number(masks[i]["AP"])) if few else order[0]
    rows = [{"setting": tried[i], "bbox": boxes[i], "segm": masks.get(i, {})} for i in order]
    table, plot = (os.path.join(args.output, f"sweep.{kind}") for kind in ("csv", "png"))
    write_atomically(table, _csv(rows))
    draw_sweep(plot, tried, boxes, tried[best])
    return "\n".join(
        [
            f"{len(tried)} settings on {about}",
            "",
            _markdown(rows, tried[best]),
            "",
            f"best: {tried[best].label} ({RULE})",
            f"{table}: the table",
            f"{plot}: the curves",
            *_use(args, tried[best], methods[best]),
        ]
    )


def _settings(args: argparse.Namespace, cfg: CfgNode, model: nn.Module) -> list[Setting]:
    """What can be tried over this model's logits."""
    from ..evaluation.sweep_pass import predictors
    from ..evaluation.sweep_settings import Base, over_base, settings
    from ..methods import method_options

    trained = predictors(model)[0].method
    wanted = settings(args, trained.sigmoid_scores)
    if not trained.reads.factor:
        return wanted
    name, options = cfg.MODEL.LONG_TAIL.METHOD, method_options(cfg)
    if name == "Calibrated":  # another rule in the place of its own
        name, options = options["base"], options["base_options"]
    return over_base(wanted, Base(name, options, trained=True))


def _further(
    args: argparse.Namespace,
    tried: list[Setting],
    boxes: list[dict[str, float]],
    frequency: ClassFrequency,
) -> list[Setting]:
    """What stands on the best IIF setting of those tried; in a second pass, since it decides."""
    from ..evaluation.sweep_settings import over_best

    scored = [(s, _number(b["AP"])) for s, b in zip(tried, boxes) if s.method == "IIF"]
    if not scored:
        return []
    best, _ = max(scored, key=lambda pair: pair[1])
    return over_best(args, best, any(s.method == "FRACAL" for s in tried), frequency)


def _images(cfg: CfgNode, args: argparse.Namespace) -> tuple[str, list[dict[str, Any]], str]:
    """The data set's name, the images to score and words that say which they are."""
    from detectron2.data import DatasetCatalog

    from ..data import require_registered

    if not args.dataset and not cfg.DATASETS.TRAIN:
        raise ConfigError("no data to sweep on: give --dataset, or set DATASETS.TRAIN")
    name = args.dataset or cfg.DATASETS.TRAIN[0]
    require_registered(name)
    images = DatasetCatalog.get(name)
    about = f"all {len(images)} images of {name}"
    most = args.images_per_class or (None if args.dataset else _PER_CLASS)
    if most is not None:
        images = class_slice(images, most)
        about = f"{len(images)} images of {name}, {most} of each class or all it has"
    if name in cfg.DATASETS.TEST:
        logger.warning(
            "%s is in DATASETS.TEST: a setting chosen on it makes the numbers reported on it too "
            "good; choose on other data",
            name,
        )
    elif name in cfg.DATASETS.TRAIN:
        logger.warning(
            "unless these images of %s were kept out of its training, the model has seen them, and "
            "finds rare classes there better than elsewhere; --dataset names a set it has not seen",
            name,
        )
    return name, images, about


def class_slice(images: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """`most` images of each class or all it has, always the same ones, in their order.

    From the rarest class to the most frequent, images are added in the order of a checksum of
    their ids until the class is in `most` of them.
    """
    # Once through: the images may be made when they are asked for.
    checksums, labels = [], []
    for image in images:
        checksums.append(zlib.crc32(str(image["image_id"]).encode()))
        labels.append({annotation["category_id"] for annotation in image["annotations"]})
    having: dict[int, list[int]] = {}
    for i in sorted(range(len(labels)), key=lambda i: (checksums[i], i)):
        for label in labels[i]:
            having.setdefault(label, []).append(i)
    chosen: set[int] = set()
    for label in sorted(having, key=lambda label: (len(having[label]), label)):
        missing = most - len(chosen.intersection(having[label]))
        chosen.update([i for i in having[label] if i not in chosen][: max(missing, 0)])
    return [images[i] for i in sorted(chosen)]


def _frequency(cfg: CfgNode, model: nn.Module) -> ClassFrequency:
    """The counts that the model's checkpoint brought, else the config's."""
    from ..checkpoint import trained_frequency
    from ..data import config_frequency
    from ..evaluation.sweep_pass import predictors

    predictors(model)  # refuses a model that cannot be swept
    return trained_frequency(cfg, model) or config_frequency(cfg).resolve()  # which says why not


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _csv(rows: list[dict]) -> str:
    names = [f"{task}_{column}" for task in ("bbox", "segm") for column in COLUMNS]
    lines: list[list] = [["setting", "method", "strength", *names, "overrides"]]
    for row in rows:
        setting = row["setting"]
        values = [row[task].get(column) for task in ("bbox", "segm") for column in COLUMNS]
        lines.append(
            [setting.label, setting.method, setting.strength_text]
            + ["" if value is None else f"{value:.6f}" for value in values]
            + [shlex.join(setting.overrides())]
        )
    return csv_text(lines)


def _markdown(rows: list[dict], best: Setting) -> str:
    """All but the settings by group, of which the best alone is shown: there may be hundreds."""
    by_group = [row for row in rows if row["setting"].by_group]
    shown = [row for row in rows if row not in by_group[1:] or row["setting"] is best]
    head = ["setting", *(f"box {c}" for c in COLUMNS), *(f"mask {c}" for c in COLUMNS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in shown:
        values = [row[task].get(c, math.nan) for task in ("bbox", "segm") for c in COLUMNS]
        cells = ["-" if math.isnan(value) else f"{value:.2f}" for value in values]
        label = f"**{row['setting'].label}**" if row["setting"] is best else row["setting"].label
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _use(args: argparse.Namespace, best: Setting, method: LongTailMethod) -> list[str]:
    """How to fold the best in, or to apply it where it cannot be folded."""
    if method.not_affine:
        return [
            f"to apply it (it cannot be folded: {method.not_affine}):",
            shlex.join(best.overrides()),
        ]
    output = os.path.join(args.output, "folded.pth")
    command = ["iif-d2", "fold", "--config-file", args.config_file]
    return [
        "to fold it in:",
        shlex.join([*command, "--output", output, *args.opts, *best.overrides()]),
    ]
