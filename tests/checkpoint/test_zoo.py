"""Model-zoo files, Detectron2's and Caffe2's, load into a detector with our heads."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from iif_d2.checkpoint import LongTailCheckpointer

NARROW_R50 = (
    "MODEL.RESNETS.DEPTH", "50",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "16",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "4",
)  # fmt: skip


@pytest.fixture
def detector(tiny_cfg):
    """A function: a narrow Mask R-CNN R50-FPN with IIF, random weights."""

    def make():
        return build_model(tiny_cfg("mask_rcnn_R_18_FPN_iif", *NARROW_R50))

    return make


def zoo_url(monkeypatch, tmp_path, content) -> str:
    """A `detectron2://` address whose file lies in the cache, as after a download."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    name = f"{tmp_path.name}/model_final.pkl"  # one of its own: addresses are remembered
    path = tmp_path / "detectron2" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content))
    return f"detectron2://{name}"


def filled(state: dict) -> dict:
    """Other numbers in every array; a batch norm's count of batches is none of them."""
    rng = np.random.default_rng(0)
    return {
        key: rng.normal(size=value.shape).astype(np.float32)
        for key, value in state.items()
        if value.is_floating_point()
    }


def plain_state(model) -> dict:
    """What plain Detectron2 would have of it."""
    return {key: value for key, value in model.state_dict().items() if ".method." not in key}


def test_detectron2s_zoo_file_loads_from_its_address(detector, monkeypatch, tmp_path):
    arrays = filled(plain_state(detector()))
    url = zoo_url(monkeypatch, tmp_path, {"model": arrays, "__author__": "Detectron2 Model Zoo"})
    assert PathManager.get_local_path(url).startswith(str(tmp_path))
    model = detector()
    LongTailCheckpointer(model).load(url)
    loaded = model.state_dict()
    for key, value in arrays.items():
        np.testing.assert_array_equal(loaded[key], value, err_msg=key)


def caffe2_name(key: str) -> str:
    """res2.0.conv1.norm.weight as res2_0_branch2a_bn_s."""
    for ours, theirs in (
        ("stem.conv1.norm", "res_conv1_bn"), ("stem.conv1", "conv1"),
        (".shortcut.norm", "_branch1_bn"), (".shortcut", "_branch1"),
        (".conv1.norm", "_branch2a_bn"), (".conv1", "_branch2a"),
        (".conv2.norm", "_branch2b_bn"), (".conv2", "_branch2b"),
        (".conv3.norm", "_branch2c_bn"), (".conv3", "_branch2c"),
        ("_bn.weight", "_bn_s"), (".weight", "_w"), (".bias", "_b"), (".", "_"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key


def test_caffe2_names_and_its_first_background_row(detector, monkeypatch, tmp_path):
    state = detector().backbone.bottom_up.state_dict()
    arrays = filled({k: v for k, v in state.items() if "running" not in k})
    blobs = {caffe2_name(key): value for key, value in arrays.items()}
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch2a_w", "res5_2_branch2c_bn_b"} <= set(blobs)
    rows = np.arange(5 * 16, dtype=np.float32).reshape(5, 16)
    blobs |= {"cls_score_w": rows, "cls_score_b": rows[:, 0], "conv1_w_momentum": rows}
    model = detector()
    LongTailCheckpointer(model).load(zoo_url(monkeypatch, tmp_path, {"blobs": blobs}))
    loaded = model.backbone.bottom_up.state_dict()
    for key, value in arrays.items():
        np.testing.assert_array_equal(loaded[key], value, err_msg=key)
    assert torch.equal(
        model.roi_heads.box_predictor.cls_score.weight.detach(),
        torch.from_numpy(np.roll(rows, -1, axis=0)),
    )
