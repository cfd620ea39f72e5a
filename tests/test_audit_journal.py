"""A study that was interrupted goes on where it stopped, and ends with the same bytes."""

import json
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from tiny_layout import INSTRUMENTS, write_layout

from biasaudio import reproduce
from biasaudio._audit.reproduce import Journal
from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.transfer import wang2023

pytestmark = pytest.mark.slow

TABLES = [f"{kind}_{m}.csv" for kind in ("result_all", "table") for m in ("global", "classwise")]


def study(folder, out, **options):
    """Return the tables of a study as bytes, and its warnings."""
    options = {"labels": list(INSTRUMENTS), "methods": ["lda", "mlda", "klda"]} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        reproduce(folder, out=out, **options).save(out)
    return [(out / name).read_bytes() for name in TABLES], {str(w.message) for w in caught}


def count_pieces(monkeypatch, *, stop_after=None):
    """Return a list that grows with each piece worked on; one too many is an interruption."""
    seen = []
    run = wang2023.Wang2023Protocol.run

    def counted(self, task, piece):
        if len(seen) == stop_after:
            raise KeyboardInterrupt
        seen.append((piece.labels[0], wang2023.is_kernel(piece)))
        return run(self, task, piece)

    monkeypatch.setattr(wang2023.Wang2023Protocol, "run", counted)
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("layout"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    return study(folder, tmp_path_factory.mktemp("whole"))


def test_an_interrupted_study_does_only_what_is_left(folder, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        first = count_pieces(patch, stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            study(folder, tmp_path)
    assert not (tmp_path / TABLES[0]).exists()
    with monkeypatch.context() as patch:
        rest = count_pieces(patch)
        found = study(folder, tmp_path)
    assert (len(first), len(rest)) == (3, 1)
    assert not set(first) & set(rest)
    assert found == whole  # warnings of the first run included
    with monkeypatch.context() as patch:
        none = count_pieces(patch)
        assert study(folder, tmp_path) == whole
    assert none == []


def test_a_killed_process_leaves_what_it_finished(folder, whole, tmp_path):
    code = (
        "import sys, time, warnings; warnings.simplefilter('ignore')\n"
        "import biasaudio\n"
        "from biasaudio._audit.reproduce import Journal\n"
        "add = Journal.add\n"
        "def slow(self, *args):\n"
        "    add(self, *args); time.sleep(0.5)\n"
        "Journal.add = slow\n"
        "biasaudio.reproduce(sys.argv[1], out=sys.argv[2], labels=['cello', 'violin'],\n"
        "    methods=['lda', 'mlda', 'klda'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder), str(tmp_path)])
    journal = tmp_path / "finished.jsonl"
    for _ in range(600):
        if journal.exists() and journal.read_bytes().count(b"\n"):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes()
    assert 1 <= kept.count(b"\n") <= 3
    assert study(folder, tmp_path) == whole
    assert journal.read_bytes().startswith(kept)


def test_a_line_that_was_cut_off_is_done_again(folder, whole, tmp_path):
    study(folder, tmp_path)
    journal = tmp_path / "finished.jsonl"
    full = journal.read_bytes()
    for cut in (1, 200, len(full) - full.index(b"\n") - 5):
        journal.write_bytes(full[:-cut])
        assert study(folder, tmp_path) == whole
        assert journal.read_bytes() == full


@pytest.mark.parametrize("place", [5, 30, 200, -3])
def test_a_damaged_line_is_named_and_done_again(folder, whole, tmp_path, place):
    study(folder, tmp_path)
    journal = tmp_path / "finished.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    bad = bytearray(lines[1])
    bad[place] ^= 1
    journal.write_bytes(b"".join([lines[0], bytes(bad), *lines[2:]]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = reproduce(
            folder, out=tmp_path, labels=["cello", "violin"], methods=["lda", "mlda", "klda"]
        )
    said = [str(one.message) for one in caught]
    assert any(re.search(r"1 of \d+ lines are not what was written", text) for text in said)
    found.save(tmp_path)
    assert study(folder, tmp_path)[0] == whole[0]


def test_an_embedding_may_be_called_like_a_method(folder, tmp_path):
    import shutil

    import h5py

    other = tmp_path / "data"
    shutil.copytree(folder, other)
    with h5py.File(other / "embeddings.h5", "r+") as handle:
        for dataset in handle:
            handle.move(f"{dataset}/tiny", f"{dataset}/tiny-k")
    found = reproduce(other, labels="cello", methods=["lda"], modes="global")
    assert set(found.tables["global"]["embedding"]) == {"tiny-k"}
    assert set(found.tables["global"]["method"]) == {"original", "lda"}
    assert set(found.rows["global"]["embedding"]) == {"tiny-k", "tiny-k-lda"}


def test_other_data_options_or_methods_are_not_taken_for_the_same(
    folder, whole, tmp_path, monkeypatch
):
    study(folder, tmp_path)
    seen = count_pieces(monkeypatch)
    study(folder, tmp_path, labels="cello")
    assert seen == []  # a part of what is known
    study(folder, tmp_path, methods=["lda", "klda"])
    assert seen == [(0, False), (1, False)]
    study(folder, tmp_path, solver="liblinear", modes="global", methods=[], labels="cello")
    assert len(seen) == 3
    other = write_layout(tmp_path / "other", np.random.default_rng(1))
    study(other, tmp_path)
    assert len(seen) == 7


def test_rows_do_not_depend_on_the_jobs_or_the_journal(folder, whole, tmp_path):
    assert study(folder, tmp_path, n_jobs=2) == whole


def test_a_file_of_something_else_is_refused_and_kept(folder, tmp_path):
    journal = tmp_path / "finished.jsonl"
    journal.write_text('{"mine": 1}\n')
    with pytest.raises(DataError, match=r"finished.jsonl is not a record .* remove it, or write"):
        study(folder, tmp_path)
    assert journal.read_text() == '{"mine": 1}\n'
    journal.write_text("my notes")
    with pytest.raises(DataError, match="it is of something else"):
        study(folder, tmp_path)
    assert journal.read_text() == "my notes"


def test_two_studies_in_one_folder_lose_nothing(tmp_path):
    path = tmp_path / "finished.jsonl"
    one, other = Journal(path), Journal(path)
    for k in range(4):
        one.add({"k": k}, k)
        other.add({"k": k + 10}, "x" * 50)
    assert [Journal(path).get({"k": k}) for k in range(4)] == [0, 1, 2, 3]
    assert Journal(path).get({"k": 13}) == "x" * 50


def test_what_is_named_twice_counts_once(folder):
    options = {"labels": "cello", "methods": ["lda"]}
    twice = reproduce(folder, modes=["global", "global"], embeddings=["tiny", "tiny"], **options)
    once = reproduce(folder, modes="global", **options)
    pd.testing.assert_frame_equal(twice.rows["global"], once.rows["global"])


def test_numbers_come_back_with_all_their_digits(tmp_path, rng):
    path = tmp_path / "new" / "finished.jsonl"
    numbers = [*rng.normal(size=50), 1e-300, 0.1 + 0.2, 5, True]
    Journal(path).add({"a": 1, "b": "x"}, numbers)
    again = Journal(path)
    assert again.get({"b": "x", "a": 1}) == numbers
    assert again.get({"a": 2, "b": "x"}) is None
    assert json.loads(path.read_text())["entry"]["key"] == {"a": 1, "b": "x"}
    nothing = Journal(None)
    nothing.add({"a": 1}, 3)
    assert nothing.get({"a": 1}) == 3


def test_without_a_folder_nothing_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasAudioWarning)
        found = reproduce(folder, labels="cello", methods=["lda"], modes="global")
    assert isinstance(found.rows["global"], pd.DataFrame)
    assert list(tmp_path.iterdir()) == []
