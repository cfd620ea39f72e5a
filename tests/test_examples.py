"""The examples run without a warning and draw; the notebook is clean to commit."""

import json
import re
import runpy
from pathlib import Path

import matplotlib
import pytest

# A campaign of minutes: run with -m "slow or not slow".
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_something_to_run():
    assert len(EXAMPLES) >= 3
    assert NOTEBOOKS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws(path, tmp_path, monkeypatch, capsys):
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    try:
        runpy.run_path(str(path), run_name="__main__")
        figures = [plt.figure(number) for number in plt.get_fignums()]
        assert figures
        for figure in figures:
            figure.canvas.draw()
            assert nothing_is_cut_off(figure)
    finally:
        plt.close("all")
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def nothing_is_cut_off(figure):
    """Return whether all that is drawn lies on the canvas, give or take two pixels."""
    width, height = figure.canvas.get_width_height()
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    return box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_gallery_script(path):
    text = path.read_text(encoding="utf-8")
    title, rule = re.match(r'"""\n(.*)\n(=+)\n', text).groups()
    assert len(title) == len(rule)
    assert text.count("\n# %%\n") >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean_and_has_parameters(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert [cell["execution_count"] for cell in code] == [None] * len(code)
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", ())]
    assert tagged == code[:1]
