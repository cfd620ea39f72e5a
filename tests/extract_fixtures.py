"""A cheap model, tiny audio, and a process that extracts and may be killed."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from biasaudio.embed.base import Frames
from biasaudio.embed.extraction import extract
from biasaudio.store import EmbeddingStore, exists, merge, verify, waiting

RATE = 8000
HERE = Path(__file__).resolve().parent


class ToyModel:
    """Give statistics of each 500 samples, so that each clip has vectors of its own.

    Parameters
    ----------
    scale : float
        What makes it another model.
    pause : float
        Seconds that a clip takes.
    calls : str, optional
        A file that gets a line a call, from whatever process.
    die_at : int, optional
        The process dies at a clip of this many samples.
    """

    name = "toy"
    sample_rate = RATE
    dims = 4
    hop = 500

    def __init__(self, scale=1.0, pause=0.0, calls=None, die_at=None):
        self.scale, self.pause, self.calls, self.die_at = scale, pause, calls, die_at

    def __repr__(self):
        return f"ToyModel({self.scale}, {self.pause}, {self.calls!r}, {self.die_at})"

    @property
    def identity(self):
        return {"kind": "toy", "scale": self.scale}

    def embed(self, audio):
        audio = np.asarray(audio, dtype=np.float32)
        if self.calls is not None:
            with open(self.calls, "a", encoding="ascii") as stream:
                stream.write(f"{len(audio)}\n")
        if len(audio) == self.die_at:
            os._exit(3)
        time.sleep(self.pause)
        stretches = [audio[at : at + self.hop] for at in range(0, len(audio), self.hop)]
        rows = [[each.mean(), each.std(), each[0], len(each)] for each in stretches]
        vectors = np.array(rows, dtype=np.float32) * np.float32(self.scale)
        return Frames(vectors, 1000.0 / RATE * self.hop * (np.arange(len(rows)) + 0.5))


def write_audio(folder, n=12, datasets=("mine", "theirs"), seed=1):
    """Write n clips a dataset, of which no two have the same length."""
    rng = np.random.default_rng(seed)
    folder = Path(folder)
    for k, dataset in enumerate(datasets):
        (folder / dataset).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            sound = rng.uniform(-0.5, 0.5, 600 + 37 * (len(datasets) * i + k))
            soundfile.write(folder / dataset / f"clip{i:03d}.wav", sound, RATE)
    return folder


def held(store, embedding="toy"):
    """Return the vectors of each clip of a store, as all ways to read it give them."""
    opened = EmbeddingStore(store, cache=False)
    found = {}
    for dataset in opened.datasets():
        if embedding not in opened.embeddings(dataset):
            continue
        rows = {}
        for keys, X in opened.blocks(dataset, embedding):
            for key, row in zip(keys, X):
                rows.setdefault(key, []).append(row)
        found |= {(dataset, key): np.array(each) for key, each in rows.items()}
        table = opened.table(embedding, datasets=[dataset])
        assert sorted(table.clips.clip_id) == sorted(rows)
        made = opened.origin(dataset, embedding)
        assert sorted(made.sources["clip_id"]) == sorted(rows)
    return found


def truth(audio, model):
    """Return the vectors that each clip must have."""
    found = {}
    for path in sorted(Path(audio).rglob("*.wav")):
        sound, _ = soundfile.read(path, dtype="float32")
        found[path.parent.name, path.name] = model.embed(sound).vectors
    return found


def assert_right(found, *truths):
    """Fail where the vectors of a clip are not exactly those of one of the truths."""
    for clip, X in found.items():
        assert any(np.array_equal(X, each.get(clip)) for each in truths), clip


def exported(store, embedding="toy"):
    """Return all that a store says of an embedding; equal stores give equal values."""
    opened = EmbeddingStore(store, cache=False)
    found = {clip: X.tobytes() for clip, X in held(store, embedding).items()}
    said = []
    for dataset in opened.datasets():
        clips, origin = opened.clips(dataset), opened.origin(dataset, embedding)
        for table in (clips.frame, clips.labels, clips.mask):
            said.append(table.sort_index().to_csv())
        said += [dataset, origin.model, origin.sources.sort_values("clip_id").to_csv(index=False)]
    return found, said


def names(folder):
    """Return what is in a folder, but for the lock."""
    folder = Path(folder)
    there = folder.iterdir() if folder.exists() else []
    return sorted(path.name for path in there if not path.name.startswith(".lock"))


def contents(folder):
    """Return the bytes of all that is in a folder, but for the lock."""
    return {name: (Path(folder) / name).read_bytes() for name in names(folder)}


def is_tidy(store, n=2):
    """Say whether n files have vectors, and a store has no faults and nothing left over."""
    check, files = verify(store), [Path(store) / name for name in names(store)]
    is_whole = not check.faults and not check.leftovers and not waiting(store)
    only_ours = all(path.match("part-*.h5") or path.name == "parts.txt" for path in files)
    return is_whole and only_ours and sum(map(_has_vectors, files)) == n


def _has_vectors(path):
    # After an overwrite or new labels a part may hold clip tables only.
    if path.suffix != ".h5":
        return False
    with h5py.File(path) as handle:
        return any(set(group) - {"__clips__"} for group in handle.values())


class Child:
    """A process that does what `main` says, once it is told to `go`."""

    def __init__(self, kind, **options):
        command = [sys.executable, str(HERE / "extract_fixtures.py"), kind, json.dumps(options)]
        paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
        )

    def go(self):
        """Let it begin as soon as all is imported."""
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise AssertionError(f"{line}{self.process.stderr.read()}")
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self

    def kill(self, after, number=signal.SIGKILL):
        """Kill it after some seconds, and say whether it was still running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(after)
        self.process.send_signal(number)
        return self.wait()[0] == -number

    def wait(self, timeout=120.0):
        """Return exit code, stdout and stderr; no process of it is left."""
        try:
            self.process.wait(timeout)
        finally:
            # Workers outlive a process that was killed by some seconds.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


