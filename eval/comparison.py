"""Paired statistics of reports: every figure of every report against the first one, start by start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vidar.eval.bootstrap import bootstrap
from vidar.eval.paired import Better, PairedReport, check_pairing
from vidar.eval.provenance import shown
from vidar.eval.sign_flip import holm, sign_flip
from vidar.types import UsageError

LEVEL = 0.05  # of the corrected p-value
Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Row:
    """One figure of a report against the first report, over N starts.

    first, mean: means of both. difference: mean of this report minus the first, with its 95 % interval. p: of the
    sign-flip test; p_error: its standard error, 0 where it is exact; p_holm: corrected for all tests of the table.
    wins, losses, ties: starts at which this report is better, worse, equal. verdict: what p_holm allows to say.
    """

    figure: str
    better: Better
    first: float
    mean: float
    difference: float
    low: float
    high: float
    p: float
    p_error: float
    p_holm: float
    wins: int
    losses: int
    ties: int
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """names: of the reports, the first is the one that the others are compared with; rows: name -> its rows.

    gains: name -> figure -> [N], the differences with the sign in which positive is better. left_out: figures that a
    report lacks, with the reason.
    """

    names: tuple[str, ...]
    rows: Mapping[str, Sequence[Row]]
    gains: Mapping[str, Mapping[str, np.ndarray]]
    left_out: Mapping[str, str]


def compare(reports: Sequence[PairedReport], seed: int = 0) -> Comparison:
    """Every report against the first. Raises UsageError if they are not of the same starts, or share no figure.

    Choice: Holm's correction is over all tests of the table, those of every figure and every report together.
    """
    check_pairing(reports)
    names, first = _names(reports), reports[0].figures
    shared, gone = _shared(names, reports)
    before = {figure: np.array(first.values[figure], dtype=np.float64) for figure in shared}
    rows: list[tuple[str, Row]] = []
    gains: dict[str, dict[str, np.ndarray]] = {}
    for name, report in zip(names[1:], reports[1:]):
        after = {figure: np.array(report.figures.values[figure], dtype=np.float64) for figure in shared}
        low, high = bootstrap(np.stack([after[figure] - before[figure] for figure in shared], 1), seed)
        gains[name] = {}
        for place, figure in enumerate(shared):
            ends = float(low[place]), float(high[place])
            row, gain = _row(figure, first.better[figure], before[figure], after[figure], ends, seed)
            rows.append((name, row))
            gains[name][figure] = gain
    found: dict[str, list[Row]] = {name: [] for name in names[1:]}
    for (name, row), corrected in zip(rows, holm([row.p for _, row in rows])):
        verdict = _verdict(float(gains[name][row.figure].mean()), corrected)
        found[name].append(replace(row, p_holm=corrected, verdict=verdict))
    return Comparison(names, found, gains, gone)


def _row(
    figure: str, better: Better, before: np.ndarray, after: np.ndarray, ends: tuple[float, float], seed: int
) -> tuple[Row, np.ndarray]:
    """A row that is not corrected yet, and the gains."""
    difference = after - before
    gain, test = difference if better == "higher" else -difference, sign_flip(difference, seed)
    row = Row(
        figure=figure,
        better=better,
        first=float(before.mean()),
        mean=float(after.mean()),
        difference=float(difference.mean()),
        low=ends[0],
        high=ends[1],
        p=test.value,
        p_error=test.error,
        p_holm=test.value,
        wins=int((gain > 0).sum()),
        losses=int((gain < 0).sum()),
        ties=int((gain == 0).sum()),
        verdict="cannot tell",
    )
    return row, gain


def _verdict(gain: float, corrected: float) -> Verdict:
    if corrected > LEVEL or gain == 0.0:
        return "cannot tell"
    return "better" if gain > 0 else "worse"


def _shared(names: Sequence[str], reports: Sequence[PairedReport]) -> tuple[list[str], dict[str, str]]:
    """The figures that all reports have, and the others with the reason. Raises UsageError if nothing is left."""
    every = dict.fromkeys(figure for report in reports for figure in (*report.figures.values, *report.figures.left_out))
    shared, gone = list[str](), dict[str, str]()
    for figure in every:
        lacking = [(n, r) for n, r in zip(names, reports) if figure not in r.figures.values]
        if lacking:
            name, report = lacking[0]
            gone[figure] = f"{name}: {report.figures.left_out.get(figure, 'not a figure of this report')}"
            continue
        for report in reports[1:]:
            if report.figures.better[figure] != reports[0].figures.better[figure]:
                raise UsageError(
                    f"{reports[0].file} and {report.file} disagree on which numbers of {figure!r} are good"
                )
        shared.append(figure)
    if not shared:
        raise UsageError(f"{reports[0].file} and the other reports share no figure; evaluate them with one vidar")
    return shared, gone


def _names(reports: Sequence[PairedReport]) -> tuple[str, ...]:
    """Short names that are different: the folder, or the path where folders are called the same, or a number."""
    for names in ([report.file.parent.name for report in reports], [shown(report.file.parent) for report in reports]):
        if len(set(names)) == len(names) and all(names):
            return tuple(names)
    return tuple(f"{report.file.parent.name} ({number})" for number, report in enumerate(reports, 1))
