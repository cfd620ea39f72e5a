"""Kill processes that write a store, with ``kill -9`` at random moments, and check what is left.

    python -m benchmarks.faults [--kills 200] [--seed 1]

Most are killed while they extract (a tenth of them with two jobs), the others while they merge
parts, and while they embed anew what has changed.  After each: the store opens or is not there
yet, no clip that was committed is lost, and each has exactly the vectors that it must have.  Then
another process goes on, and may be killed too; in the end the store has the bytes of one that was
never interrupted, and no other file is in its folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from extract_fixtures import Faults

# What is done, with how many jobs, and its share of the kills.
KINDS = (("extract", 1, 0.45), ("extract", 2, 0.1), ("compact", 1, 0.2), ("overwrite", 1, 0.25))


def main(argv: Sequence[str] | None = None) -> None:
    """Run all kinds, and print what was found after the kills."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    for kind, n_jobs, share in KINDS:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            faults = Faults(Path(folder), kind, n_jobs=n_jobs, seed=args.seed)
            found = faults.run(max(1, round(args.kills * share)))
        print(f"{kind}, {n_jobs} job(s): {time.perf_counter() - begin:.0f} s")
        for what, n in found.items():
            print(f"  {n:7,} {what}")


if __name__ == "__main__":
    main()
