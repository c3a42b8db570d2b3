"""The sweep against plain evaluations of each setting, and its command from end to end."""

import argparse
import csv
import dataclasses
import shlex

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from PIL import Image

from iif_d2 import apply_method, count_class_frequency
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main
from iif_d2.commands.sweep import add_setting_arguments, class_slice
from iif_d2.data import LongTailDatasetMapper
from iif_d2.errors import ConfigError
from iif_d2.evaluation import LongTailEvaluator, dataset_ground_truth, rle_masks
from iif_d2.evaluation.metrics import lvis_metrics
from iif_d2.evaluation.sweep_pass import sweep_pass
from iif_d2.evaluation.sweep_settings import (
    Base,
    Setting,
    built,
    over_base,
    over_best,
    settings,
)
from iif_d2.methods import build_method, method_options

from ..conftest import TINY, finding_model

OPTIONS = {
    "Softmax": {},
    "IIF": {"variant": "smooth", "post_hoc": True, "strength": 0.5},
    "NorCal": {"gamma": 0.7},
    "LogitAdjustment": {"tau": 0.5, "post_hoc": True},
    "FRACAL": {"lam": 2.0, "with_frequency": False},
    "Calibrated": {"base_options": {"post_hoc": True, "variant": "smooth", "strength": 0.5}},
}
KINDS = [
    "mask_rcnn_R_18_FPN_softmax", "mask_rcnn_R_18_C4_iif", "cascade_mask_rcnn_R_18_FPN_iif",
]  # fmt: skip


def loader(cfg, name):
    images = DatasetCatalog.get(name)
    return build_detection_test_loader(images, mapper=LongTailDatasetMapper(cfg, False))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_an_evaluation_of_each_setting(kind, tiny_cfg, dataset_name):
    cfg = tiny_cfg(kind, "MODEL.LONG_TAIL.METHOD", "Softmax")
    counts = count_class_frequency(dataset_name)
    # The boxes of so small a set have dimension 1 or nearly so.
    frequency = dataclasses.replace(counts, dimension=[1.9, 1.0, 1.3, 1.6])
    truth, model = dataset_ground_truth(dataset_name), finding_model(cfg)
    methods = [build_method(name, frequency, **options) for name, options in OPTIONS.items()]
    before = set(model.state_dict())
    found = {
        "bbox": sweep_pass(model, loader(cfg, dataset_name), truth, methods),
        "segm": sweep_pass(model, loader(cfg, dataset_name), truth, methods, 0.5),
    }
    assert set(model.state_dict()) == before
    different = set()
    for index, (name, options) in enumerate(OPTIONS.items()):
        apply_method(model, build_method(name, frequency, **options))
        evaluator = LongTailEvaluator(dataset_name, frequency=frequency)
        expected = inference_on_dataset(rle_masks(model), loader(cfg, dataset_name), evaluator)
        assert expected["bbox"]["AP"] > 0
        for task, precisions in found.items():
            metrics = lvis_metrics(precisions[index], frequency.groups())
            np.testing.assert_equal(metrics, dict(expected[task]))
        different.add(expected["bbox"]["AP"])
    assert len(different) > 1


def test_a_model_of_sigmoids_is_scored_by_their_form_of_fracal(tiny_cfg, dataset_name):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", "MODEL.LONG_TAIL.METHOD", "EQL")
    counts = count_class_frequency(dataset_name)
    frequency = dataclasses.replace(counts, dimension=[1.9, 1.0, 1.3, 1.6])
    truth, model = dataset_ground_truth(dataset_name), finding_model(cfg)
    wanted = settings(arguments("--lambdas", "2"), sigmoid=True)
    assert [s.method for s in wanted] == ["Sigmoid", "FRACALSigmoid", "FRACALSigmoid"]
    methods = built(wanted, frequency)[1]
    found = sweep_pass(model, loader(cfg, dataset_name), truth, methods)
    for method, precision in zip(methods, found):
        apply_method(model, method)
        evaluator = LongTailEvaluator(dataset_name, tasks=("bbox",), frequency=frequency)
        expected = inference_on_dataset(model, loader(cfg, dataset_name), evaluator)
        metrics = lvis_metrics(precision, frequency.groups())
        np.testing.assert_equal(metrics, dict(expected["bbox"]))


def arguments(*words):
    parser = argparse.ArgumentParser()
    add_setting_arguments(parser)
    return parser.parse_args(words)


FEW = ["--variants", "smooth", "--statistics", "image", "--normalizers", "sum", "--strengths",
       "0.5,1", "--gammas", "0.5", "--taus", "0.5", "--lambdas", "1,2", "--fit-groups"]  # fmt: skip


