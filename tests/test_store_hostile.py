"""Stores from a stranger: nothing but the file that was named is opened, and memory is bounded."""

import ctypes
import os
import re
import socket
import sys
import tracemalloc
from functools import partial

import h5py
import numpy as np
import pytest

from biasaudio.errors import BiasAudioError, StoreError
from biasaudio.store import EmbeddingStore, import_arrays

X = np.arange(12, dtype="f4").reshape(6, 2)
KEYS = np.repeat([b"a", b"b", b"c"], 2)
MOST = 2**26


def write(path, features=X, keys=KEYS, where="d/e", **options):
    """Write the published layout."""
    with h5py.File(path, "a", **options) as handle:
        handle[f"{where}/features"] = features
        handle[f"{where}/keys"] = keys
    return path


def refusals(path):
    """Do all that a reader does, and return the messages of what was refused."""
    found = []

    def attempt(call):
        try:
            return call()
        except BiasAudioError as error:
            found.append(str(error))
            return None

    store = attempt(lambda: EmbeddingStore(path, cache=False))
    if store is not None:
        attempt(store.clips)
        pairs = [(name, each) for name in store.datasets() for each in store.embeddings(name)]
        for pair in pairs:
            attempt(partial(store.shape, *pair))
            attempt(lambda pair=pair: [None for _ in store.blocks(*pair)])
            attempt(partial(store.table, pair[1], datasets=[pair[0]]))
            attempt(partial(store.origin, *pair))
    for text in found:
        assert "\n" not in text
        assert text.isprintable()
        assert len(text) < 1000
    return found


class Watch:
    """Say whether a file was opened by anybody; h5py opens files unseen by Python."""

    def __init__(self, path):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        open_event = 0x20
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), open_event) > 0

    def was_opened(self):
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False


@pytest.fixture
def other(tmp_path):
    """Give a store that nobody named, and a watch that says whether it was opened."""
    if not sys.platform.startswith("linux"):
        pytest.skip("inotify is of Linux")
    path = write(tmp_path / "other.h5")
    watch = Watch(path)
    path.read_bytes()
    assert watch.was_opened()
    return path, watch


def link_at(place, kind):
    """Return a function that puts a link at a place of a store."""

    def change(path, other):
        write(path)
        import_arrays(path, X, list("abcdef"), dataset="d", embedding="x")
        with h5py.File(path, "a") as handle:
            if place in handle:
                del handle[place]
            links = {
                "external": h5py.ExternalLink(other, "/d/e"),
                "soft": h5py.SoftLink("/d/x"),
                "soft to external": h5py.SoftLink("/far/d"),
                "dangling": h5py.SoftLink("/nothing"),
            }
            if kind == "soft to external":
                handle["far"] = h5py.ExternalLink(other, "/")
            handle[place] = links[kind]

    return change


def user_defined(path, other):
    write(path)
    with h5py.File(path, "a") as handle:
        handle["d/strange"] = h5py.ExternalLink(other, "/d/e")
    data = bytearray(path.read_bytes())
    # The kind of the link, and the length of its name.
    at = data.index(bytes([64, 7]) + b"strange")
    data[at] = 65
    path.write_bytes(data)


def virtual(path, other):
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource(other, "d/e/features", X.shape)
    with h5py.File(path, "w") as handle:
        handle.create_virtual_dataset("d/e/features", layout)
        handle["d/e/keys"] = KEYS


def stored_elsewhere(path, other):
    with h5py.File(path, "w") as handle:
        places = [(os.fspath(other), 0, X.nbytes)]
        handle.create_dataset("d/e/features", X.shape, "f4", external=places)
        handle["d/e/keys"] = KEYS


LINKS = {
    f"{kind} link at {place}": link_at(place, kind)
    for kind in ("external", "soft", "soft to external", "dangling")
    for place in ("d", "d/e", "d/e/features", "d/e/keys", "d/__clips__", "d/__clips__/genre")
} | {
    "external link as source": link_at("d/e/__source__", "external"),
    "external link to what was replaced": link_at("__supersedes__", "external"),
}


