"""Distances of two sets of features: Frechet (FVD, FID), kernel distance (KID), JEDi.

    python scripts/feature_distance.py REAL.npy GENERATED.npy

Each file holds the features of N clips from any network, numbers [N, d]; a row is a clip. Prints one JSON object.
Figures may be compared only if network, clip length, frame rate, resizing and number of clips are the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from vidar.eval.frechet import frechet_distance
from vidar.eval.kernel_distance import jedi, kid
from vidar.types import UsageError, VidarError


def distances(real: np.ndarray, generated: np.ndarray) -> dict[str, Any]:
    """All distances of features [N, d] and [M, d]. Raises UsageError if there are at most d clips."""
    mean, error = kid(real, generated)
    frechet = asdict(frechet_distance(real, generated))
    return {"frechet": frechet, "kid": {"mean": mean, "standard_error": error}, "jedi": jedi(real, generated)}


def features(file: str) -> np.ndarray:
    """The array in a .npy file. Raises VidarError if it cannot be read."""
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VidarError(f"{file}: cannot be read as an array of numbers ({error}); save it with numpy.save") from None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(json.dumps(distances(features(sys.argv[1]), features(sys.argv[2])), indent=1))
    except (UsageError, VidarError) as error:
        sys.exit(f"feature_distance: {error}")
