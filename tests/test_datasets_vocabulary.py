"""Class alignment and genre mapping, and the record of what is left out."""

import json

import pytest

from biasaudio.datasets import PUBLISHED, ClipTable, Vocabulary
from biasaudio.datasets.vocabulary import (
    GENRES,
    IRMAS_GENRES,
    IRMAS_INSTRUMENTS,
    OPENMIC_INSTRUMENTS,
    openmic_genre,
)
from biasaudio.errors import DataError, ParameterError


@pytest.mark.parametrize(
    ("titles", "genre"),
    [
        (["Indie-Rock"], "pop_rock"),
        (["Electronic", "Free-Jazz", "Rock"], "jazz_blue"),
        (["20th Century Classical"], "classical"),
        (["Folk"], "country_folk"),
        (["Jazz Pop"], "pop_rock"),
        (["Alternative-COUNTRY/rock"], "pop_rock"),
        # A published flaw: whole words only, so these two do not count.
        (["Blues"], ""),
        (["Popular"], ""),
        ([], ""),
    ],
)
def test_genre_is_the_first_title_that_shares_a_word(titles, genre):
    assert openmic_genre(titles) == genre


def test_maps_agree_with_the_published_ones(shared):
    published = shared / "published"
    align = json.loads((published / "class_align.json").read_text())
    ours = {
        name: [code for code, full in IRMAS_INSTRUMENTS.items() if full == name] for name in align
    }
    assert ours == {
        name: [codes] if isinstance(codes, str) else codes for name, codes in align.items()
    }
    assert set(PUBLISHED.labels) == set(align)
    genres = json.loads((published / "genre_map.json").read_text())
    assert sorted(genres, key=genres.get) == list(GENRES)
    assert set(IRMAS_GENRES.values()) - set(GENRES) == {"latin_soul"}
    classes = json.loads((published / "class-map.json").read_text())
    assert sorted(classes, key=classes.get) == list(OPENMIC_INSTRUMENTS)


def test_labels_are_merged_renamed_and_kept_in_order():
    clips = ClipTable.from_columns(
        ["a", "b", "c", "d"],
        "x",
        labels={
            "cello": [1, 0, 0, None],
            "violin": [None, 0, None, None],
            "flute": [0, 1, 0, 1],
        },
    )
    table = Vocabulary({"wind": "flute", "strings": ("cello", "violin")}).apply(clips)
    assert table.label_names == ["wind", "strings"]
    assert table.labels["strings"].tolist() == [True, False, False, False]
    # "No cello" alone is not "no strings".
    assert table.mask["strings"].tolist() == [True, True, False, False]
    assert table.labels["wind"].tolist() == [False, True, False, True]


def test_a_part_that_a_dataset_does_not_know_asks_nothing_of_its_clips():
    both = ClipTable.concat(
        [
            ClipTable.from_columns(["a", "b"], "x", label=["cello", "flute"]),
            ClipTable.from_columns(["a", "b"], "y", label=["violin", "harp"]),
        ]
    )
    table = Vocabulary({"strings": ("cello", "violin"), "none": ("gong",)}).apply(both)
    assert table.labels["strings"].tolist() == [True, False, True, False]
    assert table.mask["strings"].all()
    assert not table.mask["none"].any()


def test_left_out_clips_are_recorded_with_the_reason():
    clips = ClipTable.from_columns(
        ["a", "b", "c"], "x", genre=["rock", "polka", ""], label=["p", "p", "p"]
    )
    table = Vocabulary({"p": ("p",)}, genres=("rock",)).apply(clips)
    assert table.clip_id.tolist() == ["a"]
    assert table.dropped.to_numpy().tolist() == [
        ["b", "x", "genre 'polka' is not in the vocabulary"],
        ["c", "x", "genre is not known"],
    ]
    again = Vocabulary({"p": ("p",)}, genres="rock").apply(table)
    assert len(again.dropped) == 2
    assert len(Vocabulary({"p": ("p",)}).apply(clips)) == 3


def test_bad_vocabularies_are_named():
    clips = ClipTable.from_columns(["a"], "x", genre="polka", label=["p"])
    with pytest.raises(DataError, match="none of the labels 'q' is in the table, which has 'p'"):
        Vocabulary({"q": ("q",)}).apply(clips)
    with pytest.raises(DataError, match=r"no clip has one of the genres 'rock'; .*'polka'"):
        Vocabulary({"p": ("p",)}, genres=("rock",)).apply(clips)
    with pytest.raises(ParameterError, match="has no label or an empty one"):
        Vocabulary({})
    with pytest.raises(ParameterError, match="has no label or an empty one"):
        Vocabulary({"p": ()})


def test_a_vocabulary_cannot_be_changed_afterwards():
    labels = {"p": ["q"]}
    vocabulary = Vocabulary(labels)
    labels["r"] = ["s"]
    assert dict(vocabulary.labels) == {"p": ("q",)}
    with pytest.raises(TypeError, match="does not support item assignment"):
        vocabulary.labels["r"] = ("s",)
