"""Still figures: what is strong, what the title says, and labels that hide nothing."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from iif_d2.evaluation.comparison import SeedRun
from iif_d2.evaluation.equal_recall import AtRecall
from iif_d2.evaluation.sweep_settings import Setting
from iif_d2.plots import comparison, false_positives, norms, sweep_plot
from iif_d2.plots.norms import Norms


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been written."""
    figures = []
    for module in (comparison, false_positives, norms, sweep_plot):
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
    return [
        SeedRun(row, seed, {"AP": ap, "APr": rare}, None) for seed, (ap, rare) in enumerate(values)
    ]


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
        SeedRun(f"a method with name {row}", 0, {"AP": ap, "APr": rare}, None)
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
    assert axes.get_title() == "IIF has the higher mask AP in 1 of 2 pairs"
    errors = [c.errorbar for c in axes.containers if getattr(c, "errorbar", None)]
    heights = [np.ptp(bar[2][0].get_segments()[0][:, 1]) for bar in errors]
    assert heights == pytest.approx([2 * 2**0.5] * 2)


def test_norms_say_what_was_found_plain_and_times_the_factor(drawn):
    groups = np.array(["f", "f", "c", "r"])
    flat, steep = np.array([1.0, 1.1, 0.9, 1.0]), np.array([3.0, 2.0, 1.0, 0.5])
    runs = [Norms("A", 0, flat, np.ones(4)), Norms("B", 0, steep, 1 / steep)]
    runs += [Norms("B", 1, 2 * steep, 1 / steep), Norms("C", 0, flat, np.full(4, np.nan))]
    norms.draw_norms("x.png", runs, groups)
    above, below = drawn[0].axes
    assert above.get_title() == "Norms spread most under B (0.59), least under A (0.07)\n"
    said = "Norms times their factor w spread most under A (0.07), least under B (0.00)\n"
    assert below.get_title() == said
    named = {text.get_text(): text.get_position()[0] for text in above.texts}
    assert named == {"rare": 3, "common": 2, "frequent": 0.5}
    labels = [line.get_label() for line in below.lines if line.get_label()[0] != "_"]
    assert labels == ["A: 0.07", "B: 0.00"]  # C has no fixed factor
    assert len(above.collections) == 1  # a band for B, of two seeds


def test_more_classifiers_than_colours_are_all_drawn(drawn):
    groups = np.array(["f", "r"])
    runs = [Norms(str(n), 0, np.array([1.0, 2.0]), np.ones(2)) for n in range(12)]
    norms.draw_norms("x.png", runs, groups)
    curves = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 2]
    styles = {(c.get_color(), c.get_marker()) for c in curves if c.get_label()[0] != "_"}
    assert len(styles) == 12


def at(group, recall, wrong, background, highest=1.0):
    """Counts of ten images; wrong is None where the recall is not reached."""
    numbers = (0.5, wrong, background) if wrong is not None else (np.nan,) * 3
    return AtRecall(group, 10, 100, highest, recall, *numbers)


def never(group, highest):
    return [at(group, recall, None, None, highest) for recall in (0.1, 0.2)]


COUNTS = {
    "Softmax": {
        0: [*never("r", 0.08), at("c", 0.1, 40, 4), at("c", 0.2, 90, 9)],
        1: [*never("r", 0.11), at("c", 0.1, 60, 4), at("c", 0.2, None, None, 0.15)],
    },
    "IIF raw": {0: [at("r", 0.1, 5, 0), at("r", 0.2, 9, 0), at("c", 0.1, 2, 0), at("c", 0.2, 3, 0)]},
    "NorCal": {0: [at("r", 0.1, 7, 1), at("r", 0.2, None, None), at("c", 0.1, 8, 0), at("c", 0.2, 9, 1)]},
}  # fmt: skip