class Faults:
    """Kill processes that change a store, at random moments, and check what they leave.

    Parameters
    ----------
    folder : Path
        Where all is made.
    kind : {"extract", "overwrite", "compact"}
        ``overwrite`` begins with one dataset of which a third of the audio has
        changed since, and one of another model; ``compact`` with many parts.
    n : int
        Clips a dataset.
    n_jobs : int
    seed : int
    """

    def __init__(self, folder, kind, n=16, n_jobs=1, seed=1):
        self.folder, self.kind, self.n_jobs = Path(folder), kind, n_jobs
        self.rng = np.random.default_rng(seed)
        self.store, self.base = self.folder / "store", self.folder / "base"
        self.audio = write_audio(self.folder / "audio", n)
        self.truths = [truth(self.audio, ToyModel())]
        # Clips that must be there at any time.
        self.kept = set()
        if kind == "overwrite":
            self.truths += [truth(self.audio, ToyModel()), truth(self.audio, ToyModel(2.0))]
            outdate(self.audio, self.base)
            self.truths[0] = truth(self.audio, ToyModel())
            self.kept = set(self.truths[0])
        elif kind == "compact":
            extract_parts(self.audio, self.base)
            self.kept = set(self.truths[0])
        extract(self.audio, ToyModel(), self.folder / "whole")
        self.reference = exported(self.folder / "whole")
        self.tally = Counter()
        self._reset()
        self.seconds = json.loads(self._child().go().wait()[1].splitlines()[-1])["seconds"]
        self._check_end()

    def _child(self):
        options = {"store": str(self.store)}
        if self.kind != "compact":
            options |= {"audio": str(self.audio), "n_jobs": self.n_jobs, "commit_seconds": 0}
            options |= {"batch": 2, "overwrite": self.kind == "overwrite"}
        return Child(self.kind.replace("overwrite", "extract"), **options)

    def _reset(self):
        shutil.rmtree(self.store, ignore_errors=True)
        if self.base.exists():
            shutil.copytree(self.base, self.store)

    def run(self, kills):
        """Kill so often, each time with a check; what was begun is ended now and then."""
        left, spare = kills, self._child()
        while left:
            self._reset()
            there, is_running = set(self.kept), True
            while is_running and left:
                child, spare = spare, self._child()
                is_running = child.go().kill(self._moment(child))
                if is_running:
                    left -= 1
                    there = self._check(there)
                    if self.rng.random() < 0.25:
                        break
            child, spare = spare, self._child()
            code, _, err = child.go().wait()
            if code or err:
                raise AssertionError(f"{code} {err}")
            self._check_end()
        spare.kill(0)
        return self.tally

    def _moment(self, child):
        """Return after how many seconds to kill."""
        if self.kind == "compact" and self.rng.random() < 0.7:
            # Most of the time goes into reading, which nothing can happen to.
            while child.process.poll() is None and not any(self.store.glob("*.partial")):
                pass
            return self.rng.uniform(0, 0.02)
        return self.rng.uniform(0.0 if self.n_jobs == 1 else 0.6, 1.02) * self.seconds

    def _check(self, there):
        """Check what a killed process has left, and return the clips that must stay."""
        left = names(self.store)
        self.tally["kills"] += 1
        self.tally["a file was being written"] += any(".partial" in name for name in left)
        if not exists(self.store):
            self.tally["no store yet"] += 1
            assert not there
            return there
        check = verify(self.store)
        assert check.faults == []
        self.tally["files that no list names"] += len(check.leftovers)
        found = held(self.store)
        assert_right(found, *self.truths)
        assert there <= set(found), sorted(there - set(found))
        self.tally["clips that were checked"] += len(found)
        return set(found)

    def _check_end(self):
        assert is_tidy(self.store)
        assert exported(self.store) == self.reference
        self.tally["runs to the end, each with what the uninterrupted one has"] += 1


