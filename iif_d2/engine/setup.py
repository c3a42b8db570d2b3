"""From a command line to a frozen config and a log."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..config import config_path, load_config
from ..files import restored_on_error
from .lazy import load_lazy_config
from .run_lock import hold_output_dir


@contextmanager
def setup(args: Namespace) -> Iterator[CfgNode | DictConfig]:
    """The config that --config-file and the overrides say, with logging and the seed set up.

    A `.py` file gives a `DictConfig`. Training holds OUTPUT_DIR; --eval-only may run beside it.
    OUTPUT_DIR's config.yaml is this run's from now on, unless the block raises: then an earlier
    run's is put back.

    Raises:
        ConfigError: see `load_config`, `load_lazy_config` and `hold_output_dir`.
        DataError: OUTPUT_DIR cannot be written.
    """
    lazy = args.config_file.endswith(".py")
    cfg = (load_lazy_config if lazy else load_config)(args.config_file, args.opts)
    output_dir = cfg.train.output_dir if lazy else cfg.OUTPUT_DIR
    if not args.eval_only:
        hold_output_dir(output_dir)
    if args.config_file:  # which Detectron2 copies into the log, also one of the package's own
        args.config_file = config_path(args.config_file)
    written = os.path.join(output_dir, "config.yaml")
    with restored_on_error(written) if comm.is_main_process() else nullcontext():
        default_setup(cfg, args)
        rank = comm.get_rank()
        setup_logger(output_dir, distributed_rank=rank, name="iif_d2", abbrev_name="iif")
        yield cfg
