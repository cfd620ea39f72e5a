"""Names that are markup, formulas, mathematics or control sequences, wherever they come out."""

import argparse
import html
import io
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from audit_fixtures import arrays, call, failure, planted, saved
from report_fixtures import make_result

import biasaudio
from biasaudio._audit.reproduce import Reproduction
from biasaudio._parallel import run_all
from biasaudio._text import csv_safe, printable
from biasaudio.cli._common import emit, note, note_warnings, say, text_table
from biasaudio.cli.main import main
from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.report import _canvas, notebook_html, render_html, save_figures, summary
from biasaudio.report.figures import FIGURES
from biasaudio.results import AuditResult
from biasaudio.store import read_vectors

CLEAR = "\x1b[2J\x1b]0;gone\x07"
NASTY = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "]]><b>",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "&lt;script&gt;",
    "--><img src=x onerror=alert(1)>",
    "</text></svg><script>alert(1)</script>",
    "$\\frac{1$ _^{",
    "$$",
    "\\$x$",
    CLEAR,
    "\u202egnp.exe",
    "a\nb\rc\x00d\x7f\x9b2J\u2028e",
    "\ufffe\uffff",
]
SHOWN = ["\x1b", "\x07", "\x00", "\x9b", "\x7f", "\r", "\u202e", "\u2028", "\ud800", "\ufffe"]


def test_control_characters_are_written_out():
    assert printable("plain é 三味線 \u200d\xa0") == "plain é 三味線 \u200d\xa0"
    assert printable(CLEAR) == "\\x1b[2J\\x1b]0;gone\\x07"
    assert printable("\x00\t\n\r\x7f\x9f") == "\\x00\\x09\\x0a\\x0d\\x7f\\x9f"
    assert printable("\u202a\u2069\u2029\udc80") == "\\u202a\\u2069\\u2029\\udc80"
    assert printable("a\nb\t", keep="\n") == "a\nb\\x09"
    for point in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert printable(chr(point)).isascii()
        assert len(printable(chr(point))) in (4, 6)


# The terminal.


@pytest.fixture
def args():
    """Give the options that decide what is printed."""
    return argparse.Namespace(json=False, quiet=False)


def test_nothing_that_is_printed_drives_the_terminal(args, capsys):
    text = "".join(NASTY)
    note(args, text)
    note_warnings(args, NASTY)
    emit(args, f"one\n{text}\ntwo", {})
    emit(args, text_table([{"name": name, CLEAR: 1} for name in NASTY]), {})
    out, err = capsys.readouterr()
    for sign in SHOWN:
        assert sign not in out + err
    assert out.startswith("one\n")
    assert "\\x1b[2J" in out
    assert "\\x1b[2J" in err


def test_a_name_stays_on_its_line_of_a_table():
    table = text_table([{"name": "a\nfake  100", "n": 1}, {"name": "b", "n": 2}])
    assert table.splitlines()[1:] == ["a\\x0afake  100  1", "b               2"]


