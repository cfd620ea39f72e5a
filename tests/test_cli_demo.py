"""``biasaudio demo``, on less audio than it takes for good numbers."""

import functools
import subprocess
import sys

import pytest
from audit_fixtures import QUICK, arrays, call, failure, stored, strict

import biasaudio
from biasaudio import AuditResult
from biasaudio.datasets import synthesis

FILES = {"store.h5", "report.html", "audit.json", "transfer.csv", "probes.csv", "comparisons.csv"}


@pytest.fixture
def quick(monkeypatch):
    """Make the clips short and the statistics coarse."""
    for room, name, options in (
        (synthesis, "synthesize_datasets", {"seconds": 0.2}),
        (biasaudio, "audit", {"methods": ["leace"], **QUICK}),
    ):
        monkeypatch.setattr(room, name, functools.partial(getattr(room, name), **options))


def test_the_demo_writes_a_report_the_same_again_and_says_that_it_is_synthetic(
    capsys, tmp_path, quick
):
    out = tmp_path / "demo"
    argv = ["demo", "--songs", "24", "--n-jobs", "1", "--out", out]
    code, text, err = call(capsys, *argv)
    assert code == 0
    assert text.endswith(f"Report: {out / 'report.html'}\n")
    assert "synthetic" in text
    assert "Synthesising audio: nothing in this demo is recorded music." in err
    assert FILES <= {path.name for path in out.iterdir()}
    assert not list(out.rglob("*.partial"))
    result = AuditResult.load(out)
    assert result.meta["synthetic"] is True
    assert result.meta["planted"]
    assert result.meta["datasets"] == ["field", "studio"]
    assert result.meta["command"] == f"biasaudio demo --songs 24 --n-jobs 1 --out {out}"
    probes = result.probes.query("design == 'cross-fit' and probe == 'domain' and mix == 'raw'")
    assert probes["auc"].min() > 0.9
    # Again in the same folder: the same bytes, and one document.
    code, text, err = call(capsys, *argv, "--json", "--quiet")
    assert (code, err) == (0, "")
    document = strict(text)
    assert document["report"] == str(out / "report.html")
    assert document["store"] == str(out / "store.h5")
    assert document["meta"]["files"] == result.meta["files"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--songs", "2"], "--songs=2 is too few to compare instruments; give 24 or more"),
        (["--songs", "0"], "argument --songs: '0' is not allowed; give a whole number from 1"),
        (["--n-jobs", "0"], "--n-jobs=0 is not allowed; give 1 or more, or -1 for all"),
    ],
)
def test_what_the_demo_refuses_before_any_work(capsys, tmp_path, argv, message):
    code, line = failure(capsys, "demo", *argv, "--out", tmp_path / "d")
    assert code == 2
    assert message in line
    assert not (tmp_path / "d").exists()


def test_a_store_of_somebody_else_is_not_replaced(capsys, tmp_path):
    path = stored(tmp_path / "store.h5", arrays("a"))
    code, line = failure(capsys, "demo", "--songs", "24", "--out", tmp_path)
    assert code == 2
    assert line == f"{path} holds 'a', not the demo; give another --out"
    assert [file.name for file in tmp_path.iterdir()] == ["store.h5"]


@pytest.mark.slow
def test_the_demo_as_a_user_runs_it(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "biasaudio", "demo", "--songs", "40"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("Report: demo-report/report.html\n")
    assert FILES <= {path.name for path in (tmp_path / "demo-report").iterdir()}
    result = AuditResult.load(tmp_path / "demo-report")
    assert len(result.meta["labels"]) == 6
    probes = result.probes.query("design == 'three-way' and mix == 'equal' and kind == 'linear'")
    auc = probes.set_index("method")["auc"]
    assert auc["original"] > 0.95
    assert auc["leace"] < auc["original"] - 0.1
