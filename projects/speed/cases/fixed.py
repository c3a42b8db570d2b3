"""AP-fixed: the best 10,000 of each class over the data set, however many an image has."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import tempfile

from measure import Row, compared

from cases.evaluation import DETECTIONS, result_dicts, simulated, write_evaluation_set

IMAGES = 250
GROUPS = ("", "r", "c", "f")


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lvis.json")
        write_evaluation_set(path, IMAGES)
        yield Row(
            "AP-fixed, boxes",
            f"{IMAGES} images x {DETECTIONS} detections",
            reference="lvis-api without its cap",
            note="no class has 10,000, so that lvis-api computes the same",
            **compared("fixed", path, repeat=3, reference_repeat=1),
        )


def ours(path: str):
    from detectron2.data import MetadataCatalog

    from iif_d2.evaluation import LongTailEvaluator

    MetadataCatalog.get("simulated").json_file = path
    made = list(itertools.islice(simulated(path, masks=False), IMAGES))

    def evaluate() -> dict:
        evaluator = LongTailEvaluator("simulated", tasks=("bbox",), ap_fixed=True)
        for image_id, instances in made:
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
        return evaluator.evaluate()["bbox"]

    def digest(found: dict) -> str:
        return _digits(found["APfixed" + (f"-{group}" if group else "")] for group in GROUPS)

    return evaluate, digest


def theirs(path: str):
    from tests.evaluation.lvis_api import lvis_api_metrics

    logging.disable()
    results = result_dicts(path, "bbox")

    def evaluate() -> dict:
        with contextlib.redirect_stdout(io.StringIO()):
            return lvis_api_metrics(path, results, "bbox", max_dets=-1)

    return evaluate, lambda found: _digits(found[f"AP{group}"] for group in GROUPS)


def _digits(values) -> str:
    return " ".join(f"{value:.10g}" for value in values)