def test_json_stays_json(args, capsys):
    args.json = True
    emit(args, "", {"name": CLEAR, "other": "\u202e\ud800"})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out) == {"name": CLEAR, "other": "\u202e\ud800"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    say("é 三 \udc80 \x1b", stream)
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.endswith("\\udc80 \\x1b\n")
    assert ("三" in shown) == (encoding == "utf-8")


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_a_file_called_like_a_control_sequence(capsys, tmp_path, options):
    for argv in (
        ["store", "ls", tmp_path / f"{CLEAR}.h5"],
        ["correct", "info", tmp_path / f"{CLEAR}.npz"],
        ["correct", "apply", tmp_path / f"{CLEAR}\u202e.npz", tmp_path / "a.csv", "--out", "x"],
        ["report", tmp_path / CLEAR],
        [CLEAR],
    ):
        assert main([*map(str, argv), *options]) in (1, 2)
        err = capsys.readouterr().err
        assert not any(sign in err for sign in SHOWN)
        assert "\\x1b[2J" in err


def test_names_from_a_store_and_a_correction_are_written_out(capsys, tmp_path):
    name = "a" + CLEAR.replace("/", "")
    part = arrays("a") | {"dataset": np.array([name, "b"] * 60)}
    source, store = saved(tmp_path / "v.npz", part), tmp_path / "s.h5"
    code, line = failure(capsys, "store", "import", store, source, "--embedding", CLEAR)
    assert code in (1, 2)
    assert "\x1b" not in line
    path = tmp_path / "c.npz"
    X = pd.DataFrame(part["X"], columns=[CLEAR, "\u202e", "a\nfile  none", "x", "y"])
    biasaudio.transforms.save(biasaudio.transforms.LEACE().fit(X, domain=part["dataset"]), path)
    code, out, err = call(capsys, "correct", "info", path)
    assert code == 0
    assert not any(sign in out + err for sign in SHOWN)
    assert "\\x1b[2J" in out
    assert "a\\x0afile  none" in out


def test_a_bar_shows_names_as_they_are_read(capsys):
    run_all(abs, [1, 2], progress=CLEAR)
    err = capsys.readouterr().err
    assert "\\x1b[2J" in err
    assert "\x1b[2J" not in err


# Files of comma-separated values.


def test_formulas_become_text_and_numbers_stay():
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", "", "'=1", None]
    frame = pd.DataFrame(
        {"=name": pd.Series(cells, dtype=object), "n": np.arange(-5.0, 5), "i": range(10)}
    )
    safe = csv_safe(frame)
    assert safe.iloc[:, 0].tolist()[:9] == [
        *("'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "a=1", "", "'=1")
    ]
    assert list(safe.columns) == ["'=name", "n", "i"]
    assert safe["n"].equals(frame["n"])
    assert safe["i"].equals(frame["i"])
    assert frame.iloc[0, 0] == "=1+1"


@pytest.fixture(scope="module")
def audited():
    """Give an audit of datasets, labels and genres that are formulas and control sequences."""
    clips = planted().clips
    rename = {old: f"={CLEAR}{i}" for i, old in enumerate(sorted(set(clips.dataset)))}
    labels = clips.labels.set_axis(["=cmd|' /C calc'!A0", "@x"], axis=1)
    table = ClipTable.from_columns(
        [f"+{key}" for key in clips.clip_id],
        [rename[name] for name in clips.dataset],
        split=clips.split,
        genre=[f"-{name}" for name in clips.genre],
        group=clips.group,
        labels=labels.to_dict("list"),
    )
    table = EmbeddingTable(planted().X, table, "-emb")
    return biasaudio.audit(table, methods=["leace"], n_permutations=9, n_resamples=40)


def test_the_tables_of_an_audit_hold_no_formula(audited, tmp_path, capsys):
    audited.save(tmp_path)
    for name in ("transfer", "probes", "comparisons"):
        frame = pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False)
        source = getattr(audited, name)
        assert len(frame) == len(source) > 0
        for column in source.columns:
            if source[column].dtype == object:
                assert not frame[column].str.match(r"^[=+@\t\r-]").any()
        assert (frame["embedding"] == "'-emb").all()
    # The report reads another file, in which names are as they were.
    assert AuditResult.load(tmp_path) == audited
    code, out, err = call(capsys, "report", tmp_path)
    assert code == 0
    assert "-emb" in out
    assert not any(sign in out + err for sign in SHOWN)


def test_the_tables_of_a_repeated_study_hold_no_formula(tmp_path):
    rows = pd.DataFrame({"instrument": ["=x", "y"], "roc_auc": [-0.5, 0.5]})
    Reproduction({"global": rows}, {"global": rows}).save(tmp_path)
    for name in ("result_all_global", "table_global"):
        text = (tmp_path / f"{name}.csv").read_text()
        assert text.splitlines() == ["instrument,roc_auc", "'=x,-0.5", "y,0.5"]


def test_a_table_that_is_changed_keeps_its_texts(tmp_path):
    # It belongs to its owner, whose programs read the names as they were.
    (tmp_path / "a.csv").write_text("clip,note,f0\n=1,@x,1.5\n-a,+y,2.5\n")
    read_vectors(tmp_path / "a.csv").write(tmp_path / "b.csv", lambda X, owner: 2 * X)
    assert (tmp_path / "b.csv").read_text() == "clip,note,f0\n=1,@x,3.0\n-a,+y,5.0\n"


# Pages and figures.


class Page(HTMLParser):
    """Note what elements and attributes there are."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.values, self.text = set(), set(), [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


def nasty_result(turn):
    """Return a result whose names are the nasty texts, in another place each turn."""
    e, a, b, k, m, g, h, *_ = np.roll(np.array(NASTY, dtype=object), -7 * turn).tolist()
    return make_result(
        embeddings=(f"{e}e",),
        datasets=(f"{a}a", f"{b}b"),
        labels=(f"{k}l", f"{m}m", "flute"),
        genres=(f"{g}g", f"{h}h"),
        synthetic=True,
        title="".join(NASTY) + "\ud800",
        command="biasaudio audit " + " ".join(NASTY),
        config={name: [name, {name: name}] for name in NASTY},
        versions={name: name for name in NASTY},
        files=[{"path": name, "bytes": name, "sha256": name} for name in [*NASTY, "\udc80"]],
        warnings=NASTY,
        notes=NASTY,
        excluded=[{"what": name, "why": name} for name in NASTY],
        planted={f"dataset {name}": name for name in NASTY},
    )


@pytest.fixture(scope="module")
def plain_page():
    """Give the elements of a page of harmless names."""
    return Page(render_html(make_result(synthetic=True, notes=["x"])))


@pytest.mark.parametrize("turn", [0, 1])
def test_no_name_becomes_markup_on_a_page(turn, plain_page):
    result = nasty_result(turn)
    for page in (render_html(result), notebook_html(result)):
        found = Page(page)
        assert found.tags <= plain_page.tags | {"div", "strong"}
        assert found.attributes <= plain_page.attributes
        for name, value in found.values:
            assert not name.startswith("on")
            assert name != "href" or value.startswith(("#", "data:,"))
        assert not any(sign in page for sign in SHOWN)
        text = "".join(found.text)
        assert "{{7*7}}{% raw %}" in text
        for name in NASTY[:11]:
            assert name in text
    assert not any(sign in summary(result) for sign in SHOWN)


@pytest.mark.parametrize("turn", [0, 1])
def test_no_name_breaks_a_figure(turn, tmp_path):
    for path in save_figures(nasty_result(turn), tmp_path):
        tree = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not tags & {"script", "img", "b", "image", "a", "foreignObject"}
        assert not any(name.startswith("on") for element in tree.iter() for name in element.attrib)


def test_dollars_are_drawn_and_not_typeset():
    names = ("$\\frac{1$ _^{", "$$", "\\$x$", "a\\", "$\\$")
    result = make_result(embeddings=names[:1], datasets=names[1:3], labels=names[3:])
    drawn = "".join(_canvas.svg(FIGURES[name](result), name) for name in ("leakage", "classes"))
    drawn = html.unescape(drawn)
    assert all(name in drawn for name in names)
