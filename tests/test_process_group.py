"""A process that ends its process group has none of gloo's threads left."""

import os

import torch
import torch.distributed as dist
from detectron2.utils import comm

from iif_d2.process_group import end_process_group


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    before = threads()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    layer = torch.nn.Linear(2, 1)
    model = torch.nn.parallel.DistributedDataParallel(layer)
    model.itself = [model]  # only the garbage collector takes it away
    model(torch.ones(1, 2)).sum().backward()
    assert comm.all_gather(rank) == [0, 1]
    assert threads() > before
    del model
    end_process_group()
    assert not dist.is_initialized() and threads() == before


def test_its_threads_end(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)


def test_without_a_group_nothing_happens():
    end_process_group()
