"""Audio in, vectors out: models and the run that fills a store."""

from biasaudio.embed.base import AudioModel, Frames
from biasaudio.embed.melstats import LibrosaFeatures
from biasaudio.embed.run import embed_clips

__all__ = ["AudioModel", "Frames", "LibrosaFeatures", "embed_clips"]
