"""Groups of classes, rare, common and frequent: their names, limits and colours, once for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

GROUP_LIMITS = (10, 100)  # LVIS's: training images of a rare class, and of a common one, at most
_SPARSE = 20  # a group with fewer than one in so many classes says little


@dataclass(frozen=True)
class Group:
    """Classes with a similar number of training images, as LVIS divides them.

    The colours are near Okabe and Ito's, which colour-blind readers can tell apart. Text in them
    can be read, too: its contrast is 4.5 or more.

    Attributes:
        name: a word for it.
        light: its colour on white, as "#rrggbb".
        dark: its colour on black.
    """

    name: str
    light: str
    dark: str

    @property
    def color(self) -> tuple[float, float, float]:
        """Red, green and blue in [0, 1], on white."""
        red, green, blue = bytes.fromhex(self.light[1:])
        return red / 255, green / 255, blue / 255


GROUPS = {
    "r": Group("rare", "#b84700", "#ff9d5c"),
    "c": Group("common", "#00528a", "#5aa2f0"),
    "f": Group("frequent", "#007f5b", "#62e0b5"),
}


def stated_groups(stated: Sequence[object]) -> np.ndarray | None:
    """(C,) letters, of the `frequency` that each category of a json has; None unless all have."""
    import numpy as np  # here: a command's --help does not wait for it

    if all(isinstance(group, str) and group in GROUPS for group in stated):
        return np.array(stated)
    return None


def group_sizes(groups: np.ndarray) -> str:
    """How many classes are in each group, in words."""
    return ", ".join(f"{(groups == letter).sum()} {group.name}" for letter, group in GROUPS.items())


def sparse_groups(groups: np.ndarray) -> str | None:
    """A sentence about groups with next to no class, of (C,) letters; None where there are none."""
    least = len(groups) / _SPARSE
    names = [g.name for letter, g in GROUPS.items() if (groups == letter).sum() < least]
    if not names:
        return None
    return (
        f"of {len(groups)} classes {group_sizes(groups)}: numbers of the group "
        f"{' and '.join(names)} say little"
    )


def check_group_limits(name: str, limits: Sequence[int]) -> None:
    """Raise `ConfigError` unless these are the images of a rare and of a common class at most."""
    whole = all(isinstance(limit, int) and not isinstance(limit, bool) for limit in limits)
    if not whole or len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
        raise ConfigError(
            f"{name} is {limits}; give two whole numbers, the training images up to which a class "
            f"is rare and up to which it is common, such as {GROUP_LIMITS}"
        )
