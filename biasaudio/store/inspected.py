"""What was found in one file of a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biasaudio.datasets.table import ClipTable
from biasaudio.store.blocks import BlockTable
from biasaudio.store.content import Origin
from biasaudio.store.seal import Seal

__all__ = ["NOT_FINITE", "Fault", "Inspected", "Pair", "Part", "digests_by_clip"]

Pair = tuple[str, str]
NOT_FINITE = "its vectors have NaN or Inf"


@dataclass(frozen=True)
class Fault:
    """Say what is wrong with a clip, or with a file.

    Parameters
    ----------
    file : Path
    dataset, embedding, clip : str
        Empty where the fault is none of one of these.
    what : str
    """

    file: Path
    dataset: str
    embedding: str
    clip: str
    what: str


@dataclass(eq=False)
class Part:
    """Hold whose the rows of an embedding in a file are.

    Parameters
    ----------
    names : list of str
    codes : np.ndarray of int [shape=(n_frames,)]
        The clip of each row.
    width : int
        Of the rows.
    digests : dict
        From each clip to the digests of its blocks.
    origin : Origin, optional
    bad : set of str
        Clips whose rows are not to be trusted.
    """

    names: list[str]
    codes: NDArray[np.intp]
    width: int
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    origin: Origin | None = None
    bad: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Inspected:
    """Hold what was found in a file.

    Parameters
    ----------
    path : Path
    faults : list of Fault
    parts : dict
        From (dataset, embedding).
    tables : dict
        The clip table of each dataset that has one.
    superseded : dict of str to str
        Names of the files that it takes the place of.
    seal : Seal, optional
        By which it is to be read, as the file is not what was sealed.
    """

    path: Path
    faults: list[Fault] = field(default_factory=list)
    parts: dict[Pair, Part] = field(default_factory=dict)
    tables: dict[str, ClipTable] = field(default_factory=dict)
    superseded: dict[str, str] = field(default_factory=dict)
    seal: Seal | None = None

    def add(self, what: str, dataset: str = "", embedding: str = "", clip: str = "") -> None:
        """Note a fault."""
        self.faults.append(Fault(self.path, dataset, embedding, clip, what))

    def add_clips(self, pair: Pair, clips: Mapping[str, str]) -> None:
        """Note faults of clips, whose rows are not to be trusted."""
        self.parts[pair].bad |= set(clips)
        for clip, what in clips.items():
            self.add(what, *pair, clip)


def digests_by_clip(table: BlockTable) -> dict[str, tuple[str, ...]]:
    """Return the digests of the blocks of each clip."""
    found: dict[str, tuple[str, ...]] = {}
    for clip, digest in zip(table.clips, table.sha256):
        found[clip] = (*found.get(clip, ()), digest)
    return found
