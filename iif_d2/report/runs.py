"""What a run's folder holds, and the detections that it does not hold yet."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from detectron2.data import build_detection_test_loader
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from tqdm import tqdm

from ..annotations.decoding import decode_json
from ..annotations.masks import mask_problem
from ..annotations.schema import Id, Rle
from ..checkpoint import load_trained_model, trained_frequency
from ..config import load_config
from ..data import LongTailDatasetMapper
from ..errors import ConfigError, DataError
from ..evaluation import Detections, LongTailEvaluator, rle_masks
from ..evaluation.ground_truth import GroundTruth
from ..evaluation.lvis_evaluation import RESULTS_FILE, evaluation_folder
from ..evaluation.results import Results, load_class_ap, load_results, save_results
from ..files import local_path
from ..frequency import ClassFrequency


class _Line(msgspec.Struct, gc=False):
    """A detection of a results json; its mask stays as it was read, for most are not looked at."""

    image_id: Id
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    segmentation: msgspec.Raw = msgspec.Raw(b"null")

    def record(self, size: tuple[int, int], path: str) -> dict[str, Any]:
        """As `Detections` takes it; its mask is checked, for drawing trusts it.

        Raises:
            DataError: a mask that is none of an image of this (height, width).
        """
        record: dict[str, Any] = msgspec.structs.asdict(self)
        del record["segmentation"]
        if bytes(self.segmentation) == b"null":  # of a model without masks
            return record
        try:
            mask = msgspec.json.decode(self.segmentation, type=Rle)
            problem = mask_problem(mask, *size)
        except msgspec.ValidationError as error:
            problem = f"is not a run-length mask: {error}"
        if problem:
            raise DataError(
                f"{path}: the segmentation of a detection in image {self.image_id} {problem}; "
                f"evaluate the model on this data set again"
            )
        return record | {"segmentation": msgspec.to_builtins(mask)}


def name_runs(runs: Sequence[Run]) -> None:
    """Call each by its method, or where two have the same by its folder."""
    for names in (
        [str(run.cfg.MODEL.LONG_TAIL.METHOD) for run in runs],
        [os.path.basename(os.path.abspath(run.folder)) for run in runs],
        [f"{run.folder} ({number})" for number, run in enumerate(runs, start=1)],
    ):
        if len(set(names)) == len(runs):
            break
    for run, name in zip(runs, names):
        run.name = name


class Run:
    """One OUTPUT_DIR.

    Args:
        folder: has config.yaml, a checkpoint, and what training and evaluation left.
        opts: KEY VALUE overrides of its config.

    Attributes:
        name: what the page calls it; `name_runs` sets it.
        model: the trained model.

    Raises:
        DataError: the folder is no run's.
        CheckpointError: its checkpoint cannot be used.
    """

    def __init__(self, folder: str, opts: Sequence[str] = ()) -> None:
        config = os.path.join(folder, "config.yaml")
        if not os.path.isfile(config):
            raise DataError(f"{folder} has no config.yaml; give the OUTPUT_DIR of a run")
        self.folder = folder
        self.name = os.path.basename(os.path.abspath(folder))
        self.cfg = load_config(config, [*opts, "OUTPUT_DIR", folder])
        trained = os.path.isfile(os.path.join(folder, "last_checkpoint"))
        if not trained and "MODEL.WEIGHTS" not in opts:  # anybody may have written the config
            local_path(self.cfg.MODEL.WEIGHTS, f"{config}: MODEL.WEIGHTS")
        self.model = load_trained_model(self.cfg, resume=True)
        self._places: list[str] = []

    @property
    def predictor(self) -> FastRCNNOutputLayers:
        """The box predictor that decides the scores; of a cascade the last stage's."""
        found = [m for m in self.model.modules() if isinstance(m, FastRCNNOutputLayers)]
        if not found:
            raise ConfigError(f"the model of {self.folder} has no Fast R-CNN box predictor")
        return found[-1]

    def frequency(self, class_names: Sequence[str]) -> ClassFrequency | None:
        """The counts it was trained with: the checkpoint's, else the config's, else None."""
        counts = trained_frequency(self.cfg, self.model)
        if counts is not None and len(counts) == len(class_names):
            return replace(counts, class_names=tuple(class_names))  # a checkpoint may have no names
        return counts

    def norms(self, num_classes: int) -> np.ndarray:
        """(C,): the length of each class's row in the classifier."""
        weight = self.predictor.cls_score.weight.detach().float()
        return weight.norm(dim=1).cpu().numpy()[:num_classes]

    def class_weights(self, num_classes: int) -> tuple[str, np.ndarray] | None:
        """What the method does to a class's logit at test: ("factor" or "shift", (C,)).

        None where it leaves all classes alike, or is no factor and no shift.
        """
        method = getattr(self.predictor, "method", None)
        try:
            scale, shift = (values[:num_classes] for values in method.affine())
        except (AttributeError, ConfigError):
            return None
        for what, values in (("factor", scale), ("shift", shift)):
            if np.ptp(values):
                return what, values
        return None

    def prepare(self, dataset: str, records: list[dict], truth: GroundTruth) -> None:
        """Find the run's detections on these images, or make and keep them.

        They are looked for where evaluation writes them, then where an earlier report did, on these
        images or on all; older ones than the checkpoint's are not used. Nothing of the run's own is
        changed.
        """
        part = "" if len(records) == len(truth) else f"-{len(records)}"
        evaluated = evaluation_folder(self.folder, dataset)
        ours, whole = (os.path.join(self.folder, "report", dataset + p) for p in (part, ""))
        self._places = list(dict.fromkeys((evaluated, ours, whole)))
        fresh = [
            place for place in self._places if self._is_fresh(os.path.join(place, RESULTS_FILE))
        ]
        if not fresh:
            self._detect(dataset, records, truth, ours)
        self._results = os.path.join(fresh[0] if fresh else ours, RESULTS_FILE)

    def detections(self, truth: GroundTruth) -> Detections:
        """All of them, without masks; `images` are the annotation file's ids."""
        category_ids = [category.id for category in truth.categories]
        return Detections.from_json(self._results, category_ids, masks=False)

    def shown(self, truth: GroundTruth, image_ids: Sequence[Id]) -> list[Detections]:
        """Those in each of these images, with masks where the run has them."""
        sizes = {image_id: truth.size(truth.index(image_id)) for image_id in image_ids}
        lines = decode_json(self._results, list[_Line], "a results file of detections")
        records = [
            line.record(sizes[line.image_id], self._results)
            for line in lines
            if line.image_id in sizes
        ]
        category_ids = [category.id for category in truth.categories]
        found = Detections.from_json(records, category_ids)
        return [found.take(found.images == image_id) for image_id in image_ids]

    def results(self) -> Results:
        """The run's own numbers, else the report's; none that are older than the checkpoint."""
        for path in (
            os.path.join(self.folder, "inference", "results.json"),
            *(os.path.join(place, "results.json") for place in self._places[1:]),
        ):
            if self._is_fresh(path):
                return load_results(path)
        return {}

    def per_class(self, task: str, num_classes: int) -> np.ndarray | None:
        """(C,) AP in percent of "bbox" or "segm", nan without objects; None where not evaluated."""
        for place in self._places:
            path = os.path.join(place, f"per_class_ap_{task}.csv")
            if self._is_fresh(path):
                return load_class_ap(path, num_classes)
        return None

    def curves(self) -> dict[str, tuple[list, list]]:
        """Iterations and values of each scalar of metrics.json; {} without one."""
        path = os.path.join(self.folder, "metrics.json")
        curves: dict[str, tuple[list, list]] = {}
        if not os.path.isfile(path):
            return curves
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record: dict[str, Any] = json.loads(line)
                    record["iteration"] = int(record["iteration"])
                except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
                    continue  # the last line of a killed run
                for key, value in record.items():
                    if key != "iteration" and isinstance(value, float) and math.isfinite(value):
                        steps, values = curves.setdefault(key, ([], []))
                        steps.append(record["iteration"])
                        values.append(value)
        return curves

    def _is_fresh(self, path: str) -> bool:
        """Whether the file is there and no older than the checkpoint."""
        if not os.path.isfile(path):
            return False
        last = os.path.join(self.folder, "last_checkpoint")
        weights = self.cfg.MODEL.WEIGHTS
        if os.path.isfile(last):
            with open(last) as file:
                weights = os.path.join(self.folder, file.read().strip())
        return not os.path.isfile(weights) or os.path.getmtime(path) >= os.path.getmtime(weights)

    def _detect(self, dataset: str, records: list[dict], truth: GroundTruth, folder: str) -> None:
        frequency = self.frequency([category.name for category in truth.categories])
        evaluator = LongTailEvaluator(dataset, folder, frequency=frequency, write_results=True)
        loader = build_detection_test_loader(
            records,
            mapper=LongTailDatasetMapper(self.cfg, False),
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
        )
        model = rle_masks(self.model, self.cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST)
        with torch.no_grad():
            for inputs in tqdm(loader, desc=f"detecting with {self.name}", unit="image"):
                evaluator.process(inputs, model(inputs))
        save_results(os.path.join(folder, "results.json"), {dataset: evaluator.evaluate()})
