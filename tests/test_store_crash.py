"""Kills, interrupts, damage and full disks: what was acknowledged stays, and nothing is mixed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from biasaudio import _files
from biasaudio.datasets import ClipTable
from biasaudio.errors import BiasAudioError, StoreError
from biasaudio.store import (
    Appender,
    EmbeddingStore,
    export,
    import_arrays,
    merge,
    relabel,
    repair,
    verify,
)
from biasaudio.store import output as output_module

N_KILLS = int(os.environ.get("BIASAUDIO_KILLS", 40))
D = 3


def vectors(name, model):
    """Frames of a clip that only this model makes."""
    seed = sum(name.encode()) * 1000 + sum(model.encode())
    return np.random.default_rng(seed).normal(size=(2, D)).astype("f4")


def add(writer, names, dataset="d"):
    sources = pd.DataFrame({"clip_id": names, "path": names, "sha256": ["0" * 64] * len(names)})
    rows = {name: vectors(name, writer.model["kind"]) for name in names}
    return writer.add(dataset, rows, sources, ClipTable.from_columns(names, dataset, genre="g"))


def table_of(path):
    """Vectors of each clip, which all are of one model."""
    table = EmbeddingStore(path, cache=False).table("e")
    return dict(zip(table.clips.clip_id, table.X, strict=True))


def model_of(found):
    """The model that has made all of these vectors."""
    models = {
        model
        for name, X in found.items()
        for model in ("one", "two", "three")
        if np.allclose(X, vectors(name, model).mean(axis=0), atol=1e-6)
    }
    assert len(models) == 1, "vectors of two models, or of none"
    return models.pop()


# Run in a process of its own, which is killed; it says what it has committed.
WORK = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from test_store_crash import add, vectors
from biasaudio.store import Appender, import_arrays, merge
path, turn = sys.argv[1], int(sys.argv[2])
names = [f"c{{i:03d}}" for i in range(30)]
writer = Appender(path, "e", {{"kind": "one"}}) if turn % 3 == 0 else None
if writer:
    for at in range(0, 30, 3):
        add(writer, names[at:at + 3])
        print(*names[at:at + 3], flush=True)
        if at % 9 == 6:
            merge(path)
elif turn % 3 == 1:
    old = Appender(path, "e", {{"kind": "two" if turn % 2 else "three"}}, staged=True)
    for at in range(0, 30, 10):
        add(old, names[at:at + 10])
    old.publish()
else:
    X = np.concatenate([vectors(name, "one") for name in names])
    import_arrays(path, X, names, dataset="d", embedding="e", genre="g", overwrite=True,
                  frame_clip=np.arange(30).repeat(2))
    merge(path)
print("done", flush=True)
"""


def test_kills_at_random_moments_lose_nothing(tmp_path):
    code = WORK.format(tests=str(Path(__file__).parent))
    rng, folder = random.Random(0), tmp_path / "s"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Children of one process that has imported everything: a kill costs no second of imports.
    for turn in range(N_KILLS):
        if turn % 3 == 0:
            shutil.rmtree(folder, ignore_errors=True)
        acknowledged = _forked(code, folder, turn, rng.uniform(0, 0.5 if turn % 3 else 0.9), env)
        if not folder.exists() or not list(folder.glob("part-*.h5")):
            assert not acknowledged
            continue
        try:
            found = table_of(folder)
        except StoreError:
            assert not acknowledged
            continue
        model_of(found)
        assert {name for line in acknowledged for name in line.split()} - {"done"} <= set(found)
        assert verify(folder).faults == []
        # The next writer removes what is left.
        relabel(folder, ClipTable.from_columns(["c000"], "d", split="train"), overwrite=True)
        assert verify(folder).leftovers == []


