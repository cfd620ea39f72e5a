"""What a store and a file have in common as sources of ``correct``: their columns."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from biasaudio.errors import DataError, ParameterError

__all__ = ["Source", "check_classes", "is_linear"]


class Source:
    """Say what is shared: where columns come from, and how missing ones are named."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.columns: dict[str, Any] = {}
        self.n_clips = 0

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.columns

    def column(self, name: str) -> Any:
        """Return a column, one value a clip."""
        from biasaudio._validation import did_you_mean, name_some

        if name not in self.columns:
            held = name_some(self.columns, 10) or "none"
            raise ParameterError(
                f"{self.args.source} has no column {name!r}, only {held}"
                f"{did_you_mean(name, self.columns)}; name another one with --domain or --column, "
                "or give a file with --columns-from"
            )
        return self.columns[name]

    def check_known(self, values: Any, name: str) -> None:
        """Refuse clips whose domain is blank."""
        import numpy as np

        blank = np.flatnonzero(np.asarray(values).astype(str) == "")
        if blank.size:
            raise DataError(
                f"column {name!r} is blank for {blank.size} of {len(values)} clips, first in row "
                f"{blank[0]}; fill it in or leave these clips out"
            )

    def add_columns_from(self) -> None:
        """Add the columns of the file that was given beside the source."""
        if self.args.columns_from is None:
            return
        from biasaudio.store import read_columns_file

        for name, column in read_columns_file(self.args.columns_from).items():
            if column.ndim and len(column) == self.n_clips:
                # The domains alone are what they are asked for as.
                self.columns[name] = column
            elif name in (self.args.domain, "dataset"):
                raise DataError(
                    f"{self.args.columns_from} has {len(column) if column.ndim else 1} rows, but "
                    f"{self.args.source} has {self.n_clips} clips; give one row a clip, in the "
                    "same order"
                )

    @contextmanager
    def progress(self, total: int) -> Iterator[Any]:
        """Show a bar on stderr, if somebody is there to see it."""
        from tqdm import tqdm

        hide = True if self.args.quiet else None
        with tqdm(total=total, unit=" rows", unit_scale=True, leave=False, disable=hide) as bar:
            yield bar.update

    def domains(self, transform: Any) -> Any:
        """Return the domain of each clip, or None for a correction that does not need it."""
        import numpy as np

        if not transform.domain_aware:
            return None
        found = np.asarray(self.column(self.args.domain))
        self.check_known(found, self.args.domain)
        return found


def check_classes(transform: Any, label: Any) -> None:
    """Warn if some of the labels are classes that the correction was not fitted on."""
    import numpy as np
    import pandas as pd

    if not hasattr(transform, "check_classes"):
        return
    label = np.asarray(label)
    if label.ndim == 2:
        # Columns go by their number, as in fit.
        transform.check_classes(np.flatnonzero(label.any(axis=0)))
    else:
        transform.check_classes(pd.Series(label).dropna().astype(str).unique())


def is_linear(transform: Any) -> bool:
    """Whether the mean of corrected frames is the corrected mean; of other maps it is not."""
    return hasattr(transform, "affine_") or hasattr(transform, "affines_")
