"""Vectors on disk: read and write embedding stores (see FORMAT.md)."""

from biasaudio.store.clips import merge_clips
from biasaudio.store.file import SUFFIXES, Origin, is_file_path
from biasaudio.store.maintain import Check, Fault, Leftover, Repair, export, merge, repair, verify
from biasaudio.store.reader import EmbeddingStore, contents, exists
from biasaudio.store.tables import (
    VECTOR_SUFFIXES,
    VectorFile,
    import_file,
    import_files,
    read_columns_file,
    read_vectors,
)
from biasaudio.store.writer import Appender, derive_embedding, import_arrays, relabel, waiting

__all__ = [
    "SUFFIXES",
    "VECTOR_SUFFIXES",
    "Appender",
    "Check",
    "EmbeddingStore",
    "Fault",
    "Leftover",
    "Origin",
    "Repair",
    "VectorFile",
    "contents",
    "derive_embedding",
    "exists",
    "export",
    "import_arrays",
    "import_file",
    "import_files",
    "is_file_path",
    "merge",
    "merge_clips",
    "read_columns_file",
    "read_vectors",
    "relabel",
    "repair",
    "verify",
    "waiting",
]
