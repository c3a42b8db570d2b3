"""The LazyConfigs of projects/ViTDet, and train_net.py with a .py config."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import default_argument_parser

from iif_d2.engine import launch, load_lazy_config
from iif_d2.errors import ConfigError
from iif_d2.methods.iif import IIF

from ..stress import runs

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "projects" / "ViTDet" / "configs" / "LVIS").glob("*.py"))
MASK_IIF = "projects/ViTDet/configs/LVIS/mask_rcnn_vitdet_b_100ep_iif.py"
FEDLOSS = MASK_IIF.replace("_iif", "_fedloss")
CASCADE_IIF = MASK_IIF.replace("mask_rcnn", "cascade_mask_rcnn")
NARROW = [
    "model.backbone.net.img_size=64",
    "model.backbone.net.embed_dim=16",
    "model.backbone.net.depth=2",
    "model.backbone.net.num_heads=2",
    "model.backbone.net.window_size=2",
    "model.backbone.net.window_block_indexes=[0]",
    "model.backbone.square_pad=64",
    "model.proposal_generator.post_nms_topk=[40,20]",
    "model.roi_heads.mask_head.conv_dims=[16,16]",
    "model.roi_heads.num_classes=4",
    "model.roi_heads.batch_size_per_image=16",
    "dataloader.train.dataset.names=tiny_lvis",
    "dataloader.train.mapper.augmentations=[]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.dataset.names=tiny_lvis",
    "dataloader.test.mapper.augmentations=[]",
    "dataloader.test.num_workers=0",
    "optimizer.params.lr_factor_func=null",
    "train.init_checkpoint=''",
    "train.max_iter=2",
]
NARROW_HEAD = [
    "model.roi_heads.box_head.conv_dims=[16]",
    "model.roi_heads.box_head.fc_dims=[16]",
    "model.roi_heads.box_predictor.input_shape.channels=16",
]


@pytest.fixture(scope="module")
def run(dataset_name):
    """train_net.py with a config, narrowed; gives what it logged."""
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "train_net.py")
    train_net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train_net)

    def run(folder, *arguments, config=MASK_IIF, options=()) -> str:
        head = [] if config == CASCADE_IIF else NARROW_HEAD  # a cascade has lists of them
        options = [*NARROW, *head, f"train.output_dir={folder}", *options]
        line = ["--config-file", str(ROOT / config), *arguments, *options]
        launch(train_net.main, default_argument_parser().parse_args(line))
        return (Path(folder) / "log.txt").read_text()

    return run


def results(folder) -> dict:
    return json.loads((folder / "inference" / "results.json").read_text())["tiny_lvis"]


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory) -> Path:
    """train.output_dir of two steps and an evaluation."""
    folder = tmp_path_factory.mktemp("vitdet") / "out"
    run(folder)
    return folder


def test_trains_saves_and_evaluates(trained):
    state = torch.load(trained / "model_final.pth", weights_only=True)
    assert state["iteration"] == 1
    assert state["model"]["roi_heads.box_predictor.method.image_count"].sum() > 0
    assert all(value.isfinite().all() for value in state["model"].values())
    assert {"AP", "APr", "APc", "APf"} <= set(results(trained)["bbox"]) & set(
        results(trained)["segm"]
    )


def test_the_saved_config_builds_the_same_model(trained):
    assert not (trained / "config.yaml.pkl").exists()
    model = instantiate(LazyConfig.load(str(trained / "config.yaml")).model)
    state = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    model.load_state_dict(state)
    assert type(model.roi_heads.box_predictor.method).__name__ == "IIF"


def test_eval_only_gives_the_same_table(trained, run, tmp_path):
    weights = f"train.init_checkpoint={trained / 'model_final.pth'}"
    run(tmp_path, "--eval-only", options=[weights, "dataloader.train.dataset.names=gone"])
    # Without the training data there are no groups.
    assert results(tmp_path)["bbox"]["AP"] == results(trained)["bbox"]["AP"]


@pytest.mark.parametrize("seed, workers", [(["+train.seed=1"], 0), ([], 2)])
def test_resume_goes_on_as_if_it_had_not_stopped(run, tmp_path, seed, workers):
    """Also without a seed: the one that was drawn is in the checkpoint."""
    options = [
        *seed,
        f"dataloader.train.num_workers={workers}",
        "dataloader.train.mapper.augmentations=[{_target_: detectron2.data.transforms.RandomFlip}]",
        "model.backbone.net.drop_path_rate=0.5",
        "dataloader.train.sampler.repeat_factors.repeat_thresh=0.5",
        "train.checkpointer.period=2",
        "train.eval_period=3",
        "train.log_period=3",
        "train.max_iter=6",
    ]
    folder = tmp_path / "out"
    run(folder, options=options)
    whole = torch.load(folder / "model_final.pth", weights_only=True)
    metrics = runs.metrics(folder)
    assert [json.loads(line)["iteration"] for line in metrics] == [2, 5, 6]
    runs.forget_times(whole)
    # Stopped after a step, and in the last evaluation
    for last, first in (("model_0000001.pth", 2), ("model_final.pth", 6)):
        (folder / "last_checkpoint").write_text(last)
        log = run(folder, "--resume", options=options)
        assert f"Starting training from iteration {first}" in log
        again = torch.load(folder / "model_final.pth", weights_only=True)
        assert again["iteration"] == whole["iteration"] == 5
        runs.forget_times(again)
        assert not runs.difference(whole, again)
        assert runs.metrics(folder) == metrics


def test_another_loader_trains_and_says_that_it_resumes_otherwise(run, tmp_path):
    log = run(tmp_path / "out", options=["+dataloader.train.drop_last=True"])
    assert "a resumed run draws other images" in log and results(tmp_path / "out")


def test_cascade_trains_with_a_method_of_its_own_in_each_stage(run, tmp_path):
    run(tmp_path, config=CASCADE_IIF)
    assert results(tmp_path)["bbox"].keys() == results(tmp_path)["segm"].keys()
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    for stage in range(3):
        assert state[f"roi_heads.box_predictor.{stage}.method.image_count"].sum() > 0


@pytest.mark.parametrize("method", ["DisAlign", "LogN"])
def test_second_stages_train_over_a_frozen_model(run, tmp_path, method):
    run(tmp_path / "first", config=FEDLOSS, options=["method.name=Softmax"])
    weights = tmp_path / "first" / "model_final.pth"
    options = [f"method.name={method}", f"train.init_checkpoint={weights}", "optimizer.lr=0.1"]
    run(tmp_path / "second", config=FEDLOSS, options=options)
    paths = (weights, tmp_path / "second" / "model_final.pth")
    before, after = (torch.load(path, weights_only=True)["model"] for path in paths)
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    own = {key.rpartition(".")[2]: after[key] for key in after.keys() - before.keys()}
    if method == "LogN":
        assert own["num_observed"] > 0 and own["mean"].any()
    else:
        assert not torch.equal(own["alpha"], torch.ones(4))
    assert results(tmp_path / "second")


def test_the_classifier_is_watched_by_group(run, tmp_path):
    run(tmp_path / "out", options=["train.max_iter=1", "+train.classifier_period=1"])
    line = json.loads((tmp_path / "out" / "metrics.json").read_text().splitlines()[0])
    assert line["classifier/weight_norm_r"] > 0 and "classifier/gradient_share_f" in line


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_its_recipe(path):
    cfg = load_lazy_config(str(path), [])
    large, cascade, iif = "_l_" in path.stem, "cascade" in path.stem, path.stem.endswith("iif")
    net = cfg.model.backbone.net
    everywhere = sorted(set(range(net.depth)) - set(net.window_block_indexes))
    assert everywhere == ([5, 11, 17, 23] if large else [2, 5, 8, 11])
    assert (net.embed_dim, net.num_heads) == ((1024, 16) if large else (768, 12))
    assert net.drop_path_rate == (0.4 if large else 0.1)
    with torch.device("meta"):
        heads = instantiate(cfg.model.roi_heads)
    predictors = list(heads.box_predictor) if cascade else [heads.box_predictor]
    assert len(predictors) == (3 if cascade else 1)
    for predictor in predictors:
        assert type(predictor.method).__name__ == ("IIF" if iif else "FedLoss")
        assert predictor.num_classes == predictor.method.num_classes == 1203
        assert predictor.test_score_thresh == (1e-4 if iif else 0.02)
        assert predictor.test_topk_per_image == 300
    for head in heads.box_head if cascade else [heads.box_head]:
        assert (len(head.conv_norm_relus), len(head.fcs)) == (4, 1)
    decay = cfg.optimizer.params.lr_factor_func
    assert decay.keywords == {
        "num_layers": 24 if large else 12,
        "lr_decay_rate": 0.8 if large else 0.7,
    }
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (2e-4, 0.1)
    assert (cfg.train.max_iter, cfg.dataloader.train.total_batch_size) == (156250, 64)
    schedule = instantiate(cfg.lr_multiplier)
    steps = [schedule(step / 156250) for step in (0, 250, 138888, 138890, 150464)]
    assert steps == pytest.approx([1e-3, 1, 1, 0.1, 0.01])
    assert ("mae_pretrain_vit_large" if large else "mae_pretrain_vit_base") in (
        cfg.train.init_checkpoint
    )
    assert cfg.train.output_dir.endswith(path.stem)


@pytest.mark.parametrize(
    "option, message",
    [
        ("train.max_itr=5", r"has no train.max_itr; \+train.max_itr=5 adds it"),
        ("MODEL.WEIGHTS", "is not KEY=VALUE"),
        ("train.max_iter.x=1", "train.max_iter"),
        ("train.max_iter=[1", "OverrideParseException"),
    ],
)
def test_overrides_that_name_nothing_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        load_lazy_config(str(ROOT / MASK_IIF), [option])
    assert load_lazy_config(str(ROOT / MASK_IIF), ["+train.seed=3"]).train.seed == 3


def test_mistakes_end_in_a_sentence(run, tmp_path, capsys):
    for options, message in (
        (["model.roi_heads.num_classes=9"], "has 4 classes; set it to 4"),
        (["method.variant=rwa"], "unknown IIF variant 'rwa'"),
        (["dataloader.train.total_batch_size=many"], "dataloader.train cannot be built"),
        (["+dataloader.train.foo=1"], "dataloader.train cannot be built from this config"),
        (["dataloader.train.num_workers=-1"], "NUM_WORKERS (num_workers) is -1"),
        (["+model.foo=1"], "model cannot be built from this config"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(tmp_path, options=options)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    with pytest.raises(SystemExit):
        run(tmp_path, config=FEDLOSS, options=["method.name=LogN"])
    assert "set MODEL.WEIGHTS (train.init_checkpoint" in capsys.readouterr().err
    (tmp_path / "bad.py").write_text("model = (")
    with pytest.raises(ConfigError, match="bad.py: SyntaxError"):
        load_lazy_config(str(tmp_path / "bad.py"), [])


def test_nan_stops_with_the_images_and_the_last_checkpoint(run, tmp_path, capsys, monkeypatch):
    original, calls = IIF._loss, []

    def loss(self, *args):
        calls.append(1)
        return original(self, *args) * (float("nan") if len(calls) > 1 else 1)

    monkeypatch.setattr(IIF, "_loss", loss)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", options=["train.checkpointer.period=1"])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and "diverged at iteration 1: Loss became" in said
    assert said.count("train2017/") == 2 and "out/model_0000000.pth. Look at" in said


def test_sigterm_saves_at_the_end_of_the_step(run, tmp_path, monkeypatch):
    original, calls = IIF._loss, []

    def loss(self, *args):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *args)

    monkeypatch.setattr(IIF, "_loss", loss)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", options=["train.max_iter=3"])
    assert stop.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_0000001.pth"
    log = run(tmp_path / "out", "--resume", options=["train.max_iter=3"])
    assert "Starting training from iteration 2" in log and results(tmp_path / "out")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_loaders_data_are_loaded_once_though_its_sampler_asks_too(dataset_name, monkeypatch):
    from iif_d2.data import sharing
    from iif_d2.engine import lazy

    calls = []
    load = sharing.detection_dicts
    monkeypatch.setattr(
        sharing, "detection_dicts", lambda *a, **k: calls.append(k) or load(*a, **k)
    )
    cfg = load_lazy_config(str(ROOT / MASK_IIF), NARROW)
    target = cfg.dataloader.train.dataset._target_
    next(iter(lazy._instantiate_loader(cfg.dataloader.train)))
    assert len(calls) == 1
    next(iter(lazy._instantiate_loader(cfg.dataloader.test)))
    assert calls[1:] == [{"filter_empty": False}]
    assert cfg.dataloader.train.dataset._target_ is target
