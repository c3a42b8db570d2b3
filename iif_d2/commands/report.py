"""`python -m iif_d2 report`: one html page of what one or two runs learned."""

from __future__ import annotations

import argparse

from .arguments import add_confidence, add_old_spelling

EXAMPLE = "iif-d2 report output/softmax output/iif --output report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run; one or two")
    parser.add_argument(
        "--output", default="report.html", metavar="FILE", help="default report.html"
    )
    parser.add_argument("--dataset", help="default: the first of the first run's DATASETS.TEST")
    parser.add_argument(
        "--most", dest="images", type=int, metavar="N",
        help="analyse N of its images at most, evenly spaced; default all",
    )  # fmt: skip
    add_old_spelling(parser, "--images", dest="images", type=int)
    parser.add_argument("--pictures", type=int, default=6, help="pictures to show; default 6")
    parser.add_argument("--image-ids", nargs="+", default=[], help="show these pictures instead")
    below = "detections below count neither in the pictures nor in the confusions"
    add_confidence(parser, 0.3, below)
    add_old_spelling(parser, "--confidence-threshold", dest="confidence", type=float)
    parser.add_argument(
        "--bootstrap", type=int, default=1000,
        help="samples of the intervals of what changed; 0 leaves them out; default 1000",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; default 0")
    add_old_spelling(parser, "--opts", nargs="*")
    parser.set_defaults(opts=[])  # KEY VALUE pairs, which stand anywhere


def run(args: argparse.Namespace) -> str:
    from ..report import make_report

    return make_report(
        args.runs,
        output=args.output,
        dataset=args.dataset,
        images=args.images,
        pictures=args.pictures,
        image_ids=args.image_ids,
        confidence_threshold=args.confidence,
        bootstrap=args.bootstrap,
        seed=args.seed,
        opts=args.opts,
    )
