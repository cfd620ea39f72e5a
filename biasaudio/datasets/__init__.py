"""What the clips are: tables of clips and readers of datasets."""
from biasaudio.datasets.table import ClipTable, EmbeddingTable, JoinReport
