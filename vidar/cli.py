"""The command line: `vidar COMMAND`. Every command is a thin wrapper around functions of the library.

This module does not import torch; a command imports the library when it runs. Exit codes: 0 ok, 1 failed, 2 wrong
usage, 130 interrupted. An error is printed as one line on stderr.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vidar import __version__
from vidar.commands import (
    blind,
    compare,
    convert,
    data,
    evaluate,
    faults,
    layout,
    machine,
    play,
    recipes,
    reconstruction,
    replay,
    show,
    synth,
    vbench,
    videos,
    world,
)
from vidar.printable import one_line

INTERRUPTED = 130
REFUSED: Any = typer.BadParameter.__mro__[2]  # ClickException; some releases of typer bundle their own copy of click


class Commands(TyperGroup):
    """The group of all commands. It turns every error into one line on stderr and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line and exit; with `standalone_mode=False` return the exit code instead."""
        code = exit_code(lambda: super(Commands, self).main(*args, standalone_mode=False, **extra))
        if standalone_mode:
            sys.exit(code)
        return code


def exit_code(command: Any) -> int:
    """Call `command`, print its error as one line on stderr, and return the exit code."""
    try:
        returned = command()
        code = returned if isinstance(returned, int) else 0
        return refuse("interrupted", code) if code == INTERRUPTED else code
    except REFUSED as error:
        return refuse(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has exited, as in `vidar systems | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except Exception as error:
        types = sys.modules.get("vidar.types")  # None: no code of the library has run yet
        if types is None or not isinstance(error, types.VidarError):
            raise
        return refuse(str(error), 2 if isinstance(error, types.UsageError) else 1)


def refuse(message: str, code: int) -> int:
    """Print `message` as one line on stderr and return `code`."""
    print(f"vidar: {one_line(message)}", file=sys.stderr)
    return code


app = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Inspect, validate, preview and convert data sets.")
eval_app = typer.Typer(cls=evaluate.EvalCommands, help="Evaluate a model by a suite, or compare evaluations.")
vbench_app = typer.Typer(help="VBench: make its videos, check them, score them with the official package, add up.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog="Example:  vidar demo")
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    trust: show.Trust = None,
) -> None:
    """Autoregressive video generation and world models: record, train, generate, evaluate."""
    show_help(context)


@data_app.callback(invoke_without_command=True, epilog="Example:  vidar data validate runs/data/doom")
def show_help(context: typer.Context) -> None:
    """Inspect, validate, preview and convert data sets."""
    if context.invoked_subcommand is None:
        context.get_help()
        raise typer.Exit(2)


@eval_app.callback(invoke_without_command=True, epilog="Example:  vidar eval doom --suite world --out runs/eval")
def eval_help(
    context: typer.Context,
    setup: Annotated[
        str | None, typer.Option(metavar="vbench", help="Make the environment of vbench, and exit.", show_default=False)
    ] = None,
) -> None:
    """Evaluate a model by a suite. `vidar eval MODEL ...` is short for `vidar eval model MODEL ...`."""
    if setup is None:
        return show_help(context)
    if setup != "vbench" or context.invoked_subcommand is not None:
        raise typer.BadParameter("there is `vidar eval --setup vbench`, without a command after it")
    vbench.setup()


@vbench_app.callback(invoke_without_command=True, epilog="Example:  vidar eval vbench check runs/vbench")
def vbench_help(context: typer.Context) -> None:
    """VBench: make its videos, check them, score them with the official package, add up."""
    show_help(context)


EXAMPLES = {
    data.record: "vidar record vizdoom --episodes 100 --out runs/data/doom",
    recipes.train: "vidar train world_doom minutes=20 optim.lr=5e-4 --resume auto",
    recipes.config: "vidar config world_doom preset=tiny > tiny.yaml",
    recipes.systems: "vidar systems world_doom",
    recipes.budget: "vidar budget world_doom batch=32",
    recipes.order: "vidar order world_doom --out order.png --explain 3 1",
    world.generate: "vidar generate doom --frames 64 --seed 1 --out dream.mp4",
    play.play: "vidar play doom --port 8000",
    replay.replay: "vidar replay doom-1.dream --out dream.mp4",
    synth.synth: "vidar synth doom --jobs jobs.jsonl --out videos --workers 2",
    world.demo: "vidar demo --out runs/demo",
    machine.doctor: "vidar doctor --json",
}
DATA_EXAMPLES = {
    data.validate: "vidar data validate runs/data/doom",
    data.inspect: "vidar data inspect runs/data/doom --json",
    data.preview: "vidar data preview runs/data/doom --out first.mp4 --episode 0",
    data.clip: "vidar data clip runs/data/doom --episode 3 --start 40 --frames 8 --out start.mp4",
    convert.convert: "vidar data convert videos --out own --spec actions.yaml --fps 20",
}
EVAL_EXAMPLES = {
    evaluate.evaluate: "vidar eval model doom --suite world --out runs/eval",
    faults.faults: "vidar eval faults --out runs/faults",
    compare.compare: "vidar eval compare runs/eval/teacher runs/eval/student --out runs/compare",
    blind.blind: "vidar eval blind doom --clips 40 --seconds 1.6,3.2 --out runs/blind",
    blind.blind_score: "vidar eval blind-score runs/blind answers-anna.json answers-ben.json",
    videos.videos: "vidar eval videos runs/data/doom videos --features frozen --out runs/distance",
    reconstruction.reconstruction: "vidar eval reconstruction doom runs/data/doom --out runs/reconstruction",
    videos.features: "vidar eval features real.npy generated.npy",
    layout.export: "vidar eval export doom --layout gameworld --out runs/gameworld",
    layout.import_: "vidar eval import runs/gameworld --layout gameworld",
}
VBENCH_EXAMPLES = {
    vbench.setup: "vidar eval vbench setup",
    vbench.sample: "vidar eval vbench sample runs/infinitystar_shapes/model --out runs/vbench --first 2",
    vbench.check: "vidar eval vbench check runs/vbench",
    vbench.score: "vidar eval vbench score runs/vbench --dimension temporal_flickering",
    vbench.total: "vidar eval vbench total runs/vbench/scores/standard_eval_results.json",
}
for command, example in EXAMPLES.items():
    kind = recipes.RecipeCommand if command in recipes.TAKE_RECIPES else TyperCommand
    app.command(example.split()[1], cls=kind, epilog=f"Example:  {example}")(command)
for command, example in DATA_EXAMPLES.items():
    data_app.command(epilog=f"Example:  {example}")(command)
for command, example in EVAL_EXAMPLES.items():
    eval_app.command(example.split()[2], epilog=f"Example:  {example}")(command)
for command, example in VBENCH_EXAMPLES.items():
    vbench_app.command(example.split()[3], epilog=f"Example:  {example}")(command)
eval_app.add_typer(vbench_app, name="vbench")
app.add_typer(data_app, name="data")
app.add_typer(eval_app, name="eval")


def main() -> None:
    """Entry point. Set the thread policy before torch is imported, then run the command line."""
    if "OMP_WAIT_POLICY" not in os.environ:  # spin for about 0.1 ms, then sleep: nearly full speed on free cores, and
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # no collapse when another process occupies one of them
    typer.main.get_command(app).main(prog_name="vidar")


if __name__ == "__main__":
    main()
