"""INPUT.FORMAT L: a model of one channel in every command that reads pictures."""

import torch

from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main

from ..conftest import finding_model


def test_every_command_takes_one_channel(tiny_cfg, dataset_name, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    channel = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[100.0]", "MODEL.PIXEL_STD", "[50.0]"]
    cfg = tiny_cfg("faster_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.METHOD", "Softmax", *channel)
    LongTailCheckpointer(finding_model(cfg), str(folder)).save("model_final")
    (folder / "config.yaml").write_text(cfg.dump())
    model = ["--config-file", str(folder / "config.yaml")]
    weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth")]
    few = ["--variants", "raw", "--statistics", "image", "--strengths", "1", "--gammas", "1"]
    for line in (
        ["demo", *model, "--dataset", dataset_name, "--most", "2", "--output", str(tmp_path)],
        ["sweep", *model, "--dataset", dataset_name, *few, "--output", str(tmp_path)],
        ["export", *model, "--output", str(tmp_path / "model.ts")],
    ):
        assert main([*line, *weights]) == 0, line
    assert "takes an image (1, H, W), float32, L" in capsys.readouterr().out
    exported = torch.jit.load(tmp_path / "model.ts")
    assert len(exported(torch.full((1, 64, 80), 100.0))) == 4
    page = tmp_path / "report.html"
    assert main(["report", str(folder), "--output", str(page), "--pictures", "1"]) == 0
    assert page.stat().st_size > 0
