"""The evaluator against lvis-api and pycocotools, on simulated detections over small data sets."""

import contextlib
import copy
import csv
import io
import json
import logging
import math
import pickle
import random

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from iif_d2.errors import ConfigError, DataError, UnknownNameError
from iif_d2.evaluation import LongTailEvaluator
from iif_d2.frequency import ClassFrequency
from iif_d2.process_group import end_process_group

from .lvis_api import METRICS, lvis_api, lvis_api_metrics

CATEGORY_IDS = (2, 3, 7, 8, 12, 40, 41, 90)  # with holes; the last one has no object
GROUP = dict(zip(CATEGORY_IDS, "rcfrcfrc"))
HEIGHT, WIDTH = 130, 160


def polygon(rng, x, y, w, h):
    """An octagon-like shape in the box."""
    cut_x, cut_y = w * rng.uniform(0.05, 0.45), h * rng.uniform(0.05, 0.45)
    return [x + cut_x, y, x + w - cut_x, y, x + w, y + cut_y, x + w, y + h - cut_y,
            x + w - cut_x, y + h, x + cut_x, y + h, x, y + h - cut_y, x, y + cut_y]  # fmt: skip


def make_truth(seed=0, images=12, federated=True, size=1.0):
    """A json's content: several objects an image, one image without any, one object without area."""
    rng = random.Random(seed)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": id, "name": f"class {id}"} for id in reversed(CATEGORY_IDS)],
    }
    if federated:
        for category in content["categories"]:
            category["frequency"] = GROUP[category["id"]]
    for number in range(images):
        present = []
        for _ in range(0 if number == 3 else rng.randint(1, 7)):
            w, h = rng.uniform(4, 150 * size), rng.uniform(4, 120 * size)
            x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
            present.append(rng.choice(CATEGORY_IDS[:-1]))
            content["annotations"].append({
                "id": len(content["annotations"]) + 1,
                "image_id": 1000 - 3 * number,  # descending: the json's order is not the ids'
                "category_id": present[-1],
                "bbox": [x, y, w, h],
                "area": 0.0 if number == 5 and len(present) == 1 else w * h * 0.8,
                "segmentation": [polygon(rng, x, y, w, h)],
            })  # fmt: skip
        image = {"id": 1000 - 3 * number, "height": HEIGHT, "width": WIDTH}
        if federated:
            absent = [id for id in CATEGORY_IDS if id not in present]
            image["neg_category_ids"] = rng.sample(absent, min(3, len(absent)))
            image["not_exhaustive_category_ids"] = rng.sample(present, min(1, len(present)))
        content["images"].append(image)
    return content


def simulate(content, seed=1, noise=15, masks=True, ties=True):
    """Instances by image id: objects found again with an error, and noise of all classes."""
    rng = random.Random(seed)
    class_of = {id: place for place, id in enumerate(sorted(CATEGORY_IDS))}
    outputs = {}
    for image in content["images"]:
        boxes, classes = [], []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"] and rng.random() < 0.9:
                x, y, w, h = annotation["bbox"]
                for _ in range(rng.randint(1, 3)):
                    shift = [rng.gauss(0, 0.05 * side) for side in (w, h, w, h)]
                    boxes.append([x + shift[0], y + shift[1], x + w + shift[2], y + h + shift[3]])
                    classes.append(class_of[annotation["category_id"]])
        for _ in range(noise):
            x, y = rng.uniform(0, WIDTH - 9), rng.uniform(0, HEIGHT - 9)
            boxes.append([x, y, rng.uniform(x + 1, WIDTH), rng.uniform(y + 1, HEIGHT)])
            classes.append(rng.randrange(len(CATEGORY_IDS)))
        boxes.append([5.0, 5.0, 5.0, 30.0])  # without area, in the box and in the mask
        classes.append(0)
        outputs[image["id"]] = instances(rng, boxes, classes, masks, ties)
    return outputs


