"""Instruments of the synthetic audio: lines of notes turned into waveforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BASS", "ELECTRIC_ORGAN", "INSTRUMENTS", "Line", "Timbre", "render"]

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
        Modulation index (fm), or loss in the loop a second (pluck).
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
    turns_a_sample = (line.hertz / sr)[note]
    if timbre.vibrato:
        turns_a_sample *= 1.0 + timbre.vibrato * _sine(5.5, line.n, sr)
    return _Clock(note, seconds, np.cumsum(turns_a_sample))


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
