"""Hand-crafted features as an embedding: no weights, no download."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import sparse

from biasaudio._validation import check_count, check_number
from biasaudio.embed.base import BaseModel, Frames, Identity, check_rate

__all__ = ["LibrosaFeatures"]

Array = NDArray[np.floating[Any]]

# Goes up when a number of a vector does: stores of two versions must not be mixed.
_VERSION = 2
_N_FFT, _HOP = 2048, 512
_N_MELS, _N_BANDS, _N_MFCC = 64, 16, 20
_SHAPE = ("centroid", "bandwidth", "rolloff", "flatness", "zcr", "rms", "flux")
_N_CONTRAST, _N_CHROMA = 7, 12
# Windows at once: their spectra fit the cache of a processor, however long the clip is.
_BLOCK = 64
_FLOOR = 1e-10
# Seconds; as long as audio may be.
_MAX_FRAME = 3600


class LibrosaFeatures(BaseModel):
    """Describe each half second by statistics of librosa features.

    Mean and standard deviation over a frame are taken of 16 log-mel bands, 7
    measures of the spectrum's shape and level, and 20 mel-frequency cepstral
    coefficients, and the mean of the 7 bands of spectral contrast and of the
    12 pitch classes.

    Parameters
    ----------
    sample_rate : int
        Samples per second of the waveforms, at least 8000.
    frame_seconds : float
        Length of a frame, at least 0.1 s.  A rest shorter than half a frame is
        left out, unless it is all there is.

    Attributes
    ----------
    name : str
        ``"melstats"``.
    dims : int
        105.
    hop : int
        Samples from one frame to the next.
    identity : dict
        What decides the numbers.
    feature_names : list of str
        What each dimension is.

    Raises
    ------
    ParameterError
        If a value is too small.

    Notes
    -----
    The features are those of librosa with a window of 2,048 samples and a hop
    of 512, and are computed from one spectrum; the tests compare each with the
    function of librosa.  Two things differ on purpose.  Decibels have no
    `top_db`, so that a frame does not depend on the loudest one of its clip;
    and the pitch classes are those of A = 440 Hz, without an estimate of the
    tuning, which is slow and differs between clips of one song.

    Examples
    --------
    >>> import numpy as np
    >>> model = LibrosaFeatures()
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    >>> model.embed(tone).vectors.shape
    (2, 105)
    """

    name = _kind = "melstats"

    def __init__(self, *, sample_rate: int = 22050, frame_seconds: float = 0.5) -> None:
        self.sample_rate = check_rate(check_count(sample_rate, "sample_rate", 8000))
        self.frame_seconds = check_number(frame_seconds, "frame_seconds", 0.1, _MAX_FRAME)
        self._call = f"sample_rate={self.sample_rate}, frame_seconds={self.frame_seconds}"
        self.dims = len(self.feature_names)
        self.hop: int = _HOP * max(1, round(self.frame_seconds * self.sample_rate / _HOP))
        bank = librosa.filters.mel(sr=self.sample_rate, n_fft=_N_FFT, n_mels=_N_MELS)
        chroma = librosa.filters.chroma(sr=self.sample_rate, n_fft=_N_FFT, tuning=0.0)
        # Nearly all of the banks is zero or next to it, and a dense product this small
        # waits for the threads of BLAS longer than it computes.
        self._mel = sparse.csr_array(bank)
        self._chroma = sparse.csr_array(np.where(chroma > 1e-4, chroma, 0.0))
        self._window = librosa.filters.get_window("hann", _N_FFT).astype(np.float32)
        hertz = librosa.fft_frequencies(sr=self.sample_rate, n_fft=_N_FFT)
        self._kilohertz = (hertz / 1000.0).astype(np.float32)[:, None]
        self._contrast = _contrast_bands(hertz)

    @property
    def feature_names(self) -> list[str]:
        """What each dimension is, in order."""
        bands = [f"band{k:02d}" for k in range(_N_BANDS)]
        mfcc = [f"mfcc{k:02d}" for k in range(_N_MFCC)]
        moving = [*bands, *_SHAPE, *mfcc]
        contrast = [f"contrast{k}_mean" for k in range(_N_CONTRAST)]
        chroma = [f"chroma{k:02d}_mean" for k in range(_N_CHROMA)]
        both = [f"{name}_{part}" for part in ("mean", "std") for name in moving]
        return both + contrast + chroma

    def _options(self) -> Identity:
        return {"version": _VERSION, "sample_rate": self.sample_rate, "hop": self.hop}

    def _embed(self, wave: NDArray[np.float32]) -> Frames:
        # Shorter than one window it is padded with zeros.
        if wave.size < _N_FFT:
            wave = np.pad(wave, (0, _N_FFT - wave.size))
        moving, still = self._columns(wave)
        n = moving.shape[1]
        step = self.hop // _HOP
        starts = np.arange(0, max(n - step // 2, 1), step)
        vectors = [
            np.concatenate(
                [
                    moving[:, at : at + step].mean(axis=1),
                    moving[:, at : at + step].std(axis=1),
                    still[:, at : at + step].mean(axis=1),
                ]
            )
            for at in starts
        ]
        middle = (starts + np.minimum(starts + step, n) - 1) / 2
        milliseconds = middle * 1000.0 * _HOP / self.sample_rate
        return Frames(np.array(vectors, dtype=np.float32), milliseconds)

    def _columns(self, wave: NDArray[np.float32]) -> tuple[Array, Array]:
        """Features [shape=(43, n)], and contrast and chroma [shape=(19, n)]."""
        padded = np.pad(wave, _N_FFT // 2)
        windows = sliding_window_view(padded, _N_FFT)[::_HOP]
        starts = range(0, len(windows), _BLOCK)
        blocks = [self._spectral(windows[at : at + _BLOCK]) for at in starts]
        mel, shape, still = (np.hstack(parts) for parts in zip(*blocks, strict=True))
        bands = mel.reshape(_N_BANDS, -1, mel.shape[1]).sum(axis=1)
        log_mel = _decibels(mel)
        rise = np.maximum(np.diff(log_mel, axis=1, prepend=log_mel[:, :1]), 0.0)
        mfcc = scipy.fft.dct(log_mel, axis=0, norm="ortho")[:_N_MFCC]
        zcr = _crossings(padded) / _N_FFT
        rms = _decibels(_window_sums(np.square(padded)) / _N_FFT)
        moving = np.vstack([_decibels(bands), shape, zcr, rms, rise.mean(axis=0), mfcc])
        return moving, still

    def _spectral(self, windows: NDArray[np.float32]) -> tuple[Array, Array, Array]:
        """Mel [shape=(64, n)], shape [shape=(4, n)], contrast and chroma."""
        # One row per bin from here on: sums over the bins are then sums of whole rows.
        spectrum = np.ascontiguousarray(np.abs(scipy.fft.rfft(windows * self._window, axis=1)).T)
        power = np.square(spectrum)
        total = spectrum.sum(axis=0)
        heard = np.where(total > 0, total, 1.0)
        centroid = (self._kilohertz * spectrum).sum(axis=0) / heard
        spread = np.square(self._kilohertz - centroid)
        bandwidth = np.sqrt((spread * spectrum).sum(axis=0) / heard)
        below = np.cumsum(spectrum, axis=0)
        rolloff = self._kilohertz[(below < 0.85 * below[-1]).sum(axis=0), 0]
        floored = np.maximum(power, _FLOOR)
        flatness = 10.0 * (np.log10(floored).mean(axis=0) - np.log10(floored.mean(axis=0)))
        chroma = self._chroma @ power
        loudest = chroma.max(axis=0)
        chroma = chroma / np.where(loudest > 0, loudest, 1.0)
        contrast = []
        for start, stop, count in self._contrast:
            ordered = np.sort(spectrum[start:stop], axis=0)
            peak, valley = ordered[-count:].mean(axis=0), ordered[:count].mean(axis=0)
            contrast.append(_decibels(peak) - _decibels(valley))
        shape = np.stack([centroid, bandwidth, rolloff, np.maximum(flatness, -100.0)])
        return self._mel @ power, shape, np.vstack([*contrast, chroma])


def _decibels(power: Array) -> Array:
    """Decibels, at least -100."""
    return 10.0 * np.log10(np.maximum(power, _FLOOR))


def _window_sums(padded: NDArray[Any]) -> Array:
    """Sum of one value per sample over each window."""
    # By whole hops and not by a cumulative sum, which carries a loud start to the end.
    hops = padded[: padded.size // _HOP * _HOP].reshape(-1, _HOP).sum(axis=1)
    return np.convolve(hops, np.ones(_N_FFT // _HOP), "valid")


def _crossings(padded: NDArray[np.float32]) -> Array:
    """Count the changes of sign within each window."""
    negative = padded < -_FLOOR
    crosses = np.zeros(padded.size, dtype=bool)
    crosses[1:] = negative[1:] != negative[:-1]
    # From the audio to the zeros around it is no change.
    crosses[[_N_FFT // 2, -_N_FFT // 2]] = False
    # The first sample of a window has nothing before it that it could differ from.
    return _window_sums(crosses) - crosses[: -_N_FFT + 1 : _HOP]


def _contrast_bands(hertz: Array) -> list[tuple[int, int, int]]:
    """First bin, last bin + 1 and bins per quantile of 2 % of each octave."""
    # The lowest edge for which six octaves end below half the sample rate.
    lowest = min(200.0, 0.9 * hertz[-1] / 2 ** (_N_CONTRAST - 1))
    edges = [0.0, *lowest * 2.0 ** np.arange(_N_CONTRAST)]
    bands = []
    for k in range(_N_CONTRAST):
        inside = np.flatnonzero((hertz >= edges[k]) & (hertz <= edges[k + 1]))
        start = inside[0] - (k > 0)
        is_last = k == _N_CONTRAST - 1
        end = hertz.size if is_last else inside[-1] + 1
        count = max(1, int(np.rint(0.02 * (end - start))))
        bands.append((int(start), int(end if is_last else end - 1), count))
    return bands