def instances(rng, boxes, classes, masks=True, ties=True):
    result = Instances((HEIGHT, WIDTH))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    scores = [rng.random() for _ in classes]
    result.scores = torch.tensor([round(s, 1) if ties else s for s in scores])
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks:
        result.pred_masks = torch.zeros(len(classes), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(result.pred_masks, boxes):
            mask[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
    return result


@pytest.fixture
def register(tmp_path):
    """Writes a json and registers it; returns the data set's name and the path."""
    names = []

    def _register(content, **metadata):
        name = f"evaluation_test_{len(names)}"
        path = tmp_path / f"{name}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        MetadataCatalog.get(name).set(json_file=str(path), **metadata)
        names.append(name)
        return name, str(path)

    yield _register
    for name in names:
        MetadataCatalog.remove(name)


def run(name, outputs, **options):
    evaluator = LongTailEvaluator(name, **options)
    evaluator.reset()
    for image_id, found in outputs.items():
        evaluator.process([{"image_id": image_id}], [{"instances": found}])
    return evaluator.evaluate()


def exact(results):
    """For comparing to the last bit, with nan equal to nan."""
    return {task: {name: repr(value) for name, value in results[task].items()} for task in results}


def assert_same(actual, expected):
    for metric, value in expected.items():
        assert actual[metric] == pytest.approx(value, abs=1e-9, nan_ok=True), metric


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_dets", [300, 9])
def test_equals_lvis_api(register, tmp_path, seed, max_dets):
    content = make_truth(seed)
    name, path = register(content)
    results = run(
        name, simulate(content, seed), output_dir=str(tmp_path), write_results=True,
        max_dets=max_dets,
    )  # fmt: skip
    assert list(results) == ["bbox", "segm"]
    for task in results:
        expected = lvis_api_metrics(
            path, tmp_path / "lvis_instances_results.json", task, max_dets=max_dets
        )
        assert tuple(results[task]) == METRICS
        assert 5 < expected["AP"] < 95
        assert_same(results[task], expected)


@pytest.mark.parametrize("seed", range(2))
def test_ignore_is_lvis_apis(register, tmp_path, seed):
    """Flagged objects neither match nor miss, and change nothing where there are none."""
    content = make_truth(seed)
    outputs = simulate(content, seed)
    plain = run(register(content)[0], outputs)
    for place, annotation in enumerate(content["annotations"]):
        annotation["ignore"] = int(place % 3 == 0)
    name, path = register(content)
    results = run(name, outputs, output_dir=str(tmp_path), write_results=True)
    for task in ("bbox", "segm"):
        expected = lvis_api_metrics(path, tmp_path / "lvis_instances_results.json", task)
        assert tuple(results[task]) == METRICS and 5 < expected["AP"] < 95
        assert_same(results[task], expected)
        assert results[task]["AP"] != plain[task]["AP"]
    with open(tmp_path / "per_class_ap_bbox.csv", newline="") as file:
        to_find = sum(int(row["ground_truths"]) for row in csv.DictReader(file))
    kept = [a for a in content["annotations"] if not a["ignore"] and a["area"] > 0]
    assert to_find == len(kept)
    for annotation in content["annotations"]:
        annotation["ignore"] = 0
    assert exact(run(register(content)[0], outputs)) == exact(plain)


def test_subset_of_the_images(register, tmp_path, caplog):
    content = make_truth(4)
    name, path = register(content)
    outputs = dict(list(simulate(content).items())[:5])
    with caplog.at_level(logging.WARNING, logger="iif_d2"):
        results = run(name, outputs, output_dir=str(tmp_path), write_results=True)
    assert "5 of the 12 images" in caplog.text
    for task in results:
        assert_same(
            results[task],
            lvis_api_metrics(
                path, tmp_path / "lvis_instances_results.json", task, image_ids=list(outputs)
            ),
        )


def test_no_detections(register, tmp_path):
    content = make_truth(5)
    name, path = register(content)
    empty = instances(random, [], [])
    results = run(name, {image["id"]: empty for image in content["images"]})
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == 0
        assert_same(results[task], lvis_api_metrics(path, [], task))


def test_nan_where_there_is_nothing_to_find(register, tmp_path):
    content = make_truth(6, size=0.2)
    for category in content["categories"]:
        category["frequency"] = "f"
    name, _ = register(content)
    results = run(name, simulate(content), output_dir=str(tmp_path))
    for metric in ("APr", "APc", "APl"):
        assert math.isnan(results["bbox"][metric]) and math.isnan(results["segm"][metric])
    assert results["bbox"]["APf"] == results["bbox"]["AP"]


def pycocotools_metrics(path, results, task, max_dets=300):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        detections = copy.deepcopy(results)
        if task == "segm":
            for detection in detections:
                del detection["bbox"]
        evaluation = COCOeval(truth, truth.loadRes(detections), task)
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]

    def mean(part):
        return 100 * part[part > -1].mean()

    return {
        "AP": mean(precision[..., 0]), "AP50": mean(precision[0, ..., 0]),
        "AP75": mean(precision[5, ..., 0]), "APs": mean(precision[..., 1]),
        "APm": mean(precision[..., 2]), "APl": mean(precision[..., 3]),
    }  # fmt: skip


def test_coco_json_equals_pycocotools(register, tmp_path):
    """Crowds included; the cap is above the detections of an image, where the protocols meet."""
    content = make_truth(7, federated=False)
    for place, annotation in enumerate(content["annotations"]):
        annotation["iscrowd"] = int(place % 4 == 0)
        if not annotation["iscrowd"]:
            continue
        x, y, w, h = (int(side) for side in annotation["bbox"])
        crowd = np.zeros((HEIGHT, WIDTH), dtype=bool)
        crowd[y : y + h, x : x + w] = True
        runs = np.flatnonzero(np.diff(np.concatenate([[0], crowd.flatten("F"), [0]]))).tolist()
        counts = np.diff([0, *runs, HEIGHT * WIDTH]).tolist()
        annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    name, path = register(content)
    results = run(name, simulate(content), output_dir=str(tmp_path), write_results=True)
    detections = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    for task in ("bbox", "segm"):
        expected = pycocotools_metrics(path, detections, task)
        assert tuple(results[task]) == METRICS[:6]  # nothing says which classes are rare
        assert_same(results[task], expected)


def test_coco_json_ignores_the_flag_and_counts_the_annotation_with_id_0(register, tmp_path):
    """pycocotools overwrites `ignore`, and takes a match with id 0 for none, which ours does not."""
    content = make_truth(7, federated=False)
    outputs = simulate(content)
    for place, annotation in enumerate(content["annotations"]):
        annotation |= {"iscrowd": 0, "ignore": int(place % 3 == 0)}
    name, path = register(content)
    from_1 = run(name, outputs, output_dir=str(tmp_path), write_results=True)
    detections = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    for annotation in content["annotations"]:
        annotation["id"] -= 1
    name, path_0 = register(content)
    assert exact(run(name, outputs)) == exact(from_1)
    for task in ("bbox", "segm"):
        assert_same(from_1[task], pycocotools_metrics(path, detections, task))
        assert pycocotools_metrics(path_0, detections, task)["AP"] < from_1[task]["AP"]


def test_coco_json_is_lvis_with_every_class_looked_for(register):
    """Without crowds and objects of no area, COCO's protocol is LVIS's with all other classes absent."""
    content = make_truth(8, federated=False)
    content["annotations"] = [a for a in content["annotations"] if a["area"] > 0]
    outputs = {id: found[found.pred_boxes.area() > 0] for id, found in simulate(content).items()}
    as_coco = run(register(content)[0], outputs)
    for image in content["images"]:
        present = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
        image["neg_category_ids"] = sorted(set(CATEGORY_IDS) - present)
        image["not_exhaustive_category_ids"] = []
    as_lvis = run(register(content)[0], outputs)
    assert exact(as_coco) == exact(as_lvis)


def test_rle_masks_equal_pasted_ones(register):
    from pycocotools import mask as coco_mask

    content = make_truth(9)
    name, _ = register(content)
    outputs = simulate(content)
    encoded = {}
    for id, found in outputs.items():
        encoded[id] = Instances(found.image_size, **{
            key: value for key, value in found.get_fields().items() if key != "pred_masks"
        })  # fmt: skip
        columns = np.asfortranarray(found.pred_masks.permute(1, 2, 0).numpy().astype(np.uint8))
        encoded[id].pred_masks_rle = coco_mask.encode(columns)
    assert exact(run(name, outputs)) == exact(run(name, encoded))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_results_file_is_detectron2s(register, tmp_path, monkeypatch):
    from detectron2.evaluation import LVISEvaluator

    # Far less than an image's line: lines come in pieces, as the end of every chunk does.
    monkeypatch.setattr("iif_d2.evaluation.results_file._CHUNK", 1000)

    content = make_truth(10)
    contiguous = {id: place for place, id in enumerate(sorted(CATEGORY_IDS))}
    name, _ = register(content, thing_dataset_id_to_contiguous_id=contiguous)
    outputs = simulate(content)
    run(name, outputs, output_dir=str(tmp_path / "ours"), write_results=True)
    theirs = LVISEvaluator(name, output_dir=str(tmp_path / "theirs"))
    theirs._do_evaluation = False  # lvis-api has not been given np.float yet
    theirs.reset()
    for id, found in outputs.items():
        theirs.process([{"image_id": id}], [{"instances": found}])
    theirs.evaluate()
    name = "lvis_instances_results.json"
    ours, theirs = (json.loads((tmp_path / who / name).read_text()) for who in ("ours", "theirs"))
    assert ours == theirs


def test_per_class_table(register, tmp_path):
    content = make_truth(11)
    name, _ = register(content)
    counts = [3, 20, 500, 5, 50, 600, 0, 12]
    frequency = ClassFrequency(
        tuple(f"class {id}" for id in CATEGORY_IDS), np.array(counts), None, 1000
    )
    results = run(name, simulate(content), output_dir=str(tmp_path), frequency=frequency)
    for task in results:
        with open(tmp_path / f"per_class_ap_{task}.csv") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["category_id"]) for row in rows] == list(CATEGORY_IDS)
        assert [int(row["training_images"]) for row in rows] == counts
        assert [row["group"] for row in rows] == [GROUP[id] for id in CATEGORY_IDS]
        objects = [
            sum(a["category_id"] == id and a["area"] > 0 for a in content["annotations"])
            for id in CATEGORY_IDS
        ]
        assert [int(row["ground_truths"]) for row in rows] == objects
        assert rows[-1]["AP"] == "nan"
        for key in ("AP", "AP50"):
            values = [float(row[key]) for row in rows if int(row["ground_truths"])]
            assert np.mean(values) == pytest.approx(results[task][key], abs=1e-5)


