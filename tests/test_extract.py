"""From files of audio to a store: what comes in, what is listed, and what is done once only."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from extract_fixtures import (
    RATE,
    ToyModel,
    assert_right,
    contents,
    exported,
    held,
    is_tidy,
    names,
    truth,
    write_audio,
)

from biasaudio.cli.main import main
from biasaudio.datasets.audio import find_audio
from biasaudio.embed.extraction import extract
from biasaudio.errors import BiasAudioError, DataError, ParameterError
from biasaudio.store import EmbeddingStore, exists, import_arrays, waiting


@pytest.fixture
def audio(tmp_path):
    """Give a folder with two datasets of five clips each."""
    return write_audio(tmp_path / "audio", 5)


@pytest.fixture
def store(tmp_path):
    """Give the path of a store that is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def calls(tmp_path):
    """Give a file with a line for each call of the model."""
    path = tmp_path / "calls"
    path.touch()
    return path


def counts(result):
    return result.n_embedded, result.n_present, len(result.failed)


def test_every_clip_has_the_vectors_of_the_model(audio, store):
    result = extract(audio, ToyModel(), store)
    assert (result.path, result.embedding, *counts(result)) == (store, "toy", 10, 0, 0)
    seconds = sum(soundfile.info(path).duration for path in audio.rglob("*.wav"))
    assert result.seconds == pytest.approx(seconds)
    assert is_tidy(store)
    found, right = held(store), truth(audio, ToyModel())
    assert set(found) == set(right)
    assert_right(found, right)
    assert EmbeddingStore(store).shape("mine", "toy") == (
        sum(len(X) for X in right.values())
        - sum(len(X) for clip, X in right.items() if clip[0] == "theirs"),
        4,
    )


def test_two_jobs_and_many_commits_give_the_same_store(audio, store, tmp_path):
    extract(audio, ToyModel(), store, commit_seconds=60)
    extract(audio, ToyModel(), tmp_path / "other", n_jobs=2, commit_seconds=0)
    assert is_tidy(tmp_path / "other")
    whole = exported(store)
    assert exported(tmp_path / "other") == whole
    extract(audio, ToyModel(2.0), tmp_path / "third")
    assert exported(tmp_path / "third") != whole


def test_nothing_is_computed_again(audio, store, calls):
    model = ToyModel(calls=str(calls))
    extract(audio / "mine", model, store)
    assert len(calls.read_text().split()) == 5
    result = extract(audio, model, store)
    assert counts(result) == (5, 5, 0)
    assert len(calls.read_text().split()) == 10
    before = contents(store)
    assert counts(extract(audio, model, store)) == (0, 10, 0)
    assert counts(extract(audio, model, store, overwrite=True)) == (0, 10, 0)
    assert len(calls.read_text().split()) == 10
    assert contents(store) == before


def test_a_new_clip_is_added_to_those_that_are_there(audio, store, tmp_path, calls):
    late = tmp_path / "late.wav"
    shutil.move(audio / "mine" / "clip002.wav", late)
    extract(audio, ToyModel(), store)
    shutil.move(late, audio / "mine" / "clip002.wav")
    assert counts(extract(audio, ToyModel(calls=str(calls)), store)) == (1, 9, 0)
    assert len(calls.read_text().split()) == 1
    assert is_tidy(store)
    extract(audio, ToyModel(), tmp_path / "at once")
    assert exported(store) == exported(tmp_path / "at once")


def test_the_same_dataset_may_have_two_embeddings(audio, store):
    extract(audio, ToyModel(), store)
    extract(audio, ToyModel(2.0), store, embedding="twice")
    assert EmbeddingStore(store).embeddings() == ["toy", "twice"]
    assert_right(held(store), truth(audio, ToyModel()))
    assert_right(held(store, "twice"), truth(audio, ToyModel(2.0)))


