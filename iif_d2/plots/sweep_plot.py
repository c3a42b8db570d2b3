"""The curves of a sweep: what strength does to AP, and to rare, common and frequent classes."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.sweep_settings import Setting
from ..groups import GROUPS
from .plotting import figure_of, save_figure

_PANELS = {"AP": "all classes"} | {f"AP{letter}": group.name for letter, group in GROUPS.items()}
_MARKERS = "osD^v<>PX*"


def draw_sweep(
    path: str, settings: Sequence[Setting], metrics: Sequence[dict[str, float]], best: Setting
) -> None:
    """Write a png: a panel for each of AP, APr, APc, APf, a curve a family, softmax as a line.

    Settings with a strength for each group lie on no curve; the best, if it is one, is a line.
    """
    from matplotlib import colormaps

    families = list(dict.fromkeys(s.family for s in settings if s.options and not s.by_group))
    figure, panels = figure_of(15, 4 + 0.18 * len(families), columns=len(_PANELS))
    colors = colormaps["viridis"]
    for panel, (metric, title) in zip(panels, _PANELS.items()):
        for number, family in enumerate(families):
            curve = sorted(
                (setting.strength, row.get(metric, float("nan")))
                for setting, row in zip(settings, metrics)
                if setting.family == family
            )
            panel.plot(
                *zip(*curve),
                color=colors(number / max(len(families) - 1, 1)),
                marker=_MARKERS[number % len(_MARKERS)],
                label=family,
            )
        for setting, row in zip(settings, metrics):
            value = row.get(metric, float("nan"))
            if not setting.options:
                panel.axhline(value, color="black", linestyle="--", label=setting.family)
            if setting is best and setting.by_group:
                panel.axhline(value, color="black", linestyle=":", label=f"best: {setting.label}")
            elif setting is best:
                panel.plot(
                    setting.strength, value, "o", markersize=15, fillstyle="none", color="black",
                    linestyle="none", label=f"best: {setting.label}",
                )  # fmt: skip
        panel.set(title=f"{metric}, {title}", xlabel="strength (s, gamma, tau or lambda)")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("box AP in percent")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    save_figure(figure, path, dpi=100)
