"""Train, resume or test long-tailed image classification from a config.

python projects/classification/train_net.py --config-file configs/X.yaml
    [--resume | --eval-only] [--num-gpus N] [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from fvcore.common.config import CfgNode

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE] if HERE not in sys.path else []
try:
    import iif_d2  # noqa: F401
except ImportError:  # a checkout that is not installed
    sys.path.append(os.path.dirname(os.path.dirname(HERE)))

from iif_classification.config import load_config  # noqa: E402
from iif_classification.engine import Ranks, launch, run, score_saved  # noqa: E402

from iif_d2.errors import EXIT_BAD_INPUT, in_words  # noqa: E402
from iif_d2.files import hold_folder, restored_on_error, write_atomically  # noqa: E402

logger = logging.getLogger("iif_classification")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, in Detectron2's words."""
    parser = argparse.ArgumentParser(
        description="Long-tailed image classification with the methods of iif_d2.",
        epilog="KEY VALUE pairs override the config; iif_classification/config.py lists every key.",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="yaml, chained by _BASE_")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR/last.pth")
    parser.add_argument(
        "--eval-only", action="store_true", help="test MODEL.WEIGHTS, with METHOD as configured"
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, metavar="N", help="processes; on the CPU without GPUs"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args(arguments)


def work(arguments: argparse.Namespace, ranks: Ranks) -> None:
    """What one rank does."""
    cfg = load_config(find_config(arguments.config_file), arguments.opts)
    log_to(cfg.OUTPUT_DIR, ranks)
    with told_by(partial(logger.error, "%s")):
        if arguments.eval_only:
            score_saved(cfg, ranks)
        else:
            train(cfg, ranks, arguments.resume)


@contextmanager
def told_by(say: Callable[[str], None]) -> Iterator[None]:
    """End the program with an error's words where it has some for the user."""
    try:
        yield
    except Exception as error:
        message = in_words(error)
        if message is None:
            raise
        say(message)
        sys.exit(EXIT_BAD_INPUT)


def train(cfg: CfgNode, ranks: Ranks, resume: bool) -> None:
    """Train alone in OUTPUT_DIR, whose config.yaml an earlier run keeps if this one cannot run."""
    written = os.path.join(cfg.OUTPUT_DIR, "config.yaml")

    def claim() -> None:
        if ranks.is_main:
            hold_folder(cfg.OUTPUT_DIR)

    ranks.main_first(claim)
    with restored_on_error(written) if ranks.is_main else nullcontext():
        if ranks.is_main:
            write_atomically(written, cfg.dump())
        run(cfg, ranks, resume)


def find_config(path: str) -> str:
    """The path as given, or else beside this file, so that configs/x.yaml works from anywhere."""
    beside = os.path.join(HERE, path)
    return beside if path and not os.path.isfile(path) and os.path.isfile(beside) else path


def log_to(folder: str, ranks: Ranks) -> None:
    """Log to the terminal and to folder/log.txt on the main rank, warnings alone on the others."""
    os.makedirs(folder, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if ranks.is_main:
        handlers.append(logging.FileHandler(os.path.join(folder, "log.txt")))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(message)s"))
    for name in ("iif_classification", "iif_d2"):
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(logging.INFO if ranks.is_main else logging.ERROR)


def main() -> None:
    arguments = parse_arguments()
    with told_by(lambda message: print(f"error: {message}", file=sys.stderr)):
        launch(partial(work, arguments), arguments.num_gpus)


if __name__ == "__main__":
    main()
