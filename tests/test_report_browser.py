"""The page in a real browser: no sideways scroll, no errors, no requests."""

import shutil

import pytest
from report_fixtures import hostile_result, make_result, one_dataset

from biasaudio.report.html import write_html

pytestmark = pytest.mark.browser

MAKE = {
    "two embeddings": lambda: make_result(embeddings=("openl3", "yamnet"), synthetic=True),
    "one dataset": one_dataset,
    "hostile names": hostile_result,
    "long names": lambda: make_result(
        embeddings=("e" * 90,), datasets=("a" * 70, "b" * 70), labels=("c" * 60, "organ")
    ),
}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module", params=MAKE)
def address(request, tmp_path_factory):
    path = write_html(MAKE[request.param](), tmp_path_factory.mktemp("page") / "report.html")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_and_is_quiet(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked, failed = [], [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: failed.append(dialog.message) or dialog.dismiss())
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    widths = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    page.close()
    assert widths[0] <= widths[1]
    assert said == []
    assert failed == []
    assert [url for url in asked if not url.startswith("data:")] == [address]


CONTRAST = """() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number).slice(0, 3);
  const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
  const speaks = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  return [...document.querySelectorAll('main *, header *')]
    .filter(e => !e.closest('svg') && speaks(e))
    .map(e => light(rgb(getComputedStyle(e).color)))
    .map(ink => (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05))
    .reduce((least, ratio) => Math.min(least, ratio), 99);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser, address, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    ratio = page.evaluate(CONTRAST)
    page.close()
    assert 4.5 <= ratio < 99
