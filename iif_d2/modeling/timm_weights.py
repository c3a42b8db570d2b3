"""timm's networks by name: their pretrained files, and the pictures that those were trained on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, UnknownNameError


def timm_for(name: str) -> ModuleType:
    """timm, where it has this network; nothing is downloaded.

    Raises:
        ConfigError: timm is not installed.
        UnknownNameError: it has no such network, or no such weights of it; names some that it has.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "MODEL.BACKBONE.NAME build_timm_fpn_backbone needs timm: pip install 'timm>=1.0'"
        ) from None
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:  # "hf-hub:..." would be a download
        close = ", ".join(difflib.get_close_matches(architecture, known, 5))
        raise UnknownNameError(
            f"MODEL.TIMM.NAME {name!r} is no network of timm {timm.__version__}; "
            f"{f'it has {close}' if close else 'timm.list_models() has their names'}"
        )
    tagged = timm.list_models(f"{architecture}.*", pretrained=True) if tag else [name]
    if name not in tagged:
        raise UnknownNameError.of("MODEL.TIMM.NAME", name, [architecture, *tagged])
    return timm


def without_memory(name: str, **options: Any) -> nn.Module:
    """timm's network with shapes, but no numbers; `options` are those of `timm.create_model`."""
    timm = timm_for(name)
    try:
        with torch.device("meta"):
            return timm.create_model(name, **options)
    except (NotImplementedError, RuntimeError):  # older ones compute with tensors on their way
        return timm.create_model(name, **options).to("meta")


def timm_preprocessing(name: str) -> dict[str, Any]:
    """The config keys, in Detectron2's units of 0 to 255, of the pictures `name` was trained on."""
    pictures = timm_for(name).get_pretrained_cfg(name)
    return {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [round(255 * value, 3) for value in pictures.mean],
        "MODEL.PIXEL_STD": [round(255 * value, 3) for value in pictures.std],
    }


def fit_timm_weights(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A whole network's state dict under timm's names, without its classifier.

    Args:
        state: timm's own, with every name and shape of `name`. Or an EfficientNet's with the names
            `_conv_stem`, `_blocks.0._depthwise_conv`, as EfficientNet-PyTorch has them: mapped in
            the order of its modules, which is that of the computation in both, one by one.
        name: timm's name of the network.

    Raises:
        CheckpointError: a name or a shape differs; the message has the first.
        ConfigError: see `timm_for`.
    """
    network = without_memory(name)
    expected = network.state_dict()
    if "_conv_stem.weight" in state:
        state = _by_order(state, expected, name)
    classifiers = network.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    heads = tuple(f"{classifier}." for classifier in classifiers)
    weights = {key: value for key, value in state.items() if not key.startswith(heads)}
    for key, value in weights.items():
        if key not in expected:
            raise CheckpointError(f"{key} is no name of timm's {name}; {_remedy(name)}")
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{key} has shape {tuple(value.shape)}, and timm's {name} has "
                f"{tuple(expected[key].shape)}; {_remedy(name)}"
            )
    missing = [
        key
        for key in expected
        if key not in weights and not key.startswith(heads) and "num_batches_tracked" not in key
    ]
    if missing:
        raise CheckpointError(
            f"{missing[0]} and {len(missing) - 1} more of timm's {name} are missing; "
            f"{_remedy(name)}"
        )
    return weights


def load_features(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a `features_only` network the weights of the whole one.

    timm joins the names of its outer modules by `_` there, and may put a `body.` before all.

    Raises:
        CheckpointError: a shape differs, as that of a picture with another number of channels.
    """
    joined = {key.replace(".", "_"): value for key, value in weights.items()}
    chosen = {}
    for key, own in network.state_dict().items():
        inner = key.partition(".")[2]
        value = joined.get(key.replace(".", "_"), joined.get(inner.replace(".", "_")))
        if value is None and key.endswith("num_batches_tracked"):
            value = own
        if value is None or value.shape != own.shape:
            found = "is missing" if value is None else f"has shape {tuple(value.shape)}"
            raise CheckpointError(
                f"MODEL.TIMM.PRETRAINED: {key} {found}, and the backbone's is {tuple(own.shape)}; "
                f"give weights for pictures with as many channels as MODEL.PIXEL_MEAN has"
            )
        chosen[key] = value
    network.load_state_dict(chosen)


def _by_order(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    if len(state) != len(expected):
        raise CheckpointError(
            f"it has {len(state)} tensors, and timm's {name} {len(expected)}; give the name of the "
            f"network it was trained as"
        )
    for (key, value), (ours, own) in zip(state.items(), expected.items()):
        kinds = [full.rpartition(".")[2] for full in (key, ours)]
        if kinds[0] != kinds[1] or value.shape != own.shape:
            raise CheckpointError(
                f"{key} with shape {tuple(value.shape)} is where timm's {name} has {ours} with "
                f"shape {tuple(own.shape)}; give the name of the network it was trained as"
            )
    return dict(zip(expected, state.values()))


def _remedy(name: str) -> str:
    return (
        f"give what torch.save(timm.create_model({name!r}, pretrained=True).state_dict(), FILE) "
        f"writes, or the network's own name"
    )
