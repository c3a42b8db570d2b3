"""A state dict of torch's or safetensors', read without running anything that is in it."""

from __future__ import annotations

import os
from typing import Any

from ..errors import CheckpointError
from .untrusted import load_tensors


def load_state_dict(path: str) -> dict[str, Any]:
    """Names with tensors, on the CPU, in the file's order.

    Args:
        path: what `torch.save` made of a state dict, alone or under "state_dict" or "model"; or
            `.safetensors`.

    Raises:
        CheckpointError: it is missing, damaged or no state dict; names the file.
    """
    if not os.path.isfile(path):  # reading a pipe would never end
        raise CheckpointError(f"{path}: there is no such file; check the path")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = load_tensors(path)
    except ImportError:
        raise CheckpointError(f"{path}: reading it needs: pip install safetensors") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # what a damaged file raises is up to where it breaks
        raise CheckpointError(
            f"{path}: it holds no tensors that can be read safely, or is cut short "
            f"({next(iter(str(error).splitlines()), type(error).__name__)}); "
            f"save the state dict itself: torch.save(model.state_dict(), ...)"
        ) from None
    import torch

    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in content.items()
    ):
        raise CheckpointError(
            f"{path}: it is no state dict, names with tensors; save that: "
            f"torch.save(model.state_dict(), ...)"
        )
    return {key.removeprefix("module."): value for key, value in content.items()}
