"""`vidar play`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidar.commands import show

if TYPE_CHECKING:
    from vidar.conditioning.config import Told
    from vidar.model.model import VideoModel
    from vidar.play.beside import Beside
    from vidar.play.engine import PlayEngine
    from vidar.play.gallery import Clip
    from vidar.play.guard import Guard, Limits

Compiled = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the network before the game starts (takes a minute the first time, then cached on disk), or "
        "never (default: compile in the background while the game runs).",
    ),
]
Host = Annotated[
    str, typer.Option(help="Address to listen on. Any address but this machine's own requires an access token.")
]
Fps = Annotated[
    float | None, typer.Option(min=0, help="Frames per second; 0: no limit (default: the world's own rate).")
]
Starts = Annotated[
    Path | None, typer.Option(help="Folder of videos, or data set, to offer as starts besides the model's own.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Another name by which browsers reach the server; may be repeated."),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Another origin (https://NAME) of pages that may play; may be repeated."),
]
TrustProxy = Annotated[
    bool,
    typer.Option(
        "--trust-proxy",
        help="Believe X-Forwarded-Host and X-Forwarded-For; only if every request comes through your own proxy.",
    ),
]
PerAddress = Annotated[
    int | None,
    typer.Option(min=1, help="Most pages of one address, playing or waiting (default: --players plus one)."),
]


def play(
    model: show.World,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    trust_proxy: TrustProxy = False,
    fps: Fps = None,
    players: Annotated[int, typer.Option(min=1, help="Number of players at once; others wait in a queue.")] = 1,
    per_address: PerAddress = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Fixed solver steps per frame (default: the model's, or down to half if too slow)."),
    ] = None,
    starts: Starts = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show the first player the real game (ViZDoom) under the same keys.")
    ] = False,
    scenario: Annotated[str, typer.Option(help="ViZDoom scenario for --beside.")] = "my_way_home",
    codec: Annotated[Literal["jpeg", "h264"], typer.Option(help="Coding of frames; ?codec= overrides it.")] = "jpeg",
    window: Annotated[
        bool, typer.Option("--window", help="Open a window on this machine instead of serving a web page.")
    ] = False,
    no_memory: show.NoMemory = False,
    compiled: Compiled = None,
    prompt: show.Prompt = None,
    label: show.Label = None,
    device: show.Device = "cpu",
    cache: show.Cache = None,
    cache_limit: show.CacheLimit = None,
) -> None:
    """Play a learned world in the browser, or in a window, until Ctrl-C."""
    import torch

    from vidar.check import check_device
    from vidar.conditioning.config import Told
    from vidar.data.cache import keep_in
    from vidar.model.load import load
    from vidar.play.gallery import folder_clips, own_clips
    from vidar.play.guard import Guard, Limits

    guard = Guard(host, allow_host or (), allow_origin or (), trust_proxy)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream makes many small calls; the other cores encode, serve and draw
    keep_in(cache, cache_limit)
    world = load(model, check_device(device), memory=not no_memory)
    show.warn_of_few_steps(model)
    world.config.check_told(told := Told(prompt, label))
    clips = [] if world.start is None and (starts is not None or beside) else own_clips(world)
    clips += folder_clips(world, starts, show.warn) if starts is not None else []
    pace = world.config.fps if fps is None else fps
    with ExitStack() as stack:

        def engine() -> PlayEngine:
            return _table(model, world, players, pace or None, steps, compiled, stack)

        if window:
            return _in_window(engine(), clips, told)
        lobby = LobbyOptions(clips, guard, Limits(per_ip=per_address), codec, told)
        _serve(world, engine, lobby, host, port, scenario if beside else None)


def _table(
    model: str,
    world: VideoModel,
    players: int,
    fps: float | None,
    steps: int | None,
    asked: bool | None,
    stack: ExitStack,
) -> PlayEngine:
    """asked: True for --compile, False for --no-compile; None uses a cached build or compiles in the background."""
    from vidar.data.cache import cache_folder, unwritable
    from vidar.play.compiling import Compiling, kept, may_compile
    from vidar.play.engine import PlayEngine

    least = max(1, world.config.steps // 2) if steps is None and not world.config.by_scales else None
    folder = cache_folder()
    problem = "" if asked is False else unwritable(folder, 1)
    if asked and world.device.type == "cpu":
        later = "" if problem else " on the first start; later starts load the result"
        typer.echo(f"compiling: this takes about a minute{later}", err=True)
    may = asked is None and may_compile(world)
    build = kept(world, players, steps) if may else bool(asked)
    engine = PlayEngine(world, players, fps, steps, least_steps=least, compiled=build)
    if may and not build:
        then = f"cached for later in {folder}"
        if problem:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="vidar-compiled-")))
            then = f"not cached, because {problem} (--cache DIR: another folder)"
        typer.echo(f"compiling in the background: the game becomes faster in about a minute; {then}", err=True)
        stack.enter_context(Compiling(engine, model, steps, folder))
    return engine


@dataclass(frozen=True)
class LobbyOptions:
    """What a `Lobby` needs beside its engine and the real game."""

    clips: list[Clip]
    guard: Guard
    limits: Limits
    codec: str
    told: Told


def _serve(
    world: VideoModel,
    engine: Callable[[], PlayEngine],
    options: LobbyOptions,
    host: str,
    port: int,
    scenario: str | None,
) -> None:
    """Serve the page until Ctrl-C. scenario: of the real game to show beside the dream; None: show no game.

    `engine` is called last, after the port is open and the game runs.
    """
    from vidar.play.lobby import Lobby
    from vidar.play.server import address, listen, run

    clips = options.clips
    with ExitStack() as stack:
        sock = stack.enter_context(listen(host, port))
        game = None if scenario is None else _real_game(world, scenario)
        if game is not None:
            stack.callback(game.close)
            clips = clips or [game.begin(0).result().frames]
        lobby = Lobby(engine(), clips, options.guard, options.limits, game, options.codec, options.told)
        if options.codec == "h264" and lobby.h264 is None:
            typer.echo("sending JPEG: the installed FFmpeg has no libx264 for frames of this size", err=True)
        for key in lobby.engine.keys.unknown():
            typer.echo(f"no keyboard has a key named {key!r}, so its action cannot be pressed", err=True)
        url = address(host, sock, options.guard)
        show.result({}, False, [f"{world.config.name}: {url}  (Ctrl-C stops)"])
        if options.guard.token is not None and sys.stdout.isatty():
            typer.echo(_qr_code(url))
        run(lobby, sock)


def _qr_code(url: str) -> str:
    """The QR code, or the line that says what it needs: the server runs without one."""
    from vidar.play.qr import qr_code
    from vidar.types import UsageError

    try:
        return qr_code(url)
    except UsageError as error:
        return str(error)


def _real_game(world: VideoModel, scenario: str) -> Beside:
    """Start the game that a world imitates. Raises VidarError if ViZDoom is missing or the game is another one."""
    from vidar.eval.held_out import game_of, same_game
    from vidar.play.beside import Beside
    from vidar.play.real_game import RealGame

    running = game_of(world.config, scenario, frames=2).build()
    try:
        same_game(running, world.config, "--beside needs a world trained on this game")
    except BaseException:
        running.close()
        raise
    return Beside(RealGame(running), world.config.context)


def _in_window(engine: PlayEngine, clips: list[Clip], told: Told) -> None:
    from vidar.play.engine import Start
    from vidar.play.gallery import Gallery
    from vidar.play.window import Window

    with engine:
        Window(engine, Start(Gallery(clips)[0], None, 0, told)).run()
