"""Exported models against the models they came from, on images that were not traced."""

import numpy as np
import pytest
import torch

from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.checkpoint.export import TOLERANCE, export_model
from iif_d2.commands import main
from iif_d2.errors import ConfigError

from ..conftest import TINY, finding_model


def image(height, width, seed):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=draws).float()


@torch.no_grad()
@pytest.mark.parametrize("method", ["IIF", "NorCal"])
@pytest.mark.parametrize("kind", [".ts", ".onnx"])
@pytest.mark.parametrize(
    "config",
    ["mask_rcnn_R_18_FPN_iif", "mask_rcnn_R_18_C4_iif", "cascade_mask_rcnn_R_18_FPN_iif"],
)
def test_gives_what_the_model_gives(config, kind, method, tiny_cfg, tmp_path):
    """On images of other sizes, with other numbers of proposals, none included."""
    if kind == ".onnx":
        pytest.importorskip("onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
    small = ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "40")  # pixels; a small image has no proposal
    model = finding_model(tiny_cfg(config, "MODEL.LONG_TAIL.METHOD", method, *small))
    path = str(tmp_path / f"model{kind}")
    fields = export_model(model, path, [image(64, 96, 0)])
    assert fields == ["pred_boxes", "pred_classes", "pred_masks", "scores", "image_size"]
    numbers = set()
    for other in (image(80, 64, 80), image(200, 60, 200), image(32, 32, 32)):
        if kind == ".ts":
            outputs = torch.jit.load(path)(other)
        else:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            assert [output.name for output in session.get_outputs()] == fields
            outputs = map(torch.from_numpy, session.run(None, {"image": other.numpy()}))
        found = dict(zip(fields, outputs))
        wanted = model.inference([{"image": other}], do_postprocess=False)[0]
        assert torch.equal(found["pred_classes"], wanted.pred_classes)
        for name, value in (
            ("scores", wanted.scores), ("pred_masks", wanted.pred_masks),
            ("pred_boxes", wanted.pred_boxes.tensor),
        ):  # fmt: skip
            assert found[name].shape == value.shape
            np.testing.assert_allclose(found[name].detach(), value, rtol=0, atol=TOLERANCE)
        numbers.add(len(wanted))
    assert len(numbers) == 3 and 0 in numbers


def test_command_and_refusals(tiny_cfg, tmp_path, capsys):
    model = finding_model(tiny_cfg("faster_rcnn_R_18_FPN_iif"))
    LongTailCheckpointer(model, str(tmp_path)).save("model")
    line = [
        "export", "--config-file", "Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml",
        "--output", str(tmp_path / "model.ts"), *TINY,
        "MODEL.WEIGHTS", str(tmp_path / "model.pth"), "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(line) == 0
    assert "gives pred_boxes, pred_classes, scores, image_size" in capsys.readouterr().out
    assert (tmp_path / "model.ts").stat().st_size > 0
    with pytest.raises(ConfigError, match="must end in .ts"):
        export_model(model, str(tmp_path / "model.pt"), [])
    with pytest.raises(ConfigError, match="Linear is not exported"):
        export_model(torch.nn.Linear(2, 2), str(tmp_path / "model.ts"), [])


def test_what_does_something_else_is_not_written(tiny_cfg, tmp_path, monkeypatch):
    model, path = finding_model(tiny_cfg("faster_rcnn_R_18_FPN_iif")), tmp_path / "other.ts"
    monkeypatch.setattr(torch.jit, "load", lambda path: lambda image: [torch.zeros(1, 4)] * 4)
    with pytest.raises(ConfigError, match="is not written: .* its pred_boxes"):
        export_model(model, str(path), [image(64, 64, 0)])
    assert not path.exists()