@pytest.mark.parametrize("attack", LINKS)
def test_no_link_is_followed(tmp_path, other, attack):
    LINKS[attack](tmp_path / "x.h5", other[0])
    other[1].was_opened()
    found = refusals(tmp_path / "x.h5")
    refused = [text for text in found if "is a link to another" in text]
    assert refused[0].startswith(f"{tmp_path / 'x.h5'}: ")
    with pytest.raises(StoreError, match="is a link to another"):
        import_arrays(tmp_path / "x.h5", X, list("abcdef"), dataset="d", embedding="y")
    assert not other[1].was_opened()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (user_defined, "Unknown link type"),
        (virtual, "has its values in other files"),
        (stored_elsewhere, "has its values in other files"),
    ],
)
def test_no_other_file_is_opened(tmp_path, other, change, message):
    change(tmp_path / "x.h5", other[0])
    other[1].was_opened()
    assert message in refusals(tmp_path / "x.h5")[0]
    assert not other[1].was_opened()


def test_a_link_in_place_of_the_clip_table_is_not_followed_by_a_writer(tmp_path, other):
    link_at("d/__clips__", "external")(tmp_path / "x.h5", other[0])
    other[1].was_opened()
    with pytest.raises(StoreError, match="is a link to another"):
        import_arrays(
            tmp_path / "x.h5", X, list("abcdef"), dataset="d", embedding="e", overwrite=True
        )
    assert not other[1].was_opened()


@pytest.mark.parametrize("number", [305, 32001, h5py.h5z.FILTER_SCALEOFFSET, h5py.h5z.FILTER_LZF])
def test_filters_that_stores_do_not_have_are_not_looked_for(tmp_path, other, number):
    plugin = tmp_path / "plugins" / "libh5x.so"
    plugin.parent.mkdir()
    plugin.write_bytes(b"\x7fELF")
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((6, 2))
        if number == h5py.h5z.FILTER_SCALEOFFSET:
            plist.set_scaleoffset(h5py.h5z.SO_FLOAT_DSCALE, 2)
        else:
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
        group = handle.create_group("d/e")
        space = h5py.h5s.create_simple(X.shape)
        array = h5py.h5d.create(group.id, b"features", h5py.h5t.IEEE_F32LE, space, plist)
        chunk = X.tobytes()
        array.write_direct_chunk((0, 0), chunk)
        group["keys"] = KEYS
    watch = Watch(plugin)
    h5py.h5pl.prepend(os.fsencode(plugin.parent))
    try:
        found = refusals(tmp_path / "x.h5")
    finally:
        h5py.h5pl.remove(0)
    assert (
        f"needs the HDF5 filters [{number}]; stores may use gzip, shuffle, fletcher32" in found[0]
    )
    assert not watch.was_opened()


TYPES = {
    "vlen numbers": np.array([np.arange(2.0)] * 6, dtype=object),
    "references": None,
    "compound": np.zeros((6, 2), [("a", "f4"), ("b", "f4")]),
    "enum": np.zeros((6, 2), h5py.enum_dtype({"x": 0}, "i4")),
    "opaque": np.zeros((6, 2), h5py.opaque_dtype("V8")),
    "time": np.zeros((6, 2), h5py.opaque_dtype("M8[s]")),
    "complex": np.zeros((6, 2), complex),
    "arrays": np.zeros(6, "(2,)f4"),
    "texts": np.full((6, 2), b"1.0"),
}


def dtypes(handle, name, kind):
    values = TYPES[kind]
    if kind == "references":
        array = handle.create_dataset(name, (6, 2), h5py.ref_dtype)
        array[...] = handle.ref
    elif kind == "vlen numbers":
        handle.create_dataset(name, (6,), h5py.vlen_dtype(float))[...] = values
    elif kind == "arrays":
        handle.create_dataset(name, (6,), np.dtype("(2,)f4"))
    else:
        handle[name] = values


@pytest.mark.parametrize("name", ["features", "keys"])
@pytest.mark.parametrize("kind", TYPES)
def test_types_that_stores_do_not_have(tmp_path, kind, name):
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as handle:
        del handle[f"d/e/{name}"]
        dtypes(handle, f"d/e/{name}", kind)
    assert f"/d/e/{name} has " in refusals(tmp_path / "x.h5")[0]


