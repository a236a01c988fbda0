"""The page of `vidar eval compare`: verdicts, gains start by start, and strips of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidar.eval.comparison import Comparison, Row
from vidar.eval.forest import Line, forest
from vidar.eval.paired import PairedReport
from vidar.eval.plots import ranked
from vidar.eval.report import Card, Mood, Section, code, facts, folded, image, page, plot, table

MOODS: Mapping[str, Mood] = {"better": "good", "worse": "bad", "cannot tell": "open"}
STRIPS = 4  # shown; the others are folded


def compare_page(made: Mapping[str, Any], found: Comparison, reports: Sequence[PairedReport]) -> str:
    """The HTML page. made: as in compare.json."""
    first = found.names[0]
    sections: list[Section] = []
    for name, rows in found.rows.items():
        title = "Figures" if len(found.rows) == 1 else f"Figures of {name}"
        sections.append(
            Section(title, _note(made, first, name), [_forest(found, name, rows), _table(rows, first, name)])
        )
    for name in found.rows:
        title = "Start by start" if len(found.rows) == 1 else f"Start by start, {name}"
        sections.append(_starts(title, found, name))
    strips = _strips(found, reports)
    if strips is not None:
        sections.append(strips)
    sections.append(_method(made))
    worlds = "; ".join(f"{about['name']}: {_world(about)}" for about in made["reports"])
    lead = f"{', '.join(found.rows)} against {first}, suite {made['suite']}, on the same {made['starts']} starts. "
    others = " and ".join(found.rows)
    return page(f"{others} against {first}", lead + f"{worlds}.", _cards(found), sections, kicker="vidar eval compare")


def _world(about: Mapping[str, Any]) -> str:
    size = f", {about['params'] / 1e6:.2f} M parameters" if "params" in about else ""
    steps = f", {about['steps']} {'step' if about['steps'] == 1 else 'steps'}" if "steps" in about else ""
    return f"world '{about.get('world', '?')}'{size}{steps}"


def _cards(found: Comparison) -> list[Card]:
    cards = []
    for name, rows in found.rows.items():
        count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in MOODS}
        mood: Mood = "open"
        if count["better"] and not count["worse"]:
            mood = "good"
        elif count["worse"] and not count["better"]:
            mood = "bad"
        value = f"{count['better']} better, {count['worse']} worse"
        cards.append(Card(value, f"of {len(rows)} figures of {name}", f"{count['cannot tell']} cannot be told", mood))
    name, row = min(((name, row) for name, rows in found.rows.items() for row in rows), key=lambda pair: pair[1].p)
    cards.append(
        Card(f"{row.difference:+.3g}", f"{row.figure}, {name}: the clearest", _interval(row), MOODS[row.verdict]),
    )
    return cards


def _note(made: Mapping[str, Any], first: str, name: str) -> str:
    least = 2.0 / 2 ** made["starts"]
    few = f" With {made['starts']} starts no p-value can be below {least:.2g}." if least > made["level"] / 20 else ""
    return (
        f"Right of the middle, {name} is better than {first}. The plot is in standard deviations of the differences "
        "between starts, so that all figures fit on one scale; the bar is the 95 % interval. A figure is called better "
        f"or worse if its p-value, corrected for {made['tests']} tests, is at most {made['level']:g}; otherwise these "
        f"starts cannot tell.{few}"
    )


def _forest(found: Comparison, name: str, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        gains = found.gains[name][row.figure]
        size = float(gains.std(ddof=1)) or float(np.abs(gains).max()) or 1.0
        ends = (row.low / size, row.high / size) if row.better == "higher" else (-row.high / size, -row.low / size)
        lines.append(Line(row.figure, float(gains.mean()) / size, *ends, row.verdict, MOODS[row.verdict]))
    return forest(lines, "worse", "better")


def _table(rows: Sequence[Row], first: str, name: str) -> str:
    head = ["figure", "verdict", first, name, "difference", "95 % interval", "p", "corrected", "won, lost, tied"]
    cells = [
        [
            f"{row.figure} ({row.better} is better)",
            row.verdict,
            f"{row.first:.4g}",
            f"{row.mean:.4g}",
            f"{row.difference:+.3g}",
            _interval(row),
            f"{row.p:.2g}",
            f"{row.p_holm:.2g}",
            f"{row.wins}, {row.losses}, {row.ties}",
        ]
        for row in rows
    ]
    return table(head, cells, [MOODS[row.verdict] for row in rows])


def _interval(row: Row) -> str:
    return f"{row.low:+.3g} to {row.high:+.3g}"


def _starts(title: str, found: Comparison, name: str) -> Section:
    pieces = []
    for row in found.rows[name]:
        caption = f"{row.figure}: better at {row.wins} of {row.wins + row.losses + row.ties} starts"
        pieces.append(
            plot(ranked(found.gains[name][row.figure], "gain", "starts, from the worst to the best"), caption)
        )
    note = "The gain at each start, in the units of the figure; positive is better, whichever way the figure counts."
    return Section(title, note, pieces)


def _strips(found: Comparison, reports: Sequence[PairedReport]) -> Section | None:
    """Strips of the same starts, one report below the other; those with the largest differences first."""
    each = [report.strips() for report in reports]
    shared = [name for name in each[0] if all(name in strips for strips in each)]
    if not shared:
        return None
    starts = reports[0].figures.pairing.get("starts", [])
    name, rows = next(iter(found.rows.items()))
    gains = found.gains[name][rows[0].figure]
    size = {start: abs(float(gain)) for start, gain in zip(starts, gains) if isinstance(start, str)}
    shared.sort(key=lambda start: -size.get(start, 0.0))
    groups = [
        "".join(
            image(strips[start], f"{start}: {name}. Top row: the game; bottom row: the dream", report.heads())
            for name, report, strips in zip(found.names, reports, each)
        )
        for start in shared
    ]
    pieces = groups[:STRIPS]
    if len(groups) > STRIPS:
        pieces.append(folded(f"{len(groups) - STRIPS} more", f"<div>{''.join(groups[STRIPS:])}</div>"))
    order = f"Starts with the largest difference in {rows[0].figure} first. " if size else ""
    return Section("Side by side", f"{order}The same starts and keys, one report below the other.", pieces)


def _method(made: Mapping[str, Any]) -> Section:
    exact = made["sign_choices"] == 2 ** made["starts"]
    signs = (
        f"all {made['sign_choices']:,} choices of signs"
        if exact
        else f"{made['sign_choices']:,} drawn choices of signs"
    )
    rows = {
        "Pairs": f"{made['starts']} starts of suite {made['suite']}, the same ones in every report",
        "Interval": f"95 %, paired bootstrap over starts, {made['resamples']:,} resamples, expanded percentiles",
        "p-value": f"two-sided sign-flip test, {signs}; corrected by Holm over {made['tests']} tests",
        "Left out": "; ".join(f"{figure} ({why})" for figure, why in made["left_out"].items()) or "nothing",
        "Reports": "; ".join(f"{about['name']}: {about.get('command', about['file'])}" for about in made["reports"]),
    }
    return Section(
        "How it was compared", "The command below makes this page again.", [facts(rows), code(made["command"])]
    )
