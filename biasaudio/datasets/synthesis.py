"""Audio of two synthetic datasets with a planted bias, for the demo.

Nothing here is recorded music.  Two datasets of short clips share six
instruments and four genres and differ in what they were recorded with, in how
often each genre occurs and in what they mean by *organ*; `PLANTED` says so in
words and numbers, so that what an audit finds can be held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from biasaudio._validation import as_seed
from biasaudio.errors import ParameterError

__all__ = ["DATASETS", "PLANTED", "AudioClip", "Recording", "synthesize_datasets"]

# ------------------------------------------------------- instruments: lines of notes become waves

_TABLE = 2048
_HARMONICS = np.arange(1, 33, dtype=np.float64)


@dataclass(frozen=True)
class Timbre:
    """What one instrument sounds like.

    Attributes
    ----------
    engine : {'additive', 'fm', 'pluck'}
        How the wave is made: a sum of harmonics, one sine that modulates
        another, or noise in a loop with a low-pass (Karplus and Strong).
    attack, decay : float
        Time constants of the envelope in seconds.
    rolloff : float
        Harmonic h has the amplitude h ** -rolloff (additive).
    depth : float
        Modulation index (fm), or loss in the loop per second (pluck).
    formants : tuple of (float, float, float)
        Resonances: centre in Hz, width in Hz, gain.
    darkening : float
        What is added to `rolloff` once the attack is over.
    vibrato, tremolo : float
        Relative depth of the changes of frequency and of amplitude.
    breath : float
        Level of the noise that follows the envelope.
    """

    engine: str
    attack: float
    decay: float
    rolloff: float = 1.0
    depth: float = 1.0
    formants: tuple[tuple[float, float, float], ...] = ()
    darkening: float = 0.0
    vibrato: float = 0.0
    tremolo: float = 0.0
    breath: float = 0.0


@dataclass(frozen=True)
class Line:
    """One voice: the pitch and the first sample of each note, in order.

    Attributes
    ----------
    pitch : np.ndarray [shape=(n_notes,)]
        MIDI note numbers.
    start : np.ndarray [shape=(n_notes,), dtype=int]
        The first starts at 0.
    n : int
        Samples in all.
    """

    pitch: NDArray[Any]
    start: NDArray[np.int64]
    n: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each note [shape=(n_notes,)]."""
        return np.diff(self.start, append=self.n)

    @property
    def hertz(self) -> NDArray[np.float64]:
        """Frequency of each note [shape=(n_notes,)]."""
        return np.asarray(440.0 * 2.0 ** ((self.pitch - 69.0) / 12.0))


INSTRUMENTS = {
    "flute": Timbre("additive", 0.05, 9.0, 2.0, vibrato=0.004, tremolo=0.15, breath=0.10),
    "guitar": Timbre("pluck", 0.002, 1.2, depth=2.5),
    "organ": Timbre("additive", 0.02, 9.0, 0.6, breath=0.02),
    "piano": Timbre("additive", 0.004, 0.6, 1.1, darkening=0.9, breath=0.02),
    "trumpet": Timbre("fm", 0.03, 9.0, depth=3.0, vibrato=0.003),
    "violin": Timbre(
        "additive",
        0.07,
        9.0,
        1.0,
        formants=((500.0, 150.0, 1.5), (2800.0, 700.0, 3.0)),
        vibrato=0.008,
        breath=0.04,
    ),
}
# A dataset may mean another instrument by the same word: a church organ here,
# an electric organ with key click and a rotating loudspeaker there.
ELECTRIC_ORGAN = Timbre(
    "additive", 0.008, 9.0, 0.9, darkening=0.3, vibrato=0.005, tremolo=0.25, breath=0.02
)
BASS = Timbre("additive", 0.01, 0.5, 1.8, darkening=0.8)


@dataclass(frozen=True)
class _Clock:
    """The time of each sample: its note, seconds into the note, turns so far."""

    note: NDArray[np.intp]
    seconds: NDArray[np.float32]
    turns: NDArray[np.float64]