def outdate(audio, store):
    """Make a store of a dataset that has changed since and one of another model."""
    store = Path(store)
    store.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        for dataset, model in (("mine", ToyModel()), ("theirs", ToyModel(2.0))):
            folder = Path(scratch, dataset)
            extract(audio / dataset, model, folder)
            # Without a list, any files in a folder are a store.
            for part in folder.glob("*.h5"):
                shutil.copy(part, store)
    changed = sorted((audio / "mine").iterdir())[::3]
    for path in changed:
        sound, _ = soundfile.read(path)
        soundfile.write(path, sound / 2, RATE)


def commit_often(patch, batch):
    """Let each few clips be committed, however quick they are."""
    patch.setattr(sys.modules["biasaudio.embed.extraction"], "BATCH", batch)
    patch.setattr(sys.modules["biasaudio.embed.extraction"], "SHARE", 0.0)


def extract_parts(audio, store, batch=2, **options):
    """Extract, but leave a file for each few clips."""
    with pytest.MonkeyPatch.context() as patch:
        commit_often(patch, batch)
        patch.setattr(sys.modules["biasaudio.embed.extraction"], "_merge", lambda *_: None)
        return extract(audio, ToyModel(), store, commit_seconds=0, **options)


class Points:
    """Count every change of the file system below a folder, and do something at one.

    Parameters
    ----------
    folder : Path
    at : int, optional
        The change before which ``act`` is called.
    act : callable
        Told whether the change takes space.
    """

    def __init__(self, folder, at=None, act=lambda *_: None):
        self.folder, self.at, self.act = str(folder), at, act
        self.kinds = []
        # Files whose bytes a power cut may take.
        self.unsynced = set()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self):
        for name in ("unlink", "rmdir"):
            self._watch(Path, name, takes_space=False)
        self._watch(Path, "mkdir", when=lambda path, *_, **__: not path.exists())
        self._watch(os, "replace", after=self._replaced)
        self._watch(shutil, "copyfile", which=1, after=lambda _, to: self.unsynced.add(str(to)))
        # To open what is there takes no space.
        self._watch(os, "open", when=_is_created)
        for name in ("fsync", "pwrite", "ftruncate"):
            self._watch(os, name, after=self._synced if name == "fsync" else None)
        self._watch(Path, "open", when=_is_for_writing, wrap=True)
        return self

    def __exit__(self, *_):
        self._patch.undo()

    @property
    def count(self):
        return len(self.kinds)

    def hit(self, path, kind, takes_space=True):
        if str(path).startswith(self.folder):
            # The name is in its folder already.
            takes_space &= kind != "fsync" or not os.path.isdir(path)
            if self.at is not None and self.count >= self.at:
                self.act(self, takes_space)
            self.kinds.append(kind)

    def _replaced(self, source, target):
        if str(source) in self.unsynced:
            self.unsynced.remove(str(source))
            self.unsynced.add(str(target))

    def _synced(self, descriptor):
        self.unsynced.discard(_path_of(descriptor))

    def _watch(self, owner, name, *, which=0, takes_space=True, when=None, after=None, wrap=False):
        real = getattr(owner, name)

        def watched(*args, **options):
            if when is None or when(*args, **options):
                path = _path_of(args[which])
                self.hit(path, name, takes_space)
                result = real(*args, **options)
                if after is not None:
                    after(*args)
                return _Watched(result, path, self) if wrap else result
            return real(*args, **options)

        self._patch.setattr(owner, name, watched)