def test_groups_come_from_the_training_set(register):
    """A json that states no groups takes them from the counts, and gives the same numbers."""
    content = make_truth(12)
    outputs = simulate(content)
    stated = run(register(content)[0], outputs)
    for category in content["categories"]:
        del category["frequency"]
    images = np.array([{"r": 10, "c": 100, "f": 101}[GROUP[id]] for id in CATEGORY_IDS])
    frequency = ClassFrequency(tuple(f"class {id}" for id in CATEGORY_IDS), images, None, 200)
    counted = run(register(content)[0], outputs, frequency=frequency)
    assert exact(counted) == exact(stated)
    other = ClassFrequency(tuple("abcdefgh"), images, None, 200)
    with pytest.raises(DataError, match="class 0 is 'class 2' against 'a'"):
        run(register(content)[0], outputs, frequency=other)


@pytest.mark.parametrize("limit", [4, 10_000])
def test_ap_fixed(register, tmp_path, limit):
    """The best of each class over all images, by lvis-api without its cap on images."""
    content = make_truth(13)
    name, path = register(content)
    results = run(
        name, simulate(content, ties=False), output_dir=str(tmp_path), write_results=True,
        ap_fixed=True, ap_fixed_dets=limit, max_dets=5,
    )  # fmt: skip
    detections = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    best = []
    for id in CATEGORY_IDS:
        of_class = [d for d in detections if d["category_id"] == id]
        best += sorted(of_class, key=lambda d: -d["score"])[:limit]
    for task in results:
        assert_same(results[task], lvis_api_metrics(path, detections, task, max_dets=5))
        fixed = lvis_api_metrics(path, best, task, max_dets=-1)
        assert_same(results[task], {
            "APfixed": fixed["AP"], "APfixed-r": fixed["APr"],
            "APfixed-c": fixed["APc"], "APfixed-f": fixed["APf"],
        })  # fmt: skip


