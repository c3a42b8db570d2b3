"""A trained model as TorchScript or ONNX: traced by Detectron2's adapter, and held to the model."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from ..errors import ConfigError
from ..files import write_atomically

# Boxes in pixels, scores and mask probabilities: what comes of another order of sums. Measured:
# TorchScript 0, ONNX 2e-5 for boxes and 3e-6 for scores.
TOLERANCE = 1e-3
_OPSET = 16  # the first with RoIAlign's aligned form, which Detectron2 uses


def export_model(model: nn.Module, path: str, images: Sequence[Tensor]) -> list[str]:
    """Write `path`, TorchScript (.ts) or ONNX (.onnx), after its outputs were compared.

    The exported model takes one float32 image (3, H, W) of any size, as the network does, and gives
    detections in that size with masks as the head predicts them, not pasted.

    Args:
        model: a `GeneralizedRCNN` on the CPU, with or without a method.
        images: the first is traced; under all of them the exported model must give what the model
            gives, within `TOLERANCE`. They should differ in size and show something.

    Returns:
        The names of the outputs, in order.

    Raises:
        ConfigError: it cannot be exported, or does something else when it is; says what. Nothing is
            written then.
    """
    kind = os.path.splitext(path)[1]
    if kind not in (".ts", ".onnx"):
        raise ConfigError(f"{path} must end in .ts (TorchScript) or .onnx")
    if type(model) is not GeneralizedRCNN:
        raise ConfigError(
            f"{type(model).__name__} is not exported: only Detectron2's GeneralizedRCNN is known "
            f"to trace"
        )
    model.eval()
    adapter = TracingAdapter(model, [{"image": images[0]}], _detect).eval()
    with torch.no_grad():
        traced = torch.jit.trace(adapter, (images[0],), check_trace=False)
    fields = [*adapter.outputs_schema.schemas[0].schemas[0].keys, "image_size"]
    with tempfile.TemporaryDirectory() as folder:
        written = os.path.join(folder, f"model{kind}")
        if kind == ".ts":
            traced.save(written)
            run = torch.jit.load(written)
        else:
            run = _onnx(adapter, images[0], written, fields)
        for image in images:
            with torch.no_grad():
                _compare(path, image, fields, run(image), adapter(image))
        with open(written, "rb") as file:
            write_atomically(path, file.read())
    return fields


def _detect(model: GeneralizedRCNN, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]


def _onnx(
    adapter: TracingAdapter, image: Tensor, path: str, fields: list[str]
) -> Callable[[Tensor], list[Tensor]]:
    """Write the file; the function that onnxruntime makes of it."""
    try:
        import onnx  # noqa: F401  torch's exporter needs it
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'iif_d2[export]'") from None
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False  # its graph capture stops at the number of proposals
    axes = {"image": {1: "height", 2: "width"}}
    axes.update({name: {0: "detections"} for name in fields[:-1]})
    try:
        torch.onnx.export(
            adapter, (image,), path, opset_version=_OPSET, input_names=["image"],
            output_names=fields, dynamic_axes=axes, **options,
        )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(f"torch cannot export this model to ONNX: {error}") from None
    finally:
        adapter.eval()  # the exporter gives back the mode that it takes the model to have had
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(out) for out in session.run(None, {"image": image.numpy()})]

    return run


def _compare(
    path: str, image: Tensor, fields: list[str], found: Sequence[Tensor], wanted: Sequence[Tensor]
) -> None:
    for name, ours, theirs in zip(fields, wanted, found):
        ours, theirs = ours.detach().double().numpy(), theirs.detach().double().numpy()
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE):
            raise ConfigError(
                f"{path} is not written: on an image of {tuple(image.shape[1:])} pixels its {name} "
                f"{theirs.shape} are not the model's {ours.shape}"
            )