def _clock(line: Line, timbre: Timbre, sr: int) -> _Clock:
    note = np.repeat(np.arange(len(line.start)), line.lengths)
    samples = np.arange(line.n)
    seconds = ((samples - line.start[note]) / sr).astype(np.float32)
    turns_per_sample = (line.hertz / sr)[note]
    if timbre.vibrato:
        turns_per_sample *= 1.0 + timbre.vibrato * _sine(5.5, line.n, sr)
    return _Clock(note, seconds, np.cumsum(turns_per_sample))


def _sine(hertz: float, n: int, sr: int) -> NDArray[np.float32]:
    turns = np.float32(hertz / sr) * np.arange(n, dtype=np.float32)
    return np.asarray(np.sin(np.float32(2 * np.pi) * turns), dtype=np.float32)


def _additive(
    line: Line, timbre: Timbre, clock: _Clock, tilt: float, sr: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    hz = line.hertz[:, None] * _HARMONICS
    gain = _HARMONICS**-timbre.rolloff * (hz / 1000.0) ** tilt * (hz < 0.45 * sr)
    for centre, width, boost in timbre.formants:
        gain = gain * (1.0 + boost * np.exp(-(((hz - centre) / width) ** 2)))
    # Two tables, a bright and a dark one, of a whole turn of each note: looking
    # samples up costs a tenth of summing 32 sines.
    both = np.stack([gain, gain * _HARMONICS**-timbre.darkening])
    spectrum = np.zeros((2, len(hz), _TABLE // 2 + 1), dtype=complex)
    spectrum[..., 1 : len(_HARMONICS) + 1] = both * np.exp(2j * np.pi * rng.random(len(_HARMONICS)))
    tables = np.fft.irfft(spectrum, axis=-1).astype(np.float32)
    tables /= np.sqrt(np.square(tables[0]).mean(axis=-1))[None, :, None]
    at = clock.note * _TABLE + (clock.turns * _TABLE).astype(np.int64) % _TABLE
    wave: NDArray[np.float32] = tables[1].ravel()[at]
    if timbre.darkening:
        wave += np.exp(clock.seconds / np.float32(-0.08)) * (tables[0].ravel()[at] - wave)
    return wave


def _fm(
    line: Line, timbre: Timbre, clock: _Clock, tilt: float, sr: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    angle = (2 * np.pi * (clock.turns % 1.0)).astype(np.float32)
    swell = (1.0 - np.exp(-clock.seconds / 0.04)) * (0.7 + 0.3 * np.exp(-clock.seconds / 0.2))
    # Fewer sidebands for high notes keep the sum below half the sample rate.
    depth = timbre.depth * 2.0**tilt * np.minimum(1.0, 600.0 / line.hertz)
    swing = depth.astype(np.float32)[clock.note] * swell * np.sin(angle)
    return np.asarray(np.sin(angle + swing), dtype=np.float32)


def _pluck(
    line: Line, timbre: Timbre, clock: _Clock, tilt: float, sr: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    out = np.zeros(line.n, dtype=np.float32)
    touch = 0.2 * float(np.clip(tilt, -0.9, 0.9))
    for hz, start, length in zip(line.hertz, line.start, line.lengths, strict=True):
        period = max(2, round(sr / hz - 0.5))
        string = np.zeros(length + 2 * period, dtype=np.float32)
        noise = rng.standard_normal(period + 1, dtype=np.float32)
        string[1 : period + 1] = (0.8 + touch) * noise[1:] + (0.2 - touch) * noise[:-1]
        loss = np.float32(0.5 * np.exp(-timbre.depth / hz))
        # A whole period at once: every sample needs only samples of the one before.
        for at in range(period + 1, length + 1, period):
            before = string[at - period - 1 : at]
            string[at : at + period] = loss * (before[1:] + before[:-1])
        out[start : start + length] = string[1 : length + 1]
    return out


_ENGINES: dict[str, Callable[..., NDArray[np.float32]]] = {
    "additive": _additive,
    "fm": _fm,
    "pluck": _pluck,
}


def render(
    line: Line, timbre: Timbre, *, tilt: float, sr: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Play one line on one instrument.

    Parameters
    ----------
    line : Line
        The notes.
    timbre : Timbre
        The instrument.
    tilt : float
        Brightness of this very instrument; 0 is neutral.
    sr : int
        Sample rate in Hz.
    rng : np.random.Generator
        For noise and phases.

    Returns
    -------
    np.ndarray [shape=(line.n,), dtype=float32]
        With a root mean square of 1.
    """
    clock = _clock(line, timbre, sr)
    wave = _ENGINES[timbre.engine](line, timbre, clock, tilt, sr, rng)
    left = (line.lengths / sr).astype(np.float32)[clock.note] - clock.seconds
    envelope = (1.0 - np.exp(-clock.seconds / timbre.attack)) * np.exp(
        -clock.seconds / timbre.decay
    )
    envelope *= np.minimum(1.0, left / 0.02)
    if timbre.tremolo:
        envelope *= 1.0 + timbre.tremolo * _sine(6.0, line.n, sr)
    if timbre.breath:
        wave = wave + np.float32(timbre.breath) * rng.standard_normal(line.n, dtype=np.float32)
    wave = wave * envelope
    return np.asarray(wave / np.sqrt(np.square(wave).mean()), dtype=np.float32)


# --------------------------------------------- the band: what each genre plays around the lead

_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])
_ROOTS = np.array([0, 5, 7, 0])


@dataclass(frozen=True)
class Style:
    """How one genre plays: eight half-beat steps per bar, ``x`` is a hit.

    Attributes
    ----------
    tempo : tuple of float
        Lowest and highest beats per minute.
    register : tuple of int
        Lowest and highest MIDI note of the lead.
    lead_beats : tuple of float
        How long a note of the lead may be.
    leads : dict of str to float
        How often each instrument leads.
    chords : str
        The instrument that plays the chords.
    chord_steps, bass_steps, kick, snare, cymbal : str
        When they play.
    swing : float
        How late the second half of a beat comes, in beats.
    seventh : bool
        Chords have four notes.
    """

    tempo: tuple[float, float]
    register: tuple[int, int]
    lead_beats: tuple[float, ...]
    leads: dict[str, float]
    chords: str
    chord_steps: str
    bass_steps: str
    kick: str = "........"
    snare: str = "........"
    cymbal: str = "........"
    swing: float = 0.0
    seventh: bool = False


STYLES = {
    "pop_rock": Style(
        tempo=(105, 140),
        register=(55, 74),
        lead_beats=(0.5, 0.5, 1.0),
        leads={"flute": 1, "guitar": 4, "organ": 2, "piano": 2, "trumpet": 1, "violin": 1},
        chords="guitar",
        chord_steps="x...x...",
        bass_steps="xxxxxxxx",
        kick="x...x...",
        snare="..x...x.",
        cymbal="xxxxxxxx",
    ),
    "jazz_blue": Style(
        tempo=(90, 170),
        register=(52, 79),
        lead_beats=(0.5, 0.5, 0.5, 1.5),
        leads={"flute": 1, "guitar": 2, "organ": 2, "piano": 3, "trumpet": 4, "violin": 1},
        chords="piano",
        chord_steps=".x..x..x",
        bass_steps="x.x.x.x.",
        cymbal="x.xxx.xx",
        swing=0.17,
        seventh=True,
    ),
    "classical": Style(
        tempo=(60, 100),
        register=(60, 86),
        lead_beats=(0.5, 1.0, 2.0),
        leads={"flute": 3, "guitar": 1, "organ": 2, "piano": 3, "trumpet": 1, "violin": 4},
        chords="violin",
        chord_steps="x.......",
        bass_steps="x.......",
    ),
    "country_folk": Style(
        tempo=(90, 125),
        register=(57, 76),
        lead_beats=(0.5, 0.5, 1.0),
        leads={"flute": 2, "guitar": 4, "organ": 1, "piano": 2, "trumpet": 1, "violin": 3},
        chords="guitar",
        chord_steps="..x...x.",
        bass_steps="x...x...",
        snare="...x...x",
    ),
}


@dataclass(frozen=True)
class Song:
    """What all clips of one song share.

    Attributes
    ----------
    style : Style
        Of its genre.
    key : int
        Semitones above C.
    tempo : float
        Beats per minute.
    tilt : float
        Brightness of the instruments.
    sr : int
        Sample rate in Hz.
    """

    style: Style
    key: int
    tempo: float
    tilt: float
    sr: int

    def sample(self, beats: NDArray[Any]) -> NDArray[np.int64]:
        """Find the sample at which each beat falls, with swing."""
        late = self.style.swing * (np.asarray(beats) % 1.0 == 0.5)
        seconds = (np.asarray(beats) + late) * 60.0 / self.tempo
        return np.asarray(np.round(seconds * self.sr), dtype=np.int64)


def _hits(song: Song, steps: str, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find samples and beats of the hits of a pattern before sample ``n``.

    Hits in the last 10 ms would be clicks and are left out.
    """
    bars = int(np.ceil(n / song.sr * song.tempo / 60.0 / 4.0)) + 1
    grid = np.array([step == "x" for step in steps])
    beats = np.flatnonzero(np.tile(grid, bars)) / 2.0
    start = song.sample(beats)
    kept = start < n - song.sr // 100
    return start[kept], beats[kept]


def play_lead(song: Song, timbre: Timbre, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Play a melody on one instrument.

    Parameters
    ----------
    song : Song
        Key, tempo and style.
    timbre : Timbre
        The instrument.
    n : int
        Samples.
    rng : np.random.Generator
        Draws the melody.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        With a root mean square of 1.
    """
    low, high = song.style.register
    beats = np.cumsum(np.append(0.0, rng.choice(song.style.lead_beats, 40)))
    start = song.sample(beats)
    start = start[start < n]
    degrees = np.arange(7 * 9)
    scale = 12 * (degrees // 7) + _SCALE[degrees % 7] + song.key
    scale = scale[(scale >= low) & (scale <= high)]
    walk = rng.integers(len(scale)) + np.cumsum(rng.integers(-2, 3, len(start)))
    fold = np.abs((walk + len(scale) - 1) % (2 * len(scale) - 2) - len(scale) + 1)
    line = Line(scale[fold], start, n)
    return render(line, timbre, tilt=song.tilt, sr=song.sr, rng=rng)


def _burst(song: Song, low: float, decay: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One drum hit: noise above ``low`` Hz that dies away."""
    t = np.arange(int(5 * decay * song.sr)) / song.sr
    noise = rng.standard_normal(len(t)) * np.exp(-t / decay)
    sos = signal.butter(2, low, "highpass", fs=song.sr, output="sos")
    return np.asarray(signal.sosfilt(sos, noise))


def _drums(song: Song, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(int(0.25 * song.sr)) / song.sr
    kick = 8.0 * np.sin(2 * np.pi * (50.0 * t - 3.0 * np.exp(-t / 0.03))) * np.exp(-t / 0.07)
    snare = 3.0 * _burst(song, 800.0, 0.06, rng)
    cymbal = _burst(song, min(5000.0, 0.4 * song.sr), 0.12 if song.style.swing else 0.03, rng)
    out = np.zeros(n)
    for steps, sound in (
        (song.style.kick, kick),
        (song.style.snare, snare),
        (song.style.cymbal, cymbal),
    ):
        start, _ = _hits(song, steps, n)
        for at, force in zip(start, rng.uniform(0.7, 1.0, len(start)), strict=True):
            out[at : at + len(sound)] += force * sound[: n - at]
    return out


def play_backing(song: Song, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Play chords, bass and drums of the song's genre.

    Parameters
    ----------
    song : Song
        Key, tempo and style.
    n : int
        Samples.
    rng : np.random.Generator
        Draws the touch of each hit.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        With a root mean square of 1.
    """
    out = _drums(song, n, rng)
    if out.any():
        out *= 0.7 / np.sqrt(np.square(out).mean())
    degrees = (0, 4, 7, 10) if song.style.seventh else (0, 4, 7)
    voices = [(song.style.chords, song.style.chord_steps, 48 + degree) for degree in degrees]
    for instrument, steps, pitch in [*voices, ("bass", song.style.bass_steps, 36)]:
        start, beats = _hits(song, steps, n)
        if not len(start):
            continue
        rest = int(start[0])
        root = song.key + _ROOTS[(beats // 4).astype(int) % len(_ROOTS)]
        line = Line(pitch + root, start - rest, n - rest)
        timbre = BASS if instrument == "bass" else INSTRUMENTS[instrument]
        voice = render(line, timbre, tilt=song.tilt, sr=song.sr, rng=rng)
        out[rest:] += voice * (1.0 if instrument == "bass" else 1.0 / len(degrees))
    return np.asarray(out / np.sqrt(np.square(out).mean()), dtype=np.float32)


# ----------------------------------------------- the recordings: what makes two datasets of it


class AudioClip(NamedTuple):
    """One clip of audio and what is known about it.

    Attributes
    ----------
    clip_id, dataset, split, genre, group, label : str
        As in a `ClipTable`; ``""`` is not known.
    waveform : np.ndarray [shape=(n_samples,), dtype=float32]
        Mono, full scale is 1.
    sample_rate : int
        Samples per second.
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
    """Deal ``n`` names in proportion to their shares, sorted by name.

    Counts are the largest remainders, so no seed gives an empty cell.
    """
    names = sorted(shares)
    exact = np.array([shares[name] for name in names]) * n / sum(shares.values())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return [name for name, count in zip(names, counts, strict=True) for _ in range(count)]


def _leads(genre: str, n_songs: int) -> list[tuple[str, str]]:
    """Choose the two instruments that lead each of the songs of a genre."""
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
    """Make the labels and the waveforms of the clips of one song."""
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
    random_state: int | np.random.Generator | None = 0,
) -> Iterator[AudioClip]:
    """Yield the clips of all synthetic datasets, song by song.

    Clips of one song share key, tempo, instruments' brightness, accompaniment
    and recording; the first half is led by one instrument, the second by
    another.  Every third song is in the test split.

    Parameters
    ----------
    n_songs : int
        Songs per dataset.
    clips_per_song : int
        Clips per song.
    seconds : float
        Length of a clip.
    sample_rate : int
        Samples per second.
    random_state : int, np.random.Generator or None
        The same seed gives the same audio.

    Yields
    ------
    AudioClip

    Raises
    ------
    ParameterError
        If a number is too small or too large to make clips of it.

    Examples
    --------
    >>> clip = next(synthesize_datasets(n_songs=12))
    >>> clip.dataset, clip.genre, clip.label, clip.waveform.shape
    ('studio', 'classical', 'flute', (33075,))
    """
    for name, value, least, most in (
        ("n_songs", n_songs, 1, 10**6),
        ("clips_per_song", clips_per_song, 1, 10**6),
        ("seconds", seconds, 0.1, 3600),
        ("sample_rate", sample_rate, 8000, 384_000),
    ):
        if not value >= least:
            raise ParameterError(f"{name}={value!r} is too small; give {least} or more")
        if value > most:
            raise ParameterError(f"{name}={value!r} is too large; give {most} or less")
    n = round(seconds * sample_rate)
    return _synthesize(n_songs, clips_per_song, n, sample_rate, as_seed(random_state))


def _synthesize(n_songs: int, n_clips: int, n: int, sr: int, seed: int) -> Iterator[AudioClip]:
    for at, (dataset, recording) in enumerate(DATASETS.items()):
        genres = _allot(recording.genres, n_songs)
        leads = {genre: iter(_leads(genre, genres.count(genre))) for genre in set(genres)}
        for number, genre in enumerate(genres):
            # One generator per song: its sound depends on no other song.
            rng = np.random.default_rng([seed, at, number])
            labels, waves = _play_song(genre, next(leads[genre]), n_clips, n, sr, recording, rng)
            split = "test" if number % 3 == 2 else "train"
            group = f"{dataset}-{number:03d}"
            for k, (label, wave) in enumerate(zip(labels, waves, strict=True)):
                yield AudioClip(f"{group}-{k}", dataset, split, genre, group, label, wave, sr)
