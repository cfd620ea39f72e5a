"""Several writers and readers of one store: who waits, who is refused, and what is seen."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from extract_fixtures import (
    Child,
    ToyModel,
    assert_right,
    exported,
    extract_parts,
    held,
    names,
    truth,
    write_audio,
)

from biasaudio.embed.extraction import extract
from biasaudio.errors import StoreError
from biasaudio.store import EmbeddingStore, change, import_arrays, lock
from biasaudio.store import index as index_module
from biasaudio.store.change import writing
from biasaudio.store.check import check_store
from biasaudio.store.lock import LOCK, holder_of, is_held, lock_store
from biasaudio.store.merge import compact_store, export_store
from biasaudio.store.parts import PartWriter

FILES = ["mine.toy.h5", "theirs.toy.h5"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock")


@pytest.fixture
def audio(tmp_path):
    """Give a folder with two datasets of ten clips each."""
    return write_audio(tmp_path / "audio", 10)


@pytest.fixture
def store(tmp_path):
    """Give the path of a store that is not there yet."""
    return tmp_path / "store"


def at_once(*children):
    """Let all of them begin, and return what each has printed."""
    for child in children:
        child.go()
    done = [child.wait() for child in children]
    for code, _, err in done:
        assert code == 0, err
        assert err == ""
    return [out for _, out, _ in done]


def child(audio, store, **options):
    options = {"commit_seconds": 0, "batch": 2, "model": {"pause": 0.005}, **options}
    return Child("extract", audio=str(audio), store=str(store), **options)


def test_two_processes_extract_the_same_clips(audio, store, tmp_path):
    at_once(child(audio, store), child(audio, store))
    found = held(store)
    assert set(found) == set(truth(audio, ToyModel()))
    assert_right(found, truth(audio, ToyModel()))
    # Whoever ends last has merged all; the parts of the other may come after that.
    compact_store(store)
    assert names(store) == FILES
    extract(audio, ToyModel(), tmp_path / "alone")
    assert exported(store, tmp_path / "a.h5") == exported(tmp_path / "alone", tmp_path / "b.h5")


def test_two_processes_extract_other_datasets_and_embeddings(audio, store):
    right = truth(audio, ToyModel())
    at_once(child(audio / "mine", store), child(audio / "theirs", store))
    assert_right(held(store), right)
    assert len(held(store)) == 20
    other = {"scale": 3.0}
    at_once(
        child(audio, store, embedding="three", model=other),
        child(audio, store, embedding="same"),
    )
    assert names(store) == sorted(
        f"{d}.{e}.h5" for d in ("mine", "theirs") for e in ("same", "three", "toy")
    )
    assert_right(held(store, "three"), truth(audio, ToyModel(3.0)))
    assert_right(held(store, "same"), right)
    assert len(held(store, "three")) == len(held(store, "same")) == 20


def test_two_models_under_one_name_at_once_are_not_mixed(audio, store):
    processes = [child(audio, store, model={"scale": s, "pause": 0.005}).go() for s in (1.0, 2.0)]
    done = [process.wait() for process in processes]
    assert sorted(code for code, _, _ in done) == [0, 1]
    assert sum("another one: scale=" in err for _, _, err in done) == 1
    winner = next(s for (code, _, _), s in zip(done, (1.0, 2.0)) if code == 0)
    assert len(held(store)) == 20
    assert_right(held(store), truth(audio, ToyModel(winner)))


def test_a_clip_that_another_process_has_added_is_left_as_it_is(audio, store):
    class Twice(ToyModel):
        """Be overtaken by another run while the first clip is embedded."""

        is_first = True

        def embed(self, audio_):
            if self.is_first:
                self.is_first = False
                extract(audio, ToyModel(), store)
            return super().embed(audio_)

    result = extract(audio, Twice(), store)
    assert (result.n_embedded, result.n_present, len(result.failed)) == (0, 20, 0)
    assert names(store) == FILES
    assert_right(held(store), truth(audio, ToyModel()))


def read_all(store, right):
    """Read in each way, and return how many clips were seen in each dataset."""
    opened = EmbeddingStore(store)
    seen = {}
    for dataset in opened.datasets():
        if "toy" not in opened.embeddings(dataset):
            continue
        before = opened.shape(dataset, "toy")[0]
        found = {}
        for keys, X in opened.blocks(dataset, "toy", rows=7):
            for key, x in zip(keys, X):
                found.setdefault((dataset, key), []).append(x)
        after = opened.shape(dataset, "toy")[0]
        assert_right({clip: np.array(rows) for clip, rows in found.items()}, right)
        assert before <= sum(map(len, found.values())) <= after
        table = opened.table("toy", datasets=[dataset])
        for clip, x in zip(table.clips.clip_id, table.X):
            np.testing.assert_allclose(x, right[dataset, clip].mean(axis=0), rtol=1e-5, atol=1e-6)
        seen[dataset] = len(table)
        assert len(found) <= len(table)
    return seen


def holds_files(store):
    try:
        return any(name.endswith(".h5") for name in os.listdir(store))
    except FileNotFoundError:
        # Not made yet, or taken away by a writer that had nothing to write so far.
        return False


def test_a_reader_sees_right_clips_while_others_write_and_merge(audio, store):
    right = truth(audio, ToyModel())
    process = child(audio, store, model={"pause": 0.02}).go()
    counts, n = [], 0
    while process.process.poll() is None:
        if holds_files(store):
            counts.append(sum(read_all(store, right).values()))
            n += 1
    assert process.wait()[0] == 0
    counts.append(sum(read_all(store, right).values()))
    assert counts == sorted(counts)
    assert counts[-1] == 20
    assert n >= 3


def test_a_reader_during_many_merges(tmp_path, audio, store):
    right, errors, counts, stop = truth(audio, ToyModel()), [], [], threading.Event()
    extract_parts(audio, tmp_path / "parts", 1)
    store.symlink_to(tmp_path / "copy0")
    shutil.copytree(tmp_path / "parts", tmp_path / "copy0")

    def read():
        try:
            while not stop.is_set():
                assert read_all(store, right) == {"mine": 10, "theirs": 10}
                counts.append(1)
        except (AssertionError, OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for k in range(1, 6):
        compact_store(store)
        # A store of parts again, which takes its place in one step.
        shutil.copytree(tmp_path / "parts", tmp_path / f"copy{k}")
        (tmp_path / "link").symlink_to(tmp_path / f"copy{k}")
        os.replace(tmp_path / "link", store)
    stop.set()
    thread.join()
    for error in errors:
        raise error
    assert counts


READS = {
    "shape": lambda opened: opened.shape("mine", "toy")[0],
    "blocks": lambda opened: sum(len(X) for _, X in opened.blocks("mine", "toy")),
    "table": lambda opened: len(opened.table("toy")),
    "clips": lambda opened: len(opened.clips("mine")),
    "origin": lambda opened: len(opened.origin("mine", "toy").sources),
    "export": lambda opened: exported(opened.path, opened.path.parent / "x.h5"),
}


@pytest.mark.parametrize("is_removed", [False, True], ids=["not removed", "removed"])
@pytest.mark.parametrize("name", READS)
def test_a_merge_at_the_worst_moment_is_not_seen(audio, store, monkeypatch, name, is_removed):
    """A file and a part are merged after a reader has listed them, and before it reads."""
    late = sorted((audio / "mine").iterdir())[5:]
    for path in late:
        path.rename(path.with_suffix(".later"))
    extract(audio / "mine", ToyModel(), store)
    for path in late:
        path.with_suffix(".later").rename(path)
    extract_parts(audio / "mine", store, 20)
    assert len(names(store)) == 2
    opened, read = EmbeddingStore(store, cache=False), READS[name]
    right = read(opened)
    real, done = index_module.index_now, []

    def overtaken(path):
        found = real(path)
        if not done:
            done.append(1)
            with monkeypatch.context() as patch:
                if not is_removed:
                    patch.setattr(change, "_remove_merged", lambda _: None)
                compact_store(store)
        return found

    monkeypatch.setattr(index_module, "index_now", overtaken)
    assert read(opened) == right
    assert done


IMPORT = """
import sys, numpy as np
from biasaudio.store import import_arrays
X = np.full((2000, 64), float(sys.argv[2]), dtype=np.float32)
ids = [f"c{i}" for i in range(2000)]
sys.stdin.readline()
for k in range(4):
    import_arrays(sys.argv[1], X + k, ids, dataset="d", embedding=f"e{sys.argv[2]}{k}")
