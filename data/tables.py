"""Tables of actions: CSV, JSON Lines or Parquet -> numbers by column, with the line each row was read from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from vidar import DISTRIBUTION
from vidar.data.text import read_text
from vidar.types import VidarError

Place = Literal["frame", "time"]
PLACES: tuple[Place, ...] = ("frame", "time")
TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Table:
    """A table of R rows.

    values: float64 [R, A], the columns in the order that was asked for. lines: the number of each row in the file, in
    units of `unit`. by: the column that says where a row belongs ("": there is none); places: its values, float64 [R].
    """

    file: Path
    values: np.ndarray
    lines: Sequence[int]
    unit: str
    by: Place | Literal[""]
    places: np.ndarray

    def problem(self, row: int, text: str) -> VidarError:
        """An error that names the file and the line of a row."""
        return VidarError(f"{self.file}: {self.unit} {self.lines[row]}: {text}")


@dataclass(frozen=True)
class Cells:
    """header: the column names. rows: the cells of each row; lines: its number in the file, in units of `unit`."""

    header: list[str]
    rows: list[Sequence[Any]]
    lines: list[int]
    unit: str = "line"


def read_table(file: Path, columns: Sequence[str]) -> Table:
    """Read a table by its suffix: .csv, .jsonl or .parquet.

    The file has exactly these columns, in any order, and at most one column more, `frame` or `time`. A cell is a
    number, true or false. Raises VidarError naming file, line and column for anything else.
    """
    cells = READERS[file.suffix.lower()](file)
    places: list[Place] = [name for name in PLACES if name in cells.header and name not in columns]
    if sorted(cells.header) != sorted([*columns, *places]):
        raise VidarError(
            f"{file}: header is {', '.join(cells.header) or 'empty'}; expected {', '.join(columns)}, separated "
            "by commas, and if wanted `frame` or `time`"
        )
    if len(places) > 1:
        raise VidarError(f"{file}: has a column `frame` and a column `time`; remove one of them")
    order = [cells.header.index(name) for name in (*columns, *places)]
    numbers = np.zeros((len(cells.rows), len(order)))
    for row, (line, found) in enumerate(zip(cells.lines, cells.rows)):
        for target, source in enumerate(order):
            try:
                numbers[row, target] = _number(found[source])
            except (TypeError, ValueError, OverflowError) as error:
                where = f"{file}: {cells.unit} {line}: {cells.header[source]!r}"
                raise VidarError(f"{where} {_wrong(found[source], error)}") from None
    width = len(columns)
    last = numbers[:, width] if places else np.zeros(0)
    return Table(file, numbers[:, :width], cells.lines, cells.unit, places[0] if places else "", last)


def _number(cell: Any) -> float:
    if isinstance(cell, str):
        text = cell.strip()
        if "_" in text:  # Python reads 1_0 as 10
            raise ValueError
        return TRUTH[text.lower()] if text.lower() in TRUTH else float(text)
    return float(cell)


def _wrong(cell: Any, error: Exception) -> str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is empty; every cell needs a number"
    if isinstance(error, OverflowError):
        return "is too large for a number"
    comma = "; write 0.5, not 0,5" if isinstance(cell, str) and "," in cell else ""
    return f"is {str(cell)[:40]!r}, which is not a number{comma}"


def read_csv(file: Path) -> Cells:
    """The cells of a CSV file as text; empty lines at its end are dropped. Raises VidarError naming file and line."""
    rows: list[Sequence[Any]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise VidarError(f"{file}: cannot be read as CSV: {error}; write it as UTF-8 text") from None
    while rows and not "".join(rows[-1]).strip():
        rows.pop()
    header = [name.strip() for name in rows[0]] if rows else []
    for line, row in zip(lines[1:], rows[1:]):
        if not "".join(row).strip():
            raise VidarError(f"{file}: line {line}: is empty; remove the line or fill it in")
        if len(row) != len(header):
            comma = "; write 0.5, not 0,5" if len(row) > len(header) else ""
            raise VidarError(f"{file}: line {line}: {len(row)} cells, the header has {len(header)} columns{comma}")
    return Cells(header, rows[1:], lines[1 : len(rows)])


def read_jsonl(file: Path) -> Cells:
    """The values of a file with one JSON object per line, all with the same keys. Raises VidarError naming the line."""
    text = read_text(file).rstrip()
    header: list[str] = []
    rows: list[Sequence[Any]] = []
    for line, part in enumerate(text.split("\n") if text else (), 1):
        try:
            pairs = json.loads(part, object_pairs_hook=list)
        except (ValueError, RecursionError):
            pairs = None
        if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in cast(list[Any], pairs)):
            raise VidarError(f'{file}: line {line}: is not a JSON object such as {{"left": 0, "right": 1}}')
        keys = [str(key) for key, _ in cast(list[tuple[str, Any]], pairs)]
        header = header or keys
        if sorted(keys) != sorted(header):
            raise VidarError(f"{file}: line {line}: has {', '.join(keys) or 'no keys'}; line 1 has {', '.join(header)}")
        found = dict(cast(list[tuple[str, Any]], pairs))
        rows.append([found[key] for key in header])
    return Cells(header, rows, list(range(1, len(rows) + 1)))


def _read_parquet(file: Path) -> Cells:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise VidarError(
            f"{file}: needs the package pyarrow: pip install '{DISTRIBUTION}[parquet]'; or write the table as .csv"
        ) from None
    try:
        table = parquet.read_table(file)
        columns = [column.to_pylist() for column in table.columns]
    except (OSError, ValueError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        raise VidarError(f"{file}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return Cells(list(table.column_names), list(zip(*columns)), list(range(table.num_rows)), "row")


READERS: dict[str, Callable[[Path], Cells]] = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": _read_parquet}
