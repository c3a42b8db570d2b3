"""`iif-d2 train`: what train_net.py does, from anywhere."""

from __future__ import annotations

import argparse
import os

from ..errors import ConfigError
from .arguments import add_overrides
from .own_data import OwnData, add_data_arguments, run_with

EXAMPLE = "iif-d2 train --train train.json --val val.json --images images --output output/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's command line, by the same names; `default_argument_parser` imports torch."""
    parser.add_argument("--config-file", default="", help="a yaml, or a LazyConfig's .py")
    parser.add_argument(
        "--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint"
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="of each machine; default 1")
    parser.add_argument("--num-machines", type=int, default=1, help="default 1")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0")
    parser.add_argument(
        "--dist-url", default="auto", help="where machines meet, such as tcp://HOST:PORT"
    )
    add_data_arguments(parser)
    parser.add_argument("--output", metavar="DIR", help="OUTPUT_DIR of the config")
    add_overrides(parser, "KEY VALUE overrides of the config; KEY=VALUE for a .py")


def run(args: argparse.Namespace, eval_only: bool = False) -> str | None:
    """Train in as many processes as asked for; says where the model is and what to do with it.

    Raises:
        ConfigError: the data of the command line do not go with the config.
    """
    from functools import partial

    from ..config import load_config
    from ..engine import launch, main

    args.eval_only = eval_only
    own = OwnData.of(args)
    if own.files and args.config_file.endswith(".py"):
        raise ConfigError("--train and --val go with a yaml config; a .py names its own data")
    words = own.overrides()
    if not eval_only:
        args.config_file, more = own.recipe(args.config_file)
        words += more
    if args.output:
        words += ["OUTPUT_DIR", args.output]
    args.opts = [*words, *args.opts]
    if own.files and not eval_only and not args.machine_rank:
        own.keep(load_config(args.config_file, args.opts).OUTPUT_DIR)
    launch(partial(run_with, own, main), args)
    if args.config_file.endswith(".py") or args.machine_rank:
        return None
    return _written(load_config(args.config_file, args.opts).OUTPUT_DIR, eval_only)


def _written(folder: str, eval_only: bool) -> str | None:
    """What lies in a run's folder, and what it is good for."""
    results = os.path.join(folder, "inference", "results.json")
    model = os.path.join(folder, "model_final.pth")
    said = [f"{results}: the results"] if os.path.isfile(results) else []
    if not eval_only and os.path.isfile(model):
        said.insert(0, f"{model}: the model")
        then = [f"iif-d2 predict PICTURE --weights {model} --output drawn"]
    else:
        then = []
    then += [f"iif-d2 summary {folder}"] if os.path.isfile(results) else []
    return "\n".join([*said, f"next: {'; '.join(then)}"]) if then else None
