"""Write the files of `store_v<version>`: run it only when the format gets a new version.

Files of an old version are kept and read for ever; write new ones beside them.
"""

import sys
from pathlib import Path

import numpy as np

from biasaudio.store import import_arrays

FOLDER = Path(__file__).parent
N_FRAMES, N_CLIPS = 12, 5
CLIPS = [f"clip {i} é" for i in range(N_CLIPS)]
OWNER = np.repeat(np.arange(N_CLIPS), [1, 2, 3, 4, 2])
LABELS = {"cello": [1, 0, 0, 1, np.nan], "flute": [0, 1, np.nan, 0, 1]}


def vectors(k):
    """Return frames that are the same on every machine, exact in float32."""
    i, j = np.ogrid[:N_FRAMES, :3]
    return ((i * 7 + j * 5 + k * 3) % 32 / 8 - 2).astype("f4")


def write(path):
    """Write two datasets with two embeddings each, frames of one and clips of the other."""
    for k, dataset in enumerate(["one", "two"]):
        about = {"dataset": dataset, "genre": ["rock", "jazz", "", "rock", "jazz"]}
        about |= {"group": ["g1", "g1", "g2", "g2", ""], "split": ["train"] * 3 + ["test"] * 2}
        about |= {"labels": LABELS}
        import_arrays(path, vectors(k), CLIPS, embedding="framed", frame_clip=OWNER, **about)
        import_arrays(path, vectors(k + 9)[:N_CLIPS], CLIPS, embedding="pooled", **about)


def main(version):
    """Write a store of one file, and one of a folder."""
    folder = FOLDER / f"store_v{version}"
    folder.mkdir()
    write(folder / "file.h5")
    write(folder / "folder")


if __name__ == "__main__":
    main(sys.argv[1])
