"""Probes: is the dataset, or the genre, readable from the vectors.

Held-out clips only, split by group, with interval, permutation null and n.
"""

from biasaudio.probes.domain import probe_domain
from biasaudio.probes.genre import probe_genre
from biasaudio.probes.result import ProbeResult, ValueScore

__all__ = ["ProbeResult", "ValueScore", "probe_domain", "probe_genre"]
