"""Starting one process or many, by Detectron2's launcher or torchrun; errors as sentences."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import default_argument_parser
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm

from ..errors import EXIT_BAD_INPUT, in_words
from ..process_group import end_process_group
from .interrupt import end_interrupted, interruptible, leave_others
from .terminal import LOG_ONLY

logger = logging.getLogger(__name__)

_MAIN_FIRST = 10  # seconds in which the main process, if it says something, ends all
_NEXT = 2  # and so does any other of this machine, before the next one speaks


def launch(main: Callable[[Namespace], Any], args: Namespace) -> None:
    """Run `main(args)` in as many processes as the command line, or torchrun, asks for.

    Without a GPU the processes talk over gloo, and --num-gpus counts processes. An `IIFError` ends
    the run with its message and exit code 2, Ctrl-C with a line and 130. Without a config and
    overrides there is nothing to do: the usage is shown.
    """
    if not (args.config_file or args.opts):
        default_argument_parser().print_usage(sys.stderr)
        print("error: name a config with --config-file; --help explains all", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    if "LOCAL_RANK" in os.environ and "MASTER_ADDR" in os.environ:
        _run_under_torchrun(main, args)
        return
    several = args.num_gpus * args.num_machines > 1
    if several:  # Detectron2 starts processes of their own
        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGINT, pass_on)
    try:
        detectron2_launch(
            _run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )
    except mp.ProcessExitedException as error:
        # The process has said what was wrong; the parent's traceback would bury it.
        sys.exit(error.exit_code if error.exit_code and error.exit_code > 0 else 1)


def _run_under_torchrun(main: Callable[[Namespace], Any], args: Namespace) -> None:
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    comm.create_local_process_group(local_size)
    _run(main, args)


def _run(main: Callable[[Namespace], Any], args: Namespace) -> None:
    _share_cores()
    with interruptible() as interruption:
        try:
            main(args)
            code = 0
        except SystemExit as exit:
            code = exit.code
        except KeyboardInterrupt as stop:
            end_interrupted(str(stop) or "there is no result of this run")
        except Exception as error:
            if interruption.came:  # another rank has gone already
                end_interrupted("there is no result of this run")
            message = in_words(error)
            if message is None:
                raise
            if logger.hasHandlers():  # else there is no log.txt, and Python's last resort speaks
                logger.error("%s", error, extra=LOG_ONLY)
            _say(message)
            if comm.get_world_size() > 1:
                leave_others(EXIT_BAD_INPUT)
            code = EXIT_BAD_INPUT
    end_process_group()
    if code:
        sys.exit(code)


def _say(message: str) -> None:
    """On the terminal, once: the ranks that have the same to say are ended while they wait."""
    if not comm.is_main_process():
        time.sleep(_MAIN_FIRST + _NEXT * comm.get_local_rank())
    print(f"error: {message}", file=sys.stderr)


def pass_on(number: int, frame: Any) -> None:
    """Signals are for the processes that train; they save, and this one ends with them."""
    for process in multiprocessing.active_children():
        os.kill(process.pid, number)


def _share_cores() -> None:
    """Processes on one machine would otherwise each start a thread for every core."""
    local_size = comm.get_local_size()
    if local_size > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size))