def _path_of(target):
    return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)


def _is_created(path, flags, *_, **__):
    return flags & os.O_ACCMODE and not os.path.lexists(path)


def _is_for_writing(_, mode="r", *__, **___):
    return set(mode) & set("wax+")


class _Watched:
    """An open file that tells of each write."""

    def __init__(self, stream, path, points):
        self._stream, self._path, self._points = stream, path, points

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def write(self, data):
        self._points.hit(self._path, "write")
        self._points.unsynced.add(self._path)
        return self._stream.write(data)

    def truncate(self, *size):
        self._points.hit(self._path, "truncate")
        self._points.unsynced.add(self._path)
        return self._stream.truncate(*size)


def kill_self(points, _):
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def cut_power(points, _):
    """End this process, and take what was not synced."""
    for path in points.unsynced:
        if os.path.exists(path):
            os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk(points, takes_space):
    """Fail as a full disk does."""
    if takes_space:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_fork(call):
    """Call in a copy of this process, which may end itself; return how it ended."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def extract_as_command(audio, model, store, n_jobs, commit_seconds):
    """Run the command with a model that it does not know."""
    from biasaudio.cli.main import main as command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biasaudio.embed.models.load_model", lambda *_, **__: model)
        quick = partial(extract, commit_seconds=commit_seconds)
        patch.setattr(sys.modules["biasaudio.embed.extraction"], "extract", quick)
        arguments = ["extract", audio, "--model", "toy", "--out", store, "--n-jobs", str(n_jobs)]
        return command(arguments)


def main(kind, options):
    """Do one thing that a test wants to be done elsewhere."""
    store = options.pop("store")
    model = ToyModel(**options.pop("model", {}))
    audio = options.pop("audio", None)
    if "batch" in options:
        commit_often(pytest.MonkeyPatch(), options.pop("batch"))
    print("ready", flush=True)
    sys.stdin.readline()
    begin, done = time.perf_counter(), {}
    if kind == "extract":
        result = extract(audio, model, store, **options)
        done = {"embedded": result.n_embedded, "present": result.n_present}
        done["failed"] = len(result.failed)
    elif kind == "compact":
        merge(store)
    elif kind == "cli":
        commit_often(pytest.MonkeyPatch(), 1)
        sys.exit(extract_as_command(audio, model, store, **options))
    else:
        raise SystemExit(kind)
    print(json.dumps(done | {"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    sys.modules["extract_fixtures"] = sys.modules["__main__"]
    ToyModel.__module__ = "extract_fixtures"
    main(sys.argv[1], json.loads(sys.argv[2]))
