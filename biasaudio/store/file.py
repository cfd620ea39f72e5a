"""One HDF5 file, read with care: only what lies in the file itself, and within bounds.

Files come from anybody.  Every group and array is reached through `member`, which
follows no link and checks an array before a value of it is read; whatever HDF5 raises
on damage becomes one line that names the file.
"""

from __future__ import annotations

import errno
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import decoded_limit
from biasaudio._text import can_be_name, printable
from biasaudio._validation import name_some
from biasaudio.errors import DataError, StoreError

__all__ = [
    "CLIPS",
    "SOURCE",
    "SUFFIXES",
    "VERSION",
    "Frames",
    "Keys",
    "Origin",
    "add_crcs",
    "check_finite",
    "is_file_path",
    "member",
    "open_file",
    "pairs_of",
    "read_texts",
    "reading",
    "tables_of",
]

VERSION = 3
SUFFIXES = (".h5", ".hdf5")
CLIPS, SOURCE, MODEL = "__clips__", "__source__", "model"
RESERVED = "__"
# 8 MB at a time fit the caches of processors; chunks are 256 kB, which fit the one of HDF5.
BLOCK_VALUES = 2**21
MAX_NAME_BYTES, MAX_MEMBERS, MAX_ATTRIBUTE_BYTES = 4096, 20_000, 2**16
FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
# MemoryError: HDF5 asks for what a damaged header says.
_DAMAGE = (
    *(OSError, RuntimeError, KeyError, UnicodeError, ValueError),
    *(TypeError, AttributeError, OverflowError, MemoryError),
)
_Array = NDArray[Any]


def is_file_path(path: Path) -> bool:
    """Whether a store at ``path`` is one file, else it is a folder."""
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())


def one_line(error: BaseException) -> str:
    """The text of an error on one line that can be shown."""
    return printable(" ".join(str(error).split()))[:300]


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what HDF5 raises on damage into a `StoreError` of one line."""
    try:
        yield
    except StoreError:
        raise
    except _DAMAGE as error:
        raise StoreError(
            f"{path}: {printable(what)} cannot be read ({one_line(error)}); the file is damaged, "
            "so copy or write it again, or run 'biasaudio store verify'"
        ) from error


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, and say in one line why it cannot be.

    Parameters
    ----------
    path : Path

    Yields
    ------
    h5py.File

    Raises
    ------
    FileNotFoundError
        If it is not there, which a reader of a store that is being merged meets.
    StoreError
        If it is empty, not HDF5, cut off, locked, or of a newer version.
    """
    try:
        # To open a pipe would wait for ever.
        if not path.is_file() and path.exists():
            raise StoreError(f"{path} is not a file, but a folder or a device; give a store file")
        if not path.stat().st_size:
            raise StoreError(f"{path} is empty (0 bytes); delete it and write it again")
        # Where the file system has no locks, reading needs none.
        handle = h5py.File(path, "r", locking="best-effort")
    except (FileNotFoundError, StoreError):
        raise
    except PermissionError:
        raise StoreError(f"{path} may not be read by you; change its permissions") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(_why_not(path, error)) from error
    with handle:
        _check_version(handle, path)
        yield handle


def _why_not(path: Path, error: BaseException) -> str:
    text = one_line(error)
    if "Too many open files" in text:
        return (
            f"{path} cannot be opened: this process may open no more files; raise 'ulimit -n', or "
            "merge the files of the store with 'biasaudio store compact'"
        )
    if "unable to lock file" in text and f"errno = {errno.EAGAIN}," in text:
        return f"{path} is open for writing in another process; close it there and try again"
    if h5py.is_hdf5(path):
        return (
            f"{path} cannot be opened ({text}); it is cut off or damaged, so copy or write it again"
        )
    return (
        f"{path} is not an HDF5 file; give a store, or turn npz, csv or parquet into one with "
        "'biasaudio store import'"
    )


def _check_version(handle: h5py.File, path: Path) -> None:
    with reading(path, "the format version"):
        value = read_attribute(handle, "format_version")
        version = 1 if value is None else value
        if not isinstance(version, int):
            raise ValueError(f"{version!r} is no number")
    if not 1 <= version <= VERSION:
        raise StoreError(
            f"{path} has format version {version}, at most {VERSION} can be read; upgrade biasaudio"
        )


