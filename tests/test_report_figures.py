"""Figures are deterministic, leave no global state and clip no text."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from report_fixtures import FakeResult, hostile_result, make_result, one_dataset, wide_result

from biasaudio.report import _canvas
from biasaudio.report.figures import FIGURES, save_figures


def long_names():
    return make_result(
        embeddings=("an_embedding_with_a_rather_long_name", "b" * 60),
        datasets=("philharmonia_samples_of_single_notes", "freesound_collection_of_loops"),
        labels=("double_bass_pizzicato_with_a_mute", "organ"),
    )


def small_wide():
    return make_result(
        embeddings=("vggish", "openl3", "yamnet"), datasets=("philharmonia", "fluidr3")
    )


def unseen_ticks(figure):
    """Return the tick labels that are not drawn, as they lie outside the axis."""
    found = []
    for ax in figure.axes:
        for axis, ends in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            for tick in axis.get_major_ticks():
                inside = min(ends) <= tick.get_loc() <= max(ends)
                found += (
                    [tick.label2] if inside and tick.label1.get_visible() else tick.get_children()
                )
    return set(found)


@pytest.mark.parametrize("name", FIGURES)
def test_same_result_gives_the_same_svg(name):
    first, second = (_canvas.svg(FIGURES[name](make_result()), name) for _ in range(2))
    assert first == second
    assert "<dc:date>" not in first
    ElementTree.fromstring(first)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("make", [make_result, small_wide, hostile_result, long_names])
def test_no_text_is_clipped(name, make):
    figure = FIGURES[name](make())
    figure.draw_without_rendering()
    page = figure.bbox.padded(1)
    hidden = unseen_ticks(figure)
    texts = [t for t in figure.findobj(Text) if t.get_text() and t not in hidden]
    assert len(texts) > 10
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 < box.x0, text.get_text()
        assert box.x1 < page.x1, text.get_text()
        assert page.y0 < box.y0, text.get_text()
        assert box.y1 < page.y1, text.get_text()


@pytest.mark.parametrize("make", [small_wide, long_names])
@pytest.mark.parametrize("name", FIGURES)
def test_titles_do_not_run_into_one_another(name, make):
    figure = FIGURES[name](make())
    figure.draw_without_rendering()
    texts = figure.findobj(Text)
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    boxes = [text.get_window_extent() for text in texts if text.get_text() in titles]
    assert len(boxes) == len(figure.axes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_global_state_is_left_alone(tmp_path):
    before = dict(mpl.rcParams)
    save_figures(make_result(), tmp_path)
    assert dict(mpl.rcParams) == before


def test_pyplot_holds_no_figure(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    open_before = plt.get_fignums()
    save_figures(make_result(), tmp_path)
    assert plt.get_fignums() == open_before


def test_a_panel_for_each_embedding_and_pair():
    result = wide_result()
    assert len(FIGURES["transfer"](result).axes) == 3 * 6
    assert len(FIGURES["leakage"](result).axes) == 3 * 3
    assert len(FIGURES["distribution"](result).axes) == 3


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (FakeResult, []),
        (one_dataset, ["distribution"]),
        (make_result, ["leakage", "transfer", "tradeoff", "classes", "distribution"]),
    ],
)
def test_only_figures_with_something_to_show_are_written(make, written, tmp_path):
    paths = save_figures(make(), tmp_path)
    assert [path.stem for path in paths] == written
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.svg" for name in written
    )


def test_text_stays_text_and_ids_carry_the_name_of_the_figure():
    drawn = _canvas.svg(FIGURES["leakage"](make_result()), "leakage")
    assert ">meandiff</text>" in drawn
    assert ">chance</text>" in drawn
    assert set(re.findall(r'id="(\w+?)-', drawn)) == {"leakage"}
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawn))
    assert used <= set(re.findall(r'id="([^"]+)"', drawn))


def test_names_are_neither_markup_nor_mathematics():
    drawn = _canvas.svg(FIGURES["classes"](hostile_result()), "classes")
    assert "<script" not in drawn
    assert r">$\frac{1}$</text>" in drawn


def test_unknown_glyphs_do_not_warn():
    drawn = _canvas.svg(FIGURES["distribution"](make_result(labels=("三味線", "箏"))), "d")
    assert "三味線" in drawn


def test_spread_keeps_order_gap_and_bounds(rng):
    for _ in range(50):
        values = np.sort(rng.uniform(-0.1, 1.1, size=8))
        moved = _canvas.spread(values, 0.1)
        assert (np.diff(moved) > 0.1 - 1e-9).all()
        assert moved.max() < 1 + 1e-9


def test_spread_leaves_what_is_apart():
    values = np.array([0.1, 0.4, 0.9])
    np.testing.assert_allclose(_canvas.spread(values, 0.1), values)
