"""Vectors on disk: read and write embedding stores (see FORMAT.md)."""

from biasaudio.store.convert import import_file
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.writer import import_arrays

__all__ = ["EmbeddingStore", "import_arrays", "import_file"]
