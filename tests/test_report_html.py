"""The page is one file, escaped, offline, and says what the audit says."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from report_fixtures import FakeResult, hostile_result, make_result, one_dataset

import biasaudio.report
from biasaudio.report.html import notebook_html, render_html, write_html
from biasaudio.report.text import verdict

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Collect tags, ids, headings and links, and check the nesting."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.ids, self.links, self.figures = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" and "href" in attrs else []
        if tag == "svg":
            self.figures.append(attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def outline(page):
    found = Outline()
    found.feed(page)
    assert found.stack == []
    return found


@pytest.fixture(scope="module")
def page():
    return render_html(make_result(synthetic=True))


def test_page_is_well_nested_with_unique_ids(page):
    found = outline(page)
    assert len(found.ids) == len(set(found.ids))
    assert found.tags.count("h1") == 1
    assert {link[1:] for link in found.links} <= set(found.ids)


@pytest.mark.parametrize("make", [one_dataset, FakeResult, hostile_result])
def test_other_results_make_a_page_too(make):
    found = outline(render_html(make()))
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_headings_skip_no_level(page):
    levels = [int(tag[1]) for tag in outline(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_nothing_is_loaded_from_elsewhere(page):
    # Namespaces are names, not addresses that are fetched.
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)", bare)
    assert "<script" not in bare
    assert "default-src 'none'" in bare


def test_names_are_escaped():
    page = render_html(hostile_result())
    assert "<script" not in page
    assert "onerror=alert(1)>" not in page
    assert "<b>emb</b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page


def test_figures_have_alternative_text(page):
    figures = outline(page).figures
    assert len(figures) == 5
    assert all(f["role"] == "img" and len(f["aria-label"]) > 40 for f in figures)


def test_figures_take_their_inks_from_the_page(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--ink)" in drawn
    assert "#1d2126" not in drawn


def test_verdict_comes_first_and_is_complete(page):
    text = page.replace("&#39;", "'").replace("\N{MINUS SIGN}", "-")
    for finding in verdict(make_result(synthetic=True)):
        assert finding.answer in text
    places = [
        page.index(f'id="{name}"')
        for name in ("verdict", "side", "classes", "data", "methods", "provenance", "glossary")
    ]
    assert places == sorted(places)


def test_provenance_is_printed(page):
    meta = make_result().meta
    assert meta["command"] in page
    assert meta["files"][0]["sha256"] in page
    assert "12,345,678" in page
    assert "0.1.0" in page
    assert "yamnet: 3 clips of fluidr3 have no vector" in page
    assert "label guitar: no positives in fluidr3" in page


def test_synthetic_data_are_named_as_such(page):
    assert "These data are synthetic" in page
    assert "Planted and found" in page
    real = render_html(make_result())
    assert "These data are synthetic" not in real
    assert "Planted and found" not in real


def test_method_cards_say_what_was_seen(page):
    cards = re.findall(r"<article>.*?</article>", page, flags=re.DOTALL)
    assert len(cards) == 7
    (nap,) = [card for card in cards if "<code>nap</code>" in card]
    seen = re.findall(r"<dt>([^<]*)</dt><dd[^>]*>([^<]*)</dd>", nap)
    assert dict(seen)["labels of the target"] == "seen"
    assert dict(seen)["the dataset of each clip, when applied"] == "not seen"


def test_undeclared_methods_have_a_card_that_says_so():
    result = make_result(methods=("original", "leace"))
    page = render_html(replace(result, methods=result.methods.iloc[:0]))
    assert "not declared" in page


@pytest.mark.parametrize("make", [make_result, one_dataset, FakeResult, hostile_result])
def test_notebook_fragment_is_small_and_escaped(make):
    fragment = notebook_html(make())
    outline(fragment)
    assert "<script" not in fragment
    assert "<svg" not in fragment
    assert "<html" not in fragment


def test_notebook_fragment_has_verdict_and_overview():
    fragment = notebook_html(make_result(synthetic=True))
    assert "Dataset identity is readable from yamnet" in fragment
    assert "not measurable" in fragment
    assert "synthetic data" in fragment


def test_same_result_gives_the_same_page(page):
    assert render_html(make_result(synthetic=True)) == page


def test_write_makes_the_folder_and_leaves_no_partial_file(tmp_path):
    path = write_html(one_dataset(), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert os.listdir(path.parent) == ["report.html"]


def test_failed_write_keeps_the_old_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    broken = replace(one_dataset(), probes=None)
    with pytest.raises(ValueError, match="needs a DataFrame"):
        write_html(broken, path)
    assert path.read_text(encoding="utf-8") == "old"


def test_meta_may_be_bare():
    page = render_html(replace(make_result(methods=("original", "lda")), meta={}))
    assert "not recorded" in page


def test_public_names_are_lazy():
    code = (
        "import sys, biasaudio.report as r; assert 'matplotlib' not in sys.modules; "
        "assert set(r.__all__) <= set(dir(r)); assert r.verdict and r.FIGURES and r.write_html"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = biasaudio.report.nothing
