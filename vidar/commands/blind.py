"""The commands eval blind and eval blind-score: people as judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vidar.commands import show


def blind(
    model: show.World,
    out: Annotated[
        Path, typer.Option(help="Folder for blind.html (for people) and key.json (for you).", show_default=False)
    ],
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A second model: which of both is more like the game?")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 40,
    seconds: Annotated[str, typer.Option(help="Lengths of the clips, with commas between.")] = "1.6,3.2",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the dreams, of the order and of the sides.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder of recorded shards (default: play the fixed ViZDoom games).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the shards (default: heldout).")] = None,
    device: show.Device = "cpu",
    as_json: show.Json = False,
) -> None:
    """Make a page on which people tell the real game from a dream; it opens from its file, without a server."""
    from vidar.check import check_device
    from vidar.eval.blind import KEY, PAGE, run

    made = run(
        model,
        out,
        against=against,
        clips=clips,
        seconds=_seconds(seconds),
        seed=seed,
        data=data,
        split=split,
        device=check_device(device),
    )
    told = {"page": str(out / PAGE), "key": str(out / KEY), "clips": clips, "question": made["question"]}
    told |= {"starts left out": len(made["left_out"])} if made["left_out"] else {}
    show.result({**told, "content": made} if as_json else told, as_json)


def blind_score(
    key: Annotated[Path, typer.Argument(help="key.json, or the folder it is in.", show_default=False)],
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS", help="Files that the page saved.")],
    as_json: show.Json = False,
) -> None:
    """Score what people answered: shares with intervals, by length of the clips, by rater and by player."""
    from vidar.eval.blind_score import run

    made = run(key, answers)
    show.result(made, as_json, _lines(made))


def _seconds(text: str) -> tuple[float, ...]:
    from vidar.types import UsageError

    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"--seconds {text!r}: numbers with commas between are needed, such as 1.6,3.2") from None


def _lines(made: Mapping[str, Any]) -> Iterator[str]:
    yield f"share of {made['share_of']}, {made['raters']} raters; 50 % is guessing"
    rows = {"all": made["all"], **{f"{seconds} s": part for seconds, part in made["by_seconds"].items()}}
    rows |= {f"rater {name}": part for name, part in made["by_rater"].items()}
    rows |= made["by_player"]
    width = max(map(len, rows))
    for name, part in rows.items():
        yield f"  {name:<{width}}  {_share(part)}"
    yield f"median time to answer {made['median_seconds']:.2f} s"


def _share(part: Mapping[str, Any]) -> str:
    gap = f"; {part['unanswered']} unanswered" if part["unanswered"] else ""
    if part["share"] is None:
        return f"no answers{gap}"
    interval = f"{part['low']:.1%} to {part['high']:.1%}"
    return f"{part['share']:6.1%}  {part['hits']} of {part['count']}, 95 % {interval}, p {part['p']:.2g}{gap}"
