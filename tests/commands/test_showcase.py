"""`iif-d2 demo` without a model: the package's own, on a few pictures in this process."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iif_d2.commands import main, showcase
from iif_d2.commands.demo import draw_folder
from iif_d2.config import load_config
from iif_d2.data.mini_lvis import make_mini_lvis
from iif_d2.zoo import zoo_model

DATASET = "few_of_mini_lvis"


@pytest.fixture
def here(started, tmp_path, monkeypatch):
    """A few pictures in place of mini_lvis_val, and runs in this process."""
    from iif_d2 import register_long_tail_instances

    monkeypatch.setattr(showcase, "DATASET", DATASET)
    few_of(make_mini_lvis(tmp_path, "val"), tmp_path / "few.json")
    register_long_tail_instances(DATASET, tmp_path / "few.json", tmp_path / "mini_lvis")
    yield tmp_path
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def few_of(made, path):
    import json

    with open(made[0]) as file:
        content = json.load(file)
    content["images"] = content["images"][:4]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path.write_text(json.dumps(content))


def test_the_packaged_models_are_compared_on_a_page(here, capsys):
    out = here / "out"
    assert main(["demo", "--output", str(out)]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith(("Softmax", "IIF"))]
    assert [row.split("  ")[0] for row in rows] == ["Softmax", showcase.NORCAL, "IIF"]
    assert "iif-d2 predict" in said and "Both models were trained for 600 steps" in said
    page = (out / "demo.html").read_text()
    assert "Ground truth" in page and "data:image/jpeg" in page
    assert (out / "report.html").exists()


def test_training_starts_from_a_detector_without_a_classifier(here, monkeypatch):
    trained, iif, _ = showcase._trained(str(here))
    assert iif == str(here / "runs" / "iif" / "seed0" / "model_final.pth")
    assert [row.name for row in trained] == ["Softmax", "IIF"] and all(r.trains for r in trained)
    cfg = load_config(trained[1].config, list(trained[1].options))
    assert cfg.MODEL.LONG_TAIL.METHOD == "IIF" and cfg.SOLVER.MAX_ITER == 150
    from iif_d2.checkpoint.reading import read_checkpoint

    start = read_checkpoint(cfg.MODEL.WEIGHTS)["model"]
    assert start and not any("cls_score" in name for name in start)
    assert any("bbox_pred" in name for name in start)


def test_a_model_of_the_zoo_goes_where_a_users_goes(here):
    folder = zoo_model("mini_lvis_iif")
    words = ["MODEL.WEIGHTS", f"{folder}/model.safetensors"]
    said = draw_folder(f"{folder}/config.yaml", words, dataset=DATASET, output=str(here / "drawn"))
    assert said.startswith("4 pictures written")


def test_half_of_a_users_demo_is_refused(capsys):
    for words in (["--dataset", DATASET], ["--train", "--config-file", "x.yaml"]):
        assert main(["demo", *words]) == 2
        assert "give --config-file, --output and" in capsys.readouterr().err