def spoil(audio):
    (audio / "mine" / "clip001.wav").write_bytes(b"not audio at all")
    (audio / "theirs" / "clip003.wav").write_bytes(b"")
    whole = (audio / "theirs" / "clip004.wav").read_bytes()
    (audio / "theirs" / "clip004.wav").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_files_that_cannot_be_decoded_are_listed_and_stop_nothing(audio, store, n_jobs):
    right = truth(audio, ToyModel())
    spoil(audio)
    result = extract(audio, ToyModel(), store, n_jobs=n_jobs)
    assert counts(result) == (7, 0, 3)
    failed = result.failed.set_index(["dataset", "clip_id"])
    reasons = {
        ("mine", "clip001.wav"): "starts with b'not audio",
        ("theirs", "clip003.wav"): "has 0 bytes",
        ("theirs", "clip004.wav"): "is cut off",
    }
    assert set(failed.index) == set(reasons)
    for clip, reason in reasons.items():
        assert reason in failed.loc[clip, "reason"]
        assert failed.loc[clip, "path"] == str(audio / clip[0] / clip[1])
    found = held(store)
    assert set(found) == set(right) - set(reasons)
    assert_right(found, right)


def test_a_store_without_any_clip_is_not_made(audio, store):
    for path in audio.rglob("*.wav"):
        path.write_bytes(b"not audio at all")
    assert counts(extract(audio, ToyModel(), store)) == (0, 0, 10)
    assert not exists(store)


def test_bad_numbers_of_a_model_are_reasons(audio, store):
    class Wild(ToyModel):
        def embed(self, audio):
            frames = super().embed(audio)
            if len(audio) == 600:
                frames.vectors[0, 0] = np.nan
            if len(audio) == 637:
                return frames._replace(vectors=frames.vectors[:, :2])
            return frames

    failed = extract(audio, Wild(), store).failed.set_index(["dataset", "clip_id"])["reason"]
    assert len(failed) == 2
    assert "NaN or Inf" in failed["mine", "clip000.wav"]
    assert "shape (2, 2); (n, 4) is allowed" in failed["theirs", "clip000.wav"]
    assert len(held(store)) == 8


def test_changed_audio_is_listed_and_embedded_anew_when_asked(audio, store, calls):
    extract(audio, ToyModel(), store)
    old, path = truth(audio, ToyModel()), audio / "mine" / "clip002.wav"
    sound, _ = soundfile.read(path)
    soundfile.write(path, sound / 2, RATE)
    model = ToyModel(calls=str(calls))
    result = extract(audio, model, store)
    assert counts(result) == (0, 9, 1)
    assert "changed since it was embedded" in result.failed.reason[0]
    assert_right(held(store), old)
    assert counts(extract(audio, model, store, overwrite=True)) == (1, 9, 0)
    assert len(calls.read_text().split()) == 1
    assert_right(held(store), truth(audio, ToyModel()))
    assert len(held(store)) == 10
    assert is_tidy(store)


def test_audio_that_is_gone_is_listed_and_its_vectors_stay(audio, store):
    extract(audio, ToyModel(), store)
    files = find_audio(audio)
    (audio / "mine" / "clip002.wav").unlink()
    for overwrite in (False, True):
        result = extract(files, ToyModel(), store, overwrite=overwrite)
        assert counts(result) == (0, 9, 1)
        assert "is not a file that is there" in result.failed.reason[0]
        assert len(held(store)) == 10


def test_another_model_needs_another_name(audio, store):
    extract(audio, ToyModel(), store)
    before = contents(store)
    message = r"another one: scale=1.0 \(now 2.0\); choose another name .* overwrite=True"
    with pytest.raises(ParameterError, match=message):
        extract(audio, ToyModel(2.0), store)
    with pytest.raises(ParameterError, match=r"max_seconds=None \(now 0.1"):
        extract(audio, ToyModel(), store, max_seconds=0.1)
    assert contents(store) == before
    assert counts(extract(audio, ToyModel(2.0), store, overwrite=True)) == (10, 0, 0)
    assert_right(held(store), truth(audio, ToyModel(2.0)))
    assert is_tidy(store)


