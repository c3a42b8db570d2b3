"""Model files that carry their classes and config, and the states that a resume goes on from."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from fvcore.common.config import CfgNode

from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.files.tensors import save_tensors
from iif_d2.files.untrusted import load_tensors, parse_yaml
from iif_d2.frequency import ClassFrequency

from ..config import default_config
from ..modeling.recognizer import Recognizer

# What a model file holds.
_CONTENT = {
    "model": dict, "class_names": list, "image_count": torch.Tensor, "num_images": int,
    "config": str,
}  # fmt: skip
# What a model file and a config must agree on; the classifier's only where its weights are taken.
_BACKBONE_KEYS = ("BACKBONE", "EXPERTS", "REDUCED_WIDTH")
_CLASSIFIER_KEYS = ("CLASSIFIER", "COSINE_SCALE")
# A resumed run may change these: they decide where and how fast it runs, not what comes out.
_FREE_KEYS = (
    "OUTPUT_DIR", "DATA.ROOT", "DATA.WORKERS", "DATA.DOWNLOAD", "MODEL.WEIGHTS", "STAGE1",
    "SOLVER.LOG_STEPS", "SOLVER.CHECKPOINT_STEPS", "SOLVER.CHECKPOINT_EPOCHS",
    "SOLVER.TEST_BATCH_SIZE",
)  # fmt: skip


@dataclass(frozen=True)
class SavedModel:
    """What a model file holds: weights, the training set's class counts, the config."""

    path: str
    state: dict
    frequency: ClassFrequency
    config: dict

    def load_into(
        self, model: Recognizer, cfg: CfgNode, reinit_head: bool = False, method: bool = False
    ) -> None:
        """Put the weights into a model built from `cfg`.

        Args:
            reinit_head: leave the model's new classifier as it is.
            method: take the state of a method of the same name too (test); else it starts anew.

        Raises:
            CheckpointError: the file is of another model; the message names the keys.
        """
        keys = _BACKBONE_KEYS if reinit_head else _BACKBONE_KEYS + _CLASSIFIER_KEYS
        for key in keys:
            saved = self.config["MODEL"].get(key)
            if saved != cfg.MODEL[key]:
                raise CheckpointError(
                    f"{self.path} was trained with MODEL.{key} {saved}, the config says "
                    f"{cfg.MODEL[key]}; make them agree"
                    + ("" if key in _BACKBONE_KEYS else ", or set MODEL.REINIT_HEAD True")
                )
        parts = ["backbone"] if reinit_head else ["backbone", "classifier"]
        if method and self.config["METHOD"].get("NAME") == cfg.METHOD.NAME:
            parts.append("method")
        for part in parts:
            prefix = f"{part}."
            state = {k[len(prefix) :]: v for k, v in self.state.items() if k.startswith(prefix)}
            try:
                getattr(model, part).load_state_dict(state)
            except RuntimeError as error:
                raise CheckpointError(f"{self.path} does not fit the {part}: {error}") from None


def save_model(path: str, model: Recognizer, frequency: ClassFrequency, cfg: CfgNode) -> None:
    """Write a model file, whole or not at all."""
    save_tensors(path, _model_content(model, frequency, cfg))


def load_model(path: str) -> SavedModel:
    """Read a model file or a training state; nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, damaged or of another program.
    """
    content = _load(path)
    frequency = ClassFrequency(
        content["class_names"], content["image_count"].numpy(), None, content["num_images"]
    )
    return SavedModel(path, content["model"], frequency, content["config"])


def save_state(
    path: str, model: Recognizer, frequency: ClassFrequency, cfg: CfgNode, training: dict
) -> None:
    """Write a training state, whole or not at all: a model file with `training` added."""
    save_tensors(path, {**_model_content(model, frequency, cfg), "training": _plain(training)})


def _plain(value: Any) -> Any:
    """Counters as dicts: a scheduler's milestones, which older torch's safe loading refuses."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


def load_state(path: str, model: Recognizer, frequency: ClassFrequency, cfg: CfgNode) -> dict:
    """Put a training state's weights into `model` and give the rest.

    Raises:
        CheckpointError: the state is damaged, or of a run with other data or another config.
    """
    content = _load(path)
    if "training" not in content:
        raise CheckpointError(f"{path} is a model, not a training state; use MODEL.WEIGHTS")
    default, now = (_flat(yaml.safe_load(c.dump())) for c in (default_config(), cfg))
    saved = {**default, **_flat(content["config"])}  # a key that its version lacked: the default
    for key in sorted(saved.keys() | now.keys()):
        if saved.get(key) != now.get(key) and not key.startswith(_FREE_KEYS):
            raise CheckpointError(
                f"{path} is of a run with {key} {saved.get(key)}, the config says {now.get(key)}; "
                f"resume with the same config, or choose another OUTPUT_DIR"
            )
    if content["image_count"].tolist() != frequency.image_count.tolist():
        raise CheckpointError(f"{path} is of a run on other training images than DATA describes")
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the model: {error}") from None
    return content["training"]


def rng_state(device: torch.device) -> dict:
    """The state of every generator that training may draw from."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": random.getstate(),
    }


def set_rng_state(state: dict, device: torch.device) -> None:
    """What `rng_state` gave, back in force."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))


def _model_content(model: Recognizer, frequency: ClassFrequency, cfg: CfgNode) -> dict:
    return {
        "model": model.state_dict(),
        "class_names": list(frequency.class_names),
        "image_count": torch.tensor(frequency.image_count),
        "num_images": frequency.num_images,
        "config": cfg.dump(),
    }


def _load(path: str) -> dict:
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        content = load_tensors(path)
    except CheckpointError:
        raise
    except Exception as error:  # what a damaged file raises is up to where it breaks
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read: {reason}") from None
    content = content if isinstance(content, dict) else {}
    for key, kind in _CONTENT.items():
        if not isinstance(content.get(key), kind):
            raise CheckpointError(f"{path} lacks {key!r}; train_net.py did not write it")
    try:
        content["config"] = parse_yaml(content["config"], f"the config in {path}")
    except (ConfigError, yaml.YAMLError) as error:
        raise CheckpointError(f"the config in {path} cannot be read: {error}") from None
    for node in ("MODEL", "METHOD"):
        if not isinstance(content["config"].get(node), dict):
            raise CheckpointError(
                f"the config in {path} has no {node}; train_net.py did not write it"
            )
    return content


def _flat(node: dict, prefix: str = "") -> dict:
    flat: dict[str, object | None] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat
