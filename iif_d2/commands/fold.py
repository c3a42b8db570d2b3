"""`iif-d2 fold`: a trained model for plain Detectron2, without this package."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ..errors import ConfigError
from ..files import write_atomically
from .arguments import add_model_arguments

EXAMPLE = """iif-d2 fold --config-file output/mine/config.yaml --output folded.pth \\
    MODEL.WEIGHTS output/mine/model_final.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="the .pth; a .yaml is written beside it"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> str:
    return fold(args.config_file, args.output, args.opts)


def fold(config_file: str, output: str, opts: Sequence[str] = ()) -> str:
    """Write the folded checkpoint and its config; says where, and which keys matter.

    Args:
        config_file: the config it was trained with.
        output: the .pth to write; the config is written beside it.
        opts: KEY VALUE overrides, among them MODEL.WEIGHTS.

    Raises:
        ConfigError: no weights are named, or the config would be overwritten.
        CheckpointError: see `fold_checkpoint`.

    Examples:
        >>> opts = ["MODEL.WEIGHTS", "output/iif/model_final.pth"]
        >>> print(fold("output/iif/config.yaml", "folded.pth", opts))
        folded.pth: output/iif/model_final.pth with IIF folded in
        ...
    """
    from ..checkpoint import fold_checkpoint, plain_config
    from ..config import config_path, load_config

    cfg = load_config(config_file, opts)
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("no trained weights: set MODEL.WEIGHTS")
    yaml = os.path.splitext(output)[0] + ".yaml"
    if os.path.exists(yaml) and os.path.samefile(yaml, config_path(config_file)):
        raise ConfigError(f"{yaml} is the config to read; give --output another name")
    checkpoint = fold_checkpoint(cfg.MODEL.WEIGHTS, output, cfg)
    write_atomically(yaml, plain_config(cfg, checkpoint, output).dump())
    folded = checkpoint["folded"]
    return "\n".join(
        [
            f"{output}: {cfg.MODEL.WEIGHTS} with {folded['method']} folded in",
            f"{yaml}: the config that plain Detectron2 loads it with; what it must have:",
            *(f"  {key} {value}" for key, value in folded["config"].items()),
            f"next: load it in your Detectron2 project with {yaml}",
        ]
    )
