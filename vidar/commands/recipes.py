"""Commands on recipes: train, config, systems, budget, order."""

from __future__ import annotations

import shutil
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer

from vidar.commands import show

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe (see `vidar systems`) or a file.yaml.")]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="name=value of the recipe, a.b=value in its result."),
]


def train(
    recipe: Recipe,
    assignments: Assignments = None,
    resume: Annotated[
        str | None, typer.Option(help="'auto' continues from the newest checkpoint of --out; or a checkpoint.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME).")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... (default: cuda where there is one).")
    ] = None,
    as_json: show.Json = False,
) -> None:
    """Train what a recipe describes and export it to OUT/model."""
    from dataclasses import asdict

    from vidar.check import check_device, check_training
    from vidar.configs.catalog import resolve_recipe
    from vidar.train.fit import fit

    where = check_device(device) if device else None
    made = fit(check_training(resolve_recipe(recipe, assignments or ())), out, resume, where)
    show.result(asdict(made), as_json)
    if made.stopped:
        raise typer.Exit(128 + Signals[made.stopped])


def config(recipe: Recipe, assignments: Assignments = None) -> None:
    """Print the resolved recipe as YAML, which `vidar train` accepts."""
    from vidar.config import to_yaml
    from vidar.configs.catalog import resolve_recipe

    typer.echo(to_yaml(resolve_recipe(recipe, assignments or ())), nl=False)


def systems(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="A recipe, or a word of those that are shown in full.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print what configs/README.md holds of the table.")
    ] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Print what every kind of order can do, or why not.")
    ] = False,
    as_json: show.Json = False,
) -> None:
    """Print the table of systems: every recipe, its size, its order, what was measured."""
    from vidar.configs import features as able
    from vidar.configs import table

    if features:
        known = able.table()
        return show.result(known, as_json, able.listing(known, shutil.get_terminal_size((100, 24)).columns))
    if markdown:
        return show.result({}, False, table.markdown().splitlines())
    found, width = table.entries(word), shutil.get_terminal_size((100, 24)).columns
    records = [one.record() for one in found] if as_json else []
    show.result(records, as_json, table.details(found, width) if word else table.listing(found, width))


def budget(recipe: Recipe, assignments: Assignments = None, as_json: show.Json = False) -> None:
    """Print parameters, cache and training memory of a recipe without allocating anything."""
    from vidar.configs.catalog import resolve_recipe
    from vidar.eval.budget import budget as run

    show.result(run(resolve_recipe(recipe, assignments or ())), as_json)


def order(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe of a world, or an example such as ring.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write (PNG).")] = None,
    units: Annotated[int, typer.Option(help="Frames of a recipe's order that are drawn.")] = 4,
    explain: Annotated[
        tuple[int, int] | None, typer.Option(metavar="U V", help="Say why unit U sees or needs unit V, or not.")
    ] = None,
) -> None:
    """Draw units, waves and the mask of every relation of an order."""
    from vidar.eval.draw_order import draw, find_order
    from vidar.eval.draw_order import explain as words
    from vidar.types import UsageError

    if out is None and explain is None:
        raise UsageError("order needs --out x.png or --explain U V")
    found = find_order(name, units)
    lines = words(*found, *explain) if explain else []
    if out is not None:
        draw(*found, out, title=name)
        lines = [str(out), *lines]
    show.result({}, False, lines)
