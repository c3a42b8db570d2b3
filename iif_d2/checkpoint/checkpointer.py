"""Detectron2's checkpointer: checkpoints are written whole, and what does not fit is said."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import CheckpointError, DataError, DivergedError, IIFError
from ..files import write_atomically
from ..files.tensors import save_tensors
from ..frequency import ClassFrequency
from ..methods import LongTailMethod, Reads
from .carried import CONFIG, FREQUENCY
from .classes import KEY, disagreement, first_class_names, saved_class_names
from .frequencies import model_frequency
from .reading import read_checkpoint, unwrapped

logger = logging.getLogger(__name__)


class LongTailCheckpointer(DetectionCheckpointer):
    """Saves and loads as `DetectionCheckpointer` does.

    Attributes:
        strict_shapes: refuse a checkpoint whose layers have other sizes or that lacks some, for
            resuming and evaluating. Otherwise such layers start anew and are named, for fine-tuning
            from another data set.
        datasets: registered data sets that the model is used on, in training those it learns from.
            A checkpoint carries their class names; one of other names is refused where
            `strict_shapes` is set, else that is said.
        config: the yaml text of the model's config, which a checkpoint carries; "" for none. A
            `.py` config is code, and no code is carried.
        class_frequency: gives the counts of the training data, which a checkpoint carries where
            the model's method needs and holds none.
        average: gives the tensors, by name, that are saved in place of the model's own.
    """

    strict_shapes = False
    datasets: Sequence[str] = ()
    config = ""
    class_frequency: Callable[[], ClassFrequency] | None = None
    average: Callable[[], dict[str, torch.Tensor]] | None = None
    _remedy = "evaluate and resume with the config it was trained with"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sound: set[str] = set()  # checkpoints that were found whole

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<name>.pth` in one step, so that a killed run leaves no half a checkpoint.

        It is what --resume goes on from.

        Raises:
            CheckpointError: it cannot be written.
            DivergedError: weights are NaN or infinite; the last checkpoint stays the good one.
        """
        if self._write(name, self.checkpointables, kwargs):
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **kwargs: Any) -> bool:
        """The same without the states of a training, and not to go on from; whether it is written.

        Raises:
            CheckpointError, DivergedError: see `save`.
        """
        return self._write(name, {}, kwargs)

    def _write(self, name: str, states: dict[str, Any], others: dict[str, Any]) -> bool:
        if not self.save_dir or not self.save_to_disk:
            return False
        counts = self._counts()
        data = {"model": self.model.state_dict()}
        if self.average is not None:
            data["model"].update(self.average())
        data["methods"] = method_records(self.model)
        if names := first_class_names(self.datasets):
            data[KEY] = list(names)
        if self.config:
            data[CONFIG] = self.config
        if counts:
            data[FREQUENCY] = counts.to_json()
        _check_finite(name, data["model"])
        data.update({key: obj.state_dict() for key, obj in states.items()})
        data.update(others)
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        try:
            save_tensors(path, data)
        except DataError as error:
            raise CheckpointError(f"{error}; earlier checkpoints are as they were") from None
        return True

    def _counts(self) -> ClassFrequency | None:
        if self.class_frequency is None or model_frequency(self.model):
            return None
        try:
            return self.class_frequency()
        except IIFError:  # a data set may tell no counts
            return None

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_atomically(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)

    def get_checkpoint_file(self) -> str:
        """The last checkpoint of `save_dir`; where it is damaged, the last one before it.

        Raises:
            CheckpointError: none is whole.
        """
        last = super().get_checkpoint_file()
        if not last or last in self._sound:
            return last
        name = os.path.basename(last)
        saved = [n for n in os.listdir(self.save_dir) if re.fullmatch(r"model_\d+\.pth", n)]
        earlier = sorted((n for n in saved if n < name or name not in saved), reverse=True)
        for path in (last, *(os.path.join(self.save_dir, n) for n in earlier)):
            if _is_whole(path):
                if path != last:
                    logger.warning("%s is used instead, the checkpoint before it", path)
                    self.tag_last_checkpoint(os.path.basename(path))
                self._sound.add(path)
                return path
            logger.warning("checkpoint %s is missing or damaged, as by a full disk", path)
        raise CheckpointError(
            f"no checkpoint of {self.save_dir} is whole; begin anew in another OUTPUT_DIR, or copy "
            f"one back"
        )

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint or a model-zoo file; "" loads nothing.

        Raises:
            CheckpointError: it is missing or damaged, nothing of it fits, its weights are adjusted
                or trained for another method, or, with `strict_shapes`, of other sizes or not all,
                or its classes are others than the data's.
        """
        # A copy of what an address names is kept under the address's path.
        if path and "://" in path and ".." in re.split(r"[/\\]", path):
            raise CheckpointError(f"checkpoint {path} has '..' in its address; give a plain one")
        if path and "://" not in path and not os.path.isfile(path.partition("?")[0]):
            raise CheckpointError(f"checkpoint {path} does not exist; check MODEL.WEIGHTS")
        if path and "://" in path:
            self._fetch(path)
        self._path = path
        self._parsed_url_during_load = None  # Detectron2 leaves it set where a load failed
        try:
            data = super().load(path, checkpointables)
        except IIFError:
            raise
        except Exception as error:  # the states to put back raise all kinds
            raise CheckpointError(
                f"checkpoint {path} cannot be loaded: {_first_line(error)}; "
                f"use it with the config it was trained with"
            ) from error
        self._check_folded(data)
        self._check_methods(data)
        self._check_classes(data)
        return data

    def _fetch(self, address: str) -> None:
        try:
            self.path_manager.get_local_path(address.partition("?")[0])
        except Exception as error:  # of a network, a server, or whoever knows the address's kind
            raise CheckpointError(
                f"checkpoint {address} cannot be fetched: {_first_line(error)}; fetch it where "
                f"there is a network, and give the file as MODEL.WEIGHTS"
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As `DetectionCheckpointer`'s, but nothing in the file is run."""
        content = read_checkpoint(filename)
        query = parse_qs(self._path.partition("?")[2])
        if query.pop("matching_heuristics", None) == ["True"]:
            content["matching_heuristics"] = True
        if query:
            raise CheckpointError(
                f"MODEL.WEIGHTS {self._path} asks for {', '.join(query)}; all that may follow the "
                f"'?' is matching_heuristics=True"
            )
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        names = saved_class_names(checkpoint) or first_class_names(self.datasets)
        for method in _methods(self.model).values():
            method.class_names = names
        checkpoint["model"] = unwrapped(checkpoint["model"], self.model.state_dict().keys())
        return super()._load_model(checkpoint)

    def _check_folded(self, data: dict[str, Any]) -> None:
        """Refuse to adjust weights that `fold_checkpoint` has adjusted already."""
        methods = _methods(self.model).values()
        if "folded" not in data or not any(method.uses_frequency for method in methods):
            return
        message = (
            f"checkpoint {self._path} has {data['folded']['method']} folded in already; "
            f"set MODEL.LONG_TAIL.METHOD to Softmax or Sigmoid"
        )
        if self.strict_shapes:
            raise CheckpointError(message)
        logger.warning("%s unless that is meant", message)

    def _check_methods(self, data: dict[str, Any]) -> None:
        """Logits that were learned for one kind of score say nothing in another.

        Only training that starts from MODEL.WEIGHTS may learn them anew.
        """
        learned = data.get("methods")
        for path, method in _methods(self.model).items() if isinstance(learned, dict) else ():
            trained = learned.get(path)
            checked = isinstance(trained, dict) and (self.strict_shapes or method.second_stage)
            if checked and Reads.parse(str(trained.get("reads"))) != method.reads:
                remedy = (
                    "evaluate and resume with the METHOD, and its options, that it was trained with"
                    if self.strict_shapes
                    else "give a model that was trained with METHOD Softmax"
                )
                raise CheckpointError(
                    f"checkpoint {self._path} was trained with METHOD {trained.get('name')}: its "
                    f"logits are for {trained.get('reads')}, and {type(method).__name__} takes "
                    f"those for {method.reads}; {remedy}"
                )

    def _check_classes(self, data: dict[str, Any]) -> None:
        """Row c of a classifier is class c of the data that it was trained on."""
        names = saved_class_names(data)
        frozen = any(method.second_stage for method in _methods(self.model).values())
        for dataset in self.datasets:
            mismatch = disagreement(names, dataset)
            if not mismatch:
                continue
            message = (
                f"checkpoint {self._path} was trained on other classes than data set {dataset} "
                f"has: {mismatch}"
            )
            if self.strict_shapes or frozen:
                raise CheckpointError(
                    f"{message}; give the categories of both the same ids, or train on this order"
                )
            logger.warning("%s; rows of the classifier start as those of another class", message)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        misfits = incompatible.incorrect_shapes
        if misfits:
            listing = "; ".join(f"{key} {theirs} for {ours}" for key, theirs, ours in misfits)
            classes = _class_counts(misfits)
            if self.strict_shapes:
                raise CheckpointError(
                    f"checkpoint {self._path} does not fit the model{classes} ({listing}); "
                    f"{self._remedy}"
                )
        self._check_complete(incompatible)
        if misfits:
            logger.warning(
                "%s does not fit the model%s; these layers start anew: %s",
                self._path, classes, listing,
            )  # fmt: skip
        super()._log_incompatible_keys(incompatible._replace(incorrect_shapes=[]))

    def _check_complete(self, incompatible: Any) -> None:
        """Refuse a checkpoint that leaves the model, or the evaluated one in part, at random."""
        lacking = {key for key, *_ in incompatible.incorrect_shapes} | set(
            incompatible.missing_keys
        )
        named = dict(self.model.named_parameters(remove_duplicate=False))
        # Of several names for one weight, one is enough. A method may start from nothing.
        there = {id(weight) for name, weight in named.items() if name not in lacking}
        own = tuple(f"{path}." for path in _methods(self.model))
        weights = {n: w for n, w in named.items() if not n.startswith(own)}
        if weights and not any(id(weight) in there for weight in weights.values()):
            theirs = next(iter(incompatible.unexpected_keys), None)
            raise CheckpointError(
                f"checkpoint {self._path} has none of the model's weights: the model's are called "
                f"{next(iter(weights))}, the checkpoint's {theirs or 'so too, of other sizes'}; "
                f"give a checkpoint of this architecture as MODEL.WEIGHTS"
            )
        missing = [
            key
            for key in incompatible.missing_keys
            if not key.endswith("num_batches_tracked")  # which decides nothing
            and not (key in named and id(named[key]) in there)
        ]
        if self.strict_shapes and missing:
            raise CheckpointError(
                f"checkpoint {self._path} has no {missing[0]}"
                + (f" and lacks {len(missing) - 1} more" if len(missing) > 1 else "")
                + f"; {self._remedy}"
            )


def method_records(model: nn.Module) -> dict[str, dict[str, str]]:
    """What a checkpoint says of the model's methods: the name, and the logits that it is for."""
    return {
        path: {"name": type(method).__name__, "reads": str(method.reads)}
        for path, method in _methods(model).items()
    }


def _methods(model: nn.Module) -> dict[str, LongTailMethod]:
    named = model.named_modules()
    return {path: module for path, module in named if isinstance(module, LongTailMethod)}


def _is_whole(path: str) -> bool:
    """Whether a checkpoint of `save`'s is complete, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except Exception:  # a wrong byte raises half a dozen kinds
        return False


def _check_finite(name: str, state: dict[str, torch.Tensor]) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DivergedError(
                f"{key} is NaN or infinite, so {name}.pth is not written; training has diverged: "
                f"lower SOLVER.BASE_LR, and --resume from the last checkpoint"
            )


def _class_counts(misfits: list[tuple[str, tuple, tuple]]) -> str:
    """Both numbers of classes, if a classifier is among the misfits."""
    for key, theirs, ours in misfits:
        if key.endswith("cls_score.bias"):
            return f": it has {theirs[0] - 1} classes, MODEL.ROI_HEADS.NUM_CLASSES is {ours[0] - 1}"
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
