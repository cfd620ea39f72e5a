"""Corrections: scikit-learn transformers that take the domain out of vectors.

Two families.  *Domain-free at transform* corrections need the domain in
``fit`` only and go into any pipeline; *domain-aware* ones need it in
``transform`` as well.  `METHODS` is the table of them all.  `save` and `load`
keep a fitted one in a small file that numpy alone can apply.
"""

from biasaudio.transforms._affine import Affine
from biasaudio.transforms.centering import DomainCentering, DomainStandardizer
from biasaudio.transforms.combat import ComBat
from biasaudio.transforms.coral import CORAL
from biasaudio.transforms.export import to_onnx, to_torch
from biasaudio.transforms.inlp import NullspaceProjection
from biasaudio.transforms.kernel import KernelMap
from biasaudio.transforms.lda import LDAProjection, MultiLDAProjection
from biasaudio.transforms.leace import LEACE, MeanProjection
from biasaudio.transforms.methods import METHODS, Method
from biasaudio.transforms.nap import NuisanceProjection
from biasaudio.transforms.persist import load, save
from biasaudio.transforms.robust import RobustLEACE
from biasaudio.transforms.wccn import WithinClassNormalization

__all__ = [
    "CORAL",
    "LEACE",
    "METHODS",
    "Affine",
    "ComBat",
    "DomainCentering",
    "DomainStandardizer",
    "KernelMap",
    "LDAProjection",
    "MeanProjection",
    "Method",
    "MultiLDAProjection",
    "NuisanceProjection",
    "NullspaceProjection",
    "RobustLEACE",
    "WithinClassNormalization",
    "load",
    "save",
    "to_onnx",
    "to_torch",
]
