"""One process of a run: from the command line to a config and a log, then train or evaluate."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..checkpoint import load_trained_model
from ..config import config_path, load_config
from ..data import class_count
from ..errors import ConfigError, IIFError
from ..files import check_writable, hold_folder, restored_on_error
from ..user_modules import import_modules
from .checks import check_test_sets
from .lazy import lazy_evaluation, load_lazy_config, load_lazy_model
from .parts import evaluations
from .terminal import keep_tracebacks_off_terminal
from .trainer import LongTailTrainer


def main(args: Namespace) -> dict | None:
    """What `train_net.py` does in each process; the results of the last evaluation."""
    import_modules(getattr(args, "imports", ()))  # a parser of the user's may lack --import
    with setup(args) as cfg:
        if args.eval_only and isinstance(cfg, DictConfig):
            model = load_lazy_model(cfg, args.resume)
            return lazy_evaluation(cfg, model.class_names)(model)
        if args.eval_only:
            model = load_trained_model(cfg, args.resume)
            train, tests = cfg.DATASETS.TRAIN, cfg.DATASETS.TEST
            check_test_sets(tests, *class_count(cfg), train, model.class_names)
            _, evaluate_last = evaluations(cfg, model, LongTailTrainer)
            return evaluate_last(model)
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(args.resume)
    return trainer.train()


@contextmanager
def setup(args: Namespace) -> Iterator[CfgNode | DictConfig]:
    """The config that --config-file and the overrides say, with logging and the seed set up.

    A `.py` file gives a `DictConfig`. Training holds OUTPUT_DIR; --eval-only may run beside it.
    OUTPUT_DIR's config.yaml is this run's from now on, unless the block raises: then an earlier
    run's is put back.

    Raises:
        ConfigError: see `load_config` and `load_lazy_config`; or another run trains in OUTPUT_DIR.
        DataError: OUTPUT_DIR cannot be written.
    """
    _check_order(args.opts)
    lazy = args.config_file.endswith(".py")
    cfg = (load_lazy_config if lazy else load_config)(args.config_file, args.opts)
    output_dir = cfg.train.output_dir if lazy else cfg.OUTPUT_DIR
    _take(output_dir, check_writable if args.eval_only else hold_folder)
    if args.config_file:  # which Detectron2 copies into the log, also one of the package's own
        args.config_file = config_path(args.config_file)
    written = os.path.join(output_dir, "config.yaml")
    with restored_on_error(written) if comm.is_main_process() else nullcontext():
        default_setup(cfg, args)
        rank = comm.get_rank()
        setup_logger(output_dir, distributed_rank=rank, name="iif_d2", abbrev_name="iif")
        keep_tracebacks_off_terminal()
        yield cfg


def _check_order(overrides: Sequence[str]) -> None:
    """An option behind KEY VALUE would be taken for a key."""
    behind = [word for word in overrides if word.startswith("--")]
    if behind:
        raise ConfigError(
            f"{' '.join(behind)} stands behind KEY VALUE overrides and would be taken for one; "
            f"options go first: train_net.py --config-file FILE {behind[0]} KEY VALUE"
        )


def _take(output_dir: str, take: Callable[[str], None]) -> None:
    """OUTPUT_DIR for this run, by the main process; where it cannot be had, every rank raises."""
    error = None
    if comm.is_main_process():
        try:
            take(output_dir)
        except IIFError as refused:
            error = refused
    error = comm.all_gather(error)[0]
    if error is not None:
        raise error
