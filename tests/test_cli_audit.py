"""``biasaudio audit`` and ``biasaudio report``."""

import argparse
import hashlib
import io
from contextlib import redirect_stdout

import pytest
from audit_fixtures import FEW, LABELS, N, arrays, call, failure, stored, strict, write_layout

import biasaudio
from biasaudio import AuditResult
from biasaudio.cli._common import read_clips
from biasaudio.cli.main import main
from biasaudio.datasets import PUBLISHED, load_irmas, load_openmic


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a store of two datasets with labels, groups and genres."""
    path = tmp_path_factory.mktemp("store") / "s.h5"
    return stored(path, arrays("a"), arrays("b", shift=1.0))


@pytest.fixture(scope="module")
def audited(store, tmp_path_factory):
    """Give the folder of an audit and the argv that made it."""
    out = tmp_path_factory.mktemp("audit") / "out"
    argv = ["audit", store, "--methods", "lda", "leace", *FEW, "--quiet", "--out", str(out)]
    return out, argv


@pytest.fixture(scope="module")
def document(audited):
    """Run that audit once, with --json, and give what it printed."""
    text = io.StringIO()
    with redirect_stdout(text):
        assert main([*audited[1], "--json"]) == 0
    return strict(text.getvalue())


@pytest.fixture
def lean(monkeypatch):
    """Leave out the figures and the page, which take most of the time."""
    monkeypatch.setattr("biasaudio.report.save_figures", lambda *_: [])
    monkeypatch.setattr(AuditResult, "to_html", lambda _, path: path)


def test_the_report_is_written_and_its_path_given(audited, document):
    out, _ = audited
    assert document["out"] == str(out)
    assert document["report"] == str(out / "report.html")
    assert (out / "report.html").stat().st_size > 10_000
    assert not list(out.rglob("*.partial"))


def test_the_document_has_the_tables_and_the_provenance(audited, document):
    result = AuditResult.load(audited[0])
    assert len(document["probes"]) == len(result.probes)
    assert document["comparisons"][0]["method"] in ("lda", "leace")
    assert document["drops"][0]["drop"] == pytest.approx(result.drops["drop"][0])
    assert document["meta"] == result.meta


def test_the_options_reach_the_audit(document, store):
    meta = document["meta"]
    assert meta["config"]["n_permutations"] == 9
    assert meta["config"]["n_resamples"] == 40
    assert {row["method"] for row in document["probes"]} == {"original", "lda", "leace"}
    assert meta["files"][0]["path"] == store


def test_the_verdict_is_printed_and_the_path_last(capsys, store, tmp_path, lean):
    out = tmp_path / "out"
    argv = ["audit", store, "--methods", "lda", "--labels", "cello", "--modes", "global"]
    code, text, err = call(capsys, *argv, *FEW, "--quiet", "--out", out)
    assert (code, err) == (0, "")
    assert text.startswith("Bias audit of toy on a and b\n")
    assert text.endswith(f"\n\nReport: {out / 'report.html'}\n")
    assert AuditResult.load(out).meta["labels"] == ["cello"]


def test_the_command_is_kept(capsys, store, tmp_path, lean):
    argv = ["audit", store, "--datasets", "a", *FEW, "--out", str(tmp_path / "my out")]
    assert call(capsys, *argv)[0] == 0
    command = AuditResult.load(tmp_path / "my out").meta["command"]
    assert command == f"biasaudio {' '.join(argv[:-1])} '{tmp_path / 'my out'}'"


def test_a_manifest_says_what_the_clips_are(capsys, store, tmp_path, lean):
    rows = [f"{d}-{i},{d},{LABELS[i]},song {i // 2}" for d in "ab" for i in range(N)]
    path = tmp_path / "clips.csv"
    path.write_text("\n".join(["clip_id,dataset,label,group", *rows]), encoding="utf-8")
    argv = ["audit", store, "--clips", path, "--methods", "lda", *FEW, "--out", tmp_path / "out"]
    assert call(capsys, *argv)[0] == 0
    result = AuditResult.load(tmp_path / "out")
    assert set(result.probes["probe"]) == {"domain"}
    content = path.read_bytes()
    assert result.meta["files"][1:] == [
        {
            "path": str(path),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]


def test_the_files_of_the_dataset_folders_are_kept(capsys, tmp_path, rng, lean):
    folder = write_layout(tmp_path, rng)
    (folder / "irmas" / "unread.csv").write_text("x")
    argv = ["audit", folder / "embeddings.h5", "--embedding", "toy", "--methods", "lda", *FEW]
    argv += ["--openmic", folder / "openmic-2018", "--irmas", folder / "irmas"]
    assert call(capsys, *argv, "--out", tmp_path / "out")[0] == 0
    files = AuditResult.load(tmp_path / "out").meta["files"]
    assert [one["path"].removeprefix(f"{folder}/") for one in files] == [
        "embeddings.h5",
        "irmas/split_train.csv",
        "irmas/split_test.csv",
        "openmic-2018/openmic-2018-aggregated-labels.csv",
        "openmic-2018/openmic-2018-metadata.csv",
        "openmic-2018/partitions/split01_train.csv",
        "openmic-2018/partitions/split01_test.csv",
    ]
    assert all(len(one["sha256"]) == 64 for one in files)


def test_one_dataset_alone_keeps_its_own_labels(tmp_path, rng):
    folder = write_layout(tmp_path, rng)
    openmic, irmas = str(folder / "openmic-2018"), str(folder / "irmas")

    def names(**given):
        args = argparse.Namespace(**({"clips": None, "openmic": None, "irmas": None} | given))
        return read_clips(args).label_names

    assert names(openmic=openmic) == load_openmic(openmic).label_names
    assert "ukulele" in names(openmic=openmic)
    assert sorted(names(openmic=openmic, irmas=irmas)) == sorted(PUBLISHED.labels)
    assert names(irmas=irmas) == load_irmas(irmas).label_names


def test_a_partial_match_needs_a_word(capsys, store, tmp_path, lean):
    rows = [f"{d}-{i},{d},{LABELS[i]}" for d in "ab" for i in range(N)] + ["a-x,a,cello"]
    path = tmp_path / "clips.csv"
    path.write_text("\n".join(["clip_id,dataset,label", *rows]), encoding="utf-8")
    argv = ["audit", store, "--clips", path, "--methods", "lda", *FEW, "--out", tmp_path / "out"]
    code, line = failure(capsys, *argv)
    assert code == 1
    assert line == ("1 clip(s) have no vector: 'a-x'; compute or list them, or say --allow-partial")
    assert not (tmp_path / "out").exists()
    code, _, err = call(capsys, *argv, "--allow-partial")
    assert code == 0
    assert "warning: 1 clip(s) have no vector: 'a-x'; they are left out" in err


def test_two_sources_of_clips_are_wrong_usage(capsys, store, tmp_path):
    argv = ["audit", store, "--clips", "x.csv", "--irmas", "y", "--out", tmp_path / "out"]
    code, line = failure(capsys, *argv)
    assert (code, line) == (2, "--clips excludes --openmic and --irmas; give one or the other")


def test_methods_all_is_the_default(capsys, store, tmp_path, lean):
    argv = ["audit", store, "--methods", "all", "--datasets", "a", *FEW, "--out", tmp_path / "o"]
    assert call(capsys, *argv)[0] == 0
    assert AuditResult.load(tmp_path / "o").meta["excluded"][0]["what"].startswith("transfer")


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(
    capsys, store, tmp_path, monkeypatch, where
):
    monkeypatch.setattr(biasaudio, "audit", lambda *_, **__: pytest.fail("it was started"))
    (tmp_path / "file").write_text("mine")
    for command in (
        ["audit", store],
        ["report", tmp_path],
        ["reproduce", tmp_path],
        ["demo"],
    ):
        code, line = failure(capsys, *command, "--out", tmp_path / where)
        assert code == 2
        assert line.endswith("give a folder to write to")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_audit_leaves_an_older_one_as_it_was(capsys, audited, document, store):
    out, argv = audited
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert call(capsys, *argv, "--labels", "cell")[0] == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_report_prints_the_verdict_again_and_writes_the_page(capsys, audited, document, tmp_path):
    out, _ = audited
    code, text, err = call(capsys, "report", out, "--out", tmp_path / "copy")
    assert (code, err) == (0, "")
    assert text.startswith("Bias audit of toy on a and b\n")
    assert text.endswith(f"Report: {tmp_path / 'copy' / 'report.html'}\n")
    assert AuditResult.load(tmp_path / "copy") == AuditResult.load(out)


def test_report_takes_the_file_and_writes_beside_it(capsys, audited, document):
    out, _ = audited
    (out / "report.html").unlink()
    code, text, _ = call(capsys, "report", out / "audit.json", "--json")
    assert code == 0
    assert strict(text)["report"] == str(out / "report.html")
    assert strict(text)["meta"] == document["meta"]
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no audit.json; give the folder that an audit was written to"),
        ("{", "is damaged or not an audit ("),
    ],
)
def test_report_of_what_is_no_audit(capsys, tmp_path, content, message):
    if content is not None:
        (tmp_path / "audit.json").write_text(content)
    code, line = failure(capsys, "report", tmp_path)
    assert code == 1
    assert message in line
    assert not (tmp_path / "report.html").exists()
