"""The arguments that many commands have, and how a command line is read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from ..groups import GROUP_LIMITS

# Where a config key starts: Detectron2's sections and this package's, and the keys outside of one.
SECTIONS = (
    "MODEL", "MODEL_EMA", "DATASETS", "DATALOADER", "INPUT", "SOLVER", "TEST", "LOG", "GLOBAL",
)  # fmt: skip
KEYS = ("OUTPUT_DIR", "SEED", "VERSION", "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "VIS_PERIOD")
_KEY = re.compile(rf"({'|'.join(SECTIONS)})(\.[A-Z]\w*)+|{'|'.join(KEYS)}")


def closed_by(example: str) -> dict[str, Any]:
    """What a parser is made with, so that its help ends in an example."""
    return {
        "epilog": f"example:\n  {example}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def add_old_spelling(parser: argparse.ArgumentParser, old: str, **kwargs: Any) -> None:
    """An option of an earlier version, or a place on the line: it works, and no help shows it."""
    parser.add_argument(old, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **kwargs)


def add_model_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--config-file`, and KEY VALUE overrides."""
    parser.add_argument(
        "--config-file", default="", required=required, help="the config it was trained with"
    )
    add_overrides(parser, "MODEL.WEIGHTS FILE and other KEY VALUE overrides of the config")


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config-file`, and KEY VALUE overrides, beside weights that mostly carry their config."""
    parser.add_argument(
        "--config-file", default="",
        help="a yaml config, where the checkpoint carries none; KEY VALUE overrides may stand "
        "anywhere",
    )  # fmt: skip
    parser.set_defaults(opts=[])


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """`--verbose`, of commands that start runs."""
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print what the runs log, too, without bars"
    )


def add_overrides(parser: argparse.ArgumentParser, help: str) -> None:
    """KEY VALUE pairs, anywhere on the command line, kept in `opts`."""
    parser.add_argument("opts", nargs="*", default=[], metavar="KEY VALUE", help=help)


def add_images(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--images`, beside annotations in any format."""
    parser.add_argument(
        "--images", metavar="DIR",
        help="the folder that image paths start from; YOLO and Pascal VOC say it themselves",
    )  # fmt: skip


def add_group_limits(parser: argparse.ArgumentParser) -> None:
    """`--group-limits`, checked by `check_group_limits`."""
    parser.add_argument(
        "--group-limits", nargs=2, type=int, default=GROUP_LIMITS, metavar=("RARE", "COMMON"),
        help="as MODEL.LONG_TAIL.GROUP_LIMITS: images of a rare and of a common class at most, "
        f"where the source does not state groups; default {GROUP_LIMITS}",
    )  # fmt: skip


def add_confidence(
    parser: argparse.ArgumentParser, default: float = 0.5, what: str = "minimum score"
) -> None:
    """`--confidence`, the least score of a detection."""
    parser.add_argument(
        "--confidence", type=float, default=default, help=f"{what}; default {default}"
    )


def add_launcher_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """`--launcher` and `--launcher-options`; `what` is run as a job."""
    parser.add_argument(
        "--launcher", default="", choices=["slurm", "local"],
        help=f"{what} as a job of submitit: pip install 'iif_d2[slurm]'",
    )  # fmt: skip
    parser.add_argument(
        "--launcher-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="of submitit, such as gpus_per_node=1 slurm_partition=long timeout_min=600 (default a "
        "day on Slurm)",
    )  # fmt: skip


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line whose options and KEY VALUE pairs may come in any order.

    A config key and the word after it are a pair wherever they stand, also after an option that
    takes many words; so a value may begin with a dash. What follows `--` are pairs, too.
    """
    if parser.get_default("subcommands"):  # whose options are their own, and stand behind
        return parser.parse_args(words)
    if parser.get_default("opts") is None:  # a command without overrides
        return parser.parse_intermixed_args(words)
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    rest, pairs = [], []
    place = 0
    while place < end:
        width = 2 if _KEY.fullmatch(words[place]) else 1
        (pairs if width == 2 else rest).extend(words[place : min(place + width, end)])
        place += width
    args = parser.parse_intermixed_args(rest)
    args.opts = [*args.opts, *pairs, *words[end + 1 :]]
    return args