# ------------------------------------------------------------------ groups and arrays


def member(group: Any, name: str, path: Path) -> Any:
    """Group or checked array of this very file, None if there is none of this name.

    Parameters
    ----------
    group : h5py.Group
    name : str
    path : Path
        Of the file, for the message.

    Raises
    ------
    StoreError
        If it is a link, or an array that stores do not have.
    """
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{path} has something else where a group should be; it is damaged")
    with reading(path, name):
        # Not "in", and not h5py.Group.get without getlink, which would open another file.
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise StoreError(
                f"{path}: {name!r} in {group.name} is a link to another place or file, which is "
                "never followed; copy what it leads to into this file"
            )
        found = group[name]
        if isinstance(found, h5py.Dataset):
            _check_array(found, path)
        return found


def need_array(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """Array of this name, or a `StoreError`."""
    found = member(group, name, path)
    if not isinstance(found, h5py.Dataset):
        raise StoreError(
            f"{path}:{printable(str(group.name))} has no array {name!r}, only "
            f"{name_some(map(printable, group), 10) or 'nothing'}; write it again"
        )
    return found


def _check_array(array: h5py.Dataset, path: Path) -> None:
    """Refuse values in other files, code of others, and sizes that are not to be believed."""
    where = f"{path}:{printable(str(array.name))}"
    with reading(path, str(array.name)):
        plist = array.id.get_create_plist()
        if array.is_virtual or array.external:
            raise StoreError(
                f"{where} has its values in other files, which are never opened; copy them into "
                "this one"
            )
        codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if not set(codes) <= set(FILTERS) or len(set(codes)) < len(codes):
            raise StoreError(
                f"{where} needs the HDF5 filters {codes}; stores may use "
                f"{', '.join(FILTERS.values())}, once each, so write it again with these or none"
            )
        dtype, shape = array.dtype, array.shape
        is_plain = dtype.kind in "fiubS" and h5py.check_enum_dtype(dtype) in (None, _BOOLEAN)
        text = h5py.check_string_dtype(dtype)
        if shape is None or not (is_plain or (text is not None and text.length is None)):
            raise StoreError(
                f"{where} has dtype {dtype}; stores hold real numbers, and texts as bytes"
            )
        # HDF5 would convert any exponent and any order of bits, without a word.
        if dtype.kind in "fiu" and not array.id.get_type().equal(h5py.h5t.py_create(dtype)):
            raise StoreError(
                f"{where} has numbers of an unusual layout; the file is damaged or of another "
                "program, so write the array again"
            )
        _check_size(array, codes, path, where)


_BOOLEAN = {"FALSE": 0, "TRUE": 1}


def _check_size(array: h5py.Dataset, codes: list[int], path: Path, where: str) -> None:
    """Refuse what would take more memory than a file of this size may, and holes."""
    size = array.file.id.get_filesize()
    # Without gzip, what is in an array is in the file.
    limit = decoded_limit(size) if h5py.h5z.FILTER_DEFLATE in codes else size
    itemsize = max(array.dtype.itemsize, 1)
    largest = max(array.size, math.prod(array.chunks or (0,))) * itemsize
    # As texts are read, each is an object of 64 bytes at least.
    cost = array.size * 64 if array.dtype.kind in "SO" else 0
    if largest > limit or cost > decoded_limit(size):
        raise StoreError(
            f"{where} of shape {array.shape} would take {max(largest, cost):,} bytes, but the file "
            f"has {size:,}; at most {limit:,} are read of such a file, so it is damaged or harmful"
        )
    if array.chunks:
        there = array.id.get_num_chunks()
        n = math.prod(-(-k // step) for k, step in zip(array.shape, array.chunks, strict=True))
        if there != n:
            # HDF5 gives zeros for a block that was never written.
            raise StoreError(
                f"{where} is not whole ({there} blocks are there in place of {n}); write it again"
            )
    elif array.size and not array.id.get_storage_size():
        raise StoreError(f"{where} has no values; write it again")


def read_attribute(group: h5py.Group, name: str) -> Any:
    """One whole number, or a fixed text as bytes; None if there is none of this name."""
    if not h5py.h5a.exists(group.id, name.encode()):
        return None
    attribute = h5py.h5a.open(group.id, name.encode())
    dtype = attribute.dtype
    is_plain = dtype.kind in "iuS" and h5py.check_enum_dtype(dtype) is None
    if attribute.shape != () or not is_plain or dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"attribute {name!r} has shape {attribute.shape} and dtype {dtype}")
    values = np.empty((), dtype)
    attribute.read(values)
    return values.item()


def read_raw_texts(array: h5py.Dataset, path: Path) -> _Array:
    """Texts of a 1-d array as bytes, none of them long.

    Returns
    -------
    np.ndarray [shape=(n,)]
        Fixed-length bytes as they are, texts of variable length as objects.
    """
    with reading(path, str(array.name)):
        if array.ndim != 1 or array.dtype.kind not in "SO":
            raise ValueError(f"shape {array.shape} and dtype {array.dtype}, not a list of texts")
        if array.dtype.kind == "S":
            if array.dtype.itemsize > MAX_NAME_BYTES:
                raise ValueError(
                    f"texts of {array.dtype.itemsize} bytes, not {MAX_NAME_BYTES} at most"
                )
            return array[()]
        # Each of them may name the same long text, so a few are read at a time.
        limit = decoded_limit(array.file.id.get_filesize())
        step = max(1, limit // (array.file.id.get_filesize() + 1))
        texts = np.empty(array.shape, object)
        for start in range(0, len(texts), step):
            texts[start : start + step] = array[start : start + step]
            for text in texts[start : start + step]:
                if len(text) > MAX_NAME_BYTES:
                    raise ValueError(f"a text of {len(text)} bytes, not {MAX_NAME_BYTES} at most")
        return texts


def decode(texts: Any, where: str) -> list[str]:
    """Texts that can be shown, from bytes; a `StoreError` if one cannot."""
    try:
        texts = texts.tolist()
        # At once, which is ten times as fast as a loop; a name with a line feed is refused below.
        whole = b"\n".join(texts) if isinstance(next(iter(texts), ""), bytes) else "\n".join(texts)
        found = (whole.decode("utf-8") if isinstance(whole, bytes) else whole).split("\n")
        if len(found) != len(texts):
            found = [text.decode("utf-8") if isinstance(text, bytes) else text for text in texts]
    except UnicodeDecodeError:
        bad = next(text for text in texts if text.decode(errors="ignore").encode() != text)
        raise StoreError(
            f"{where} has the text {bad[:80]!r}, which is not UTF-8; write it as UTF-8"
        ) from None
    shown = "".join(found)
    if not shown.isprintable() and printable(shown) != shown:
        bad = next(text for text in found if printable(text) != text)
        raise StoreError(
            f"{where} has the text {bad[:80]!r} with control characters; write it without them"
        )
    return found


def read_texts(group: h5py.Group, name: str, path: Path) -> NDArray[np.object_]:
    """Texts of an array of a group [shape=(n,)]."""
    array = need_array(group, name, path)
    texts = read_raw_texts(array, path)
    return np.array(decode(texts, f"{path}:{array.name}"), dtype=object)


def pairs_of(handle: h5py.File, path: Path) -> list[tuple[str, str]]:
    """All (dataset, embedding) in the published layout; other groups are passed over.

    Raises
    ------
    StoreError
        If a name is not allowed, or there are more than 20,000 members.
    """
    found = []
    with reading(path, "the list of its groups"):
        n_members = len(handle)
        for dataset in _names(handle, path):
            group = member(handle, dataset, path)
            if not isinstance(group, h5py.Group):
                continue
            n_members += len(group)
            if n_members > MAX_MEMBERS:
                raise StoreError(
                    f"{path} has more than {MAX_MEMBERS:,} groups and arrays; it is no store, or "
                    "harmful, so give another file"
                )
            for embedding in _names(group, path):
                leaf = member(group, embedding, path)
                if isinstance(leaf, h5py.Group) and {"features", "keys"} & set(leaf):
                    found.append((dataset, embedding))
    for pair in found:
        for name, what in zip(pair, ("dataset", "embedding"), strict=True):
            if not can_be_name(name):
                raise StoreError(
                    f"{path}: {what}={name[:80]!r} cannot name a part of a store; rename the group"
                )
    return found


def tables_of(handle: h5py.File, path: Path) -> list[str]:
    """Datasets whose clip table is in a file."""
    with reading(path, "the list of its groups"):
        groups = {name: member(handle, name, path) for name in handle}
        return [
            name
            for name, group in groups.items()
            if isinstance(group, h5py.Group) and CLIPS in group
        ]


def _names(group: h5py.Group, path: Path) -> list[str]:
    names = []
    for name in group:
        # h5py gives bytes where they are not UTF-8.
        if not isinstance(name, str) or printable(name) != name or len(name) > 1000:
            raise StoreError(
                f"{path} has the name {name[:80]!r} of {len(name):,} characters; at most 1,000 in "
                "UTF-8 without control characters are read, so rename it"
            )
        names += [] if name.startswith(RESERVED) else [name]
    return names


# ------------------------------------------------------------------ rows and whose they are


@dataclass(frozen=True)
class Keys:
    """Which clip each row belongs to.

    Parameters
    ----------
    names : np.ndarray of str [shape=(n_clips,)]
        The clips, in the order of their first rows.
    codes : np.ndarray [shape=(n_rows,), dtype=int32]
        The clip of each row.
    """

    names: NDArray[np.object_]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, raw: _Array, where: str) -> Keys:
        """The keys from what a file holds [shape=(n_rows,)]."""
        # Rows of a clip mostly follow each other, and comparing neighbours is far
        # cheaper than hashing each key.
        starts = np.append(0, np.flatnonzero(raw[1:] != raw[:-1]) + 1)
        firsts = np.array(decode(raw[starts], f"{where}/keys"), dtype=object)
        codes, names = pd.factorize(firsts)
        texts = names.tolist()
        if "" in texts:
            raise StoreError(
                f"{where} has frames with an empty key; give each frame the id of its clip"
            )
        lengths = np.diff(starts, append=len(raw))
        return cls(np.array(texts, object), np.repeat(codes.astype(np.int32), lengths))


@dataclass(frozen=True, eq=False)
class Origin:
    """Which model made an embedding, and of which audio.

    Parameters
    ----------
    model : mapping
        What decides the numbers; see `AudioModel`.
    sources : pd.DataFrame
        Columns clip_id, path (below the audio folder) and sha256 of the file.
    """

    model: Mapping[str, Any]
    sources: pd.DataFrame


class Frames:
    """Rows of one embedding of one dataset in an open file.

    Parameters
    ----------
    handle : h5py.File
    path : Path
    dataset, embedding : str

    Attributes
    ----------
    where : str
        ``/<dataset>/<embedding>``.
    shape : tuple of int
        Rows and features.

    Raises
    ------
    StoreError
        If the arrays do not fit each other, or one is none that stores have.
    """

    def __init__(self, handle: h5py.File, path: Path, dataset: str, embedding: str) -> None:
        self.path, self.where = path, f"/{dataset}/{embedding}"
        with reading(path, self.where):
            above = member(handle, dataset, path)
            self.group = None if above is None else member(above, embedding, path)
            if self.group is None:
                raise StoreError(f"{path} has no {self.where}; it was changed meanwhile, try again")
            self.features = need_array(self.group, "features", path)
            raw = need_array(self.group, "keys", path)
            shape, dtype = self.features.shape, self.features.dtype
            if len(shape) == 2 and 0 in shape:
                raise StoreError(
                    f"{path}:{self.where}/features is empty, shape {shape}; write vectors"
                )
            if len(shape) != 2 or dtype.kind not in "fiu":
                raise StoreError(
                    f"{path}:{self.where}/features has shape {shape} and dtype {dtype}; write real "
                    "numbers of shape (n_frames, n_features)"
                )
            if raw.ndim == 1 and raw.shape != shape[:1]:
                raise StoreError(
                    f"{path}:{self.where} has {shape[0]} rows of features, but "
                    f"{raw.shape[0]} keys; write it again with one key per row"
                )
            if raw.dtype.kind not in "SO" or raw.ndim != 1:
                raise StoreError(
                    f"{path}:{self.where}/keys has shape {raw.shape} and dtype {raw.dtype}; "
                    "write a 1-d array of texts, the id of the clip of each frame"
                )
        self.shape: tuple[int, int] = shape
        self._raw_keys = raw
        self._keys: Keys | None = None

    @property
    def keys(self) -> Keys:
        """Which clip each row belongs to; read once."""
        if self._keys is None:
            with reading(self.path, f"{self.where}/keys"):
                texts = read_raw_texts(self._raw_keys, self.path)
                self._keys = Keys.of(texts, f"{self.path}:{self.where}")
        return self._keys

    def crcs(self) -> dict[str, int] | None:
        """CRC-32 of the rows of each clip as they were written, None if the file has none."""
        with reading(self.path, f"{self.where}/{SOURCE}"):
            group = member(self.group, SOURCE, self.path)
            if group is None or member(group, "crc32", self.path) is None:
                return None
            names = read_texts(group, "clip_id", self.path)
            values = need_array(group, "crc32", self.path)
            if values.shape != names.shape or values.dtype.kind not in "iu":
                raise ValueError("clip_id and crc32 do not fit each other")
            return dict(zip(names.tolist(), values[()].tolist(), strict=True))

    def origin(self) -> Origin | None:
        """Model and audio of the clips, None if the file does not say, as after an import."""
        with reading(self.path, f"{self.where}/{SOURCE}"):
            group, model = member(self.group, SOURCE, self.path), read_attribute(self.group, MODEL)
            if group is None or not isinstance(model, bytes):
                return None
            identity = json.loads(model)
            if not isinstance(identity, dict):
                raise ValueError("a model that is no table")
            columns = {
                name: read_texts(group, name, self.path) for name in ("clip_id", "path", "sha256")
            }
            return Origin(identity, pd.DataFrame(columns, dtype=object))

    def blocks(self, rows: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Iterate over (first row, rows as float32); each block is valid until the next.

        Parameters
        ----------
        rows : int
            How many at a time, raised to whole chunks; by default 8 MB.
        """
        n, d = self.shape
        step = rows or max(1, BLOCK_VALUES // d)
        chunk = (self.features.chunks or (1,))[0]
        # The cache of HDF5 keeps a chunk that is cut, unless it is larger than that.
        is_free = not rows and 4 * chunk * d <= 2**20
        step += -step % chunk
        buffer = np.empty((min(step, n), d), np.float32)
        start = 0
        while start < n:
            stop = min(start + step, n)
            if is_free and stop < n:
                # Between two clips, so that sums do not depend on where blocks end.
                codes = self.keys.codes[start : stop + 1]
                ends = np.flatnonzero(codes[1:] != codes[:-1])
                stop = start + int(ends[-1]) + 1 if len(ends) else stop
            with reading(self.path, f"{self.where}/features, rows {start} to {stop}"):
                X = self.read(start, stop, buffer)
            yield start, X
            start = stop

    def read(self, start: int, stop: int, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as float32, in a buffer [shape=(>=stop - start, d)]; raises what HDF5 raises."""
        rows = buffer[: stop - start]
        if self.features.dtype == np.dtype("<f4"):
            self.features.read_direct(rows, np.s_[start:stop])
        else:
            # numpy converts far faster than HDF5; what is too large becomes Inf.
            with np.errstate(over="ignore"):
                rows[:] = self.features[start:stop]
        return rows


def add_crcs(crcs: list[int], codes: _Array, X: _Array) -> None:
    """Carry on the CRC-32 of each clip with the rows that come next."""
    data, width = np.ascontiguousarray(X, "<f4").data.cast("B"), 4 * X.shape[1]
    starts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    edges = (width * np.append(starts, len(codes))).tolist()
    for code, start, stop in zip(codes[starts].tolist(), edges, edges[1:], strict=False):
        crcs[code] = zlib.crc32(data[start:stop], crcs[code])


def check_finite(X: _Array) -> NDArray[np.bool_] | None:
    """Rows with NaN or Inf, None if there are none."""
    # A sum that is finite needs no mask, which takes five times as long.
    flat = X.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if flat.dtype.kind != "f" or np.isfinite(flat @ flat):
            return None
    bad = np.asarray(~np.isfinite(X).all(axis=1))
    return bad if bad.any() else None


def not_finite(frames: Frames, found: str) -> DataError:
    """The error that rows of a file have NaN or Inf."""
    return DataError(
        f"{frames.path}:{frames.where} has NaN or Inf in {found}; leave these clips out or "
        "compute their vectors again"
    )


def name_clips(names: Any) -> str:
    """A few clips, each once, in the order in which they come."""
    return name_some(dict.fromkeys(names))
