"""What the clips are: tables of clips and readers of datasets."""

from biasaudio.datasets.audio import AudioFiles, find_audio
from biasaudio.datasets.irmas import load_irmas
from biasaudio.datasets.manifest import load_manifest
from biasaudio.datasets.openmic import load_openmic
from biasaudio.datasets.synthetic import make_domains
from biasaudio.datasets.table import ClipTable
from biasaudio.datasets.vectors import EmbeddingTable, JoinReport
from biasaudio.datasets.vocabulary import PUBLISHED, Vocabulary

__all__ = [
    "PUBLISHED",
    "AudioFiles",
    "ClipTable",
    "EmbeddingTable",
    "JoinReport",
    "Vocabulary",
    "find_audio",
    "load_irmas",
    "load_manifest",
    "load_openmic",
    "make_domains",
]
