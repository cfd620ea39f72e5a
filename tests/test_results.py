"""Saving and loading of audits, and the folder they make."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_fixtures import QUICK, arrays, joined
from matplotlib.figure import Figure

import biasaudio
from biasaudio._files import write_text
from biasaudio.errors import DataError, ParameterError
from biasaudio.results import TABLES, AuditResult, check_folder, make_folder

FIGURES = {"leakage", "transfer", "tradeoff", "classes", "distribution"}


@pytest.fixture(scope="module")
def result():
    """Give an audit with names that are not ASCII."""
    label = np.array(["Bratsche ♭", "flûte"])[np.arange(120) % 2]
    parts = (arrays(name, label=label) for name in ("Süd", "北"))
    table = joined(*parts, embedding="mél")
    return biasaudio.audit(table, methods=["lda"], **(QUICK | {"n_permutations": 0}))


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    """Give the folder that the audit was saved to."""
    return result.save(tmp_path_factory.mktemp("audit") / "new" / "out")


def written(folder):
    """Return the relative paths of all files."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_all_files_and_no_partial_ones(folder):
    assert written(folder) == {
        "report.html",
        "audit.json",
        "transfer.csv",
        "probes.csv",
        "comparisons.csv",
        *(f"figures/{name}.svg" for name in FIGURES),
    }


@pytest.mark.parametrize("where", [".", "audit.json"])
def test_what_was_saved_is_loaded_equal(result, folder, where):
    loaded = AuditResult.load(folder / where)
    assert loaded == result
    assert loaded.meta == result.meta
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(result, name))


def test_unknown_numbers_survive(result, folder):
    # Without permutations there is no p-value.
    assert result.probes["p_value"].isna().all()
    assert AuditResult.load(folder).probes["p_value"].isna().all()
    assert "NaN" not in (folder / "audit.json").read_text(encoding="utf-8")


def test_empty_tables_survive(tmp_path):
    empty = AuditResult.from_rows({}, {"note": "ü"})
    write_text(tmp_path / "audit.json", empty.to_json())
    loaded = AuditResult.load(tmp_path)
    assert loaded == empty
    assert all(getattr(loaded, name).empty for name in TABLES)
    assert {name: dict(getattr(loaded, name).dtypes) for name in TABLES} == {
        name: dict(getattr(empty, name).dtypes) for name in TABLES
    }


def test_results_differ_when_a_number_or_the_provenance_does(result):
    changed = result.probes.copy()
    changed.loc[0, "auc"] += 1e-9
    assert result != replace(result, probes=changed)
    assert result != replace(result, meta=result.meta | {"seed": 1})
    assert result == replace(result, probes=result.probes.copy())
    assert result != "something else"


def test_tables_are_read_back_from_csv(result, folder):
    for name in ("transfer", "probes", "comparisons"):
        table = pd.read_csv(folder / f"{name}.csv", encoding="utf-8")
        assert list(table.columns) == list(TABLES[name])
        assert len(table) == len(getattr(result, name))
    assert set(pd.read_csv(folder / "transfer.csv")["train_set"]) == {"Süd", "北"}


def test_saving_again_replaces_files_and_removes_figures_of_before(result, folder, tmp_path):
    out = tmp_path / "again"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "figures").mkdir()
    (out / "figures" / "transfer.svg").write_text("old")
    (out / "figures" / "mine.svg").write_text("keep")
    genres_only = biasaudio.audit(joined(arrays("a")), **QUICK)
    genres_only.save(out)
    assert {"mine.txt", "figures/mine.svg", "report.html"} <= written(out)
    assert "figures/transfer.svg" not in written(out)
    assert AuditResult.load(out) == genres_only


def test_saving_to_a_file_is_refused_and_leaves_it(result, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ParameterError, match="file is a file; give a folder to write to"):
        result.save(path)
    with pytest.raises(ParameterError, match=r"lies below .*file, which is a file; give a folder"):
        result.save(path / "below")
    assert path.read_text() == "mine"
    assert written(tmp_path) == {"file"}


def test_folders_are_checked_before_they_are_made(tmp_path):
    path = tmp_path / "a" / "b"
    assert check_folder(path) == path
    assert not path.parent.exists()
    assert make_folder(path).is_dir()
    assert make_folder(str(path)) == path


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ParameterError, match="may not be written to; give another folder"):
        check_folder(tmp_path / "out")