def test_false_positives_are_compared_at_a_recall_that_all_reach(drawn):
    # Softmax reaches no recall on the rare classes, and decides nothing there.
    assert false_positives.common_recall(COUNTS, "r") == 0.1
    assert false_positives.common_recall(COUNTS, "c") == 0.1
    assert np.isnan(false_positives.common_recall(COUNTS, "f"))
    false_positives.draw_false_positives("x.png", COUNTS)
    figure = drawn[0]
    rare, common, rare_background, common_background = figure.axes
    assert figure.get_suptitle() == "Fewest false positives at equal recall: IIF raw"
    assert rare.get_title() == "rare classes, recall 10%"
    assert common.get_title() == "common classes, recall 10%"
    for axes, widths, said in (
        (rare, [0.5, 0.7], ["not reached: finds 8% to 11%", "0.5", "0.7"]),
        (common, [5, 0.2, 0.8], ["5", "0.2", "0.8"]),
        (rare_background, [0, 10], ["not reached: finds 8% to 11%", "0", "10"]),
        (common_background, [40, 0, 0], ["40", "0", "0"]),
    ):
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(widths)
        assert [text.get_text() for text in axes.texts] == said
    names = [tick.get_text() for tick in rare.get_yticklabels()]
    one_seed = "(one\N{NO-BREAK SPACE}seed)"
    assert names == ["Softmax", f"IIF raw {one_seed}", f"NorCal {one_seed}"]
    assert "0.1 with every object): 6.9% of the false positives" in figure.get_supxlabel()
    (low, _), (high, _) = common.containers[0][2][0].get_segments()[0]
    assert (low, high) == pytest.approx((5 - 2**0.5, 5 + 2**0.5))


def test_rows_within_the_deviation_of_the_fewest_are_named_with_it(drawn):
    counts = {
        "A": {seed: [at("r", 0.1, n, 0), at("f", 0.1, n, 0)] for seed, n in enumerate((3, 7))},
        "B": {seed: [at("r", 0.1, n, 0), at("f", 0.1, n + 8, 0)] for seed, n in enumerate((4, 8))},
    }
    # Its mean is higher by more than A's deviation, however large its own is.
    counts["C"] = {seed: [at("r", 0.1, n, 0), at("f", 0.1, 6, 0)] for seed, n in ((0, 1), (1, 90))}
    false_positives.draw_false_positives("x.png", counts)
    said = "A and B on rare classes; A and C on frequent classes"
    assert drawn[0].get_suptitle() == f"Fewest false positives at equal recall: {said}"


def test_where_no_recall_is_reached_the_figure_says_so(drawn):
    nothing = AtRecall("f", 10, 0, *(np.nan, 0.1), *(np.nan,) * 3)
    false_positives.draw_false_positives("x.png", {"A": {0: [*never("r", 0.03), nothing]}})
    above, below = drawn[0].axes  # of rare classes alone: the frequent have no object
    assert drawn[0].get_suptitle() == "No recall is reached"
    assert above.get_title() == "rare classes, no recall is reached"
    assert [text.get_text() for text in above.texts] == ["not reached: finds 3%"]
    false_positives.draw_false_positives("x.png", {"A": {0: [nothing]}})
    assert drawn[1].get_suptitle() == "No recall is reached"


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    r"""Else two of them start a formula, and `$\x$` is one that matplotlib refuses to draw."""
    odd = r"$\x$"
    runs = runs_of(odd, [(50, 30), (52, 34)]) + runs_of(f"{odd} IIF", [(51, 40)])
    groups = np.array(["f", "r"])
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    assert comparison.plot_rows(paths[0], runs, odd)
    assert comparison.plot_models(paths[1], runs, [(odd, odd, f"{odd} IIF")])
    norms.draw_norms(paths[2], [Norms(odd, 0, np.array([1.0, 2.0]), np.ones(2))], groups)
    false_positives.draw_false_positives(paths[3], {odd: {0: [at("r", 0.1, 5, 0)]}})
    assert len(list(tmp_path.iterdir())) == 4
