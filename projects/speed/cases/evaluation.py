"""LVIS AP of 300 detections an image, from a model's outputs to the table."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

import msgspec
import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from measure import Row, compared
from simulate import write_annotations

# The repository's root, for lvis-api as the tests run it.
sys.path.append(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
DETECTIONS, HEIGHT, WIDTH = 300, 480, 640
SIMULATED = 1000  # images whose detections are held in memory


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lvis.json")
        repeat = 3 if options.full else 1
        for task in ("bbox", "segm"):
            write_evaluation_set(path, 1000)
            yield Row(
                f"LVIS {'box' if task == 'bbox' else 'mask'} AP",
                f"1,000 images x {DETECTIONS} detections",
                reference="Detectron2 and lvis-api",
                note="theirs starts from finished result dicts",
                **compared("evaluation", path, task, repeat=3, reference_repeat=repeat),
            )
        for images in (100, 1000, 5000, 20_000):
            write_evaluation_set(path, images)
            yield Row(
                "LVIS box AP",
                f"{images:,} images x {DETECTIONS} detections",
                series="images",
                x=images,
                **compared("evaluation", path, "bbox", reference=False),
            )


def ours(path: str, task: str):
    from detectron2.data import MetadataCatalog

    from iif_d2.evaluation import LongTailEvaluator

    MetadataCatalog.get("simulated").json_file = path
    # Made before the clock starts. Beyond these the detections repeat, on other images.
    made = list(itertools.islice(simulated(path, task == "segm"), SIMULATED))
    image_ids = json_image_ids(path)

    def evaluate() -> dict:
        evaluator = LongTailEvaluator("simulated", tasks=(task,))
        for image_id, (_, instances) in zip(image_ids, itertools.cycle(made)):
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
        return evaluator.evaluate()[task]

    return evaluate, digest


def theirs(path: str, task: str):
    from detectron2.evaluation.lvis_evaluation import _evaluate_predictions_on_lvis
    from lvis import LVIS

    from tests.evaluation.lvis_api import lvis_api

    lvis_api()  # lends it np.float
    logging.disable()
    results = result_dicts(path, task)

    def evaluate() -> dict:
        with contextlib.redirect_stdout(io.StringIO()):
            return _evaluate_predictions_on_lvis(LVIS(path), results, task)

    return evaluate, digest


def result_dicts(path: str, task: str) -> list[dict]:
    """The detections as Detectron2's evaluators write them."""
    results = []
    for image_id, instances in simulated(path, task == "segm"):
        boxes = instances.pred_boxes.tensor.clone()
        boxes[:, 2:] -= boxes[:, :2]
        columns = (boxes, instances.scores, instances.pred_classes + 1)
        for place, (box, score, label) in enumerate(zip(*(c.tolist() for c in columns))):
            record = {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
            if task == "segm":
                record["segmentation"] = instances.pred_masks_rle[place]
            results.append(record)
    return results


def write_evaluation_set(path: str, images: int) -> None:
    """12 objects an image, as LVIS v1 val."""
    write_annotations(path, 12 * images, images)


def json_image_ids(path: str) -> list[int]:
    return [image["id"] for image in content_of(path)["images"]]


def content_of(path: str) -> dict:
    with open(path, "rb") as file:
        return msgspec.json.decode(file.read())


def simulated(path: str, masks: bool) -> Iterator[tuple[int, Instances]]:
    """Image ids and detections: each object three times, moved, among noise of all classes."""
    from pycocotools import mask as coco_mask

    content = content_of(path)
    objects: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    outlines = [annotation["segmentation"] for annotation in content["annotations"][:4096]]
    if masks:
        encoded = [coco_mask.frPyObjects(outline, HEIGHT, WIDTH)[0] for outline in outlines]
        for rle in encoded:
            rle["counts"] = rle["counts"].decode()
        known = {id(outline): rle for outline, rle in zip(outlines, encoded)}
        by_text = {str(outline): known[id(outline)] for outline in outlines}
    rng = np.random.default_rng(1)
    for image_id, found in objects.items():
        found = 3 * found
        noise = DETECTIONS - len(found)
        truth = np.array([annotation["bbox"] for annotation in found]).reshape(-1, 4)
        boxes = np.concatenate([truth, rng.uniform(1, 200, (noise, 4))])
        boxes *= rng.uniform(0.85, 1.15, boxes.shape)
        boxes[:, 2:] += boxes[:, :2]
        labels = [annotation["category_id"] - 1 for annotation in found]
        labels = np.concatenate([labels, rng.integers(0, 1203, noise)]).astype(np.int64)
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes = Boxes(torch.from_numpy(boxes).float())
        instances.scores = torch.from_numpy(rng.permutation(DETECTIONS) / DETECTIONS).float()
        instances.pred_classes = torch.from_numpy(labels)
        if masks:
            drawn = [encoded[i] for i in rng.integers(0, len(encoded), noise)]
            own = [by_text.get(str(a["segmentation"]), encoded[0]) for a in found]
            instances.pred_masks_rle = own + drawn
        yield image_id, instances


def digest(metrics: dict) -> str:
    """To ten digits: that of lvis-api is -100 where it cannot be computed, ours nan."""
    from iif_d2.evaluation import METRICS

    return " ".join("nan" if not metrics[n] >= 0 else f"{metrics[n]:.10g}" for n in METRICS)
