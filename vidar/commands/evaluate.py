"""The command eval: a model by a suite, and what else is measured without one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vidar.commands import show

DEFAULT = "model"  # the command of `vidar eval MODEL --suite ...`


class EvalCommands(TyperGroup):
    """The commands below `vidar eval`; a first word that names none of them is a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; `model` is put before what names no command and is no option of the group."""
        own = {*self.commands, *(option for parameter in self.params for option in parameter.opts), "--help", "-h"}
        if args and args[0] not in own:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def evaluate(
    model: show.World,
    suite: Annotated[
        str,
        typer.Option(
            help="quick: the ruler in two minutes; ruler: as people play; world: accuracy on held-out games; endless: "
            "long rollouts; outcome: reward and end of episode.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Folder of recorded shards (default: play the suite's fixed ViZDoom games).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the shards (default: heldout).")] = None,
    episodes: Annotated[
        int | None, typer.Option(min=2, help="Number of episodes or endless rollouts (default: the suite's).")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=16, help="Frames to generate per episode (default: the suite's).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the dreams and of the games (default: 0).")] = None,
    steps: show.Steps = None,
    idm: Annotated[
        Path | None,
        typer.Option(help="Inverse-dynamics model that computes the action scores (default: the shipped one)."),
    ] = None,
    game: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Real game of the ruler: a ViZDoom scenario, or shapes (default: by actions)."
        ),
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="MODEL", help="Another model of this game, beside it.")] = None,
    no_memory: show.NoMemory = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one for each core).")] = None,
    device: Annotated[str | None, typer.Option(help="Device to run on: cpu, cuda, ... (default: cpu).")] = None,
    record: show.Record = None,
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Evaluate a world with a fixed protocol and write a report."""
    from vidar.check import check_device
    from vidar.data.cache import keep_in
    from vidar.eval.suites import run_suite

    keep_in(cache)
    options = {
        "data": data, "split": split, "episodes": episodes, "frames": frames, "seed": seed, "steps": steps, "idm": idm,
        "game": game, "against": against, "workers": workers, "no-memory": no_memory or None,
        "device": None if device is None else check_device(device),
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    made = run_suite(suite, model, out, given, record)
    shown = {name: value for name, value in made.items() if name in show.HEADLINES}
    show.result(made, as_json, show.flat({**shown, "report": str(out / "report.html")}))