def test_vectors_that_were_imported_are_not_mixed_with_extracted_ones(audio, store):
    import_arrays(store, np.ones((1, 4)), ["a"], dataset="mine", embedding="toy")
    with pytest.raises(ParameterError, match="the model that made it is not known"):
        extract(audio, ToyModel(), store)
    with pytest.raises(ParameterError, match=r"1 clip\(s\) of dataset 'mine' .* as 'a', .* name"):
        extract(audio, ToyModel(), store, overwrite=True)
    (audio / "mine" / "clip000.wav").rename(audio / "mine" / "a")
    files = find_audio(audio, pd.DataFrame({"path": ["mine/a", "mine/clip001.wav"]}))
    assert counts(extract(files, ToyModel(), store, overwrite=True)) == (2, 0, 0)
    assert set(held(store)) == {("mine", "a"), ("mine", "clip001.wav")}


def test_one_embedding_is_of_one_model_also_in_datasets_that_were_not_given(audio, store):
    extract(audio / "theirs", ToyModel(2.0), store)
    for overwrite in (False, True):
        with pytest.raises(
            ParameterError, match=r"dataset 'theirs' .* another name .* remove that dataset"
        ):
            extract(audio / "mine", ToyModel(), store, overwrite=overwrite)


def test_only_the_beginning_of_each_file(audio, store):
    result = extract(audio, ToyModel(), store, max_seconds=0.1)
    assert result.seconds == pytest.approx(
        10 * 0.1 - 200 / RATE - 163 / RATE - 126 / RATE - 89 / RATE - 52 / RATE - 15 / RATE
    )
    assert EmbeddingStore(store).origin("mine", "toy").model["max_seconds"] == 0.1
    for (dataset, clip), X in held(store).items():
        sound, _ = soundfile.read(audio / dataset / clip, dtype="float32")
        assert np.array_equal(X, ToyModel().embed(sound[:800]).vectors)


@pytest.fixture
def manifest(audio):
    """Give a manifest with labels, whose columns have names of their own."""
    rows = [
        {
            "file": f"{dataset}/clip00{i}.wav",
            "corpus": dataset,
            "instrument": label,
            "song": f"s{i}",
        }
        for dataset in ("mine", "theirs")
        for i, label in enumerate(["cello", "flute", "cello"])
    ]
    rows.append({"file": "mine/lost.wav", "corpus": "mine", "instrument": "flute", "song": "s9"})
    path = audio / "clips.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


COLUMNS = {"path": "file", "dataset": "corpus", "label": "instrument", "group": "song"}


def test_a_manifest_says_what_the_clips_are(audio, manifest, store):
    files = find_audio(audio, manifest, columns=COLUMNS)
    assert len(files.unlisted) == 4
    result = extract(files, ToyModel(), store)
    assert counts(result) == (6, 0, 1)
    assert result.failed.clip_id[0] == "lost.wav"
    assert "not there" in result.failed.reason[0]
    table = EmbeddingStore(store).table("toy")
    assert table.clips.label_names == ["cello", "flute"]
    assert table.clips.group.tolist() == ["s0", "s1", "s2"] * 2
    assert table.clips.labels["flute"].tolist() == [False, True, False] * 2
    made = EmbeddingStore(store).origin("mine", "toy")
    assert made.sources["path"].tolist() == [f"mine/clip00{i}.wav" for i in range(3)]


