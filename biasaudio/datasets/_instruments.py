"""Instruments of the synthetic audio: lines of notes turned into waveforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

__all__ = ["BASS", "CYMBAL", "DRUM", "INSTRUMENTS", "Line", "Timbre", "render", "strike"]

Wave = NDArray[np.floating[Any]]
_TABLE = 2048
_HARMONICS = np.arange(1, 33)


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
        Harmonic h has the amplitude h ** -rolloff (additive), the loop loses
        this much a second (pluck).
    even : float
        Gain of the even harmonics, or the modulation index (fm).
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
    even: float = 1.0
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
    def hertz(self) -> Wave:
        """Frequency of each note [shape=(n_notes,)]."""
        return np.asarray(440.0 * 2.0 ** ((self.pitch - 69.0) / 12.0))


INSTRUMENTS = {
    "flute": Timbre("additive", 0.05, 9.0, 2.0, vibrato=0.004, tremolo=0.15, breath=0.10),
    "guitar": Timbre("pluck", 0.002, 1.2, rolloff=2.5),
    "organ": Timbre("additive", 0.02, 9.0, 0.6, even=1.3, breath=0.02),
    "piano": Timbre("additive", 0.004, 0.6, 1.1, darkening=0.9, breath=0.02),
    "trumpet": Timbre("fm", 0.03, 9.0, even=3.0, vibrato=0.003),
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
BASS = Timbre("additive", 0.01, 0.5, 1.8, darkening=0.8)


def _note_clock(line: Line, sr: int) -> tuple[NDArray[np.intp], Wave]:
    """Return the note and the seconds since its start for each sample."""
    note = np.repeat(np.arange(len(line.start)), line.lengths)
    return note, ((np.arange(line.n) - line.start[note]) / sr).astype(np.float32)


def _phase(line: Line, note: NDArray[np.intp], timbre: Timbre, sr: int) -> Wave:
    """Return the running phase in turns, with vibrato [shape=(n,)]."""
    seconds = np.arange(line.n, dtype=np.float32) / sr
    wobble = 1.0 + timbre.vibrato * np.sin(2 * np.pi * 5.5 * seconds)
    return np.asarray(np.cumsum(line.hertz[note] / sr * wobble))


def _additive(
    line: Line, timbre: Timbre, tilt: float, sr: int, rng: np.random.Generator
) -> Wave:
    note, t = _note_clock(line, sr)
    hz = line.hertz[:, None] * _HARMONICS
    gain = _HARMONICS**-timbre.rolloff * np.where(_HARMONICS % 2, 1.0, timbre.even)
    gain = gain * (hz / 1000.0) ** tilt * (hz < 0.45 * sr)
    for centre, width, boost in timbre.formants:
        gain = gain * (1.0 + boost * np.exp(-(((hz - centre) / width) ** 2)))
    # Two tables, a bright and a dark one, of a whole turn of each note: looking
    # samples up costs a tenth of summing 32 sines.
    both = np.stack([gain, gain * _HARMONICS**-timbre.darkening])
    spectrum = np.zeros((2, len(hz), _TABLE // 2 + 1), dtype=complex)
    spectrum[..., _HARMONICS] = both * np.exp(2j * np.pi * rng.random(len(_HARMONICS)))
    tables = np.fft.irfft(spectrum, axis=-1).astype(np.float32)
    tables /= np.sqrt(np.square(tables[0]).mean(axis=-1))[None, :, None]
    turn = (_phase(line, note, timbre, sr) * _TABLE).astype(np.int64) % _TABLE
    bright = np.exp(-t / 0.08)
    wave = bright * tables[0, note, turn]
    if timbre.darkening:
        return np.asarray(wave + (1.0 - bright) * tables[1, note, turn])
    return np.asarray(wave + (1.0 - bright) * tables[0, note, turn])


def _fm(line: Line, timbre: Timbre, tilt: float, sr: int, rng: np.random.Generator) -> Wave:
    note, t = _note_clock(line, sr)
    turn = (2 * np.pi * _phase(line, note, timbre, sr) % (2 * np.pi)).astype(np.float32)
    depth = timbre.even * 2.0**tilt * (1.0 - np.exp(-t / 0.04)) * (0.7 + 0.3 * np.exp(-t / 0.2))
    # Fewer sidebands for high notes keep the sum below half the sample rate.
    depth = depth * np.minimum(1.0, 600.0 / line.hertz[note]).astype(np.float32)
    return np.asarray(np.sin(turn + depth * np.sin(turn)))


def _pluck(line: Line, timbre: Timbre, tilt: float, sr: int, rng: np.random.Generator) -> Wave:
    out = np.zeros(line.n, dtype=np.float32)
    for hz, start, length in zip(line.hertz, line.start, line.lengths, strict=True):
        period = max(2, round(sr / hz - 0.5))
        burst = np.zeros(length)
        burst[: min(period, length)] = rng.standard_normal(min(period, length))
        loop = np.zeros(period + 2)
        loop[0] = 1.0
        loop[-2:] = -0.5 * np.exp(-timbre.rolloff / hz)
        pick = 0.2 + 0.2 * np.clip(tilt, -0.9, 0.9)
        out[start : start + length] = signal.lfilter([0.6 + pick, 0.4 - pick], loop, burst)
    return out


_ENGINES: dict[str, Callable[..., Wave]] = {"additive": _additive, "fm": _fm, "pluck": _pluck}


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
    wave = _ENGINES[timbre.engine](line, timbre, tilt, sr, rng)
    _, t = _note_clock(line, sr)
    left = np.repeat(line.lengths, line.lengths) / sr - t
    envelope = (1.0 - np.exp(-t / timbre.attack)) * np.exp(-t / timbre.decay)
    envelope *= np.minimum(1.0, left / 0.02)
    if timbre.tremolo:
        envelope *= 1.0 + timbre.tremolo * np.sin(2 * np.pi * 6.0 * np.arange(line.n) / sr)
    if timbre.breath:
        wave = wave + timbre.breath * rng.standard_normal(line.n, dtype=np.float32)
    wave = wave * envelope
    return np.asarray(wave / np.sqrt(np.square(wave).mean()), dtype=np.float32)
