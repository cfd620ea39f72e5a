"""Shorthand of the report's tests: find sentences, change cells."""

from dataclasses import replace

import pandas as pd

from biasaudio.report.text import verdict


def answers(result, topic):
    """Return the findings of one topic."""
    return [f for f in verdict(result) if f.topic == topic]


def edited(result, table, where, **values):
    """Return the result with some cells of the chosen rows replaced."""
    frame = getattr(result, table).copy()
    rows = pd.Series(True, index=frame.index)
    for column, value in where.items():
        rows &= frame[column] == value
    assert rows.any()
    for column, value in values.items():
        frame.loc[rows, column] = value
    return replace(result, **{table: frame})