def test_a_failed_write_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert written(tmp_path) == {"x.txt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no audit.json; give the folder that an audit was written to"),
        ("", "damaged or not an audit .*run the audit again"),
        ("not json", "damaged or not an audit .*run the audit again"),
        ("[1, 2]", "is no audit but another JSON file; run the audit again"),
        ("{}", r"format, version = \(None, None\), and this version reads .*run the audit again"),
        (
            '{"format": "biasaudio-audit", "version": 99}',
            r"\('biasaudio-audit', 99\), and this version reads \('biasaudio-audit', 1\)",
        ),
        ('{"format": "biasaudio-audit", "version": 1}', "not an audit .it lacks 'tables'."),
    ],
)
def test_what_is_no_audit_is_not_loaded(tmp_path, text, message):
    if text is not None:
        (tmp_path / "audit.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        AuditResult.load(tmp_path)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([], "meta is no object"),
        ({"config": [1]}, "meta has 'config' as a list"),
        ({"files": [3]}, "meta has 'files' with an entry that is no object"),
        ({"warnings": "x"}, "meta has 'warnings' as a str"),
    ],
)
def test_an_audit_that_says_something_else_of_itself_is_not_loaded(tmp_path, meta, message):
    document = json.loads(AuditResult.from_rows({}, {"planted": None}).to_json())
    (tmp_path / "audit.json").write_text(json.dumps(document), encoding="utf-8")
    assert AuditResult.load(tmp_path).meta == {"planted": None}
    (tmp_path / "audit.json").write_text(json.dumps(document | {"meta": meta}), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        AuditResult.load(tmp_path)


def test_deep_json_and_numbers_without_end_are_no_audit(tmp_path):
    document = json.loads(AuditResult.from_rows({}, {}).to_json())
    row = [0] * len(document["tables"]["dropped"]["columns"])
    row[document["tables"]["dropped"]["columns"].index("n")] = float("inf")
    document["tables"]["dropped"]["rows"] = [row]
    for text in ("[" * 10**5, json.dumps(document)):
        (tmp_path / "audit.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="damaged or not an audit"):
            AuditResult.load(tmp_path)


def test_a_folder_that_is_not_there_is_not_loaded(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist; give the folder that an audit"):
        AuditResult.load(tmp_path / "nowhere")


def test_a_truncated_audit_is_not_loaded(folder, tmp_path):
    text = (folder / "audit.json").read_text(encoding="utf-8")
    for share in (0.2, 0.7, 0.999):
        (tmp_path / "audit.json").write_text(text[: int(share * len(text))], encoding="utf-8")
        with pytest.raises(DataError, match="damaged or not an audit"):
            AuditResult.load(tmp_path)


@pytest.mark.parametrize("harm", ["table", "column", "number", "row"])
def test_a_damaged_table_is_not_loaded(folder, tmp_path, harm):
    raw = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    probes = raw["tables"]["probes"]
    if harm == "table":
        del raw["tables"]["drops"]
    elif harm == "column":
        probes["columns"][0] = "other"
    elif harm == "number":
        probes["rows"][0][probes["columns"].index("n")] = "many"
    else:
        probes["rows"][0].pop()
    (tmp_path / "audit.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(DataError, match="damaged or not an audit"):
        AuditResult.load(tmp_path)


def test_every_figure_can_be_drawn_by_name(result):
    assert {name for name in dir(result.plot) if not name.startswith("_")} == FIGURES
    for name in FIGURES:
        assert isinstance(getattr(result.plot, name)(), Figure)
        assert getattr(result.plot, name).__doc__


def test_the_page_can_be_written_alone(result, tmp_path):
    path = result.to_html(tmp_path / "new" / "page.html")
    text = path.read_text(encoding="utf-8")
    assert "Bratsche ♭" in text
    assert "北" in text


def test_a_result_shows_itself(result):
    assert repr(result).startswith("AuditResult(probes: ")
    assert f"transfer: {len(result.transfer)}" in repr(result)
    assert "mél" in result.summary()
    assert "<" in result._repr_html_()


def test_a_result_is_not_hashable(result):
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)


def test_a_kill_leaves_the_old_report_or_the_new_one(result, tmp_path):
    out = result.save(tmp_path / "report")
    old = {name: (out / name).read_bytes() for name in written(out)}
    other = replace(result, meta={**result.meta, "title": "Another audit"})
    new = other.save(tmp_path / "new")
    new = {name: (new / name).read_bytes() for name in written(new)}
    assert old != new
    code = (
        "import sys; from biasaudio import AuditResult\n"
        "result = AuditResult.load(sys.argv[1]); print('.', flush=True)\n"
        "result.save(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new"), str(out)]
    for wait in np.linspace(0.0, 1.5, 6):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.read(1)
            time.sleep(wait)
            process.kill()
        found = {name: (out / name).read_bytes() for name in written(out)}
        assert found in (old, new)
        result.save(out)
        assert {path.name for path in tmp_path.iterdir()} == {"report", "new"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {name: (out / name).read_bytes() for name in written(out)} == new


def test_a_report_is_put_into_the_folder_that_one_stands_in(result, tmp_path, monkeypatch):
    result.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    result.save(".")
    assert Path("report.html").is_file()
    assert not [name for name in os.listdir() if name.startswith(".")]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_json_cannot_hold_is_refused(folder, tmp_path, number):
    text = (folder / "audit.json").read_text(encoding="utf-8")
    auc = json.loads(text)["tables"]["probes"]["rows"][0]
    value = next(repr(cell) for cell in auc if isinstance(cell, float))
    (tmp_path / "audit.json").write_text(text.replace(value, number, 1), encoding="utf-8")
    with pytest.raises(DataError, match=f"it has the number {number}.; run the audit again"):
        AuditResult.load(tmp_path)
