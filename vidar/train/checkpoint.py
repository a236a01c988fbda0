"""Checkpoints that a kill at any time cannot damage: safetensors and JSON in one directory per step.

    checkpoints/step-00001234/{model,ema,optimizer}.safetensors  state.json  COMPLETE

A checkpoint is written under a temporary name, synced, marked COMPLETE (sizes and hashes of all files) and only then
renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vidar
from vidar.config import Config, to_dict
from vidar.data.atomic import sync
from vidar.train.ema import Ema
from vidar.types import VidarError

MARKER = "COMPLETE"
TEMPORARY = ".tmp-"
DISCARDED = ".old-"
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)  # of a JSON file


@dataclass
class Counters:
    """The position of a run.

    cursor: the next batch index. elapsed: seconds of training over all resumes. skipped: number of non-finite batches.
    window: the values of the steps since the last log line, which the next one averages.
    """

    step: int = 0
    cursor: int = 0
    elapsed: float = 0.0
    skipped: int = 0
    window: list[dict[str, float]] = field(default_factory=list)


def save(
    folder: Path, counters: Counters, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, config: Config
) -> Path:
    """Write `folder/step-N` and return it, see `write`."""

    def tensors(place: Path) -> None:
        save_file(_packed(_weights(model)), place / "model.safetensors")
        save_file(_packed(_weights(ema.model)), place / "ema.safetensors")
        save_file(_packed(_moments(model, optimizer)), place / "optimizer.safetensors")

    return write(folder, counters, config, tensors)


def write(folder: Path, counters: Counters, config: Config, parts: Callable[[Path], None]) -> Path:
    """Write `folder/step-N` and return it.

    parts: writes its files into the directory it receives; state.json is added. Raises VidarError if the checkpoint
    cannot be written; older checkpoints stay.
    """
    final = folder / f"step-{counters.step:08d}"
    if is_complete(final):
        return final
    temporary = folder / f"{TEMPORARY}{final.name}-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        parts(temporary)
        versions = {"vidar": vidar.__version__, "torch": torch.__version__, "python": platform.python_version()}
        state = {**asdict(counters), "versions": versions, "config": to_dict(config)}
        (temporary / "state.json").write_text(json.dumps(state, indent=1))
        files = [file for file in temporary.rglob("*") if file.is_file()]
        for file in files:
            sync(file)
        listed = {file.relative_to(temporary).as_posix(): [file.stat().st_size, _sha256(file)] for file in files}
        (temporary / MARKER).write_text(json.dumps(listed))
        sync(temporary / MARKER)
        sync(temporary)
        if final.exists():
            _discard(final)
        os.rename(temporary, final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise VidarError(f"{final}: the checkpoint cannot be written ({error}); free space or change out") from None
    return final


def load(path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> Counters:
    """Restore a complete checkpoint in place. Raises VidarError naming the file or the parameter that does not fit."""
    counters = read(path)
    try:
        weights, averages, moments = (load_file(path / f"{n}.safetensors") for n in ("model", "ema", "optimizer"))
    except (OSError, SafetensorError) as error:
        raise VidarError(f"{path}: damaged checkpoint ({error}); remove it to resume from an older one") from None
    _restore(path / "model.safetensors", _weights(model), weights)
    _restore(path / "ema.safetensors", _weights(ema.model), averages)
    names = dict(model.named_parameters())
    for key, value in moments.items():
        kind, _, name = key.partition(".")
        if name not in names:
            raise VidarError(f"{path / 'optimizer.safetensors'}: the model has no parameter {name!r}")
        like = names[name] if value.shape == names[name].shape else torch.empty(value.shape, device=names[name].device)
        optimizer.state[names[name]][kind] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    return counters


def read(path: Path) -> Counters:
    """The counters of a checkpoint, whose files are all verified. Raises VidarError if it is incomplete or damaged."""
    if not is_complete(path):
        raise VidarError(f"{path}: not a complete checkpoint; resume='auto' takes the newest complete one")
    state = read_state(path)
    try:
        for name in _listed(path):
            verify(path, name)
        return Counters(**{name: state[name] for name in asdict(Counters())})
    except DAMAGE as error:
        raise VidarError(f"{path}: damaged checkpoint ({error}); remove it to resume from an older one") from None


def read_state(path: Path) -> dict[str, Any]:
    """The verified content of state.json. Raises VidarError if it is damaged."""
    try:
        verify(path, "state.json")
        state = json.loads((path / "state.json").read_text())
        if not isinstance(state, dict):
            raise ValueError("state.json is not an object")
        return state
    except DAMAGE as error:
        raise VidarError(f"{path}: damaged checkpoint ({error}); remove it to resume from an older one") from None


def verify(path: Path, name: str) -> None:
    """Raises ValueError if a file of a checkpoint was changed after it was written."""
    sha256 = _listed(path)[name][1]
    if sha256 and _sha256(path / name) != sha256:
        raise ValueError(f"{name} does not match its sha256")


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    return max(complete(folder), default=None)


def complete(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if is_complete(path))


def damaged(folder: Path) -> list[Path]:
    """Checkpoints that are not complete, oldest first. A kill leaves none: a file of them was removed or changed."""
    return sorted(path for path in folder.glob("step-*") if not is_complete(path))


def is_complete(path: Path) -> bool:
    """Whether the marker exists and every file has the size that the marker states."""
    try:
        sizes = {name: size for name, (size, _) in _listed(path).items()}
        return "state.json" in sizes and all((path / name).stat().st_size == size for name, size in sizes.items())
    except DAMAGE:
        return False


def _listed(path: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file. A checkpoint of an earlier version has no hashes: they are empty."""
    if not (path / MARKER).is_file():  # to read a pipe would wait for ever
        raise FileNotFoundError(path / MARKER)
    listed: dict[str, Any] = json.loads((path / MARKER).read_text())
    return {name: (entry, "") if isinstance(entry, int) else (entry[0], entry[1]) for name, entry in listed.items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def retain(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` complete checkpoints; a failed deletion is ignored."""
    for path in complete(folder)[:-keep]:
        _discard(path)


def clean(folder: Path) -> None:
    """Remove partly written or partly deleted checkpoints of a killed run."""
    for prefix in (TEMPORARY, DISCARDED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    doomed = path.with_name(f"{DISCARDED}{path.name}-{os.getpid()}")
    try:
        os.rename(path, doomed)
    except OSError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters (tied ones once) and persistent buffers by name."""
    kept = model.state_dict().keys()
    return {**dict(model.named_parameters()), **{k: v for k, v in model.named_buffers() if k in kept}}


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of the optimiser as `kind.parameter`."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            found[f"{kind}.{name}"] = value
    return found


def _restore(file: Path, mine: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    for name in mine.keys() | stored.keys():
        if name not in mine or name not in stored or mine[name].shape != stored[name].shape:
            raise VidarError(f"{file}: does not fit the model at {name!r}; resume with the config of the run")
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(stored[name])