def test_clips_that_contradict_the_store_stop_before_anything_is_computed(
    audio, manifest, store, calls
):
    extract(find_audio(audio, manifest, columns=COLUMNS), ToyModel(), store)
    text = manifest.read_text().replace(
        "mine/clip001.wav,mine,flute", "mine/clip001.wav,mine,cello"
    )
    manifest.write_text(text)
    files = find_audio(audio, manifest, columns=COLUMNS)
    with pytest.raises(DataError, match=r"clip001.* or pass overwrite=True, so that what is given"):
        extract(files, ToyModel(calls=str(calls)), store, embedding="other")
    assert calls.read_text() == ""
    extract(audio, ToyModel(), store, embedding="third")
    # Whatever embedding is asked for, the labels are those of the clips.
    assert counts(extract(files, ToyModel(), store, overwrite=True)) == (0, 6, 1)
    row = EmbeddingStore(store).clips("mine").labels.loc["clip001.wav"]
    assert row[lambda each: each].index.tolist() == ["cello"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_labels_that_are_given_later_are_kept_in_all_files(
    audio, manifest, store, calls, overwrite
):
    extract(audio, ToyModel(), store)
    extract(audio, ToyModel(2.0), store, embedding="twice")
    files = find_audio(audio, manifest, columns=COLUMNS)
    result = extract(files, ToyModel(calls=str(calls)), store, overwrite=overwrite)
    assert counts(result) == (0, 6, 1)
    assert calls.read_text() == ""
    for dataset in ("mine", "theirs"):
        clips = EmbeddingStore(store).clips(dataset)
        assert clips.group.tolist()[:3] == ["s0", "s1", "s2"]
        assert clips.labels["flute"].tolist() == [False, True, False, False, False]
        assert clips.mask["flute"].tolist() == [True, True, True, False, False]
    assert_right(held(store), truth(audio, ToyModel()))
    before = contents(store)
    extract(files, ToyModel(), store, overwrite=overwrite)
    extract(audio, ToyModel(), store, overwrite=overwrite)
    assert contents(store) == before


class Failing(ToyModel):
    """Fail from some call on."""

    def __init__(self, scale, n, error=RuntimeError):
        super().__init__(scale)
        self.left, self.error = n, error

    def embed(self, audio):
        self.left -= 1
        if self.left < 0:
            raise self.error("no idea")
        return super().embed(audio)


class Stop(KeyboardInterrupt):
    """End a run as Ctrl-C does: what was committed stays."""


def test_an_overwrite_that_ends_early_leaves_the_old_vectors_and_goes_on(audio, store, calls):
    extract(audio, ToyModel(), store)
    extract(audio, ToyModel(), store, embedding="kept")
    before = contents(store)

    for options in ({"max_seconds": 1e9}, {"max_seconds": "1"}, {"n_jobs": 0}):
        with pytest.raises(ParameterError):
            extract(audio, ToyModel(2.0), store, overwrite=True, **options)
    # Another model was begun with, and given up.
    with pytest.raises(Stop):
        extract(audio, Failing(3.0, 9, Stop), store, overwrite=True)
    with pytest.raises(Stop):
        extract(audio, Failing(2.0, 9, Stop), store, overwrite=True)
    # The list says what waits, and no part was changed.
    assert waiting(store) == ["toy"]
    assert contents(store).items() >= {(k, v) for k, v in before.items() if k != "parts.txt"}
    assert_right(held(store), truth(audio, ToyModel()))
    # Without overwrite it stays, as it is not in the store.
    extract(audio, ToyModel(), store)
    model = ToyModel(2.0, calls=str(calls))
    result = extract(audio, model, store, overwrite=True)
    assert result.n_embedded + result.n_present == 10
    assert 0 < result.n_embedded == len(calls.read_text().split()) < 10
    assert_right(held(store), truth(audio, ToyModel(2.0)))
    assert_right(held(store, "kept"), truth(audio, ToyModel()))
    assert is_tidy(store, 4)
    extract(audio, ToyModel(2.0), store.with_name("other"))
    assert exported(store.with_name("other")) == exported(store)


def test_an_overwrite_in_which_all_fail_keeps_the_old_vectors(audio, store):
    extract(audio, ToyModel(), store)
    before = contents(store)
    assert counts(extract(audio, Failing(2.0, 0), store, overwrite=True)) == (0, 0, 10)
    assert contents(store) == before
    # What fails alone is left out, with its labels.
    assert counts(extract(audio, Failing(2.0, 9), store, overwrite=True)) == (9, 0, 1)
    assert_right(held(store), truth(audio, ToyModel(2.0)))
    assert len(held(store)) == 9


def test_clips_that_are_not_given_are_not_lost_to_another_model(audio, store, calls):
    extract(audio, ToyModel(), store)
    before = contents(store)
    (audio / "mine" / "clip001.wav").unlink()
    message = (
        r"1 clip\(s\) of dataset 'mine' .* such as 'clip001.wav', .* embedding=\.\.\., or give"
    )
    with pytest.raises(ParameterError, match=message):
        extract(audio, ToyModel(2.0, calls=str(calls)), store, overwrite=True)
    assert calls.read_text() == ""
    assert contents(store) == before


def test_what_waits_damaged_is_computed_again(audio, store):
    extract(audio, ToyModel(), store)
    kept = set(names(store))
    with pytest.raises(Stop):
        extract(audio, Failing(2.0, 9, Stop), store, overwrite=True)
    there = set(names(store)) - kept
    for name in there:
        (store / name).write_bytes(b"damaged")
    assert there
    assert counts(extract(audio, ToyModel(2.0), store, overwrite=True)) == (10, 0, 0)
    assert_right(held(store), truth(audio, ToyModel(2.0)))


@pytest.mark.parametrize("value", [np.float32(1), {1}, float("nan"), b"x"])
def test_an_identity_that_cannot_be_written_is_named(audio, store, value, calls):
    class Strange(ToyModel):
        identity = {"kind": "toy", "odd": value}  # noqa: RUF012

    with pytest.raises(ParameterError, match=r"has odd=.*, which cannot be written as JSON"):
        extract(audio, Strange(calls=str(calls)), store)
    assert calls.read_text() == ""
    assert not store.exists()


def test_an_identity_is_the_same_when_it_is_read_again(audio, store):
    class Listing(ToyModel):
        identity = {"kind": "toy", "sizes": (1, 2)}  # noqa: RUF012

    extract(audio, Listing(), store)
    assert counts(extract(audio, Listing(), store)) == (0, 10, 0)


def test_paths_are_those_below_the_folder_whichever_clips_are_given(audio, store):
    extract(find_audio(audio, pd.DataFrame({"path": ["mine/clip001.wav"]})), ToyModel(), store)
    extract(audio, ToyModel(), store)
    made = EmbeddingStore(store).origin("mine", "toy").sources
    assert sorted(made["path"]) == [f"mine/clip00{i}.wav" for i in range(5)]
    assert len(held(store)) == 10


def test_names_that_cannot_be_kept_are_listed(audio, store, capsys):
    for name in (b"\xff.wav", b"a\x1b[2J.wav"):
        shutil.copy(audio / "mine" / "clip001.wav", os.fsencode(audio / "mine") + b"/" + name)
    result = extract(audio, ToyModel(), store)
    assert counts(result) == (10, 0, 2)
    assert all(path.isprintable() for path in result.failed["path"])
    assert result.failed["path"][0].endswith(r"a\x1b[2J.wav")
    assert "cannot be printed; rename it" in result.failed["reason"][0]
    code, out, err = run(capsys, audio, "--model", "melstats", "--out", store, "--n-jobs", 1)
    assert code == 1
    assert "2 of 12 files could not be embedded" in err


def test_a_file_is_no_store_that_grows(audio, tmp_path):
    with pytest.raises(ParameterError, match=r"x.h5 is a file, .* 'biasaudio store export'"):
        extract(audio, ToyModel(), tmp_path / "x.h5")
    (tmp_path / "text").write_text("mine")
    with pytest.raises(ParameterError, match="text is a file"):
        extract(audio, ToyModel(), tmp_path / "text")
    assert (tmp_path / "text").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": "a/b"}, "embedding='a/b' cannot name"),
        ({"n_jobs": 0}, "n_jobs=0 is not allowed"),
    ],
)
def test_parameters_are_checked_before_anything_is_made(audio, store, options, message):
    with pytest.raises(ParameterError, match=message):
        extract(audio, ToyModel(), store, **options)
    assert not store.exists()


