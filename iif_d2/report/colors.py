"""The colours of the page, light and dark: those of groups and runs come from their one home."""

from __future__ import annotations

from ..groups import GROUPS
from ..plots.plotting import FIRST, SECOND

# By their name in page.css, on white and on black.
_SHADES = {
    "paper": ("#ffffff", "#15191f"),
    "ink": ("#1c2128", "#e6e9ed"),
    "faint": ("#57606a", "#a5aeb8"),
    "line": ("#d0d7de", "#3a424c"),
    "wash": ("#f3f5f7", "#1f252d"),
    "link": ("#0550ae", "#79b8ff"),
    "heat": ("#58a6dc", "#0b66a8"),
    "one": FIRST,
    "two": SECOND,
    **{group.name: (group.light, group.dark) for group in GROUPS.values()},
}
PAGE_COLORS = {
    theme: {name: shades[place] for name, shades in _SHADES.items()}
    for place, theme in enumerate(("light", "dark"))
}
