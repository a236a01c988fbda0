"""Measured figures of recipes, one file each: results/NAME.json, written by the measuring commands (`--record`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from vidar.config import Config
from vidar.data.atomic import replacing

FOLDER = Path(__file__).with_name("results")
Role = Literal["main", "baseline", "detail"]


class Figure(Config):
    """A number and its 95 % interval.

    name: what was measured, printed after the number; the table cuts it at the first comma.

    role: `main` for the figure that the table shows, `baseline` for the one beside it. digits: decimal places shown.
    signed: the figure is a difference and is printed with its sign.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    digits: int = Field(default=2, ge=0)
    signed: bool = False
    role: Role = "detail"

    def __str__(self) -> str:
        """Format as `+1.16 dB [0.79, 1.53] over copy-last, frames 1-16`."""
        ends = [f"{end:,.{self.digits}f}" for end in (self.low, self.high) if end is not None]
        return " ".join([self._number(), *([f"[{', '.join(ends)}]"] if ends else []), self.name])

    def brief(self) -> str:
        """Format as `+1.16 dB over copy-last`: without the interval, the name up to its first comma."""
        return f"{self._number()} {self.name.partition(',')[0]}"

    def cell(self) -> str:
        """Format as `+1.16 dB [0.79, 1.53] over copy-last`."""
        return str(self.replace(name=self.name.partition(",")[0]))

    def _number(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:{'+' if self.signed else ''},.{self.digits}f}{unit}"


class Measurement(Config):
    """The figures that one command printed. data: a description of the test data; date: ISO 8601."""

    command: str
    data: str
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    figures: tuple[Figure, ...] = Field(min_length=1)
    note: str = ""


class Training(Config):
    """How the measured weights were trained. minutes: total of all runs; arguments: those of `vidar train RECIPE`."""

    minutes: float = Field(gt=0)
    steps: int | None = None
    arguments: str = ""
    note: str = ""


class Results(Config):
    """All measurements of a recipe's weights."""

    recipe: str
    training: Training | None = None
    measurements: tuple[Measurement, ...] = ()

    def figure(self, role: Role) -> Figure | None:
        """The first figure with this role, or None."""
        return next((f for m in self.measurements for f in m.figures if f.role == role), None)

    def beside(self, measurement: Measurement) -> Results:
        """A copy with one more measurement, which replaces an earlier one by the same command."""
        others = [m for m in self.measurements if m.command != measurement.command]
        at = next((n for n, m in enumerate(self.measurements) if m.command == measurement.command), len(others))
        return self.replace(measurements=(*others[:at], measurement, *others[at:]))


def read(recipe: str) -> Results | None:
    """Read the measurements of a recipe; None without any. Raises UsageError if the file does not hold figures."""
    file = FOLDER / f"{recipe}.json"
    return Results(**json.loads(file.read_text())) if file.is_file() else None


def write(results: Results) -> Path:
    """Write the file of a recipe atomically. Raises VidarError if it cannot be written."""
    file = FOLDER / f"{results.recipe}.json"
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(results.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n")
    return file
