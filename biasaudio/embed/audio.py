"""Read the audio of one file as a model wants it, whatever the file claims to be."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from biasaudio._validation import check_count, check_number
from biasaudio.datasets.audio import AUDIO_SUFFIXES
from biasaudio.embed.base import check_waveform
from biasaudio.errors import DataError, ParameterError

__all__ = [
    "MAX_BYTES",
    "MAX_CHANNELS",
    "MAX_SAMPLES",
    "MAX_SECONDS",
    "RATES",
    "Audio",
    "read_audio",
]

MAX_SECONDS = 3600
RATES = (4000, 384_000)
MAX_CHANNELS = 64
# In all channels: an hour of 48 kHz stereo has 2 ** 28.4.
MAX_SAMPLES = 2**29
BLOCK = 2**16
MAX_BYTES = 2**31
MAX_CHUNKS = 10_000

_CHUNKED = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}
# What ffmpeg writes for the size of a sound that it does not know the end of.
_UNKNOWN = 2**32 - 1

# What libsndfile says of a file that does not tell its length.
UNTOLD = 2**63 - 1


class Audio(NamedTuple):
    """The audio of one file.

    Attributes
    ----------
    waveform : np.ndarray [shape=(n_samples,), dtype=float32]
        Mono, at the sample rate that was asked for.
    seconds : float
        How much of the file was read.
    sha256 : str
        Of all bytes of the file, in hexadecimal.
    """

    waveform: NDArray[np.float32]
    seconds: float
    sha256: str


def read_audio(
    path: str | os.PathLike[str], sample_rate: int, *, max_seconds: float | None = None
) -> Audio:
    """Read an audio file as a mono waveform at one sample rate.

    Channels are averaged.  The level is left alone, also beyond full scale, and
    silence stays what it is.  The whole file is read unless ``max_seconds`` is
    given.  Another sample rate is converted as `librosa.resample` does it
    (``soxr_hq``, the same numbers), block by block, so that memory is bounded
    by the length of the result.

    Parameters
    ----------
    path : path
        A wav, flac, ogg (Vorbis, Opus), mp3 or aiff file.  What it is decides
        its content, not its name.
    sample_rate : int
        Samples per second of the waveform, 4000 to 384,000.
    max_seconds : float, optional
        Read no more than this from the start, 0.1 to 3600.

    Returns
    -------
    Audio

    Raises
    ------
    DataError
        If the file cannot be opened or decoded, is cut off as far as its format
        tells, has no samples, has NaN or Inf, or exceeds a limit: an hour, 64
        channels, 4 to 384 kHz, 2 GiB, 2 ** 29 samples in all channels.
    ParameterError
        If a number is not allowed.

    Notes
    -----
    An mp3 file without a Xing header does not tell its length.  One with a
    varying bit rate is refused then, since libsndfile would guess the length
    from the first frame and drop the rest.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.zeros((44100, 2)), 44100)
    ...     audio = read_audio(f"{folder}/a.wav", 16000)
    >>> audio.waveform.shape, audio.seconds
    ((16000,), 1.0)
    """
    rate = check_count(sample_rate, "sample_rate", RATES[0])
    if rate > RATES[1]:
        raise ParameterError(f"sample_rate={rate} is not allowed; give at most {RATES[1]}")
    seconds = None if max_seconds is None else check_number(max_seconds, "max_seconds", 0.1, 3600)
    path = Path(path)
    name = repr(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name} is not a regular file; give an audio file")
        with _Reader(io.FileIO(path)) as stream:
            return _read(stream, name, rate, seconds, status.st_size)
    except FileNotFoundError:
        raise DataError(f"{name} is not there; check the path") from None
    except PermissionError:
        raise DataError(f"{name} may not be read by you; change its permissions") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} cannot be read ({error}); copy it again") from error


class _Reader(io.BufferedReader):
    """A file that stays where it is when a damaged header leads to before its start."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # soundfile calls this from C, where an exception becomes a traceback on the terminal.
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()


class _Decoder(soundfile.SoundFile):  # type: ignore[misc,unused-ignore]
    """A sound that is decoded from front to back only."""

    def seekable(self) -> bool:
        # Else soundfile seeks after each block, which flac files without a length do not allow.
        return False


def _read(stream: BinaryIO, name: str, rate: int, seconds: float | None, size: int) -> Audio:
    is_told = _check_start(stream, name, size)
    try:
        with _Decoder(stream) as file:
            wanted, most = _lengths(file, name, seconds)
            samples, count = _decode(file, rate, min(wanted, most))
            if wanted == UNTOLD and count == most:
                raise _too_long(file, name, "more than it may have")
            left = 0 if wanted < file.frames else size - stream.tell()
            _check_end(file, name, wanted - count, is_told and file.frames < UNTOLD, left)
            taken = count / file.samplerate
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{name} cannot be decoded (libsndfile: {' '.join(error.error_string.split())}); "
            "it is damaged or cut off, so get it again"
        ) from error
    waveform = check_waveform(np.frombuffer(samples, dtype=np.float32), name)
    stream.seek(0)
    digest = hashlib.sha256()
    while piece := stream.read(2**20):
        digest.update(piece)
    return Audio(waveform, taken, digest.hexdigest())


