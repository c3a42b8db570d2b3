"""From a command line to a frozen config and a log."""

from __future__ import annotations

from argparse import Namespace

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..config import config_path, load_config
from .lazy import load_lazy_config


def setup(args: Namespace) -> CfgNode | DictConfig:
    """The config that --config-file and the overrides say, with logging and the seed set up.

    A `.py` file gives a `DictConfig`.

    Raises:
        ConfigError: see `load_config` and `load_lazy_config`.
    """
    lazy = args.config_file.endswith(".py")
    cfg = (load_lazy_config if lazy else load_config)(args.config_file, args.opts)
    if args.config_file:
        args.config_file = config_path(args.config_file)  # which Detectron2 reads again
    default_setup(cfg, args)
    output_dir = cfg.train.output_dir if lazy else cfg.OUTPUT_DIR
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="iif_d2", abbrev_name="iif")
    return cfg
