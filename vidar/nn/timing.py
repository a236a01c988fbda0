"""Timing attention forms against each other, and storing the result: the first answer on a machine is kept.

Two forms may be equally fast, and another form means other last digits. A choice is therefore made once: it is timed
under a lock and stored on disk, and every process that asks later, or at the same time, reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from time import perf_counter

import torch

from vidar.data.atomic import replacing
from vidar.data.cache import locked, say
from vidar.types import VidarError

TURNS = 5  # turns of every form after the first, which is the warm-up
BUDGET_S = 0.2  # no more turns after this; there are always two if more than one form may win
BEHIND = 2.0  # a form slower than this multiple of the best time of a turn is not run again
LEAD = 1.1  # factor by which a form must be faster than the one used without timing

Times = dict[str, float]


def times(forms: Mapping[str, Callable[[], object]], clock: Callable[[], float] = perf_counter) -> Times:
    """The best time of each form in seconds, run alternately (A, B, A, B)."""

    def spent(name: str) -> float:
        start = clock()
        forms[name]()
        return clock() - start

    begun = clock()
    for form in forms.values():
        form()
    first = {name: spent(name) for name in forms}
    near = [name for name in forms if first[name] <= BEHIND * min(first.values())]
    turns = [first]
    while len(near) > 1 and (len(turns) < 2 or (len(turns) < TURNS and clock() - begun < BUDGET_S)):
        turns.append({name: spent(name) for name in near})
    return first | {name: min(turn[name] for turn in turns) for name in near}


def fastest(found: Times, incumbent: str) -> str:
    """The fastest form, or the incumbent unless another is clearly faster."""
    best = min(found, key=lambda name: found[name])
    return best if found[best] * LEAD < found[incumbent] else incumbent


def machine() -> str:
    """What times depend on besides the case: the processor, its instructions, torch, the number of threads."""
    can = torch.cpu.get_capabilities()
    digest = hashlib.sha256(repr(sorted(can.items())).encode()).hexdigest()[:10]
    name = can.get("cpu_name", can.get("architecture", "cpu"))
    return f"{name} {digest}, torch {torch.__version__}, {torch.get_num_threads()} threads"


class Kept:
    """Answers in a JSON file of this folder: {machine: {case: {"form": .., "ms": {form: ..}}}}."""

    def __init__(self, folder: Path) -> None:
        self.file, self.lock = folder / "attention.json", folder / "attention.lock"

    def answer(self, case: str, names: Collection[str], incumbent: str, measure: Callable[[], Times]) -> str:
        """The form of a case among `names`, as stored, or else measured and stored.

        It is the incumbent if storing is impossible. A damaged file counts as empty and is made again, with one line.
        """
        known = self._read(case, names)
        if known is not None:
            return known
        try:
            with locked(self.lock):
                known = self._read(case, names)
                if known is None:
                    if self.file.is_file() and not self._all():
                        say(f"{self.file}: damaged; the attention forms are timed again")
                    found = measure()
                    known = fastest(found, incumbent)
                    self._write(case, {"form": known, "ms": {name: round(1e3 * s, 3) for name, s in found.items()}})
                return known
        except (OSError, VidarError):
            return incumbent

    def _all(self) -> dict[str, dict[str, object]]:
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return {key: part for key, part in found.items() if isinstance(part, dict)} if isinstance(found, dict) else {}

    def _read(self, case: str, names: Collection[str]) -> str | None:
        told = self._all().get(machine(), {}).get(case)
        form = told.get("form") if isinstance(told, dict) else None
        return form if form in names else None

    def _write(self, case: str, told: dict[str, object]) -> None:
        every = self._all()
        every.setdefault(machine(), {})[case] = told
        with replacing(self.file) as temporary:
            temporary.write_text(json.dumps(every, indent=1))
