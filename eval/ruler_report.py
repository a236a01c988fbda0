"""The page of the suite `ruler`: strips of every player first, then the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidar.eval.report import Card, Section, code, image, page, table


def ruler_page(report: Mapping[str, Any], strips: Mapping[str, bytes], marks: Sequence[float]) -> str:
    """The HTML page. report: as in report.json; strips: PNG of each player; marks: seconds of their columns."""
    seconds = report["frames"] / report["fps"]
    lead = (
        f"{report['params'] / 1e6:.2f} M parameters are played as people play, {seconds:.0f} s each from "
        f"{report['starts']} places of the real game; the game gets the same keys. {report['hardware']}."
    )
    heads = [f"{mark:g} s" for mark in marks]
    pieces = [
        image(png, f"{name}: game and dream of the first start, then of the worst one if it is another", heads)
        for name, png in strips.items()
    ]
    note = "Each pair of rows has the same keys, the game above the dream. The first column is the last real frame."
    again = (
        "command to repeat this report; an interrupted run goes on where it stopped",
        code(report["command"]),
    )
    sections = [
        Section("What the players see", note, pieces),
        _figures(report),
        _held(report),
        _seen_again(report),
        Section("Again", again[0], [again[1]]),
    ]
    return page(f"World '{report['world']}'", lead, _cards(report), sections, kicker="vidar eval, suite ruler")


def _cards(report: Mapping[str, Any]) -> list[Card]:
    on, worst = report["on_manifold"], report["worst_player"]
    held = report["idle_held_db"]
    last = list(held[""])[-1] if held[""] else None
    cards = [
        Card(f"{on['model']:.0%}", "of dreamed frames look like this game", f"the game itself: {on['real']:.1%}"),
        Card(f"{worst['on_manifold']:.0%}", f"for the worst player, {worst['name']}"),
    ]
    if last is not None:
        cards.append(
            Card(
                f"{_db(held[''][last])} dB",
                f"to the first frame after {last} s without keys (median)",
                f"worst start {_db(held['_worst'][last])} dB",
            )
        )
    return cards


def _figures(report: Mapping[str, Any]) -> Section:
    rows = []
    for name, one in report["players"].items():
        off, worst, motion = one["off_manifold"], one["off_manifold_worst_segment"], one["motion"]
        rows.append(
            [
                name,
                *(f"{off[who]:.1%}" for who in ("model", "real")),
                *(f"{worst[who]:.1%}" for who in ("model", "real")),
                *(f"{motion[who]:.2f}" for who in ("model", "real")),
            ]
        )
    head = ["player", "not this game", "(the game)", "worst 2 s", "(the game)", "change per frame", "(the game)"]
    note = (
        "Share of frames that do not look like frames of this game. The threshold flags 1 % of other real play. "
        "The change is the mean absolute difference of neighbouring frames in grey levels."
    )
    return Section("On and off the game", note, [table(head, rows)])


def _held(report: Mapping[str, Any]) -> Section:
    rows = []
    for name, one in report["players"].items():
        for what, by in (("the game", one["truth_db"]["model"]), ("copy-last", one["truth_db"]["copy_last"])):
            rows.append([f"{name}: {what}", *(_db(value) for value in by.values())])
    idle = report["players"]["idle"]
    for name, by in (("median", idle["held_db"]), ("worst", idle["held_db_worst"])):
        rows.append([f"idle, to the first frame: {name}", *(_db(value) for value in by["model"].values())])
    head = ["PSNR in dB, median over the starts", *(f"{mark} s" for mark in idle["held_db"]["model"])]
    note = "The dream against the game under the same keys, beside the last real frame repeated; and idle against it."
    return Section("Fidelity", note, [table(head, rows)])


def _seen_again(report: Mapping[str, Any]) -> Section:
    rows = [
        [f"{name}, after {gap} s", str(pair["views"]), _db(pair["model"]), _db(pair["real"])]
        for name, one in report["players"].items()
        for gap, pair in one["seen_again_db"].items()
    ]
    head = ["player", "views", "dream, dB", "game, dB"]
    note = (
        "A view of the dream against the same view of the same dream some seconds before, with another view between. "
        "The poses of the real game tell which views are the same. PSNR, median."
    )
    return Section("Seen again", note, [table(head, rows)])


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
