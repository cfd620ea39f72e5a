"""Class alignment and genre mapping, as data.

Datasets name the same things differently.  The readers translate the codes of
each dataset to full words; a `Vocabulary` then says which labels and genres of
several datasets are the same, and records every clip that it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, ParameterError

__all__ = [
    "GENRES",
    "IRMAS_GENRES",
    "IRMAS_INSTRUMENTS",
    "OPENMIC_INSTRUMENTS",
    "PUBLISHED",
    "Vocabulary",
    "openmic_genre",
]

GENRES = ("pop_rock", "jazz_blue", "classical", "country_folk")

# Clarinet and classical are both written [cla]: the first bracket of a key is
# the instrument, the last one the genre.
IRMAS_INSTRUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "cel": "cello",
        "cla": "clarinet",
        "flu": "flute",
        "gac": "guitar",
        "gel": "guitar",
        "org": "organ",
        "pia": "piano",
        "sax": "saxophone",
        "tru": "trumpet",
        "vio": "violin",
        "voi": "voice",
    }
)

IRMAS_GENRES: Mapping[str, str] = MappingProxyType(
    {
        "pop_roc": "pop_rock",
        "jaz_blu": "jazz_blue",
        "cla": "classical",
        "cou_fol": "country_folk",
        "lat_sou": "latin_soul",
    }
)

OPENMIC_INSTRUMENTS = (
    "accordion",
    "banjo",
    "bass",
    "cello",
    "clarinet",
    "cymbals",
    "drums",
    "flute",
    "guitar",
    "mallet_percussion",
    "mandolin",
    "organ",
    "piano",
    "saxophone",
    "synthesizer",
    "trombone",
    "trumpet",
    "ukulele",
    "violin",
    "voice",
)

_WORD = re.compile("[a-z]+")


def openmic_genre(titles: Iterable[str]) -> str:
    """Find the genre that a track's genre titles stand for.

    Parameters
    ----------
    titles : iterable of str
        Genre titles of the Free Music Archive, such as ``"Indie-Rock"``.

    Returns
    -------
    str
        One of `GENRES`, or ``""`` if no title shares a word with one.

    Notes
    -----
    The rule is that of the published study: the first title decides which
    shares a whole word with a genre name, genres taken in the order of
    `GENRES`.  "Blues" is not the word "blue" and so does not count.

    Examples
    --------
    >>> openmic_genre(["Electronic", "Indie-Rock"])
    'pop_rock'
    >>> openmic_genre(["Blues"])
    ''
    """
    for title in titles:
        words = set(_WORD.findall(str(title).lower()))
        for genre in GENRES:
            if words.intersection(genre.split("_")):
                return genre
    return ""


@dataclass(frozen=True)
class Vocabulary:
    """Which labels and genres of several datasets are the same.

    Attributes
    ----------
    labels : mapping of str to sequence of str
        For each label to keep, the labels that it is made of.  A clip is
        positive if one of these is, and annotated if it is positive or all of
        these that its table has are annotated.
    genres : sequence of str, optional
        Genres to keep; clips of any other genre are left out.

    Raises
    ------
    ParameterError
        If there is no label, or a label is made of nothing.

    Examples
    --------
    >>> strings = Vocabulary({"strings": ("cello", "violin")})
    >>> clips = ClipTable.from_columns(["a", "b"], "demo", label=["cello", "flute"])
    >>> strings.apply(clips).labels["strings"].tolist()
    [True, False]
    """

    labels: Mapping[str, Sequence[str]]
    genres: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Copy and check the mapping."""
        parts = {str(name): _as_tuple(value) for name, value in self.labels.items()}
        if not parts or not all(parts.values()):
            raise ParameterError(
                f"labels={dict(self.labels)!r} has no label or an empty one; give at least one "
                "label, each with the labels that it is made of"
            )
        object.__setattr__(self, "labels", MappingProxyType(parts))
        if self.genres is not None:
            object.__setattr__(self, "genres", _as_tuple(self.genres))

    def apply(self, clips: ClipTable) -> ClipTable:
        """Keep these labels and genres only.

        Parameters
        ----------
        clips : ClipTable
            Clips with labels as the readers give them.

        Returns
        -------
        ClipTable
            What was left out is added to its ``dropped``.

        Raises
        ------
        DataError
            If none of the labels is among those of ``clips``, or no clip has
            one of the genres.
        """
        there = clips.label_names
        wanted = list(dict.fromkeys(part for parts in self.labels.values() for part in parts))
        if not set(wanted).intersection(there):
            raise DataError(
                f"none of the labels {name_some(wanted)} is in the table, which has "
                f"{name_some(there, limit=20) or 'none'}; give a vocabulary for these labels"
            )
        index = clips.labels.index
        labels, mask = pd.DataFrame(index=index), pd.DataFrame(index=index)
        for name, parts in self.labels.items():
            columns = [part for part in parts if part in there]
            labels[name] = clips.labels[columns].any(axis=1)
            # One part heard is enough for "yes"; only all parts answered make a "no".
            mask[name] = labels[name] | _is_answered(clips, columns)
        table = ClipTable(clips.frame, labels, mask, clips.dropped)
        return table if self.genres is None else _keep_genres(table, self.genres)


def _as_tuple(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _is_answered(clips: ClipTable, columns: list[str]) -> NDArray[np.bool_]:
    """Whether each clip is annotated for all columns that its dataset knows."""
    mask = clips.mask[columns].to_numpy(dtype=bool)
    answered = np.zeros(len(clips), dtype=bool)
    dataset = clips.dataset
    for name in clips.datasets:
        rows = dataset == name
        known = mask[rows].any(axis=0)
        answered[rows] = mask[np.ix_(rows, known)].all(axis=1) & known.any()
    return answered


def _keep_genres(clips: ClipTable, genres: Sequence[str]) -> ClipTable:
    genre = clips.genre
    is_kept = np.isin(genre.astype(str), list(genres))
    if len(clips) and not is_kept.any():
        raise DataError(
            f"no clip has one of the genres {name_some(genres, limit=20)}; the clips have "
            f"{name_some(sorted(set(genre) - {''})) or 'no genre'}, so map them to these first"
        )
    left_out = pd.DataFrame(
        {
            "clip_id": clips.clip_id[~is_kept],
            "dataset": clips.dataset[~is_kept],
            "reason": [
                f"genre {name!r} is not in the vocabulary" if name else "genre is not known"
                for name in genre[~is_kept]
            ],
        }
    )
    kept = clips.select(is_kept)
    dropped = pd.concat([clips.dropped, left_out], ignore_index=True)
    return ClipTable(kept.frame, kept.labels, kept.mask, dropped)


PUBLISHED = Vocabulary(
    {name: (name,) for name in dict.fromkeys(IRMAS_INSTRUMENTS.values())}, GENRES
)
