"""Commands on recipes: train, config, systems, budget, order."""

from __future__ import annotations

import shutil
from pathlib import Path
from signal import Signals
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from vidar.commands import show

HELP = ("-h", "--help")
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="Name of a recipe (`vidar systems`), a .yaml file, or PACKAGE.FUNCTION of a trusted package.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="An argument of the recipe (batch=16) or a config field (optim.lr=5e-4)."),
]


class RecipeCommand(TyperCommand):
    """A command on a recipe: with --help and the name of one, it prints the parameters of that recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, or print the help of a recipe and exit."""
        words = [word for word in args if word not in HELP]
        if len(words) < len(args) and any(not word.startswith("-") for word in words):
            super().parse_args(ctx, words)
            recipe_help(ctx.params["recipe"])
            ctx.exit()
        return super().parse_args(ctx, args)


def recipe_help(name: str) -> None:
    """Print the parameters of a recipe. Raises UsageError if there is no such recipe."""
    from vidar.configs.catalog import find
    from vidar.configs.parameters import described

    lines = described(name, find(name), shutil.get_terminal_size((100, 24)).columns)
    show.result({}, False, [f"Usage: vidar train {name} [KEY=VALUE]... [OPTIONS]", "", *lines])
    show.result({}, False, ["`vidar train --help` lists the options."])


def train(
    recipe: Recipe,
    assignments: Assignments = None,
    trust: show.Trust = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue from a checkpoint; 'auto' takes the newest one in --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME).")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to train on: cpu, cuda, cuda:1, ... (default: cuda if there is one).")
    ] = None,
    cache: show.Cache = None,
    cache_limit: show.CacheLimit = None,
    as_json: show.Json = False,
) -> None:
    """Train a recipe and export the model to OUT/model. `vidar train RECIPE --help` lists the parameters of RECIPE."""
    from dataclasses import asdict

    from vidar.check import check_alone, check_device, check_training
    from vidar.configs.catalog import resolve_recipe
    from vidar.configs.next_command import next_command
    from vidar.data.cache import keep_in
    from vidar.model.trained import FEW_STEPS
    from vidar.train.fit import fit

    check_alone()
    keep_in(cache, cache_limit)
    where = check_device(device) if device else None
    resolved = check_training(resolve_recipe(recipe, assignments or ()))
    made = fit(resolved, out, resume, where)
    now = None if made.model is None else next_command(made.model, recipe, resolved.name, assignments or ())
    if now is not None and made.step < FEW_STEPS:
        show.warn(f"only {made.step} steps: expect noise or blur; to train on, give more minutes and --resume auto")
    record = {**asdict(made), "now": now}
    show.result(record, as_json, [*show.flat(asdict(made)), *([] if now is None else [f"now: {now}"])])
    if made.stopped:
        raise typer.Exit(128 + Signals[made.stopped])


def config(recipe: Recipe, assignments: Assignments = None, trust: show.Trust = None) -> None:
    """Print the resolved config of a recipe as YAML; `vidar train` accepts the file."""
    from vidar.config import to_yaml
    from vidar.configs.catalog import resolve_recipe

    typer.echo(to_yaml(resolve_recipe(recipe, assignments or ())), nl=False)


def systems(
    word: Annotated[
        str | None,
        typer.Argument(metavar="WORD", help="Show all details of one recipe, or list the recipes that match a word."),
    ] = None,
    status: Annotated[
        Literal["trainable", "measured", "shipped"] | None, typer.Option(help="List the recipes with this status.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List every recipe with its main figure; with WORD, show all details.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as in configs/README.md.")] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Print which features each kind of order supports, or why it does not.")
    ] = False,
    as_json: show.Json = False,
) -> None:
    """List the systems: where to begin and the names of the recipes, or their sizes, orders and measured results."""
    from vidar.configs import features as able
    from vidar.configs import table

    if features:
        known = able.table()
        return show.result(known, as_json, able.listing(known, shutil.get_terminal_size((100, 24)).columns))
    if markdown:
        return show.result({}, False, table.markdown().splitlines())
    found, width = table.entries(word, status), shutil.get_terminal_size((100, 24)).columns
    records = [one.record() for one in found] if as_json else []
    if word is not None and (everything or len(found) == 1):
        lines = table.details(found, width)
    else:
        lines = table.listing(found, width) if word or status or everything else table.brief(found, width)
    show.result(records, as_json, lines)


def budget(
    recipe: Recipe, assignments: Assignments = None, trust: show.Trust = None, as_json: show.Json = False
) -> None:
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


TAKE_RECIPES = (train, config, budget)
