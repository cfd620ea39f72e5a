"""The band of the synthetic audio: what each genre plays around the lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from biasaudio.datasets._instruments import BASS, INSTRUMENTS, Line, Timbre, render

__all__ = ["STYLES", "Song", "Style", "play_backing", "play_lead"]

_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])
_ROOTS = np.array([0, 5, 7, 0])


@dataclass(frozen=True)
class Style:
    """How one genre plays: eight half-beat steps a bar, ``x`` is a hit.

    Attributes
    ----------
    tempo : tuple of float
        Lowest and highest beats a minute.
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
        Beats a minute.
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
        """Return the sample at which each beat falls, with swing."""
        late = self.style.swing * (np.asarray(beats) % 1.0 == 0.5)
        seconds = (np.asarray(beats) + late) * 60.0 / self.tempo
        return np.asarray(np.round(seconds * self.sr), dtype=np.int64)


def _hits(song: Song, steps: str, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return samples and beats of the hits of a pattern before sample ``n``.

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
    """Return one drum hit: noise above ``low`` Hz that dies away."""
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
