"""`vidar eval blind`: a page on which people tell the real game from a dream, or which of two dreams is more like it.

Reference: 10 raters of GameNGen saw 130 pairs of 1.6 s and 3.2 s, and chose the real game in 58 % and 60 % of them
(Valevski et al., Diffusion Models Are Real-Time Game Engines, 2024). Half is what guessing gives.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from vidar.eval.blind_clips import Source, dreams, from_data, from_game
from vidar.eval.blind_page import KEY, PAGE, VERSION, Pair, blind_page, pair_video, start_video
from vidar.eval.output import bar, begin, folder, write
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.ruler_play import RulerConfig
from vidar.model.load import load_world
from vidar.model.model import VideoModel
from vidar.types import UsageError, VidarError

LONGEST, SHORTEST = 30.0, 4  # seconds; frames
BEFORE = 1.0  # seconds of the real start that are shown before two dreams
USUAL = RulerConfig()
QUESTIONS = {"real": "which one is the real game", "models": "which one is more like the real game"}


@dataclass(frozen=True)
class Plan:
    """What is random of a page, from its seed: lengths [N] in seconds, whether the first clip is left [N], ids."""

    seconds: Sequence[float]
    first_left: np.ndarray
    ids: Sequence[str]


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    against: str | None = None,
    clips: int = 40,
    seconds: Sequence[float] = (1.6, 3.2),
    seed: int = 0,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    device: str = "cpu",
    config: RulerConfig = USUAL,
) -> dict[str, Any]:
    """Play and dream all clips; write blind.html and, last, key.json into `out`. Returns the content of the latter.

    against: another model; the question is then which of both is more like the game. clips: number of pairs. seconds:
    lengths, which the pairs get in equal numbers. data: shards of which `split` (default: heldout) gives the real
    clips; None: the game of the ruler is played. Raises UsageError or VidarError in one line, before anything is
    dreamed.
    """
    place = folder(out, (KEY, PAGE))
    _check(clips, seconds, split, data)
    worlds = [load_world(name, device) for name in (model, *([] if against is None else [against]))]
    first = worlds[0].config
    for world in worlds[1:]:
        _same(model, worlds[0], str(against), world)
    _long_enough(seconds, first.fps)
    frames, context = round(max(seconds) * first.fps), max(world.config.context for world in worlds)
    if data is None:
        source = from_game(first, clips, frames, context, config)
    else:
        source = from_data(first, data, split or "heldout", clips, frames, context)
    made = _dreamed(worlds, source, seed)
    plan = planned(clips, seconds, seed)
    order = np.random.Generator(np.random.Philox([seed, 1])).permutation(clips).tolist()
    sides = (source.real, made[0]) if against is None else (made[0], made[1])
    pairs = [_pair(source, sides, plan, n, first.fps, against is not None) for n in order]
    kind = "real" if against is None else "models"
    html, page = blind_page(kind, pairs)
    names = {"dream": shown(model)} if against is None else {"A": shown(model), "B": shown(against)}
    key = {
        "version": VERSION,
        "page": page,
        "kind": kind,
        "question": QUESTIONS[kind],
        "models": names,
        "fps": first.fps,
        "seed": seed,
        "trials": {plan.ids[n]: _answer(source, plan, n, first.fps) for n in order},
        "left_out": list(source.left_out),
        "command": _command(model, out, against, clips, seconds, seed, data, split),
        "hardware": hardware(device),
        "versions": versions(),
    }
    begin(place, KEY)
    write(place / PAGE, html)
    write(place / KEY, key)
    return key


def _dreamed(worlds: Sequence[VideoModel], source: Source, seed: int) -> list[np.ndarray]:
    """The dreams of each world, with a bar."""
    total, done = len(worlds) * source.table.shape[0] * source.table.shape[1], 0
    with bar(Console(stderr=True), "dreaming clips") as show:

        def tick(count: int) -> None:
            nonlocal done
            done += count
            show(done, total)

        return [dreams(world, source, seed, tick) for world in worlds]


def planned(clips: int, seconds: Sequence[float], seed: int) -> Plan:
    """Lengths in equal numbers, sides that are left as often as right (up to one), and ids, all from Philox."""
    random = np.random.Generator(np.random.Philox([seed, 0]))
    lengths = [seconds[n % len(seconds)] for n in random.permutation(clips)]
    left = random.permutation(clips) % 2 == 0
    ids = [f"{word:016x}" for word in random.integers(0, 2**64, clips, dtype=np.uint64).tolist()]
    return Plan(lengths, left, ids)


def _pair(
    source: Source, sides: tuple[np.ndarray, np.ndarray], plan: Plan, number: int, fps: float, before: bool
) -> Pair:
    """The videos of one trial. Both clips begin with the last real frame, from which they go on."""
    length = round(plan.seconds[number] * fps)
    start = source.starts[number].frames
    whole = [np.concatenate([start[-1:], side[number, :length]]) for side in sides]
    left, right = whole if plan.first_left[number] else whole[::-1]
    shown_before = start_video(start[-max(1, round(BEFORE * fps)) :], fps) if before else None
    return Pair(plan.ids[number], pair_video(left, right, fps), shown_before)


def _answer(source: Source, plan: Plan, number: int, fps: float) -> dict[str, Any]:
    """The entry of a trial in key.json; answer: the side of the real game, or of model A."""
    return {
        "answer": "left" if plan.first_left[number] else "right",
        "seconds": plan.seconds[number],
        "frames": round(plan.seconds[number] * fps),
        "start": source.names[number],
        "player": source.players[number],
    }


def _check(clips: int, seconds: Sequence[float], split: str | None, data: object) -> None:
    if split is not None and data is None:
        raise UsageError("--split selects a part of recorded shards; give the shards with --data")
    if clips < 1 or not seconds or len(set(seconds)) < len(seconds):
        raise UsageError("a blind test needs one clip or more, and lengths that differ: --clips 40 --seconds 1.6,3.2")
    for length in seconds:
        if not 0 < length <= LONGEST:
            raise UsageError(f"--seconds {length:g}: a clip has more than 0 and at most {LONGEST:g} seconds")
    if clips < len(seconds):
        raise UsageError(f"{clips} clips cannot have {len(seconds)} lengths; ask for more --clips or fewer --seconds")


def _long_enough(seconds: Sequence[float], fps: float) -> None:
    short = min(seconds)
    if round(short * fps) < SHORTEST:
        raise UsageError(f"--seconds {short:g}: fewer than {SHORTEST} frames at {fps:g} frames/s; ask for longer clips")


def _same(first: str, one: VideoModel, second: str, other: VideoModel) -> None:
    """Raises VidarError naming what differs between two worlds that are to be compared."""
    a, b = one.config, other.config
    for what, mine, theirs in (
        ("frame size", (a.height, a.width), (b.height, b.width)),
        ("frames per second", a.fps, b.fps),
        ("actions", a.spec.names, b.spec.names),
    ):
        if mine != theirs:
            raise VidarError(f"{first} and {second} are not worlds of one game: {what} {mine} and {theirs}")


def _command(
    model: str,
    out: object,
    against: str | None,
    clips: int,
    seconds: Sequence[float],
    seed: int,
    data: object,
    split: str | None,
) -> str:
    given = {"against": against, "clips": clips, "seconds": ",".join(f"{s:g}" for s in seconds), "seed": seed}
    given |= {"data": data, "split": split, "out": out}
    told = [w for name, value in given.items() if value is not None for w in (f"--{name}", shown(value))]
    return shlex.join(["vidar", "eval", "blind", shown(model), *told])