def _lengths(file: _Decoder, name: str, seconds: float | None) -> tuple[int, int]:
    """Count the samples of each channel to read by the header, and at most."""
    rate, channels = file.samplerate, file.channels
    if not RATES[0] <= rate <= RATES[1] or channels > MAX_CHANNELS:
        raise DataError(
            f"{name} has a sample rate of {rate} Hz and {channels} channel(s); "
            f"{RATES[0]} to {RATES[1]} Hz and at most {MAX_CHANNELS} channels are read"
        )
    most = min(MAX_SECONDS * rate, MAX_SAMPLES // channels)
    wanted = file.frames if seconds is None else min(file.frames, int(seconds * rate))
    if most < wanted < UNTOLD:
        raise _too_long(file, name, f"{wanted / rate:.0f} s by its header")
    return wanted, most


def _too_long(file: _Decoder, name: str, length: str) -> DataError:
    return DataError(
        f"{name} has {length}: at most {MAX_SECONDS} s and {MAX_SAMPLES} samples in all of its "
        f"{file.channels} channel(s) are read; cut it into clips, or give max_seconds"
    )


def _decode(file: _Decoder, rate: int, limit: int) -> tuple[bytearray, int]:
    """Decode samples as bytes of float32, and count those of the file."""
    stream = None
    if file.samplerate != rate:
        stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="soxr_hq")
    block = np.empty((BLOCK, file.channels), dtype=np.float32)
    # Grown in place: a list of pieces joined at the end would take the memory twice.
    samples, count = bytearray(), 0
    while got := len(file.read(out=block[: min(BLOCK, limit - count)])):
        count += got
        with np.errstate(over="ignore", invalid="ignore"):
            mono = _average(block[:got])
        samples += (mono if stream is None else stream.resample_chunk(mono)).tobytes()
    if stream is not None:
        samples += stream.resample_chunk(np.empty(0, dtype=np.float32), last=True).tobytes()
    size = 4 * int(np.ceil(count * rate / file.samplerate))
    del samples[size:]
    samples += bytes(size - len(samples))
    return samples, count


def _average(block: NDArray[np.float32]) -> NDArray[np.float32]:
    # numpy takes ten times as long for the mean over an axis as short as this.
    total = block[:, 0].copy()
    for channel in block.T[1:]:
        total += channel
    return total / np.float32(block.shape[1])


def _check_end(file: _Decoder, name: str, short: int, is_told: bool, left: int) -> None:
    """Refuse a file that ended ``short`` samples early, or with ``left`` bytes not read."""
    # Headers of mp3 files are off by a frame or two of 1152 samples in files that play well.
    if is_told and short > (2304 if file.format == "MP3" else 0):
        raise DataError(
            f"{name} is cut off: {short / file.samplerate:.3g} s of the {file.frames} samples "
            "that its header promises are not there; get it again"
        )
    if not is_told and short <= 0 and left > 4096:
        raise DataError(
            f"{name} does not tell its length (no Xing header), and {left} bytes are left where it "
            "should end by its first bit rate; write it again as wav or flac"
        )


# libsndfile takes what there is of a file that is cut off, without a word: so the bytes are
# asked for its length before it is decoded.


def _check_start(stream: BinaryIO, name: str, size: int) -> bool:
    """Refuse what is no audio or is cut off; whether the file tells its length."""
    if not 0 < size <= MAX_BYTES:
        raise DataError(f"{name} has {size} bytes; give a file of 1 to {MAX_BYTES}")
    head = stream.read(12)
    kind = head[:4]
    is_mp3 = head[:3] == b"ID3" or (head[0] == 0xFF and head[1:2] >= b"\xe0")
    if not is_mp3 and kind not in (*_CHUNKED, b"fLaC", b"OggS"):
        raise DataError(
            f"{name} starts with {head!r}, so it is not audio that can be read; "
            f"give one of {' '.join(AUDIO_SUFFIXES)}"
        )
    missing = 0
    if kind in _CHUNKED:
        missing = _end_of_sound(stream, name, _CHUNKED[kind]) - size
    if missing > 0 or (kind == b"OggS" and not _has_last_page(stream, size)):
        what = f"{missing} bytes of sound are" if missing > 0 else "its last page is"
        raise DataError(f"{name} is cut off: {what} not there; get it again")
    is_told = not is_mp3 or _has_length_tag(stream)
    stream.seek(0)
    return is_told


def _end_of_sound(stream: BinaryIO, name: str, order: str) -> int:
    """End of the sound of a wav or aiff file by its header, 0 if that is not told."""
    at, long_size = 12, 0
    for _ in range(MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(28)
        if len(head) < 8:
            return 0
        kind, length = struct.unpack(f"{order}4sI", head[:8])
        if kind == b"ds64" and len(head) >= 24:
            long_size = int.from_bytes(head[16:24], "little")
        if kind in (b"data", b"SSND"):
            length = long_size if length == _UNKNOWN else length
            return at + 8 + length
        at += 8 + length + length % 2
    raise DataError(f"{name} has over {MAX_CHUNKS} chunks before its sound; write it again")


def _has_last_page(stream: BinaryIO, size: int) -> bool:
    """Whether an ogg file ends in a whole page that is marked as the last one."""
    stream.seek(max(0, size - 65_307))
    tail = stream.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    n_parts = page[26] if len(page) > 26 else 0
    return bool(
        n_parts and page[5] & 4 and len(page) >= 27 + n_parts + sum(page[27 : 27 + n_parts])
    )


def _has_length_tag(stream: BinaryIO) -> bool:
    """Whether the first frame of an mp3 file holds the number of all frames."""
    stream.seek(0)
    head = stream.read(10)
    if head[:3] == b"ID3":
        length = sum((byte & 127) << 7 * i for i, byte in enumerate(reversed(head[6:])))
        stream.seek(10 + length)
        head = b""
    head += stream.read(2048)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))
