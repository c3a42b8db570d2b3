"""Checkpoints are written whole, and what does not fit is said."""

import logging
import pickle

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from iif_d2.checkpoint import LongTailCheckpointer, checkpointer
from iif_d2.errors import CheckpointError
from iif_d2.frequency import DeferredFrequency
from iif_d2.methods import build_method


class Model(torch.nn.Module):
    def __init__(self, frequency, rows=6):
        super().__init__()
        self.cls_score = torch.nn.Linear(3, rows)
        self.method = build_method("IIF", frequency)


def test_a_failed_save_keeps_the_last_checkpoint(frequency, tmp_path, monkeypatch):
    saver = LongTailCheckpointer(Model(frequency), str(tmp_path))
    saver.save("model", iteration=1)
    before = (tmp_path / "model.pth").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointer.os, "fsync", full)
    with pytest.raises(CheckpointError, match="model.pth cannot be written.*earlier checkpoints"):
        saver.save("model", iteration=2)
    assert (tmp_path / "model.pth").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model.pth"]


def test_a_plain_checkpoint_loads_without_complaint(frequency, tmp_path, caplog):
    model = Model(frequency)
    plain = {key: value for key, value in model.state_dict().items() if "method" not in key}
    torch.save({"model": plain}, tmp_path / "plain.pth")
    # A model-zoo file: numpy arrays in a pickle, with its author.
    arrays = {key: value.numpy() for key, value in plain.items()}
    with open(tmp_path / "zoo.pkl", "wb") as file:
        pickle.dump({"model": arrays, "__author__": "somebody"}, file)
    for name in ("plain.pth", "zoo.pkl"):
        fresh = Model(frequency)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            LongTailCheckpointer(fresh, str(tmp_path)).load(str(tmp_path / name))
        assert not caplog.records
        np.testing.assert_array_equal(fresh.cls_score.weight.detach(), arrays["cls_score.weight"])


def test_folded_weights_are_not_adjusted_again(frequency, tmp_path, caplog):
    torch.save(
        {"model": Model(frequency).state_dict(), "folded": {"method": "IIF", "config": {}}},
        tmp_path / "folded.pth",
    )
    loader = LongTailCheckpointer(Model(frequency), str(tmp_path))
    with caplog.at_level(logging.WARNING):
        loader.load(str(tmp_path / "folded.pth"))
    assert "has IIF folded in already" in caplog.text
    loader.strict_shapes = True
    with pytest.raises(CheckpointError, match="set MODEL.LONG_TAIL.METHOD to Softmax"):
        loader.load(str(tmp_path / "folded.pth"))


@pytest.mark.parametrize(
    "trained, used, refused",
    [
        ("Softmax", "NorCal", False),
        ("Softmax", "LogN", False),
        ("LogN", "Softmax", False),
        ("EQL", "Sigmoid", False),
        ("IIF", "IIF", False),
        ("EQL", "NorCal", True),
        ("IIF", "NorCal", True),
        ("Softmax", "IIF", True),
        ("GOL", "EQL", True),
        ("EQLv2", "Softmax", True),
    ],
)
def test_logits_of_one_kind_are_not_evaluated_as_another(
    frequency, tmp_path, trained, used, refused
):
    def model(name):
        made = Model(frequency)
        made.method = build_method(name, frequency)
        return made

    LongTailCheckpointer(model(trained), str(tmp_path)).save("model")
    loader = LongTailCheckpointer(model(used), str(tmp_path))
    if used != "LogN":  # to go on learning
        loader.load(str(tmp_path / "model.pth"))
    loader.strict_shapes = True
    if refused:
        with pytest.raises(CheckpointError, match=f"was trained with METHOD {trained}: its logits"):
            loader.load(str(tmp_path / "model.pth"))
    else:
        loader.load(str(tmp_path / "model.pth"))


def test_iifs_logits_are_for_its_own_factors(frequency, tmp_path):
    LongTailCheckpointer(Model(frequency), str(tmp_path)).save("model")
    for options in ({"variant": "base10"}, {"strength": 0.5}, {"normalizer": "images"}):
        model = Model(frequency)
        model.method = build_method("IIF", frequency, **options)
        loader = LongTailCheckpointer(model, str(tmp_path))
        loader.strict_shapes = True
        with pytest.raises(CheckpointError, match="METHOD, and its options, that it was trained"):
            loader.load(str(tmp_path / "model.pth"))


def test_stages_may_have_methods_of_their_own(frequency, tmp_path):
    model = Model(frequency)
    model.other = build_method("EQL", frequency)
    saver = LongTailCheckpointer(model, str(tmp_path))
    saver.save("model")
    saver.strict_shapes = True
    saver.load(str(tmp_path / "model.pth"))
    model.other = build_method("Softmax", frequency)
    with pytest.raises(CheckpointError, match="was trained with METHOD EQL"):
        saver.load(str(tmp_path / "model.pth"))


def test_no_checkpoint_is_none(frequency, tmp_path):
    for path in (None, ""):
        assert LongTailCheckpointer(Model(frequency), str(tmp_path)).load(path) == {}


def test_a_second_stage_stands_on_a_softmax(frequency, tmp_path):
    LongTailCheckpointer(Model(frequency), str(tmp_path)).save("model")
    model = Model(frequency)
    model.method = build_method("LogN", frequency)
    with pytest.raises(CheckpointError, match="LogN takes those for softmax; give a model"):
        LongTailCheckpointer(model, str(tmp_path)).load(str(tmp_path / "model.pth"))


