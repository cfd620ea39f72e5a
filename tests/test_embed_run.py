"""Audio goes through a model into a store and comes back by key."""

import typing

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biasaudio.datasets.synthesis import AudioClip, synthesize_datasets
from biasaudio.embed import AudioModel, Frames, LibrosaFeatures, embed_clips
from biasaudio.errors import DataError, ParameterError
from biasaudio.store import EmbeddingStore


class Loudness:
    """Give two numbers a frame of 100 samples, as somebody's own model would."""

    name = "loudness"
    sample_rate = 8000
    dims = 2
    hop = 100
    identity: typing.ClassVar = {"kind": "loudness"}

    def embed(self, waveform):
        frames = waveform[: len(waveform) // 100 * 100].reshape(-1, 100)
        vectors = np.stack([np.abs(frames).mean(1), np.abs(frames).max(1)], axis=1)
        return Frames(vectors, np.arange(len(frames)) * 12.5)


def clip(name="a", wave=None, sr=8000, **change):
    wave = np.full(400, 0.25, dtype=np.float32) if wave is None else wave
    return AudioClip(name, "set", "train", "jazz_blue", "song", "flute", wave, sr)._replace(
        **change
    )


def test_somebodys_own_model_is_an_audio_model():
    assert isinstance(Loudness(), AudioModel)
    assert not isinstance(object(), AudioModel)


def test_frames_and_clip_table_come_back(tmp_path, rng):
    waves = [rng.uniform(-1, 1, n).astype(np.float32) for n in (400, 800, 300)]
    clips = [clip(name, wave) for name, wave in zip("cab", waves, strict=True)]
    clips[2] = clips[2]._replace(group="other", split="test", genre="", label="cello")
    path = embed_clips(Loudness(), iter(clips), tmp_path / "own.h5")
    assert path == tmp_path / "own.h5"
    store = EmbeddingStore(path)
    assert store.shape("set", "loudness") == (15, 2)
    table = store.table("loudness")
    assert list(table.clips.clip_id) == ["c", "a", "b"]
    assert list(table.clips.split) == ["train", "train", "test"]
    assert list(table.clips.genre) == ["jazz_blue", "jazz_blue", ""]
    assert list(table.clips.group) == ["song", "song", "other"]
    assert table.clips.labels["cello"].tolist() == [False, False, True]
    expected = [Loudness().embed(wave).vectors.mean(0) for wave in waves]
    np.testing.assert_allclose(table.X, expected, rtol=1e-6)


def test_audio_at_another_rate_is_resampled(tmp_path):
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
    path = embed_clips(LibrosaFeatures(), [clip(wave=wave, sr=44100)], tmp_path / "s.h5")
    model = LibrosaFeatures()
    X = EmbeddingStore(path).table("melstats").X
    centroid = X[0, model.feature_names.index("centroid_mean")]
    assert centroid == pytest.approx(1.0, rel=0.1)


def test_the_name_of_the_embedding_can_be_given(tmp_path):
    path = embed_clips(Loudness(), [clip()], tmp_path / "s.h5", embedding="mine")
    assert EmbeddingStore(path).embeddings() == ["mine"]


def test_a_second_run_needs_overwrite(tmp_path):
    path = embed_clips(Loudness(), [clip()], tmp_path / "s.h5")
    with pytest.raises(ParameterError, match="overwrite"):
        embed_clips(Loudness(), [clip()], path)
    louder = clip(wave=np.full(400, 0.5, dtype=np.float32))
    embed_clips(Loudness(), [louder], path, overwrite=True)
    np.testing.assert_allclose(EmbeddingStore(path).table("loudness").X, 0.5)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "there are no clips to embed; give at least one"),
        ([clip(), clip("bad", np.array([0.1, np.nan]))], "clip 'bad' has NaN or Inf in 1 of 2"),
        ([clip("none", np.zeros(0))], "clip 'none' has no samples"),
        ([clip("wide", np.zeros((2, 9)))], r"clip 'wide' has shape \(2, 9\); give mono"),
        ([clip("same"), clip("same")], "same"),
    ],
)
def test_bad_clips_are_named_and_nothing_is_written(tmp_path, clips, message):
    with pytest.raises(DataError, match=message):
        embed_clips(Loudness(), clips, tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_to_stderr_only_when_asked(tmp_path, capsys):
    embed_clips(Loudness(), [clip()], tmp_path / "a.h5")
    assert capsys.readouterr() == ("", "")
    embed_clips(Loudness(), [clip()], tmp_path / "b.h5", progress=True, total=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "loudness" in err
    assert "/1 " in err


def test_the_planted_difference_is_heard_by_the_features(tmp_path):
    clips = synthesize_datasets(n_songs=40, clips_per_song=2, seconds=0.8)
    path = embed_clips(LibrosaFeatures(), clips, tmp_path / "demo.h5")
    table = EmbeddingStore(path).table("melstats")
    train, test = (table.select(table.clips.split == part) for part in ("train", "test"))

    def held_out_auc(of):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        probe.fit(train.X, of(train.clips))
        return roc_auc_score(of(test.clips), probe.decision_function(test.X))

    assert held_out_auc(lambda clips: clips.dataset == "field") > 0.95
    assert held_out_auc(lambda clips: clips.labels["flute"].to_numpy()) > 0.8
    assert held_out_auc(lambda clips: clips.genre == "classical") > 0.65
    # Control: nothing to be found in a coin thrown for each song.
    assert 0.1 < held_out_auc(lambda clips: clips.group_id % 2 == 1) < 0.9
