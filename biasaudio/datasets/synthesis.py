"""Audio of two synthetic datasets with a planted bias, for the demo.

Nothing here is recorded music.  Two datasets of short clips share six
instruments and four genres and differ in what they were recorded with, in how
often each genre occurs and in what they mean by *organ*; `PLANTED` says so in
words and numbers, so that what an audit finds can be held against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from biasaudio.datasets._band import STYLES, Song, play_backing, play_lead
from biasaudio.datasets._instruments import ELECTRIC_ORGAN, INSTRUMENTS, Timbre
from biasaudio.errors import ParameterError

__all__ = ["DATASETS", "PLANTED", "AudioClip", "Recording", "synthesize_datasets"]


class AudioClip(NamedTuple):
    """One clip of audio and what is known about it.

    Attributes
    ----------
    clip_id, dataset, split, genre, group, label : str
        As in a `ClipTable`; ``""`` is not known.
    waveform : np.ndarray [shape=(n_samples,), dtype=float32]
        Mono, full scale is 1.
    sample_rate : int
        Samples a second.
    """

    clip_id: str
    dataset: str
    split: str
    genre: str
    group: str
    label: str
    waveform: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class Recording:
    """How one synthetic dataset sounds and what it holds.

    Attributes
    ----------
    genres : dict of str to float
        Share of the songs of each genre.
    level : tuple of float
        Mean and spread over songs of the level, dB below full scale.
    band : tuple of float
        Edges of what the chain passes, Hz; they vary by some 25 % over songs.
    reverb : tuple of float
        Time to fall by 60 dB in seconds, and level against the direct sound.
    noise : float
        Level of the background noise against the music, dB.
    codec : float
        Step of the quantised spectrum, relative to the level of the clip; 0
        is no codec.
    instruments : dict of str to Timbre
        Labels by which this dataset means another instrument.
    """

    genres: dict[str, float]
    level: tuple[float, float]
    band: tuple[float, float]
    reverb: tuple[float, float]
    noise: float
    codec: float
    instruments: dict[str, Timbre] = field(default_factory=dict)


DATASETS = {
    "studio": Recording(
        genres={"pop_rock": 0.2, "jazz_blue": 0.3, "classical": 0.35, "country_folk": 0.15},
        level=(-22.0, 2.0),
        band=(40.0, 9500.0),
        reverb=(0.2, 0.1),
        noise=-50.0,
        codec=0.0,
    ),
    "field": Recording(
        genres={"pop_rock": 0.4, "jazz_blue": 0.15, "classical": 0.15, "country_folk": 0.3},
        level=(-28.0, 4.0),
        band=(250.0, 4000.0),
        reverb=(0.6, 0.4),
        noise=-40.0,
        codec=0.01,
        instruments={"organ": ELECTRIC_ORGAN},
    ),
}


def _describe(recording: Recording) -> str:
    low, high = recording.band
    return (
        f"{recording.level[0]:g} dBFS, band {low:g} to {high:g} Hz, "
        f"reverb of {recording.reverb[0]:g} s, noise at {recording.noise:g} dB, "
        + (f"codec step {recording.codec:g}" if recording.codec else "no codec")
    )


PLANTED = {f"recording of {name}": _describe(each) for name, each in DATASETS.items()} | {
    f"genres of {name}": ", ".join(f"{genre} {share:.0%}" for genre, share in each.genres.items())
    for name, each in DATASETS.items()
}
PLANTED["instruments"] = (
    f"{', '.join(INSTRUMENTS)} in both datasets, but organ is a church organ in studio and an "
    "electric organ in field"
)
PLANTED["class mix"] = (
    "genres prefer instruments (guitar in pop_rock, trumpet in jazz_blue, violin in classical), "
    "so the datasets also differ in how often each instrument leads"
)


def _allot(shares: dict[str, float], n: int) -> list[str]:
    """Return ``n`` names in proportion to their shares, sorted by name.

    Counts are the largest remainders, so no seed gives an empty cell.
    """
    names = sorted(shares)
    exact = np.array([shares[name] for name in names]) * n / sum(shares.values())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return [name for name, count in zip(names, counts, strict=True) for _ in range(count)]


def _leads(genre: str, n_songs: int) -> list[tuple[str, str]]:
    """Return the two instruments that lead each of the songs of a genre."""
    slots = _allot(STYLES[genre].leads, 2 * n_songs)
    return list(zip(slots[:n_songs], slots[n_songs:], strict=True))


def _quantize(wave: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Round the short-time spectrum, as a codec does: faint partials vanish."""
    n = wave.shape[-1]
    _, _, spectrum = signal.stft(wave, nperseg=512)
    grid = step * np.sqrt(np.square(np.abs(spectrum)).sum(axis=1).mean(axis=-1))[:, None, None]
    rounded = grid * (np.round(spectrum.real / grid) + 1j * np.round(spectrum.imag / grid))
    return np.asarray(signal.istft(rounded, nperseg=512)[1][:, :n])


