"""The files that an ONNX file would have read beside itself.

An ONNX file may keep weights in other files, which it names.  Not every version
of ``onnxruntime`` refuses names that lead somewhere else, so they are read
here, straight from the protocol buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from biasaudio.errors import DataError

__all__ = ["external_files"]

# A protocol buffer holds no file of 2 GiB or more.
_MAX_BYTES = 2**31
# Message: the numbers of its fields that lead to a tensor, and the message of each.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5


def external_files(path: Path) -> dict[str, Path]:
    """Return the files beside an ONNX file that hold its weights.

    Parameters
    ----------
    path : Path
        The ONNX file.

    Returns
    -------
    dict of str to Path
        Name in the file: the file, which is there and, links followed, in the
        folder of the model.

    Raises
    ------
    DataError
        If the file is no protocol buffer, or a file is absent or elsewhere.
    """
    if path.stat().st_size >= _MAX_BYTES:
        raise DataError(f"{path} has 2 GiB or more; export it with its weights in a file beside it")
    names = sorted(_locations(memoryview(path.read_bytes()), path))
    return {name: _beside(path, name) for name in names}


def _beside(path: Path, name: str) -> Path:
    """Return the file that a model asks for, if it is in the model's folder."""
    folder = path.parent.resolve()
    try:
        file = (folder / name).resolve()
        is_there = file.is_file()
    except (OSError, ValueError):
        # Too long, or with a zero in it.
        file, is_there = folder, False
    if Path(name).is_absolute() or not file.is_relative_to(folder):
        raise DataError(
            f"{path.name} asks for {name[:99]!r}, which is not in its folder; "
            "nothing outside is read: put the weights beside the model"
        )
    if not is_there:
        raise DataError(
            f"{path.name} has weights in {name[:99]!r}, which is not beside it; copy it"
        )
    return file


def _locations(data: memoryview, path: Path) -> set[str]:
    """Return the names of the files that the tensors of a model lie in."""
    found = set()
    # A list and no recursion: graphs may be nested as deep as a stranger likes.
    left = [("model", data)]
    while left:
        message, part = left.pop()
        if message == "entry":
            pair = {number: bytes(value) for number, value in _parts(part, path)}
            if pair.get(1) == b"location":
                found.add(pair.get(2, b"").decode("utf-8", "replace"))
            continue
        inside = _FIELDS[message]
        left += [
            (inside[number], value) for number, value in _parts(part, path) if number in inside
        ]
    return found


def _parts(data: memoryview, path: Path) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the fields of a message that have a length."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at, path)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at, path)
        elif kind in (_LONG, _SHORT):
            at += 8 if kind == _LONG else 4
        elif kind == _BYTES:
            size, at = _varint(data, at, path)
            if size > end - at:
                raise _not_onnx(path)
            yield number, data[at : at + size]
            at += size
        else:
            raise _not_onnx(path)
    if at > end:
        raise _not_onnx(path)


def _varint(data: memoryview, at: int, path: Path) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place after it."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise _not_onnx(path)


def _not_onnx(path: Path) -> DataError:
    return DataError(f"{path} is not an ONNX file; give an exported .onnx model")
