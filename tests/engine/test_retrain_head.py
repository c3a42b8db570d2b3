"""A box classifier trained anew on cached regions: what is cached, what comes out, what is refused."""

import csv
import math

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.modeling import build_model

from iif_d2.checkpoint import LongTailCheckpointer, load_trained_model
from iif_d2.commands import main
from iif_d2.commands.retrain_head import retrain_head
from iif_d2.engine.parts import CfgBuilders
from iif_d2.engine.regions import box_predictor, cached_regions, collect_regions, made_of
from iif_d2.engine.retrain_head import (
    NORM,
    HeadRecipe,
    feature_scale,
    method_config,
    options_text,
    score_head,
    train_head,
)
from iif_d2.errors import CheckpointError, ConfigError, DataError, DivergedError

from ..conftest import TINY, finding_model
from ..data.sets_in_formats import write_voc, write_yolo

KIND = "mask_rcnn_R_18_FPN_softmax"
CONFIG = f"configs/Mini-InstanceSegmentation/{KIND}.yaml"
MORE = [*TINY, "MODEL.MASK_ON", "False", "SOLVER.WEIGHT_DECAY", "0.0"]


@pytest.fixture(scope="module")
def trained(dataset_name, tmp_path_factory):
    """KEY VALUE overrides of a detector that finds some things, and a cache of its regions."""
    from iif_d2.config import load_config

    folder = tmp_path_factory.mktemp("detector")
    opts = [*MORE, "OUTPUT_DIR", str(folder)]
    LongTailCheckpointer(finding_model(load_config(CONFIG, opts)), str(folder)).save("model")
    opts += ["MODEL.WEIGHTS", str(folder / "model.pth")]
    cfg = load_config(CONFIG, opts)
    cache = str(folder / "regions.pth")
    cached_regions(cache, cfg, load_trained_model(cfg))
    return opts, cache


def plainly(cfg) -> dict:
    """What `iif-d2 eval` finds of boxes."""
    return CfgBuilders.test(cfg, load_trained_model(cfg))["bbox"]


