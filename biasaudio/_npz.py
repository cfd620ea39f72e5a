"""Read npz and npy files of anybody: checked before anything is allocated, never unpickled.

Such a file says how large its arrays are before they come, and a few bytes of
it can stand for terabytes.  So what it says is compared with what it holds,
and all that is taken from one file has to stay within `decoded_limit`.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["Header", "Npz", "decoded_limit", "open_npy", "open_npz", "write_npz"]

DECODED_LEAST, DECODED_TIMES = 2**26, 100
# A list of members takes 20 times its bytes when it is read: this one is 40,000 members long.
_LONGEST_LIST = 2**22
_LONGEST_HEADER = 2**16
_BLOCK = 2**20
# What zipfile, zlib and numpy raise on damaged bytes; some are bugs of theirs, none is ours.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, MemoryError),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError),
)
_WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Deflate makes at most 1032 bytes of one.
_DEFLATE_TIMES = 1040
_ENCRYPTED = 0x1 | 0x20 | 0x40 | 0x2000
_WIDE = 0xFFFFFFFF
# Nothing in it is evaluated, as numpy.load does with the text of the header.
_HEADER = re.compile(
    rb"\{ *'descr': *'([<>=|]?[biufcmMSUO]\d{0,9}(?:\[\w{1,9}\])?)', *"
    rb"'fortran_order': *(True|False), *'shape': *\(((?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\),? *\}\s*"
)


class Header(NamedTuple):
    """What an npy file says of its array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    start: int

    @property
    def n_values(self) -> int:
        """How many values there are, with an empty axis taken for one of length 1."""
        return math.prod(max(length, 1) for length in self.shape)

    @property
    def n_bytes(self) -> int:
        """How many bytes follow."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def cost(self) -> int:
        """How many bytes the array takes, as float64 or as Python's strings."""
        size = self.dtype.itemsize
        return self.n_values * (size + 64 if self.dtype.kind in "SU" else max(size, 8))


def decoded_limit(file_bytes: int) -> int:
    """Return the most bytes that everything in a file of this size may become in memory."""
    return max(DECODED_LEAST, DECODED_TIMES * file_bytes)


class Npz:
    """Give the arrays of an open npz file, one by one, within one limit for all.

    Attributes
    ----------
    names : list of str
    is_compressed : bool
    """

    def __init__(
        self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], limit: int
    ) -> None:
        self._archive, self._members, self._left = archive, members, limit
        self.names = list(members)
        self.is_compressed = any(m.compress_type != _WAYS[0] for m in members.values())

    def header(self, name: str) -> Header:
        """Return what the file says of an array; a ValueError says what is wrong."""
        with _reasons(), self._archive.open(self._members[name]) as stream:
            return _read_header(stream)

    def read(self, name: str) -> NDArray[Any]:
        """Return an array; a ValueError says what is wrong with it."""
        with _reasons(), self._archive.open(self._members[name]) as stream:
            header = _check_kind(_read_header(stream), self._members[name].file_size)
            self._take(header.cost)
            return _fill(stream, header)

    def read_objects(self, name: str) -> bytes:
        """Return the pickled stream of an array of objects, which must not be unpickled."""
        with _reasons(), self._archive.open(self._members[name]) as stream:
            header = _read_header(stream)
            n_bytes = self._members[name].file_size - header.start
            # A string of three bytes is one of 60 in Python, with its place in the memo.
            self._take(32 * max(n_bytes, header.n_values))
            return stream.read()

    def _take(self, n_bytes: int) -> None:
        if n_bytes > self._left:
            raise ValueError(
                f"it would take {n_bytes} bytes of memory, and {self._left} are left of "
                f"{DECODED_LEAST}, or {DECODED_TIMES} times the size of the file if that is more"
            )
        self._left -= n_bytes


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an npz file, whose list of members is checked; a ValueError says what is wrong."""
    with ExitStack() as stack:
        with _reasons():
            stream = stack.enter_context(path.open("rb"))
            size = os.fstat(stream.fileno()).st_size
            _check_list(stream, size)
            archive = stack.enter_context(zipfile.ZipFile(stream))
            members = _members(archive, stream)
        yield Npz(archive, members, decoded_limit(size))


def open_npy(path: Path) -> NDArray[Any]:
    """Return the array of an npy file, numbers mapped; a ValueError says what is wrong."""
    with _reasons(), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        header = _check_kind(_read_header(stream), size)
        # Empty texts take no byte of the file, and some of memory.
        if header.cost > decoded_limit(size):
            raise ValueError(f"it would take {header.cost} bytes of memory; the file has {size}")
        if header.dtype.kind in "SU" or not header.n_bytes:
            return _fill(stream, header)
        return np.memmap(path, header.dtype, "r", header.start, header.shape, header.order)  # type: ignore[call-overload]


def write_npz(
    stream: BinaryIO, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False
) -> None:
    """Write the arrays as `numpy.savez`, which has names that no array can have."""
    way = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", way) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn what is raised on damaged bytes into a ValueError of one line."""
    try:
        yield
    except _DAMAGE as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(text or type(error).__name__) from error


