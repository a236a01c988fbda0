"""A played session as one file, from which the same frames can be computed again.

The file (safetensors) holds everything that the frames depend on: the context and its actions, the action and the
number of solver steps of every frame, and, in its metadata, the seed, the row, the capacity, the world and whether it
had its memory. The frames are equal to the last bit on the same device with the same number of threads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidar.conditioning.config import Told
from vidar.data.atomic import replacing
from vidar.model.fingerprint import fingerprint
from vidar.model.model import VideoModel
from vidar.nn.pretrained import content_digest
from vidar.play.engine import PlayerSlot, Start
from vidar.types import VidarError

SCHEMA = 2
MOST_SEATS, MOST_STEPS = 1024, 1000  # of a file that is read
TOLD = ("schema", "world", "weights", "seed", "row", "capacity", "threads")
TENSORS = ("context", "actions", "steps")
SHA256 = "sha256"  # of all of it


@dataclass(frozen=True)
class Recording:
    """start, actions float32 [T, A] and solver steps [T] of the frames; told: the metadata of the file, see TOLD."""

    start: Start
    actions: np.ndarray
    steps: np.ndarray
    told: dict[str, Any]


def keep(slot: PlayerSlot, file: str | os.PathLike[str]) -> Recording:
    """Write what a slot has played so far, completely or not at all. Raises VidarError if it cannot be written."""
    engine = slot.engine
    with engine.wake:
        start, rows, steps = slot.log.start, list(slot.log.rows), np.array(slot.log.steps, np.int16)
        eager = slot.log.eager
    actions = np.stack(rows) if rows else np.zeros((0, engine.world.config.spec.width), np.float32)
    told = {
        "schema": SCHEMA,
        "world": engine.world.config.name,
        "weights": fingerprint(engine.world),
        "seed": start.seed,
        "row": slot.row,
        "capacity": engine.capacity,
        "threads": torch.get_num_threads(),
        "eager": eager,
        "memory": engine.world.memory is not None,
        **{name: getattr(start.told, name) for name in start.told.given},
    }
    arrays = start.frames, actions, steps
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in zip(TENSORS, arrays, strict=True)}
    if start.actions is not None:
        tensors["context_actions"] = torch.from_numpy(np.ascontiguousarray(start.actions, np.float32))
    whole = {**told, SHA256: content_digest(tensors, json.dumps(told, sort_keys=True))}
    with replacing(Path(file)) as temporary:
        save_file(tensors, temporary, metadata={"vidar": json.dumps(whole)})
    return Recording(start, actions, steps, told)


def read(file: str | os.PathLike[str]) -> Recording:
    """Read a file that `keep` wrote. Raises VidarError naming it if it is another file or damaged."""
    path = Path(file)
    try:
        with safe_open(path, "pt") as stored:
            told = json.loads((stored.metadata() or {}).get("vidar", "{}"))
            names = stored.keys()
            found = {name: stored.get_tensor(name) for name in names}
            if not isinstance(told, dict):
                raise ValueError("its metadata are no object")
            sha256 = told.pop(SHA256, None)  # recordings of earlier versions have none
            if sha256 is not None and sha256 != content_digest(found, json.dumps(told, sort_keys=True)):
                raise ValueError("it was changed after it was written")
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise VidarError(f"{path}: cannot be read as a played dream: {str(error).splitlines()[0]}") from None
    tensors = {name: tensor.numpy() for name, tensor in found.items()}
    missing = [name for name in TOLD if name not in told] + [n for n in TENSORS if n not in tensors]
    if missing or told["schema"] != SCHEMA:
        what = f"lacks {', '.join(missing)}" if missing else f"has schema {told['schema']}, this vidar reads {SCHEMA}"
        raise VidarError(f"{path}: {what}; it is not a recording of this version")
    whole = all(isinstance(told[name], int) for name in ("seed", "row", "capacity"))
    actions, steps = tensors["actions"], tensors["steps"]
    if not (whole and 0 <= told["row"] < told["capacity"] <= MOST_SEATS):
        raise VidarError(f"{path}: row or capacity is out of range, so it is not a recording")
    if steps.shape != actions.shape[:1] or steps.dtype.kind != "i" or not ((steps >= 1) & (steps <= MOST_STEPS)).all():
        raise VidarError(f"{path}: {len(actions)} frames need as many numbers of steps, 1 to {MOST_STEPS}")
    told.setdefault("eager", 0 if told.get("compiled") else len(actions))
    if not isinstance(told["eager"], int) or told["eager"] < 0:
        raise VidarError(f"{path}: eager is out of range, so it is not a recording")
    if not isinstance(told.setdefault("memory", True), bool):
        raise VidarError(f"{path}: memory is of another kind, so it is not a recording")
    words, label = told.get("prompt"), told.get("label")
    if not (isinstance(words, str | None) and isinstance(label, int | None)):
        raise VidarError(f"{path}: prompt or label is of another kind, so it is not a recording")
    start = Start(tensors["context"], tensors.get("context_actions"), int(told["seed"]), Told(words, label))
    return Recording(start, actions, steps, told)


def replay(world: VideoModel, recording: Recording) -> Iterator[np.ndarray]:
    """Yield the frames uint8 [H, W, 3] of a recording; one that was played without memory is replayed without.

    Raises VidarError if it was made in another world.
    """
    told, config = recording.told, world.config
    if not told["memory"] and world.memory is not None:
        world = world.without_memory()
    if told["weights"] != fingerprint(world):
        raise VidarError(
            f"this dream was played in world {told['world']!r} with other weights than {config.name!r} has here; "
            "load the world it was played in"
        )
    actions = config.spec.validate_actions(recording.actions, "the recording")
    streams = world.rollout(told["capacity"], compiled=told["eager"] == 0 < len(actions))
    start = recording.start
    streams.begin(told["row"], start.frames, start.actions, start.seed, start.told)
    per = streams.per_group
    rest = torch.from_numpy(config.spec.noop()).expand(streams.capacity, per, -1)
    for first in range(0, len(actions), per):
        if told["eager"] and first == -(-told["eager"] // per) * per:
            streams.model = world.compiled()
        held, table = torch.from_numpy(actions[first : first + per]), rest.clone()
        table[told["row"], : len(held)], table[told["row"], len(held) :] = held, held[-1]
        frames = streams.decoding(streams.group(table, int(recording.steps[first]))).frames()
        yield from frames[told["row"], : len(held)].numpy()