"""


def python(code, *arguments):
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


@pytest.mark.parametrize("name", ["x.h5", "x"])
def test_two_imports_into_one_store_are_both_in(tmp_path, name):
    both = [python(IMPORT, tmp_path / name, k) for k in (1, 2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    opened = EmbeddingStore(tmp_path / name)
    assert opened.embeddings() == [f"e{i}{k}" for i in (1, 2) for k in range(4)]
    for i in (1, 2):
        for k in range(4):
            assert (opened.table(f"e{i}{k}", cache=False).X == i + k).all()
    assert not list(tmp_path.rglob(f"*{LOCK}"))


HOLD = """
import sys
from pathlib import Path
from biasaudio.store.lock import lock_store
with lock_store(Path(sys.argv[1]), is_file=sys.argv[2] == "1"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("is_file", [False, True])
def test_who_holds_the_lock_is_named_with_what_to_do(tmp_path, is_file):
    path = tmp_path / ("x.h5" if is_file else "x")
    import_arrays(path, np.ones((1, 2)), ["a"], dataset="d")
    holder = python(HOLD, path, int(is_file))
    assert holder.stdout.readline() == "held\n"
    words = rf"is being written by process {holder.pid} on {os.uname().nodename}, since .*\(-c "
    with pytest.raises(StoreError, match=words) as caught, writing(path, wait=0.1):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert "wait until that is done, stop it, or write to another store" in message
    assert "NFS, SMB, Lustre" in message
    # A reader waits for nobody.
    assert len(EmbeddingStore(path).table("embedding", cache=False)) == 1
    began = threading.Timer(0.3, lambda: holder.communicate("\n"))
    began.start()
    import_arrays(path, np.ones((1, 2)), ["a"], dataset="d", embedding="after")
    began.join()
    assert EmbeddingStore(path).embeddings() == ["after", "embedding"]


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    import_arrays(tmp_path / "x", np.ones((1, 2)), ["a"], dataset="d")
    holder = python(HOLD, tmp_path / "x", 0)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    assert (tmp_path / "x" / LOCK).exists()
    with writing(tmp_path / "x", wait=0.0):
        pass
    assert not (tmp_path / "x" / LOCK).exists()


def test_a_lock_file_that_says_nonsense_is_no_crash(tmp_path):
    (tmp_path / LOCK).write_bytes(b"\xff[1, 2")
    with lock_store(tmp_path, is_file=False):
        text = (tmp_path / LOCK).read_text()
        assert f'"pid": {os.getpid()}' in text
        (tmp_path / LOCK).write_bytes(b"[" * 10_000)
        with (
            pytest.raises(StoreError, match="written by another process; wait"),
            lock_store(tmp_path, is_file=False, wait=0.0),
        ):
            pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    """A store of a stranger must not make us write into other files."""
    (tmp_path / "x").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "x" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError, match="cannot be written"):
        import_arrays(tmp_path / "x", np.ones((1, 2)), ["a"], dataset="d")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_lock_of_another_is_not_removed(tmp_path):
    """Somebody has removed our lock by hand, and another one writes by now."""
    with lock_store(tmp_path, is_file=False):
        (tmp_path / LOCK).unlink()
        (tmp_path / LOCK).write_text("theirs")
    assert (tmp_path / LOCK).read_text() == "theirs"