def test_what_stands_on_the_best_iif_setting(frequency):
    """FRACAL in both forms at each lambda, and each group's own strength; one for all was tried."""
    args = arguments(*FEW)
    best = next(s for s in settings(args) if s.label == "IIF smooth, image/sum 0.5")
    more = over_best(args, best, True, frequency)  # of two common classes and three rare ones
    assert [s.label for s in more if s.base] == [
        f"FRACAL lambda{words}, on IIF smooth, image/sum 0.5 {lam}"
        for words in ("", ", dimensions alone") for lam in (1, 2)
    ]  # fmt: skip
    triples = {s.strength for s in more if s.by_group}
    assert triples == {(r, c, 0.0) for r in (0, 0.5, 1) for c in (0, 0.5, 1) if r != c}
    everywhere = dataclasses.replace(frequency, class_groups="rrccf")
    assert sum(s.by_group for s in over_best(args, best, False, everywhere)) == 27 - 3
    assert over_best(arguments(*FEW[:-1]), best, False, frequency) == []


def test_over_a_trained_iif_all_but_its_own_node_is_tried():
    options = {"variant": "base10", "strength": 0.5}
    found = over_base(settings(arguments(*FEW)), Base("IIF", options, trained=True))
    assert found[0].label == "IIF, as trained" and not any(s.method == "IIF" for s in found)
    assert {s.method for s in found} == {"Softmax", "NorCal", "LogitAdjustment", "FRACAL"}
    below = over_base(settings(arguments(*FEW)), Base("PCB", {"base": "IIF"}, trained=True))
    assert [s.method for s in below] == [s.method for s in found]


@pytest.mark.parametrize("trained", [False, True])
def test_the_overrides_of_each_setting_say_the_method_that_was_scored(tiny_cfg, frequency, trained):
    wanted, before = settings(arguments(*FEW)), ["MODEL.LONG_TAIL.METHOD", "Softmax"]
    wanted += over_best(arguments(*FEW), wanted[1], True, frequency)
    if trained:
        before = ["MODEL.LONG_TAIL.METHOD", "IIF", "MODEL.LONG_TAIL.IIF.VARIANT", "smooth"]
        options = method_options(tiny_cfg("mask_rcnn_R_18_FPN_softmax", *before))
        wanted = over_base([s for s in wanted if s.base is None], Base("IIF", options, True))
    for setting, method in zip(*built(wanted, frequency), strict=True):
        cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *before, *setting.overrides())
        name = cfg.MODEL.LONG_TAIL.METHOD
        again = build_method(name, frequency, **method_options(cfg))
        assert np.array_equal(again.affine(), method.affine()), setting.label


def test_models_that_it_cannot_serve_are_refused(tiny_cfg, frequency):
    plain = ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
    for overrides, message in (
        (plain, "set MODEL.ROI_HEADS.NAME to LongTailROIHeads"),
        (["MODEL.LONG_TAIL.METHOD", "EQLv2"], "config's EQLv2 takes logits for sigmoid with"),
        (["MODEL.LONG_TAIL.METHOD", "Seesaw"], "config's Seesaw takes logits for softmax and obj"),
        (["MODEL.LONG_TAIL.METHOD", "GOL"], "config's GOL takes logits for Gumbel"),
        (["MODEL.LONG_TAIL.METHOD", "DisAlign"], "config's DisAlign takes logits"),
    ):
        model = build_model(tiny_cfg("faster_rcnn_R_18_FPN_iif", *overrides))
        with pytest.raises(ConfigError, match=message):
            sweep_pass(model, [], None, [])


def test_settings_that_the_counts_do_not_allow_are_left_out(frequency, caplog):
    wanted = [
        Setting("IIF rel", 1.0, "IIF", {"variant": "rel"}),
        Setting("NorCal", 0.5, "NorCal", {"gamma": 0.5}),
    ]
    everywhere = type(frequency)(frequency.class_names, [100, 40, 10, 1, 0], None, 100)
    options = {**wanted[0].options, "normalizer": "images"}
    possible, methods = built([Setting("IIF rel", 1.0, "IIF", options), wanted[1]], everywhere)
    assert possible == wanted[1:] and len(methods) == 1
    assert "IIF rel 1 is left out" in caplog.text


def test_fracal_is_tried_with_and_without_frequencies_where_dimensions_can_be_had(
    frequency, caplog
):
    nothing_else = ["--variants", "", "--gammas", "", "--taus", ""]
    wanted = settings(arguments(*nothing_else, "--lambdas", "1,2"))
    assert [s.options for s in wanted[1:]] == [
        {"lam": lam, "with_frequency": on} for on in (True, False) for lam in (1.0, 2.0)
    ]
    assert len({setting.label for setting in wanted}) == 5
    overrides = wanted[-1].overrides()
    assert overrides[-1] == "False" and overrides[-2] == "MODEL.LONG_TAIL.FRACAL.WITH_FREQUENCY"
    assert built(wanted, frequency)[0] == wanted
    possible, _ = built(wanted, dataclasses.replace(frequency, dimension=None))
    assert possible == wanted[:1]
    assert caplog.text.count("is left out") == 1 and "--dimension" in caplog.text