def test_a_wrong_byte_anywhere_in_the_directory_is_a_damage(frequency, tmp_path):
    """The checkpoint before it is taken, whatever zipfile makes of it."""
    checkpointer = LongTailCheckpointer(Model(frequency), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_0000002")
    path = tmp_path / "model_0000002.pth"
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    passed_over = 0
    for place in range(directory, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        passed_over += checkpointer.get_checkpoint_file().endswith("model_0000001.pth")
    assert passed_over > 50  # some bytes mean nothing


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04cut"])
def test_damaged_files_are_named(frequency, tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.pth cannot be read"):
        LongTailCheckpointer(Model(frequency), str(tmp_path)).load(str(path))
    with pytest.raises(CheckpointError, match="gone.pth does not exist"):
        LongTailCheckpointer(Model(frequency), str(tmp_path)).load(str(tmp_path / "gone.pth"))


def _in(prefix: str):
    return lambda state: {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "ranks": _in("module."),
    "torch.compile": _in("_orig_mod."),
    "both": _in("module._orig_mod."),
    "a compiled part": lambda s: {k.replace("cls_score.", "cls_score._orig_mod."): s[k] for k in s},
    "averages, alone": lambda s: {"ema_state": s, "iteration": 3},
    "averages in a container": lambda s: {"ema": {"module": s, "decay": 0.9}},
    "averages of torch's": lambda s: {"n_averaged": torch.tensor(2), **_in("module.")(s)},
    "averages beside": lambda s: {"model": s, "ema_state": {k: v + 1 for k, v in s.items()}},
    "a training loop's module": lambda s: {
        "state_dict": {**{f"ema_model.{k}": v + 1 for k, v in s.items()}, **_in("model.")(s)}
    },
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_known_wrappers_are_taken_off(frequency, tmp_path, wrap):
    trained, fresh = Model(frequency), Model(frequency)
    torch.save(wrap(trained.state_dict()), tmp_path / "wrapped.pth")
    loader = LongTailCheckpointer(fresh, str(tmp_path))
    loader.strict_shapes = True
    loader.load(str(tmp_path / "wrapped.pth"))
    assert torch.equal(fresh.cls_score.weight, trained.cls_score.weight)


@pytest.mark.parametrize("strict", [True, False], ids=["evaluating", "starting"])
@pytest.mark.parametrize("change", [_in("detector."), lambda s: {"weight": torch.ones(1)}])
def test_a_checkpoint_of_which_nothing_fits_is_refused(frequency, tmp_path, strict, change):
    torch.save({"model": change(Model(frequency).state_dict())}, tmp_path / "foreign.pth")
    loader = LongTailCheckpointer(Model(frequency), str(tmp_path))
    loader.strict_shapes = strict
    with pytest.raises(
        CheckpointError, match="foreign.pth has none of the model's weights.*; give"
    ):
        loader.load(str(tmp_path / "foreign.pth"))


def test_a_part_at_random_is_not_evaluated_but_may_be_trained(frequency, tmp_path):
    state = Model(frequency).state_dict()
    del state["cls_score.bias"]
    torch.save({"model": state}, tmp_path / "part.pth")
    loader = LongTailCheckpointer(Model(frequency), str(tmp_path))
    loader.load(str(tmp_path / "part.pth"))
    loader.strict_shapes = True
    with pytest.raises(CheckpointError, match="has no cls_score.bias; evaluate and resume with"):
        loader.load(str(tmp_path / "part.pth"))


def _register(name: str, classes) -> str:
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(thing_classes=list(classes))
    return name


def test_a_checkpoint_carries_the_class_names_and_keeps_to_their_order(frequency, tmp_path, caplog):
    saver = LongTailCheckpointer(Model(frequency), str(tmp_path))
    saver.datasets = [_register("names_abcde", "abcde")]
    saver.save("model")
    path = str(tmp_path / "model.pth")
    assert torch.load(path, weights_only=True)["class_names"] == list("abcde")
    loader = LongTailCheckpointer(Model(frequency), str(tmp_path))
    loader.datasets = ["names_abcde", _register("names_abdce", "abdce"), "gone"]
    loader.load(path)  # to learn anew
    assert "class 2 is 'c' against 'd'" in caplog.text
    loader.strict_shapes = True
    with pytest.raises(CheckpointError, match="data set names_abdce has: class 2 is 'c' against"):
        loader.load(path)
    loader.datasets = ["names_abcde", _register("names_abc", "abc")]
    loader.load(path)
    del saver.datasets
    saver.save("older")
    loader.datasets = ["names_abdce"]
    loader.load(str(tmp_path / "older.pth"))


def test_the_counts_of_a_checkpoint_are_called_as_its_classes(frequency, tmp_path):
    saver = LongTailCheckpointer(Model(frequency), str(tmp_path))
    saver.datasets = [_register("names_abcde", "abcde")]
    saver.save("model")
    model = Model(DeferredFrequency(5, lambda: frequency, "gone"))
    LongTailCheckpointer(model, str(tmp_path)).load(str(tmp_path / "model.pth"))
    assert model.method.loaded_frequency.class_names == tuple("abcde")