def test_a_lock_that_another_user_has_left_is_named(tmp_path, monkeypatch):
    import_arrays(tmp_path / "x", np.ones((1, 2)), ["a"], dataset="d")
    path, real = tmp_path / "x" / LOCK, os.open
    path.touch()

    def refuse(file, *args, **options):
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(file, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    words = r"x cannot be locked: .*/x/\.lock is the lock of another user .*remove that file or"
    with pytest.raises(StoreError, match=words) as caught:
        import_arrays(tmp_path / "x", np.ones((1, 2)), ["b"], dataset="e")
    assert "\n" not in str(caught.value)
    # Whether somebody writes is not to be seen, so nothing is taken for left over.
    assert is_held(path)
    assert check_store(tmp_path / "x").leftovers == []


def test_without_flock_the_file_itself_is_the_lock(tmp_path, monkeypatch):
    import_arrays(tmp_path / "x", np.ones((1, 2)), ["a"], dataset="d")
    path = tmp_path / "x" / LOCK
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with lock_store(tmp_path / "x", is_file=False):
            assert f'"pid": {os.getpid()}' in path.read_text()
            assert is_held(path)
            words = rf"written by process {os.getpid()} on .*; wait .*if no process does, remove /"
            with (
                pytest.raises(StoreError, match=words),
                lock_store(tmp_path / "x", is_file=False, wait=0.1),
            ):
                pass
        assert not path.exists()
        assert not is_held(path)
        # A dead process has left it, and what it had not finished.
        path.touch()
        (tmp_path / "x" / "y.h5.partial").touch()
        assert check_store(tmp_path / "x").leftovers == []
        assert not is_held(tmp_path / "x" / "d.embedding.h5")
        words = "x cannot be written .*No such file"
        with (
            pytest.raises(StoreError, match=words),
            lock_store(tmp_path / "no" / "x", is_file=False),
        ):
            pass


def test_many_threads_take_the_lock_in_turn(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(10):
            with lock_store(tmp_path, is_file=False, wait=30):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40
    assert max(most) == 1
    assert names(tmp_path) == []


def test_a_folder_that_another_writer_takes_away_again_is_made_again(tmp_path, monkeypatch):
    """Two begin at once; one finds nothing to write, and removes the folder that it made."""
    real, calls = os.open, []

    def overtaken(path, *args, **options):
        if str(path).endswith(LOCK) and not calls:
            calls.append(1)
            os.rmdir(tmp_path / "x")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", overtaken)
    PartWriter(tmp_path / "x", "e", {}, ["d"])
    assert calls
    assert not (tmp_path / "x").exists()
    import_arrays(tmp_path / "x", np.ones((1, 2)), ["a"], dataset="d")
    assert names(tmp_path / "x") == ["d.embedding.h5"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with pytest.raises(StoreError, match=r"cannot be locked \(No locks available\).*NFS, SMB"):
        import_arrays(tmp_path / "x.h5", np.ones((1, 2)), ["a"], dataset="d")
    assert not (tmp_path / "x.h5").exists()


OPEN = """
import sys, h5py
with h5py.File(sys.argv[1], "r+") as handle:
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks")
def test_a_file_that_another_program_has_open_for_writing(tmp_path):
    path = import_arrays(tmp_path / "x.h5", np.ones((1, 2)), ["a"], dataset="d")
    other = python(OPEN, path)
    assert other.stdout.readline() == "open\n"
    assert str(other.pid) in holder_of(path)
    words = rf"x.h5 is open for writing in process {other.pid} \(.*h5py.*close it there"
    for use in (
        lambda: EmbeddingStore(path),
        lambda: import_arrays(path, np.ones((1, 2)), ["b"], dataset="e"),
        lambda: export_store(path, tmp_path / "y.h5"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            use()
        assert "\n" not in str(caught.value)
    other.communicate("\n")
    assert len(EmbeddingStore(path).table("embedding")) == 1
    assert names(tmp_path)[0] == "x.h5"
    assert not [name for name in names(tmp_path) if name.endswith((".partial", LOCK))]


def test_nobody_is_named_where_the_system_does_not_say(tmp_path):
    path = tmp_path / "x"
    assert holder_of(path) == "another process"
    path.write_text("x")
    assert holder_of(path) == "another process"
