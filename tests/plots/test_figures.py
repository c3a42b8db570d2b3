"""Still figures: what is strong, what the title says, and labels that hide nothing."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from iif_d2.evaluation.comparison import Run
from iif_d2.evaluation.sweep_settings import Setting
from iif_d2.groups import GROUPS
from iif_d2.plots import comparison, comparison_figures, sweep_plot


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been written."""
    figures = []
    for module in (comparison, comparison_figures, sweep_plot):
        monkeypatch.setattr(module, "save_figure", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_the_best_curve_of_each_method_is_strong_and_the_rest_grey(drawn):
    settings = [Setting("Softmax", 0.0, "Softmax")]
    metrics = [{"AP": 50.0, "APr": 40.0, "APc": 50.0, "APf": 60.0}]
    for family, method, aps in (
        ("IIF raw", "IIF", (48, 49)), ("IIF base10", "IIF", (51, 47)), ("NorCal", "NorCal", (52, 53)),
    ):  # fmt: skip
        for strength, ap in zip((0.5, 1.0), aps):
            settings.append(Setting(family, strength, method, {"strength": strength}))
            metrics.append({"AP": float(ap), "APr": ap - 8.0, "APc": 1.0, "APf": 1.0})
    sweep_plot.draw_sweep("x.png", settings, metrics, settings[-1])
    (figure,) = drawn
    for panel in figure.axes:
        curves = {line.get_label(): line for line in panel.lines}
        assert {"IIF base10", "NorCal", "Softmax", "best: NorCal 1"} <= set(curves)
        grey = [line for line in panel.lines if line.get_color() == sweep_plot._GREY]
        assert [list(line.get_ydata()) for line in grey if len(line.get_xdata())]
        assert grey[0].get_linewidth() < curves["NorCal"].get_linewidth()
        assert len({curves[name].get_color() for name in ("IIF base10", "NorCal")}) == 2
    raw = next(line for line in figure.axes[0].lines if line.get_color() == sweep_plot._GREY)
    assert list(raw.get_ydata()) == [48, 49]
    assert figure.get_suptitle() == "NorCal 1 is the best: AP +3.0, APr +5.0 against softmax"


def runs_of(row, values):
    return [Run(row, seed, {"AP": ap, "APr": rare}, None) for seed, (ap, rare) in enumerate(values)]


def test_a_comparison_has_error_bars_and_says_who_is_best(drawn):
    runs = runs_of("Softmax", [(50, 30), (52, 34)]) + runs_of("IIF raw", [(51, 40)])
    runs += runs_of("ECM", [(55, 35)])
    assert comparison.plot_rows("x.png", runs, "mine")
    (axes,) = drawn[0].axes
    title = "IIF raw (one seed) is the best on rare classes, ECM (one seed) overall\n"
    assert axes.get_title() == title
    softmax, *single = axes.containers
    (low, _), (high, _) = softmax[2][0].get_segments()[0]
    assert (low, high) == pytest.approx((51 - 2**0.5, 51 + 2**0.5))
    assert not any(len(segment) for bar in single for segment in bar[2][0].get_segments())


def test_names_hide_neither_points_nor_one_another(drawn):
    rng = np.random.default_rng(0)
    runs = [
        Run(f"a method with name {row}", 0, {"AP": ap, "APr": rare}, None)
        for row, (ap, rare) in enumerate(rng.uniform(30, 50, (16, 2)))
    ]
    comparison.plot_rows("x.png", runs, "mine")
    (figure,) = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    boxes = [Text.get_window_extent(name, canvas.get_renderer()) for name in names]
    points = axes.transData.transform([(r.results["AP"], r.results["APr"]) for r in runs])
    assert len(names) == len(runs)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    for box, (x, y) in itertools.product(boxes, points):
        assert not box.overlaps(Bbox.from_bounds(x - 2, y - 2, 4, 4))


def test_models_have_error_bars_and_count_the_wins(drawn):
    runs = runs_of("S", [(50, 1), (52, 1)]) + runs_of("I", [(53, 1), (55, 1)])
    runs += runs_of("S2", [(50, 1)]) + runs_of("I2", [(49, 1)])
    assert comparison.plot_models("x.png", runs, [("R18", "S", "I"), ("R34", "S2", "I2")])
    (axes,) = drawn[0].axes
    assert axes.get_title() == "IIF has the higher mask AP in 1 of 2 models"
    errors = [c.errorbar for c in axes.containers if getattr(c, "errorbar", None)]
    heights = [np.ptp(bar[2][0].get_segments()[0][:, 1]) for bar in errors]
    assert heights == pytest.approx([2 * 2**0.5] * 2)


def test_norms_and_false_positives_say_what_was_found(drawn):
    groups = np.array(["f", "f", "c", "r"])
    norms = {"A": np.array([1.0, 1.1, 0.9, 1.0]), "B": np.array([3.0, 2.0, 1.0, 0.5])}
    comparison_figures.draw_norms("x.png", norms, groups)
    (axes,) = drawn[0].axes
    assert axes.get_title().startswith("B's classifier norms spread most (0.59), A's least (0.07)")
    named = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert named == {"rare": 3, "common": 2, "frequent": 0.5}
    counts = {"A": {"r": 1, "c": 2, "f": 3}, "B": {"r": 1, "c": 0, "f": 2}}
    comparison_figures.draw_false_positives("x.png", counts)
    (axes,) = drawn[1].axes
    assert axes.get_title() == "B has the fewest detections on background: 3"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [g.name for g in GROUPS.values()]


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    r"""Else two of them start a formula, and `$\x$` is one that matplotlib refuses to draw."""
    odd = r"$\x$"
    runs = runs_of(odd, [(50, 30), (52, 34)]) + runs_of(f"{odd} IIF", [(51, 40)])
    groups, counts = np.array(["f", "r"]), {"r": 1, "c": 2, "f": 3}
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    assert comparison.plot_rows(paths[0], runs, odd)
    assert comparison.plot_models(paths[1], runs, [(odd, odd, f"{odd} IIF")])
    comparison_figures.draw_norms(paths[2], {odd: np.array([1.0, 2.0])}, groups)
    comparison_figures.draw_false_positives(paths[3], {odd: counts})
    assert len(list(tmp_path.iterdir())) == 4
