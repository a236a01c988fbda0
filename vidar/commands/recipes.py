"""Commands on recipes: train, config, systems, budget, order."""

from __future__ import annotations

import shutil
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer

from vidar.commands import show

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe (`vidar systems`), or a .yaml file.")]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="An argument of the recipe (batch=16) or a config field (optim.lr=5e-4)."),
]


def train(
    recipe: Recipe,
    assignments: Assignments = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue from a checkpoint; 'auto' takes the newest one in --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME).")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to train on: cpu, cuda, cuda:1, ... (default: cuda if there is one).")
    ] = None,
    as_json: show.Json = False,
) -> None:
    """Train a recipe and export the model to OUT/model."""
    from dataclasses import asdict

    from vidar.check import check_device, check_training
    from vidar.configs.catalog import resolve_recipe
    from vidar.configs.next_command import FEW_STEPS, next_command
    from vidar.train.fit import fit

    where = check_device(device) if device else None
    resolved = check_training(resolve_recipe(recipe, assignments or ()))
    made = fit(resolved, out, resume, where)
    now = None if made.model is None else next_command(made.model, resolved.name, assignments or ())
    if now is not None and made.step < FEW_STEPS:
        show.warn(
            f"only {made.step} steps of training: expect noise or blur. To train on, give more minutes and --resume auto"
        )
    record = {**asdict(made), "now": now}
    show.result(record, as_json, [*show.flat(asdict(made)), *([] if now is None else [f"now: {now}"])])
    if made.stopped:
        raise typer.Exit(128 + Signals[made.stopped])


def config(recipe: Recipe, assignments: Assignments = None) -> None:
    """Print the resolved config of a recipe as YAML; `vidar train` accepts the file."""
    from vidar.config import to_yaml
    from vidar.configs.catalog import resolve_recipe

    typer.echo(to_yaml(resolve_recipe(recipe, assignments or ())), nl=False)


def systems(
    word: Annotated[
        str | None,
        typer.Argument(metavar="WORD", help="Show all details of one recipe, or of every recipe that matches a word."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as in configs/README.md.")] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Print which features each kind of order supports, or why it does not.")
    ] = False,
    as_json: show.Json = False,
) -> None:
    """List the systems: every recipe with its size, its order and its measured results."""
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
    """Print the parameters, cache size and training memory of a recipe without allocating them."""
    from vidar.configs.catalog import resolve_recipe
    from vidar.eval.budget import budget as run

    show.result(run(resolve_recipe(recipe, assignments or ())), as_json)


def order(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a world recipe, or of an example order such as ring.")
    ],
    out: Annotated[Path | None, typer.Option(help="PNG file to write.")] = None,
    units: Annotated[int, typer.Option(help="Number of frames to draw, for the order of a recipe.")] = 4,
    explain: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="U V", help="Explain why unit U does or does not see, and need, unit V."),
    ] = None,
) -> None:
    """Draw an order: its units, its waves and the attention mask of every relation."""
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
