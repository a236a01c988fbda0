"""The window, with SDL's own dummy screen: real events, real frames."""

import sys

import numpy as np
import pytest

from vidar.play.engine import PlayEngine, Start
from vidar.play.window import Window
from vidar.types import VidarError


@pytest.fixture
def pygame(monkeypatch):
    module = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return module


def window(engine, first_frames):
    return Window(engine, Start(first_frames, None, 3), scale=2)


def test_keys_reach_the_dream_and_frames_the_screen(tiny, first_frames, pygame):
    with PlayEngine(tiny, 1) as engine:
        made = window(engine, first_frames)
        codes = engine.keys.codes
        event = pygame.event.Event
        for name, scancode in (("ArrowLeft", pygame.KSCAN_LEFT), ("KeyW", pygame.KSCAN_W)):
            made.take(event(pygame.KEYDOWN, key=0, scancode=scancode))
            row = made.slot.inputs.row()
            assert np.array_equal(row, engine.keys.row(1 << codes.index(name)))
            made.take(event(pygame.KEYUP, key=0, scancode=scancode))
            assert not made.slot.inputs.row().any()
        made.take(event(pygame.KEYDOWN, key=0, scancode=pygame.KSCAN_LEFT))
        made.take(event(pygame.WINDOWFOCUSLOST))
        assert not made.slot.inputs.row().any()
        shown = made.slot.newest(None, timeout=20)
        made.paint(shown)
        pixels = pygame.surfarray.array3d(made.screen).swapaxes(0, 1)
        assert pixels.shape == (128, 160, 3) and np.array_equal(pixels[::2, ::2], shown.frame)
        made.take(event(pygame.KEYDOWN, key=pygame.K_RETURN, scancode=pygame.KSCAN_RETURN))
        assert made.slot.log.start.seed == 4
        made.take(event(pygame.KEYDOWN, key=pygame.K_p, scancode=pygame.KSCAN_P))
        assert made.slot.paused
        made.take(event(pygame.KEYDOWN, key=pygame.K_p, scancode=pygame.KSCAN_P))
        pygame.event.post(event(pygame.KEYDOWN, key=pygame.K_ESCAPE, scancode=pygame.KSCAN_ESCAPE))
        made.run(20)
        assert made.over and not engine.slots


def test_it_plays_until_its_time_is_up(tiny, first_frames, pygame):
    with PlayEngine(tiny, 1) as engine:
        made = window(engine, first_frames)
        made.run(1.0)
        assert made.painted >= 3 and not engine.slots


def test_without_pygame_one_line_says_what_to_install(tiny, first_frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(VidarError, match=r"pip install 'vidar-world\[window\]'"):
        window(PlayEngine(tiny, 1), first_frames)
