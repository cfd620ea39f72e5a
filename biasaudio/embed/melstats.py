"""Hand-crafted features as an embedding: no weights, no download."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from biasaudio.embed.base import Frames, check_waveform
from biasaudio.errors import ParameterError

__all__ = ["LibrosaFeatures"]

_N_FFT, _HOP = 2048, 512
_N_MELS, _N_BANDS, _N_MFCC = 64, 16, 20
_SHAPE = ("centroid", "bandwidth", "rolloff", "flatness", "zcr", "rms", "flux")
_N_CONTRAST = 7


class LibrosaFeatures:
    """Describe each half second by statistics of librosa features.

    The short-time spectrum is computed once a clip.  Mean and standard
    deviation over a frame are taken of 16 log-mel bands, 7 measures of the
    spectrum's shape and level, and 20 mel-frequency cepstral coefficients, and
    the mean of the 7 bands of spectral contrast.

    Parameters
    ----------
    sample_rate : int
        Samples a second of the waveforms, at least 8000.
    frame_seconds : float
        Length of a frame, at least 0.1 s.  A rest shorter than half a frame is
        left out, unless it is all there is.

    Attributes
    ----------
    name : str
        ``"melstats"``.
    embedding_size : int
        93.
    feature_names : list of str
        What each dimension is.

    Raises
    ------
    ParameterError
        If a value is too small.

    Examples
    --------
    >>> import numpy as np
    >>> model = LibrosaFeatures()
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    >>> model.embed(tone).vectors.shape
    (2, 93)
    """

    name = "melstats"

    def __init__(self, sample_rate: int = 22050, frame_seconds: float = 0.5) -> None:
        if not sample_rate >= 8000:
            raise ParameterError(f"sample_rate={sample_rate!r} is too low; give 8000 Hz or more")
        if not frame_seconds >= 0.1:
            raise ParameterError(f"frame_seconds={frame_seconds!r} is too short; give 0.1 or more")
        self.sample_rate = int(sample_rate)
        self.frame_seconds = float(frame_seconds)
        bank = librosa.filters.mel(sr=self.sample_rate, n_fft=_N_FFT, n_mels=_N_MELS)
        # Nearly all of the bank is zero, and a dense product this small waits for
        # the threads of BLAS longer than it computes.
        self._mel = sparse.csr_array(bank)
        # The lowest edge for which the six octaves of contrast end below half
        # the sample rate.
        self._contrast_fmin = min(200.0, 0.45 * self.sample_rate / 2 ** (_N_CONTRAST - 1))

    @property
    def feature_names(self) -> list[str]:
        """Return what each dimension is, in order."""
        bands = [f"band{k:02d}" for k in range(_N_BANDS)]
        mfcc = [f"mfcc{k:02d}" for k in range(_N_MFCC)]
        moving = [*bands, *_SHAPE, *mfcc]
        contrast = [f"contrast{k}_mean" for k in range(_N_CONTRAST)]
        return [f"{name}_{part}" for part in ("mean", "std") for name in moving] + contrast

    @property
    def embedding_size(self) -> int:
        """Return the width of the vectors."""
        return 2 * (_N_BANDS + len(_SHAPE) + _N_MFCC) + _N_CONTRAST

    def __repr__(self) -> str:
        """Return the call that makes this model."""
        values = f"sample_rate={self.sample_rate}, frame_seconds={self.frame_seconds}"
        return f"LibrosaFeatures({values})"

    def embed(self, waveform: ArrayLike) -> Frames:
        """Return the features of one mono waveform.

        Parameters
        ----------
        waveform : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at `sample_rate`.  Shorter than one
            window of 2,048 samples it is padded with zeros.

        Returns
        -------
        Frames
            Vectors [shape=(n_frames, 93), dtype=float32] and the centres of
            the frames in milliseconds.

        Raises
        ------
        DataError
            If the waveform is not 1-d, empty, not of floats, or not finite.
        """
        wave = check_waveform(waveform)
        if wave.size < _N_FFT:
            wave = np.pad(wave, (0, _N_FFT - wave.size))
        moving, contrast = self._columns(wave)
        n = moving.shape[1]
        step = max(1, round(self.frame_seconds * self.sample_rate / _HOP))
        starts = np.arange(0, max(n - step // 2, 1), step)
        vectors = [
            np.concatenate(
                [
                    moving[:, at : at + step].mean(axis=1),
                    moving[:, at : at + step].std(axis=1),
                    contrast[:, at : at + step].mean(axis=1),
                ]
            )
            for at in starts
        ]
        middle = (starts + np.minimum(starts + step, n) - 1) / 2
        milliseconds = middle * 1000.0 * _HOP / self.sample_rate
        return Frames(np.array(vectors, dtype=np.float32), milliseconds)

    def _columns(self, wave: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return features [shape=(43, n)] and contrast [shape=(7, n)]."""
        sr = self.sample_rate
        spectrum = np.abs(librosa.stft(wave, n_fft=_N_FFT, hop_length=_HOP))
        power = np.square(spectrum)
        # No top_db: it would make a frame depend on the loudest one of its clip.
        mel = self._mel @ power
        bands = mel.reshape(_N_BANDS, -1, mel.shape[1]).sum(axis=1)
        log_mel = librosa.power_to_db(mel, top_db=None)
        rise = np.maximum(np.diff(log_mel, axis=1, prepend=log_mel[:, :1]), 0.0)
        rms = librosa.feature.rms(y=wave, frame_length=_N_FFT, hop_length=_HOP)
        flatness = librosa.feature.spectral_flatness(S=spectrum)
        shape = [
            librosa.feature.spectral_centroid(S=spectrum, sr=sr) / 1000.0,
            librosa.feature.spectral_bandwidth(S=spectrum, sr=sr) / 1000.0,
            librosa.feature.spectral_rolloff(S=spectrum, sr=sr) / 1000.0,
            librosa.power_to_db(flatness, top_db=None),
            librosa.feature.zero_crossing_rate(wave, frame_length=_N_FFT, hop_length=_HOP),
            librosa.amplitude_to_db(rms, top_db=None),
            rise.mean(axis=0, keepdims=True),
        ]
        mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=_N_MFCC)
        contrast = librosa.feature.spectral_contrast(
            S=spectrum, sr=sr, fmin=self._contrast_fmin, n_bands=_N_CONTRAST - 1
        )
        moving = np.vstack([librosa.power_to_db(bands, top_db=None), *shape, mfcc])
        return moving, contrast
