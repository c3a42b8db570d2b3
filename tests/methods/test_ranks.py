"""State is summed over ranks: two processes with half a batch each end where one with all ends."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from iif_d2.methods import METHOD_REGISTRY, build_method
from iif_d2.process_group import end_process_group

from .helpers import random_batch, random_frequency

GATHERING = sorted(name for name, method in METHOD_REGISTRY if method.has_state)
GATHERED = [
    (name, background)
    for name in GATHERING
    for background in (True, False)
    if background or METHOD_REGISTRY.get(name).supports_no_background
]
SPLITS = [[4, 8], [12, 0], [0, 12], [7, 5], [0, 0]]  # rows of each rank in each step


def gather(name, background, rank=None):
    """The state after some steps: of a rank, which sees its rows, or of one process with all."""
    method = build_method(name, random_frequency(5), background)
    for step, split in enumerate(SPLITS):
        logits, labels = random_batch(method, rows=12, seed=step)
        logits, labels = logits[: sum(split)], labels[: sum(split)]
        if rank is not None:
            logits, labels = logits.split(split)[rank], labels.split(split)[rank]
        if hasattr(method, "observe"):
            method.observe(logits)
        method.loss(logits, labels)
    return method.state_dict()


def work(rank, init_file, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    states = {(n, b): gather(n, b, rank) for n, b in GATHERED}
    torch.save(states, f"{out}/{rank}.pt")
    end_process_group()


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(out / "init"), str(out)), nprocs=2)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def test_the_methods_with_state_are_these():
    assert set(GATHERING) >= {"EQLv2", "Seesaw", "LogN", "FCBL", "EBL", "PCB"}


@pytest.mark.parametrize(("name", "background"), GATHERED)
def test_two_ranks_gather_what_one_process_would(states, name, background):
    alone = gather(name, background)
    first, second = states[0][name, background], states[1][name, background]
    assert alone.keys() == first.keys() and len(alone) > 0
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-12, atol=1e-12)
        assert value.any(), key