def test_an_unknown_variant_is_refused_before_a_model_is_loaded(capsys):
    line = ["sweep", "--config-file", "gone.yaml", "--output", "swept"]
    assert main([*line, "--variants", "row"]) == 2
    assert "unknown IIF variant 'row'; known: raw" in capsys.readouterr().err


def test_the_slice_has_every_class_and_stays_the_same():
    rng = np.random.default_rng(0)
    images = [
        {
            "image_id": number,
            "annotations": [{"category_id": int(c)} for c in rng.choice(3, 2, p=(0.9, 0.09, 0.01))],
        }
        for number in range(400)
    ]
    chosen = class_slice(images, 5)
    counts, available = (
        [sum(any(a["category_id"] == c for a in i["annotations"]) for i in some) for c in range(3)]
        for some in (chosen, images)
    )
    assert all(count >= min(5, there) for count, there in zip(counts, available))
    assert len(chosen) <= 15
    again = class_slice(images[::-1], 5)
    assert {i["image_id"] for i in again} == {i["image_id"] for i in chosen}


def test_command_writes_its_files_and_names_a_fold_that_works(
    tiny_cfg, dataset_name, tmp_path, capsys, caplog
):
    kind = "mask_rcnn_R_18_FPN_softmax"
    LongTailCheckpointer(finding_model(tiny_cfg(kind)), str(tmp_path)).save("model")
    line = [
        "sweep", "--config-file", f"Mini-InstanceSegmentation/{kind}.yaml",
        "--output", str(tmp_path / "swept"), "--masks", "2", "--variants", "raw", "--statistics",
        "image", "--strengths", "0.5", "--gammas", "0.5", "--taus", "", "--lambdas", "2", *TINY,
        "DATASETS.TEST", "()", "MODEL.WEIGHTS", str(tmp_path / "model.pth"),
        "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "8 settings on" in said and "the model has seen them" in caplog.text
    with open(tmp_path / "swept" / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["segm_AP"]) for row in rows] == [True, True] + 6 * [False]
    assert sum(row["method"] == "FRACAL" for row in rows) == 4
    assert sum("FRACAL" in row["setting"] and "on IIF raw" in row["setting"] for row in rows) == 2
    values = [float(row["bbox_AP"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert Image.open(tmp_path / "swept" / "sweep.png").width > 1000

    command = shlex.split(said.splitlines()[-1])
    assert command[:2] == ["iif-d2", "fold"]
    assert main(command[1:]) == 0
    best = max(rows[:2], key=lambda row: float(row["segm_AP"]))
    folded = torch.load(tmp_path / "swept" / "folded.pth", weights_only=True)["folded"]
    assert (
        folded["method"] in (best["method"], "Calibrated")
        and best["overrides"] in said.splitlines()[-1]
    )

    line[line.index("()")] = f"('{dataset_name}',)"
    assert main(line) == 0 and "is in DATASETS.TEST" in caplog.text
    assert main([*line[:3], "--output", str(tmp_path), "--dataset", "gone"]) == 2


def test_a_trained_iif_is_swept_and_folded_with_the_rule_that_is_best(
    tiny_cfg, dataset_name, tmp_path, capsys
):
    """FRACAL on IIF among others: the checkpoint is IIF's own, and plain weights come out."""
    LongTailCheckpointer(finding_model(tiny_cfg()), str(tmp_path)).save("model")
    line = [
        "sweep", "--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml",
        "--output", str(tmp_path / "swept"), "--masks", "0", "--gammas", "1", "--taus", "",
        "--lambdas", "2", *TINY, "DATASETS.TEST", "()", "MODEL.WEIGHTS",
        str(tmp_path / "model.pth"), "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(line) == 0
    said = capsys.readouterr().out
    with open(tmp_path / "swept" / "sweep.csv") as file:
        labels = {row["setting"] for row in csv.DictReader(file)}
    lambdas = {f"FRACAL lambda{words} 2" for words in ("", ", dimensions alone")}
    assert labels == {"IIF, as trained", "NorCal gamma 1"} | lambdas
    command = shlex.split(said.splitlines()[-1])
    assert main(command[1:]) == 0
    content = torch.load(tmp_path / "swept" / "folded.pth", weights_only=True)
    assert content["folded"]["method"] == "Calibrated"
    assert not any(".method." in key for key in content["model"])
