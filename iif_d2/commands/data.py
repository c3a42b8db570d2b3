"""`iif-d2 data`: convert, split or check annotations in any format."""

from __future__ import annotations

import argparse
import os

from ..errors import ConfigError
from .arguments import add_group_limits, add_images, add_old_spelling, closed_by

_SOURCE = (
    "a COCO or LVIS json, a YOLO data.yaml, Pascal VOC xml, or a folder of one of them; of several "
    "splits PATH:SPLIT, such as my/data.yaml:train"
)


EXAMPLE = "iif-d2 data check train.json --val val.json --images images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(subcommands=True)
    commands = parser.add_subparsers(dest="what", required=True, metavar="convert|split|check")
    convert = commands.add_parser(
        "convert",
        help="write COCO json",
        description="Write COCO json.",
        **closed_by("iif-d2 data convert data.yaml:train --output train.json"),
    )
    convert.add_argument("source", help=_SOURCE)
    convert.add_argument("--output", metavar="FILE", help="the json; written whole or not at all")
    add_old_spelling(convert, "place", nargs="?")
    convert.set_defaults(run=_convert)

    split = commands.add_parser(
        "split",
        help="training and validation, or folds",
        description="Split into training and validation, or into folds: each class with two "
        "images or more is in both halves, where that can be.",
        **closed_by("iif-d2 data split all.json --output splits --val 0.2"),
    )
    split.add_argument("source", help=_SOURCE)
    split.add_argument("--output", required=True, metavar="DIR", help="folder of the json files")
    split.add_argument("--val", type=float, default=0.2, help="share of the images; default 0.2")
    split.add_argument("--seed", type=int, default=0, help="random seed; default 0")
    split.add_argument("--folds", type=int, help="write so many splits; each image is in one val")
    split.add_argument(
        "--group", metavar="FIELD",
        help="keep images together that have one value of this field, such as video_id, or with "
        "near-duplicates those that look nearly the same",
    )  # fmt: skip
    add_images(split)
    add_group_limits(split)
    split.set_defaults(run=_split)

    check = commands.add_parser(
        "check",
        help="what is wrong, and what to do",
        description="The long tail at a glance, and a line for each thing that is wrong. Of a "
        "registered data set: which of its files are on disk, where the others belong, and whether "
        "they are the published ones. Exits with 1 if anything is wrong.",
        **closed_by(f"{EXAMPLE}\n  iif-d2 data check lvis_v1_train lvis_v1_val"),
    )
    check.add_argument("sources", metavar="source", nargs="+", help=f"{_SOURCE}; or data sets")
    check.add_argument("--val", metavar="B", help="annotations for validation, to compare with")
    check.add_argument(
        "--near-duplicates", action="store_true",
        help="also look for pictures of both that look nearly the same",
    )  # fmt: skip
    add_images(check)
    add_group_limits(check)
    check.set_defaults(run=_check)


def run(args: argparse.Namespace) -> str | tuple[str, int]:
    return args.run(args)


def _convert(args: argparse.Namespace) -> str:
    from ..data.converting import convert_annotations, images_option

    output = args.output or getattr(args, "place", None)
    if not output:
        raise ConfigError("data convert: name the json to write with --output FILE")
    said = convert_annotations(args.source, output)
    images = images_option(args.source)
    return f"{said}\nnext: iif-d2 data check {output} --images {images}"


def _split(args: argparse.Namespace) -> str:
    from ..data.converting import images_option
    from ..data.splitting import split_annotations

    said = split_annotations(
        args.source,
        args.output,
        val=args.val,
        seed=args.seed,
        folds=args.folds,
        group=args.group,
        image_root=args.images,
        group_limits=args.group_limits,
    )
    start = os.path.join(args.output, "fold_0_" if args.folds else "")
    train, val = f"{start}train.json", f"{start}val.json"
    images = f"--images {args.images or images_option(args.source)}"
    return (
        f"{said}\nnext: iif-d2 data check {train} --val {val} {images}\n"
        f"then: iif-d2 train --train {train} --val {val} {images}"
    )


def _check(args: argparse.Namespace) -> tuple[str, int]:
    from ..data.checking import check_annotations
    from ..data.frequency import is_annotations

    paths = [source for source in args.sources if is_annotations(source)]
    if not paths:
        return _on_disk(args)
    if len(args.sources) > 1:
        raise ConfigError(f"data check: give {paths[0]} alone, and what validates it with --val")
    report = check_annotations(
        paths[0], args.val, args.images, args.near_duplicates, args.group_limits
    )
    return report.text, 1 if report.wrong else 0


def _on_disk(args: argparse.Namespace) -> tuple[str, int]:
    from ..data.on_disk import OnDisk

    reports = [OnDisk(name) for name in args.sources]
    if args.val or args.images or args.near_duplicates:
        raise ConfigError(
            "data check: --val, --images and --near-duplicates go with annotation files, not with "
            f"the name of a data set; name the file of {args.sources[0]}"
        )
    wrong = sum(report.wrong for report in reports)
    parts = ["\n".join(report.lines) for report in reports]
    parts += [f"things that are missing or wrong: {wrong}"] if wrong else []
    return "\n\n".join(parts), 1 if wrong else 0
