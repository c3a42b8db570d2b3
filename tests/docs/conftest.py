"""What the examples of docstrings find: a folder with a small data set and two runs in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ..conftest import TINY, finding_model, make_dataset

CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_{}.yaml"
DATA = ["DATASETS.TRAIN", "('my_train',)", "DATASETS.TEST", "('my_val',)"]


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """`my/train.json`, `my/images`, and the OUTPUT_DIRs `output/iif` and `output/softmax`."""
    root = tmp_path_factory.mktemp("examples")
    annotations, _ = make_dataset(root / "my" / "images")
    annotations.rename(root / "my" / "train.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _register()
        for name in ("iif", "softmax"):
            _run(root / "output" / name, CONFIG.format(name))
    return root


def _register() -> None:
    from iif_d2 import register_long_tail_instances

    for name in ("my_train", "my_val"):
        register_long_tail_instances(name, "my/train.json", "my/images")


def _run(output, config: str) -> None:
    """What training and evaluation leave, of a model that was not trained."""
    from iif_d2.checkpoint import LongTailCheckpointer, settle_frequencies
    from iif_d2.config import load_config
    from iif_d2.evaluation.results import save_results

    cfg = load_config(config, [*TINY, *DATA, "OUTPUT_DIR", f"output/{output.name}"])
    output.mkdir(parents=True)
    (output / "config.yaml").write_text(cfg.dump())
    model = finding_model(cfg)
    settle_frequencies(model, training=True, checkpoint="")
    checkpointer = LongTailCheckpointer(model, str(output))
    checkpointer.config = cfg.dump()
    checkpointer.save("model_final")
    (output / "inference").mkdir()
    save_results(output / "inference" / "results.json", {"my_val": {"bbox": {"AP": 8.1}}})
    found = {"image_id": 7, "category_id": 1, "bbox": [4, 4, 20, 20], "score": 0.75}
    (output / "lvis_instances_results.json").write_text(json.dumps([found]))


@pytest.fixture
def given(folder, monkeypatch) -> dict:
    """The names that an example may use without making them; it runs inside of the folder."""
    import iif_d2
    from iif_d2.config import load_config

    monkeypatch.chdir(folder)
    _register()
    cfg = load_config("output/iif/config.yaml")
    return {
        **{name: getattr(iif_d2, name) for name in iif_d2.__all__},
        "build_method": iif_d2.methods.build_method,
        "cfg": cfg,
        "iif_d2": iif_d2,
        "frequency": iif_d2.count_class_frequency("my_train"),
        "image": torch.zeros(3, 64, 64),
        "model": finding_model(cfg),
        "np": np,
        "torch": torch,
    }
