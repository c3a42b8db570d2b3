"""Small trained models that come with the package: folders of `iif-d2 package`."""

from __future__ import annotations

import os

from ..errors import UnknownNameError

_HERE = os.path.dirname(os.path.abspath(__file__))


def zoo_model(name: str) -> str:
    """The folder of a model, which `iif_d2.load` and `iif-d2 predict --weights` take.

    Args:
        name: mini_lvis_softmax or mini_lvis_iif.

    Raises:
        UnknownNameError: no such model.

    Examples:
        >>> model = iif_d2.load(zoo_model("mini_lvis_iif"))
    """
    known = sorted(entry.name for entry in os.scandir(_HERE) if entry.name.startswith("mini_"))
    if name not in known:
        raise UnknownNameError.of("model of the zoo", name, known)
    return os.path.join(_HERE, name)
