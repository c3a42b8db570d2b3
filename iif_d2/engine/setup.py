"""From a command line to a frozen config and a log."""

from __future__ import annotations

from argparse import Namespace

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config import load_config


def setup(args: Namespace) -> CfgNode:
    """The config that --config-file and the overrides say, with logging and the seed set up.

    Raises:
        ConfigError: see `load_config`.
    """
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="iif_d2", abbrev_name="iif")
    return cfg
