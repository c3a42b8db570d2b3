"""The curves of a sweep: what strength does to AP, and to rare, common and frequent classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..evaluation.sweep_settings import Setting
from ..groups import GROUPS
from .plotting import figure_of, save_figure

_PANELS = {"AP": "all classes"} | {f"AP{letter}": group.name for letter, group in GROUPS.items()}
_MARKERS = "osD^v<>PX*"
# Of the best curves: no group's colours, and told apart by their lightness and markers, too.
_STRONG = ("#6f2da8", "#e69f00", "#111111", "#56b4e9", "#cc79a7")
_GREY = "#b9c0c7"


def draw_sweep(
    path: str, settings: Sequence[Setting], metrics: Sequence[dict[str, float]], best: Setting
) -> None:
    """Write a png: a panel for each of AP, APr, APc, APf, a curve a family, softmax as a line.

    Of each method the family that reaches the highest AP is drawn strong, the others in grey.
    Settings with a strength for each group lie on no curve; the best, if it is one, is a line.
    """
    families = list(dict.fromkeys(s.family for s in settings if s.options and not s.by_group))
    strong = _best_families(settings, metrics)
    figure, panels = figure_of(15, 4.6, columns=len(_PANELS))
    for panel, (metric, title) in zip(panels, _PANELS.items()):
        for family in families:
            curve = sorted(
                (setting.strength, row.get(metric, math.nan))
                for setting, row in zip(settings, metrics)
                if setting.family == family
            )
            if family not in strong:
                panel.plot(*zip(*curve), color=_GREY, lw=1, zorder=1)
                continue
            number = strong.index(family)
            panel.plot(
                *zip(*curve),
                color=_STRONG[number % len(_STRONG)],
                marker=_MARKERS[number % len(_MARKERS)],
                lw=2.5,
                zorder=2,
                label=family,
            )
        if len(strong) < len(families):
            panel.plot([], color=_GREY, lw=1, label="the method's other curves")
        for setting, row in zip(settings, metrics):
            value = row.get(metric, math.nan)
            if not setting.options:
                panel.axhline(value, color="0.35", linestyle="--", label=setting.family)
            if setting is best and setting.by_group:
                panel.axhline(value, color="black", linestyle=":", label=f"best: {setting.label}")
            elif setting is best:
                panel.plot(
                    setting.strength, value, "o", markersize=15, fillstyle="none", color="black",
                    linestyle="none", label=f"best: {setting.label}",
                )  # fmt: skip
        panel.set_title(f"{metric}, {title}")
        panel.set_xlabel("strength (s, gamma, tau or lambda)")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("box AP in percent")
    figure.suptitle(_finding(settings, metrics, best), weight="bold")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    save_figure(figure, path, dpi=100)


def _best_families(settings: Sequence[Setting], metrics: Sequence[dict[str, float]]) -> list[str]:
    """Of each method the family with the highest AP, in the order of the methods."""
    best: dict[str, tuple[float, str]] = {}
    for setting, row in zip(settings, metrics):
        value = row.get("AP", math.nan)
        curve = setting.options and not setting.by_group
        if curve and value > best.get(setting.method, (-math.inf, ""))[0]:
            best[setting.method] = (value, setting.family)
    return [family for _, family in best.values()]


def _finding(
    settings: Sequence[Setting], metrics: Sequence[dict[str, float]], best: Setting
) -> str:
    """The best setting and what it gains over softmax."""
    rows = {id(setting): row for setting, row in zip(settings, metrics)}
    plain = next((row for s, row in zip(settings, metrics) if not s.options), None)
    gains = []
    for name in ("AP", "APr") if plain and best.options else ():
        gain = rows[id(best)].get(name, math.nan) - plain.get(name, math.nan)
        if math.isfinite(gain):
            gains.append(f"{name} {gain:+.1f}")
    against = f": {', '.join(gains)} against softmax" if gains else ""
    return f"{best.label} is the best{against}"
