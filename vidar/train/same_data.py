"""Check that a run continues on the data that it was trained on: hashes of the data are stored in OUT/data.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vidar.data.atomic import replacing
from vidar.data.index import load_index
from vidar.data.text import check_regular
from vidar.nn.pretrained import WEIGHTS
from vidar.train.checks import OnDisk
from vidar.types import UsageError, VidarError

FILE = "data.json"
MODELS = ("tokenizer", "world")  # fields of a data config that name a folder with weights


def hashes(data: Any) -> dict[str, str]:
    """sha256 by file: the shards of the split of a data config, and the weights that encode them."""
    if not isinstance(data, OnDisk):
        return {}
    folder = Path(data.path)
    found = {str(folder / one.name): one.sha256 for one in load_index(folder).shards if one.split == data.split}
    for field in MODELS:
        named = getattr(data, field, None)
        weights = sorted(Path(named).rglob(WEIGHTS)) if named else []
        found.update({str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in weights})
    return found


def store(out: Path, data: Any) -> None:
    """Write the hashes to `out`. Raises VidarError if that is impossible."""
    with replacing(out / FILE) as file:
        file.write_text(json.dumps(hashes(data), indent=1) + "\n")


def check(out: Path, data: Any) -> None:
    """Raises UsageError naming the first file that changed, is missing or was added since the run in `out` began.

    A run without the file of hashes, of an earlier version, passes.
    """
    file = out / FILE
    if not file.exists():
        return
    try:
        check_regular(file)
        old = {str(name): str(value) for name, value in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, RecursionError, VidarError):
        raise VidarError(f"{file}: damaged; remove it to resume without a check of the data") from None
    now = hashes(data)
    changed = [name for name in (*old, *(now.keys() - old.keys())) if old.get(name) != now.get(name)]
    if changed:
        first, more = changed[0], f" ({len(changed)} files differ)" if len(changed) > 1 else ""
        what = "was added" if first not in old else "is gone" if first not in now else "has changed"
        raise UsageError(
            f"{first}: {what} since this run began{more}; to train on the data as they are now, start another run with "
            f"--out, or remove {file} to continue this one on them"
        )