def test_wrong_max_seconds_is_refused_at_once(audio, store):
    with pytest.raises(ParameterError, match="max_seconds=-1"):
        extract(audio, ToyModel(), store, max_seconds=-1)
    assert not store.exists()


def test_no_audio_is_an_error(tmp_path, store):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no audio is below"):
        extract(tmp_path / "empty", ToyModel(), store)
    assert not store.exists()


def test_progress_tells_rate_and_time_left(audio, store, capsys):
    extract(audio, ToyModel(), store, progress=True)
    shown = capsys.readouterr().err
    assert "toy" in shown
    assert "/10 [" in shown
    assert "clips/s" in shown
    assert "<" in shown
    extract(audio, ToyModel(), store)
    assert capsys.readouterr().err == ""


def test_a_model_that_fails_in_a_way_of_its_own_is_a_reason(audio, store):
    class Broken(ToyModel):
        def embed(self, audio):
            if len(audio) == 637:
                raise RuntimeError("no\nidea\x1b")
            return super().embed(audio)

    result = extract(audio, Broken(), store)
    assert counts(result) == (9, 0, 1)
    assert result.failed["reason"].tolist() == [
        "the model failed on it (RuntimeError: no idea\\x1b); check the model"
    ]


class Panic(BaseException):
    """What code in another language raises."""


