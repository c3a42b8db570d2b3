"""The same numbers from lvis-api itself: slow, and what the evaluator here is held against."""

from __future__ import annotations

import copy
import json
import os
import types
from collections.abc import Sequence

import numpy as np

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")  # as it names them


def lvis_api_metrics(
    json_file: str | os.PathLike,
    results: str | os.PathLike | list[dict],
    task: str,
    max_dets: int = 300,
    image_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """LVIS's nine metrics by lvis-api, in percent; nan where it gives -1.

    Args:
        json_file: an LVIS annotation file.
        results: what `lvis_instances_results.json` holds, or its path.
        task: "bbox" or "segm".
        max_dets: best detections an image; -1 for all of them.
        image_ids: only these images; by default all of the file.
    """
    evaluation_class, results_class, lvis_class = lvis_api()
    if not isinstance(results, list):
        with open(results) as file:
            results = json.load(file)
    results = copy.deepcopy(results)  # lvis-api writes into them
    if task == "segm":
        # With a box, lvis-api would take the box's area for the mask's.
        results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    truth = lvis_class(os.fspath(json_file))
    evaluation = evaluation_class(
        truth, _lvis_results(results_class, truth, results, max_dets), task
    )
    if image_ids is not None:
        evaluation.params.img_ids = sorted(image_ids)
    evaluation.run()
    computed = evaluation.get_results()
    return {
        name: float(computed[name] * 100) if computed[name] > -1 else float("nan")
        for name in METRICS
    }


def _lvis_results(results_class, truth, results: list[dict], max_dets: int):
    """lvis-api's container, which cannot be made without detections: it is emptied afterwards."""
    if results:
        return results_class(truth, results, max_dets=max_dets)
    placeholder = {"image_id": truth.get_img_ids()[0], "category_id": -1, "score": 0.0}
    container = results_class(truth, [{**placeholder, "bbox": [0.0, 0.0, 1.0, 1.0]}])
    container.dataset["annotations"] = []
    container._create_index()
    return container


def lvis_api():
    """(LVISEval, LVISResults, LVIS); `np.float`, which numpy dropped, is given to lvis-api only."""
    import lvis
    import lvis.eval as module

    if "float" not in vars(module.np):
        numpy_with_float = types.ModuleType("numpy")
        numpy_with_float.__getattr__ = lambda name: getattr(np, name)
        numpy_with_float.float = float
        module.np = numpy_with_float
    return lvis.LVISEval, lvis.LVISResults, lvis.LVIS
