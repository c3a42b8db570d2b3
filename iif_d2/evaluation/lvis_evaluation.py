"""LVIS and COCO average precision of boxes and masks, while the model runs."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table, log_first_n

from ..data.instances import require_json_order
from ..errors import ConfigError, DataError, UnknownNameError
from ..frequency import ClassFrequency
from .ap_fixed import BestPerClass
from .detections import Detections
from .ground_truth import GroundTruth
from .matching import Matcher
from .metrics import FIXED_METRICS, METRICS, check_classes, class_groups, lvis_metrics
from .results import save_class_ap
from .results_file import ResultsFile

logger = logging.getLogger(__name__)

TASKS = ("bbox", "segm")
RESULTS_FILE = "lvis_instances_results.json"  # as Detectron2 calls it


def evaluation_folder(output_dir: str, dataset: str) -> str:
    """Where a run's evaluation on this data set writes its detections and the AP of each class.

    Examples:
        >>> evaluation_folder("output/iif", "my_val")
        'output/iif/inference/my_val'
    """
    return os.path.join(output_dir, "inference", dataset)


class LongTailEvaluator(DatasetEvaluator):
    """AP, AP50, AP75, APs, APm, APl and, for rare, common and frequent classes, APr, APc, APf.

    Equal to lvis-api on a federated (LVIS) json and to pycocotools on any other, with one
    difference: the annotation with id 0 can be found here. `matching` says what is counted. Each
    image is matched when it comes and its detections are dropped, so memory does not grow with them
    and little is left to do at the end. Ranks may hold any share of the images, and an image that
    several have counts once.

    The images that were processed are scored. lvis-api and pycocotools would count the objects of
    the others as missed; a warning says how many there are.

    Args:
        dataset_name: a registered data set whose metadata has `json_file`.
        output_dir: where `per_class_ap_<task>.csv` and the results json go; None writes nothing.
        tasks: of "bbox" and "segm"; by default "bbox", and "segm" if the model predicts masks and
            the json has them.
        max_dets: best detections of an image that are scored, over all classes (LVIS: 300).
        frequency: counts of the training set, for the groups where the json states none, and for
            the csv. With neither there are no APr, APc and APf. Evaluation of a model whose method
            has counts takes those.
        write_results: also write `lvis_instances_results.json`, all detections, as LVIS's and
            COCO's servers take them; of a test set without annotations that is all there is.
        ap_fixed: also APfixed, APfixed-r, APfixed-c, APfixed-f: the best `ap_fixed_dets` of each
            class over the data set whatever `max_dets` is, which are held until the end. It needs a
            model that gives more than 300 detections an image.

    Raises:
        DataError: no such data set, a json that cannot be used, frequencies of other classes.
        ConfigError: an argument that cannot work; a json without annotations, where `write_results`
            does not ask for what it can give.

    Examples:
        >>> from detectron2.data import build_detection_test_loader
        >>> from detectron2.evaluation import inference_on_dataset
        >>> evaluator = LongTailEvaluator("my_val", tasks=["bbox"], frequency=frequency)
        >>> loader = build_detection_test_loader(cfg, "my_val")
        >>> results = inference_on_dataset(model.eval(), loader, evaluator)
        >>> list(results["bbox"])
        ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf']
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        tasks: Sequence[str] | None = None,
        max_dets: int = 300,
        frequency: ClassFrequency | None = None,
        write_results: bool = False,
        ap_fixed: bool = False,
        ap_fixed_dets: int = 10_000,
    ) -> None:
        for task in tasks or ():
            if task not in TASKS:
                raise UnknownNameError.of("evaluation task", task, TASKS)
        if max_dets < 1 or ap_fixed_dets < 1:
            raise ConfigError(
                f"max_dets is {max_dets} and ap_fixed_dets {ap_fixed_dets}; at least one detection "
                f"has to count"
            )
        if write_results and not output_dir:
            raise ConfigError("write_results needs an output_dir to write to")
        self._name = dataset_name
        self._truth = dataset_ground_truth(dataset_name)
        if not self._truth.has_annotations and not write_results:
            raise ConfigError(
                f"{self._truth.path} has no annotations, so that nothing can be scored; for the "
                f"file that a server scores set TEST.WRITE_RESULTS True, else take {dataset_name} "
                f"out of DATASETS.TEST"
            )
        if frequency is not None:
            check_classes(self._truth, frequency)
        self._frequency = frequency
        self._output_dir = output_dir
        self._tasks = tuple(tasks) if tasks else None
        self._max_dets = max_dets
        self._write_results = write_results
        self._ap_fixed_dets = ap_fixed_dets if ap_fixed else None
        self.reset()

    def reset(self) -> None:
        self._seen: set[int] = set()
        self._matchers: dict[str, Matcher] = {}
        self._fixed = None if self._ap_fixed_dets is None else BestPerClass(self._ap_fixed_dets)
        self._results = ResultsFile(self._output_dir, self._truth) if self._write_results else None

    @property
    def metric_names(self) -> list[str]:
        """What it may score of a task."""
        return [*METRICS, *(FIXED_METRICS if self._fixed is not None else ())]

    def use_frequency(self, frequency: ClassFrequency) -> None:
        """Take a model's counts and groups, whose classes are known to be the data set's."""
        names = tuple(category.name for category in self._truth.categories)
        if len(frequency) == len(names):
            self._frequency = replace(frequency, class_names=names)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Score images.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` in the image's full size: `pred_boxes`, `scores`,
                `pred_classes` and, for masks, `pred_masks` (N, H, W) or `pred_masks_rle`, N dicts.

        Raises:
            DataError: an image that the json does not have, or predictions that cannot be scored.
        """
        for input, output in zip(inputs, outputs):
            index = self._truth.index(input["image_id"])
            if index in self._seen:
                continue
            if "instances" not in output:
                raise ConfigError(
                    f"the model gives {sorted(output)} and no 'instances'; this evaluator scores "
                    f"detections, for proposals there is Detectron2's"
                )
            if output["instances"].has("pred_keypoints"):
                log_first_n(
                    logging.WARNING,
                    "keypoints are not scored, boxes and masks are; Detectron2's COCOEvaluator "
                    "scores them",
                    key="message",
                )
            source = f"{self._truth.path}, image {input['image_id']!r}"
            classes = len(self._truth.categories)
            self._process(index, Detections.from_instances(output["instances"], classes, source))
            self._seen.add(index)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """{"bbox": {"AP": ..., ...}, "segm": ...} in percent on the main rank, {} on the others.

        A number that cannot be computed, like APr without rare classes, is nan. May be called again
        after further images.
        """
        parts = comm.gather(self._part(), dst=0)
        if self._results is not None:
            path = os.path.join(self._output_dir, RESULTS_FILE)
            self._results.write(path)
            logger.info("Detections written to %s", path)
        if not comm.is_main_process():
            return {}
        seen = set().union(*(part["seen"] for part in parts))
        if not seen:
            logger.warning("No image of %s was processed; there is nothing to evaluate", self._name)
            return {}
        if not self._truth.has_annotations:
            logger.info("%s has no annotations to evaluate against", self._truth.path)
            return {}
        if len(seen) < len(self._truth):
            logger.warning(
                "%d of the %d images of %s were processed; the numbers are of those",
                len(seen), len(self._truth), self._name,
            )  # fmt: skip
        groups = class_groups(self._truth, self._frequency)
        if groups is None:
            log_first_n(
                logging.WARNING,
                f"{self._truth.path} does not say which classes are rare, and no class frequency "
                f"was given: there are no APr, APc and APf",
                key="message",
            )
        tasks = sorted(self._tasks or {task for part in parts for task in part["matchers"]})
        fixed = self._fixed_precision(parts, tasks, seen)
        results = OrderedDict()
        for task in tasks:
            states = [part["matchers"][task] for part in parts if task in part["matchers"]]
            matcher = Matcher(self._truth, task).merged(states)
            matcher.complete(seen)
            precision = matcher.precision()
            results[task] = lvis_metrics(precision, groups)
            if task in fixed:
                metrics = lvis_metrics(fixed[task], groups)
                named = FIXED_METRICS.items()
                results[task] |= {name: metrics[of] for name, of in named if of in metrics}
            self._report(task, results[task], precision, groups, seen)
        return results

    def _process(self, index: int, detections: Detections) -> None:
        """One image not seen before. A mask is encoded only where it can matter: it costs most."""
        truth = self._truth
        looked_for = truth.looked_for(index, detections.classes)
        if self._results is not None:
            detections = detections.encoded()
            self._results.add(index, detections)
        if not truth.has_annotations:
            return
        tasks = self._tasks_for(detections)
        if "segm" not in tasks:
            detections = replace(detections, masks=None)
        if self._fixed is not None:
            detections = detections.encoded(looked_for)
            self._fixed.add(index, detections)
        best = detections.best(self._max_dets)
        scored = detections.take(best[looked_for[best]]).encoded()
        for task in tasks:
            if task not in self._matchers:
                self._matchers[task] = Matcher(truth, task)
            self._matchers[task].add(index, scored)

    def _tasks_for(self, detections: Detections) -> tuple[str, ...]:
        has_masks = detections.masks is not None
        if self._tasks is None:
            return TASKS if has_masks and self._truth.has_masks else ("bbox",)
        if "segm" in self._tasks and len(detections) and not has_masks:
            raise ConfigError(
                "tasks has 'segm', but the model predicts no masks; set MODEL.MASK_ON, or leave "
                "'segm' out"
            )
        return self._tasks if has_masks else tuple(t for t in self._tasks if t != "segm")

    def _part(self) -> dict:
        """What this rank adds to the result."""
        return {
            "seen": self._seen,
            "matchers": {task: matcher.state() for task, matcher in self._matchers.items()},
            "held": None if self._fixed is None else self._fixed.held(),
        }

    def _fixed_precision(
        self, parts: list[dict], tasks: list[str], seen: set[int]
    ) -> dict[str, np.ndarray]:
        """Precision by task with the best of each class over the data set; {} if not asked for."""
        if self._fixed is None:
            return {}
        best, taken = BestPerClass(self._ap_fixed_dets), set()
        for part in parts:
            best.add_held(part["held"].take(~np.isin(part["held"].images, list(taken))))
            taken |= part["seen"]
        matchers = {task: Matcher(self._truth, task) for task in tasks}
        for index, detections in best.by_image():
            scored = detections.take(self._truth.looked_for(index, detections.classes))
            for matcher in matchers.values():
                matcher.add(index, scored)
        for matcher in matchers.values():
            matcher.complete(seen)
        return {task: matcher.precision() for task, matcher in matchers.items()}

    def _report(self, task: str, metrics: dict, precision: np.ndarray, groups, seen) -> None:
        logger.info("Evaluation results for %s: \n%s", task, create_small_table(metrics))
        if self._output_dir:
            path = os.path.join(self._output_dir, f"per_class_ap_{task}.csv")
            objects = self._truth.count(seen)
            save_class_ap(path, self._truth, self._frequency, groups, precision, objects)
            logger.info("%s AP of each class written to %s", task, path)


def dataset_ground_truth(dataset_name: str) -> GroundTruth:
    """The annotations of a registered data set.

    Raises:
        DataError: no such data set, or a json that cannot be used.
    """
    metadata = MetadataCatalog.get(dataset_name) if dataset_name in MetadataCatalog else None
    json_file = getattr(metadata, "json_file", None)
    if json_file is None:
        problem = "is not registered" if metadata is None else "has no json_file in its metadata"
        raise DataError(
            f"data set {dataset_name!r} {problem}; register it with "
            f"iif_d2.register_long_tail_instances(name, json_file, image_root)"
        )
    require_json_order(dataset_name, json_file)
    return GroundTruth(
        PathManager.get_local_path(json_file), metadata.get("thing_dataset_id_to_contiguous_id")
    )