@pytest.mark.parametrize("kind", [KIND, "mask_rcnn_R_18_C4_iif"])
@pytest.mark.parametrize("more", [[], ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"]])
def test_cached_regions_score_as_the_detector_does(kind, more, tiny_cfg, tmp_path):
    more = ["MODEL.LONG_TAIL.METHOD", "NorCal", "MODEL.MASK_ON", "False", *more]
    path = str(tmp_path / "model.pth")
    cfg = tiny_cfg(kind, *more, "MODEL.WEIGHTS", path)
    LongTailCheckpointer(finding_model(cfg), str(tmp_path)).save("model")
    model = load_trained_model(cfg)
    regions = cached_regions(str(tmp_path / "cache.pth"), cfg, model)
    evaluator = CfgBuilders.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    found = score_head(box_predictor(model), regions, evaluator)
    expected = plainly(cfg)
    assert expected["AP"] > 0
    assert found == pytest.approx(dict(expected), abs=1e-6, nan_ok=True)


def test_training_regions_are_sampled_as_in_training(trained):
    opts, cache = trained
    cfg = method_config(CONFIG, "Softmax", opts)
    model = load_trained_model(cfg)
    regions = collect_regions(cfg, model)
    assert not any(module.training for module in model.modules())
    rows = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    labels = regions.labels.view(8, rows)  # of each image 16
    assert (labels <= 4).all() and (labels >= 0).all()
    foreground = (labels < 4).sum(dim=1)
    assert foreground.max() <= rows * cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION
    assert (foreground[:-1] >= 1).all()  # the objects are among the proposals
    assert foreground[-1] == 0  # an image without objects teaches background
    assert regions.features.shape == (8 * rows, 16)
    again = cached_regions(cache, cfg, model)
    assert torch.equal(again.features, regions.features)
    assert torch.equal(again.labels, regions.labels)


@pytest.mark.parametrize(
    "text",
    ["IIF:VARIANT=constant", "Softmax", "Seesaw", "Sigmoid", "APA", "PCB:BASE=IIF", "Calibrated"],
)
def test_a_head_is_trained_and_its_checkpoint_predicts_what_was_scored(text, trained, tmp_path):
    opts, cache = trained
    said = retrain_head(
        CONFIG, [text], output=str(tmp_path), cache=cache, iterations=60, batch=64, opts=opts
    )
    with open(tmp_path / "results.csv") as file:
        own, row = csv.DictReader(file)
    name, _, options = text.partition(":")
    assert own["method"] == "(its own)" and (row["method"], row["options"]) == (name, options)
    assert row["lr"] == "0.5" and "iif-d2 fold" in said

    cfg = method_config(str(tmp_path / "config.yaml"), text, [])
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "model_final.pth")
    expected = plainly(cfg)
    for column in ("AP", "AP50"):
        assert float(row[column]) == pytest.approx(expected[column], abs=1e-3)
    before = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    after = torch.load(opts[-1], weights_only=True)["model"]
    kept = {k for k in after if ".method." not in k and before[k].shape == after[k].shape}
    changed = {key for key in kept if not torch.equal(before[key], after[key])}
    assert changed <= {f"roi_heads.box_predictor.cls_score.{part}" for part in ("weight", "bias")}


def test_it_learns_the_labels_and_plain_features_give_what_training_saw(trained):
    opts, cache = trained
    cfg = method_config(CONFIG, "IIF", opts)
    model = load_trained_model(method_config(CONFIG, "Softmax", opts))  # its own
    regions = cached_regions(cache, cfg, model)
    assert float((regions.features * feature_scale(regions.features)).norm(dim=1).mean()) == (
        pytest.approx(NORM, rel=1e-4)
    )
    plain = box_predictor(model)
    weight = plain.cls_score.weight.clone()
    losses = []
    for lr in (1e-9, 0.05):
        head = train_head(plain, regions, HeadRecipe("IIF", "", "adamw", lr, 200, 64), cfg)
        logits = head.logits(head(regions.features))
        losses.append(head.method.loss(logits, regions.labels).item())
    assert losses[0] == pytest.approx(math.log(5), abs=0.1)  # a new classifier knows nothing
    assert losses[1] < 0.4 * losses[0]
    assert torch.equal(plain.cls_score.weight, weight)


def test_seeds_repeat_and_methods_of_one_seed_see_the_same_batches(trained):
    opts, cache = trained
    cfg = method_config(CONFIG, "Softmax", opts)
    model = load_trained_model(cfg)
    regions = cached_regions(cache, cfg, model)

    def weight(method="Softmax", seed=0):
        recipe = HeadRecipe(method, "", "sgd", 0.1, 5, 32, seed)
        of = method_config(CONFIG, method, opts)
        return train_head(box_predictor(model), regions, recipe, of).cls_score.weight

    state = torch.get_rng_state()
    assert torch.equal(weight(), weight("NorCal"))  # whose loss is softmax's
    assert not torch.equal(weight(), weight(seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_cosine_classifier_is_not_scaled(trained, tmp_path):
    opts, cache = trained
    opts = [*opts, "MODEL.LONG_TAIL.CLASSIFIER", "cosine"]
    cfg = method_config(CONFIG, "Softmax", opts)
    model = load_trained_model(cfg)
    regions = cached_regions(cache, cfg, model)
    head = train_head(
        box_predictor(model), regions, HeadRecipe("Softmax", "", "sgd", 0.0, 1, 8), cfg
    )
    assert type(head.cls_score).__name__ == "CosineLinear"
    assert float(head.cls_score.weight.std()) == pytest.approx(0.01, rel=0.3)


def test_folded_it_predicts_the_same_in_plain_detectron2(trained, tmp_path, capsys):
    opts, cache = trained
    retrain_head(CONFIG, ["IIF"], output=str(tmp_path), cache=cache, iterations=40, opts=opts)
    config = str(tmp_path / "config.yaml")
    line = ["fold", "--config-file", config, "--output", str(tmp_path / "folded.pth")]
    assert main(line) == 0
    plain_cfg = get_cfg()
    plain_cfg.merge_from_file(str(tmp_path / "folded.yaml"))
    plain = build_model(plain_cfg).eval()
    DetectionCheckpointer(plain).load(str(tmp_path / "folded.pth"))
    ours = load_trained_model(method_config(config, "IIF", []))
    features = torch.randn(30, 16, generator=torch.Generator().manual_seed(0)).relu()
    with torch.no_grad():
        scores, _ = plain.roi_heads.box_predictor(features)
        mine = ours.roi_heads.box_predictor
        expected = mine.method.probabilities(mine.logits(mine(features)))
    torch.testing.assert_close(scores.softmax(dim=1), expected, atol=1e-5, rtol=0)


def test_a_table_goes_on_where_it_was_and_only_with_its_own(trained, tmp_path, monkeypatch):
    opts, cache = trained
    usual = {"output": str(tmp_path), "cache": cache, "iterations": 5, "batch": 16}
    rows = {"methods": ["Softmax", "IIF:VARIANT=base10", "IIF"], "lrs": [0.1, 1.0]}
    retrain_head(CONFIG, opts=opts, **rows, **usual)
    assert not (tmp_path / "model_final.pth").exists()
    text = (tmp_path / "results.csv").read_text()
    assert len(text.splitlines()) == 2 + 6 and text.count("VARIANT=base10") == 2

    trained_now = []

    def counted(plain, regions, recipe, cfg):
        trained_now.append(recipe)
        return train_head(plain, regions, recipe, cfg)

    monkeypatch.setattr("iif_d2.engine.retrain_head.train_head", counted)
    said = retrain_head(CONFIG, opts=opts, seeds=[0, 1], **rows, **usual)
    assert [recipe.seed for recipe in trained_now] == [1] * 6
    assert (tmp_path / "results.csv").read_text().startswith(text)
    assert said.count("±") == 6 * 2  # AP and APr: no class of so few images is common or frequent
    assert (tmp_path / "results.md").read_text().strip() in said

    with pytest.raises(ConfigError, match=r"MODEL.ROI_HEADS.NMS_THRESH_TEST \(0.5, now 0.3\)"):
        retrain_head(
            CONFIG, opts=[*opts, "MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.3"], **rows, **usual
        )


def test_the_checkpoint_is_of_the_call_that_names_it(trained, tmp_path):
    opts, cache = trained
    usual = {"output": str(tmp_path), "cache": cache, "iterations": 5, "batch": 16, "opts": opts}
    weights = []
    for name in ("IIF", "Softmax", "IIF"):
        retrain_head(CONFIG, [name], **usual)
        kept = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
        weights.append(kept["roi_heads.box_predictor.cls_score.weight"])
        cfg = method_config(str(tmp_path / "config.yaml"), name, [])
        load_trained_model(cfg)  # which refuses another method's weights
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4


def test_a_row_names_the_options_of_the_method_below(trained):
    opts, _ = trained
    more = [*opts, "MODEL.LONG_TAIL.IIF.VARIANT", "constant"]
    text = options_text(method_config(CONFIG, "PCB:BASE=IIF", more))
    assert text == "BASE=IIF,IIF.VARIANT=constant"
    assert options_text(method_config(CONFIG, f"PCB:{text}", opts)) == text
    assert options_text(method_config(CONFIG, "PCB:BASE=IIF", opts)) == "BASE=IIF"
    over = options_text(method_config(CONFIG, "Calibrated:RULE=NorCal,NorCal.GAMMA=0.3", opts))
    assert over == "RULE=NorCal,NorCal.GAMMA=0.3"


def test_nothing_is_pasted_into_the_pictures(tiny_cfg, tmp_path):
    path = str(tmp_path / "model.pth")
    LongTailCheckpointer(finding_model(tiny_cfg(KIND)), str(tmp_path)).save("model")
    found = []
    for probability in ("0.0", "1.0"):
        cfg = tiny_cfg(KIND, "MODEL.WEIGHTS", path, "INPUT.COPY_PASTE.PROB", probability)
        found.append(collect_regions(cfg, load_trained_model(cfg)))
    assert torch.equal(found[0].features, found[1].features)
    assert found[0].made_of == found[1].made_of


def test_another_detectors_cache_and_a_damaged_one_are_refused(trained, tmp_path):
    opts, cache = trained
    cfg = method_config(CONFIG, "Softmax", opts)
    model = load_trained_model(cfg)
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(1.1)
    with pytest.raises(ConfigError, match="regions.pth was made with something else: the weights;"):
        cached_regions(cache, cfg, model)
    other = method_config(CONFIG, "Softmax", [*opts, "INPUT.MIN_SIZE_TEST", "48"])
    with pytest.raises(ConfigError, match=r"INPUT.MIN_SIZE_TEST \(64, now 48\)"):
        cached_regions(cache, other, load_trained_model(other))
    content = torch.load(cache, weights_only=True)
    content["labels"][3] = 5
    torch.save(content, tmp_path / "labels.pth")
    with pytest.raises(DataError, match="has labels of . to 5, and the detector 4 classes"):
        cached_regions(str(tmp_path / "labels.pth"), cfg, load_trained_model(cfg))
    half = tmp_path / "half.pth"
    with open(cache, "rb") as file:
        half.write_bytes(file.read()[:4000])
    with pytest.raises(DataError, match="half.pth is no whole cache of regions"):
        cached_regions(str(half), cfg, load_trained_model(cfg))


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_a_changed_label_file_makes_other_regions(write, tiny_cfg, tmp_path, monkeypatch):
    name = "in_many_files"
    monkeypatch.setitem(DatasetCatalog.data, name, None)
    monkeypatch.setitem(
        MetadataCatalog.data, name, Metadata(name=name, json_file=str(write(tmp_path / "set")))
    )
    cfg = tiny_cfg(KIND, "DATASETS.TRAIN", f"('{name}',)")
    before = made_of(cfg, torch.nn.Module())
    changed = next(
        path for path in (tmp_path / "set").rglob("*") if path.suffix in (".txt", ".xml")
    )
    changed.write_text(changed.read_text() + "\n")
    after = made_of(cfg, torch.nn.Module())
    assert {key for key in before if before[key] != after[key]} == {f"the data of {name}"}


def test_what_cannot_be_retrained_is_refused_in_words(trained, tiny_cfg, tmp_path):
    opts, cache = trained
    for text, message in (
        ("DisAlign", "DisAlign is a second stage"),
        ("LogN", "LogN is a second stage"),
        ("LOS", "LOS is a second stage"),
        ("LDAM", "LDAM is for classification"),
        ("IIF:VARIANT", "METHOD:KEY=VALUE"),
        ("IIF:COLOUR=red", "COLOUR"),
        ("IIF:VARIANT=huge", "huge"),
        ("Iif", "unknown method"),
    ):
        with pytest.raises(ConfigError, match=message):
            retrain_head(CONFIG, [text], output=str(tmp_path), cache=cache, opts=opts)
    given = tiny_cfg(KIND, "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
    with pytest.raises(ConfigError, match="PrecomputedProposals"):
        box_predictor(build_model(given))
    cascade = build_model(tiny_cfg("cascade_mask_rcnn_R_18_FPN_iif"))
    with pytest.raises(ConfigError, match="a cascade has a classifier in each stage"):
        box_predictor(cascade)
    for numbers in ({"lrs": [0.0]}, {"iterations": 0}, {"batch": -1}, {"lrs": [math.nan]}):
        with pytest.raises(ConfigError, match=f"--{next(iter(numbers))} is"):
            retrain_head(CONFIG, ["IIF"], output="o", opts=opts, **numbers)
    line = [*opts, "DATASETS.TEST", "()"]
    with pytest.raises(ConfigError, match="one data set to score on"):
        retrain_head(CONFIG, ["IIF"], output=str(tmp_path), cache=cache, opts=line)
    with pytest.raises(CheckpointError, match="does not exist"):
        retrain_head(
            CONFIG, ["IIF"], output=str(tmp_path), opts=[*opts, "MODEL.WEIGHTS", "gone.pth"]
        )


def test_a_rate_that_is_too_high_is_a_row_of_a_table_and_an_error_alone(trained, tmp_path):
    opts, cache = trained
    usual = {"cache": cache, "iterations": 30, "batch": 16, "opts": opts}
    output = str(tmp_path / "table")
    said = retrain_head(CONFIG, ["Sigmoid"], output=output, lrs=[1e38, 0.1], **usual)
    assert said.count("| -") >= 4
    with pytest.raises(DivergedError, match="lower --lrs, 1e[+]38 here"):
        retrain_head(CONFIG, ["Sigmoid"], output=str(tmp_path / "one"), lrs=[1e38], **usual)