def test_best_per_class_prunes_as_it_goes():
    from iif_d2.evaluation.ap_fixed import BestPerClass
    from iif_d2.evaluation.detections import Detections

    rng = np.random.default_rng(0)
    images = [
        Detections(rng.random((50, 4)), rng.integers(0, 30, 50) / 30, rng.integers(0, 5, 50))
        for _ in range(40)
    ]
    once, often = BestPerClass(limit=20), BestPerClass(limit=20)
    for image, detections in enumerate(images):
        once.add(image, detections)
    for image, detections in reversed(list(enumerate(images))):
        often.add(image, detections)
        often.held()
    for a, b in ((once.held(), often.held()),):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.boxes, b.boxes)  # no two are alike: the same ones, in order
        assert np.bincount(a.classes).tolist() == [20] * 5


OPTIONS = dict(write_results=True, ap_fixed=True, ap_fixed_dets=6)


def evaluate_share(rank, name, path, outputs, folder):
    """One rank's evaluation of its share; the shares are uneven and overlap."""
    import torch.distributed as dist
    from detectron2.utils import comm

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    MetadataCatalog.get(name).set(json_file=path)
    share = [list(outputs)[:8], list(outputs)[6:]][rank]
    results = run(name, {id: outputs[id] for id in share}, output_dir=folder, **OPTIONS)
    with open(f"{folder}/results_{rank}.pkl", "wb") as file:
        pickle.dump(results, file)
    end_process_group()


