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
WAIT = 0.02  # seconds to wait for a frame before events are read again
MODIFIERS = (("Shift", "SHIFT"), ("Control", "CTRL"), ("Alt", "ALT"), ("Meta", "META"))
NAMED = {
    "ArrowLeft": "LEFT",
    "ArrowRight": "RIGHT",
    "ArrowUp": "UP",
    "ArrowDown": "DOWN",
    "Space": "SPACE",
    "Tab": "TAB",
    "Enter": "RETURN",
    "Backspace": "BACKSPACE",
    "Minus": "MINUS",
    "Equal": "EQUALS",
    "BracketLeft": "LEFTBRACKET",
    "BracketRight": "RIGHTBRACKET",
    "Backslash": "BACKSLASH",
    "Semicolon": "SEMICOLON",
    "Quote": "APOSTROPHE",
    "Backquote": "GRAVE",
    "Comma": "COMMA",
    "Period": "PERIOD",
    "Slash": "SLASH",
    **{f"{name}{side}": f"{side[0]}{short}" for name, short in MODIFIERS for side in ("Left", "Right")},
}
BUTTONS = {1: "MouseLeft", 2: "MouseMiddle", 3: "MouseRight", 6: "MouseBack", 7: "MouseForward"}


def import_pygame() -> Any:
    """pygame, or a VidarError that says how to get it."""
    try:
        import pygame
    except ImportError:
        raise VidarError("a window needs pygame: pip install 'vidar-world[window]'") from None
    return pygame


def scancodes(pygame: Any, keys: Keys) -> dict[int, int]:
    """The bit of each key among `keys.codes`, by its position (SDL scancode); keys that SDL does not know are left out.

    A modifier on the right counts as the left one unless it is a key by itself.
    """
    found: dict[int, int] = {}
    for bit, code in enumerate(keys.codes):
        name = NAMED.get(code, code.removeprefix("Key").removeprefix("Digit"))
        scancode = getattr(pygame, f"KSCAN_{name}", None)
        if scancode is not None:
            found[scancode] = bit
        for modifier, short in MODIFIERS:
            if code == f"{modifier}Left" and f"{modifier}Right" not in keys.codes:
                found[getattr(pygame, f"KSCAN_R{short}")] = bit
    return found


class Window:
    """One player of an engine in a window. scale: screen pixels per pixel. VidarError without pygame or screen.

    If the world has columns that the mouse moves, a click gives the mouse to the window, and Esc takes it back.
    """

    def __init__(self, engine: PlayEngine, start: Start, scale: int = 8) -> None:
        self.pygame = import_pygame()
        self.engine, self.scale = engine, scale
        self.slot: PlayerSlot = engine.sit(start)
        self.start = start
        config = engine.world.config
        self.bits = scancodes(self.pygame, engine.keys)
        codes = engine.keys.codes
        self.buttons = {button: codes.index(code) for button, code in BUTTONS.items() if code in codes}
        self.looks = any(action.kind in ("camera", "continuous") for action in config.spec.actions)
        self.grabbed = False
        self.held: set[int] = set()
        self.paused = self.over = False
        self.painted = 0
        self.pygame.display.init()
        try:
            if self.pygame.display.get_driver() == "offscreen":  # SDL takes it, unseen, where it finds no screen
                raise self.pygame.error("there is no screen")
            self.screen = self.pygame.display.set_mode((config.width * scale, config.height * scale))
        except self.pygame.error as error:
            raise VidarError(f"no window can be opened here ({error}); play in the browser: vidar play") from None
        self.pygame.display.set_caption(f"{config.name} - {HELP}")

    def run(self, seconds: float | None = None) -> None:
        """Play until the window is closed, or for so many seconds."""
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
        """Handle one event: a key, the mouse, lost focus, or the closing of the window."""
        pygame, motion = self.pygame, (0, 0)
        if event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE and self.grabbed:
            self.grab(False)
        elif event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
            self.over = True
        elif event.type == pygame.WINDOWFOCUSLOST:
            self.grab(False)
        elif event.type == pygame.MOUSEBUTTONDOWN and self.looks and not self.grabbed:
            self.grab(True)
        elif event.type == pygame.MOUSEMOTION and self.grabbed and not self.paused:
            motion = event.rel
        elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP) and event.button in self.buttons:
            self.hold(self.buttons[event.button], event.type == pygame.MOUSEBUTTONDOWN)
        elif event.type in (pygame.KEYDOWN, pygame.KEYUP) and event.scancode in self.bits:
            self.hold(self.bits[event.scancode], event.type == pygame.KEYDOWN)
        elif event.type == pygame.KEYDOWN:
            return self.command(event.key)
        else:
            return
        self.slot.hold(sum(1 << bit for bit in self.held), *motion)

    def hold(self, bit: int, down: bool) -> None:
        """Press or release one key."""
        (self.held.add if down else self.held.discard)(bit)

    def grab(self, on: bool) -> None:
        """Give the mouse to the window, or take it back; all keys are released then."""
        self.grabbed = on
        self.held.clear()
        self.pygame.event.set_grab(on)
        self.pygame.mouse.set_visible(not on)

    def command(self, key: int) -> None:
        """Handle a key that is no key of the world, see HELP."""
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
        """Draw a frame; every ten frames the title is given rate, model time and seed."""
        picture = self.pygame.surfarray.make_surface(np.ascontiguousarray(shown.frame.swapaxes(0, 1)))
        self.pygame.transform.scale(picture, self.screen.get_size(), self.screen)
        self.pygame.display.flip()
        self.painted += 1
        if self.painted % 10 == 0:
            with self.engine.wake:
                figures = self.engine.meter.figures()
            rate, each = figures["fps"], figures.get("model_ms_p50", 0.0)
            title = f"{self.engine.world.config.name}  {rate:.1f} frames/s  {each:.0f} ms  seed {self.start.seed}"
            self.pygame.display.set_caption(f"{title}  -  {HELP}")
