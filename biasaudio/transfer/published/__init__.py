"""The published tables of Wang, Richard and McFee (2023), as package data."""

from __future__ import annotations

import re
from importlib.resources import files

import pandas as pd

from biasaudio._validation import check_choice
from biasaudio.errors import DataError

__all__ = ["CITATION", "MODES", "load_published_table"]

MODES = ("global", "classwise")
CITATION = (
    "Wang, C., Richard, G. and McFee, B. (2023). Transfer Learning and Bias Correction "
    "with Pre-trained Audio Embeddings. Proc. of the 24th Int. Society for Music "
    "Information Retrieval Conf. (ISMIR). arXiv:2307.10834"
)
_CELL = re.compile(r"(?P<roc_auc>[\d.]+)(?: \((?P<delta>-?[\d.]+)\))?")


def load_published_table(mode: str) -> pd.DataFrame:
    """Load the published mean ROC-AUCs of one mode, one row per cell.

    Parameters
    ----------
    mode : {'global', 'classwise'}
        What the correction was fitted on: the positives and the negatives of
        an instrument, or its positives only.

    Returns
    -------
    pandas.DataFrame [shape=(72, 6)]
        ``embedding`` ('vggish', 'openl3', 'yamnet'), ``method`` ('original',
        'lda', 'mlda', 'k', 'klda', 'mklda'), ``train_set`` and ``test_set``
        ('irmas', 'openmic'), ``roc_auc`` and ``delta``, in the order of the
        published table.  Both numbers are on the scale 0 to 1; the study
        prints them times 100, rounded to two places.

    Raises
    ------
    ParameterError
        If the mode is not known.
    DataError
        If the installed file was damaged.

    Notes
    -----
    ``roc_auc`` is the mean over the ten instruments.  ``delta`` is given for
    the two cross-dataset pairs only and is NaN elsewhere.  For the method
    'original' it is the change from the pair that trains and tests on
    ``test_set``; for every other method it is the change from 'original' of
    the same embedding and pair.  It was rounded after the subtraction, so it
    can differ by .0001 from the difference of the rounded ROC-AUCs.

    Examples
    --------
    >>> from biasaudio.transfer.published import load_published_table
    >>> table = load_published_table("global")
    >>> float(table.roc_auc[0])
    0.916
    """
    check_choice(mode, "mode", MODES)
    with (files(__name__) / f"table_{mode}.csv").open(encoding="utf-8") as file:
        wide = pd.read_csv(file, dtype=str)
    rows = []
    for _, line in wide.iterrows():
        embedding, _, method = line["embedding"].partition("-")
        for pair in wide.columns[1:]:
            train_set, test_set = pair.split("-")
            numbers = _read_cell(line[pair])
            rows.append((embedding, method or "original", train_set, test_set, *numbers))
    columns = ["embedding", "method", "train_set", "test_set", "roc_auc", "delta"]
    return pd.DataFrame(rows, columns=columns)


def _read_cell(text: str) -> tuple[float, float]:
    """ROC-AUC and change (NaN if there is none), both 0 to 1."""
    match = _CELL.fullmatch(text)
    if match is None:
        raise DataError(
            f"the published table holds {text!r}, not a cell such as '82.82 (-8.78)'; "
            "install biasaudio again"
        )
    roc_auc, delta = match["roc_auc"], match["delta"]
    # Dividing a two-place decimal by 100 leaves dirt in the last bits.
    return round(float(roc_auc) / 100, 6), round(float(delta or "nan") / 100, 6)
