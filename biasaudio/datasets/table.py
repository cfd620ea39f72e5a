"""The two tables that everything else works on."""

from biasaudio.datasets._clips import ClipTable
from biasaudio.datasets._vectors import EmbeddingTable, JoinReport

__all__ = ["ClipTable", "EmbeddingTable", "JoinReport"]
