"""Processes of one machine load data once; what they see is equal."""

import glob
import os
import pickle
import tempfile
import threading

import pytest
import torch
import torch.distributed as dist
from detectron2.data import get_detection_dataset_dicts

from iif_d2 import register_long_tail_instances
from iif_d2.data import TrainingBatches, dicts_kept, shared_dicts, sharing
from iif_d2.errors import DataError
from iif_d2.process_group import end_process_group


def left_over() -> set[str]:
    return {path for folder in ("/dev/shm", tempfile.gettempdir())
            for path in glob.glob(f"{folder}/iif_d2-*") if os.path.isfile(path)}  # fmt: skip


MODES = {
    "shared": ((1, 0), ("DatasetDicts", "DatasetDicts")),
    "hidden": ((1, 1), ("DatasetDicts", "list")),
    "another file": ((1, 1), ("DatasetDicts", "list")),
    "no such files": ((1, 1), ("DatasetDicts", "list")),
    "fails": ((1, 0), ("error", "error")),
}


def work(rank: int, folder: str, paths: tuple[str, str]) -> None:
    """Load in one of two processes, and write down what came and how often data were loaded."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    register_long_tail_instances("shared_lvis", *paths)
    found = {mode: loaded(rank, mode) for mode in MODES}
    with open(os.path.join(folder, str(rank)), "wb") as file:
        pickle.dump(found, file)
    end_process_group()


def loaded(rank: int, mode: str) -> tuple:
    loads = []

    def load():
        loads.append(1)
        if mode == "fails":
            raise DataError("annotations[3] is bad")
        return get_detection_dataset_dicts("shared_lvis", filter_empty=False)

    with pytest.MonkeyPatch.context() as patch:
        if mode == "hidden" and rank == 1:
            patch.setattr(sharing, "mapped", lambda *place: None)
        if mode == "another file":
            place_of = sharing.place_of
            patch.setattr(sharing, "place_of", lambda file: file and (place_of(file)[0], 7))
        if mode == "no such files":
            patch.delattr(os, "memfd_create")
        try:
            seen = sharing.load_once(load)
        except DataError as error:
            return "error", str(error), len(loads)
    return type(seen).__name__, list(seen), len(loads)


def test_one_of_two_processes_loads(dataset, tmp_path):
    before = left_over()
    paths = tuple(map(str, dataset))
    torch.multiprocessing.spawn(work, (str(tmp_path), paths), nprocs=2)
    ranks = [pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in range(2)]
    register_long_tail_instances("shared_lvis", *paths)
    expected = get_detection_dataset_dicts("shared_lvis", filter_empty=False)
    for mode, (loads, kinds) in MODES.items():
        found = [rank[mode] for rank in ranks]
        assert tuple(result[2] for result in found) == loads, mode
        assert tuple(result[0] for result in found) == kinds, mode
        content = "annotations[3] is bad" if mode == "fails" else expected
        assert found[0][1] == found[1][1] == content
    assert left_over() <= before


def test_training_batches_of_shared_data_are_those_of_a_list(tiny_cfg, monkeypatch):
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"
    )
    plain = TrainingBatches.from_config(cfg, lambda record: record)
    with sharing.laid_out(sharing.training_dicts(cfg)) as file:
        shared = sharing.mapped(*sharing.place_of(file))
    monkeypatch.setattr("iif_d2.data.sampling.training_dicts", lambda cfg: shared)
    other = TrainingBatches.from_config(cfg, lambda record: record)
    for _, one, two in zip(range(10), plain, other):
        assert one == two


def test_an_epochs_schedule_and_its_loader_load_once(tiny_cfg, monkeypatch):
    from iif_d2.engine.trainer import LongTailTrainer

    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "SOLVER.EPOCHS", "2", "DATASETS.TEST", "()")
    calls = []
    load = sharing.detection_dicts
    monkeypatch.setattr(
        sharing, "detection_dicts", lambda *a, **k: calls.append(1) or load(*a, **k)
    )
    trainer = LongTailTrainer(cfg)
    assert len(calls) == 1 and trainer.max_iter > 2
    sharing.training_dicts(cfg)
    sharing.training_dicts(cfg)
    assert len(calls) == 3  # nothing is kept for later
    with dicts_kept():
        assert sharing.training_dicts(cfg) is sharing.training_dicts(cfg)


def test_what_is_kept_is_gone_when_two_threads_have_left_in_turns(dataset_name):
    inside, go_on = threading.Event(), threading.Event()

    def other():
        with dicts_kept():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    with dicts_kept():
        thread.start()
        assert inside.wait(10)
    go_on.set()
    thread.join()
    assert shared_dicts(dataset_name) is not shared_dicts(dataset_name)
