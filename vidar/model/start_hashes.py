"""Which start clips a model was saved with: their hashes are in its index, so that none changes or goes unnoticed.

A dream begins with what these clips show, and the number of clips decides which one a seed gets. Models without the
hashes (shipped ones, those of earlier versions, those that another program made) are not checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidar.data.text import check_regular
from vidar.types import VidarError

START = "start.mp4"  # the clip in a model's folder that is the default context
STARTS = "starts"  # the folder of further start clips in a model's folder
CLIPS = "_starts"  # in the index: {name of a clip: sha256}


def start_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of the start clips in a model's folder by their names in it. Raises VidarError naming one that cannot
    be read.
    """
    names = sorted(f"{STARTS}/{file.name}" for file in (folder / STARTS).glob("*.mp4"))
    return {name: _sha256(folder / name) for name in [START, *names] if (folder / name).is_file()}


def check_starts(folder: Path, index: Mapping[str, Any]) -> None:
    """Raises VidarError naming a start clip that is missing, was changed, or came later. index: that of the model."""
    noted = index.get(CLIPS)
    if not isinstance(noted, dict):
        return
    found = start_hashes(folder)
    for name in sorted({*noted, *found}, key=lambda name: (name != START, name)):
        if found.get(name) != noted.get(name):
            fault = "not among the start clips" if name not in noted else "not the start clip"
            fault = f"is {fault} that the model was saved with" if name in found else "is missing"
            raise VidarError(
                f"{folder / name}: {fault}; restore what was there, or, if you changed it yourself, remove the entries "
                f"{CLIPS!r} and '_sha256' of model_index.json"
            )


def _sha256(file: Path) -> str:
    try:
        check_regular(file)
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise VidarError(f"{file}: cannot be read ({error.strerror}); restore it, or remove it") from None
