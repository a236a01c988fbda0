"""`vidar play`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vidar.commands import show


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
    steps: Annotated[int | None, typer.Option(min=1, help="Refinement steps a frame (default: the model's).")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Play a learned world in the browser, until Ctrl-C."""
    import torch

    from vidar.check import check_device
    from vidar.play.guard import Guard
    from vidar.play.house import House
    from vidar.play.server import address, listen, run
    from vidar.play.session import Table
    from vidar.world.load import load

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream is many small calls; the other cores encode, serve and paint
    world = load(model, check_device(device))
    frames = world.context_frames(None).numpy()
    pace = world.config.fps if fps is None else fps
    table = Table(world, players, pace or None, steps)
    guard = Guard(host)
    with listen(host, port) as sock:
        house = House(table, frames, guard)
        show.result({}, False, [f"{world.config.name}: {address(host, sock, guard)}  (Ctrl-C stops)"])
        run(house, sock)
