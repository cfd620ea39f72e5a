"""Whatever ends an extraction: what was committed stays, is right, and the next run goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import weakref
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from extract_fixtures import (
    Child,
    Faults,
    Points,
    ToyModel,
    assert_right,
    commit_often,
    cut_power,
    exported,
    extract_parts,
    fill_disk,
    held,
    in_fork,
    is_tidy,
    kill_self,
    names,
    outdate,
    truth,
    write_audio,
)

from biasaudio._parallel import run_all
from biasaudio.cli.main import main
from biasaudio.datasets.audio import find_audio
from biasaudio.embed.extraction import extract
from biasaudio.errors import BiasAudioWarning, StoreError
from biasaudio.store import EmbeddingStore, exists, export, import_arrays, merge

# A campaign of minutes: run with -m "slow or not slow".
pytestmark = pytest.mark.slow

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount a file system"
)


class Case:
    """A change of a store, and what must be true of it whenever it ends.

    Parameters
    ----------
    folder : Path
    kind : {"extract", "overwrite", "compact", "go on"}
        ``go on`` has merged files and parts at the begin.
    """

    def __init__(self, folder, kind, n=4):
        self.folder, self.kind = folder, kind
        self.store, self.base = folder / "store", folder / "base"
        self.audio = write_audio(folder / "audio", n)
        self.truths, self.kept = [truth(self.audio, ToyModel())], set()
        if kind == "overwrite":
            self.truths.append(truth(self.audio, ToyModel(2.0)))
            self.truths.append(self.truths[0])
            outdate(self.audio, self.base)
            self.truths[0] = truth(self.audio, ToyModel())
        elif kind == "go on":
            fewer = shutil.copytree(self.audio, folder / "fewer")
            for path in sorted(fewer.rglob("*.wav"))[::3]:
                path.unlink()
            extract(fewer, ToyModel(), self.base)
            extract_parts(self.audio, self.base, 1)
        elif kind == "compact":
            extract_parts(self.audio, self.base)
        if kind != "extract":
            self.kept = set(self.truths[0])
        self.reset()
        with Points(self.store) as points:
            self.change()
        self.points = points.kinds
        self.reference = exported(self.store)

    def reset(self):
        shutil.rmtree(self.store, ignore_errors=True)
        if self.base.exists():
            shutil.copytree(self.base, self.store)

    def change(self):
        if self.kind in ("compact", "go on"):
            merge(self.store)
            return
        with pytest.MonkeyPatch.context() as patch:
            commit_often(patch, 2)
            overwrite = self.kind == "overwrite"
            extract(self.audio, ToyModel(), self.store, commit_seconds=0, overwrite=overwrite)

    def check(self):
        """Check what is there now."""
        if exists(self.store):
            found = held(self.store)
            assert_right(found, *self.truths)
            for dataset in ("mine", "theirs") if self.kind == "overwrite" else ():
                here = {clip: X for clip, X in found.items() if clip[0] == dataset}
                is_whole = [
                    all(np.array_equal(X, each[clip]) for clip, X in here.items())
                    for each in self.truths
                ]
                assert any(is_whole), "old and new vectors in one dataset"
            assert self.kept <= set(found)
        else:
            assert not self.kept

    def check_end(self):
        """Go on, and check that nothing tells of an interruption."""
        self.change()
        assert is_tidy(self.store)
        assert exported(self.store) == self.reference

    def chosen(self, most):
        """Return some of the points: of each kind, spread over the whole."""
        by_kind = {}
        for k, kind in enumerate(self.points):
            by_kind.setdefault(kind, []).append(k)
        share = max(1, most // len(by_kind))
        picks = [np.linspace(0, len(at) - 1, min(len(at), share)) for at in by_kind.values()]
        return sorted(at[int(i)] for at, pick in zip(by_kind.values(), picks) for i in pick)


KINDS = ["extract", "overwrite", "compact", "go on"]
MANY = [pytest.param(10, id="some"), pytest.param(10**6, id="all", marks=pytest.mark.exhaustive)]


@needs_proc
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("most", MANY)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_each_change_of_the_disk(tmp_path, kind, most):
    case = Case(tmp_path, kind)
    for number, k in enumerate(case.chosen(most)):
        case.reset()
        act = (kill_self, cut_power)[number % 2]

        def go(k=k, act=act):
            with Points(case.store, k, act):
                case.change()

        assert in_fork(go) == -signal.SIGKILL, case.points[k]
        case.check()
        case.check_end()


def is_refused(call):
    """Say whether the disk was too full, which is said in one line."""
    try:
        call()
    except StoreError as error:
        message = str(error)
    else:
        return False
    assert "\n" not in message
    assert "No space left" in message
    return True


@needs_proc
@pytest.mark.parametrize("most", MANY)
@pytest.mark.parametrize("kind", KINDS)
def test_disk_full_at_each_change_of_it(tmp_path, kind, most):
    case = Case(tmp_path, kind)
    n_errors = 0
    for k in case.chosen(most):
        case.reset()
        with Points(case.store, k, fill_disk), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BiasAudioWarning)
            n_errors += is_refused(case.change)
        for one in caught:
            assert "parts were not merged" in str(one.message)
            assert "No space left" in str(one.message)
        assert not [name for name in names(case.store) if name.endswith(".partial")]
        case.check()
        case.check_end()
    assert n_errors >= 2


@needs_proc
@pytest.mark.parametrize("most", MANY)
@pytest.mark.parametrize("kind", ["import", "extend", "export"])
def test_disk_full_while_one_file_is_written(tmp_path, kind, most, rng):
    folder, X = tmp_path / "here", rng.normal(size=(40, 8)).astype(np.float32)
    ids = [f"c{i}" for i in range(40)]
    folder.mkdir()
    path = folder / "x.h5"

    def change():
        if kind == "export":
            export(tmp_path / "source", path)
        else:
            import_arrays(path, X, ids, dataset="d", embedding="new")

    def reset():
        shutil.rmtree(folder)
        folder.mkdir()
        if kind == "extend":
            import_arrays(path, X, ids, dataset="d", embedding="old")

    import_arrays(tmp_path / "source", X, ids, dataset="d", embedding="new")
    reset()
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with Points(folder) as points:
        change()
    whole = path.read_bytes()
    n_errors = 0
    for k in range(0, points.count, max(1, points.count // most)):
        reset()
        with Points(folder, k, fill_disk):
            is_lost = is_refused(change)
        if is_lost:
            n_errors += 1
            assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
            change()
        assert path.read_bytes() == whole
    assert n_errors >= min(most, points.count) // 2


def test_killed_at_random_moments(tmp_path):
    # The whole of it: python -m benchmarks.faults
    tally = Faults(tmp_path, "extract", n=8, seed=int.from_bytes(os.urandom(4), "big")).run(5)
    assert tally["kills"] == 5
    assert tally["clips that were checked"] > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kind", "n_jobs"), [("extract", 2), ("overwrite", 1), ("compact", 1)])
def test_killed_at_more_random_moments(tmp_path, kind, n_jobs):
    seed = int.from_bytes(os.urandom(4), "big")
    assert Faults(tmp_path, kind, n=12, n_jobs=n_jobs, seed=seed).run(8)["kills"] == 8


LIMITED = """
import resource, sys
from extract_fixtures import ToyModel
from biasaudio.embed import extraction
from biasaudio.embed.extraction import extract
from biasaudio.errors import StoreError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
extraction.BATCH, extraction.SHARE = 2, 0.0
for size in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        extract(sys.argv[1], ToyModel(), f"{sys.argv[2]}/{size}", commit_seconds=0)
        print(size, "done")
    except StoreError as error:
        print(size, str(error))