ATTRIBUTES = {
    "text of variable length": ("2", h5py.string_dtype()),
    "many numbers": (np.ones(2**12, "i4"), None),
    "compound": (np.zeros((), [("a", "i4")]), None),
    "reference": (h5py.Reference(), h5py.ref_dtype),
    "enum": (np.int8(1), h5py.enum_dtype({"x": 1}, "i1")),
    "a float": (2.0, None),
    "a long text": (np.bytes_(b"x" * 60_000), None),
    "nothing": (h5py.Empty("i4"), None),
    "below": (-1, None),
    "above": (2**40, None),
    "a text": (np.bytes_(b"2"), None),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes_that_are_no_version(tmp_path, kind):
    write(tmp_path / "x.h5")
    value, dtype = ATTRIBUTES[kind]
    with h5py.File(tmp_path / "x.h5", "a") as handle:
        handle.attrs.create("format_version", value, dtype=dtype)
    assert "format version" in refusals(tmp_path / "x.h5")[0]


@pytest.mark.parametrize("model", [b"[]", b"[" * 50_000, b"{", b"\xff"])
def test_models_that_are_no_table(tmp_path, model):
    path = tmp_path / "x.h5"
    write(path)
    with h5py.File(path, "a") as handle:
        handle["d/e"].attrs["model"] = np.bytes_(model)
        for name in ("clip_id", "path", "sha256"):
            handle[f"d/e/__source__/{name}"] = KEYS[::2]
    assert "/d/e" in refusals(path)[0]


def declared(shape, **options):
    """Return a function that declares an array of which nothing is written."""

    def change(group, name):
        group.create_dataset(name, shape, "f4" if name == "features" else "S4", **options)

    return change


HUGE = {
    "in one piece": declared(2**36),
    "blocks": declared(2**44, chunks=2**10),
    "blocks of one value": declared(2**24 - 100, chunks=1),
    "blocks that are there at once": declared(2**16 * 3, chunks=2**16, maxshape=None),
    "gzip": declared(2**44, chunks=2**10, compression="gzip"),
    "a huge block": declared(2**29, chunks=2**29, compression="gzip"),
    "a huge block for little": declared(6, chunks=2**29, maxshape=2**40),
    "gzip within the limit": declared(2**23, chunks=2**20, compression="gzip"),
}


@pytest.mark.parametrize("name", ["features", "keys"])
@pytest.mark.parametrize("kind", HUGE)
def test_what_is_declared_is_not_believed(tmp_path, kind, name):
    def fitting(create_dataset):
        def create(name, n, dtype, chunks=None, maxshape=False, **options):
            width = (2,) if name == "features" else ()
            if chunks is not None:
                options |= {"chunks": (chunks, *width)}
            if maxshape is not False:
                options |= {"maxshape": (maxshape, *width)}
            return create_dataset(name, (n, *width), dtype, **options)

        return create

    path = write(tmp_path / "x.h5")
    with h5py.File(path, "a") as handle:
        del handle[f"d/e/{name}"]
        group = handle["d/e"]
        create = fitting(group.create_dataset)
        HUGE[kind](type("Group", (), {"create_dataset": staticmethod(create)}), name)
        rows = group[name].shape[0]
        if rows < 2**24 and name == "features":
            del group["keys"]
            group.create_dataset("keys", data=np.full(rows, b"a"), compression="gzip")
        elif rows < 2**24:
            del group["features"]
            values = np.zeros((rows, 1), "i1")
            group.create_dataset("features", data=values, compression="gzip")
    tracemalloc.start()
    found = refusals(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search("cannot be in so small|would take|never written|blocks are there", found[0])
    assert peak < 2 * MOST


def test_arrays_that_are_too_much_together(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as handle:
        group = handle.create_group("d/e0")
        group.create_dataset("features", data=np.zeros((2**21, 4), "f4"), compression="gzip")
        group.create_dataset("keys", data=np.full(2**21, b"a"), compression="gzip")
        for i in range(1, 5):
            handle[f"d/e{i}"] = group
    assert "bytes, but the file has" in refusals(path)[0]


def put_chunk(path, chunk, **options):
    """Write a store whose features are one block of these bytes."""
    with h5py.File(path, "w") as handle:
        features = handle.create_dataset("d/e/features", X.shape, "f4", chunks=X.shape, **options)
        features.id.write_direct_chunk((0, 0), chunk)
        handle["d/e/keys"] = KEYS
    return path


def test_texts_of_variable_length_that_share_a_long_one(tmp_path):
    path = write(tmp_path / "x.h5", keys=np.array(["a" * 5000] * 6, dtype=object))
    assert "a text of 5000 bytes, not 4096 at most" in refusals(path)[0]
    path = write(tmp_path / "y.h5", keys=np.full(6, b"a" * 5000))
    assert "texts of 5000 bytes, not 4096 at most" in refusals(path)[0]


def test_more_members_than_can_be_meant(tmp_path):
    path = write(tmp_path / "x.h5")
    with h5py.File(path, "a") as handle:
        group = handle.create_group("many")
        for i in range(20_000):
            group.id.links.create_hard(b"%d" % i, handle["d"].id, b"e")
    assert "has more than 20,000 groups and arrays" in refusals(path)[0]


def test_cycles_and_deep_nesting_end(tmp_path):
    path = write(tmp_path / "x.h5")
    with h5py.File(path, "a") as handle:
        handle["d/again"] = handle["d"]
        handle["d/e/up"] = handle["/"]
        handle["again"] = handle["/"]
        handle.create_group("/".join(["deep"] * 1000))
    store = EmbeddingStore(path)
    assert store.datasets() == ["d"]
    np.testing.assert_array_equal(store.table("e", datasets=["d"]).X, X[::2] + 1)


NAMES = [b"..", b"a\\b", b"a\x1b[2Jb", "a\u202eb".encode(), b"a\xffb", b"a\nb", b" a"]
NAMES += [b"x" * 2000, b"y" * 60_000]


@pytest.mark.parametrize("place", ["dataset", "embedding"])
@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n[:9]))
def test_names_that_are_no_names(tmp_path, place, name):
    path = write(tmp_path / "x.h5")
    with h5py.File(path, "a") as handle:
        group = handle["d" if place == "embedding" else "/"]
        group.id.links.create_hard(name, handle.id, b"d/e" if place == "embedding" else b"d")
    [found] = refusals(path)
    assert "has the name " in found or "cannot name a part of a store" in found


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\u202e", "a\0b", "a" * 5000])
def test_nothing_is_written_that_could_not_be_read(tmp_path, name):
    with pytest.raises(BiasAudioError):
        import_arrays(tmp_path / "x.h5", X[:2], ["b", name], dataset="d")
    assert not (tmp_path / "x.h5").exists()


def test_what_is_no_file(tmp_path):
    cases = {}
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "loop.h5").symlink_to(tmp_path / "loop.h5")
    (tmp_path / "folder.h5").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "socket.h5"))
    for name in ("pipe.h5", "loop.h5", "folder.h5", "socket.h5"):
        cases[name] = tmp_path / name
        (tmp_path / f"in_{name}").mkdir()
        (tmp_path / f"in_{name}" / "x.h5").symlink_to(tmp_path / name)
        cases[f"in_{name}"] = tmp_path / f"in_{name}"
    cases |= {"zero": "/dev/zero", "null": "/dev/null", "long": tmp_path / ("x" * 5000)}
    for name, path in cases.items():
        with pytest.raises(StoreError, match=r"is not |is neither|is a folder|cannot be read"):
            EmbeddingStore(path)
        assert name


