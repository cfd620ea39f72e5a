"""Write the files of `corrections_v2`: run it only when the format gets a new version.

Files of an old version are kept and read for ever; write new ones beside them.
"""

from pathlib import Path

import numpy as np

from biasaudio.transforms import (
    CORAL,
    LEACE,
    ComBat,
    DomainCentering,
    KernelMap,
    NuisanceProjection,
    NullspaceProjection,
    WithinClassNormalization,
    save,
)

FOLDER = Path(__file__).parent / "corrections_v2"


def clips():
    """Vectors and domains that are the same on every machine."""
    i, j = np.ogrid[:24, :3]
    domain = np.where(np.arange(24) % 2, "b", "a")
    return np.sin(1.0 + i * (j + 2) ** 2) + (domain == "b")[:, None] * [1.0, 0.5, 0.0], domain


def main():
    """Save one correction of each kind, and what it makes of the clips."""
    X, domain = clips()
    label = {"label": np.array(["x", "y"])[np.arange(24) // 2 % 2]}
    kinds = {
        "leace": (LEACE(shrinkage=0.1, alpha=0.5), {}),
        "center": (DomainCentering(unseen="global"), {}),
        "kernel": (KernelMap(LEACE(shrinkage=0.1), n_components=4, width=2.0), {}),
        "nap": (NuisanceProjection(n_components=1, shift_shrinkage=0.5), label),
        "wccn": (WithinClassNormalization(), label),
        "coral": (CORAL(shrinkage=0.2), {}),
        "combat": (ComBat(empirical_bayes=False), {}),
        "inlp": (NullspaceProjection(n_iter=1), {}),
    }
    for name, (correction, columns) in kinds.items():
        save(correction.fit(X, domain=domain, **columns), FOLDER / f"{name}.npz")
        keywords = {"domain": domain} if correction.domain_aware else {}
        np.savetxt(FOLDER / f"{name}.csv", correction.transform(X, **keywords), delimiter=",")


if __name__ == "__main__":
    main()
