"""What the bytes of an audio file say of its length, before it is decoded.

libsndfile takes what there is of a file that is cut off, without a word.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from biasaudio.datasets.audio import AUDIO_SUFFIXES
from biasaudio.errors import DataError

__all__ = ["MAX_BYTES", "check_start"]

MAX_BYTES = 2**31
MAX_CHUNKS = 10_000

_CHUNKED = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}
# What ffmpeg writes for the size of a sound that it does not know the end of.
_UNKNOWN = 2**32 - 1


def check_start(stream: BinaryIO, name: str, size: int) -> bool:
    """Refuse what is no audio or is cut off, and say whether the file tells its length."""
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
    """Return where the sound of a wav or aiff file ends by its header, 0 if that is not told."""
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
    """Say whether an ogg file ends in a whole page that is marked as the last one."""
    stream.seek(max(0, size - 65_307))
    tail = stream.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    n_parts = page[26] if len(page) > 26 else 0
    return bool(
        n_parts and page[5] & 4 and len(page) >= 27 + n_parts + sum(page[27 : 27 + n_parts])
    )


def _has_length_tag(stream: BinaryIO) -> bool:
    """Say whether the first frame of an mp3 file holds the number of all frames."""
    stream.seek(0)
    head = stream.read(10)
    if head[:3] == b"ID3":
        length = sum((byte & 127) << 7 * i for i, byte in enumerate(reversed(head[6:])))
        stream.seek(10 + length)
        head = b""
    head += stream.read(2048)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))
