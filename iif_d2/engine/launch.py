"""Starting one process or many, by Detectron2's launcher or torchrun; errors as sentences."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm

from ..errors import in_words
from ..process_group import end_process_group

logger = logging.getLogger(__name__)

EXIT_BAD_INPUT = 2


def launch(main: Callable[[Namespace], Any], args: Namespace) -> None:
    """Run `main(args)` in as many processes as the command line, or torchrun, asks for.

    Without a GPU the processes talk over gloo, and --num-gpus counts processes. An `IIFError` ends
    the run with its message and exit code 2.
    """
    if "LOCAL_RANK" in os.environ and "MASTER_ADDR" in os.environ:
        _run_under_torchrun(main, args)
        return
    if args.num_gpus * args.num_machines > 1:  # Detectron2 starts processes of their own
        signal.signal(signal.SIGTERM, pass_on)
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
    try:
        main(args)
        code = 0
    except SystemExit as exit:
        code = exit.code
    except Exception as error:
        message = in_words(error)
        if message is None:
            raise
        logger.error("%s", error)  # into log.txt
        print(f"error: {message}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    end_process_group()
    if code:
        sys.exit(code)


def pass_on(number: int, frame: Any) -> None:
    """SIGTERM is for the processes that train; they save, and this one ends with them."""
    for process in multiprocessing.active_children():
        os.kill(process.pid, number)


def _share_cores() -> None:
    """Processes on one machine would otherwise each start a thread for every core."""
    local_size = comm.get_local_size()
    if local_size > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size))