def test_two_ranks_give_the_numbers_of_one(register, tmp_path):
    content = make_truth(14)
    name, path = register(content)
    outputs = simulate(content)
    alone = tmp_path / "alone"
    expected = run(name, outputs, output_dir=str(alone), **OPTIONS)
    torch.multiprocessing.spawn(evaluate_share, (name, path, outputs, str(tmp_path)), nprocs=2)
    results = [pickle.loads((tmp_path / f"results_{rank}.pkl").read_bytes()) for rank in range(2)]
    assert exact(results[0]) == exact(expected)
    assert results[1] == {}
    for file in ("per_class_ap_bbox.csv", "per_class_ap_segm.csv"):
        assert (tmp_path / file).read_text() == (alone / file).read_text()
    written, alone = (
        json.loads((folder / "lvis_instances_results.json").read_text())
        for folder in (tmp_path, alone)
    )
    assert sorted(written, key=str) == sorted(alone, key=str)


def test_many_shares_give_the_numbers_of_one(register, monkeypatch):
    """As between ranks, but in one process: shares without images, and one without any masks."""
    content = make_truth(14)
    name, _ = register(content)
    outputs = simulate(content)
    first, *others = outputs
    outputs[first] = instances(random, [], [], masks=False)
    parts = []
    for share in ([first], [], others[:7], others[5:]):
        evaluator = LongTailEvaluator(name, ap_fixed=True, ap_fixed_dets=6)
        for id in share:
            evaluator.process([{"image_id": id}], [{"instances": outputs[id]}])
        parts.append(pickle.loads(pickle.dumps(evaluator._part())))
    monkeypatch.setattr("detectron2.utils.comm.gather", lambda *args, **kwargs: parts)
    merged = evaluator.evaluate()
    monkeypatch.undo()
    outputs[first] = instances(random, [], [])
    assert exact(merged) == exact(run(name, outputs, ap_fixed=True, ap_fixed_dets=6))


def test_evaluate_again_and_reset(register):
    content = make_truth(15)
    name, _ = register(content)
    outputs = list(simulate(content).items())
    evaluator = LongTailEvaluator(name, ap_fixed=True)
    assert evaluator.evaluate() == {}
    for id, found in outputs[:6]:
        evaluator.process([{"image_id": id}], [{"instances": found}])
    first = exact(evaluator.evaluate())
    assert exact(evaluator.evaluate()) == first
    evaluator.process(
        [{"image_id": id} for id, _ in outputs], [{"instances": found} for _, found in outputs]
    )
    whole = exact(evaluator.evaluate())
    assert whole == exact(run(name, dict(outputs), ap_fixed=True)) != first
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_boxes_only(register):
    content = make_truth(16)
    both = run(register(content)[0], simulate(content))
    boxes = exact({"bbox": both["bbox"]})
    assert exact(run(register(content)[0], simulate(content), tasks=("bbox",))) == boxes
    without = simulate(content, masks=False)
    assert exact(run(register(content)[0], without)) == boxes
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    assert exact(run(register(content)[0], simulate(content))) == boxes
    with pytest.raises(ConfigError, match="MODEL.MASK_ON"):
        run(register(content)[0], without, tasks=("bbox", "segm"))


def test_test_set_without_annotations(register, tmp_path):
    content = make_truth(17)
    outputs = simulate(content)
    del content["annotations"]
    name, path = register(content)
    with pytest.raises(ConfigError, match=f"{path} has no annot.*; .* TEST.WRITE_RESULTS True"):
        LongTailEvaluator(name, output_dir=str(tmp_path))
    assert run(name, outputs, output_dir=str(tmp_path), write_results=True) == {}
    detections = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    assert len(detections) == sum(len(found) for found in outputs.values())


def test_names_for_image_ids(register):
    """Ids that are text: the numbers do not depend on what images are called."""
    content = make_truth(18)
    outputs = simulate(content, ties=False)
    expected = run(register(content)[0], outputs)
    for record in [*content["images"], *content["annotations"]]:
        key = "image_id" if "image_id" in record else "id"
        record[key] = f"photograph {record[key]}"
    outputs = {f"photograph {id}": found for id, found in outputs.items()}
    assert exact(run(register(content)[0], outputs)) == exact(expected)