def _forked(code, folder, turn, seconds, env):
    """Run the code in a fork, kill it after some time, and return the lines that it printed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        sys.stdout = os.fdopen(1, "w")
        sys.argv = ["work", str(folder), str(turn)]
        try:
            exec(compile(code, "work", "exec"), {"__name__": "work"})
        finally:
            os._exit(0)
    os.close(write)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(read) as stream:
        return [line for line in stream.read().splitlines() if line.endswith(("done",)) or line]


def writes(monkeypatch, at, act):
    """Let ``act`` happen at the write of this number; return how many there were."""
    count = [0]
    real = output_module._Tolerant.__mro__[1].write

    class Tolerant(output_module._Tolerant):
        def write(self, data):
            count[0] += 1
            if count[0] == at:
                try:
                    act()
                except BaseException as error:
                    self.failure = self.failure or error
            return super().write(data)

    assert real is not None
    monkeypatch.setattr(output_module, "_Tolerant", Tolerant)
    return count


ACTIONS = {
    "import": lambda path: import_arrays(
        path, np.eye(4), list("abcd"), dataset="x", embedding="e", label=list("xyxy")
    ),
    "extend": lambda path: import_arrays(
        path.with_name("one.h5"), np.eye(4), list("abcd"), dataset="x", embedding="e"
    ),
    "append": lambda path: add(Appender(path, "e", {"kind": "one"}), ["n1", "n2"]),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("what", ["interrupt", "full disk"])
def test_a_failure_at_any_write_leaves_the_store_as_it_was(tmp_path, monkeypatch, action, what):
    writer = Appender(tmp_path / "s", "e", {"kind": "one"})
    add(writer, ["a1", "a2"])
    export(tmp_path / "s", tmp_path / "one.h5")
    old = {each.name: each.read_bytes() for each in tmp_path.rglob("*.h5")}

    def fail():
        if what == "interrupt":
            signal.raise_signal(signal.SIGINT)
        else:
            raise OSError(28, "No space left on device")

    before = sorted(each.name for each in (tmp_path / "s").iterdir())
    for at in range(1, 200):
        with monkeypatch.context() as patch:
            count = writes(patch, at, fail)
            wanted = KeyboardInterrupt if what == "interrupt" else StoreError
            try:
                ACTIONS[action](tmp_path / "s")
            except wanted:
                assert sorted(each.name for each in (tmp_path / "s").iterdir()) == before
                assert verify(tmp_path / "s").faults == []
                assert {each.name: each.read_bytes() for each in tmp_path.rglob("*.h5")} == old
                continue
        assert count[0] < at
        break
    assert at > 5
    changed = tmp_path / ("one.h5" if action == "extend" else "s")
    assert verify(changed).faults == []
    assert verify(changed).n_clips == (4 if action == "append" else 6)


def test_what_is_not_what_was_given_never_takes_its_place(tmp_path, monkeypatch):
    path = import_arrays(tmp_path / "s.h5", np.eye(3), list("abc"), dataset="d")
    before = path.read_bytes()
    real = output_module.crcs_of
    monkeypatch.setattr(
        output_module, "crcs_of", lambda frames: {k: v ^ 1 for k, v in real(frames).items()}
    )
    with pytest.raises(StoreError, match="are not what was written"):
        import_arrays(path, np.eye(3), list("abc"), dataset="d", embedding="other")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    import_arrays(tmp_path / "s", np.eye(3), list("abc"), dataset="d")
    (tmp_path / "s").chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        import_arrays(tmp_path / "s", np.eye(3), list("abc"), dataset="e")
    (tmp_path / "s").chmod(0o700)


def content(path):
    """All that a reader sees of a store."""
    store = EmbeddingStore(path, cache=False)
    found = [store.datasets(), store.embeddings("d"), store.origin("d", "e").model]
    clips, table = store.clips(), store.table("e")
    found += [clips.frame.to_csv(), clips.labels.to_csv(), clips.mask.to_csv()]
    return [*found, store.origin("d", "e").sources.to_csv(), table.X.tobytes()]


@pytest.fixture
def small(tmp_path):
    """One file with everything that a store can have."""
    writer = Appender(tmp_path / "s", "e", {"kind": "one", "rate": 16000})
    names = ["a", "b", "c"]
    sources = pd.DataFrame({"clip_id": names, "path": names, "sha256": ["1" * 64] * 3})
    clips = ClipTable.from_columns(names, "d", genre="rock", label=["x", "y", "x"])
    writer.add("d", {name: vectors(name, "one") for name in names}, sources, clips)
    return export(tmp_path / "s", tmp_path / "out.h5")


def test_no_flipped_byte_reads_as_something_else(small, tmp_path):
    data, expected = bytearray(small.read_bytes()), content(small)
    path, wrong = tmp_path / "flipped.h5", []
    rng = np.random.default_rng(0)
    places = rng.permutation(len(data))[: int(os.environ.get("BIASAUDIO_FLIPS", 200))]
    for at in places.tolist():
        flipped = data.copy()
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            found = content(path)
        except BiasAudioError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most flips leave no error
        else:
            if found != expected:
                wrong.append(at)
    assert wrong == []


def test_damage_is_named_and_every_clip_whose_bytes_are_right_is_kept(tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 16)).astype("f4")
    names = [f"c{i:02d}" for i in range(40)]
    import_arrays(tmp_path / "s", X, names, dataset="d", genre="rock")
    [file] = EmbeddingStore(tmp_path / "s").files
    data = file.read_bytes()
    for clip in rng.permutation(40)[:8].tolist():
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "t")
        damaged = bytearray(data)
        damaged[data.index(X[clip].tobytes()) + 5] ^= 16
        (tmp_path / "t" / file.name).write_bytes(damaged)
        [fault] = verify(tmp_path / "t").faults
        assert (fault.clip, fault.what) == (names[clip], "its vectors are not what was written")
        with pytest.raises(StoreError):
            merge_or_table(tmp_path / "t")
        done = repair(tmp_path / "t")
        assert done.after.faults == []
        assert (done.quarantine / file.name).read_bytes() == damaged
        assert f"{names[clip]}" in (done.quarantine / "taken_out.csv").read_text()
        table = EmbeddingStore(tmp_path / "t").table()
        left = np.delete(np.arange(40), clip)
        assert table.clips.clip_id.tolist() == [names[i] for i in left]
        np.testing.assert_array_equal(table.X, X[left])


def merge_or_table(path):
    EmbeddingStore(path, cache=False).table()


def test_a_damaged_list_is_refused_and_made_anew(tmp_path):
    writer = Appender(tmp_path / "s", "e", {"kind": "one"})
    add(writer, ["a", "b"])
    expected = table_of(tmp_path / "s")
    path = tmp_path / "s" / "parts.txt"
    text = path.read_text()
    path.write_text(text.replace("part-", "part_"))
    for call in (lambda: EmbeddingStore(tmp_path / "s"), lambda: add(writer, ["c"])):
        with pytest.raises(StoreError, match=r"parts\.txt cannot be read .*verify --repair"):
            call()
    [fault] = verify(tmp_path / "s").faults
    assert "another" in fault.what
    repair(tmp_path / "s")
    found = table_of(tmp_path / "s")
    assert {k: v.tobytes() for k, v in found.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }


def test_nothing_is_removed_on_the_word_of_others(tmp_path):
    import_arrays(tmp_path / "s", np.eye(2), list("ab"), dataset="d")
    others = [tmp_path / "s" / name for name in ("mine.h5", "x.h5.partial", "part-1.h5", "n.txt")]
    for each in others:
        each.write_text("kept")
    import_arrays(tmp_path / "s", np.eye(2), list("ab"), dataset="f")
    merge(tmp_path / "s")
    assert all(each.read_text() == "kept" for each in others)
    # A list that leads elsewhere is refused.
    text = (tmp_path / "s" / "parts.txt").read_text().partition("\n")[2]
    import zlib

    text = text.replace('"files": [', '"files": [\n  "../secret.h5",')
    first = f"biasaudio-store 3 {zlib.crc32(text.encode()):08x}"
    (tmp_path / "s" / "parts.txt").write_text(f"{first}\n{text}")
    with pytest.raises(StoreError, match="a name that leads elsewhere"):
        EmbeddingStore(tmp_path / "s")


@pytest.mark.parametrize("name", ["s.h5", "s"])
def test_a_cache_of_somebody_else_is_passed_over(tmp_path, name):
    X = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    about = {"dataset": "d", "frame_clip": np.arange(4).repeat(2)}
    path = import_arrays(tmp_path / "theirs" / name, X, list("abcd"), **about)
    expected = EmbeddingStore(path).table().X
    cached = "s.h5.pooled" if name == "s.h5" else "s/.pooled"
    [file] = (tmp_path / "theirs" / cached).iterdir()
    np.testing.assert_array_equal(EmbeddingStore(path).table().X, expected)
    assert verify(path).leftovers == []
    # What is there is read, and only that: the test is able to tell.
    _scale(file)
    np.testing.assert_array_equal(EmbeddingStore(path).table().X, 2 * expected)
    # Whoever unpacks such a store, with all names and times, gets the vectors of the store.
    if name == "s.h5":
        shutil.copytree(tmp_path / "theirs", tmp_path / "mine")
    else:
        archive = shutil.make_archive(str(tmp_path / "a"), "tar", tmp_path / "theirs")
        shutil.unpack_archive(archive, tmp_path / "mine")
    mine = tmp_path / "mine" / name
    [leftover] = verify(mine).leftovers
    assert leftover.path == tmp_path / "mine" / cached / file.name
    np.testing.assert_array_equal(EmbeddingStore(mine).table().X, expected)
    assert verify(mine).leftovers == []
    # Vectors of another time; and a cache that is damaged.
    import_arrays(path, X + 1, list("abcd"), **about, overwrite=True)
    assert [each.path for each in verify(path).leftovers] == [file]
    np.testing.assert_allclose(EmbeddingStore(path).table().X, expected + 1, rtol=1e-5)
    file.write_bytes(file.read_bytes()[:-100])
    assert [each.path for each in verify(path).leftovers] == [file]
    repair(path)
    assert not file.exists()
    np.testing.assert_allclose(EmbeddingStore(path).table().X, expected + 1, rtol=1e-5)


def _scale(file):
    """Double the vectors of a cache."""
    with h5py.File(file, "a") as handle:
        handle["d/embedding/features"][...] *= 2


def test_who_holds_the_lock_is_named(tmp_path, monkeypatch):
    from biasaudio.store import parts

    path = tmp_path / "s"
    with (
        parts.writing(path),
        pytest.raises(StoreError, match=r"written by process \d+ on .*; wait"),
        parts.writing(path, wait=0.1),
    ):
        pass
    assert not (path / ".lock").exists()


def test_two_writers_a_merger_and_readers(tmp_path):
    code = WORK.format(tests=str(Path(__file__).parent)).replace("merge(path)", "pass")
    folder, pids = tmp_path / "s", []
    Appender(folder, "e", {"kind": "one"})
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for _ in range(2):
        command = [sys.executable, "-c", code, str(folder), "0"]
        pids.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
    seen, wrong = set(), []
    end = time.monotonic() + 60
    while any(each.poll() is None for each in pids) and time.monotonic() < end:
        if list(folder.glob("part-*.h5")):
            try:
                merge(folder)
                found = table_of(folder)
            except StoreError as error:
                wrong.append(str(error))
                continue
            model_of(found)
            assert seen <= set(found)
            seen = set(found)
    assert [each.wait() for each in pids] == [0, 0]
    # Until the first commit there is nothing to read.
    assert all("without vectors" in text or "without .h5" in text for text in wrong)
    assert len(table_of(folder)) == 30


def test_a_folder_is_put_in_place_whole(tmp_path):
    target = tmp_path / "report"
    for text in ("old", "new"):
        with _files.replacing_folder(target) as folder:
            (folder / "a.txt").write_text(text)
    assert (target / "a.txt").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["report"]
    # Killed between the two renames: the old one comes back.
    target.rename(tmp_path / ".report.biasaudio-old")
    with pytest.raises(RuntimeError), _files.replacing_folder(target):
        raise RuntimeError
    assert (target / "a.txt").read_text() == "new"
