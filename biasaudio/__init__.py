"""Measure and correct dataset and genre bias in pre-trained audio embeddings."""

import lazy_loader

_get_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        # Looked up when it is asked for: reading the metadata takes longer than this import.
        from importlib.metadata import version

        return version("biasaudio")
    return _get_public(name)
