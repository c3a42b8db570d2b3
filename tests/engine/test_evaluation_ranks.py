"""Several ranks evaluate one model: rank 0's, the one that is saved."""

import torch
import torch.distributed as dist
from torch import nn

from iif_d2.engine.evaluate import share_statistics
from iif_d2.process_group import end_process_group


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    model(torch.randn(4, 1, 3, 3))
    own = model[1].running_mean.clone()
    share_statistics(model)
    torch.save({"own": own, "shared": model.state_dict()}, f"{folder}/{rank}.pt")
    end_process_group()


def test_statistics_of_batch_norm_are_rank_0s(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert not torch.equal(first["own"], second["own"])
    assert torch.equal(first["own"], second["shared"]["1.running_mean"])
    # Weights are DistributedDataParallel's to keep equal.
    assert not torch.equal(first["shared"]["0.weight"], second["shared"]["0.weight"])