"""


def test_files_that_may_not_grow(tmp_path):
    """HDF5 crashes the process when its own writes fail; ours must not."""
    audio = write_audio(tmp_path / "audio", 6)
    sizes = [0, 1, 100, 512, 1000, 2048, 3000, 5000, 7000, 9000, 12_000, 16_000, 20_000, 10**6]
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(audio), str(tmp_path)]
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    done = subprocess.run(
        [*command, *map(str, sizes)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert list(lines) == [str(size) for size in sizes]
    assert lines["1000000"] == "done"
    assert "File too large" in lines["100"]
    assert sum("File too large" in line for line in lines.values()) >= 5
    for size in sizes:
        store = tmp_path / str(size)
        assert not [name for name in names(store) if name.endswith(".partial")]
        if exists(store):
            assert_right(held(store), truth(audio, ToyModel()))
    reference = exported(tmp_path / "1000000")
    for size in sizes[2:8:2]:
        extract(audio, ToyModel(), tmp_path / str(size))
        assert exported(tmp_path / str(size)) == reference


@contextmanager
def small_disk(folder, options):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)])
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("pages", [1, 3, 6, 12, 20, 30])
def test_a_small_disk_that_is_full(tmp_path, pages, capsys):
    audio = write_audio(tmp_path / "audio", 8)
    with small_disk(tmp_path / "disk", f"size={4096 * pages}") as disk:
        store = disk / "store"
        with pytest.MonkeyPatch.context() as patch:
            commit_often(patch, 2)
            with suppress(StoreError), warnings.catch_warnings():
                # What fits may be committed, and only not be merged.
                warnings.simplefilter("ignore", BiasAudioWarning)
                extract(audio, ToyModel(), store, commit_seconds=0)
        assert not [name for name in names(store) if name.endswith(".partial")]
        found = held(store) if exists(store) else {}
        assert_right(found, truth(audio, ToyModel()))
        assert pages < 30 or found
        options = ["extract", audio, "--model", "melstats", "--out", disk / "cli", "--n-jobs", 1]
        if pages == 1:
            assert main(list(map(str, options))) == 1
            err = capsys.readouterr().err
            assert err.splitlines()[-1].startswith("biasaudio: ")
            assert "No space left on device" in err
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        extract(audio, ToyModel(), store)
        assert set(held(store)) == set(truth(audio, ToyModel()))
        assert is_tidy(store)


@needs_root
def test_a_folder_that_can_only_be_read(tmp_path, capsys):
    audio = write_audio(tmp_path / "audio", 3)
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        extract(audio, ToyModel(), disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        calls = tmp_path / "calls"
        calls.touch()
        for store in (disk / "store", disk / "new"):
            with pytest.raises(StoreError, match=r"cannot be written.*Read-only file system"):
                extract(audio, ToyModel(calls=str(calls)), store)
            options = ["extract", audio, "--model", "melstats", "--out", store, "--n-jobs", 1]
            assert main(list(map(str, options))) == 1
            err = capsys.readouterr().err
            assert err.count("\n") == 1
            assert "Read-only file system" in err
        assert calls.read_text() == ""
        assert_right(held(disk / "store"), truth(audio, ToyModel()))
        # Readers keep their cache where they can, and go without it here.
        assert len(EmbeddingStore(disk / "store").table("toy")) == 6


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_permission(tmp_path):
    audio = write_audio(tmp_path / "audio", 2)
    extract(audio, ToyModel(), tmp_path / "store")
    (tmp_path / "store").chmod(0o555)
    try:
        with pytest.raises(StoreError, match=r"cannot be written.*Permission denied"):
            extract(audio, ToyModel(), tmp_path / "store")
    finally:
        (tmp_path / "store").chmod(0o755)


class Saboteur(ToyModel):
    """Do something when the first clip is embedded."""

    def __init__(self, act):
        super().__init__()
        self.act, self.is_done = act, False

    def embed(self, audio):
        if not self.is_done:
            self.is_done = True
            self.act()
        return super().embed(audio)


def test_audio_that_goes_away_or_is_cut_meanwhile_is_listed(tmp_path):
    audio, store = write_audio(tmp_path / "audio", 5), tmp_path / "store"
    right = truth(audio, ToyModel())

    def act():
        (audio / "mine" / "clip003.wav").unlink()
        path = audio / "theirs" / "clip001.wav"
        path.write_bytes(path.read_bytes()[:600])

    result = extract(audio, Saboteur(act), store)
    failed = result.failed.set_index(["dataset", "clip_id"])["reason"]
    assert len(failed) == 2
    assert "is not there" in failed["mine", "clip003.wav"]
    assert "is cut off" in failed["theirs", "clip001.wav"]
    assert set(held(store)) == set(right) - set(failed.index)
    assert_right(held(store), right)


def test_all_audio_goes_away(tmp_path):
    audio, store = write_audio(tmp_path / "audio", 5), tmp_path / "store"
    files = find_audio(audio)
    result = extract(files, Saboteur(lambda: shutil.rmtree(audio)), store)
    assert (result.n_embedded, len(result.failed)) == (1, 9)
    assert len(held(store)) == 1


def test_the_folder_of_the_store_goes_away_and_is_made_again(tmp_path):
    audio, store = write_audio(tmp_path / "audio", 5), tmp_path / "store"
    extract(audio / "mine", ToyModel(), store)
    assert is_tidy(store, 1)
    extract(audio / "theirs", Saboteur(lambda: shutil.rmtree(store)), store)
    # What somebody deletes is not brought back.
    assert is_tidy(store, 1)
    assert_right(held(store), truth(audio, ToyModel()))
    assert len(extract(audio, ToyModel(), store).failed) == 0
    assert is_tidy(store)


def test_something_else_takes_the_place_of_the_folder(tmp_path):
    audio, store = write_audio(tmp_path / "audio", 3), tmp_path / "store"

    def act():
        shutil.rmtree(store)
        store.write_text("mine")

    with pytest.raises(StoreError, match=r"store.* (cannot be|is not)"):
        extract(audio, Saboteur(act), store)
    assert store.read_text() == "mine"


def test_a_damaged_part_is_named_and_nothing_is_written(tmp_path):
    audio, store = write_audio(tmp_path / "audio", 4), tmp_path / "store"
    extract_parts(audio, store)
    part = sorted(store.iterdir())[0]
    part.write_bytes(part.read_bytes()[:-5000])
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    with pytest.raises(StoreError, match=part.name):
        extract(audio, ToyModel(), store)
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_commits_what_was_computed(tmp_path, n_jobs):
    audio, store, calls = (
        write_audio(tmp_path / "audio", 12),
        tmp_path / "store",
        tmp_path / "calls",
    )
    calls.touch()
    options = {"model": {"pause": 0.1, "calls": str(calls)}, "commit_seconds": 1000}
    child = Child("cli", audio=str(audio), store=str(store), n_jobs=n_jobs, **options).go()
    while len(calls.read_text().split()) < 17 and child.process.poll() is None:
        time.sleep(0.01)
    os.killpg(child.process.pid, signal.SIGINT)
    code, _, err = child.wait()
    assert code == 130
    # The tracker of the workers' semaphores may have its say after us.
    assert "interrupted" in err.splitlines()
    assert "Traceback" not in err
    found = held(store)
    assert len(found) >= 13
    assert_right(found, truth(audio, ToyModel()))
    assert not [name for name in names(store) if name.endswith((".partial", ".lock"))]
    calls.write_text("")
    result = extract(audio, ToyModel(calls=str(calls)), store)
    assert result.n_present == len(found)
    assert len(calls.read_text().split()) == 24 - len(found)


def test_ctrl_c_while_a_part_is_written_loses_nothing(tmp_path, monkeypatch):
    audio, store = write_audio(tmp_path / "audio", 4), tmp_path / "store"
    real, state = os.replace, []

    def interrupted(*args):
        if not state and "part-" in str(args[1]):
            state.append(1)
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(audio, ToyModel(), store, commit_seconds=0)
    assert len(held(store)) == 4
    assert not [name for name in names(store) if name.endswith(".partial")]


class Result:
    """What can be watched."""


def make_result(_):
    return Result()


def test_vectors_that_were_committed_are_not_kept_in_memory():
    alive, counts = weakref.WeakSet(), []

    def take(_, result, __):
        alive.add(result)
        counts.append(len(alive))

    assert run_all(make_result, range(40), on_result=take) == []
    assert len(counts) == 40
    assert max(counts) < 10