LAYOUTS = {
    "published": {},
    "blocks": {"chunks": (4, 1)},
    "gzip": {"compression": "gzip", "shuffle": True, "chunks": (4, 2)},
    "gzip, narrow": {"compression": "gzip", "shuffle": True, "chunks": (4, 1)},
    "gzip and checksum": {"compression": "gzip", "fletcher32": True, "chunks": (5, 2)},
    "all filters": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "checksum": {"fletcher32": True},
    "can grow": {"maxshape": (None, 2)},
}


VALUES = [
    ("f4", "bytes"),
    (">f4", "variable"),
    ("f8", "variable, blocks"),
    ("f2", "variable, gzip"),
    ("i2", "bytes"),
    ("u1", "variable"),
]
FILES = [{}, {"libver": "latest"}, {"userblock_size": 1024}]


@pytest.mark.parametrize("number", range(len(VALUES)))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_honest_layout_is_read(tmp_path, layout, number):
    dtype, keys = VALUES[number]
    # Each layout in each kind of file, with two of the kinds of values.
    file = FILES[(number + [*LAYOUTS].index(layout)) % len(FILES)]
    with h5py.File(tmp_path / "x.h5", "w", **file) as handle:
        handle.create_dataset("d/e/features", data=X, dtype=dtype, **LAYOUTS[layout])
        options = {"chunks": (4,)} if "," in keys else {}
        options |= {"compression": "gzip", "shuffle": True} if "gzip" in keys else {}
        texts = KEYS if keys == "bytes" else KEYS.astype(str).astype(object)
        handle.create_dataset("d/e/keys", data=texts, **options)
    assert refusals(tmp_path / "x.h5") == []
    table = EmbeddingStore(tmp_path / "x.h5").table("e")
    np.testing.assert_array_equal(table.X, X[::2] + 1)
    assert list(table.clips.clip_id) == ["a", "b", "c"]