class TestBadInput:
    def test_unknown_data_set(self):
        with pytest.raises(DataError, match="'nowhere' is not registered; register it with"):
            LongTailEvaluator("nowhere")
        assert "nowhere" not in MetadataCatalog.list()

    def test_data_set_without_json(self):
        MetadataCatalog.get("evaluation_test_no_json").thing_classes = ["a"]
        with pytest.raises(DataError, match="has no json_file"):
            LongTailEvaluator("evaluation_test_no_json")
        MetadataCatalog.remove("evaluation_test_no_json")

    def test_json_without_images(self, register):
        content = make_truth()
        content["images"] = []
        name, path = register(content)
        with pytest.raises(DataError, match=f"{path}: 'images' is empty"):
            LongTailEvaluator(name)
        del content["images"]
        with pytest.raises(DataError, match="missing required field `images`"):
            LongTailEvaluator(register(content)[0])

    def test_json_cut_short(self, register):
        with pytest.raises(DataError, match="copy or download it again"):
            LongTailEvaluator(register(json.dumps(make_truth())[:-20])[0])

    def test_federated_in_part(self, register):
        content = make_truth()
        del content["images"][0]["neg_category_ids"]
        with pytest.raises(DataError, match="image 1000 and 0 more have no neg_category_ids"):
            LongTailEvaluator(register(content)[0])

    def test_predictions_of_another_data_set(self, register):
        name, path = register(make_truth())
        with pytest.raises(DataError, match=f"{path} has no image with id 1; .*|.*id 1, but"):
            run(name, {1: instances(random, [], [])})

    def test_class_that_does_not_exist(self, register):
        name, _ = register(make_truth())
        with pytest.raises(DataError, match="image 1000: class 8 .* 8 classes; .*NUM_CLASSES"):
            run(name, {1000: instances(random, [[0, 0, 9, 9]], [8])})

    def test_score_that_is_not_a_number(self, register):
        name, _ = register(make_truth())
        found = instances(random, [[0, 0, 9, 9]], [0])
        found.scores[0] = math.nan
        with pytest.raises(DataError, match="image 1000: .*not a finite number"):
            run(name, {1000: found})

    def test_masks_of_another_size(self, register):
        content = make_truth()
        name, _ = register(content)
        outputs = simulate(content)
        outputs[1000].pred_masks = outputs[1000].pred_masks[:, :80]
        with pytest.raises(DataError, match=r"image 1000 is \(130, 160\) .* masks are \(80, 160\)"):
            run(name, outputs)

    def test_object_without_a_mask(self, register):
        content = make_truth()
        outputs = simulate(content)
        content["annotations"][0]["segmentation"] = []
        name, path = register(content)
        with pytest.raises(DataError, match=f"{path}: .*image 1000 .*has no segmentation"):
            run(name, outputs)
        assert list(run(name, outputs, tasks=["bbox"])) == ["bbox"]

    def test_metadata_of_other_classes(self, register):
        name, _ = register(make_truth(), thing_dataset_id_to_contiguous_id={1: 0, 2: 1})
        with pytest.raises(DataError, match="8 categories and the data set's metadata 2"):
            LongTailEvaluator(name)

    def test_arguments(self, register):
        name, _ = register(make_truth())
        with pytest.raises(UnknownNameError, match="'keypoints'; known: bbox, segm"):
            LongTailEvaluator(name, tasks=["keypoints"])
        with pytest.raises(ConfigError, match="needs an output_dir"):
            LongTailEvaluator(name, write_results=True)
        with pytest.raises(ConfigError, match="max_dets is 0"):
            LongTailEvaluator(name, max_dets=0)
        with pytest.raises(ConfigError, match="'proposals'"):
            LongTailEvaluator(name).process([{"image_id": 1000}], [{"proposals": None}])


def test_lvis_api_shim_leaves_numpy_alone():
    module = pytest.importorskip("lvis.eval")
    lvis_api()
    assert module.np.float is float
    assert module.np.linspace is np.linspace
    assert "float" not in vars(np)


def test_keypoints_are_said_not_to_be_scored(register, caplog):
    content, rng = make_truth(), random.Random(0)
    name, _ = register(content)
    found = instances(rng, [[1.0, 1, 9, 9]], [0])
    found.pred_keypoints = torch.zeros(1, 3, 3)
    evaluator = LongTailEvaluator(name)
    with caplog.at_level(logging.WARNING):
        for image in content["images"][:2]:
            evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    assert caplog.text.count("keypoints are not scored") == 1