def _record(
    waves: NDArray[np.float32], recording: Recording, sr: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Pass the clips of one song through the chain of its dataset.

    Parameters
    ----------
    waves : np.ndarray [shape=(n_clips, n_samples)]
    recording : Recording
    sr : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_clips, n_samples), dtype=float32]
    """
    seconds, wet = recording.reverb[0] * rng.uniform(0.6, 1.4), recording.reverb[1]
    t = np.arange(int(seconds * sr)) / sr
    room = rng.standard_normal(len(t)) * np.exp(-6.9 * t / seconds)
    room *= wet * rng.uniform(0.5, 1.5) / np.sqrt(np.square(room).sum())
    room[0] += 1.0
    sound = signal.oaconvolve(waves, room[None], axes=-1)[:, : waves.shape[-1]]
    edges = np.minimum(np.array(recording.band) * np.exp(rng.normal(0.0, 0.25, 2)), 0.47 * sr)
    band = signal.butter(3, edges, "bandpass", fs=sr, output="sos")
    sound = signal.sosfilt(band, sound)
    sound /= np.sqrt(np.square(sound).mean())
    noise = 10.0 ** (rng.normal(recording.noise, 7.0) / 20.0)
    sound += noise * rng.standard_normal(sound.shape)
    if recording.codec:
        sound = _quantize(sound, recording.codec * np.exp(rng.normal(0.0, 0.5)))
    level = 10.0 ** (rng.normal(*recording.level) / 20.0)
    return np.asarray(np.clip(level * sound, -1.0, 1.0), dtype=np.float32)


def _play_song(
    genre: str,
    leads: tuple[str, str],
    n_clips: int,
    n: int,
    sr: int,
    recording: Recording,
    rng: np.random.Generator,
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the labels and the waveforms of the clips of one song."""
    style = STYLES[genre]
    song = Song(style, int(rng.integers(12)), rng.uniform(*style.tempo), rng.normal(0.0, 0.5), sr)
    backing = play_backing(song, n * n_clips, rng).reshape(n_clips, n)
    backing *= 10.0 ** (rng.uniform(-36.0, -6.0) / 20.0)
    labels = [leads[2 * k // n_clips] for k in range(n_clips)]
    timbres = INSTRUMENTS | recording.instruments
    lead = np.stack([play_lead(song, timbres[label], n, rng) for label in labels])
    return labels, _record(lead + backing, recording, sr, rng)


def synthesize_datasets(
    *,
    n_songs: int = 88,
    clips_per_song: int = 4,
    seconds: float = 1.5,
    sample_rate: int = 22050,
    random_state: int = 0,
) -> Iterator[AudioClip]:
    """Yield the clips of all synthetic datasets, song by song.

    Clips of one song share key, tempo, instruments' brightness, accompaniment
    and recording; the first half is led by one instrument, the second by
    another.  Every third song is in the test split.

    Parameters
    ----------
    n_songs : int
        Songs a dataset.
    clips_per_song : int
        Clips a song.
    seconds : float
        Length of a clip.
    sample_rate : int
        Samples a second.
    random_state : int
        The same seed gives the same audio.

    Yields
    ------
    AudioClip

    Raises
    ------
    ParameterError
        If a number is too small to make a clip of it.

    Examples
    --------
    >>> clip = next(synthesize_datasets(n_songs=12))
    >>> clip.dataset, clip.genre, clip.label, clip.waveform.shape
    ('studio', 'classical', 'flute', (33075,))
    """
    for name, value, least in (
        ("n_songs", n_songs, 1),
        ("clips_per_song", clips_per_song, 1),
        ("seconds", seconds, 0.1),
        ("sample_rate", sample_rate, 8000),
    ):
        if not value >= least:
            raise ParameterError(f"{name}={value!r} is too small; give {least} or more")
    return _synthesize(
        n_songs, clips_per_song, round(seconds * sample_rate), sample_rate, random_state
    )


def _synthesize(n_songs: int, n_clips: int, n: int, sr: int, seed: int) -> Iterator[AudioClip]:
    for at, (dataset, recording) in enumerate(DATASETS.items()):
        genres = _allot(recording.genres, n_songs)
        leads = {genre: iter(_leads(genre, genres.count(genre))) for genre in set(genres)}
        for number, genre in enumerate(genres):
            # A generator a song: its sound depends on no other song.
            rng = np.random.default_rng([seed, at, number])
            labels, waves = _play_song(genre, next(leads[genre]), n_clips, n, sr, recording, rng)
            split = "test" if number % 3 == 2 else "train"
            group = f"{dataset}-{number:03d}"
            for k, (label, wave) in enumerate(zip(labels, waves, strict=True)):
                yield AudioClip(f"{group}-{k}", dataset, split, genre, group, label, wave, sr)
