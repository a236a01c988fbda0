"""`vidar play`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidar.commands import show

if TYPE_CHECKING:
    import numpy as np

    from vidar.conditioning.config import Told
    from vidar.model.model import VideoModel
    from vidar.play.beside import Beside
    from vidar.play.session import Table


def play(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped world, or the folder of one.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own, a token guards it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8000,
    fps: Annotated[
        float | None, typer.Option(min=0, help="Frames a second; 0: as fast as it goes (default: the world's own).")
    ] = None,
    players: Annotated[int, typer.Option(min=1, help="Seats; others wait in a queue.")] = 1,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Refinement steps of every frame (default: the model's, half where time is short)."),
    ] = None,
    starts: Annotated[
        Path | None, typer.Option(help="Folder of .mp4 files to choose a start from, beside the model's own.")
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show the real game (ViZDoom) under the same keys, to the first seat.")
    ] = False,
    scenario: Annotated[str, typer.Option(help="ViZDoom scenario of --beside.")] = "my_way_home",
    codec: Annotated[Literal["jpeg", "h264"], typer.Option(help="Pictures of the page (or ?codec=).")] = "jpeg",
    window: Annotated[
        bool, typer.Option("--window", help="In a window of this machine instead of the browser.")
    ] = False,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the frame for this CPU before the start (kept; a minute the first time), or not at all "
            "(default: beside the game).",
        ),
    ] = None,
    prompt: show.Prompt = None,
    label: show.Label = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Play a learned world in the browser, or in a window, until Ctrl-C."""
    import torch

    from vidar.check import check_device
    from vidar.conditioning.config import Told
    from vidar.model.load import load
    from vidar.play.gallery import folder_clips, own_clips

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream is many small calls; the other cores encode, serve and paint
    world = load(model, check_device(device))
    world.config.check_told(told := Told(prompt, label))
    clips = [] if world.start is None and (starts is not None or beside) else own_clips(world)
    clips += [] if starts is None else folder_clips(world, starts)
    pace = world.config.fps if fps is None else fps
    with ExitStack() as stack:

        def table() -> Table:
            return _table(model, world, players, pace or None, steps, compiled, stack)

        if window:
            return _in_window(table(), clips, told)
        _serve(world, clips, table, host, port, scenario if beside else None, codec, told)


def _table(
    model: str,
    world: VideoModel,
    players: int,
    fps: float | None,
    steps: int | None,
    asked: bool | None,
    stack: ExitStack,
) -> Table:
    """asked: --compile, --no-compile or neither: what is compiled already is used, else it is done beside the game."""
    from vidar.play.compiling import Compiling, kept, may_compile
    from vidar.play.session import Table

    least = max(1, world.config.steps // 2) if steps is None and not world.config.by_scales else None
    if asked and world.device.type == "cpu":
        typer.echo("compiled frames: the first start on a machine takes a minute, the next ones load them", err=True)
    may = asked is None and may_compile(world)
    build = kept(world, players, steps) if may else bool(asked)
    table = Table(world, players, fps, steps, least_steps=least, compiled=build)
    if may and not build:
        typer.echo("compiling the frame beside the game: it gets faster in a minute, and stays so", err=True)
        stack.enter_context(Compiling(table, model, steps))
    return table


def _serve(
    world: VideoModel,
    clips: list[np.ndarray],
    table: Callable[[], Table],
    host: str,
    port: int,
    scenario: str | None,
    codec: str,
    told: Told,
) -> None:
    """The page, until Ctrl-C. scenario: of the game beside the dream, None: no game. The table is made last."""
    from vidar.play.guard import Guard
    from vidar.play.house import House
    from vidar.play.server import address, listen, run

    guard = Guard(host)
    with ExitStack() as stack:
        sock = stack.enter_context(listen(host, port))
        game = None if scenario is None else _real_game(world, scenario)
        if game is not None:
            stack.callback(game.close)
            clips = clips or [game.begin(0).result().frames]
        house = House(table(), clips, guard, beside=game, codec=codec, told=told)
        if codec == "h264" and house.h264 is None:
            typer.echo("no H.264: the installed FFmpeg has no libx264 for this world's frames; JPEG instead", err=True)
        show.result({}, False, [f"{world.config.name}: {address(host, sock, guard)}  (Ctrl-C stops)"])
        run(house, sock)


def _real_game(world: VideoModel, scenario: str) -> Beside:
    """The running game of a world. Raises VidarError where ViZDoom is missing, or the game is not the world's."""
    from vidar.eval.held_out import game_of, same_game
    from vidar.play.beside import Beside
    from vidar.play.real_game import RealGame

    running = game_of(world.config, scenario, frames=2).build()
    try:
        same_game(running, world.config, "--beside needs a world of this game")
    except BaseException:
        running.close()
        raise
    return Beside(RealGame(running), world.config.context)


def _in_window(table: Table, clips: list[np.ndarray], told: Told) -> None:
    from vidar.play.session import Start
    from vidar.play.window import Window

    with table:
        Window(table, Start(clips[0], None, 0, told)).run()
