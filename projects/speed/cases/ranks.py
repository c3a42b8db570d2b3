"""Dataset dicts of several ranks on one machine: how much memory they take together."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time

from measure import HERE, MIB, Row
from simulate import write_annotations

SIZE = (31_754, 2_504)  # a fortieth of LVIS v1 train


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "annotations.json")
        write_annotations(path, *SIZE)
        for ranks in (1, 4):
            ours, theirs = (together(side, path, ranks) for side in ("ours", "theirs"))
            yield Row(
                "dataset dicts of ranks",
                f"{ranks} process{'es' * (ranks > 1)}, a fortieth of LVIS v1 train",
                reference="Detectron2",
                ours=[ours["seconds"]],
                theirs=[theirs["seconds"]],
                ours_memory=ours["memory"],
                theirs_memory=theirs["memory"],
                identical=ours["digests"] == theirs["digests"],
                note="memory is the sum of what the processes add, shared pages counted once",
            )


def together(side: str, path: str, ranks: int) -> dict:
    """Seconds of the slowest rank, MiB of all together, and what each one's dicts are."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (side, path, ranks, folder), nprocs=ranks)
        found = []
        for rank in range(ranks):
            with open(os.path.join(folder, str(rank))) as file:
                found.append(json.load(file))
    return {
        "seconds": max(one["seconds"] for one in found),
        "memory": sum(one["memory"] for one in found),
        "digests": {one["digest"] for one in found},
    }


def _rank(rank: int, side: str, path: str, ranks: int, folder: str) -> None:
    if HERE not in sys.path:
        sys.path.insert(0, HERE)
    import torch.distributed as dist
    from detectron2.data import DatasetFromList
    from detectron2.data.datasets import load_lvis_json

    from cases.loading import digest
    from iif_d2.data import load_instances, load_once
    from iif_d2.process_group import end_process_group

    logging.disable()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks
    )
    dist.barrier()
    before, start = _proportional(), time.perf_counter()
    if side == "ours":
        dicts = load_once(lambda: load_instances(path, "/images/"))
    else:
        # What its loader makes of the list; the list goes.
        dicts = DatasetFromList(load_lvis_json(path, "/images/"), copy=False)
    seconds = time.perf_counter() - start
    found = digest(dicts[index] for index in range(len(dicts)))  # which touches all pages
    dist.barrier()
    memory = (_proportional() - before) / MIB
    dist.barrier()
    with open(os.path.join(folder, str(rank)), "w") as file:
        json.dump({"seconds": seconds, "memory": memory, "digest": found}, file)
    end_process_group()


def _proportional() -> int:
    """Bytes of this process, a page that n processes share counted as an nth."""
    import ctypes
    import gc

    gc.collect()
    with_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if with_trim is not None:
        with_trim(0)  # what was freed and is kept for later is no memory of the dicts
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
