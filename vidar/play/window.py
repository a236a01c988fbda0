"""A learned world in a window of this machine (pygame): engine and keys as in the browser, without a server."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from vidar.play.engine import PlayEngine, PlayerSlot, ShownFrame, Start
from vidar.play.keys import Keys
from vidar.types import VidarError

HELP = "Backspace: again, Enter: new seed, P: pause, N: one frame, Esc: leave"
WAIT = 0.02  # seconds to wait for a frame before keys are looked at again
NAMED = {
    "ArrowLeft": "LEFT",
    "ArrowRight": "RIGHT",
    "ArrowUp": "UP",
    "ArrowDown": "DOWN",
    "Space": "SPACE",
    "ShiftLeft": "LSHIFT",
    "ControlLeft": "LCTRL",
    "Tab": "TAB",
}


def import_pygame() -> Any:
    """pygame, or a VidarError that says how to get it."""
    try:
        import pygame
    except ImportError:
        raise VidarError("a window needs pygame: pip install 'vidar-world[window]'") from None
    return pygame


def scancodes(pygame: Any, keys: Keys) -> dict[int, int]:
    """By physical key (SDL scancode), its bit among `keys.codes`; keys that a keyboard of SDL has not are left out."""
    found: dict[int, int] = {}
    for bit, code in enumerate(keys.codes):
        name = NAMED.get(code, code.removeprefix("Key").removeprefix("Digit"))
        scancode = getattr(pygame, f"KSCAN_{name}", None)
        if scancode is not None:
            found[scancode] = bit
    return found


class Window:
    """One player of an engine in a window. scale: screen pixels per pixel. VidarError without pygame or screen."""

    def __init__(self, engine: PlayEngine, start: Start, scale: int = 8) -> None:
        self.pygame = import_pygame()
        self.engine, self.scale = engine, scale
        self.slot: PlayerSlot = engine.sit(start)
        self.start = start
        config = engine.world.config
        self.bits = scancodes(self.pygame, engine.keys)
        self.held: set[int] = set()
        self.paused = self.over = False
        self.painted = 0
        self.pygame.display.init()
        try:
            self.screen = self.pygame.display.set_mode((config.width * scale, config.height * scale))
        except self.pygame.error as error:
            raise VidarError(f"no window can be opened here ({error}); play in the browser: vidar play") from None
        self.pygame.display.set_caption(f"{config.name} - {HELP}")

    def run(self, seconds: float | None = None) -> None:
        """Play until the window is closed, or for so long."""
        end = None if seconds is None else time.monotonic() + seconds
        after = None
        try:
            while not self.over and (end is None or time.monotonic() < end):
                for event in self.pygame.event.get():
                    self.take(event)
                shown = self.slot.newest(after, WAIT)
                if shown is not None:
                    after = shown.number
                    self.paint(shown)
        finally:
            self.slot.leave()
            self.pygame.display.quit()

    def take(self, event: Any) -> None:
        """One event: a key, lost focus, or the closing of the window."""
        pygame = self.pygame
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
            self.over = True
        elif event.type == pygame.WINDOWFOCUSLOST:
            self.held.clear()
        elif event.type == pygame.KEYDOWN and event.scancode in self.bits:
            self.held.add(self.bits[event.scancode])
        elif event.type == pygame.KEYUP and event.scancode in self.bits:
            self.held.discard(self.bits[event.scancode])
        elif event.type == pygame.KEYDOWN:
            self.command(event.key)
            return
        else:
            return
        self.slot.hold(sum(1 << bit for bit in self.held))

    def command(self, key: int) -> None:
        """What the keys that play nothing do, see HELP."""
        pygame = self.pygame
        if key == pygame.K_p:
            self.paused = not self.paused
            self.slot.pause(self.paused)
        elif key == pygame.K_n:
            self.slot.step()
        elif key in (pygame.K_BACKSPACE, pygame.K_RETURN):
            seed = self.start.seed + (key == pygame.K_RETURN)
            self.start = replace(self.start, seed=seed)
            self.slot.reset(self.start)

    def paint(self, shown: ShownFrame) -> None:
        """A frame on the screen; the title names rate, time and seed twice a second or so."""
        picture = self.pygame.surfarray.make_surface(np.ascontiguousarray(shown.frame.swapaxes(0, 1)))
        self.pygame.transform.scale(picture, self.screen.get_size(), self.screen)
        self.pygame.display.flip()
        self.painted += 1
        if self.painted % 10 == 0:
            with self.engine.wake:
                told = self.engine.meter.figures()
            rate, each = told["fps"], told.get("model_ms_p50", 0.0)
            title = f"{self.engine.world.config.name}  {rate:.1f} frames/s  {each:.0f} ms  seed {self.start.seed}"
            self.pygame.display.set_caption(f"{title}  -  {HELP}")