def _check_list(stream: BinaryIO, size: int) -> None:
    """Refuse a list of members that is too long, before zipfile reads it."""
    stream.seek(max(0, size - 2**16 - 22))
    start = stream.tell()
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise ValueError("it is no zip archive")
    n_bytes, where = struct.unpack_from("<LL", tail, end + 12)
    wide = end - 20 - 56
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\x06\x07":
        [said] = struct.unpack_from("<Q", tail, end - 12)
        if wide < 0 or tail[wide : wide + 4] != b"PK\x06\x06" or said != start + wide:
            raise ValueError("its end says something else than its zip64 end")
        n_bytes, where = struct.unpack_from("<QQ", tail, wide + 40)
        end = wide
    if n_bytes > _LONGEST_LIST or where + n_bytes != start + end:
        raise ValueError(f"its list of members has {n_bytes} bytes from {where} on")
    stream.seek(0)


def _members(archive: zipfile.ZipFile, stream: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """Return the members by the names of their arrays, all checked."""
    found: dict[str, zipfile.ZipInfo] = {}
    before = 0
    for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
        name = member.orig_filename
        if not name.endswith(".npy"):
            raise ValueError(f"{name[:80]!r} is not an array")
        name = name.removesuffix(".npy")
        if not name.isprintable() or len(name) > 255 or re.search(r"[/\\]|^[A-Za-z]:|^\.*$", name):
            raise ValueError(f"{name[:80]!r} is no name of an array")
        if name in found:
            raise ValueError(f"the name {name!r} occurs twice")
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _WAYS:
            raise ValueError(f"{name!r} is encrypted, or packed in an unusual way")
        packed = member.compress_size * (_DEFLATE_TIMES if member.compress_type else 1)
        if member.file_size > packed or not (member.compress_type or member.file_size == packed):
            raise ValueError(
                f"{name!r} cannot have {member.file_size} bytes in {member.compress_size}"
            )
        if member.header_offset < before:
            raise ValueError(f"{name!r} lies upon another member")
        before = _check_local(stream, member) + member.compress_size
        found[name] = member
    if before > archive.start_dir:
        raise ValueError("its last member lies upon the list of members")
    # In the order that the file lists them in, as numpy does.
    order = [m.orig_filename.removesuffix(".npy") for m in archive.infolist()]
    return {name: found[name] for name in order}


def _check_local(stream: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Refuse a member whose own header is not what the list says; return where it begins."""
    stream.seek(member.header_offset)
    head = struct.unpack("<4s5H3L2H", stream.read(30))
    _, _, flags, way, _, _, crc, packed, size, n_name, n_extra = head
    stream.seek(n_name, os.SEEK_CUR)
    extra = stream.read(n_extra)
    # The name is compared by zipfile.
    at = 0
    while _WIDE in (packed, size) and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            size, packed = struct.unpack_from("<QQ", extra, at + 4)
        at += 4 + length
    said = (way, crc, packed, size)
    listed = (member.compress_type, member.CRC, member.compress_size, member.file_size)
    # Bit 3: sizes and checksum come behind the member.
    if head[0] != b"PK\x03\x04" or (said != listed if not flags & 8 else way != listed[0]):
        raise ValueError(f"{member.filename[:80]!r} has a header unlike its place in the list")
    return stream.tell()


def _read_header(stream: IO[bytes]) -> Header:
    """Return what an npy file says of its array, without believing it."""
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError(f"it is not an npy array, it starts with {magic!r}")
    form = "<H" if magic[6] == 1 else "<I"
    [length] = struct.unpack(form, stream.read(struct.calcsize(form)))
    text = stream.read(min(length, _LONGEST_HEADER))
    found = _HEADER.fullmatch(text)
    if found is None or len(text) != length:
        raise ValueError(f"an npy header of {length} bytes, {text[:80]!r}; give plain arrays")
    shape = tuple(int(part.strip(b" L")) for part in found[3].split(b",") if part.strip())
    order = "F" if found[2] == b"True" else "C"
    start = 8 + struct.calcsize(form) + length
    return Header(np.dtype(found[1].decode("ascii")), shape, order, start)


def _check_kind(header: Header, size: int) -> Header:
    """Refuse what is no plain array of numbers or texts, or has not the bytes that it says."""
    dtype, shape = header.dtype, header.shape
    if dtype.kind not in "biufcmMSU":
        raise ValueError(f"an array of {dtype} and shape {shape}; give numbers or texts")
    if header.start + header.n_bytes != size:
        raise ValueError(f"{size - header.start} bytes for {dtype} and shape {shape}")
    return header


def _fill(stream: IO[bytes], header: Header) -> NDArray[Any]:
    """Return the array, read a block at a time up to its end, where zipfile compares the sum."""
    flat = np.empty(math.prod(header.shape), header.dtype)
    buffer = flat.view(np.uint8) if header.n_bytes else np.empty(0, np.uint8)
    for start in range(0, header.n_bytes, _BLOCK):
        piece = stream.read(min(_BLOCK, header.n_bytes - start))
        buffer[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if len(piece) < min(_BLOCK, header.n_bytes - start):
            raise EOFError("the array is cut off")
    if header.dtype.kind == "U" and header.n_bytes:
        points = flat.view(f"{header.dtype.byteorder}u4")
        if points.max() > 0x10FFFF or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ValueError("its text is not Unicode")
    return flat.reshape(header.shape, order=header.order)  # type: ignore[call-overload]
