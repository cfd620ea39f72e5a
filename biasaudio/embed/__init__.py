"""Audio in, vectors out: models and the run that fills a store."""

from biasaudio.embed.audio import read_audio
from biasaudio.embed.base import AudioModel, Frames
from biasaudio.embed.extraction import ExtractResult, embed_clips, extract
from biasaudio.embed.melstats import LibrosaFeatures
from biasaudio.embed.models import MODELS, load_model

__all__ = [
    "MODELS",
    "AudioModel",
    "ExtractResult",
    "Frames",
    "LibrosaFeatures",
    "embed_clips",
    "extract",
    "load_model",
    "read_audio",
]