class Mute(RuntimeError):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("error", [SystemExit, MemoryError, KeyError, Panic, Mute, StopIteration])
def test_whatever_a_model_raises_fails_that_clip_only(audio, store, error, n_jobs):
    result = extract(audio, Raising(error), store, n_jobs=n_jobs)
    assert counts(result) == (9, 0, 1)
    reason = result.failed["reason"][0]
    assert reason.startswith(f"the model failed on it ({error.__name__}: ")
    assert reason.isprintable()


class Raising(ToyModel):
    """Raise at one clip."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def embed(self, audio):
        if len(audio) == 637:
            raise self.error("no\nidea\udcff")
        return super().embed(audio)


def test_ctrl_c_in_a_model_ends_the_run_and_keeps_what_was_done(audio, store):
    with pytest.raises(KeyboardInterrupt):
        extract(audio, Raising(KeyboardInterrupt), store)
    assert len(held(store)) == 5


def test_numbers_beyond_float32_are_a_reason_without_a_warning(audio, store):
    class Huge(ToyModel):
        def embed(self, audio):
            frames = super().embed(audio)
            vectors = frames.vectors.astype(float)
            return frames._replace(vectors=vectors * (1e300 if len(audio) == 637 else 1.0))

    result = extract(audio, Huge(), store)
    assert counts(result) == (9, 0, 1)
    assert "NaN or Inf" in result.failed["reason"][0]


def test_a_bar_that_cannot_be_shown_stops_nothing(audio, store, monkeypatch):
    class Full:
        def write(self, *_):
            raise OSError(28, "No space left on device")

        flush = fileno = write

    monkeypatch.setattr(sys, "stderr", Full())
    assert counts(extract(audio, ToyModel(), store, progress=True)) == (10, 0, 0)


def test_what_no_clip_can_do_without_stops_and_keeps_what_was_done(audio, store):
    class Lacking(ToyModel):
        def embed(self, audio):
            if len(audio) == 637:
                raise ParameterError("python -m pip install it")
            return super().embed(audio)

    with pytest.raises(ParameterError, match="pip install it"):
        extract(audio, Lacking(), store)
    assert {clip[0] for clip in held(store)} == {"mine"}
    assert len(held(store)) == 5


def test_a_process_that_dies_is_one_line_and_costs_no_committed_clip(audio, store, calls):
    model = ToyModel(die_at=637 + 74 * 4)
    with pytest.raises(BiasAudioError, match=r"one of the processes died.*n_jobs=1") as caught:
        extract(audio, model, store, n_jobs=2, commit_seconds=0)
    assert "\n" not in str(caught.value)
    found = held(store)
    assert {clip[0] for clip in found} == {"mine"}
    assert_right(found, truth(audio, ToyModel()))
    result = extract(audio, ToyModel(calls=str(calls)), store)
    assert (result.n_embedded, len(calls.read_text().split())) == (5, 5)


# The command line.


def run(capsys, *argv):
    """Return exit code, stdout and stderr of the command."""
    code = main(["extract", *map(str, argv)])
    return code, *capsys.readouterr()


def test_the_command_extracts_and_ls_lists(audio, store, capsys):
    code, out, err = run(capsys, audio, "--model", "melstats", "--out", store, "--n-jobs", 1)
    assert code == 0
    assert f"{store}: 10 clips embedded" in out
    assert is_tidy(store)
    assert main(["store", "ls", str(store), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["embeddings"]
    assert [(row["dataset"], row["embedding"], row["clips"]) for row in rows] == [
        ("mine", "melstats", 5),
        ("theirs", "melstats", 5),
    ]
    code, out, err = run(
        capsys, audio, "--model", "melstats", "--out", store, "--n-jobs", 1, "--json", "--quiet"
    )
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["embedded"], found["present"], found["failed"]) == (0, 10, [])
    assert found["datasets"] == ["mine", "theirs"]


def test_the_command_lists_what_failed_and_says_so_with_its_exit_code(audio, store, capsys):
    spoil(audio)
    code, out, err = run(capsys, audio, "--model", "melstats", "--out", store, "--n-jobs", 1)
    assert code == 1
    assert "7 clips embedded" in out
    assert "3 failed" in out
    assert "clip001.wav" in out
    assert "is cut off" in out
    assert "3 of 10 files could not be embedded" in err
    code, out, _ = run(
        capsys, audio, "--model", "melstats", "--out", store, "--n-jobs", 1, "--json", "--quiet"
    )
    assert code == 1
    assert {each["clip_id"] for each in json.loads(out)["failed"]} == {
        "clip001.wav",
        "clip003.wav",
        "clip004.wav",
    }


def test_the_command_reads_a_manifest_with_columns_of_its_own(audio, manifest, store, capsys):
    pairs = [f"--column={name}={column}" for name, column in COLUMNS.items()]
    options = ["--model", "melstats", "--out", store, "--clips", manifest, "--n-jobs", 1, *pairs]
    code, out, err = run(capsys, audio, *options, "--max-seconds", 0.1, "--embedding", "mel")
    assert code == 1
    assert "4 audio files" in err
    assert "mine/lost.wav" in out
    table = EmbeddingStore(store).table("mel")
    assert table.clips.label_names == ["cello", "flute"]
    code, out, err = run(capsys, audio, *options, "--column", "label")
    assert code == 2
    assert "--column" in err


def test_the_command_refuses_in_one_line_with_the_way_out(audio, store, tmp_path, capsys):
    base = [audio, "--model", "melstats", "--n-jobs", 1, "--out"]
    code, _, err = run(capsys, *base, tmp_path / "x.h5")
    assert (code, err.count("\n")) == (2, 1)
    assert "biasaudio store export" in err
    code, _, err = run(capsys, *base, store, "--resume")
    assert (code, err.count("\n")) == (1, 1)
    assert "is not there" in err
    assert not store.exists()
    assert run(capsys, *base, store)[0] == 0
    code, _, err = run(capsys, *base, store, "--resume", "--embedding", "other")
    assert code == 2
    assert "no embedding 'other', only melstats" in err
    assert run(capsys, *base, store, "--resume")[0] == 0
    code, _, err = run(capsys, *base, store, "--set", "frame_seconds=1.0")
    assert (code, err.count("\n")) == (2, 1)
    assert "--overwrite" in err
    assert run(capsys, *base, store, "--set", "frame_seconds=1.0", "--overwrite")[0] == 0
    code, _, err = run(capsys, audio, "--model", "melstat", "--out", store)
    assert code == 2
    assert "did you mean 'melstats'" in err


def test_audio_to_store_as_a_module_of_python(audio, store):
    command = [sys.executable, "-m", "biasaudio", "extract", audio, "--model", "melstats"]
    done = subprocess.run(
        [*map(str, command), "--out", str(store), "--n-jobs", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "clips/s" in done.stderr
