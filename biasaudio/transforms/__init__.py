"""Corrections: scikit-learn transformers that take the domain out of vectors.

Two families.  *Domain-free at transform* corrections need the domain in
``fit`` only and go into any pipeline; *domain-aware* ones need it in
``transform`` as well.  `METHODS` is the table of them all.
"""

from biasaudio.transforms._affine import Affine
from biasaudio.transforms.centering import DomainCentering, DomainStandardizer
from biasaudio.transforms.erasure import LEACE, MeanProjection
from biasaudio.transforms.methods import METHODS, Method
from biasaudio.transforms.projection import LDAProjection, MultiLDAProjection

__all__ = [
    "LEACE",
    "METHODS",
    "Affine",
    "DomainCentering",
    "DomainStandardizer",
    "LDAProjection",
    "MeanProjection",
    "Method",
    "MultiLDAProjection",
]
